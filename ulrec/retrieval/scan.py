"""Exact search: faiss proposes, float32 noise at the edge is bounded, and what is found is scored.

Results are the same in every batch, for every k, with any items excluded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError
from ulrec.retrieval.metric import METRICS, Array, Metric, Rows, faiss, score

__all__ = ["Allowed", "Scan", "kept"]

# Candidates beyond k that are scored again, so that float32 noise at the edge decides nothing.
MARGIN = 8
# More than so many neighbours faiss does not find on a GPU.
GPU_DEPTH = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """The items of which alone some may come back, as faiss takes them."""

    count: int
    parameters: Any
    _parts: tuple[Any, ...] = field(repr=False)  # faiss points into these

    @classmethod
    def of(cls, among: NDArray[Any], num_items: int) -> Self:
        """Take rows, or a mask (I,).

        Raises
        ------
        DataError
            If they are neither.
        """
        among = np.asarray(among)
        if among.dtype == np.bool_:
            if among.shape != (num_items,):
                raise DataError(f"a mask has to be ({num_items},), got {among.shape}")
            mask = among
        else:
            rows = among.astype(np.int64)
            if rows.ndim != 1 or (len(rows) and (rows.min() < 0 or rows.max() >= num_items)):
                raise DataError(f"among has to hold rows 0 to {num_items - 1} of the index")
            mask = np.zeros(num_items, bool)
            mask[rows] = True
        bits = np.packbits(mask, bitorder="little")
        selector = faiss().IDSelectorBitmap(bits)
        return cls(
            count=int(mask.sum()),
            parameters=faiss().SearchParameters(sel=selector),
            _parts=(bits, selector),
        )


class Scan:
    """Looks at every item.

    Parameters
    ----------
    vectors
        Prepared for the metric, float32 (I, Q).
    flat
        faiss' exact index of them.
    metric
        "cosine" or "l2".
    """

    def __init__(self, vectors: Array, flat: Any, metric: Metric) -> None:
        self.vectors = vectors
        self.flat = flat
        self.gpu: Any = None
        self.metric = METRICS[metric]
        # Equal scores are ordered by this key and not by row, which often follows age.
        self._key = np.random.default_rng(0).permutation(len(vectors))
        self._longest = float(np.linalg.norm(vectors, axis=1).max())

    def nearest(
        self, queries: Array, k: int, excluded: list[Rows], allowed: Allowed | None = None
    ) -> tuple[Rows, Array]:
        """Return rows and scores (B, k), looking further where the last places are in doubt."""
        item_idx = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        open_rows, margin = np.arange(len(queries)), MARGIN
        while len(open_rows):
            some = [excluded[row] for row in open_rows]
            found = self._candidates(queries[open_rows], k + margin, some, allowed)
            item_idx[open_rows], scores[open_rows] = found.item_idx[:, :k], found.scores[:, :k]
            in_doubt = found.scores[:, k - 1] <= found.others_at_most
            open_rows = open_rows[in_doubt & (found.others_at_most > -np.inf)]
            margin *= 8
        return item_idx, scores

    def ranked(self, queries: Array, found: Rows, keep: NDArray[np.bool_]) -> tuple[Rows, Array]:
        """Score found rows (B, W) and order them, those not kept last as -1 and -inf."""
        scores = np.where(keep, score(self.metric, queries, self.vectors, found), -np.inf)
        order = np.lexsort((self._key[found], -scores), axis=1)
        place = np.arange(len(found))[:, None], order
        return np.where(keep, found, -1)[place], scores[place]

    def _candidates(
        self, queries: Array, width: int, excluded: list[Rows], allowed: Allowed | None
    ) -> _Candidates:
        """Return faiss' best ``width`` items that are not excluded, scored again and ordered."""
        count = len(self.vectors) if allowed is None else allowed.count
        width = min(width, count)
        depth = min(count, width + max(map(len, excluded)))
        approximate, found = self._search(queries, depth, allowed)
        keep = kept(found, excluded)
        front = np.argsort(~keep, axis=1, kind="stable")[:, :width]  # the kept, in faiss' order
        last = np.where(keep.sum(1) > width, front[:, -1], depth - 1)
        edge = np.take_along_axis(approximate, last[:, None], 1)[:, 0]
        others_at_most = self.metric.at_most(edge, queries, self._longest)
        if depth == count:  # nothing was left out but by the width
            others_at_most[keep.sum(1) <= width] = -np.inf
        found, keep = np.take_along_axis(found, front, 1), np.take_along_axis(keep, front, 1)
        item_idx, scores = self.ranked(queries, found, keep)
        return _Candidates(item_idx=item_idx, scores=scores, others_at_most=others_at_most)

    def _search(self, queries: Array, depth: int, allowed: Allowed | None) -> tuple[Array, Rows]:
        if self.gpu is not None and allowed is None and depth <= GPU_DEPTH:
            scores, rows = self.gpu.search(queries, depth)
        elif allowed is None:
            scores, rows = self.flat.search(queries, depth)
        else:
            scores, rows = self.flat.search(queries, depth, params=allowed.parameters)
        return scores, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidates:
    """Candidates (B, W), the nearest first, and a bound (B,) on the score of all other items."""

    item_idx: Rows
    scores: Array
    others_at_most: Array


def kept(found: Rows, excluded: list[Rows]) -> NDArray[np.bool_]:
    """Return which of the found rows (B, W) are there, not -1, and not excluded."""
    keep = found >= 0
    for row, rows in enumerate(excluded):
        if len(rows):
            keep[row] &= ~np.isin(found[row], rows)
    return keep
