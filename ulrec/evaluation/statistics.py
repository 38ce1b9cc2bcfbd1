"""Intervals and tests: bootstrap over users, permutations, Holm's correction, Wilson's interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError

__all__ = [
    "Alternative",
    "Interval",
    "bootstrap_intervals",
    "bootstrap_mean",
    "bootstrap_means",
    "holm",
    "paired_bootstrap",
    "paired_permutation_test",
    "permutation_p_value",
    "wilson_interval",
]

Alternative = Literal["two-sided", "greater"]
FloatArray = NDArray[np.float64]

CHUNK = 1_000_000
EIGHTS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean and the ends of its interval; the ends are NaN where none is defined (one value)."""

    mean: float
    low: float
    high: float


def bootstrap_means(
    values: ArrayLike, *, seed: int | np.random.Generator, num_resamples: int = 1000
) -> FloatArray:
    """Return the column means of resampled rows.

    Parameters
    ----------
    values
        (N, M): rows are the independent units (users), columns are resampled together.
    seed
        Seed or generator.
    num_resamples
        The number B of resamples with replacement.

    Returns
    -------
    FloatArray
        (B, M).

    Raises
    ------
    DataError
        If there are no values, a value is not finite, or B < 1.
    """
    matrix = _finite(values, ndim=2)
    if num_resamples < 1:
        raise DataError(f"num_resamples has to be at least 1, got {num_resamples}")
    rng = np.random.default_rng(seed)
    num_rows = len(matrix)
    step = max(1, min(num_resamples, CHUNK // num_rows))
    means = np.empty((num_resamples, matrix.shape[1]))
    # How often each row is drawn turns resampling into one matrix product; a resample at a time
    # is drawn and counted in the cache.
    counts = np.empty((step, num_rows))
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        for row in counts[:size]:
            row[:] = np.bincount(rng.integers(num_rows, size=num_rows), minlength=num_rows)
        means[start : start + size] = counts[:size] @ matrix / num_rows
    return means


def bootstrap_intervals(
    values: ArrayLike,
    *,
    seed: int | np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> list[Interval]:
    """Return mean and percentile bootstrap interval of each column of values (N, M).

    See :func:`bootstrap_means` for the errors.
    """
    matrix = _finite(values, ndim=2)
    _check_level(level)
    means = matrix.mean(axis=0)
    if len(matrix) == 1:
        ends = np.full((2, len(means)), np.nan)
    else:
        drawn = bootstrap_means(matrix, seed=seed, num_resamples=num_resamples)
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Interval(mean=float(m), low=float(low), high=float(high))
        for m, low, high in zip(means, *ends, strict=True)
    ]


def bootstrap_mean(
    values: ArrayLike,
    *,
    seed: int | np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of values (N,) with its percentile bootstrap interval.

    See :func:`bootstrap_means` for the errors.

    Examples
    --------
    >>> bootstrap_mean([2.0, 2.0, 2.0], seed=0)
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    column = _finite(values, ndim=1)[:, None]
    intervals = bootstrap_intervals(column, seed=seed, num_resamples=num_resamples, level=level)
    return intervals[0]


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int | np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of a - b with its interval: each resample draws the same units for both.

    Parameters
    ----------
    a, b
        Values of the same units (users), (N,) each.
    seed
        Seed or generator.
    num_resamples
        The number B of resamples with replacement.
    level
        Of the percentile interval.

    Raises
    ------
    DataError
        If shapes differ; else as :func:`bootstrap_means`.

    Examples
    --------
    >>> paired_bootstrap([1.0, 5.0], [0.5, 4.5], seed=0)
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    # The mean of differences of one resample is the difference of its two means.
    difference = _paired_difference(a, b)
    return bootstrap_mean(difference, seed=seed, num_resamples=num_resamples, level=level)


def permutation_p_value(observed: float, permuted: ArrayLike) -> float:
    """Return (1 + #{S_b >= S}) / (1 + B): never zero, since the data are one of their permutations.

    Parameters
    ----------
    observed
        The statistic S; larger is more extreme.
    permuted
        The statistics S_b under permutation, (B,). Equal up to rounding counts as equal.

    Raises
    ------
    DataError
        If there are no permutations or a statistic is not finite.

    Examples
    --------
    >>> permutation_p_value(3.0, [1.0, 3.0, 5.0])
    0.75
    """
    drawn = _finite(permuted, ndim=1)
    if not np.isfinite(observed):
        raise DataError(f"the observed statistic has to be finite, got {observed}")
    scale = max(abs(observed), float(np.abs(drawn).max()))
    rounding = 1e-12 * scale
    return float((1 + np.count_nonzero(drawn >= observed - rounding)) / (1 + len(drawn)))


def paired_permutation_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int | np.random.Generator,
    num_permutations: int = 9999,
    alternative: Alternative = "two-sided",
) -> float:
    """Return the p-value of mean(a - b) when the two values of each pair may be swapped.

    Parameters
    ----------
    a, b
        Values of the same units (users), (N,) each.
    seed
        Seed or generator.
    num_permutations
        The number B of random sign flips.
    alternative
        "two-sided", or "greater" for a above b.

    Raises
    ------
    DataError
        If shapes differ, a value is not finite, B < 1, or the alternative is unknown.
    """
    difference = _paired_difference(a, b)
    if alternative not in ("two-sided", "greater"):
        raise DataError(f"alternative has to be 'two-sided' or 'greater', got {alternative!r}")
    flipped = _flipped_sums(difference, np.random.default_rng(seed), num_permutations)
    observed = float(difference.sum())
    if alternative == "two-sided":
        observed, flipped = abs(observed), np.abs(flipped)
    # Measured against the sum of sizes: the sums themselves may cancel to rounding noise.
    slack = 1e-12 * float(np.abs(difference).sum())
    return permutation_p_value(observed - slack, flipped)


def _paired_difference(a: ArrayLike, b: ArrayLike) -> FloatArray:
    first, second = _finite(a, ndim=1), _finite(b, ndim=1)
    if first.shape != second.shape:
        raise DataError(
            f"paired values need one length, got {len(first)} and {len(second)}; "
            "keep the users that both cover and state how many"
        )
    return first - second


def _flipped_sums(
    difference: FloatArray, rng: np.random.Generator, num_permutations: int
) -> FloatArray:
    """Return (B,) sums of the differences under random signs."""
    if num_permutations < 1:
        raise DataError(f"num_permutations has to be at least 1, got {num_permutations}")
    eights = np.zeros((-(-len(difference) // 64) * 8, 8))
    eights.ravel()[: len(difference)] = difference
    # A random byte picks one of the 256 sums that eight differences can have.
    signs = 1.0 - 2.0 * (np.arange(256)[:, None] >> np.arange(8) & 1)
    sums = np.zeros(num_permutations)
    for first in range(0, len(eights), EIGHTS):
        part = eights[first : first + EIGHTS]
        table, base = (part @ signs.T).ravel(), np.arange(len(part)) * 256
        step = max(1, CHUNK // len(part))
        for start in range(0, num_permutations, step):
            shape = (min(step, num_permutations - start), len(part) // 8)
            words = rng.integers(0, 2**64 - 1, shape, dtype=np.uint64, endpoint=True)
            sums[start : start + step] += table.take(words.view(np.uint8) + base).sum(axis=1)
    return sums


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Return p-values adjusted for the family by Holm's step-down, in the order given.

    Parameters
    ----------
    p_values
        (m,), each in [0, 1].

    Raises
    ------
    DataError
        If a p-value lies outside [0, 1] or is NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise DataError(f"p-values have to be a list of numbers in [0, 1], got {p_values!r}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def wilson_interval(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """Return a rate with Wilson's score interval.

    Half a success stands for a tie.

    Raises
    ------
    DataError
        If there are no trials, or more successes than trials.

    Examples
    --------
    >>> interval = wilson_interval(0, 10)
    >>> interval.mean, interval.low, round(interval.high, 4)
    (0.0, 0.0, 0.2775)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise DataError(f"expected 0 <= successes <= trials and a trial, got {successes}/{trials}")
    _check_level(level)
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    rate = successes / trials
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (rate * (1 - rate) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    # Rounding must not move the exact ends that Wilson's interval has at rates 0 and 1.
    return Interval(
        mean=rate,
        low=0.0 if successes == 0 else low,
        high=1.0 if successes == trials else high,
    )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"level has to lie between 0 and 1, got {level}")


def _finite(values: ArrayLike, *, ndim: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or len(array) == 0:
        raise DataError(f"expected a non-empty array of {ndim} axes, got shape {array.shape}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise DataError(
            f"{bad} of {array.size} values are NaN or infinite; leave those out and state how many"
        )
    return array
