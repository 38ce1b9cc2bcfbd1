"""Precision, recall, density and coverage: two sets, each the union of balls about its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.features import as_features, require_same_dim
from ulrec.evaluation.statistics import Interval, bootstrap_mean, wilson_interval

__all__ = ["ManifoldScores", "manifold_scores"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CHUNK_VALUES = 4_000_000
# Squared distances closer than this share of the largest squared norm are equal to rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class ManifoldScores:
    """Precision and recall (Kynkaanniemi 2019), density and coverage (Naeem 2020).

    Each is the mean of values of single rows. Intervals hold the balls fixed: they tell how well
    the mean is known for these sets, not how the balls would move in others. Compare only at equal
    numbers of rows and equal ``num_neighbours``.

    Attributes
    ----------
    precision, density
        Share of generated rows within a real row's ball, and the number of real balls that hold a
        generated row over k. Density can exceed 1.
    recall, coverage
        Share of real rows within a generated row's ball, and of real balls that hold one.
    is_precise, densities
        Values of the generated rows (M,).
    is_recalled, is_covered
        Values of the real rows (N,).
    num_real, num_generated, num_neighbours
        N, M and k.
    warning
        None, or what hampers the numbers.
    """

    precision: Interval
    recall: Interval
    density: Interval
    coverage: Interval
    is_precise: BoolArray
    densities: FloatArray
    is_recalled: BoolArray
    is_covered: BoolArray
    num_real: int
    num_generated: int
    num_neighbours: int
    warning: str | None


def manifold_scores(
    real: ArrayLike,
    generated: ArrayLike,
    *,
    num_neighbours: int = 5,
    seed: int | np.random.Generator,
    num_resamples: int = 1000,
) -> ManifoldScores:
    """Return precision, recall, density and coverage of generated rows against real ones.

    The ball of a row reaches to its k-th nearest neighbour in its own set; what lies on the surface
    is outside, so that a set against itself has density 1. Memory grows with N + M.

    Parameters
    ----------
    real, generated
        Features (N, d) and (M, d).
    num_neighbours
        k, below N and M.
    seed
        Of the bootstrap for density; the other intervals are Wilson's.
    num_resamples
        Its resamples.

    Raises
    ------
    DataError
        If the features are not comparable, or k does not lie between 1 and the rows of the smaller
        set less one.
    """
    a = as_features("real", real, min_rows=2)
    b = as_features("generated", generated, min_rows=2)
    require_same_dim(real=a, generated=b)
    k, most = num_neighbours, min(len(a), len(b)) - 1
    if not 1 <= k <= most:
        raise DataError(f"num_neighbours has to lie in 1..{most}, below the rows of both, got {k}")
    # Distances do not change, and squared norms are no larger than they need to be.
    centre = a.mean(axis=0)
    a, b = a - centre, b - centre
    slack = ROUNDING * float(max(np.square(x).sum(axis=1).max() for x in (a, b)))
    radii_a, radii_b = _radii(a, k), _radii(b, k)
    precise, densities = np.zeros(len(b), np.bool_), np.zeros(len(b))
    recalled, covered = np.zeros(len(a), np.bool_), np.zeros(len(a), np.bool_)
    for part, squared in _squared_distances(b, a):
        inside = squared < radii_a - slack
        precise[part], densities[part] = inside.any(axis=1), inside.sum(axis=1) / k
        covered |= inside.any(axis=0)
        recalled |= (squared < radii_b[part, None] - slack).any(axis=0)
    return ManifoldScores(
        precision=_share(precise),
        recall=_share(recalled),
        density=bootstrap_mean(densities, seed=seed, num_resamples=num_resamples),
        coverage=_share(covered),
        is_precise=precise,
        densities=densities,
        is_recalled=recalled,
        is_covered=covered,
        num_real=len(a),
        num_generated=len(b),
        num_neighbours=k,
        warning=_warning(radii_a <= slack, radii_b <= slack, k),
    )


def _radii(rows: FloatArray, k: int) -> FloatArray:
    """Return of each row the squared distance to its k-th nearest other row."""
    radii = np.empty(len(rows))
    for part, squared in _squared_distances(rows, rows):
        own = np.arange(part.start, part.start + len(squared))
        squared[np.arange(len(squared)), own] = np.inf
        radii[part] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return radii


def _squared_distances(x: FloatArray, y: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield parts of x with their squared distances to all of y."""
    norms_x, norms_y = (np.einsum("nd,nd->n", rows, rows) for rows in (x, y))
    step = max(1, CHUNK_VALUES // len(y))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        yield part, norms_x[part, None] + norms_y - 2 * (x[part] @ y.T)


def _share(hits: BoolArray) -> Interval:
    return wilson_interval(int(np.count_nonzero(hits)), len(hits))


def _warning(flat_real: BoolArray, flat_generated: BoolArray, k: int) -> str | None:
    counts = [int(np.count_nonzero(flat)) for flat in (flat_real, flat_generated)]
    if not any(counts):
        return None
    return (
        f"{counts[0]} real and {counts[1]} generated rows have {k} equal rows in their own set: "
        "their balls are empty and hold nothing; drop duplicates or take more neighbours"
    )
