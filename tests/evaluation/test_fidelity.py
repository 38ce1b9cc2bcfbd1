"""PSNR, KID and Frechet distance against hand-computed values, torchmetrics and scipy's sqrtm."""

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.transform import Rotation
from sklearn.metrics.pairwise import polynomial_kernel
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from ulrec.errors import DataError
from ulrec.evaluation.features import FeatureStatistics
from ulrec.evaluation.fidelity import (
    foreground_psnr,
    frechet_distance,
    frechet_distance_of_statistics,
    frechet_name,
    kid,
    kid_name,
    psnr,
)


def test_psnr_by_hand() -> None:
    x = np.zeros((3, 1, 2, 2), np.uint8)
    y = x.copy()
    y[1] = 255
    y[2, 0, 0, 0] = 51  # MSE 51^2 / 4, so 255 / 51 = 5 and 20 log10(10)
    values = psnr(x, y, data_range=255)
    assert values[0] == np.inf
    np.testing.assert_allclose(values[1:], [0, 20], atol=1e-12)


@pytest.mark.parametrize(("data_range", "low"), [(255.0, 0), (2.0, -1), (1.0, 0)])
def test_psnr_equals_torchmetrics(data_range, low) -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(low, low + data_range, (70, 3, 5, 4)) for _ in range(2))
    expected = peak_signal_noise_ratio(
        torch.from_numpy(x),
        torch.from_numpy(y),
        data_range=data_range,
        reduction="none",
        dim=(1, 2, 3),
    )
    np.testing.assert_allclose(psnr(x, y, data_range=data_range), expected.numpy(), atol=1e-9)


@pytest.mark.parametrize("error", [1e-9, 1e-4, 1.0])
def test_psnr_equals_torchmetrics_from_hardly_to_wholly_different(error) -> None:
    x = np.random.default_rng(0).random((2, 3, 6, 5)) * (error < 1)
    y = np.clip(x + error, 0, 1)
    expected = peak_signal_noise_ratio(
        torch.from_numpy(x), torch.from_numpy(y), data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    np.testing.assert_allclose(psnr(x, y, data_range=1), expected.numpy(), atol=1e-9)


def test_psnr_is_the_same_in_every_encoding_of_the_values() -> None:
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 256, (4, 3, 6, 6), dtype=np.uint8) for _ in range(2))
    expected = psnr(x, y, data_range=255)
    np.testing.assert_allclose(psnr(x / 255, y / 255, data_range=1), expected, atol=1e-9)
    np.testing.assert_allclose(
        psnr(x / 127.5 - 1, y / 127.5 - 1, data_range=2), expected, atol=1e-9
    )
    assert np.array_equal(psnr(y, x, data_range=255), expected)


def test_foreground_psnr_ignores_the_background() -> None:
    x = np.full((2, 3, 4, 4), 255, np.uint8)
    y = x.copy()
    mask = np.zeros((2, 4, 4), bool)
    mask[0, 1:3, 1:3] = True
    mask[1, 0, 0] = True
    y[0, :, 1, 1] = 0  # one of four foreground pixels, all channels
    y[0, :, 0, 0] = 7  # background
    y[1, 0, 0, 0] = 0  # one of three channels
    values = foreground_psnr(x, y, mask, data_range=255)
    np.testing.assert_allclose(values, [10 * np.log10(4), 10 * np.log10(3)], atol=1e-12)
    np.testing.assert_array_equal(foreground_psnr(x, y, mask[:, None], data_range=255), values)
    everywhere = np.ones((2, 4, 4), bool)
    np.testing.assert_allclose(
        foreground_psnr(x, y, everywhere, data_range=255), psnr(x, y, data_range=255), atol=1e-12
    )


def test_foreground_psnr_of_clips() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.integers(0, 256, (2, 3, 5, 4, 4), dtype=np.uint8) for _ in range(2))
    mask = rng.random((2, 5, 4, 4)) < 0.5
    expected = [
        10 * np.log10(255**2 / np.mean((a[:, m].astype(float) - b[:, m]) ** 2))
        for a, b, m in zip(x, y, mask, strict=True)
    ]
    np.testing.assert_allclose(foreground_psnr(x, y, mask, data_range=255), expected, atol=1e-12)


def test_masks_are_checked() -> None:
    x = np.zeros((2, 3, 4, 4), np.uint8)
    mask = np.zeros((2, 4, 4), bool)
    mask[0] = True
    with pytest.raises(DataError, match="1 of 2 masks are empty"):
        foreground_psnr(x, x, mask, data_range=255)
    with pytest.raises(DataError, match="boolean"):
        foreground_psnr(x, x, mask.astype(float), data_range=255)
    with pytest.raises(DataError, match="has to be"):
        foreground_psnr(x, x, mask[:, :2], data_range=255)


def _kid_by_scikit_learn(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x, y):
        return polynomial_kernel(x, y, degree=3, gamma=1 / x.shape[1], coef0=1)

    within = [kernel(x, x)[~np.eye(len(x), dtype=bool)].mean() for x in (a, b)]
    return float(sum(within) - 2 * kernel(a, b).mean())


def test_kid_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 6)), rng.normal(0.3, 1.2, (41, 6))
    result = kid(a, b, subset_size=20, num_subsets=50, seed=0)
    assert result.full == pytest.approx(_kid_by_scikit_learn(a, b), abs=1e-9)
    assert result.low <= result.mean <= result.high
    # With subsets that are the whole set every value is the full statistic.
    same = kid(a, b[:30], subset_size=30, num_subsets=3, seed=0)
    assert same.mean == pytest.approx(_kid_by_scikit_learn(a, b[:30]), abs=1e-9)
    assert same.std == pytest.approx(0, abs=1e-9)
    assert (same.num_a, same.num_b, same.subset_size) == (30, 30, 30)


def _adversarial() -> list[np.ndarray]:
    """Ordinary, rectified with dead columns, far from the origin, and nearly equal sets."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 12))
    dead = np.arange(12) != 4
    far = 1e3 + rng.normal(size=(50, 12)) * np.logspace(-2, 2, 12)
    return [
        (a, b[:40]),
        (np.maximum(a, 0) * dead, np.maximum(b, 0) * dead),
        (far, far[::-1] + 0.1),
        (a, a + 1e-7 * b),
    ]


@pytest.mark.parametrize("kind", range(4))
def test_kid_and_frechet_equal_torchmetrics(kind) -> None:
    """Frechet to 1e-6 of the traces: torchmetrics takes roots of a product's complex eigenvalues.

    An eigenvalue that is zero up to rounding eps has the root 1e-8, of which it keeps the real
    part; ours come from a symmetric matrix, where what falls below zero is cut.
    """
    a, b = _adversarial()[kind]
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    size = min(len(a), len(b))
    expected = float(poly_mmd(x[:size], y[:size]))
    full = kid(a[:size], b[:size], subset_size=size, num_subsets=1, seed=0).full
    assert full == pytest.approx(expected, rel=1e-9, abs=1e-9)
    covariances = [torch.from_numpy(np.cov(rows.T)) for rows in (a, b)]
    theirs = float(_compute_fid(x.mean(0), covariances[0], y.mean(0), covariances[1]))
    slack = 1e-6 * sum(float(matrix.trace()) for matrix in covariances)
    assert frechet_distance(a, b).distance == pytest.approx(theirs, abs=slack)


def test_kid_is_unbiased() -> None:
    """Sets of one distribution: values on both sides of zero, also where n is far below d."""
    rng = np.random.default_rng(1)
    values = [
        kid(a, b, subset_size=10, num_subsets=1, seed=0).full
        for a, b in rng.normal(size=(100, 2, 10, 64))
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10
    assert min(values) < 0 < max(values)


def test_kid_large_sets_go_in_parts(monkeypatch) -> None:
    from ulrec.evaluation import fidelity

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 3)), rng.normal(size=(8, 3))
    whole = kid(a, b, subset_size=4, seed=0)
    monkeypatch.setattr(fidelity, "MAX_KERNEL_ROWS", 2)
    assert kid(a, b, subset_size=4, seed=0).full == pytest.approx(whole.full, abs=1e-12)


@pytest.mark.parametrize("size", [1, 6])
def test_kid_refuses_subsets_that_do_not_fit(size) -> None:
    with pytest.raises(DataError, match="subset_size <= 5"):
        kid(np.ones((5, 2)), np.ones((7, 2)), subset_size=size, seed=0)


def _frechet_by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    s, t = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(s)
    cross = linalg.sqrtm(root @ t @ root)
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(s + t) - 2 * np.real(np.trace(cross)))


def test_frechet_equals_sqrtm_at_full_rank() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12))
    a, b = rng.normal(size=(60, 12)) @ mix, rng.normal(0.5, 1, (45, 12))
    result = frechet_distance(a, b)
    assert result.distance == pytest.approx(_frechet_by_sqrtm(a, b), rel=1e-9)
    assert result.warning is None
    assert (result.num_a, result.num_b, result.dim) == (60, 45, 12)
    assert result.distance == pytest.approx(result.mean_term + result.covariance_term)


def test_frechet_of_known_gaussians() -> None:
    """Equal covariances up to a diagonal: sum of (s_i - t_i)^2, and the squared gap of means."""
    n = 8
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T * np.sqrt((n - 1) / n)
    turn = Rotation.from_euler("xyz", [0.3, 1.1, -0.4]).as_matrix()
    a, b = cube * [1, 2, 3], cube * [4, 2, 1] + [0, 0, 5]
    assert frechet_distance(a @ turn, b @ turn).distance == pytest.approx(25 + 9 + 0 + 4)


@pytest.mark.parametrize(("n", "m"), [(5, 7), (5, 40), (12, 13), (40, 3)])
def test_frechet_below_full_rank(n, m) -> None:
    """Where sqrtm fails on singular matrices a tiny multiple of I makes it usable again."""
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 12)), rng.normal(0.2, 1.5, (m, 12))
    result = frechet_distance(a, b)
    s, t = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ t @ root), 0)).sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t) - 2 * cross
    assert result.distance == pytest.approx(expected, rel=1e-6)
    assert result.warning is not None
    assert "KID" in result.warning


def test_frechet_of_equal_sets_is_zero_in_both_branches() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 50):
        a = rng.normal(size=(n, 8))
        result = frechet_distance(a, a[::-1])
        assert result.distance == pytest.approx(0, abs=1e-9)


def test_frechet_with_dead_features() -> None:
    """Rectified features that never fire make a covariance singular at any n."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(80, 10)), rng.normal(size=(90, 10))
    a[:, 3] = b[:, 3] = 0
    live = np.delete(np.arange(10), 3)
    expected = _frechet_by_sqrtm(a[:, live], b[:, live])
    assert frechet_distance(a, b).distance == pytest.approx(expected, rel=1e-6)


def test_frechet_from_merged_shards() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(64, 9)), rng.normal(size=(70, 9))
    shards = FeatureStatistics.of(a[:20]).merge(FeatureStatistics.of(a[20:]))
    streamed = frechet_distance_of_statistics(shards, FeatureStatistics.of(b))
    assert streamed.distance == pytest.approx(frechet_distance(a, b).distance, rel=1e-9)
    few = frechet_distance_of_statistics(FeatureStatistics.of(a[:5]), FeatureStatistics.of(b[:6]))
    assert few.distance == pytest.approx(frechet_distance(a[:5], b[:6]).distance, rel=1e-6)
    assert few.warning is not None


@pytest.mark.parametrize(("n", "m"), [(20, 30), (30, 200), (65, 66)])
def test_both_ways_to_a_frechet_distance_agree_where_rank_is_short(n, m) -> None:
    rng = np.random.default_rng(0)
    spread = np.logspace(0, -3, 64)
    a, b = rng.normal(size=(n, 64)) * spread, 0.2 + rng.normal(size=(m, 64)) * spread
    rows = frechet_distance(a, b)
    streamed = frechet_distance_of_statistics(FeatureStatistics.of(a), FeatureStatistics.of(b))
    assert streamed.distance == pytest.approx(rows.distance, rel=1e-6)
    assert streamed.warning == rows.warning
    assert (rows.warning is None) == (n > 64)


def test_frechet_refuses() -> None:
    with pytest.raises(DataError, match="features_a has 1 rows"):
        frechet_distance(np.ones((1, 2)), np.ones((3, 2)))
    with pytest.raises(DataError, match="one dimension"):
        frechet_distance(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(DataError, match="one dimension"):
        frechet_distance_of_statistics(
            FeatureStatistics.of(np.ones((3, 2))), FeatureStatistics.of(np.ones((3, 4)))
        )


def test_names() -> None:
    assert frechet_name("efflite0") == "FD-efflite0"
    assert frechet_name("inception-v3") == "FID"
    assert kid_name("efflite0") == "KID-efflite0"
