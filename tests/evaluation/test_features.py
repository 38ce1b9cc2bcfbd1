"""Feature arrays: checks, unit rows, and statistics that merge exactly."""

import functools

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.features import FeatureStatistics, as_features, unit_rows


def test_statistics_equal_numpy_and_merge_over_shards() -> None:
    features = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    whole = FeatureStatistics.of(features)
    np.testing.assert_allclose(whole.covariance, np.cov(features.astype(float).T), atol=1e-12)
    shards = [FeatureStatistics.of(part) for part in np.split(features, [1, 7, 30])]
    merged = functools.reduce(FeatureStatistics.merge, shards)
    assert merged.num == 50
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_any_split_merged_in_any_order_is_the_whole(offset) -> None:
    """Single rows too, and far from zero, where sums of squares would lose all digits."""
    rng = np.random.default_rng(1)
    features = offset + rng.normal(size=(40, 5)) * np.logspace(-2, 2, 5)
    whole = FeatureStatistics.of(features)
    lengths = np.sqrt(np.diag(whole.scatter))
    # A mean is known to its last digits, offset * 2^-52; that times a column may differ, no more.
    slack = (
        1e-12 * np.outer(lengths, lengths) + 1e-15 * offset * np.add.outer(lengths, lengths) * 40
    )
    for borders in (range(1, 40), [39], [1], *(np.sort(rng.choice(39, 6, False) + 1),) * 3):
        shards = [FeatureStatistics.of(part) for part in np.split(features, list(borders))]
        while len(shards) > 1:  # any two next, as shards come in
            first, second = rng.choice(len(shards), 2, replace=False)
            joined = shards[first].merge(shards[second])
            shards = [s for i, s in enumerate(shards) if i not in (first, second)] + [joined]
        assert shards[0].num == 40
        np.testing.assert_allclose(shards[0].mean, whole.mean, rtol=1e-13, atol=1e-13)
        assert np.all(np.abs(shards[0].scatter - whole.scatter) <= slack)


def test_statistics_refuse() -> None:
    one = FeatureStatistics.of(np.ones((1, 3)))
    with pytest.raises(DataError, match="at least 2 rows"):
        _ = one.covariance
    with pytest.raises(DataError, match="dimensions 3 and 2"):
        one.merge(FeatureStatistics.of(np.ones((1, 2))))


def test_unit_rows() -> None:
    np.testing.assert_allclose(unit_rows("x", [[3.0, 4.0], [0.0, 2.0]]), [[0.6, 0.8], [0, 1]])
    with pytest.raises(DataError, match="1 rows of x are zero"):
        unit_rows("x", [[0.0, 0.0], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(3), "matrix"),
        (np.array([["a"]]), "matrix"),
        (np.ones((1, 2)), "at least 2"),
        (np.array([[1.0, np.nan], [1, 1]]), "1 rows of x hold NaN"),
    ],
)
def test_features_are_checked(features, message) -> None:
    with pytest.raises(DataError, match=message):
        as_features("x", features, min_rows=2)
