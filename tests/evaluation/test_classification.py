import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from ulrec.errors import DataError
from ulrec.evaluation.classification import (
    accuracy,
    balanced_accuracies,
    balanced_accuracy,
    choose_penalty,
    classification_accuracy_score,
    fit_classifier,
    label_permutations,
    margin_ratio,
)


def clouds(num: int, *, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 3
    centres = np.array([[2.0, 0, 0, 0, 5], [0, 2, 0, 0, 5], [0, 0, 2, 0, 5]])
    return centres[labels] + spread * rng.standard_normal((num, 5)) * [1, 1, 1, 30, 0], labels


@pytest.mark.parametrize("penalty", [0.3, 1e-3])
def test_it_is_the_regression_of_scikit_learn(penalty):
    x, y = clouds(90, spread=1.0)
    model = fit_classifier(x, y, num_classes=3, penalty=penalty, tolerance=1e-10)
    scaler = StandardScaler().fit(x)
    peer = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-12, solver="newton-cg", max_iter=999)
    peer.fit(scaler.transform(x), y)
    others, _ = clouds(40, spread=2.0, seed=1)
    expected = peer.decision_function(scaler.transform(others))
    np.testing.assert_allclose(model.decision(others), expected, atol=1e-6)
    assert (model.predict(others) == peer.predict(scaler.transform(others))).all()


def test_a_constant_feature_counts_for_nothing():
    x, y = clouds(60, spread=1.0)
    model = fit_classifier(x, y, num_classes=3, penalty=0.1)
    assert model.scale[4] == 1 and np.abs(model.weights[4]).max() == 0
    assert model.num_classes == 3


def test_accuracies_by_hand():
    labels, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    assert accuracy(labels, predicted) == pytest.approx(3 / 6)
    assert balanced_accuracy(labels, predicted) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert balanced_accuracy(labels, predicted) == balanced_accuracy_score(labels, predicted)
    # a class that is only predicted is no class of the set
    assert balanced_accuracy([0, 1], [0, 2]) == 0.5


def test_resampled_accuracies_spread_as_binomials_do():
    labels, predicted = np.repeat([0, 1], [20, 5]), np.repeat([0, 1, 1], [15, 5, 5])
    drawn = balanced_accuracies(labels, predicted, seed=0, num_resamples=20_000)
    assert drawn.mean() == pytest.approx((0.75 + 1) / 2, abs=2e-3)
    assert drawn.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 20) / 2, rel=0.03)


def test_shuffled_labels_are_at_chance():
    labels = np.arange(60) % 3
    predicted = np.where(np.arange(60) < 40, labels, 0)
    drawn, p = label_permutations(labels, predicted, seed=0, num_permutations=499)
    assert p == 1 / 500
    assert drawn.mean() == pytest.approx(1 / 3, abs=0.01)
    _, p = label_permutations(labels, np.zeros(60), seed=0, num_permutations=99)
    assert p == 1.0  # one guess for all is chance under every labelling


def test_the_penalty_is_chosen_on_groups_kept_apart():
    rng = np.random.default_rng(0)
    x, y = clouds(120, spread=3.0)
    x = np.hstack([x, rng.standard_normal((120, 200))])  # noise to be shrunk away
    chosen = choose_penalty(x, y, np.arange(120), num_classes=3, penalties=(0.3, 1e-6), seed=0)
    assert chosen == 0.3
    # Five equal rows to a group, labels at random: whoever had one of a group could recite the
    # others, but a group stands on one side, and only the strong penalty survives.
    equal = np.repeat(rng.standard_normal((40, 80)), 5, axis=0)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    settings = {"num_classes": 2, "penalties": (10.0, 1e-4), "seed": 0}
    assert choose_penalty(equal, labels, np.repeat(np.arange(40), 5), **settings) == 10.0
    assert choose_penalty(equal, labels, np.arange(200), **settings) == 1e-4


def test_margins_by_hand():
    made, real = np.array([0.2, 0.4]), np.array([0.6, 0.6])
    found = margin_ratio(made, real, chance=0.1, observed=(0.3, 0.6))
    assert found.mean == pytest.approx(0.4)
    assert found.low == pytest.approx(0.2 + 0.025 * 0.4) and found.high == pytest.approx(0.59)
    unsure = margin_ratio(made, np.array([0.1, 0.6]), chance=0.1, observed=(0.3, 0.6))
    assert np.isnan(unsure.low) and unsure.mean == pytest.approx(0.4)
    with pytest.raises(DataError, match="no ratio of margins"):
        margin_ratio(made, real, chance=0.6, observed=(0.3, 0.6))


def test_accuracy_score_by_hand():
    """One feature, two classes: the classifiers are thresholds, the generated one set wrongly."""
    real = (np.array([[0.0], [1], [9], [10]]), np.array([0, 0, 1, 1]))
    made = (np.array([[0.0], [0], [2], [2]]), np.array([0, 0, 1, 1]))  # threshold 1
    test = (np.array([[0.0], [4], [6], [8]]), np.array([0, 0, 1, 1]))  # threshold 5
    result = classification_accuracy_score(made, real, test, num_classes=2, penalty=0.1)
    assert result.is_right.tolist() == [True, False, True, True]
    assert result.is_reference_right.tolist() == [True] * 4
    assert (result.score.mean, result.reference.mean) == (0.75, 1.0)
    assert result.recalls.tolist() == [0.5, 1.0]
    assert result.score.low < 0.75 < result.score.high
    assert result.warning is None


def test_accuracy_score_sees_a_dropped_class_and_unequal_numbers():
    x, y = clouds(120, spread=0.3)
    kept = y != 2
    result = classification_accuracy_score(
        (x[kept], y[kept]), (x, y), clouds(60, spread=0.3, seed=1), num_classes=3, penalty=0.01
    )
    assert result.recalls[2] == 0 and result.recalls[:2].min() > 0.9
    assert result.score.mean == pytest.approx(result.recalls.mean())
    assert result.reference.mean > 0.9
    assert result.warning == (
        "learned from 80 generated and 120 real rows: compare at equal numbers"
    )
    absent = classification_accuracy_score(
        (x, y), (x, y), (x[kept], y[kept]), num_classes=3, penalty=0.01
    )
    assert np.isnan(absent.recalls[2])


def test_accuracy_score_refuses():
    x, y = clouds(30, spread=1.0)
    settings = {"num_classes": 3, "penalty": 0.1}
    with pytest.raises(DataError, match="use one backbone"):
        classification_accuracy_score((x, y), (x, y), (x[:, :3], y), **settings)
    with pytest.raises(DataError, match=r"0\.\.2 for each of 30 rows"):
        classification_accuracy_score((x, y), (x, y), (x, y[:9]), **settings)
    with pytest.raises(DataError, match="NaN"):
        classification_accuracy_score((np.full_like(x, np.nan), y), (x, y), (x, y), **settings)


def test_bad_input_is_refused():
    x, y = clouds(30, spread=1.0)
    with pytest.raises(DataError, match=r"0\.\.1 for each of 30 rows"):
        fit_classifier(x, y, num_classes=2, penalty=1.0)
    with pytest.raises(DataError, match="penalty has to be positive"):
        fit_classifier(x, y, num_classes=3, penalty=0.0)
    with pytest.raises(DataError, match="as many predictions as labels"):
        accuracy([0, 1], [0])
    with pytest.raises(DataError, match="0 of 1 groups"):
        choose_penalty(x, y, np.zeros(30), num_classes=3, seed=0)
    model = fit_classifier(x, y, num_classes=3, penalty=1.0)
    with pytest.raises(DataError, match="fitted on 5 features, got 4"):
        model.decision(x[:, :4])
