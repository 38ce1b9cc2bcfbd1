"""Slices of users and items: counts and means by hand, and nobody goes missing."""

import numpy as np
import polars as pl
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.evaluation.slices import (
    evaluate_item_slices,
    history_slices,
    popularity_slices,
    summarize_slices,
)
from ulrec.evaluation.statistics import bootstrap_mean

VALUES = pl.DataFrame(
    {
        "user_id": ["a", "b", "c", "d"] * 2,
        "metric": ["recall"] * 8,
        "k": [1] * 4 + [2] * 4,
        "value": [0.0, 0.5, 1.0, 0.0, 0.25, 0.5, 1.0, 0.75],
    }
)
SLICES = pl.DataFrame(
    {"user_id": ["b", "a", "c", "b", "z"], "slice": ["warm", "warm", "cold", "loyal", "cold"]}
)


def test_slices_of_users_by_hand() -> None:
    result = summarize_slices(VALUES, SLICES, seed=3)
    means = {(r["slice"], r["k"]): (r["mean"], r["num_users"]) for r in result.summary.to_dicts()}
    assert means == {
        ("warm", 1): (0.25, 2),
        ("warm", 2): (0.375, 2),
        ("cold", 1): (1.0, 1),
        ("cold", 2): (1.0, 1),
        ("loyal", 1): (0.5, 1),
        ("loyal", 2): (0.5, 1),
    }
    assert result.num_without_slice == 1  # d
    assert result.num_without_values == 1  # z
    warm = result.summary.row(0, named=True)
    interval = bootstrap_mean([0.0, 0.5], seed=3)
    assert (warm["low"], warm["high"]) == (interval.low, interval.high)
    alone = result.summary.filter(slice="cold")
    assert alone["low"].to_list() == alone["high"].to_list() == [None, None]


def test_slices_without_intervals_and_with_fewer_users_in_one_figure() -> None:
    fewer = VALUES.filter((pl.col("k") == 1) | (pl.col("user_id") != "a"))
    result = summarize_slices(fewer, SLICES.filter(slice="warm"), seed=0, num_resamples=None)
    assert result.summary["num_users"].to_list() == [2, 1]
    assert result.summary["mean"].to_list() == [0.25, 0.5]
    assert result.summary["high"].null_count() == 2


@pytest.mark.parametrize(
    ("values", "slices", "message"),
    [
        (VALUES, pl.concat([SLICES, SLICES[:1]]), "2 rows of the slices share"),
        (pl.concat([VALUES, VALUES[:1]]), SLICES, "2 rows of the per-user values share"),
        (VALUES, SLICES.filter(pl.col("user_id") == "z"), "no user of the slices has values"),
        (VALUES, SLICES.drop("slice"), r"slices lack the columns \['slice'\]"),
        (VALUES, SLICES.with_columns(slice=pl.lit(None, pl.String)), "nulls"),
    ],
)
def test_slices_of_users_refuse(values, slices, message) -> None:
    with pytest.raises(DataError, match=message):
        summarize_slices(values, slices, seed=0)


def test_slices_of_ids_of_another_type_are_refused() -> None:
    with pytest.raises(DataError, match="user_id is String in the values and Int64"):
        summarize_slices(VALUES, pl.DataFrame({"user_id": [1], "slice": ["x"]}), seed=0)
    with pytest.raises(DataError, match="item_id is String in the truth and Int64"):
        evaluate_item_slices(SHOWN, LIKED, ITEMS.with_columns(item_id=pl.int_range(4)), seed=0)


def test_history_edges() -> None:
    sizes = {"a": 0, "b": 1, "c": 4, "d": 5, "e": 19, "f": 20}
    rows = [(user, item) for user, n in sizes.items() for item in range(n)]
    history = pl.DataFrame([*rows, ("b", 0)], ["user_id", "item_id"], orient="row")
    table = history_slices(history, pl.Series(list(sizes)))
    assert table["user_id"].to_list() == list(sizes)
    assert table["slice"].to_list() == ["0", "1-4", "1-4", "5-19", "5-19", "20+"]


def test_popularity_thirds_keep_equals_together() -> None:
    """Counts 4, 2, 2, 1, 0 of 9: before them lie 0/9, 4/9, 4/9 and 8/9."""
    train = pl.DataFrame({"user_id": range(9), "item_id": list("aaaabbccd")})
    table = popularity_slices(train, pl.Series(list("edcba")))
    assert dict(table.rows()) == {"a": "head", "b": "torso", "c": "torso", "d": "tail", "e": "cold"}
    with pytest.raises(DataError, match="no train interaction"):
        popularity_slices(train, pl.Series(["z"]))


SHOWN = pl.DataFrame(
    {
        "user_id": ["u", "u", "u", "v", "v"],
        "item_id": ["a", "b", "c", "c", "a"],
        "score": [3.0, 2.0, 1.0, 2.0, 1.0],
        "rank": [1, 2, 3, 1, 2],
    }
)
LIKED = pl.DataFrame({"user_id": ["u", "u", "v", "w"], "item_id": ["a", "c", "b", "x"]})
ITEMS = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "slice": ["head", "head", "tail", "rare"]})


def test_slices_of_items_by_hand() -> None:
    result = evaluate_item_slices(SHOWN, LIKED, ITEMS, ks=(2,), metrics=("recall",), seed=0)
    rows = {row["slice"]: row for row in result.summary.to_dicts()}
    # head: u finds a, v does not find b; tail: u's c stands at rank 3.
    assert (rows["head"]["mean"], rows["head"]["num_users"], rows["head"]["num_pairs"]) == (
        0.5,
        2,
        2,
    )
    assert (rows["tail"]["mean"], rows["tail"]["num_users"], rows["tail"]["num_pairs"]) == (0, 1, 1)
    assert (rows["head"]["num_left_out"], rows["tail"]["num_left_out"]) == (1, 2)
    assert result.num_pairs_without_slice == 1  # x
    assert result.empty == ("rare",)
    assert result.per_user.columns == ["user_id", "slice", "metric", "k", "value"]


def test_a_slice_of_all_items_is_the_whole() -> None:
    rng = np.random.default_rng(0)
    truth = pl.DataFrame({"user_id": ["u", "v"], "item_id": rng.choice(["a", "b"], 2)})
    everything = pl.DataFrame({"item_id": list("abcx"), "slice": ["all"] * 4})
    sliced = evaluate_item_slices(SHOWN, truth, everything, ks=(2,), seed=0)
    whole = evaluate_ranking(SHOWN, truth, ks=(2,), seed=0)
    assert sliced.summary.select(whole.summary.columns).equals(whole.summary)


def test_slices_of_items_refuse() -> None:
    with pytest.raises(DataError, match="no item of the truth"):
        evaluate_item_slices(SHOWN, LIKED, ITEMS.filter(slice="rare"), seed=0)
    with pytest.raises(DataError, match="2 rows of the slices share"):
        evaluate_item_slices(SHOWN, LIKED, pl.concat([ITEMS, ITEMS[:1]]), seed=0)
