"""Nearest items of a catalogue: FAISS behind one class, exact and the same in every batch.

faiss is imported at first use. Where torch is used in the same process, import torch before that
(two OpenMP runtimes otherwise); nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ulrec.checkpoint import load_component, new_artefact, open_artefact, require_same
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

__all__ = ["METRICS", "ItemIndex", "Metric", "Neighbours"]

KIND = "index"
QUERIES_AT_ONCE = 256
# Candidates beyond k that are scored again, so that float32 noise at the edge decides nothing.
MARGIN = 8
# Of the candidates scored again at a time: 16 MiB of float32.
NUMBERS_AT_ONCE = 2**22

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
Metric = Literal["cosine", "l2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The nearest items of B queries, the nearest first.

    Attributes
    ----------
    item_idx
        Rows of the index, int64 (B, k); -1 where fewer than k items were left.
    scores
        Float32 (B, k), the higher the nearer: the cosine, or minus the Euclidean distance; -inf
        where ``item_idx`` is -1.
    """

    item_idx: Rows
    scores: Array


class ItemIndex:
    """All items of a catalogue by their vectors; :meth:`build` or :meth:`load` makes one.

    Attributes
    ----------
    vectors
        Float32 (I, Q), of length 1 for the cosine.
    items
        Map of the rows.
    metric
        "cosine" or "l2".
    made_from
        Fingerprints of what the vectors come from ("latents", "projection").
    """

    def __init__(
        self, vectors: Array, items: IdMap, *, metric: Metric, made_from: Mapping[str, str]
    ) -> None:
        import faiss

        self.vectors = vectors
        self.items = items
        self.metric: Metric = metric
        self.made_from = dict(made_from)
        self._flat = faiss.IndexFlat(vectors.shape[1], getattr(faiss, METRICS[metric].faiss_name))
        self._flat.add(vectors)
        # Equal scores are ordered by this key and not by row, which often follows age.
        self._key = np.random.default_rng(0).permutation(len(items))
        self._longest = float(np.linalg.norm(vectors, axis=1).max())

    @classmethod
    def build(
        cls,
        vectors: Array,
        items: IdMap,
        *,
        metric: Metric,
        made_from: Mapping[str, str],
    ) -> Self:
        """Index a catalogue.

        Parameters
        ----------
        vectors
            Float (I, Q), in the order of ``items``.
        items
            Their ids.
        metric
            "cosine" (vectors are scaled to length 1) or "l2".
        made_from
            Fingerprints of what the vectors come from: at least that of the latents, "latents".

        Raises
        ------
        DataError
            If there is no item, the map has another length, a vector is not finite, or one is zero
            where the cosine is asked for.
        """
        if metric not in METRICS:
            raise DataError(f"metric has to be one of {', '.join(METRICS)}, got {metric!r}")
        if vectors.ndim != 2 or 0 in vectors.shape or len(vectors) != len(items):
            raise DataError(
                f"vectors have to be ({len(items)}, Q), a row for each item, got {vectors.shape}"
            )
        prepared = METRICS[metric].prepare(_finite(vectors, "vectors"), "vectors")
        return cls(prepared, items, metric=metric, made_from=made_from)

    def __len__(self) -> int:
        return len(self.items)

    def search(
        self, queries: Array, *, k: int, exclude: Sequence[Rows] | None = None
    ) -> Neighbours:
        """Find the k nearest items of each query, exactly.

        Parameters
        ----------
        queries
            Float (B, Q).
        k
            How many; where fewer items are left, the rest is -1.
        exclude
            For each query the rows that must not come back (seen items), in any order.

        Returns
        -------
        Neighbours
            The result of a query does not depend on the others in its batch; equal scores come in
            a fixed random order.

        Raises
        ------
        DataError
            If ``k`` is below 1, the queries have another dimension, are not finite, or are zero
            where the cosine is asked for, or ``exclude`` does not name rows for each of them.
        """
        if k < 1:
            raise DataError(f"k has to be at least 1, got {k}")
        size = self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != size:
            raise DataError(
                f"queries have to be (B, {size}) as the index, got {queries.shape}; project them "
                "as the catalogue was"
            )
        prepared = METRICS[self.metric].prepare(_finite(queries, "queries"), "queries")
        excluded = self._checked(exclude, len(queries))
        item_idx = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            rows = np.arange(start, min(start + QUERIES_AT_ONCE, len(queries)))
            width = min(k, len(self))
            item_idx[rows, :width], scores[rows, :width] = self._search_block(
                prepared[rows], width, [excluded[row] for row in rows]
            )
        return Neighbours(item_idx=item_idx, scores=scores)

    def save(self, folder: str | Path) -> str:
        """Write the vectors, not faiss' own format, as one artefact; returns its fingerprint.

        Reading a damaged or hostile faiss file can corrupt memory; vectors are only numbers.
        """
        with new_artefact(folder, kind=KIND, made_from=self.made_from) as temporary:
            config = {"index": "flat", "metric": self.metric}
            (temporary / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
            save_file({"vectors": self.vectors}, temporary / "model.safetensors")
            self.items.save(temporary / "items.parquet")
        return open_artefact(folder, kind=KIND, verify=False).fingerprint

    @classmethod
    def load(cls, folder: str | Path, *, made_from: Mapping[str, str] | None = None) -> Self:
        """Read what :meth:`save` wrote and build the index anew.

        Parameters
        ----------
        folder
            Where it lies.
        made_from
            What it has to have been made from: each fingerprint given here has to agree.

        Raises
        ------
        ArtefactError
            If it is missing, damaged, something else, or made from other latents.
        """
        component = load_component(folder, kind=KIND)
        known = component.manifest.made_from
        for name, fingerprint in (made_from or {}).items():
            require_same(
                f"{name} of the index at {folder}",
                expected=fingerprint,
                got=known.get(name),
                remedy="build the index again from these",
            )
        return cls(
            component.tensors["vectors"],
            IdMap.load(Path(folder) / "items.parquet"),
            metric=component.config["metric"],
            made_from=known,
        )

    def _checked(self, exclude: Sequence[Rows] | None, num_queries: int) -> list[Rows]:
        if exclude is None:
            return [np.empty(0, np.int64)] * num_queries
        if len(exclude) != num_queries:
            raise DataError(f"exclude has {len(exclude)} entries for {num_queries} queries")
        unique = [np.unique(np.asarray(rows, np.int64)) for rows in exclude]
        if any(len(rows) and (rows[0] < 0 or rows[-1] >= len(self)) for rows in unique):
            raise DataError(f"exclude has to hold rows 0 to {len(self) - 1} of the index")
        return unique

    def _search_block(self, queries: Array, k: int, excluded: list[Rows]) -> tuple[Rows, Array]:
        """Return rows and scores (B, k), looking further where the last places are in doubt."""
        item_idx = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        open_rows, margin = np.arange(len(queries)), MARGIN
        while len(open_rows):
            some = [excluded[row] for row in open_rows]
            found = self._candidates(queries[open_rows], k + margin, some)
            item_idx[open_rows], scores[open_rows] = found.item_idx[:, :k], found.scores[:, :k]
            in_doubt = found.scores[:, k - 1] <= found.others_at_most
            open_rows = open_rows[in_doubt & (found.others_at_most > -np.inf)]
            margin *= 8
        return item_idx, scores

    def _candidates(self, queries: Array, width: int, excluded: list[Rows]) -> _Candidates:
        """Return faiss' best ``width`` items that are not excluded, scored again and ordered."""
        metric = METRICS[self.metric]
        width = min(width, len(self))
        depth = min(len(self), width + max(map(len, excluded)))
        approximate, found = self._flat.search(queries, depth)
        keep = _kept(found, excluded)
        front = np.argsort(~keep, axis=1, kind="stable")[:, :width]  # the kept, in faiss' order
        last = np.where(keep.sum(1) > width, front[:, -1], depth - 1)
        edge = np.take_along_axis(approximate, last[:, None], 1)[:, 0]
        others_at_most = metric.at_most(edge, queries, self._longest)
        if depth == len(self):  # nothing was left out but by the width
            others_at_most[keep.sum(1) <= width] = -np.inf
        found, keep = np.take_along_axis(found, front, 1), np.take_along_axis(keep, front, 1)
        scores = np.where(keep, _score(metric, queries, self.vectors, found), -np.inf)
        order = np.lexsort((self._key[found], -scores), axis=1)
        return _Candidates(
            item_idx=np.take_along_axis(np.where(keep, found, -1), order, 1),
            scores=np.take_along_axis(scores, order, 1),
            others_at_most=others_at_most,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidates:
    """Candidates (B, W), the nearest first, and a bound (B,) on the score of all other items."""

    item_idx: Rows
    scores: Array
    others_at_most: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class _Metric:
    """How vectors are made ready, scored exactly, and what faiss' number bounds.

    ``at_most`` turns faiss' number of the last candidate into a bound on the exact score of every
    item behind it, given the queries and the longest vector: faiss rounds in float32.
    """

    faiss_name: str
    prepare: Callable[[Array, str], Array]
    score: Callable[[Array, Array], Array]
    at_most: Callable[[Array, Array, float], Array]


def _score(metric: _Metric, queries: Array, vectors: Array, found: Rows) -> Array:
    """Score items (B, W) for queries (B, Q) in pieces; a sum depends on its two vectors alone."""
    scores = np.empty(found.shape, np.float32)
    size = max(1, NUMBERS_AT_ONCE // (found.shape[1] * vectors.shape[1]))
    for start in range(0, len(queries), size):
        rows = slice(start, start + size)
        scores[rows] = metric.score(queries[rows, None], vectors[found[rows]])
    return scores


def _kept(found: Rows, excluded: list[Rows]) -> NDArray[np.bool_]:
    keep = np.ones(found.shape, bool)
    for row, rows in enumerate(excluded):
        if len(rows):
            keep[row] = ~np.isin(found[row], rows, assume_unique=True)
    return keep


def _finite(vectors: Array, what: str) -> Array:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        rows = ", ".join(map(str, bad[:3]))
        raise DataError(f"{len(bad)} {what} hold NaN or infinity, such as rows {rows}; drop them")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _unit(vectors: Array, what: str) -> Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    zero = np.flatnonzero(length == 0)
    if len(zero):
        rows = ", ".join(map(str, zero[:3]))
        raise DataError(
            f"{len(zero)} {what} are zero, such as rows {rows}: they have no direction; use the "
            "metric l2 or drop them"
        )
    return np.asarray(vectors / length, np.float32)


def _as_they_are(vectors: Array, what: str) -> Array:
    del what  # every finite vector has a place
    return vectors


def _product(queries: Array, vectors: Array) -> Array:
    return np.asarray((queries * vectors).sum(-1), np.float32)


def _minus_distance(queries: Array, vectors: Array) -> Array:
    return np.asarray(-np.sqrt(((queries - vectors) ** 2).sum(-1)), np.float32)


def _product_at_most(edge: Array, queries: Array, longest: float) -> Array:
    return np.asarray(edge + _rounding(queries) * longest, np.float32)


def _minus_distance_at_most(edge: Array, queries: Array, longest: float) -> Array:
    """Bound from squared distances, which faiss takes as |q|^2 + |v|^2 - 2 q.v in large batches."""
    scale = (np.linalg.norm(queries, axis=1) + longest) ** 2
    squared = np.maximum(edge - _rounding(queries) * scale, 0.0)
    return np.asarray(-np.sqrt(squared), np.float32)


def _rounding(queries: Array) -> float:
    """Return a generous float32 rounding error of a sum of Q products of numbers up to 1."""
    return float(4 * np.finfo(np.float32).eps * np.sqrt(queries.shape[1]))


METRICS: dict[str, _Metric] = {
    "cosine": _Metric(
        faiss_name="METRIC_INNER_PRODUCT",
        prepare=_unit,
        score=_product,
        at_most=_product_at_most,
    ),
    "l2": _Metric(
        faiss_name="METRIC_L2",
        prepare=_as_they_are,
        score=_minus_distance,
        at_most=_minus_distance_at_most,
    ),
}
