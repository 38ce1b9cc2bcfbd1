"""Mean colours of pictures in CIELAB, where distances are about those that people see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError

__all__ = ["hex_colours", "mean_colours"]

# IEC 61966-2-1 to XYZ, divided by the D65 white so that (1, 1, 1) maps to (1, 1, 1).
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_XYZ_BY_WHITE = _XYZ / _XYZ.sum(axis=1, keepdims=True)
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27


def mean_colours(
    pictures: NDArray[np.uint8], masks: NDArray[np.uint8] | None = None
) -> NDArray[np.float32]:
    """Return the mean foreground colour of pictures in CIELAB (D65), averaged in linear light.

    Parameters
    ----------
    pictures
        Uint8 sRGB (I, 3, H, W).
    masks
        Foreground, uint8 (I, H, W); a picture whose mask is empty counts whole.

    Returns
    -------
    NDArray[np.float32]
        L, a, b, shape (I, 3).

    Raises
    ------
    DataError
        If a shape or dtype is another.

    Examples
    --------
    >>> white = np.full((1, 3, 2, 2), 255, np.uint8)
    >>> mean_colours(white).round(1).tolist()
    [[100.0, 0.0, 0.0]]
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.dtype != np.uint8:
        raise DataError(
            f"pictures have to be uint8 (I, 3, H, W), got {pictures.dtype} {pictures.shape}"
        )
    expected = (len(pictures), *pictures.shape[2:])
    if masks is not None and (masks.shape != expected or masks.dtype != np.uint8):
        raise DataError(f"masks have to be uint8 {expected}, got {masks.dtype} {masks.shape}")
    light = _linear_light(np.arange(256) / 255).astype(np.float32)
    means = np.empty((len(pictures), 3))
    for row, picture in enumerate(pictures):
        weight = np.ones(picture.shape[1:], np.float32)
        if masks is not None and masks[row].any():
            weight = masks[row].astype(np.float32)
        means[row] = (light[picture] * weight).sum(axis=(1, 2)) / weight.sum()
    return _lab(means).astype(np.float32)


def _linear_light(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return CIELAB of linear sRGB, both (n, 3)."""
    xyz = linear @ _XYZ_BY_WHITE.T
    f = np.where(xyz > _EPSILON, np.cbrt(xyz), (_KAPPA * xyz + 16) / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def hex_colours(lab: NDArray[np.float32]) -> list[str]:
    """Return #rrggbb of CIELAB colours (n, 3), the inverse of :func:`_lab` clipped to the gamut."""
    lightness, a, b = lab.astype(np.float64).T
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=1)
    xyz = np.where(f**3 > _EPSILON, f**3, (116 * f - 16) / _KAPPA)
    linear = np.clip(xyz @ np.linalg.inv(_XYZ_BY_WHITE).T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return ["#{:02x}{:02x}{:02x}".format(*row) for row in np.rint(srgb * 255).astype(int).tolist()]
