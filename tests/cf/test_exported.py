"""Arrays and maps laid out as the libraries hand them out (checked against RecTools 0.19, Cornac
3.0.1, rectools-lightfm 1.17.3 and RecBole 1.2.1)."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from ulrec.cf.exported import (
    from_cornac,
    from_lightfm,
    from_recbole,
    from_rectools,
    write_exported,
)
from ulrec.cf.foreign import Foreign
from ulrec.checkpoint import open_artefact
from ulrec.errors import DataError

X = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], np.float32)
Y = np.array([[2.0, 1.0], [0.0, 4.0]], np.float32)
SCORES = [[4.0, 8.0], [0.0, -4.0], [6.0, 0.0]]  # X @ Y.T by hand


def products(factors) -> list[list[float]]:
    return (factors.user_factors @ factors.item_factors.T).tolist()


def test_rectools_has_arrays_of_external_ids():
    users = np.array(["u7", "u3", "u5"], dtype=object)  # object arrays, in the order of rows
    factors = from_rectools(X, Y, user_external_ids=users, item_external_ids=np.array([30, 10]))
    assert factors.users.ids.tolist() == ["u7", "u3", "u5"]
    assert factors.items.ids.tolist() == [30, 10]
    assert products(factors) == SCORES
    assert factors.info["model"] == "rectools" and not factors.can_fold_in


def test_cornac_has_maps_of_ids_to_rows():
    uid_map = OrderedDict([("c", 2), ("a", 0), ("b", 1)])
    factors = from_cornac(X, Y, uid_map=uid_map, iid_map={"j": 1, "i": 0})
    assert factors.users.ids.tolist() == ["a", "b", "c"]
    assert factors.items.ids.tolist() == ["i", "j"]
    assert products(factors) == SCORES


@pytest.mark.parametrize("as_map", [False, True])
def test_recbole_pads_with_row_zero(as_map):
    padding = np.full((1, 2), 9.0, np.float32)
    users, items = np.array(["[PAD]", "a", "b", "c"]), np.array(["[PAD]", "1", "2"])
    if as_map:
        users, items = ({t: row for row, t in enumerate(tokens)} for tokens in (users, items))
    factors = from_recbole(
        np.vstack([padding, X]), np.vstack([padding, Y]), user_tokens=users, item_tokens=items
    )
    assert factors.users.ids.tolist() == ["a", "b", "c"]
    assert factors.items.ids.tolist() == ["1", "2"]
    assert products(factors) == SCORES


def test_lightfm_has_biases():
    b_user, b_item = np.array([0.5, 0.0, -1.0], np.float32), np.array([10.0, 20.0], np.float32)
    factors = from_lightfm(
        (b_user, X), (b_item, Y), user_id_map={"a": 0, "b": 1, "c": 2}, item_id_map={"i": 0, "j": 1}
    )
    assert factors.num_factors == 4
    # x . y + b_user + b_item
    assert products(factors) == [[14.5, 28.5], [10.0, 16.0], [15.0, 19.0]]


def test_maps_that_do_not_fit_the_matrix_are_refused():
    with pytest.raises(DataError, match=r"user_external_ids names 2 ids, the matrix is \(3, 2\)"):
        from_rectools(X, Y, user_external_ids=["a", "b"], item_external_ids=["i", "j"])
    with pytest.raises(DataError, match="iid_map has to name the rows 0 to 1 once each, got row 2"):
        from_cornac(X, Y, uid_map={"a": 0, "b": 1, "c": 2}, iid_map={"i": 0, "j": 2})
    with pytest.raises(DataError, match="uid_map has to name the rows 0 to 2 once each, got row 0"):
        from_cornac(X, Y, uid_map={"a": 0, "b": 0, "c": 2}, iid_map={"i": 0, "j": 1})
    with pytest.raises(DataError, match=r"user_tokens has to begin with .*\[PAD\].*, .* with 'a'"):
        from_recbole(X, Y, user_tokens=["a", "b", "c"], item_tokens=["[PAD]", "i"])
    with pytest.raises(DataError, match="begins with nothing"):
        from_recbole(X, Y, user_tokens=[], item_tokens=["[PAD]", "i"])
    ids = {"user_id_map": {"a": 0, "b": 1, "c": 2}, "item_id_map": {"i": 0, "j": 1}}
    with pytest.raises(DataError, match=r"item_id_map names 2 ids, the matrix is \(3, 1\)"):
        from_lightfm((np.zeros(3), X), (np.zeros(3), Y), **ids)


def test_bad_numbers_and_dimensions_are_refused():
    ids = {"user_external_ids": ["a", "b", "c"], "item_external_ids": ["i", "j"]}
    with pytest.raises(DataError, match="1 rows of user_factors hold NaN"):
        from_rectools(np.where(X == 3, np.nan, X), Y, **ids)
    with pytest.raises(DataError, match="users have 2 factors, items 1"):
        from_rectools(X, Y[:, :1], **ids)


def test_what_is_written_is_what_a_run_reads(checkerboard, tmp_path):
    rng = np.random.default_rng(0)
    users, items = checkerboard.users.ids, checkerboard.items.ids
    given = from_rectools(
        rng.normal(size=(25, 3)),
        rng.normal(size=(20, 3)),
        user_external_ids=users[::-1],
        item_external_ids=items,
    )
    config = write_exported(given, tmp_path / "out")
    model = Foreign(config).fit(checkerboard)
    np.testing.assert_array_equal(model.user_factors_, given.user_factors[::-1])
    np.testing.assert_array_equal(model.item_factors_, given.item_factors)
    assert open_artefact(tmp_path / "out", kind="exported_factors").info == {"model": "rectools"}
