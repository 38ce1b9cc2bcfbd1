from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.errors import DataError

TABLE = pl.DataFrame({"user_id": ["b", "a", "b"], "item_id": [30, 10, 10]})


def test_from_table():
    interactions = Interactions.from_table(TABLE)
    assert interactions.users == IdMap(["a", "b"])
    assert interactions.items == IdMap([10, 30])
    np.testing.assert_array_equal(interactions.user_items.toarray(), [[1, 0], [1, 1]])
    assert interactions.user_items.dtype == np.float32
    assert [array.tolist() for array in interactions.pairs()] == [[0, 1, 1], [0, 0, 1]]
    assert interactions.history(1).tolist() == [0, 1]
    assert interactions.popularity().tolist() == [2, 1]


def test_given_maps_keep_empty_rows_and_columns():
    users, items = IdMap(["z", "b", "a"]), IdMap([5, 10, 30])
    interactions = Interactions.from_table(TABLE, users=users, items=items)
    expected = [[0, 0, 0], [0, 1, 1], [0, 1, 0]]
    np.testing.assert_array_equal(interactions.user_items.toarray(), expected)
    assert (interactions.num_users, interactions.num_items) == (3, 3)
    assert interactions.history(0).tolist() == []
    assert interactions.popularity().tolist() == [0, 2, 1]


def test_weights():
    weighted = TABLE.with_columns(weight=pl.Series([0.5, 2.0, 3.0]))
    interactions = Interactions.from_table(weighted)
    np.testing.assert_array_equal(interactions.user_items.toarray(), [[2, 0], [3, 0.5]])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), None, 1e-60])
def test_bad_weights(weight):
    table = TABLE.with_columns(weight=pl.Series([1.0, weight, 1.0]))
    with pytest.raises(DataError, match="positive and finite"):
        Interactions.from_table(table)


def test_repeated_pairs():
    with pytest.raises(DataError, match=r"1 \(user, item\) pairs repeat"):
        Interactions.from_table(pl.concat([TABLE, TABLE[:1]]))


def test_unknown_item():
    with pytest.raises(DataError, match="1 of 3 ids are unknown, such as 30"):
        Interactions.from_table(TABLE, items=IdMap([10]))


def test_shape_has_to_agree():
    matrix = Interactions.from_table(TABLE).user_items
    with pytest.raises(DataError, match=r"shape \(2, 2\), the id maps say \(3, 2\)"):
        Interactions(user_items=matrix, users=IdMap([1, 2, 3]), items=IdMap([1, 2]))
