from __future__ import annotations

import numpy as np
import pytest

from ulrec.checkpoint import open_artefact
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap
from ulrec.errors import DataError


def make(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "user_factors": rng.standard_normal((3, 2)).astype(np.float32),
        "item_factors": rng.standard_normal((4, 2)).astype(np.float32),
        "users": IdMap(["a", "b", "c"]),
        "items": IdMap([1, 2, 3, 4]),
        "can_fold_in": True,
    }
    return Factors(**{**fields, **changes})


def test_round_trip(tmp_path):
    factors = make(info={"model": "ease"})
    fingerprint = factors.save(tmp_path / "f", made_from={"interactions": "abc"})
    again = Factors.load(tmp_path / "f")
    np.testing.assert_array_equal(again.user_factors, factors.user_factors)
    np.testing.assert_array_equal(again.item_factors, factors.item_factors)
    assert (again.users, again.items) == (factors.users, factors.items)
    assert again.can_fold_in
    assert again.info["model"] == "ease"
    assert again.fingerprint == fingerprint
    assert again.num_factors == 2
    assert open_artefact(tmp_path / "f", kind="factors").made_from == {"interactions": "abc"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_factors": np.zeros((3, 2))}, "has to be a float32 matrix, got float64"),
        ({"user_factors": np.zeros(3, np.float32)}, "has to be a float32 matrix"),
        ({"user_factors": np.zeros((2, 2), np.float32)}, "user_factors has 2 rows, its id map 3"),
        ({"item_factors": np.zeros((4, 3), np.float32)}, "users have 2 factors, items 3"),
        ({"item_factors": np.full((4, 2), np.nan, np.float32)}, "4 rows of item_factors hold NaN"),
    ],
)
def test_bad_factors(changes, message):
    with pytest.raises(DataError, match=message):
        make(**changes)
