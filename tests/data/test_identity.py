from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ulrec.data.factors import Factors
from ulrec.data.identity import difference, require_same_factors
from ulrec.data.ids import IdMap
from ulrec.errors import DataError


def make(**changes) -> Factors:
    fields = {
        "user_factors": np.array([[3, 4], [0, 0], [6, 8]], np.float32),
        "item_factors": np.array([[1, 0], [0, 2]], np.float32),
        "users": IdMap(["a", "b", "c"]),
        "items": IdMap([1, 2]),
        "can_fold_in": True,
        "info": {"model": "als"},
    }
    return Factors(**{**fields, **changes})


def test_identity_by_hand():
    identity = make().identity
    assert (identity.model, identity.num_factors) == ("als", 2)
    assert identity.user_norm == 7.5  # of 5 and 10; zeros stand for nothing known
    assert identity.item_norm == 1.5
    assert identity.users == IdMap(["a", "b", "c"]).fingerprint
    assert len(identity.fingerprint) == 16


def test_the_fingerprint_is_kept_on_disk_and_changes_with_each_part(tmp_path):
    factors = make()
    factors.save(tmp_path / "f")
    assert Factors.load(tmp_path / "f").identity == factors.identity
    others = [
        make(info={"model": "bpr"}),
        make(users=IdMap(["a", "c", "b"])),
        make(items=IdMap([1, 3])),
        make(user_factors=factors.user_factors * np.float32(1.01)),
        make(item_factors=factors.item_factors * np.float32(1.01)),
        make(
            user_factors=np.pad(factors.user_factors, ((0, 0), (0, 1))),
            item_factors=np.pad(factors.item_factors, ((0, 0), (0, 1))),
        ),
    ]
    found = {f.identity.fingerprint for f in [factors, *others]}
    assert len(found) == 7


def test_differences_are_named():
    factors = make()
    assert difference(factors, make()) == {}
    assert difference(factors, make(info={})) == {"model": "the model is unknown, expected als"}
    other = make(users=IdMap(["a", "x", "c"]))
    assert difference(factors, other) == {
        "users": "1 users are missing, such as 'b' and 1 users are extra, such as 'x'"
    }
    turned = make(items=IdMap([2, 1]), item_factors=factors.item_factors[::-1].copy())
    assert difference(factors, turned) == {"items": "the items are the same in another order"}
    assert difference(factors, make(items=IdMap(["1", "2"]))) == {
        "items": "ids of items are str, expected int"
    }
    longer = make(user_factors=factors.user_factors * np.array([[1], [1], [2]], np.float32))
    assert difference(factors, longer) == {
        "user_norm": "the norms of 1 of 3 users moved, most that of 'c' from 10 to 20"
    }
    wide = make(
        user_factors=np.pad(factors.user_factors, ((0, 0), (0, 1))),
        item_factors=np.pad(factors.item_factors, ((0, 0), (0, 1))),
    )
    assert difference(factors, wide) == {"num_factors": "they have 3 dimensions, expected 2"}


def test_other_factors_are_refused():
    factors = make()
    other = dataclasses.replace(factors, info={"model": "bpr"}, users=IdMap(["a", "b", "d"]))
    message = "not these: the model is bpr, expected als; 1 users are missing.*; fit again"
    with pytest.raises(DataError, match=message):
        require_same_factors(factors, other, what="not these", remedy="fit again")
    require_same_factors(factors, other, what="", remedy="", fields=("items", "num_factors"))
