from __future__ import annotations

import numpy as np
import pytest

from ulrec.data.ids import IdMap
from ulrec.errors import DataError


@pytest.mark.parametrize("ids", [["b", "a", "ü", "a b"], [7, -3, 2**62, 0]])
def test_round_trip(tmp_path, ids):
    items = IdMap(ids)
    assert items[:].tolist() == ids
    assert items.rows(ids).tolist() == [0, 1, 2, 3]
    assert items.rows(np.array(ids)[[2, 0]]).tolist() == [2, 0]
    items.save(tmp_path / "ids.parquet")
    again = IdMap.load(tmp_path / "ids.parquet")
    assert again == items
    assert again.fingerprint == items.fingerprint


def test_fingerprint_follows_order_and_type():
    assert IdMap([1, 2]).fingerprint != IdMap([2, 1]).fingerprint
    assert IdMap([1, 2]).fingerprint != IdMap(["1", "2"]).fingerprint


def test_unknown_ids():
    items = IdMap(["a", "b"])
    assert items.find(["b", "c"]).tolist() == [1, -1]
    with pytest.raises(DataError, match="1 of 2 ids are unknown, such as 'c'"):
        items.rows(["b", "c"])
    assert items.find([]).tolist() == []
    assert IdMap([]).find(["a"]).tolist() == [-1]


def test_a_longer_id_is_no_prefix():
    assert IdMap(["ab", "b"]).find(["a", "abc"]).tolist() == [-1, -1]


def test_minus_one_names_nobody():
    items = IdMap(["a", "b"])
    with pytest.raises(DataError, match="-1 stands for unknown"):
        items[items.find(["a", "z"])]


def test_ids_taken_out_of_an_array_are_ids():
    items = IdMap(["a", "b"])
    assert items.rows([items.ids[1], items.ids[0]]).tolist() == [1, 0]
    assert items.rows(list(items[[1]])).tolist() == [1]
    assert IdMap([np.int32(4), 5]).rows([5]).tolist() == [1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "a", "a"], "2 repeat, such as 'a'"),
        ([1, 1], "1 repeat, such as 1"),
        (["a", 1], "all str or all int, got int, str"),
        (["a", None], "got NoneType, str"),
        ([1.0, 2.0], "got float"),
        ([True, False], "got bool"),
        (np.array([True, False]), "got bool"),
        ([2**63], "fit into int64"),
        (np.array([2**63], dtype=np.uint64), "fit into int64"),
        ("abc", r"got the single id 'abc'; write \['abc'\]"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(DataError, match=message):
        IdMap(ids)


def test_types_do_not_mix():
    with pytest.raises(DataError, match="of type str here, got int"):
        IdMap(["1"]).find([1])
