"""Arms compared by a utility that is known for the same users: true in a simulation, or logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.schema import ARM, HIGH, LOW, MEAN, NUM_USERS
from ulrec.errors import DataError
from ulrec.evaluation.statistics import (
    Alternative,
    bootstrap_intervals,
    bootstrap_means,
    holm,
    paired_permutation_test,
)

__all__ = ["utility_comparison"]

FloatArray = NDArray[np.float64]


def utility_comparison(
    utilities: Mapping[str, ArrayLike],
    *,
    reference: str = "user",
    controls: Sequence[str],
    null: str = "null",
    oracle: str = "oracle",
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
    alternative: Alternative = "two-sided",
) -> pl.DataFrame:
    """Compare one arm with its controls, user by user.

    Parameters
    ----------
    utilities
        Per arm the utility of each user (U,), the same users in the same order.
    reference
        The arm that is judged.
    controls
        The arms it is tested against; their p-values form one family.
    null, oracle
        The ends of the gap: nothing known of the user, everything known.
    seed
        Of bootstrap and permutations.
    num_resamples, num_permutations
        How many of each.
    alternative
        "two-sided", or "greater" for the reference above the control.

    Returns
    -------
    pl.DataFrame
        A row an arm: ``arm, mean, low, high, num_users``; ``difference`` (reference minus arm) with
        ``difference_low``, ``difference_high``, ``p`` and ``p_holm``, null where the arm is no
        control; ``gap_closed`` = (arm - null) / (oracle - null) of the means, with ``gap_low`` and
        ``gap_high``, NaN where a resample has no gap.

    Raises
    ------
    DataError
        If an arm is missing, lengths differ, a value is not finite, the reference is its own
        control, or the oracle is not above the null.
    """
    arms, values = _matrix(utilities, [reference, null, oracle, *controls])
    if reference in controls or len(set(controls)) != len(controls):
        raise DataError(f"controls have to be other arms than {reference!r}, once each: {controls}")
    at = {arm: i for i, arm in enumerate(arms)}
    means = bootstrap_intervals(values, seed=seed, num_resamples=num_resamples)
    tested = _differences(
        values[:, at[reference]],
        {arm: values[:, at[arm]] for arm in controls},
        seed=seed,
        num_resamples=num_resamples,
        num_permutations=num_permutations,
        alternative=alternative,
    )
    gaps = _gaps(values, at[null], at[oracle], seed=seed, num_resamples=num_resamples)
    table = pl.DataFrame(
        {
            ARM: arms,
            MEAN: [interval.mean for interval in means],
            LOW: [interval.low for interval in means],
            HIGH: [interval.high for interval in means],
            NUM_USERS: [len(values)] * len(arms),
        }
    )
    table = table.join(tested, on=ARM, how="left", maintain_order="left")
    return table.with_columns(
        pl.Series(name, column)
        for name, column in zip(("gap_closed", "gap_low", "gap_high"), gaps, strict=True)
    )


def _matrix(
    utilities: Mapping[str, ArrayLike], needed: Sequence[str]
) -> tuple[list[str], FloatArray]:
    """Return the arms and their utilities (U, arms)."""
    missing = sorted(set(needed) - set(utilities))
    if missing:
        raise DataError(f"no utilities of the arms {missing}; there are {sorted(utilities)}")
    columns = {arm: np.asarray(column, np.float64) for arm, column in utilities.items()}
    shapes = {arm: column.shape for arm, column in columns.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise DataError(f"arms need one utility (U,) for each of the same users, got {shapes}")
    bad = [arm for arm, column in columns.items() if not np.isfinite(column).all()]
    if bad:
        raise DataError(
            f"utilities of {bad} hold NaN or infinity; leave those users out everywhere"
        )
    return list(columns), np.stack(list(columns.values()), axis=1)


def _differences(
    reference: FloatArray,
    controls: Mapping[str, FloatArray],
    *,
    seed: int,
    num_resamples: int,
    num_permutations: int,
    alternative: Alternative,
) -> pl.DataFrame:
    paired = np.stack([reference - control for control in controls.values()], axis=1)
    intervals = bootstrap_intervals(paired, seed=seed, num_resamples=num_resamples)
    p_values = [
        paired_permutation_test(
            reference,
            control,
            seed=seed,
            num_permutations=num_permutations,
            alternative=alternative,
        )
        for control in controls.values()
    ]
    return pl.DataFrame(
        {
            ARM: list(controls),
            "difference": [interval.mean for interval in intervals],
            "difference_low": [interval.low for interval in intervals],
            "difference_high": [interval.high for interval in intervals],
            "p": p_values,
            "p_holm": holm(p_values),
        }
    )


def _gaps(
    values: FloatArray, null: int, oracle: int, *, seed: int, num_resamples: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the share of the gap that each arm closes, and the ends of its interval."""
    means = values.mean(axis=0)
    if means[oracle] <= means[null]:
        raise DataError(
            f"the oracle's mean utility {means[oracle]:.4g} is not above the null's "
            f"{means[null]:.4g}; check which arm is which"
        )
    drawn = bootstrap_means(values, seed=seed, num_resamples=num_resamples)
    gap = drawn[:, [oracle]] - drawn[:, [null]]
    if len(values) == 1 or gap.min() <= 0:
        undefined = np.full(len(means), np.nan)
        return (means - means[null]) / (means[oracle] - means[null]), undefined, undefined
    low, high = np.quantile((drawn - drawn[:, [null]]) / gap, [0.025, 0.975], axis=0)
    return (means - means[null]) / (means[oracle] - means[null]), low, high
