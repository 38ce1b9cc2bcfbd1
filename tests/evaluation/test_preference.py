import numpy as np
import pytest
from scipy.stats import binomtest

from ulrec.errors import DataError
from ulrec.evaluation.preference import compare_arms, count_wins, preference_table
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.scores import UserScores
from ulrec.evaluation.statistics import wilson_interval

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=4)


def scores(**arms) -> UserScores:
    arrays = {name: np.array(values, float) for name, values in arms.items()}
    num = len(next(iter(arrays.values())))
    return UserScores(name="liking", user_idx=np.arange(num), arms=arrays, protocol=PROTOCOL)


def test_wins_by_hand():
    wins = count_wins(np.array([1.0, 2, 3, 4, 5, 0]), np.array([0.0, 2, 1, 3, 9, 0]))
    assert (wins.wins, wins.ties, wins.losses) == (3, 2, 1)
    assert wins.rate.mean == (3 + 2 / 2) / 6
    assert wins.p_value == pytest.approx((4 + 1) / 16)  # 3 or 4 heads of 4
    assert wins.p_value == binomtest(3, 4, alternative="greater").pvalue


def test_wilson_of_half_a_win_by_its_formula():
    z = 1.959963984540054
    n, rate = 6, 3.5 / 6
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    found = count_wins(np.array([1.0, 1, 1, 0, 0, 0]), np.array([0.0, 0, 0, 0, 1, 1])).rate
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert found == wilson_interval(3.5, 6)


def test_ties_are_ties_up_to_rounding_and_alone_prove_nothing():
    own = np.array([0.1 + 0.2, 5.0])
    wins = count_wins(own, np.array([0.3, 5.0]))
    assert own[0] != 0.3 and wins.ties == 2
    assert wins.rate.mean == 0.5 and wins.p_value == 1.0


def test_every_control_gets_its_row():
    found = compare_arms(
        scores(user=[1, 2, 3, 4], null=[0, 0, 0, 8], mean=[0, 1, 2, 3]),
        controls=["null", "mean"],
        seed=0,
        num_permutations=999,
    )
    null, mean = found
    assert null.values.tolist() == [1, 2, 3, -4] and null.lift.mean == 0.5
    assert null.own.mean == 2.5 and null.control.mean == 2.0
    assert mean.values.tolist() == [1, 1, 1, 1] and mean.wins.rate.mean == 1
    assert mean.p_value == pytest.approx(1 / 16, abs=0.03)  # all signs as they are
    table = preference_table(found)
    assert table["arm"].to_list() == ["null", "mean"]
    assert table["win_rate"].to_list() == [0.75, 1.0]
    assert table["p_holm"][1] == pytest.approx(min(1.0, 2 * mean.p_value))
    assert table["auroc"].to_list() == [None, None]
    again = compare_arms(
        scores(user=[1, 2, 3, 4], null=[0, 0, 0, 8], mean=[0, 1, 2, 3]),
        controls=["null", "mean"],
        seed=0,
        num_permutations=999,
    )
    assert preference_table(again).equals(table)


def test_one_user_has_no_interval():
    (found,) = compare_arms(scores(user=[2], null=[1]), controls=["null"], seed=0)
    assert found.lift.mean == 1 and np.isnan(found.lift.low) and found.p_value > 0.4


@pytest.mark.parametrize("controls", [[], ["user"], ["nobody"]])
def test_a_raw_score_alone_is_refused(controls):
    with pytest.raises(DataError, match="expected controls other than 'user'"):
        compare_arms(scores(user=[1], null=[0]), controls=controls, seed=0)


@pytest.mark.parametrize("other", [[1.0], [1.0, np.nan], []])
def test_scores_that_do_not_pair_are_refused(other):
    own = np.array([1.0, 2.0]) if other else np.array([])
    with pytest.raises(DataError, match="two finite scores for each user"):
        count_wins(own, np.array(other))
