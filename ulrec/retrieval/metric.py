"""Cosine and Euclidean distance: how vectors are made ready, scored, and what faiss bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError

__all__ = ["METRICS", "Metric", "MetricRules", "faiss", "finite", "score"]

# Of the candidates scored again at a time: 1 MiB of float32 stays in the cache.
NUMBERS_AT_ONCE = 2**18

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
Metric = Literal["cosine", "l2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRules:
    """How vectors are made ready, scored exactly, and what faiss' number bounds.

    ``at_most`` turns faiss' number of the last candidate into a bound on the exact score of every
    item behind it, given the queries and the longest vector: faiss rounds in float32.
    ``distance`` turns scores into Euclidean distances between prepared vectors.
    """

    faiss_name: str
    prepare: Callable[[Array, str], Array]
    score: Callable[[Array, Array], Array]
    at_most: Callable[[Array, Array, float], Array]
    distance: Callable[[Array], Array]


def faiss() -> Any:
    """Return the module, imported at first use; its stubs lack what its Python layer adds."""
    import faiss as module

    return module


def score(metric: MetricRules, queries: Array, vectors: Array, found: Rows) -> Array:
    """Score items (B, W) for queries (B, Q) in pieces; a sum depends on its two vectors alone."""
    scores = np.empty(found.shape, np.float32)
    size = max(1, NUMBERS_AT_ONCE // max(1, found.shape[1] * vectors.shape[1]))
    for start in range(0, len(queries), size):
        rows = slice(start, start + size)
        scores[rows] = metric.score(queries[rows, None], vectors[found[rows]])
    return scores


def finite(vectors: Array, what: str) -> Array:
    """Return float32 rows; refuse those that hold NaN or infinity."""
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


def _chord(cosines: Array) -> Array:
    """Return |a - b| of unit vectors from their cosine: sqrt(2 - 2 cos)."""
    return np.asarray(np.sqrt(np.maximum(2 - 2 * cosines, 0)), np.float32)


METRICS: dict[str, MetricRules] = {
    "cosine": MetricRules(
        faiss_name="METRIC_INNER_PRODUCT",
        prepare=_unit,
        score=_product,
        at_most=_product_at_most,
        distance=_chord,
    ),
    "l2": MetricRules(
        faiss_name="METRIC_L2",
        prepare=_as_they_are,
        score=_minus_distance,
        at_most=_minus_distance_at_most,
        distance=np.negative,
    ),
}
