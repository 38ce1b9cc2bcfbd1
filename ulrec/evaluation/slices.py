"""Figures for parts of the users or of the catalogue, each with its interval and its coverage.

A slice of users takes their values out of the whole evaluation. A slice of items restricts the
truth to those items and evaluates the same recommendations, still ranked over the full catalogue:
how well are these items found? Users who liked none of them have nothing to be found, are left out,
and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, METRIC, NUM_USERS, USER_ID, VALUE, K
from ulrec.errors import DataError
from ulrec.evaluation.lists import check_columns
from ulrec.evaluation.ranking import DEFAULT_METRICS, evaluate_ranking
from ulrec.evaluation.statistics import bootstrap_intervals

__all__ = [
    "SLICE",
    "ItemSlices",
    "UserSlices",
    "evaluate_item_slices",
    "history_slices",
    "popularity_slices",
    "summarize_slices",
]

SLICE = "slice"
HISTORY_EDGES = (1, 5, 20)
HISTORY_NAMES = ("0", "1-4", "5-19", "20+")


@dataclass(frozen=True, kw_only=True)
class UserSlices:
    """Figures for slices of users.

    Attributes
    ----------
    summary
        Table [slice, metric, k, mean, low, high, num_users], slices in order of appearance.
    num_without_slice
        Users with values who are in no slice.
    num_without_values
        Users of the slices who have no values: the truth does not hold them.
    """

    summary: pl.DataFrame
    num_without_slice: int
    num_without_values: int


@dataclass(frozen=True, kw_only=True)
class ItemSlices:
    """Figures for slices of the catalogue.

    Attributes
    ----------
    summary
        Table [slice, metric, k, mean, low, high, num_users, num_left_out, num_pairs]: users whose
        truth has an item of the slice, users of the truth who are left out because theirs has none,
        and pairs of the truth in the slice.
    per_user
        Table [user_id, slice, metric, k, value].
    num_pairs_without_slice
        Pairs of the truth whose item is in no slice.
    empty
        Slices of which no item is liked by anybody: they have no figures.
    """

    summary: pl.DataFrame
    per_user: pl.DataFrame
    num_pairs_without_slice: int
    empty: tuple[str, ...]


def history_slices(history: pl.DataFrame, users: pl.Series) -> pl.DataFrame:
    """Return users by the number of different items in their history: 0, 1-4, 5-19, 20+.

    Parameters
    ----------
    history
        [user_id, item_id], such as the train interactions.
    users
        Different ids, such as those of the truth.

    Returns
    -------
    pl.DataFrame
        [user_id, slice], one row per user.

    Examples
    --------
    >>> history = pl.DataFrame({"user_id": [1, 1], "item_id": [7, 8]})
    >>> history_slices(history, pl.Series([1, 2]))["slice"].to_list()
    ['1-4', '0']
    """
    counts = history.group_by(USER_ID).agg(pl.col(ITEM_ID).n_unique().alias("n"))
    table = users.alias(USER_ID).to_frame()
    found = table.join(counts, on=USER_ID, how="left", maintain_order="left")["n"].fill_null(0)
    place = np.searchsorted(HISTORY_EDGES, found.to_numpy(), side="right")
    return table.with_columns(pl.Series(SLICE, [HISTORY_NAMES[i] for i in place.tolist()]))


def popularity_slices(train: pl.DataFrame, items: pl.Series) -> pl.DataFrame:
    """Return items by popularity: head, torso, tail, cold.

    Cold items have no train interactions. The others stand in order of popularity; those before
    which less than a third of all interactions lie are the head, less than two thirds the torso,
    and the rest is the tail. Items of equal popularity are never torn apart.

    Parameters
    ----------
    train
        [user_id, item_id], one row per interaction.
    items
        The catalogue, different ids.

    Returns
    -------
    pl.DataFrame
        [item_id, slice], one row per item.

    Raises
    ------
    DataError
        If there are no interactions with these items.
    """
    table = items.alias(ITEM_ID).to_frame()
    counts = train.group_by(ITEM_ID).agg(pl.len().alias("n"))
    found = table.join(counts, on=ITEM_ID, how="left", maintain_order="left")["n"].fill_null(0)
    popularity = found.to_numpy().astype(np.int64)
    if popularity.sum() == 0:
        raise DataError("no train interaction is with any of the items; check the ids")
    ordered = np.sort(popularity)[::-1]
    before = np.concatenate([[0], np.cumsum(ordered)])
    # How many interactions the items of higher popularity have.
    share = before[np.searchsorted(-ordered, -popularity)] / popularity.sum()
    names = np.select(
        [popularity == 0, share < 1 / 3, share < 2 / 3], ["cold", "head", "torso"], "tail"
    )
    return table.with_columns(pl.Series(SLICE, names.tolist()))


def summarize_slices(
    per_user: pl.DataFrame,
    slices: pl.DataFrame,
    *,
    seed: int,
    num_resamples: int | None = 1000,
) -> UserSlices:
    """Return means and intervals of per-user values for each slice of users.

    Parameters
    ----------
    per_user
        [user_id, metric, k, value], as :func:`ulrec.evaluation.ranking.evaluate_ranking` gives it.
    slices
        [user_id, slice]; a user may be in several slices.
    seed
        Of the bootstrap over the users of a slice.
    num_resamples
        Its resamples; intervals are 95 % percentile intervals. None leaves them out. The ends of a
        slice with one user are null: one value has no spread.

    Raises
    ------
    DataError
        If a column is missing, a row repeats, ids differ in type, or no user has both.
    """
    _check("per-user values", per_user, (USER_ID, METRIC, K, VALUE), unique=(USER_ID, METRIC, K))
    _check("slices", slices, (USER_ID, SLICE), unique=(USER_ID, SLICE))
    if per_user[USER_ID].dtype != slices[USER_ID].dtype:
        raise DataError(
            f"user_id is {per_user[USER_ID].dtype} in the values and {slices[USER_ID].dtype} in "
            "the slices; cast one"
        )
    evaluated, sliced = per_user[USER_ID].unique(), slices[USER_ID].unique()
    tables = [
        _summary(
            per_user.join(part, on=USER_ID, how="semi", maintain_order="left"), seed, num_resamples
        ).select(pl.lit(part[SLICE][0]).alias(SLICE), pl.all())
        for part in slices.filter(pl.col(USER_ID).is_in(evaluated.implode())).partition_by(
            SLICE, maintain_order=True
        )
    ]
    if not tables:
        raise DataError("no user of the slices has values; check the ids")
    return UserSlices(
        summary=pl.concat(tables),
        num_without_slice=len(evaluated) - int(evaluated.is_in(sliced.implode()).sum()),
        num_without_values=len(sliced) - int(sliced.is_in(evaluated.implode()).sum()),
    )


def evaluate_item_slices(
    recommendations: pl.DataFrame,
    truth: pl.DataFrame,
    slices: pl.DataFrame,
    *,
    ks: Sequence[int] = (10,),
    metrics: Sequence[str] = DEFAULT_METRICS,
    seed: int,
    num_resamples: int | None = 1000,
) -> ItemSlices:
    """Evaluate recommendations with the truth restricted to each slice of items.

    Parameters
    ----------
    recommendations, truth, ks, metrics, seed, num_resamples
        As in :func:`ulrec.evaluation.ranking.evaluate_ranking`.
    slices
        [item_id, slice]; an item may be in several slices.

    Raises
    ------
    DataError
        If a column is missing, a row repeats, ids differ in type, or no item of the truth is in a
        slice; and as in :func:`ulrec.evaluation.ranking.evaluate_ranking`.
    """
    _check("slices", slices, (ITEM_ID, SLICE), unique=(ITEM_ID, SLICE))
    _check("truth", truth, (USER_ID, ITEM_ID))
    if truth[ITEM_ID].dtype != slices[ITEM_ID].dtype:
        raise DataError(
            f"item_id is {truth[ITEM_ID].dtype} in the truth and {slices[ITEM_ID].dtype} in the "
            "slices; cast one"
        )
    num_users = truth[USER_ID].n_unique()
    summaries, values, empty = [], [], []
    for part in slices.partition_by(SLICE, maintain_order=True):
        name = part[SLICE][0]
        own = truth.join(part, on=ITEM_ID, how="semi", maintain_order="left")
        if own.is_empty():
            empty.append(str(name))
            continue
        result = evaluate_ranking(
            recommendations, own, ks=ks, metrics=metrics, seed=seed, num_resamples=num_resamples
        )
        label = pl.lit(name).alias(SLICE)
        left_out = pl.lit(num_users - result.num_users, pl.Int64).alias("num_left_out")
        num_pairs = pl.lit(len(own), pl.Int64).alias("num_pairs")
        summaries.append(result.summary.select(label, pl.all(), left_out, num_pairs))
        values.append(result.per_user.select(USER_ID, label, METRIC, K, VALUE))
    if not summaries:
        raise DataError("no item of the truth is in a slice; check the ids")
    return ItemSlices(
        summary=pl.concat(summaries),
        per_user=pl.concat(values),
        num_pairs_without_slice=len(truth.join(slices, on=ITEM_ID, how="anti")),
        empty=tuple(empty),
    )


def _summary(values: pl.DataFrame, seed: int, num_resamples: int | None) -> pl.DataFrame:
    """Return [metric, k, mean, low, high, num_users]; figures of the same users share resamples."""
    parts = values.partition_by(METRIC, K, maintain_order=True)
    rows = []
    for same in _same_users(parts):
        matrix = np.stack([parts[i][VALUE].to_numpy() for i in same], axis=1)
        ends: list[tuple[float | None, float | None]] = [(None, None)] * len(same)
        if num_resamples is not None and len(matrix) > 1:
            intervals = bootstrap_intervals(matrix, seed=seed, num_resamples=num_resamples)
            ends = [(interval.low, interval.high) for interval in intervals]
        rows += [
            (i, parts[i][METRIC][0], parts[i][K][0], mean, low, high, len(matrix))
            for i, mean, (low, high) in zip(same, matrix.mean(axis=0).tolist(), ends, strict=True)
        ]
    schema = {METRIC: pl.String, K: pl.Int64, MEAN: pl.Float64, LOW: pl.Float64, HIGH: pl.Float64}
    return pl.DataFrame(
        [row[1:] for row in sorted(rows)], {**schema, NUM_USERS: pl.Int64}, orient="row"
    )


def _same_users(parts: Sequence[pl.DataFrame]) -> list[list[int]]:
    """Return the numbers of the tables, grouped where their users are the same in one order."""
    groups: list[list[int]] = []
    for i, part in enumerate(parts):
        for group in groups:
            if parts[group[0]][USER_ID].equals(part[USER_ID]):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _check(
    name: str, table: pl.DataFrame, columns: Sequence[str], *, unique: Sequence[str] = ()
) -> None:
    check_columns(name, table, columns)
    if unique and (num := int(table.select(unique).is_duplicated().sum())):
        raise DataError(f"{num} rows of the {name} share {list(unique)}; one each is needed")
