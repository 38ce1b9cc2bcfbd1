"""The downsampling baseline: exact resampling, budgets kept, the best choice made."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation import rate
from ulrec.evaluation.fidelity import psnr
from ulrec.evaluation.rate import codec_psnr, downsampling_psnr


def _smooth(num: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(0, 255, (num, 3, 4, 4))
    up = rate._bicubic(4, height) @ coarse @ rate._bicubic(4, width).T
    return np.clip(np.round(up), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("source", "target"), [(32, 5), (32, 8), (48, 7), (9, 9)])
def test_area_equals_pillow(source, target) -> None:
    column = np.random.default_rng(0).uniform(0, 255, (source, 3)).astype(np.float32)
    expected = np.asarray(Image.fromarray(column).resize((3, target), Image.Resampling.BOX))
    got = rate._area(source, target) @ column
    # Pillow takes whole pixels where edges cut through; it agrees where none is cut.
    if source % target == 0:
        np.testing.assert_allclose(got, expected, atol=1e-3)
    np.testing.assert_allclose(rate._area(source, target).sum(1), 1)
    np.testing.assert_allclose(rate._area(source, target).sum(0), target / source)


@pytest.mark.parametrize(("source", "target"), [(5, 32), (8, 32), (1, 6), (7, 48)])
def test_bicubic_equals_pillow(source, target) -> None:
    column = np.random.default_rng(0).uniform(0, 255, (source, 3)).astype(np.float32)
    expected = np.asarray(Image.fromarray(column).resize((3, target), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(rate._bicubic(source, target) @ column, expected, atol=1e-2)


def test_budget_is_kept_and_the_choice_is_the_best() -> None:
    images = _smooth(6, 16, 16)
    budget = 1.0
    result = downsampling_psnr(images, bits_per_pixel=budget, bits_per_value=(3, 4, 5))
    height, width = result.size
    used = height * width * 3 * result.bits_per_value
    assert used / 256 == result.bits_per_pixel <= budget
    options = [
        psnr(images, rate._reconstruct(images, (s, s), q), data_range=255).mean()
        for s, q in itertools.product(range(1, 17), (3, 4, 5))
        if s * s * 3 * q <= budget * 256 and (s + 1) ** 2 * 3 * q > budget * 256
    ]
    assert result.psnr.mean() == pytest.approx(max(options))
    np.testing.assert_array_equal(result.psnr, psnr(images, result.reconstructions, data_range=255))


def test_more_bits_never_hurt_and_enough_are_exact() -> None:
    images = _smooth(4, 12, 8)
    means = [downsampling_psnr(images, bits_per_pixel=b).psnr.mean() for b in (0.5, 1.0, 3.0, 10.0)]
    assert means == sorted(means)
    lossless = downsampling_psnr(images, bits_per_pixel=24)
    assert np.array_equal(lossless.reconstructions, images)
    assert lossless.size == (12, 8)


def test_proportions_are_kept() -> None:
    result = downsampling_psnr(_smooth(3, 48, 32), bits_per_pixel=0.4)
    assert result.size[0] / result.size[1] == pytest.approx(1.5, rel=0.15)


def test_clips_are_their_frames() -> None:
    frames = _smooth(6, 8, 8)
    clips = frames.reshape(2, 3, 3, 8, 8).swapaxes(1, 2)
    whole = downsampling_psnr(frames, bits_per_pixel=2.0)
    result = downsampling_psnr(clips, bits_per_pixel=2.0)
    assert result.bits_per_pixel == whole.bits_per_pixel
    np.testing.assert_array_equal(
        result.reconstructions.swapaxes(1, 2).reshape(6, 3, 8, 8), whole.reconstructions
    )
    assert result.psnr.shape == (2,)


def test_bad_input() -> None:
    images = _smooth(1, 8, 8)
    with pytest.raises(DataError, match="no baseline at this rate"):
        downsampling_psnr(images, bits_per_pixel=0.04)
    with pytest.raises(DataError, match="uint8"):
        downsampling_psnr(images.astype(float), bits_per_pixel=1)
    with pytest.raises(DataError, match="1 to 8"):
        downsampling_psnr(images, bits_per_pixel=1, bits_per_value=(9,))


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_codec_takes_the_highest_quality_that_fits(codec) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 48, 64), dtype=np.uint8)
    result = codec_psnr(images, bits_per_pixel=4.0, codec=codec)
    sizes = []
    for quality in (result.quality, result.quality + 1):
        files = rate._encode(images, codec, quality)
        sizes.append(8 * sum(map(len, files)) / (3 * 48 * 64))
    assert sizes[0] == result.bits_per_pixel <= 4.0 < sizes[1]
    first = np.asarray(Image.open(io.BytesIO(rate._encode(images, codec, result.quality)[0])))
    np.testing.assert_array_equal(result.reconstructions[0], first.transpose(2, 0, 1))
    np.testing.assert_array_equal(result.psnr, psnr(images, result.reconstructions, data_range=255))
    less = codec_psnr(images, bits_per_pixel=2.5, codec=codec)
    assert less.quality < result.quality and less.psnr.mean() < result.psnr.mean()
    most = codec_psnr(images, bits_per_pixel=1e3, codec=codec)
    assert most.quality == 100


def test_codec_of_clips_is_of_their_frames() -> None:
    frames = _smooth(6, 16, 16)
    clips = frames.reshape(2, 3, 3, 16, 16).swapaxes(1, 2)
    whole = codec_psnr(frames, bits_per_pixel=9.0)
    result = codec_psnr(clips, bits_per_pixel=9.0)
    assert (result.quality, result.bits_per_pixel) == (whole.quality, whole.bits_per_pixel)
    np.testing.assert_array_equal(
        result.reconstructions.swapaxes(1, 2).reshape(6, 3, 16, 16), whole.reconstructions
    )
    assert result.psnr.shape == (2,)


def test_codec_refuses() -> None:
    images = _smooth(1, 16, 16)
    with pytest.raises(DataError, match=r"jpeg takes .* at its lowest quality, more than 0\.5"):
        codec_psnr(images, bits_per_pixel=0.5, codec="jpeg")
    with pytest.raises(DataError, match="a codec of"):
        codec_psnr(images, bits_per_pixel=8, codec="png")
    for bad in (images.astype(float), images[:, :1], images[0]):
        with pytest.raises(DataError, match="expected uint8"):
            codec_psnr(bad, bits_per_pixel=8)
