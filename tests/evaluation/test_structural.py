"""SSIM against hand-computed windows, torchmetrics where it agrees, and where it does not."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from ulrec.errors import DataError
from ulrec.evaluation.structural import ssim


def _weights() -> np.ndarray:
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    return np.outer(line, line) / line.sum() ** 2


def test_one_window_by_hand() -> None:
    """A picture of the window's size has one window: the definition, term by term."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 1, 1, 11, 11))
    w = _weights()
    mx, my = (w * x[0, 0]).sum(), (w * y[0, 0]).sum()
    vx, vy = (w * (x[0, 0] - mx) ** 2).sum(), (w * (y[0, 0] - my) ** 2).sum()
    cov = (w * (x[0, 0] - mx) * (y[0, 0] - my)).sum()
    expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / (mx**2 + my**2 + 1e-4) / (vx + vy + 9e-4)
    assert ssim(x, y, data_range=1)[0] == pytest.approx(expected, abs=1e-12)


def test_flat_and_inverted_pictures_by_hand() -> None:
    """Flat pictures leave the luminance term; an inverted pattern of equal mean turns the sign."""
    flat = np.full((1, 1, 12, 12), 0.25)
    value = ssim(flat, 3 * flat, data_range=1)[0]
    assert value == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.0625 + 0.5625 + 1e-4))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    np.testing.assert_allclose(ssim(x, x, data_range=255), 1, atol=1e-12)
    assert np.all(ssim(x, 255 - x, data_range=255) < -0.8)


def _torchmetrics(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, ...]:
    mean, full = structural_similarity_index_measure(
        torch.from_numpy(x),
        torch.from_numpy(y),
        data_range=data_range,
        reduction="none",
        return_full_image=True,
    )
    return mean.numpy(), full.numpy()


@pytest.mark.parametrize("kind", ["random", "dark", "near"])
def test_equals_torchmetrics_with_its_border_and_by_definition_inside(kind) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 5, 3, 18, 23))
    if kind == "dark":
        x, y = 1e-3 * x, np.zeros_like(y)
    elif kind == "near":
        y = np.clip(x + 1e-6 * y, 0, 1)
    mean, full = _torchmetrics(x, y, 1.0)
    np.testing.assert_allclose(ssim(x, y, data_range=1, border="mirror"), mean, atol=1e-9)
    inside = full[..., 5:-5, 5:-5].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(ssim(x, y, data_range=1), inside, atol=1e-9)


def test_mirrored_borders_are_another_number() -> None:
    """The one difference to torchmetrics on pictures in [0, 1]: it averages over padded windows."""
    x, y = np.random.default_rng(0).random((2, 2, 3, 16, 16))
    y[..., :4, :] = x[..., :4, :]
    mean, _ = _torchmetrics(x, y, 1.0)
    assert np.all(np.abs(ssim(x, y, data_range=1) - mean) > 0.05)


def test_is_the_same_in_every_encoding_of_the_values() -> None:
    """The other difference: torchmetrics takes 0 for black also where black is -1."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 2, 3, 14, 14), dtype=np.uint8)
    expected = ssim(x, y, data_range=255)
    np.testing.assert_allclose(ssim(x / 255, y / 255, data_range=1), expected, atol=1e-9)
    signed = [media / 127.5 - 1 for media in (x, y)]
    np.testing.assert_allclose(ssim(*signed, data_range=2), expected, atol=1e-9)
    mean, _ = _torchmetrics(*signed, 2.0)
    mirrored = ssim(*signed, data_range=2, border="mirror")
    assert np.all(np.abs(mirrored - mean) > 1e-3)
    shifted, _ = _torchmetrics(*(media + 1 for media in signed), 2.0)
    np.testing.assert_allclose(mirrored, shifted, atol=1e-9)
    np.testing.assert_allclose(ssim(y, x, data_range=255), expected, atol=1e-12)


def test_clips_go_frame_by_frame_and_samples_by_themselves() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 70, 1, 2, 11, 12))
    frames = [ssim(x[:, :, f], y[:, :, f], data_range=1) for f in range(2)]
    values = ssim(x, y, data_range=1)
    np.testing.assert_allclose(values, np.mean(frames, axis=0), atol=1e-12)
    np.testing.assert_allclose(ssim(x[66:67], y[66:67], data_range=1), values[66:67], atol=1e-12)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((1, 3, 10, 20)), {"data_range": 1}, "at least 11"),
        (np.zeros((1, 3, 5, 20)), {"data_range": 1, "border": "mirror"}, "at least 6"),
        (np.zeros((3, 20, 20)), {"data_range": 1}, r"\(N, C, H, W\)"),
        (np.zeros((1, 3, 20, 20)), {"data_range": 1, "border": "zero"}, "'valid' or 'mirror'"),
        (np.zeros((1, 3, 20, 20)), {"data_range": 2}, "look like"),
        (np.full((1, 3, 20, 20), np.nan), {"data_range": 1}, "got nan"),
    ],
)
def test_bad_input(x, options, message) -> None:
    with pytest.raises(DataError, match=message):
        ssim(x, x, **options)


def test_media_have_to_fit() -> None:
    with pytest.raises(DataError, match="one shape and type"):
        ssim(np.zeros((1, 3, 11, 11)), np.zeros((1, 3, 11, 12)), data_range=1)
