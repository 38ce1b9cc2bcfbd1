import numpy as np
import pytest

from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.history_similarity import FORMS, history_scores, history_table
from ulrec.evaluation.personalization import Generated, Taste
from ulrec.evaluation.preference import compare_arms
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.statistics import Interval

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=4)
# (3, 4) / 5 and the axes: every cosine is a fraction.
ITEMS = np.array([[2.0, 0], [0, 3], [3, 4], [-1, 0]])
HISTORY = Taste(
    features=ITEMS, user_idx=np.array([0, 0, 1, 0]), item_idx=np.array([1, 2, 0, 0], np.int64)
)


def made(rows, users):
    return Generated(features=np.array(rows, float), user_idx=np.array(users, np.int64))


def score(form, generated, **settings):
    found = history_scores(
        form, {"user": generated}, HISTORY, protocol=PROTOCOL, **{"seed": 0, **settings}
    )
    return found.arms["user"].tolist()


def test_three_forms_three_numbers():
    own = made([[5, 0], [0, 7]], [0, 1])
    # user 0: items (0, 1), (.6, .8), (1, 0); their mean is (1.6, 1.8) / 3
    assert score("history_mean", own) == pytest.approx([1.6 / np.hypot(1.6, 1.8), 0])
    assert score("history_last", own, times=[1, 2, 3, 4]) == pytest.approx([1.6 / 3, 0])
    assert score("history_max", own) == pytest.approx([1, 0])


def test_the_last_five_are_the_last_by_time():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(9, 4))
    order = rng.permutation(9)
    history = Taste(features=items, user_idx=np.zeros(9, np.int64), item_idx=order)
    own = made(rng.normal(size=(2, 4)), [0, 0])
    found = history_scores(
        "history_last", {"user": own}, history, protocol=PROTOCOL, times=100 - order, seed=0
    )
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    expected = [
        unit[i] @ g / np.linalg.norm(g)
        for g in own.features
        for i in range(5)  # latest first
    ]
    assert found.arms["user"].tolist() == [pytest.approx(np.mean(expected))]


def test_pairs_at_one_time_are_ordered_by_a_fixed_key_not_by_row():
    items = np.vstack([np.tile([1.0, 0], (5, 1)), np.tile([0.0, 1], (5, 1))])
    found = []
    for seed in range(20):
        for order in (np.arange(10), np.arange(10)[::-1].copy()):
            history = Taste(features=items, user_idx=np.zeros(10, np.int64), item_idx=order)
            own = {"user": made([[1, 0]], [0])}
            times = np.zeros(10)
            scored = history_scores(
                "history_last", own, history, protocol=PROTOCOL, times=times, seed=seed
            )
            found.append(scored.arms["user"][0])
    assert found[::2] == found[1::2]  # the rows' order does not matter
    assert 0.35 < np.mean(found) < 0.65


def test_without_times_there_is_no_last():
    with pytest.raises(DataError, match="pass `times`"):
        score("history_last", made([[1, 0]], [0]))
    with pytest.raises(DataError, match="each of 4 pairs"):
        score("history_last", made([[1, 0]], [0]), times=[1, 2])


def test_users_without_history_are_counted_and_bad_input_refused():
    arms = {"user": made([[1, 0], [1, 0], [0, 1]], [0, 1, 5])}
    found = history_scores("history_max", arms, HISTORY, protocol=PROTOCOL, seed=0)
    assert found.user_idx.tolist() == [0, 1] and found.num_without_history == 1
    with pytest.raises(ConfigError, match="did you mean 'history_max'"):
        score("history_mux", made([[1, 0]], [0]))
    with pytest.raises(DataError, match="hold NaN"):
        score("history_max", made([[np.nan, 0]], [0]))
    with pytest.raises(DataError, match="one dimension"):
        score("history_max", made([[1, 0, 0]], [0]))
    nobody = Taste(features=ITEMS, user_idx=np.array([], int), item_idx=np.array([], int))
    with pytest.raises(DataError, match="covers 0 users"):
        history_scores("history_max", arms, nobody, protocol=PROTOCOL, seed=0)


def test_the_table_has_raw_lift_and_copy_rate_in_every_row():
    arms = {"user": made([[5, 0], [0, 7]], [0, 1]), "null": made([[0, 1], [0, 1]], [0, 1])}
    compared = []
    for form in FORMS:
        found = history_scores(form, arms, HISTORY, protocol=PROTOCOL, times=[1, 2, 3, 4], seed=0)
        compared += compare_arms(found, controls=["null"], seed=0)
    table = history_table(compared, copied=Interval(mean=0.25, low=0.1, high=0.5))
    assert table["score"].to_list() == ["history_mean", "history_last", "history_max"]
    assert table["copy_rate"].to_list() == [0.25] * 3
    row = table.row(2, named=True)
    assert (row["own"], row["control"], row["lift"]) == pytest.approx((0.5, 0.5, 0))
    # a copy of an item is at the top of history_max and nowhere else
    copies = {"user": made([[3, 4]], [0])}
    raw = {
        form: history_scores(form, copies, HISTORY, protocol=PROTOCOL, times=range(4), seed=0)
        for form in FORMS
    }
    assert raw["history_max"].arms["user"][0] == pytest.approx(1)
    assert raw["history_last"].arms["user"][0] == pytest.approx((1 + 0.8 + 0.6) / 3)
