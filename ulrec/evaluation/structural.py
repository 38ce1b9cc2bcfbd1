"""Structural similarity: how alike two pictures are in local means, contrasts and patterns."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from ulrec.errors import DataError
from ulrec.evaluation.fidelity import in_chunks, require_media

__all__ = ["Border", "ssim"]

FloatArray = NDArray[np.float64]
Media = NDArray[Any]
Border = Literal["valid", "mirror"]

RADIUS, SIGMA = 5, 1.5
LUMINANCE, CONTRAST = 0.01, 0.03


def ssim(x: Media, y: Media, *, data_range: float, border: Border = "valid") -> FloatArray:
    """Return the structural similarity of each sample: the mean over windows and channels.

    Of a window with Gaussian weights (11x11, sigma 1.5), means m, variances v and covariance c,
    (2 m_x m_y + C1) (2 c + C2) / ((m_x^2 + m_y^2 + C1) (v_x + v_y + C2)) with C1 = (0.01 L)^2,
    C2 = (0.03 L)^2 and L the data range. Values are taken from black = 0, also where floats in
    [-1, 1] put it at -1: the luminance term depends on it, and bytes and floats agree only so.

    Parameters
    ----------
    x, y
        Pictures (N, C, H, W), or clips (N, C, F, H, W) whose frames are compared one by one; of one
        shape and type.
    data_range
        255 for uint8 (or floats in [0, 255]), 2 for floats in [-1, 1], 1 for floats in [0, 1].
    border
        "valid" averages over the windows that lie within the picture, the definition. "mirror"
        reflects the picture at its edges and averages over all pixels, as torchmetrics does; its
        numbers are others.

    Returns
    -------
    FloatArray
        (N,), at most 1.

    Raises
    ------
    DataError
        If shapes or types differ, the values are not those that the data range stands for, a side
        is shorter than the window (for "mirror" than 6), or the border is unknown.

    Examples
    --------
    >>> x = np.zeros((1, 3, 11, 11), np.uint8)
    >>> ssim(x, x, data_range=255), ssim(x, x + 51, data_range=255).round(4)
    (array([1.]), array([0.0025]))
    """
    require_media(x, y, data_range)
    least = {"valid": 2 * RADIUS + 1, "mirror": RADIUS + 1}.get(border)
    if least is None:
        raise DataError(f"border has to be 'valid' or 'mirror', got {border!r}")
    if x.ndim not in (4, 5) or min(x.shape[-2:]) < least:
        raise DataError(
            f"expected (N, C, H, W) or (N, C, F, H, W) with H and W of at least {least} for border "
            f"{border!r}, got {x.shape}; compare larger media"
        )
    black = -1.0 if data_range == 2 else 0.0

    def similarity(part: slice) -> FloatArray:
        first, second = (media[part].astype(np.float64) - black for media in (x, y))
        values = _similarity(first, second, data_range)
        if border == "valid":
            values = values[..., RADIUS:-RADIUS, RADIUS:-RADIUS]
        return np.asarray(values.reshape(len(values), -1).mean(axis=1), np.float64)

    return in_chunks(similarity, len(x))


def _similarity(x: FloatArray, y: FloatArray, data_range: float) -> FloatArray:
    """Return the map of similarities, of the shape of x."""
    c1, c2 = (LUMINANCE * data_range) ** 2, (CONTRAST * data_range) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    both, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances = np.maximum(_blur(x**2) + _blur(y**2) - both, 0)
    covariance = _blur(x * y) - product
    return np.asarray((2 * product + c1) * (2 * covariance + c2) / ((both + c1) * (variances + c2)))


def _blur(values: FloatArray) -> FloatArray:
    """Return weighted means over windows of the last two axes."""
    steps = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(steps**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows = correlate1d(values, weights, axis=-1, mode="mirror")
    return np.asarray(correlate1d(rows, weights, axis=-2, mode="mirror"))
