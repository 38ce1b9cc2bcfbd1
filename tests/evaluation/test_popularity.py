"""Novelty, popularity bias, serendipity by hand, and evening popularity out."""

import math

import numpy as np
import polars as pl
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.popularity import (
    even_out_popularity,
    inverse_user_frequency,
    mean_popularity,
    serendipity,
    surprisal,
)

USERS = np.array([0, 0, 1])
ITEMS = np.array([0, 1, 1])
TRAIN = {"popularity": [8, 2, 0], "num_train_users": 8}


def test_novelty() -> None:
    # log2(8/8) = 0, log2(8/2) = 2, over log2(8) = 3
    np.testing.assert_allclose(inverse_user_frequency(USERS, ITEMS, **TRAIN), [1, 2])
    np.testing.assert_allclose(surprisal(USERS, ITEMS, **TRAIN), [1 / 3, 2 / 3])
    one, cold = np.array([0]), np.array([2])
    assert surprisal(one, cold, **TRAIN).tolist() == [1.0]
    assert inverse_user_frequency(one, cold, **TRAIN).tolist() == [3.0]


def test_mean_popularity() -> None:
    assert mean_popularity(USERS, ITEMS, popularity=[8, 2, 0]).tolist() == [5, 2]


def test_serendipity() -> None:
    # Popularity ranks 1, 2, 2, 3 and none: pu = 5/5, 4/5, 4/5, 3/5, 0.
    gains = serendipity(
        np.array([1, 1, 2, 2, 3, 5]), np.array([0, 2, 1, 3, 4, 4]), popularity=[9, 4, 4, 1, 0]
    )
    expected = [0, 5 / 5 - 4 / 5, 0, 4 / 5 - 3 / 5, 3 / 5, 1 / 5]
    np.testing.assert_allclose(gains, expected, atol=1e-12)


def test_bad_popularity() -> None:
    with pytest.raises(DataError, match=r"lie in 0..num_train_users .* got 2..9 and 8"):
        surprisal(USERS, ITEMS, popularity=[9, 2], num_train_users=8)
    with pytest.raises(DataError, match="at least 2"):
        surprisal(USERS, ITEMS, popularity=[1, 1], num_train_users=1)
    with pytest.raises(DataError, match="rows of popularity, of which are 1"):
        mean_popularity(USERS, ITEMS, popularity=[1])
    with pytest.raises(DataError, match="popularity has to be counts"):
        serendipity(np.array([1]), np.array([0]), popularity=[math.nan, 1])


def test_evening_out() -> None:
    """Users per item 1, 1, 2, 3 and 20: quartiles 1 and 3, so that 3 + 1.5 * 2 = 6 remain."""
    sizes = {"a": 1, "b": 1, "c": 2, "d": 3, "e": 20}
    table = pl.DataFrame(
        [(f"u{u}", item, u) for item, n in sizes.items() for u in range(n)],
        ["user_id", "item_id", "timestamp"],
        orient="row",
    )
    kept = even_out_popularity(table, seed=0)
    counts = dict(kept["item_id"].value_counts().rows())
    assert counts == {"a": 1, "b": 1, "c": 2, "d": 3, "e": 6}
    assert kept.join(table, on=table.columns, how="semi").equals(kept)
    assert kept.equals(even_out_popularity(table, seed=0))
    assert not kept.equals(even_out_popularity(table, seed=1))
    assert len(even_out_popularity(table, seed=0, iqr_factor=0)) == 1 + 1 + 2 + 3 + 3
    assert even_out_popularity(table.clear(), seed=0).is_empty()


def test_evening_out_refuses() -> None:
    table = pl.DataFrame({"user_id": [1, 1], "item_id": [2, 2]})
    with pytest.raises(DataError, match="repeat"):
        even_out_popularity(table, seed=0)
    with pytest.raises(DataError, match="iqr_factor"):
        even_out_popularity(table[:1], seed=0, iqr_factor=-1)
