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
