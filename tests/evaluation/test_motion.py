from __future__ import annotations

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.motion import (
    border_variance,
    clip_features,
    mean_ratio,
    shuffled_frames,
    temporal_energy,
)

RNG = np.random.default_rng(0)


def clip(num_frames: int) -> np.ndarray:
    return np.full((1, 3, num_frames, 8, 8), 127, np.uint8)


def test_a_square_that_moves_by_a_cell():
    """A white 4x4 square on black: two of four cells change by 2 from frame to frame, once."""
    moving = np.zeros((1, 1, 3, 8, 8), np.uint8)
    moving[:, :, 0, :4, :4] = 255
    moving[:, :, 1:, :4, 4:] = 255
    # steps: (2^2 + 2^2) / 4 cells, then 0; mean over two steps
    assert temporal_energy(moving).tolist() == pytest.approx([1.0])


def test_flicker_within_a_cell_is_no_motion():
    flicker = np.zeros((1, 1, 2, 8, 8), np.uint8)
    flicker[:, :, 0, ::2] = 255
    flicker[:, :, 1, 1::2] = 255
    assert temporal_energy(flicker).tolist() == [0.0]
    assert temporal_energy(flicker, cell=1).tolist() == pytest.approx([4.0])


def test_the_border_is_the_ring_and_nothing_else():
    inside, outside = clip(2), clip(2)
    inside[:, :, 1, 1:-1, 1:-1] = 255
    assert border_variance(inside).tolist() == [0.0]
    outside[:, :, 1, 0, :] = 0  # 8 of 28 pixels, from 127 to 0: variance (127 / 127.5 / 2)^2
    assert border_variance(outside).tolist() == pytest.approx([8 / 28 * (127 / 127.5 / 2) ** 2])


def test_features_of_clips_by_hand():
    frames = np.array([[[0.0, 1.0], [3.0, 1.0], [3.0, 5.0]]], np.float32)
    expected = [2, 7 / 3, np.sqrt(9 / 2), np.sqrt(16 / 2)]
    assert clip_features(frames)[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_shuffling_keeps_the_mean_and_raises_the_change():
    frames = np.cumsum(RNG.normal(size=(50, 16, 4)), axis=1).astype(np.float32)
    shuffled = shuffled_frames(frames, seed=0)
    assert (np.sort(shuffled, axis=1) == np.sort(frames, axis=1)).all()
    assert not (shuffled == frames).all()
    before, after = clip_features(frames), clip_features(shuffled)
    np.testing.assert_allclose(after[:, :4], before[:, :4], rtol=1e-4, atol=1e-5)
    assert after[:, 4:].mean() > 2 * before[:, 4:].mean()
    assert (shuffled_frames(frames, seed=0) == shuffled).all()
    assert not (shuffled_frames(frames, seed=1) == shuffled).all()


def test_ratio_of_means_and_its_interval():
    ratio = mean_ratio([2.0, 4.0], [1.0, 1.0], seed=0, num_resamples=200)
    assert ratio.value == 3.0
    assert (ratio.low, ratio.high) == (2.0, 4.0)
    assert mean_ratio([1.0, 5.0], [1.0, 5.0], seed=0, num_resamples=500).low < 1 / 3
    with pytest.raises(DataError, match="a reference above 0"):
        mean_ratio([1.0], [0.0], seed=0, num_resamples=10)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 3, 1, 8, 8), np.uint8), np.zeros((1, 3, 2, 8, 8)), np.zeros((3, 8, 8))]
)
@pytest.mark.parametrize("measure", [temporal_energy, border_variance])
def test_pictures_are_no_clips(measure, wrong):
    with pytest.raises(DataError, match="expected clips"):
        measure(wrong)


def test_sizes_that_do_not_fit():
    with pytest.raises(DataError, match="do not divide into cells of 3"):
        temporal_energy(clip(2), cell=3)
    with pytest.raises(DataError, match="a ring of 4 pixels leaves nothing"):
        border_variance(clip(2), ring=4)
    with pytest.raises(DataError, match="F at least 2"):
        clip_features(np.zeros((3, 1, 4), np.float32))
