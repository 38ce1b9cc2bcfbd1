"""What recommendations do to a catalogue and its users: coverage, exposure, novelty, diversity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ulrec.data.ids import IdMap
from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, METRIC, NUM_USERS, RANK, USER_ID, K
from ulrec.errors import DataError
from ulrec.evaluation.features import unit_rows
from ulrec.evaluation.statistics import Interval, bootstrap_mean

__all__ = [
    "BeyondAccuracyResult",
    "across_diversity",
    "catalogue_coverage",
    "evaluate_beyond_accuracy",
    "exposure",
    "gini",
    "intra_list_diversity",
    "surprisal",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BeyondAccuracyResult:
    """Metrics, and whom they cover.

    Attributes
    ----------
    per_user
        Table [user_id, metric, k, value] of "novelty" and "diversity".
    summary
        Table [metric, k, mean, low, high, num_users]; "coverage" and "gini" describe the catalogue
        and have null for low and high.
    num_single
        Per k the users with one recommendation, who have no diversity.
    """

    per_user: pl.DataFrame
    summary: pl.DataFrame
    num_single: dict[int, int]


def evaluate_beyond_accuracy(
    recommendations: pl.DataFrame,
    *,
    items: IdMap,
    popularity: ArrayLike,
    num_train_users: int,
    features: ArrayLike,
    ks: Sequence[int] = (10,),
    seed: int,
    num_resamples: int = 1000,
) -> BeyondAccuracyResult:
    """Return coverage, Gini, novelty and diversity at each k.

    Parameters
    ----------
    recommendations
        [user_id, item_id, rank].
    items
        The catalogue, I items.
    popularity
        Train users of each item, (I,).
    num_train_users
        All train users.
    features
        Features of the items, (I, d).
    ks
        Cut-offs.
    seed
        Of the bootstrap over users.
    num_resamples
        Its resamples.

    Raises
    ------
    DataError
        If an item is unknown, there are no recommendations, or an array does not fit the catalogue.
    """
    for name, array in (("popularity", np.asarray(popularity)), ("features", np.asarray(features))):
        if len(array) != len(items):
            raise DataError(f"{name} has {len(array)} rows, the catalogue {len(items)} items")
    per_user, rows, num_single = [], [], {}
    for k in ks:
        users, user_idx, item_idx = _head(recommendations, items, k)
        counts = exposure(item_idx, num_items=len(items))
        novelty = surprisal(
            user_idx, item_idx, popularity=popularity, num_train_users=num_train_users
        )
        diversity = intra_list_diversity(user_idx, item_idx, features=features)
        several = ~np.isnan(diversity)
        num_single[k] = int(np.count_nonzero(~several))
        rows += [
            _row("coverage", k, catalogue_coverage(counts), len(users)),
            _row("gini", k, gini(counts), len(users)),
        ]
        for name, ids, values in (
            ("novelty", users, novelty),
            ("diversity", users.filter(pl.Series(several)), diversity[several]),
        ):
            if len(values):
                interval = bootstrap_mean(values, seed=seed, num_resamples=num_resamples)
                rows.append(_row(name, k, interval, len(values)))
                per_user.append(_user_values(ids, name, k, values))
    return BeyondAccuracyResult(
        per_user=pl.concat(per_user), summary=pl.DataFrame(rows, SUMMARY), num_single=num_single
    )


def exposure(item_idx: IntArray, *, num_items: int) -> IntArray:
    """Return how often each item of the catalogue is recommended, (num_items,)."""
    return np.bincount(item_idx, minlength=num_items).astype(np.int64)


def catalogue_coverage(counts: ArrayLike) -> float:
    """Return the share of items with any exposure, of counts (I,).

    Examples
    --------
    >>> catalogue_coverage([3, 0, 1, 0])
    0.5
    """
    return float(np.mean(_counts(counts) > 0))


def gini(counts: ArrayLike) -> float:
    """Return the Gini index of exposure (I,): 0 where all items share it, 1 - 1/I where one has it.

    Items that are never recommended count.

    Examples
    --------
    >>> gini([2, 2, 2, 2]), gini([8, 0, 0, 0])
    (0.0, 0.75)
    """
    ordered = np.sort(_counts(counts))
    num = len(ordered)
    weights = 2 * np.arange(1, num + 1) - num - 1
    return float(weights @ ordered / (num * ordered.sum()))


def surprisal(
    user_idx: IntArray, item_idx: IntArray, *, popularity: ArrayLike, num_train_users: int
) -> FloatArray:
    """Return each user's novelty: the mean of log2(N / n_i) / log2 N over the recommended items.

    An item without train users counts as having one: the most surprising that one can be.

    Parameters
    ----------
    user_idx, item_idx
        Recommended pairs as rows, (P,) each; every user 0..U-1 has one.
    popularity
        Train users n_i of each item, (I,).
    num_train_users
        All train users N.

    Returns
    -------
    FloatArray
        (U,) in [0, 1].

    Raises
    ------
    DataError
        If N < 2, a count exceeds N or is negative, or an item has none.
    """
    counts = np.asarray(popularity)
    if num_train_users < 2 or counts.min() < 0 or counts.max() > num_train_users:
        raise DataError(
            f"popularity has to lie in 0..num_train_users and that be at least 2, got "
            f"{counts.min()}..{counts.max()} and {num_train_users}"
        )
    _check_rows(item_idx, len(counts), "popularity")
    information = np.log2(num_train_users / np.maximum(counts, 1)) / np.log2(num_train_users)
    return np.bincount(user_idx, weights=information[item_idx]) / np.bincount(user_idx)


def intra_list_diversity(
    user_idx: IntArray, item_idx: IntArray, *, features: ArrayLike
) -> FloatArray:
    """Return each user's mean of 1 - cos over the pairs of different recommended items.

    Parameters
    ----------
    user_idx, item_idx
        Recommended pairs as rows, (P,) each; every user 0..U-1 has one.
    features
        Features of the items, (I, d).

    Returns
    -------
    FloatArray
        (U,) in [0, 2]; NaN where a list has one item and thus no pair.

    Raises
    ------
    DataError
        If an item has no features, or a feature is zero or not finite.
    """
    unit = unit_rows("features", features)
    _check_rows(item_idx, len(unit), "features")
    num_users = int(user_idx.max()) + 1
    lists = sparse.csr_matrix(
        (np.ones(len(user_idx)), (user_idx, item_idx)), shape=(num_users, len(unit))
    )
    # |sum of n unit vectors|^2 = n + the sum of cosines over ordered pairs.
    totals = np.square(np.asarray(lists @ unit)).sum(axis=1)
    sizes = np.bincount(user_idx).astype(np.float64)
    pairs = np.where(sizes > 1, sizes * (sizes - 1), np.nan)
    return np.asarray(1 - (totals - sizes) / pairs)


def across_diversity(features: ArrayLike) -> FloatArray:
    """Return of each picture the mean of 1 - cos to all others: near 0 where all are one picture.

    Parameters
    ----------
    features
        Of pictures made for different users, (N, d).

    Returns
    -------
    FloatArray
        (N,) in [0, 2].

    Raises
    ------
    DataError
        If there are fewer than two, or a feature is zero or not finite.
    """
    unit = unit_rows("features", features)
    if len(unit) < 2:
        raise DataError(f"diversity across pictures needs at least 2, got {len(unit)}")
    return np.asarray(1 - (unit @ unit.sum(axis=0) - 1) / (len(unit) - 1))


def _head(
    recommendations: pl.DataFrame, items: IdMap, k: int
) -> tuple[pl.Series, IntArray, IntArray]:
    """Return the users in order of appearance, and the first k recommendations as rows."""
    missing = [c for c in (USER_ID, ITEM_ID, RANK) if c not in recommendations.columns]
    if missing or k < 1:
        raise DataError(f"expected k >= 1 and all columns, got k = {k}, without {missing}")
    head = recommendations.filter(pl.col(RANK) <= k)
    if head.is_empty():
        raise DataError("there are no recommendations to evaluate")
    if head.select(USER_ID, ITEM_ID).is_duplicated().any():
        raise DataError("recommended (user, item) pairs repeat; drop duplicates")
    users = head[USER_ID].unique(maintain_order=True)
    return (
        users,
        IdMap(users.to_list()).rows(head[USER_ID].to_list()),
        items.rows(head[ITEM_ID].to_list()),
    )


def _counts(counts: ArrayLike) -> FloatArray:
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim != 1 or not (array >= 0).all() or array.sum() <= 0:
        raise DataError(f"exposure has to be counts (I,), not all zero, got shape {array.shape}")
    return array


def _check_rows(item_idx: IntArray, num_items: int, name: str) -> None:
    if len(item_idx) == 0 or item_idx.min() < 0 or item_idx.max() >= num_items:
        raise DataError(f"recommended items have to be rows of {name}, of which are {num_items}")


def _row(metric: str, k: int, value: float | Interval, num_users: int) -> dict[str, object]:
    if isinstance(value, Interval):
        mean, low, high = value.mean, value.low, value.high
        return {METRIC: metric, K: k, MEAN: mean, LOW: low, HIGH: high, NUM_USERS: num_users}
    return {METRIC: metric, K: k, MEAN: value, LOW: None, HIGH: None, NUM_USERS: num_users}


def _user_values(ids: pl.Series, metric: str, k: int, values: FloatArray) -> pl.DataFrame:
    return pl.DataFrame({USER_ID: ids, "value": values}).select(
        USER_ID, pl.lit(metric).alias(METRIC), pl.lit(k, pl.Int64).alias(K), "value"
    )


SUMMARY = pl.Schema(
    {
        METRIC: pl.String,
        K: pl.Int64,
        MEAN: pl.Float64,
        LOW: pl.Float64,
        HIGH: pl.Float64,
        NUM_USERS: pl.Int64,
    }
)
