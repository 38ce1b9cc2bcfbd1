"""Ranking metrics over the full catalogue: per-user values first, then means with intervals.

Recommendations are a table [user_id, item_id, score, rank from 1] made by ranking *all* items the
user has not seen; the truth is a table [user_id, item_id]. Notation: T is what a user liked later,
rel_r is 1 where the item at rank r is in T, C is what the list was picked from.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, METRIC, NUM_USERS, USER_ID, VALUE, K
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.hits import Hits, find_hits
from ulrec.evaluation.lists import plain_ids, read_lists, read_truth, rows_of
from ulrec.evaluation.statistics import bootstrap_intervals

__all__ = ["METRICS", "Hits", "RankingResult", "evaluate_ranking", "unseen_items"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NUM_UNSEEN = "num_unseen"
DEFAULT_METRICS = ("hit_rate", "recall", "precision", "mrr", "ndcg", "map")


@dataclass(frozen=True, kw_only=True)
class RankingResult:
    """Metrics, and whom they cover.

    Attributes
    ----------
    per_user
        Table [user_id, metric, k, value], every user of the truth.
    summary
        Table [metric, k, mean, low, high, num_users]; low and high are null without resamples.
    num_users
        Users of the truth; all of them count.
    num_missing
        Those of them without recommendations, who count as zero (as one half in "auc").
    num_short
        Those with fewer recommendations than the largest k (the missing included). Where nearly
        everyone is short, the table does not come from a ranking of the full catalogue.
    num_without_truth
        Users with recommendations but no truth: nothing can be said of them, they are left out.
    """

    per_user: pl.DataFrame
    summary: pl.DataFrame
    num_users: int
    num_missing: int
    num_short: int
    num_without_truth: int


def evaluate_ranking(
    recommendations: pl.DataFrame,
    truth: pl.DataFrame,
    *,
    ks: Sequence[int] = (5, 10, 20),
    metrics: Sequence[str] = DEFAULT_METRICS,
    seed: int | np.random.Generator,
    num_resamples: int | None = 1000,
    num_unseen: int | pl.DataFrame | None = None,
) -> RankingResult:
    """Evaluate recommendations against what users liked later.

    Rows may come in any order; those that stand user by user in order of rank are read fastest.

    Parameters
    ----------
    recommendations
        [user_id, item_id, score, rank]: per user the head of a ranking of the full catalogue.
    truth
        [user_id, item_id], one row per pair.
    ks
        Cut-offs.
    metrics
        Names in :data:`METRICS`; their docstrings hold the formulas.
    seed
        Of the bootstrap over users.
    num_resamples
        Its resamples; intervals are 95 % percentile intervals. None leaves them out.
    num_unseen
        How many items a list is picked from, which "auc" needs: one number, or a table [user_id,
        num_unseen] as :func:`unseen_items` makes it.

    Raises
    ------
    DataError
        If a column is missing or null, ids of the tables differ in type, a pair repeats, a score is
        NaN, ranks are not 1..n, the truth is empty, k < 1, or ``num_unseen`` is too small.
    ConfigError
        If a metric is unknown, or "auc" is asked for without ``num_unseen``.

    Examples
    --------
    >>> recommendations = pl.DataFrame(
    ...     {"user_id": [1, 1], "item_id": [7, 8], "score": [0.9, 0.1], "rank": [1, 2]}
    ... )
    >>> truth = pl.DataFrame({"user_id": [1, 2], "item_id": [8, 7]})
    >>> result = evaluate_ranking(recommendations, truth, ks=[2], metrics=["mrr"], seed=0)
    >>> result.per_user["value"].to_list(), result.num_missing
    ([0.5, 0.0], 1)
    """
    _check_choices(ks, metrics)
    if "auc" in metrics and num_unseen is None:
        raise ConfigError("auc needs num_unseen: how many items the lists were picked from")
    lists, liked = read_lists(recommendations), read_truth(truth)
    hits = find_hits(lists, liked)
    if num_unseen is not None:
        hits = replace(hits, num_unseen=_unseen_per_user(num_unseen, liked.users, hits))
    values = [(name, k, METRICS[name](hits, k)) for name in metrics for k in ks]
    num_evaluated = int(np.count_nonzero(hits.num_listed))
    return RankingResult(
        per_user=_per_user(liked.users, values),
        summary=_summary(values, seed, num_resamples),
        num_users=len(liked.users),
        num_missing=len(liked.users) - num_evaluated,
        num_short=int(np.count_nonzero(hits.num_listed < max(ks))),
        num_without_truth=len(lists.users) - num_evaluated,
    )


def unseen_items(seen: pl.DataFrame, users: pl.Series, *, num_items: int) -> pl.DataFrame:
    """Return how many items of the catalogue each user has not seen.

    Parameters
    ----------
    seen
        [user_id, item_id], such as the train interactions; a pair that repeats counts once.
    users
        Different ids; those who have seen nothing are offered the whole catalogue.
    num_items
        The size of the catalogue.

    Returns
    -------
    pl.DataFrame
        [user_id, num_unseen], one row per user.

    Raises
    ------
    DataError
        If a user has seen more items than there are.
    """
    counts = seen.group_by(USER_ID).agg(pl.col(ITEM_ID).n_unique().alias("seen"))
    table = (
        users.alias(USER_ID).to_frame().join(counts, on=USER_ID, how="left", maintain_order="left")
    )
    seen_items = pl.col("seen").fill_null(0).cast(pl.Int64)
    found = table.select(USER_ID, (num_items - seen_items).alias(NUM_UNSEEN))
    if (found[NUM_UNSEEN] < 0).any():
        raise DataError(f"a user has seen more items than the catalogue's {num_items}")
    return found


def hit_rate(hits: Hits, k: int) -> FloatArray:
    """HR@k = 1 if any item of T is among the first k, else 0."""
    return (hits.count_per_user(k) > 0).astype(np.float64)


def recall(hits: Hits, k: int) -> FloatArray:
    """Recall@k = |T & first k| / |T|. The denominator is |T|, not min(k, |T|)."""
    return np.asarray(hits.count_per_user(k) / hits.num_truth)


def recall_capped(hits: Hits, k: int) -> FloatArray:
    """Capped recall@k = |T & first k| / min(k, |T|): 1 for a perfect list even where |T| > k."""
    return np.asarray(hits.count_per_user(k) / np.minimum(hits.num_truth, k))


def precision(hits: Hits, k: int) -> FloatArray:
    """Precision@k = |T & first k| / k, also where fewer than k items are recommended."""
    return hits.count_per_user(k) / k


def mrr(hits: Hits, k: int) -> FloatArray:
    """MRR@k = 1 / rank of the first item of T, 0 if that rank is beyond k."""
    return hits.sum_per_user(np.where(hits.ordinal == 1, 1 / hits.rank, 0.0), k)


def ndcg(hits: Hits, k: int) -> FloatArray:
    """NDCG@k = sum_{r<=k} rel_r / log2(r + 1), over that sum for min(k, |T|) items of T on top."""
    ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    return np.asarray(_dcg(hits, k) / ideal[np.minimum(hits.num_truth, k) - 1])


def ndcg_full_k(hits: Hits, k: int) -> FloatArray:
    """NDCG@k normalised by k items of T on top, even where |T| < k (RecTools' definition)."""
    return _dcg(hits, k) / float(np.sum(1 / np.log2(np.arange(2, k + 2))))


def average_precision(hits: Hits, k: int) -> FloatArray:
    """AP@k = sum_{r<=k} rel_r |T & first r| / r, over |T| (as RecTools, ranx); MAP@k its mean."""
    return hits.sum_per_user(hits.ordinal / hits.rank, k) / hits.num_truth


def auc(hits: Hits, k: int) -> FloatArray:
    """AUC@k = share of pairs (one item of T, one of C without T) in which the former stands higher.

    The order of the first k items counts. All other items of C stand below them, and among
    themselves in no order: a pair of those counts one half, which is what it would be worth on
    average were they shuffled. Lists of all of C and a k that long give the AUC of the full
    ranking; from shorter ones nothing is guessed in favour of a model.
    """
    assert hits.num_unseen is not None
    num_other = hits.num_unseen - hits.num_truth
    above = hits.rank - hits.ordinal  # items of C without T above a hit
    found = hits.count_per_user(k)
    won = found * num_other - hits.sum_per_user(above.astype(np.float64), k)
    num_below = num_other - (np.minimum(hits.num_listed, k) - found)
    won += (hits.num_truth - found) * num_below / 2
    return np.asarray(won / (hits.num_truth * num_other))


def _dcg(hits: Hits, k: int) -> FloatArray:
    return hits.sum_per_user(1 / np.log2(hits.rank + 1), k)


def _check_choices(ks: Sequence[int], metrics: Sequence[str]) -> None:
    bad = [k for k in ks if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1]
    if bad or not ks or len(set(ks)) != len(ks):
        raise DataError(f"ks have to be different whole numbers from 1, got {list(ks)}")
    if not metrics or len(set(metrics)) != len(metrics):
        raise ConfigError(f"metrics have to be named once each, got {list(metrics)}")
    for name in metrics:
        if name not in METRICS:
            close = difflib.get_close_matches(name, METRICS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from {sorted(METRICS)}"
            raise ConfigError(f"there is no metric {name!r}; {hint}")


def _unseen_per_user(given: int | pl.DataFrame, users: pl.Series, hits: Hits) -> IntArray:
    """Return (U,) numbers of unseen items, checked to hold list, truth and something else."""
    if isinstance(given, pl.DataFrame):
        numbers = _looked_up(given, users)
    else:
        numbers = np.full(len(users), given, np.int64)
    found = np.bincount(hits.user_idx, minlength=len(users))
    few = numbers < hits.num_listed + hits.num_truth - found
    if few.any():
        raise DataError(
            f"{few.sum()} users have fewer unseen items than different ones in list and truth; "
            "count all items that the ranking was made of"
        )
    all_liked = numbers == hits.num_truth
    if all_liked.any():
        raise DataError(
            f"{all_liked.sum()} users like all of their unseen items, so that auc has no pairs; "
            "leave them out and state how many"
        )
    return numbers


def _looked_up(given: pl.DataFrame, users: pl.Series) -> IntArray:
    if not {USER_ID, NUM_UNSEEN} <= set(given.columns):
        raise DataError(f"unseen items need user_id and num_unseen, got {given.columns}")
    ids = plain_ids(NUM_UNSEEN, given[USER_ID])
    if ids.dtype != users.dtype:
        raise DataError(f"user_id is {ids.dtype} in num_unseen, {users.dtype} in the truth")
    if ids.is_duplicated().any():
        raise DataError("num_unseen has users twice; give one row per user")
    rows = rows_of(ids, users)
    if (rows < 0).any():
        raise DataError(f"num_unseen lacks {(rows < 0).sum()} of the truth's users; add them")
    return given[NUM_UNSEEN].cast(pl.Int64).to_numpy()[rows]


def _per_user(users: pl.Series, values: Sequence[tuple[str, int, FloatArray]]) -> pl.DataFrame:
    num_users = len(users)
    return pl.DataFrame(
        {
            USER_ID: pl.concat([users] * len(values)),
            METRIC: pl.concat([pl.repeat(name, num_users, eager=True) for name, _, _ in values]),
            K: np.repeat(np.array([k for _, k, _ in values], np.int64), num_users),
            VALUE: np.concatenate([value for _, _, value in values]),
        }
    )


def _summary(
    values: Sequence[tuple[str, int, FloatArray]],
    seed: int | np.random.Generator,
    num_resamples: int | None,
) -> pl.DataFrame:
    matrix = np.stack([value for _, _, value in values], axis=1)
    means = matrix.mean(axis=0)
    low: list[float | None] = [None] * len(means)
    high = low.copy()
    if num_resamples is not None:
        intervals = bootstrap_intervals(matrix, seed=seed, num_resamples=num_resamples)
        low, high = [i.low for i in intervals], [i.high for i in intervals]
    return pl.DataFrame(
        {
            METRIC: [name for name, _, _ in values],
            K: np.array([k for _, k, _ in values], np.int64),
            MEAN: means,
            LOW: pl.Series(low, dtype=pl.Float64),
            HIGH: pl.Series(high, dtype=pl.Float64),
            NUM_USERS: [len(matrix)] * len(values),
        }
    )


METRICS: dict[str, Callable[[Hits, int], FloatArray]] = {
    "hit_rate": hit_rate,
    "recall": recall,
    "recall_capped": recall_capped,
    "precision": precision,
    "mrr": mrr,
    "ndcg": ndcg,
    "ndcg_full_k": ndcg_full_k,
    "map": average_precision,
    "auc": auc,
}
