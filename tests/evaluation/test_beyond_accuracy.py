"""Diversity by hand, and the table of all."""

import math

import numpy as np
import polars as pl
import pytest

from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.evaluation.beyond_accuracy import (
    across_diversity,
    evaluate_beyond_accuracy,
    intra_list_diversity,
)
from ulrec.evaluation.exposure import exposure_entropy, gini


def test_diversity_by_hand() -> None:
    features = np.array([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    values = intra_list_diversity(
        np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 2, 1]), features=features
    )
    # 1 - cos: 1, 2, 1 for the three pairs; 2 for opposites; a single item has no pair.
    np.testing.assert_allclose(values, [4 / 3, 2, np.nan], atol=1e-12)


def _evaluate(table: pl.DataFrame, **changes):
    arguments = {
        "items": IdMap(["a", "b", "c", "d"]),
        "popularity": [8, 2, 1, 0],
        "num_train_users": 8,
        "features": np.eye(4),
        "ks": (1, 2),
        "seed": 0,
    }
    return evaluate_beyond_accuracy(table, **{**arguments, **changes})


TABLE = pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "b"], "rank": [1, 2, 1]})


def test_diversity_across_pictures_by_hand() -> None:
    # cosines: 0 between the axes, sqrt(1/2) of the diagonal with either
    found = across_diversity(np.array([[2.0, 0], [0, 1], [3, 3]]))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [1 - half / 2, 1 - half / 2, 1 - half])
    np.testing.assert_allclose(across_diversity(np.ones((4, 3))), 0, atol=1e-12)
    with pytest.raises(DataError, match="at least 2, got 1"):
        across_diversity(np.ones((1, 3)))


def test_table_of_all() -> None:
    result = _evaluate(TABLE)
    summary = {(r["metric"], r["k"]): r for r in result.summary.iter_rows(named=True)}
    assert summary["coverage", 1]["mean"] == 0.5
    assert summary["coverage", 1]["low"] is None
    assert summary["gini", 2]["mean"] == pytest.approx(gini([1, 2, 0, 0]))
    assert summary["entropy", 2]["mean"] == pytest.approx(exposure_entropy([1, 2]))
    assert summary["miuf", 2]["mean"] == pytest.approx((1 + 2) / 2)
    assert summary["popularity", 2]["mean"] == pytest.approx((5 + 2) / 2)
    assert ("serendipity", 2) not in summary
    assert summary["novelty", 2]["mean"] == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert summary["novelty", 2]["num_users"] == 2
    assert summary["diversity", 2]["mean"] == pytest.approx(1.0)
    assert summary["diversity", 2]["num_users"] == 1
    assert result.num_single == {1: 2, 2: 1}
    assert ("diversity", 1) not in summary
    per_user = result.per_user.filter((pl.col("metric") == "novelty") & (pl.col("k") == 2))
    assert dict(zip(per_user["user_id"], per_user["value"], strict=True)) == {
        "u": pytest.approx(math.log2(4) / 3 / 2),
        "v": pytest.approx(2 / 3),
    }


def test_serendipity_is_of_the_users_of_the_truth() -> None:
    truth = pl.DataFrame({"user_id": ["u", "u", "w"], "item_id": ["b", "d", "a"]})
    result = _evaluate(TABLE, truth=truth, features=None, num_resamples=None)
    serendipity = result.per_user.filter(pl.col("metric") == "serendipity")
    # b is second most popular of four: pu = 3/4 = p(2).
    assert serendipity.select("user_id", "k", "value").rows() == [
        ("u", 1, 0.0),
        ("w", 1, 0.0),
        ("u", 2, 0.0),
        ("w", 2, 0.0),
    ]
    first = TABLE.with_columns(rank=pl.Series([2, 1, 1]))
    result = _evaluate(first, truth=truth, features=None, num_resamples=None)
    serendipity = result.per_user.filter(pl.col("metric") == "serendipity")
    assert serendipity["value"].to_list() == [pytest.approx(1 - 3 / 4), 0, pytest.approx(1 / 8), 0]
    assert result.num_without_truth == 1  # v
    row = result.summary.row(by_predicate=pl.col("metric").eq("novelty") & pl.col("k").eq(1))
    assert row[3:] == (None, None, 2)
    assert result.num_single == {}


def test_bad_input() -> None:
    with pytest.raises(DataError, match="differ in type"):
        _evaluate(TABLE, truth=pl.DataFrame({"user_id": [1], "item_id": [2]}))
    with pytest.raises(DataError, match="ranks do not begin at 1"):
        _evaluate(TABLE.with_columns(rank=pl.lit(0)))
    with pytest.raises(DataError, match="unknown"):
        _evaluate(TABLE.with_columns(item_id=pl.lit("z")))
    with pytest.raises(DataError, match="popularity has 3 rows, the catalogue 4"):
        _evaluate(TABLE, popularity=[8, 2, 1])
    with pytest.raises(DataError, match="no recommendations"):
        _evaluate(TABLE.clear())
    with pytest.raises(DataError, match="repeat"):
        _evaluate(pl.concat([TABLE, TABLE]))
    with pytest.raises(DataError, match="k >= 1"):
        _evaluate(TABLE, ks=(0,))
    with pytest.raises(DataError, match=r"without \['rank'\]"):
        _evaluate(TABLE.drop("rank"))
