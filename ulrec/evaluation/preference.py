"""Own media against each control under a score: by how much, and for how many users, better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binomtest

from ulrec.data.schema import ARM, NUM_USERS, SCORE
from ulrec.errors import DataError
from ulrec.evaluation.scores import UserScores
from ulrec.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    holm,
    paired_permutation_test,
    wilson_interval,
)
from ulrec.evaluation.verifier import VerifierScores

__all__ = ["Preference", "Wins", "compare_arms", "count_wins", "preference_table"]

FloatArray = NDArray[np.float64]

# Scores of equal pictures differ by rounding, relative to the largest score.
EQUAL = 1e-12


@dataclass(frozen=True, kw_only=True)
class Wins:
    """For how many users own media score above the control's.

    ``rate`` = (wins + ties / 2) / users with Wilson's interval. ``p_value`` is that of the exact
    one-sided sign test, which leaves ties out; 1 where there are only ties.
    """

    wins: int
    ties: int
    losses: int
    rate: Interval
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Own media against one control: raw scores, their difference, and how often it is positive.

    ``values`` (U,) are the differences, whose mean is ``lift``; ``p_value`` is that of random
    exchanges within users, one-sided.
    """

    scores: UserScores
    arm: str
    values: FloatArray
    own: Interval
    control: Interval
    lift: Interval
    p_value: float
    wins: Wins


def compare_arms(
    scores: UserScores,
    *,
    reference: str = "user",
    controls: Sequence[str],
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> list[Preference]:
    """Compare one arm with each control, user by user.

    Parameters
    ----------
    scores
        Of all arms.
    reference
        The arm that is judged.
    controls
        The arms it has to beat, at least one: a raw score alone says nothing of a user.
    seed
        Of bootstrap and permutations.
    num_resamples, num_permutations
        How many of each.

    Raises
    ------
    DataError
        If an arm has no scores, there is no control, or one is the reference.
    """
    missing = [arm for arm in (reference, *controls) if arm not in scores.arms]
    if missing or not controls or reference in controls:
        raise DataError(
            f"expected controls other than {reference!r} among {sorted(scores.arms)}, got "
            f"{list(controls)}"
        )
    own = np.asarray(scores.arms[reference], np.float64)

    def interval(values: FloatArray) -> Interval:
        return bootstrap_mean(values, seed=seed, num_resamples=num_resamples)

    found = []
    for arm in controls:
        other = np.asarray(scores.arms[arm], np.float64)
        p_value = paired_permutation_test(
            own, other, seed=seed, num_permutations=num_permutations, alternative="greater"
        )
        found.append(
            Preference(
                scores=scores,
                arm=arm,
                values=own - other,
                own=interval(own),
                control=interval(other),
                lift=interval(own - other),
                p_value=p_value,
                wins=count_wins(own, other),
            )
        )
    return found


def count_wins(own: FloatArray, control: FloatArray) -> Wins:
    """Return for how many users ``own`` (U,) is above ``control`` (U,), ties counted half.

    Raises
    ------
    DataError
        If lengths differ, a score is not finite, or there are none.

    Examples
    --------
    >>> wins = count_wins(np.array([3.0, 1.0, 2.0, 5.0]), np.array([1.0, 1.0, 3.0, 4.0]))
    >>> wins.wins, wins.ties, wins.losses, wins.rate.mean, wins.p_value
    (2, 1, 1, 0.625, 0.5)
    """
    first, second = np.asarray(own, np.float64), np.asarray(control, np.float64)
    finite = np.isfinite(first).all() and np.isfinite(second).all()
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0 or not finite:
        raise DataError(
            f"expected two finite scores for each user, got shapes {first.shape} and "
            f"{second.shape}; keep the users that both cover and state how many"
        )
    slack = EQUAL * max(np.abs(first).max(), np.abs(second).max())
    wins = int(np.count_nonzero(first - second > slack))
    losses = int(np.count_nonzero(second - first > slack))
    ties = len(first) - wins - losses
    decided = wins + losses
    return Wins(
        wins=wins,
        ties=ties,
        losses=losses,
        rate=wilson_interval(wins + ties / 2, len(first)),
        p_value=float(binomtest(wins, decided, alternative="greater").pvalue) if decided else 1.0,
    )


def preference_table(preferences: Sequence[Preference]) -> pl.DataFrame:
    """Return a row a comparison, each score with what says whether it is to be believed.

    ``p_holm`` is adjusted for the family of all that are given; ``auroc`` is that of a verifier on
    real held-out items, null for other scores.
    """
    adjusted = holm([preference.p_value for preference in preferences]).tolist()
    rows = []
    for preference, p_holm in zip(preferences, adjusted, strict=True):
        scores, wins = preference.scores, preference.wins
        row: dict[str, Any] = {SCORE: scores.name, ARM: preference.arm}
        row |= _cells("own", preference.own) | _cells("control", preference.control)
        row |= _cells("lift", preference.lift)
        row |= {"p": preference.p_value, "p_holm": p_holm}
        row |= _cells("win_rate", wins.rate) | {"ties": wins.ties, "p_sign": wins.p_value}
        auroc = scores.auroc.interval if isinstance(scores, VerifierScores) else None
        row |= _cells("auroc", auroc)
        row |= {
            NUM_USERS: len(preference.values),
            "num_without_media": scores.num_without_media,
            "num_without_history": scores.num_without_history,
        }
        rows.append(row)
    return pl.DataFrame(rows)


def _cells(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
