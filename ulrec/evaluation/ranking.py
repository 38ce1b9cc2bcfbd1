"""Ranking metrics over the full catalogue: per-user values first, then means with intervals.

Recommendations are a table [user_id, item_id, score, rank from 1] made by ranking *all* items the
user has not seen; the truth is a table [user_id, item_id]. Notation: T is what a user liked later,
rel_r is 1 where the item at rank r is in T.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, METRIC, NUM_USERS, RANK, SCORE, USER_ID, K
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.statistics import bootstrap_intervals

__all__ = ["METRICS", "Hits", "RankingResult", "evaluate_ranking"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DEFAULT_METRICS = ("hit_rate", "recall", "precision", "mrr", "ndcg", "map")


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Where recommendations meet the truth: all that a metric may know.

    ``user_idx``, ``rank`` (from 1) and ``ordinal`` (1 for a user's first hit, 2 for the second) are
    (H,), ordered by user and rank; ``num_truth`` (U,) counts the items of each user's truth.
    """

    user_idx: IntArray
    rank: IntArray
    ordinal: IntArray
    num_truth: IntArray

    def sum_per_user(self, weights: FloatArray, k: int) -> FloatArray:
        """Return (U,) sums of the weights (H,) of hits at rank k or better."""
        weights = np.where(self.rank <= k, weights, 0.0)
        sums = np.bincount(self.user_idx, weights=weights, minlength=len(self.num_truth))
        return sums.astype(np.float64, copy=False)

    def count_per_user(self, k: int) -> FloatArray:
        """Return (U,) numbers of hits at rank k or better."""
        return self.sum_per_user(np.ones(len(self.rank)), k)


@dataclass(frozen=True, kw_only=True)
class RankingResult:
    """Metrics, and whom they cover.

    Attributes
    ----------
    per_user
        Table [user_id, metric, k, value], every user of the truth.
    summary
        Table [metric, k, mean, low, high, num_users].
    num_users
        Users of the truth; all of them count.
    num_missing
        Those of them without recommendations, who count as zero.
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
    num_resamples: int = 1000,
) -> RankingResult:
    """Evaluate recommendations against what users liked later.

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
        Its resamples; intervals are 95 % percentile intervals.

    Raises
    ------
    DataError
        If a column is missing or null, ids of the tables differ in type, a pair repeats, a score is
        NaN, ranks are not 1..n, the truth is empty, or k < 1.
    ConfigError
        If a metric is unknown.

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
    _check_tables(recommendations, truth)
    encoded = _encode(recommendations, truth)
    lengths = _list_lengths(encoded)[: len(encoded.users)]
    hits = _find_hits(encoded)
    values = [(name, k, METRICS[name](hits, k)) for name in metrics for k in ks]
    return RankingResult(
        per_user=_per_user(encoded.users, values),
        summary=_summary(values, seed, num_resamples),
        num_users=len(encoded.users),
        num_missing=int(np.count_nonzero(lengths == 0)),
        num_short=int(np.count_nonzero(lengths < max(ks))),
        num_without_truth=encoded.num_all_users - len(encoded.users),
    )


def hit_rate(hits: Hits, k: int) -> FloatArray:
    """HR@k = 1 if any item of T is among the first k, else 0."""
    return (hits.count_per_user(k) > 0).astype(np.float64)


def recall(hits: Hits, k: int) -> FloatArray:
    """Recall@k = |T & first k| / |T|. The denominator is |T|, not min(k, |T|)."""
    return np.asarray(hits.count_per_user(k) / hits.num_truth)


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


def _check_tables(recommendations: pl.DataFrame, truth: pl.DataFrame) -> None:
    _check_columns("recommendations", recommendations, (USER_ID, ITEM_ID, SCORE, RANK))
    _check_columns("truth", truth, (USER_ID, ITEM_ID))
    if truth.is_empty():
        raise DataError("the truth has no rows, nothing can be evaluated; check the split")
    for column in (USER_ID, ITEM_ID):
        ours, theirs = recommendations.schema[column], truth.schema[column]
        kinds = {_id_kind("recommendations", column, ours), _id_kind("truth", column, theirs)}
        if len(kinds) > 1:
            raise DataError(
                f"{column} is {ours} in the recommendations and {theirs} in the truth; cast one"
            )
    score, rank = recommendations[SCORE], recommendations[RANK]
    if not score.dtype.is_numeric():
        raise DataError(f"{SCORE} has to be a number, got {score.dtype}")
    if score.dtype.is_float() and score.is_nan().any():
        raise DataError(f"{score.is_nan().sum()} scores are NaN; mend the model that gave them")
    if not rank.dtype.is_integer():
        raise DataError(f"{RANK} has to be a whole number, got {rank.dtype}; cast the column")


def _check_columns(name: str, table: pl.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"the {name} lack the columns {missing}; they have {table.columns}")
    nulls = {column: n for column in columns if (n := table[column].null_count())}
    if nulls:
        raise DataError(f"the {name} hold nulls ({nulls}); drop or mend those rows")


def _id_kind(name: str, column: str, dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "int"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "str"
    raise DataError(f"{column} of the {name} has to be str or int, got {dtype}; cast the column")


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """Both tables as rows: users of the truth come first, pairs are coded user * num_items + item.

    ``user_idx``, ``pair``, ``rank`` (N,) are the recommendations, ``truth`` (P,) the sorted pairs
    of the truth, ``users`` (U,) the ids of its users; ``num_all_users`` counts those without truth
    too.
    """

    users: pl.Series
    num_all_users: int
    num_items: int
    user_idx: IntArray
    pair: IntArray
    rank: IntArray
    truth: IntArray


def _encode(recommendations: pl.DataFrame, truth: pl.DataFrame) -> _Encoded:
    users, num_all_users, (truth_users, user_idx) = _codes(truth[USER_ID], recommendations[USER_ID])
    _, num_items, (truth_items, item_idx) = _codes(truth[ITEM_ID], recommendations[ITEM_ID])
    pairs = np.sort(truth_users * num_items + truth_items)
    repeats = int(np.count_nonzero(pairs[1:] == pairs[:-1]))
    if repeats:
        raise DataError(f"{repeats} (user, item) pairs of the truth repeat; drop duplicates")
    return _Encoded(
        users=users,
        num_all_users=num_all_users,
        num_items=num_items,
        user_idx=user_idx,
        pair=user_idx * num_items + item_idx,
        rank=recommendations[RANK].cast(pl.Int64).to_numpy(),
        truth=pairs,
    )


def _codes(first: pl.Series, second: pl.Series) -> tuple[pl.Series, int, list[IntArray]]:
    """Return two columns of ids as numbers, those of the first from zero.

    Before them come the different ids of the first column and how many there are in both.
    """
    dtype = pl.Int64 if first.dtype.is_integer() else pl.String
    columns = [column.cast(dtype).alias("id") for column in (first, second)]
    seen = columns[0].unique(maintain_order=True)
    ids = pl.concat([seen, columns[1].unique()]).unique(maintain_order=True)
    numbered = ids.to_frame().with_columns(code=pl.int_range(pl.len(), dtype=pl.Int64))
    codes = [
        column.to_frame().join(numbered, on="id", how="left", maintain_order="left")["code"]
        for column in columns
    ]
    return seen, len(ids), [code.to_numpy() for code in codes]


def _list_lengths(encoded: _Encoded) -> IntArray:
    """Return the number of recommendations of each user, after checking that ranks are 1..n."""
    lengths = np.bincount(encoded.user_idx, minlength=encoded.num_all_users)
    offsets = np.cumsum(lengths) - lengths
    inside = (encoded.rank >= 1) & (encoded.rank <= lengths[encoded.user_idx])
    seen = np.zeros(len(encoded.rank), np.bool_)
    seen[offsets[encoded.user_idx[inside]] + encoded.rank[inside] - 1] = True
    if not seen.all():
        wrong = len(np.unique(np.repeat(np.arange(len(lengths)), lengths)[~seen]))
        raise DataError(
            f"the ranks of {wrong} users are not 1, 2, ..., n without gap or tie; rank each user's "
            "items anew, ties broken by a fixed random key"
        )
    return lengths


def _find_hits(encoded: _Encoded) -> Hits:
    """Return the hits of users with truth, after checking that no recommended pair repeats."""
    base = int(encoded.rank.max(initial=0)) + 1
    if encoded.num_all_users * encoded.num_items * base >= 2**63:
        raise DataError("the tables are too large to be evaluated at once; evaluate users in parts")
    # Pair and rank in one number: a single sort finds repeats and answers all look-ups.
    keys = np.sort(encoded.pair * base + encoded.rank)
    pairs = keys // base
    repeats = int(np.count_nonzero(pairs[1:] == pairs[:-1]))
    if repeats:
        raise DataError(f"{repeats} recommended (user, item) pairs repeat; drop duplicates")
    at = np.searchsorted(pairs, encoded.truth)
    found = at[at < len(pairs)]
    found = found[pairs[found] == encoded.truth[: len(found)]]
    user_idx, rank = pairs[found] // encoded.num_items, keys[found] % base
    order = np.lexsort((rank, user_idx))
    user_idx, rank = user_idx[order], rank[order]
    first = np.searchsorted(user_idx, user_idx)
    num_users = len(encoded.users)
    return Hits(
        user_idx=user_idx,
        rank=rank,
        ordinal=np.arange(len(rank)) - first + 1,
        num_truth=np.bincount(encoded.truth // encoded.num_items, minlength=num_users),
    )


def _per_user(users: pl.Series, values: Sequence[tuple[str, int, FloatArray]]) -> pl.DataFrame:
    num_users = len(users)
    return pl.DataFrame(
        {
            USER_ID: pl.concat([users] * len(values)),
            METRIC: pl.concat([pl.repeat(name, num_users, eager=True) for name, _, _ in values]),
            K: np.repeat(np.array([k for _, k, _ in values], np.int64), num_users),
            "value": np.concatenate([value for _, _, value in values]),
        }
    )


def _summary(
    values: Sequence[tuple[str, int, FloatArray]],
    seed: int | np.random.Generator,
    num_resamples: int,
) -> pl.DataFrame:
    matrix = np.stack([value for _, _, value in values], axis=1)
    intervals = bootstrap_intervals(matrix, seed=seed, num_resamples=num_resamples)
    return pl.DataFrame(
        {
            METRIC: [name for name, _, _ in values],
            K: np.array([k for _, k, _ in values], np.int64),
            MEAN: [interval.mean for interval in intervals],
            LOW: [interval.low for interval in intervals],
            HIGH: [interval.high for interval in intervals],
            NUM_USERS: [len(matrix)] * len(values),
        }
    )


METRICS: dict[str, Callable[[Hits, int], FloatArray]] = {
    "hit_rate": hit_rate,
    "recall": recall,
    "precision": precision,
    "mrr": mrr,
    "ndcg": ndcg,
    "ndcg_full_k": ndcg_full_k,
    "map": average_precision,
}
