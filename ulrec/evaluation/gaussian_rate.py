"""What a Gaussian of the pictures' covariance would cost: rate and distortion in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError

__all__ = ["gaussian_psnr"]

FloatArray = NDArray[np.float64]
HALVINGS = 80


def gaussian_psnr(
    images: NDArray[np.uint8], *, bits_per_pixel: Sequence[float], block: int = 8
) -> FloatArray:
    """Return the PSNR that blocks of pictures reach at given rates if they are Gaussian.

    The rate-distortion function of a Gaussian with the covariance of all block x block x C blocks,
    coded each by itself, by reverse water-filling: D = sum min(v, w) and R = sum 1/2 log2(v / w)
    over the eigenvalues v above the water level w. No other source of that covariance needs more
    bits, pictures need fewer; the mean comes free.

    Parameters
    ----------
    images
        uint8 (N, C, H, W), or (N, C, F, H, W).
    bits_per_pixel
        The rates, above 0 each.
    block
        Side of the blocks; what is left over at the borders is not looked at.

    Returns
    -------
    FloatArray
        (len(bits_per_pixel),), PSNR of the mean squared error, at a range of 255.

    Raises
    ------
    DataError
        If images have another type or shape or are smaller than a block, all blocks are alike, or a
        rate is not positive.
    """
    if images.dtype != np.uint8 or images.ndim not in (4, 5) or images.size == 0:
        raise DataError(f"expected uint8 (N, C, [F,] H, W), got {images.dtype} {images.shape}")
    if block < 1 or min(images.shape[-2:]) < block:
        raise DataError(
            f"blocks of {block}x{block} do not fit pictures of {images.shape[-2:]}; lower block"
        )
    rates = np.asarray(bits_per_pixel, np.float64)
    if not (rates > 0).all():
        raise DataError(f"rates have to be above 0 bits/pixel, got {rates.tolist()}")
    variances = _variances(images, block)
    if not variances.max() > 0:
        raise DataError("all blocks are alike: there is nothing to code")
    nats = rates * np.log(2) * block**2
    levels = np.array([_water(variances, rate) for rate in nats])
    errors = np.minimum(variances, levels[:, None]).mean(axis=1)
    return np.asarray(10 * np.log10(255**2 / errors))


def _variances(images: NDArray[np.uint8], block: int) -> FloatArray:
    """Return the eigenvalues of the covariance of all blocks, (C block^2,)."""
    frames = images if images.ndim == 4 else images.swapaxes(1, 2).reshape(-1, *_frame(images))
    height, width = (side // block * block for side in frames.shape[2:])
    cut = frames[:, :, :height, :width]
    shape = (len(cut), cut.shape[1], height // block, block, width // block, block)
    blocks = cut.reshape(shape).transpose(0, 2, 4, 1, 3, 5).reshape(-1, cut.shape[1] * block**2)
    covariance = np.cov(blocks.T.astype(np.float64), bias=True)
    return np.asarray(np.linalg.eigvalsh(np.atleast_2d(covariance)).clip(0))


def _frame(images: NDArray[np.uint8]) -> tuple[int, ...]:
    return images.shape[1], *images.shape[3:]


def _water(variances: FloatArray, nats: float) -> float:
    """Return the water level at which coding costs so many nats a block, by bisection of its log.

    The rate falls with the level: from more than ``nats`` at the lower end to 0 at the highest
    variance.
    """
    top = float(np.log(variances.max()))
    # One component alone pays all nats at top - 2 nats.
    low, high = top - 2 * nats - 1, top
    with np.errstate(divide="ignore"):
        logs = np.log(variances)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rate = 0.5 * np.maximum(logs - middle, 0).sum()
        low, high = (middle, high) if rate > nats else (low, middle)
    return float(np.exp(high))
