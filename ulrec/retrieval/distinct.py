"""Nearest items that are not near-duplicates of one another, and queries with likes and dislikes.

Two items count as one where they are as close as hardly any two of the catalogue. How close that is
differs from place to place, so that distances are taken relative to an item's own neighbourhood, as
copies are told in :mod:`ulrec.evaluation.copying`:

    ratio(a, b) = |a - b| / mean |b - NN_1(b)|, ..., |b - NN_50(b)|.

a and b are near-duplicates where it lies below tau, a small quantile of ratio(NN_1(b), b) over the
catalogue's items b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError
from ulrec.retrieval.index import ItemIndex, Neighbours
from ulrec.retrieval.metric import METRICS, Array, Rows

__all__ = ["Duplicates", "rocchio", "search_distinct"]

NEIGHBOURHOOD = 50
SAMPLE = 2000
# Ratios below are those of equal items: d^2 = 2 - 2 cos cancels, so that none comes out at zero.
EQUAL = 1e-3
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """When two items of an index count as one: :meth:`of` measures it.

    Attributes
    ----------
    index
        The catalogue.
    tau
        The ratio below which they do.
    """

    index: ItemIndex
    tau: float

    @classmethod
    def of(cls, index: ItemIndex, *, quantile: float = 0.01) -> Self:
        """Measure tau on the catalogue, or on 2,000 of its items.

        Parameters
        ----------
        index
            At least three items.
        quantile
            The value below which no more than this share of the items' ratios lies.

        Raises
        ------
        DataError
            If the quantile is not between 0 and 1, or there are too few items.
        """
        if not 0 < quantile < 1:
            raise DataError(f"the quantile has to lie between 0 and 1, got {quantile}")
        if len(index) < 3:
            raise DataError(f"near-duplicates need 3 items to be told by, got {len(index)}")
        rows = np.random.default_rng(0).permutation(len(index))[:SAMPLE]
        distances = _to_neighbours(index, rows)
        ratios = distances[:, 0] / np.maximum(distances.mean(axis=1), TINY)
        return cls(index=index, tau=float(np.quantile(ratios, quantile, method="lower")))

    def keep(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which rows, the best first, are no near-duplicate of one kept before, (n,)."""
        vectors = self.index.vectors[rows].astype(np.float64)
        scale = _to_neighbours(self.index, rows).mean(axis=1)
        reach = np.maximum(max(self.tau, EQUAL) * scale, TINY)
        keep = np.ones(len(rows), bool)
        for row in range(1, len(rows)):
            before = vectors[:row][keep[:row]]
            keep[row] = np.linalg.norm(before - vectors[row], axis=1).min() >= reach[row]
        return keep


def search_distinct(
    duplicates: Duplicates,
    queries: Array,
    *,
    k: int,
    exclude: Sequence[Rows] | None = None,
    among: NDArray[np.int64] | NDArray[np.bool_] | None = None,
) -> Neighbours:
    """Find the k nearest items of each query of which no two are near-duplicates.

    Of a group the nearest stays. It looks further until there are k, or no more items: the result
    is that of thinning out the ranking of the whole catalogue.

    Parameters
    ----------
    duplicates
        What counts as one, and the index.
    queries, k, exclude, among
        As of :meth:`ulrec.retrieval.index.ItemIndex.search`, with its errors.
    """
    index = duplicates.index
    item_idx = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    open_rows, width = np.arange(len(queries)), 2 * k
    while len(open_rows):
        some = None if exclude is None else [exclude[row] for row in open_rows.tolist()]
        found = index.search(
            queries[open_rows], k=min(width, len(index)), exclude=some, among=among
        )
        again = []
        for row, rows, scored in zip(open_rows.tolist(), found.item_idx, found.scores, strict=True):
            there = rows[rows >= 0]
            first = np.flatnonzero(duplicates.keep(there))[:k]
            item_idx[row, : len(first)], scores[row, : len(first)] = there[first], scored[first]
            if len(first) < k and len(there) == len(rows) < len(index):
                again.append(row)
        open_rows, width = np.array(again, np.int64), 4 * width
    return Neighbours(item_idx=item_idx, scores=scores)


def rocchio(likes: Array, dislikes: Array, *, weight: float = 0.5) -> Array:
    """Return the query (1, Q) of likes and dislikes: mean(likes) - weight mean(dislikes).

    That is Rocchio's (1971) without an original query; vectors of length 1 make each count alike.

    Parameters
    ----------
    likes
        Search vectors (P, Q), at least one.
    dislikes
        (N, Q); none leave the mean of the likes.
    weight
        What dislikes count against likes; as in guidance, half by default.

    Raises
    ------
    DataError
        If nothing is liked, or the dimensions differ.

    Examples
    --------
    >>> rocchio(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0]])).tolist()
    [[0.5, 0.0]]
    """
    if likes.ndim != 2 or dislikes.ndim != 2 or likes.shape[1] != dislikes.shape[1]:
        raise DataError(
            f"likes and dislikes have to be (n, Q), got {likes.shape} and {dislikes.shape}"
        )
    if len(likes) == 0:
        raise DataError("a query needs something liked; name an item or a latent")
    query = likes.mean(axis=0, keepdims=True)
    if len(dislikes):
        query = query - weight * dislikes.mean(axis=0, keepdims=True)
    return np.asarray(query, np.float32)


def _to_neighbours(index: ItemIndex, rows: Rows) -> NDArray[np.float64]:
    """Return the distances of items to their nearest others, nearest first, (n, 50) or fewer."""
    k = min(NEIGHBOURHOOD, len(index) - 1)
    found = index.search(index.vectors[rows], k=k, exclude=[np.array([row]) for row in rows])
    return METRICS[index.metric].distance(found.scores).astype(np.float64)
