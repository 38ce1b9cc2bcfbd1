"""How clips move: motion that is not noise, what stands still, and features that know the order.

A video's Frechet distance (FVD) takes I3D features, which no package ships; these figures go under
names of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.statistics import bootstrap_means

__all__ = [
    "Ratio",
    "border_variance",
    "clip_features",
    "mean_ratio",
    "shuffled_frames",
    "temporal_energy",
]

FloatArray = NDArray[np.float64]

CELL = 4
RING = 1


def temporal_energy(clips: NDArray[np.uint8], *, cell: int = CELL) -> FloatArray:
    """Return the mean square change from frame to frame of each clip's coarse picture, (N,).

    The picture is averaged over cells first: what flickers from pixel to pixel cancels out, what
    moves does not. In squared units of [-1, 1].

    Parameters
    ----------
    clips
        Uint8 (N, C, F, H, W), F at least 2.
    cell
        Side of a cell in pixels; it has to divide H and W.

    Raises
    ------
    DataError
        If they are no clips, or do not divide into cells.

    Examples
    --------
    >>> dark, light = np.zeros((1, 3, 1, 4, 4), np.uint8), np.full((1, 3, 1, 4, 4), 255, np.uint8)
    >>> temporal_energy(np.concatenate([dark, light, light], axis=2)).tolist()
    [2.0]
    """
    _require_clips(clips)
    num, channels, frames, height, width = clips.shape
    if cell < 1 or height % cell or width % cell:
        raise DataError(f"clips of {height}x{width} do not divide into cells of {cell}")
    cells = clips.reshape(num, channels, frames, height // cell, cell, width // cell, cell)
    coarse = cells.mean(axis=(4, 6), dtype=np.float64) / 127.5
    energy: FloatArray = np.square(np.diff(coarse, axis=2)).mean(axis=(1, 2, 3, 4))
    return energy


def border_variance(clips: NDArray[np.uint8], *, ring: int = RING) -> FloatArray:
    """Return the variance over time of the outermost pixels of each clip, their mean, (N,).

    There the background is, as a rule, and stands still in a film of a thing. In squared units of
    [-1, 1].

    Parameters
    ----------
    clips
        Uint8 (N, C, F, H, W), F at least 2.
    ring
        How many pixels from the border count.

    Raises
    ------
    DataError
        If they are no clips, or nothing is left within the ring.

    Examples
    --------
    >>> clip = np.zeros((1, 3, 2, 4, 4), np.uint8)
    >>> clip[:, :, 1, 0, 0] = 255  # one of the twelve outermost pixels
    >>> round(float(border_variance(clip)[0]) * 12, 6)
    1.0
    """
    _require_clips(clips)
    height, width = clips.shape[3:]
    if ring < 1 or 2 * ring >= min(height, width):
        raise DataError(f"a ring of {ring} pixels leaves nothing of clips of {height}x{width}")
    outside = np.ones((height, width), bool)
    outside[ring:-ring, ring:-ring] = False
    pixels = clips[..., outside].astype(np.float64) / 127.5  # (N, C, F, P)
    variance: FloatArray = pixels.var(axis=2).mean(axis=(1, 2))
    return variance


def clip_features(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features of clips from those of their frames: their mean and how fast they change.

    Parameters
    ----------
    frames
        Of each frame, (N, F, d), F at least 2.

    Returns
    -------
    NDArray[np.float32]
        (N, 2 d): the mean over frames and, beside it, the root mean square change from one frame to
        the next. The mean does not know the order of frames; the change does.

    Raises
    ------
    DataError
        If there are fewer than 2 frames.
    """
    if frames.ndim != 3 or frames.shape[1] < 2:
        raise DataError(f"expected features of frames (N, F, d), F at least 2, got {frames.shape}")
    change = np.sqrt(np.square(np.diff(frames, axis=1)).mean(axis=1))
    return np.concatenate([frames.mean(axis=1), change], axis=1)


def shuffled_frames(clips: NDArray[Any], *, seed: int) -> NDArray[Any]:
    """Return clips, or features of their frames, with frames out of order: a control.

    Parameters
    ----------
    clips
        Features (N, F, d), each sample shuffled by itself along the second axis.
    seed
        Of the orders.
    """
    rng = np.random.default_rng([seed, 11])
    order = rng.permuted(np.tile(np.arange(clips.shape[1]), (len(clips), 1)), axis=1)
    shuffled: NDArray[Any] = clips[np.arange(len(clips))[:, None], order]
    return shuffled


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """A ratio of two means, and its interval."""

    value: float
    low: float
    high: float


def mean_ratio(values: ArrayLike, reference: ArrayLike, *, seed: int, num_resamples: int) -> Ratio:
    """Return mean(values) / mean(reference); the interval resamples both, independently.

    Raises
    ------
    DataError
        If the reference's mean is not above 0.
    """
    above, below = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if not below.mean() > 0:
        raise DataError(f"a ratio needs a reference above 0, got a mean of {below.mean()}")
    drawn = [
        bootstrap_means(
            x[:, None], seed=np.random.default_rng([seed, part]), num_resamples=num_resamples
        )[:, 0]
        for part, x in enumerate((above, below))
    ]
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    return Ratio(value=float(above.mean() / below.mean()), low=float(low), high=float(high))


def _require_clips(clips: NDArray[Any]) -> None:
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[2] < 2:
        raise DataError(
            f"expected clips, uint8 (N, C, F, H, W) of 2 frames or more, got {clips.dtype} "
            f"{clips.shape}"
        )
