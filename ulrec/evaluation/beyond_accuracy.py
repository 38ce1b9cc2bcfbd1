"""What recommendations do to a catalogue and its users, in one table; diversity of lists.

Exposure and popularity have modules of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ulrec.data.ids import IdMap
from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, METRIC, NUM_USERS, RANK, USER_ID, VALUE, K
from ulrec.errors import DataError
from ulrec.evaluation.exposure import catalogue_coverage, exposure, exposure_entropy, gini
from ulrec.evaluation.features import unit_rows
from ulrec.evaluation.lists import Truth, plain_ids, read_truth, rows_of
from ulrec.evaluation.popularity import (
    inverse_user_frequency,
    mean_popularity,
    serendipity,
    surprisal,
)
from ulrec.evaluation.statistics import Interval, bootstrap_mean

__all__ = [
    "BeyondAccuracyResult",
    "across_diversity",
    "evaluate_beyond_accuracy",
    "intra_list_diversity",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BeyondAccuracyResult:
    """Metrics, and whom they cover.

    Attributes
    ----------
    per_user
        Table [user_id, metric, k, value] of the metrics that users have: "novelty", "miuf",
        "popularity", "diversity" and "serendipity".
    summary
        Table [metric, k, mean, low, high, num_users]; "coverage", "gini" and "entropy" describe the
        catalogue and have null for low and high. The mean of "popularity" is ARP.
    num_single
        Per k the users with one recommendation, who have no diversity.
    num_without_truth
        Users with recommendations but no truth: they have no serendipity. Zero without a truth.
    """

    per_user: pl.DataFrame
    summary: pl.DataFrame
    num_single: dict[int, int]
    num_without_truth: int = 0


def evaluate_beyond_accuracy(
    recommendations: pl.DataFrame,
    *,
    items: IdMap,
    popularity: ArrayLike,
    num_train_users: int,
    features: ArrayLike | None = None,
    truth: pl.DataFrame | None = None,
    ks: Sequence[int] = (10,),
    seed: int,
    num_resamples: int | None = 1000,
) -> BeyondAccuracyResult:
    """Return coverage, Gini, entropy, novelty, popularity, diversity and serendipity at each k.

    Users are those with recommendations; only "serendipity" is of the users of the truth, and zero
    where they have no recommendations.

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
        Features of the items, (I, d); without them there is no "diversity".
    truth
        [user_id, item_id], what users liked later; without it there is no "serendipity".
    ks
        Cut-offs.
    seed
        Of the bootstrap over users.
    num_resamples
        Its resamples; None leaves the intervals out.

    Raises
    ------
    DataError
        If an item is unknown, there are no recommendations, or an array does not fit the catalogue.
    """
    for name, array in (("popularity", popularity), ("features", features)):
        if array is not None and (num := len(np.asarray(array))) != len(items):
            raise DataError(f"{name} has {num} rows, the catalogue {len(items)} items")
    liked = None if truth is None else read_truth(truth)
    rows: list[dict[str, object]] = []
    per_user: list[pl.DataFrame] = []
    num_single, num_without_truth = {}, 0
    for k in ks:
        head = _head(recommendations, items, k)
        counts = exposure(head.item_idx, num_items=len(items))
        num_users = len(head.users)
        rows += [
            _row("coverage", k, catalogue_coverage(counts), num_users),
            _row("gini", k, gini(counts), num_users),
            _row("entropy", k, exposure_entropy(counts), num_users),
        ]
        found = _of_lists(head, popularity, num_train_users)
        if features is not None:
            diversity = intra_list_diversity(head.user_idx, head.item_idx, features=features)
            several = ~np.isnan(diversity)
            num_single[k] = int(np.count_nonzero(~several))
            found.append(("diversity", head.users.filter(pl.Series(several)), diversity[several]))
        if liked is not None:
            found.append(("serendipity", liked.users, _serendipity(head, liked, popularity, k)))
            num_without_truth = int(np.count_nonzero(rows_of(liked.users, head.users) < 0))
        for name, ids, values in found:
            if len(values):
                rows.append(_row(name, k, _summarized(values, seed, num_resamples), len(values)))
                per_user.append(_user_values(ids, name, k, values))
    return BeyondAccuracyResult(
        per_user=pl.concat(per_user),
        summary=pl.DataFrame(rows, SUMMARY),
        num_single=num_single,
        num_without_truth=num_without_truth,
    )


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


@dataclass(frozen=True, kw_only=True)
class _Head:
    """The first k of each list: users (U,) in order of appearance, pairs as rows (P,), ranks."""

    users: pl.Series
    user_idx: IntArray
    item_idx: IntArray
    rank: IntArray
    item_ids: pl.Series


def _head(recommendations: pl.DataFrame, items: IdMap, k: int) -> _Head:
    missing = [c for c in (USER_ID, ITEM_ID, RANK) if c not in recommendations.columns]
    if missing or k < 1:
        raise DataError(f"expected k >= 1 and all columns, got k = {k}, without {missing}")
    head = recommendations.select(USER_ID, ITEM_ID, RANK).filter(pl.col(RANK) <= k)
    if head.is_empty() or head[RANK].min() < 1:  # type: ignore[operator]
        raise DataError("there are no recommendations to evaluate, or ranks do not begin at 1")
    ids = plain_ids("recommendations", head[USER_ID])
    item_ids = plain_ids("recommendations", head[ITEM_ID])
    users, different = ids.unique(maintain_order=True), item_ids.unique(maintain_order=True)
    user_idx = rows_of(users, ids)
    item_idx = items.rows(different.to_list())[rows_of(different, item_ids)]
    pairs = np.sort(user_idx * len(items) + item_idx)
    if (pairs[1:] == pairs[:-1]).any():
        raise DataError("recommended (user, item) pairs repeat; drop duplicates")
    rank = head[RANK].cast(pl.Int64).to_numpy()
    return _Head(users=users, user_idx=user_idx, item_idx=item_idx, rank=rank, item_ids=item_ids)


def _of_lists(
    head: _Head, popularity: ArrayLike, num_train_users: int
) -> list[tuple[str, pl.Series, FloatArray]]:
    pairs = head.user_idx, head.item_idx
    return [
        (
            "novelty",
            head.users,
            surprisal(*pairs, popularity=popularity, num_train_users=num_train_users),
        ),
        (
            "miuf",
            head.users,
            inverse_user_frequency(*pairs, popularity=popularity, num_train_users=num_train_users),
        ),
        ("popularity", head.users, mean_popularity(*pairs, popularity=popularity)),
    ]


def _serendipity(head: _Head, liked: Truth, popularity: ArrayLike, k: int) -> FloatArray:
    """Return (U,) serendipity@k of the users of the truth."""
    if (head.users.dtype, head.item_ids.dtype) != (liked.users.dtype, liked.items.dtype):
        raise DataError("ids of the truth and of the recommendations differ in type; cast one")
    known = rows_of(liked.users, head.users)
    shown = pl.DataFrame({"user": known[head.user_idx], "item": head.item_ids})
    truth = pl.DataFrame({"user": liked.user_idx, "item": liked.items})
    hit = shown.with_row_index("row").join(truth, on=["user", "item"], how="semi")
    rows = hit["row"].to_numpy()
    gains = serendipity(head.rank[rows], head.item_idx[rows], popularity=popularity)
    sums = np.bincount(hit["user"].to_numpy(), weights=gains, minlength=len(liked.users))
    return sums.astype(np.float64) / k


def _summarized(values: FloatArray, seed: int, num_resamples: int | None) -> float | Interval:
    if num_resamples is None:
        return float(values.mean())
    return bootstrap_mean(values, seed=seed, num_resamples=num_resamples)


def _check_rows(item_idx: IntArray, num_items: int, name: str) -> None:
    if len(item_idx) == 0 or item_idx.min() < 0 or item_idx.max() >= num_items:
        raise DataError(f"recommended items have to be rows of {name}, of which are {num_items}")


def _row(metric: str, k: int, value: float | Interval, num_users: int) -> dict[str, object]:
    if isinstance(value, Interval):
        mean, low, high = value.mean, value.low, value.high
        return {METRIC: metric, K: k, MEAN: mean, LOW: low, HIGH: high, NUM_USERS: num_users}
    return {METRIC: metric, K: k, MEAN: value, LOW: None, HIGH: None, NUM_USERS: num_users}


def _user_values(ids: pl.Series, metric: str, k: int, values: FloatArray) -> pl.DataFrame:
    return pl.DataFrame({USER_ID: ids, VALUE: values}).select(
        USER_ID, pl.lit(metric).alias(METRIC), pl.lit(k, pl.Int64).alias(K), VALUE
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
