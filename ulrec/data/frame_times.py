"""Which frames of a clip are taken, by the time at which they are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.data.pictures import Decoded, MediaConfig
from ulrec.errors import DataError

__all__ = [
    "frames_at",
    "join_frames",
    "repeat_still",
    "require_few",
    "require_work",
    "sample_times",
]

# Seconds: times that fall on the start of a frame belong to it, however they were rounded.
EARLY = 1e-6


def sample_times(duration_s: float, config: MediaConfig) -> NDArray[np.float64]:
    """Return at which seconds of a clip its frames are taken.

    Parameters
    ----------
    duration_s
        From the start of the first frame to the end of the last.
    config
        ``frames`` and ``frame_rate``. Without a rate these are the centres of ``frames`` equal
        parts. With one they are 1 / rate apart, in the middle of the clip; of a clip that is too
        short, from its start.

    Returns
    -------
    NDArray[np.float64]
        Seconds from the start (F,).

    Raises
    ------
    DataError
        If the last frame at the rate lies after the end and ``config.short`` refuses that.

    Examples
    --------
    >>> sample_times(2.0, MediaConfig(frames=4)).tolist()
    [0.25, 0.75, 1.25, 1.75]
    >>> sample_times(2.0, MediaConfig(frames=4, frame_rate=8)).tolist()
    [0.8125, 0.9375, 1.0625, 1.1875]
    """
    centres = np.arange(config.frames, dtype=np.float64) + 0.5
    if config.frame_rate is None:
        return centres * (duration_s / config.frames)
    if centres[-1] / config.frame_rate > duration_s + EARLY and config.short == "refuse":
        raise DataError(
            f"lasts {duration_s:.3g} s, too short for {config.frames} frames at"
            f" {config.frame_rate:g} a second; lower frame_rate, or set short to 'repeat'"
        )
    start = max(0.0, (duration_s - config.frames / config.frame_rate) / 2)
    return start + centres / config.frame_rate


def frames_at(starts_s: ArrayLike, end_s: float, config: MediaConfig) -> NDArray[np.int64]:
    """Return which frames are taken: those shown at :func:`sample_times`.

    Parameters
    ----------
    starts_s
        When each frame is shown first, ascending seconds (N,).
    end_s
        When the last one ends.
    config
        See :func:`sample_times`, for the errors as well.

    Returns
    -------
    NDArray[np.int64]
        Ascending rows (F,); a frame that is shown long is taken more than once.

    Examples
    --------
    >>> frames_at([0.0, 0.1, 0.9], 1.0, MediaConfig(frames=4)).tolist()
    [1, 1, 1, 1]
    """
    starts = np.asarray(starts_s, np.float64)
    times = sample_times(end_s - float(starts[0]), config) + starts[0]
    rows = np.searchsorted(starts, times + EARLY, side="right") - 1
    return np.asarray(rows, np.int64)


def require_few(num_frames: int, config: MediaConfig) -> None:
    """Refuse more frames than ``config.max_frames``.

    Raises
    ------
    DataError
        With the numbers.
    """
    if num_frames > config.max_frames:
        raise DataError(f"has {num_frames} frames, more than max_frames {config.max_frames}")


def require_work(num_pixels: int, config: MediaConfig) -> None:
    """Refuse to decode more pixels than ``config.max_clip_pixels``.

    Raises
    ------
    DataError
        With the numbers.
    """
    if num_pixels > config.max_clip_pixels:
        raise DataError(
            f"needs {num_pixels} pixels decoded, more than max_clip_pixels {config.max_clip_pixels}"
        )


def join_frames(frames: Sequence[Decoded]) -> Decoded:
    """Return single frames as one clip; a frame without a mask is foreground all over."""
    media = np.concatenate([frame.media for frame in frames], axis=1)  # (C, F, H, W)
    if all(frame.mask is None for frame in frames):
        return Decoded(media=media, mask=None)
    whole = np.full((1, *media.shape[2:]), 255, np.uint8)
    masks = [whole if frame.mask is None else frame.mask for frame in frames]
    return Decoded(media=media, mask=np.concatenate(masks))


def repeat_still(frame: Decoded, config: MediaConfig) -> Decoded:
    """Return a single picture as a clip that stands still.

    Raises
    ------
    DataError
        If ``config.stills`` refuses it.
    """
    if config.stills == "refuse":
        raise DataError(
            "is a single picture among clips; set stills to 'repeat' to show it in every frame"
        )
    return join_frames([frame] * config.frames)
