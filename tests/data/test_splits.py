from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.config import load_config
from ulrec.data.splits import SPLITS, SplitConfig, deduplicate, global_time, leave_last, split
from ulrec.errors import ConfigError, DataError


def random_interactions(seed, *, ties=False):
    rng = np.random.default_rng(seed)
    pairs = rng.choice(40 * 30, size=400, replace=False)
    times = rng.integers(0, 12 if ties else 10**9, size=400)
    return pl.DataFrame({"user_id": pairs // 30, "item_id": pairs % 30, "timestamp": times})


def rows(table):
    return sorted(table.rows())


HISTORY = pl.DataFrame(
    {
        "user_id": ["a"] * 4 + ["b"] * 2 + ["c"],
        "item_id": [1, 2, 3, 4, 1, 5, 9],
        "timestamp": [10, 40, 20, 30, 100, 90, 1],
    }
)


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("ties", [False, True])
def test_every_row_is_in_exactly_one_part(name, ties):
    interactions = random_interactions(0, ties=ties)
    parts = split(SplitConfig(name=name, k_validation=1), interactions)
    whole = pl.concat([parts.train, parts.validation, parts.test])
    assert rows(whole) == rows(interactions)
    assert parts.info["name"] == name
    assert parts.info["test"]["num_rows"] == len(parts.test) > 0
    assert parts.info["validation"]["num_rows"] == len(parts.validation) > 0


@pytest.mark.parametrize("name", SPLITS)
def test_the_order_of_rows_does_not_matter(name):
    interactions = random_interactions(1, ties=True)
    config = SplitConfig(name=name, k_test=2, k_validation=1, seed=3)
    first = split(config, interactions)
    second = split(config, interactions.sample(fraction=1, shuffle=True, seed=5))
    for part in ("train", "validation", "test"):
        assert getattr(first, part).equals(getattr(second, part))
    assert first.info == second.info


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_global_time_leaks_nothing(seed, ties):
    parts = split(SplitConfig(), random_interactions(seed, ties=ties))
    assert parts.train["timestamp"].max() < parts.validation["timestamp"].min()
    assert parts.validation["timestamp"].max() < parts.test["timestamp"].min()
    assert not parts.info["leaks_global_time"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_leave_last_leaks_nothing_of_the_same_user(seed, ties):
    parts = leave_last(random_interactions(seed, ties=ties), k_test=2, k_validation=1, seed=seed)
    for user in parts.test["user_id"].unique():
        mine = [
            part.filter(pl.col("user_id") == user)["timestamp"]
            for part in (parts.train, parts.validation, parts.test)
        ]
        assert [len(times) for times in mine[1:]] == [1, 2]
        assert mine[0].max() <= mine[1].min() <= mine[1].max() <= mine[2].min()


def test_leave_last_by_hand():
    parts = leave_last(HISTORY, k_test=1, k_validation=1)
    assert rows(parts.test) == [("a", 2, 40)]
    assert rows(parts.validation) == [("a", 4, 30)]
    assert rows(parts.train.filter(pl.col("user_id") == "a")) == [("a", 1, 10), ("a", 3, 20)]
    assert parts.info["num_users_too_few"] == 2
    assert parts.info["leaks_global_time"]
    assert parts.info["share_of_test_older_than_train_end"] == 1.0
    assert parts.info["test"]["num_cold_items"] == 1
    assert parts.info["test"]["num_cold_users"] == 0
    assert leave_last(HISTORY).info["num_users_too_few"] == 1


def test_ties_are_broken_by_the_seed_and_counted():
    users, items = np.divmod(np.arange(200), 5)
    table = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": np.zeros(200, int)})
    chosen = [leave_last(table, seed=seed).test for seed in (0, 0, 1)]
    assert chosen[0].equals(chosen[1])
    assert not chosen[0].equals(chosen[2])
    counts = np.bincount(chosen[0]["item_id"].to_numpy(), minlength=5)
    assert counts.min() > 0
    assert leave_last(table).info["num_users_tied_at_cut"] == 40
    assert leave_last(HISTORY).info["num_users_tied_at_cut"] == 0


def test_global_time_by_hand():
    parts = global_time(HISTORY, test_from=40, validation_from=30)
    assert rows(parts.test) == [("a", 2, 40), ("b", 1, 100), ("b", 5, 90)]
    assert rows(parts.validation) == [("a", 4, 30)]
    assert rows(parts.train) == [("a", 1, 10), ("a", 3, 20), ("c", 9, 1)]
    expected = {
        "num_rows": 3,
        "num_users": 2,
        "num_items": 3,
        "num_cold_users": 1,
        "num_cold_items": 2,
        "num_rows_cold": 3,
        "time_first": 40,
        "time_last": 100,
    }
    assert parts.info["test"] == expected
    assert parts.info["test_share"] == 3 / 7
    assert len(global_time(HISTORY, test_from=40).validation) == 0


def test_shares_are_of_all_rows():
    table = random_interactions(2)
    parts = global_time(table, test_share=0.25, validation_share=0.1)
    assert (len(parts.test), len(parts.validation), len(parts.train)) == (100, 40, 260)
    parts = global_time(table, test_from=parts.info["test_from"], validation_share=0.1)
    assert (len(parts.test), len(parts.validation)) == (100, 40)


def test_config_prefers_moments_to_shares():
    config = load_config(SplitConfig, None, ["test_from=40", "validation_from=30"])
    assert split(config, HISTORY).info["test_from"] == 40
    config = load_config(SplitConfig, None, ["test_share=0.4", "validation_share=0"])
    parts = split(config, HISTORY)
    assert len(parts.test) == 3
    assert len(parts.validation) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "give either 'test_from' or 'test_share', got None and None"),
        ({"test_from": 3, "test_share": 0.1}, ConfigError, "give either"),
        ({"test_share": 1.0}, ConfigError, "below 1 together, got 1.0 and 0.0"),
        ({"test_share": 0.6, "validation_share": 0.4}, ConfigError, "below 1 together"),
        ({"test_share": -0.1}, ConfigError, "at least 0"),
        ({"test_from": 40, "validation_from": 50}, ConfigError, r"\(50\) has to begin before test"),
        (
            {"test_share": 0.1, "validation_from": 3, "validation_share": 0.1},
            ConfigError,
            "give 'validation_from' or 'validation_share'",
        ),
        ({"test_from": 101}, DataError, "test would be empty: the interactions span 1 to 100"),
        ({"test_from": 1}, DataError, "train would be empty"),
        ({"test_from": 50, "validation_from": 0}, DataError, "train would be empty"),
    ],
)
def test_bad_boundaries(options, error, message):
    with pytest.raises(error, match=message):
        global_time(HISTORY, **options)


@pytest.mark.parametrize("name", SPLITS)
def test_tables_are_checked(name):
    config = SplitConfig(name=name)
    with pytest.raises(DataError, match="needs the column 'timestamp'"):
        split(config, HISTORY.drop("timestamp"))
    with pytest.raises(DataError, match="deduplicate"):
        split(config, pl.concat([HISTORY, HISTORY[:1]]))


def test_leave_last_needs_somebody_with_enough():
    with pytest.raises(DataError, match="no user has more than 4 interactions"):
        leave_last(HISTORY, k_test=4)
    with pytest.raises(ConfigError, match="'k_test' has to be at least 1"):
        leave_last(HISTORY, k_test=0)
    with pytest.raises(ConfigError, match="'k_test' has to be at least 1"):
        SplitConfig(k_test=0)


def test_deduplicate_by_time_then_row_order():
    table = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 2, 2],
            "item_id": [7, 8, 7, 7, 7],
            "timestamp": [30, 5, 10, 4, 4],
            "weight": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )
    assert deduplicate(table, keep="first")["weight"].to_list() == [2.0, 3.0, 4.0]
    assert deduplicate(table, keep="last")["weight"].to_list() == [1.0, 2.0, 5.0]
    untimed = table.drop("timestamp")
    assert deduplicate(untimed, keep="first")["weight"].to_list() == [1.0, 2.0, 4.0]
    assert deduplicate(untimed, keep="last")["weight"].to_list() == [2.0, 3.0, 5.0]
    with pytest.raises(DataError, match="no column 'item_id'"):
        deduplicate(table.drop("item_id"), keep="first")
