"""Reverse water-filling against cases that can be done by hand."""

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.gaussian_rate import gaussian_psnr


def psnr_of(error: float) -> float:
    return 10 * np.log10(255**2 / error)


def test_white_noise_loses_six_decibel_a_bit():
    """R = 1/2 log2(variance / D) for each of three values a pixel: 6 bits/pixel are 2 a value."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 3, 8, 8), dtype=np.uint8)
    found = gaussian_psnr(noise, bits_per_pixel=(3.0, 6.0), block=2)
    variance = (256**2 - 1) / 12
    np.testing.assert_allclose(
        found, [psnr_of(variance / 2**2), psnr_of(variance / 2**4)], rtol=1e-2
    )
    assert found[1] - found[0] == pytest.approx(20 * np.log10(2), abs=0.02)


def test_water_covers_what_varies_least():
    """One pixel of variance 64^2, one of 1: at 3 bits, 4096 / 64 = 64 still covers the second."""
    values = np.array([[100, 10], [228, 10], [100, 12], [228, 12]], np.uint8)
    images = values[:, None, None, :].repeat(2, axis=2)  # (4, 1, 2, 2), rows alike
    # Two equal rows are one component of twice the variance: 8192 and 2. 3 bits = 1/2 log2 64.
    found = gaussian_psnr(images, bits_per_pixel=[3 / 4], block=2)
    assert found[0] == pytest.approx(psnr_of((8192 / 64 + 2) / 4))
    # At 7 bits the level 2 would take 1/2 log2 4096 = 6: half a bit each is left over.
    found = gaussian_psnr(images, bits_per_pixel=[7 / 4], block=2)
    assert found[0] == pytest.approx(psnr_of(2 * (2 / 2) / 4))


def test_frames_are_pictures_and_borders_are_left_out():
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 9, 9), dtype=np.uint8)
    clips = images.reshape(3, 2, 3, 9, 9).swapaxes(1, 2)
    expected = gaussian_psnr(images[:, :, :8, :8], bits_per_pixel=[1.0], block=4)
    np.testing.assert_allclose(gaussian_psnr(clips, bits_per_pixel=[1.0], block=4), expected)


@pytest.mark.parametrize(
    ("images", "rates", "message"),
    [
        (np.zeros((2, 3, 8, 8), np.float32), [1.0], "expected uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8), [1.0], "lower block"),
        (np.zeros((2, 3, 8, 8), np.uint8), [1.0], "all blocks are alike"),
        (np.ones((2, 3, 8, 8), np.uint8), [0.0], "rates have to be above 0"),
    ],
)
def test_bad_input_is_refused(images, rates, message):
    with pytest.raises(DataError, match=message):
        gaussian_psnr(images, bits_per_pixel=rates)
