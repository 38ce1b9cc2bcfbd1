"""Similarity of generated media to a user's history, in the three forms that peers report.

They are different numbers, so each has its name. A raw one rewards looking like any poster and
all of them reward copying: they are shown as lifts over controls, beside the copy rate.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.features import require_same_dim, unit_rows
from ulrec.evaluation.personalization import Generated, Taste
from ulrec.evaluation.preference import Preference, preference_table
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.scores import UserScores, score_arms
from ulrec.evaluation.statistics import Interval

__all__ = ["FORMS", "LAST", "history_scores", "history_table"]

FloatArray = NDArray[np.float64]

LAST = 5


def history_mean(liked: FloatArray, made: FloatArray) -> FloatArray:
    """cos(g, mean_j h_j) over the whole history (DiFashion's, without its categories)."""
    centre = unit_rows("mean of a history", liked.mean(axis=0, keepdims=True))[0]
    return np.asarray(made @ centre)


def history_last(liked: FloatArray, made: FloatArray) -> FloatArray:
    """mean_j cos(g, h_j) over the last 5 by time, or all where there are fewer (Pigeon's)."""
    return np.asarray(made @ liked[-LAST:].mean(axis=0))


def history_max(liked: FloatArray, made: FloatArray) -> FloatArray:
    """max_j cos(g, h_j): similarity to the nearest item of the history."""
    return np.asarray((made @ liked.T).max(axis=1))


def history_scores(
    form: str,
    arms: Mapping[str, Generated],
    history: Taste,
    *,
    protocol: Protocol,
    times: ArrayLike | None = None,
    seed: int,
) -> UserScores:
    """Return one form of the similarity to each user's history, under every arm.

    Parameters
    ----------
    form
        A name of :data:`FORMS`; their docstrings hold the formulas.
    arms
        Media by arm: the user's and the controls'.
    history
        The users' train items.
    protocol
        How the media came about.
    times
        When each pair of the history happened, (P,). "history_last" needs it and is refused
        without: the order of a table is no order in time. The others do not look at it.
    seed
        Of the order of pairs at one time.

    Raises
    ------
    ConfigError
        If the form is unknown.
    DataError
        If times are needed and absent or do not fit, features are not usable, nobody has media
        under every arm and a history, or the form picked the media.
    """
    if form not in FORMS:
        close = difflib.get_close_matches(form, FORMS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {sorted(FORMS)}"
        raise ConfigError(f"there is no form {form!r} of the similarity to a history; {hint}")
    order = _in_time(form, history, times, seed)
    items = unit_rows("items", history.features)
    require_same_dim(items=items, **{arm: np.asarray(g.features) for arm, g in arms.items()})
    users, starts = np.unique(history.user_idx[order], return_index=True)
    groups = np.split(history.item_idx[order], starts[1:])
    liked = dict(zip(users.tolist(), groups, strict=True)) if len(users) else {}

    def score(user: int, made: FloatArray) -> FloatArray:
        return FORMS[form](items[liked[user]], made)

    return score_arms(arms, users, score, name=form, protocol=protocol)


def history_table(preferences: Sequence[Preference], *, copied: Interval) -> pl.DataFrame:
    """Return a row a form and control, as :func:`preference_table`, with the copy rate in each."""
    names = {"copy_rate": copied.mean, "copy_rate_low": copied.low, "copy_rate_high": copied.high}
    columns = [pl.lit(value).alias(name) for name, value in names.items()]
    return preference_table(preferences).drop("^auroc.*$").with_columns(columns)


def _in_time(form: str, history: Taste, times: ArrayLike | None, seed: int) -> NDArray[np.int64]:
    """Return the order of the pairs by user, then time, then a fixed random key."""
    num = len(history.user_idx)
    if times is None and form == "history_last":
        raise DataError(
            "history_last is over the last items by time and there are no times; pass `times`, or "
            "report the other forms and say so"
        )
    when = np.zeros(num) if times is None else np.asarray(times)
    if when.shape != (num,) or not np.isfinite(when).all():
        raise DataError(f"times have to be a finite number for each of {num} pairs, {when.shape}")
    key = np.random.default_rng(seed).permutation(len(history.features))[history.item_idx]
    return np.asarray(np.lexsort((key, when, history.user_idx)), np.int64)


FORMS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "history_mean": history_mean,
    "history_last": history_last,
    "history_max": history_max,
}
"""Take unit features of a user's items (n, d) in time and of made media (m, d); return (m,)."""
