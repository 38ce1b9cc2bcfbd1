"""Scores under arms, the best of N, and the guard between them."""

import dataclasses

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.personalization import Generated
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.scores import UserScores, score_arms
from ulrec.evaluation.selection import select_best

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=4)


def first(user, made):
    return made[:, 0] + user


def made(rows, users):
    return Generated(features=np.array(rows, float), user_idx=np.array(users, np.int64))


def test_media_of_a_user_are_averaged_and_missing_users_counted():
    arms = {
        "user": made([[3, 4], [5, 0], [0, 2], [1, 0], [1, 0]], [2, 2, 7, 8, 9]),
        "null": made([[0, 1], [4, 3], [1, 0], [1, 0]], [2, 7, 9, 5]),
        "shared": Generated(features=np.array([[1.0, 0], [0, 1]]), user_idx=None),
    }
    # 9 has nothing to be scored by; 5 and 8 are made for under one arm only; 1 under none.
    scores = score_arms(arms, np.array([1, 2, 5, 7, 8]), first, name="first", protocol=PROTOCOL)
    assert scores.user_idx.tolist() == [2, 7]
    assert scores.arms["user"].tolist() == [2 + (0.6 + 1) / 2, 7.0]
    assert scores.arms["null"].tolist() == [2.0, 7.8]
    assert scores.arms["shared"].tolist() == [2.5, 7.5]
    assert (scores.num_without_media, scores.num_without_history) == (2, 1)


def test_one_set_for_everyone_counts_for_every_known_user():
    arms = {"null": Generated(features=np.array([[0.0, 2.0]]), user_idx=None)}
    scores = score_arms(arms, np.array([4, 3]), first, name="first", protocol=PROTOCOL)
    assert scores.user_idx.tolist() == [3, 4] and scores.arms["null"].tolist() == [3.0, 4.0]
    assert scores.num_without_media == 0


def test_bad_media_are_refused():
    good = made([[1, 0], [0, 1]], [0, 1])
    with pytest.raises(DataError, match="covers 0 users"):
        score_arms({"user": good}, np.array([5]), first, name="first", protocol=PROTOCOL)
    bad = made([[np.nan, 0], [0, 1]], [0, 1])
    with pytest.raises(DataError, match="1 rows of features of 'user' hold NaN"):
        score_arms({"user": bad}, np.array([0, 1]), first, name="first", protocol=PROTOCOL)
    with pytest.raises(DataError, match="finite number for each of 2 users"):
        UserScores(
            name="x", user_idx=np.arange(2), arms={"user": np.array([1, np.inf])}, protocol=PROTOCOL
        )
    with pytest.raises(DataError, match="0 arms"):
        UserScores(name="x", user_idx=np.arange(2), arms={}, protocol=PROTOCOL)


def test_the_best_is_chosen_and_recorded():
    selection = select_best([[0.2, 0.9, 0.1], [3.0, -1.0, 2.0]], name="verifier", seed=0)
    assert selection.chosen.tolist() == [1, 0]
    assert (selection.num_candidates, selection.selected_by) == (3, "verifier")
    picked = selection.recorded_in(PROTOCOL)
    expected = dataclasses.replace(PROTOCOL, num_candidates=3, selected_by="verifier")
    assert picked == expected
    with pytest.raises(DataError, match="best of 3 by verifier already"):
        selection.recorded_in(picked)


def test_one_candidate_is_no_selection():
    selection = select_best(np.zeros((5, 1)), name="verifier", seed=0)
    assert selection.chosen.tolist() == [0] * 5
    assert selection.recorded_in(PROTOCOL) == PROTOCOL


def test_equal_candidates_are_chosen_by_a_fixed_random_key():
    chosen = select_best(np.zeros((3000, 3)), name="x", seed=1).chosen
    assert np.bincount(chosen, minlength=3).min() > 900
    np.testing.assert_array_equal(chosen, select_best(np.ones((3000, 3)), name="x", seed=1).chosen)


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 2)), [[1.0, np.nan]]])
def test_scores_that_cannot_be_compared_are_refused(scores):
    with pytest.raises(DataError, match="finite matrix"):
        select_best(scores, name="x", seed=0)


def test_the_score_that_picked_is_refused_before_it_is_computed():
    picked = select_best(np.eye(2), name="first", seed=0).recorded_in(PROTOCOL)
    arms = {"user": made([[1, 0], [0, 1]], [0, 1])}
    with pytest.raises(DataError, match="first picked the best of 2"):
        score_arms(arms, np.arange(2), first, name="first", protocol=picked)
    with pytest.raises(DataError, match="first picked the best of 2"):
        UserScores(name="first", user_idx=np.arange(2), arms={"a": np.ones(2)}, protocol=picked)
    assert score_arms(arms, np.arange(2), first, name="other", protocol=picked).name == "other"
