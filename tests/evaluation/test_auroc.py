import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ulrec.errors import DataError
from ulrec.evaluation.auroc import auroc, heldout_auroc
from ulrec.evaluation.personalization import Taste


@pytest.mark.parametrize("num_values", [2, 5, 1000])
def test_it_is_that_of_scikit_learn_ties_included(num_values):
    rng = np.random.default_rng(num_values)
    for _ in range(20):
        scores, labels = rng.integers(0, num_values, 80) / 7, rng.random(80) < 0.3
        assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-14)


def test_by_hand():
    # pairs (positive, negative): .8>.4, .8=.8, .6>.4, .6<.8
    assert auroc([0.8, 0.6, 0.4, 0.8], [1, 1, 0, 0]) == 2.5 / 4
    assert auroc([1, 1, 1], [1, 0, 0]) == 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [1, 1], "2 of 2 rows are positive"),
        ([1.0, 2.0], [0, 0], "0 of 2 rows are positive"),
        ([1.0, np.nan], [0, 1], "finite score"),
        ([1.0], [0, 1], "finite score"),
    ],
)
def test_bad_rows_are_refused(scores, labels, message):
    with pytest.raises(DataError, match=message):
        auroc(scores, labels)


FEATURES = np.eye(5)
HISTORY = Taste(features=FEATURES, user_idx=np.array([0, 1, 2, 2]), item_idx=np.array([0, 1, 0, 1]))
# 3 has no history, 2 likes all that is left
HELDOUT = Taste(
    features=FEATURES,
    user_idx=np.array([0, 1, 2, 2, 2, 3]),
    item_idx=np.array([1, 4, 2, 3, 4, 0]),
)
SCORES = {0: np.array([9.0, 3, 4, 1, 2]), 1: np.array([1.0, 9, 2, 3, 4]), 2: np.zeros(5)}


def test_each_user_is_judged_on_all_unseen_items():
    found = heldout_auroc(SCORES.__getitem__, HELDOUT, history=HISTORY, seed=0)
    # 0: item 1 (3) against items 2 3 4 (4 1 2); 1: item 4 (4) against items 0 2 3 (1 2 3)
    assert found.user_idx.tolist() == [0, 1]
    assert found.values.tolist() == [2 / 3, 1.0]
    assert found.interval.mean == pytest.approx(5 / 6)
    # 0 by 1's scores: 9 against 2 3 4; 1 by 0's scores: 2 against 9 4 1
    assert found.shuffled.mean == pytest.approx((1 + 1 / 3) / 2)
    assert (found.num_without_history, found.num_undefined) == (1, 1)


def test_among_some_items():
    found = heldout_auroc(
        SCORES.__getitem__, HELDOUT, history=HISTORY, among=np.array([0, 1, 2, 4]), seed=0
    )
    assert found.values.tolist() == [1 / 2, 1.0] and found.num_undefined == 1
    with pytest.raises(DataError, match="1 users have a history, held-out items"):
        heldout_auroc(SCORES.__getitem__, HELDOUT, history=HISTORY, among=np.array([1, 2]), seed=0)
