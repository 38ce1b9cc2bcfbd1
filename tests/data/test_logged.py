"""Logs and policies: what is accepted, and what each kind of bad input is told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.data.ids import IdMap
from ulrec.data.logged import Policy, softmax_policy, validate_log
from ulrec.errors import DataError

USERS, ITEMS = IdMap(["u", "v"]), IdMap(["a", "b", "c"])
TABLE = np.array([[0.5, 0.25, 0.25], [0.0, 0.2, 0.8]])


def policy(probabilities=TABLE):
    return Policy(probabilities=probabilities, users=USERS, items=ITEMS)


def log(**columns):
    rows = {
        "user_id": ["u", "v"],
        "item_id": ["a", "c"],
        "reward": [1, 0],
        "propensity": [0.5, 0.8],
        **columns,
    }
    return pl.DataFrame(rows)


def test_a_valid_log_keeps_its_rows_and_known_columns():
    table = validate_log(log(timestamp=[3, 4], page=["x", "y"]))
    assert table.columns == ["user_id", "item_id", "reward", "propensity", "timestamp"]
    assert table["reward"].to_list() == [1.0, 0.0]
    users, items = policy().logged(table)
    assert (users.tolist(), items.tolist()) == ([0, 1], [0, 2])


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.01, float("nan")])
def test_propensities_are_probabilities_above_zero(bad):
    with pytest.raises(DataError, match=r"\(0, 1\], 1 rows do not"):
        validate_log(log(propensity=[bad, 0.8]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (log().drop("propensity"), "never assumed to be uniform"),
        (log().drop("item_id"), "needs rows and the columns"),
        (log().clear(), "got 0 rows"),
        (log(reward=[float("nan"), 0.0]), "a missing reward is not 0"),
        (log(reward=[None, 0.0]), "'reward' of the log is null in 1 rows"),
        (log(reward=["1", "0"]), "has to be numbers"),
        (log(user_id=["u", "u"], item_id=["a", "a"]), "add the column 'timestamp'"),
        (
            log(user_id=["u", "u"], item_id=["a", "a"], timestamp=[1, 1]),
            "2 rows of the log share user_id [+] item_id [+] timestamp; drop the copies",
        ),
    ],
)
def test_a_bad_log_is_refused_with_the_reason(table, message):
    with pytest.raises(DataError, match=message):
        validate_log(table)


def test_an_item_shown_again_later_is_no_duplicate():
    table = validate_log(log(user_id=["u", "u"], item_id=["a", "a"], timestamp=[1, 2]))
    assert table.height == 2


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (TABLE * 0.9, "do not sum to one, such as 0.9 of 'u'"),
        (np.array([[1.5, -0.5, 0], [0, 0, 1.0]]), "at least 0"),
        (np.array([[np.nan, 1, 0], [0, 0, 1.0]]), "at least 0, some are negative or NaN"),
        (TABLE[:, :2], r"float64 \(2, 3\)"),
        (TABLE.astype(np.float32), "got float32"),
    ],
)
def test_a_policy_sums_to_one(probabilities, message):
    with pytest.raises(DataError, match=message):
        policy(probabilities)


def test_a_table_of_probabilities_fills_up_with_zeros():
    rows = {"user_id": ["v", "v", "u"], "item_id": ["c", "b", "a"], "probability": [0.8, 0.2, 1.0]}
    made = Policy.from_table(pl.DataFrame(rows), items=ITEMS)
    assert made.users.ids.tolist() == ["v", "u"]
    assert made.probabilities.tolist() == [[0.0, 0.2, 0.8], [1.0, 0.0, 0.0]]
    table = pl.DataFrame(rows)
    with pytest.raises(DataError, match="2 rows of a policy share"):
        Policy.from_table(pl.concat([table, table[2:]]), items=ITEMS)
    with pytest.raises(DataError, match="negative or NaN"):
        Policy.from_table(table.with_columns(probability=None), items=ITEMS)
    with pytest.raises(DataError, match=r"needs the columns \['probability'\]"):
        Policy.from_table(table.drop("probability"), items=ITEMS)
    with pytest.raises(DataError, match="unknown, such as 'c'"):
        Policy.from_table(table, items=IdMap(["a", "b"]))


def test_ids_and_propensities_have_to_be_those_of_the_policy():
    with pytest.raises(DataError, match="1 users of the log are unknown to it, such as 'w'"):
        policy().require(["u", "w"], what="it")
    with pytest.raises(DataError, match=r"0\.4 against 0\.5; give the policy that logged"):
        policy().logged(validate_log(log(propensity=[0.4, 0.8])))


def test_columns_follow_another_order_of_the_same_items():
    turned = policy().aligned(IdMap(["c", "a", "b"]), what="it")
    assert turned.probabilities.tolist() == TABLE[:, [2, 0, 1]].tolist()
    with pytest.raises(DataError, match="it knows 3 items, the target policy 2"):
        policy().aligned(IdMap(["a", "b"]), what="it")
    with pytest.raises(DataError, match="unknown to it, such as 'd'"):
        policy().aligned(IdMap(["a", "b", "d"]), what="it")


def test_softmax_explores():
    scores = np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]])
    made = softmax_policy(scores, users=USERS, items=ITEMS, temperature=1.0, explore=0.4)
    expected = 0.6 * np.array([[1 / 8, 2 / 8, 5 / 8], [1 / 4, 1 / 4, 1 / 2]]) + 0.4 / 3
    np.testing.assert_allclose(made.probabilities, expected, rtol=1e-14)
    sharper = softmax_policy(scores, users=USERS, items=ITEMS, temperature=0.5)
    np.testing.assert_allclose(sharper.probabilities[0], np.array([1, 4, 25]) / 30, rtol=1e-14)
    with pytest.raises(DataError, match="temperature > 0"):
        softmax_policy(scores, users=USERS, items=ITEMS, temperature=0.0)
    with pytest.raises(DataError, match="scores have to be finite"):
        softmax_policy(scores * np.nan, users=USERS, items=ITEMS, temperature=1.0)
