"""Gaussian MMD: by hand, against scikit-learn's kernel, and names that only CLIP may carry."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from ulrec.errors import DataError
from ulrec.evaluation import discrepancy
from ulrec.evaluation.discrepancy import gaussian_mmd, mmd_name


def test_by_hand() -> None:
    """Orthogonal unit vectors lie sqrt(2) apart: k = exp(-1 / sigma^2), here 1 / e."""
    a, b = np.array([[3.0, 0.0]]), np.array([[0.0, 0.5]])
    biased = gaussian_mmd(a, b, sigma=1, scale=1)
    assert biased.value == pytest.approx(2 - 2 / np.e, abs=1e-15)
    a2, b2 = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 0], [1, 0]])
    # Unbiased: within 1 / e and 1, across half of (1 + 1 / e) twice.
    unbiased = gaussian_mmd(a2, b2, estimator="unbiased", sigma=1, scale=10)
    assert unbiased.value == pytest.approx(10 * (1 / np.e + 1 - (1 + 1 / np.e)), abs=1e-12)
    assert (unbiased.num_a, unbiased.num_b, unbiased.scale) == (2, 2, 10)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_equals_scikit_learn(estimator) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 6)), rng.normal(0.3, 1.2, (41, 6))
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))

    def within(x):
        kernel = rbf_kernel(x, gamma=1 / 200)
        return (
            kernel.mean() if estimator == "biased" else kernel[~np.eye(len(x), dtype=bool)].mean()
        )

    expected = 1000 * (within(u) + within(v) - 2 * rbf_kernel(u, v, gamma=1 / 200).mean())
    result = gaussian_mmd(a, b, estimator=estimator)
    assert result.value == pytest.approx(expected, abs=1e-9)
    assert (result.estimator, result.sigma, result.scale) == (estimator, 10, 1000)


def test_nearly_the_distance_of_the_means_at_the_published_bandwidth() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 8))
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    linear = 1000 / 100 * np.sum((u.mean(0) - v.mean(0)) ** 2)
    assert gaussian_mmd(a, b).value == pytest.approx(linear, rel=0.02)


def test_a_set_against_itself_and_the_bias() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 40, 8))
    assert gaussian_mmd(a, a[::-1]).value == pytest.approx(0, abs=1e-10)
    assert gaussian_mmd(a, b, estimator="unbiased").value < gaussian_mmd(a, b).value
    draws = np.random.default_rng(1).normal(size=(100, 2, 10, 8))
    values = [gaussian_mmd(*pair, estimator="unbiased").value for pair in draws]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10


def test_does_not_depend_on_chunks(monkeypatch) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9, 3))
    whole = gaussian_mmd(a, b).value
    monkeypatch.setattr(discrepancy, "CHUNK_VALUES", 20)
    assert gaussian_mmd(a, b).value == pytest.approx(whole, rel=1e-12)


def test_names() -> None:
    assert mmd_name("clip-vit-l-14-336") == "CMMD-clip-vit-l-14-336"
    assert mmd_name("open_clip") == "CMMD-open_clip"
    assert mmd_name("efflite0") == "MMD-efflite0"
    assert mmd_name("clipart") == "MMD-clipart"


def test_bad_input() -> None:
    ok = np.eye(3)
    with pytest.raises(DataError, match="'biased' or 'unbiased'"):
        gaussian_mmd(ok, ok, estimator="v")
    with pytest.raises(DataError, match="positive sigma"):
        gaussian_mmd(ok, ok, sigma=0)
    with pytest.raises(DataError, match="unbiased needs 2 rows"):
        gaussian_mmd(ok, ok[:1], estimator="unbiased")
    with pytest.raises(DataError, match="one dimension"):
        gaussian_mmd(ok, np.eye(2))
    with pytest.raises(DataError, match="1 rows of features_b are zero"):
        gaussian_mmd(ok, np.array([[0.0, 0, 0], [1, 0, 0]]))
    with pytest.raises(DataError, match="NaN"):
        gaussian_mmd(np.full((2, 3), np.nan), ok)
