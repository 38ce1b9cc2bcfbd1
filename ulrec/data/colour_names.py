"""Colours of pictures by their basic names, as people would say them.

Every pixel counts for the name of the nearest prototype in CIELAB. The eleven names are the basic
colour terms of English (Berlin and Kay 1969); a name has several prototypes, as "blue" is said of
navy and of the sky.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from ulrec.data.colour import mean_colours
from ulrec.errors import DataError

__all__ = ["COLOURS", "colour_shares"]

LEVELS = 32
"""Levels of a channel that are told apart: 8 sRGB steps make no other name."""

PROTOTYPES = {
    "black": ("#101010", "#2c2c2e", "#3a3644"),
    "white": ("#ffffff", "#ececee"),
    "grey": ("#505055", "#808085", "#b4b4b8", "#9aa5b4"),
    "red": ("#e02020", "#b01020", "#f05050", "#f83a58", "#d02850"),
    "orange": ("#f08010", "#f89840", "#e06818"),
    "yellow": ("#f8d020", "#fff070", "#e8b818", "#ffc840"),
    "green": ("#20a030", "#70c040", "#106030", "#90d080", "#a0c020"),
    "blue": ("#2060e0", "#50a0f0", "#103080", "#a0d0ff", "#20b0d0"),
    "purple": ("#8030c0", "#b080e0", "#502080"),
    "pink": ("#f080b0", "#f8b8d0", "#e03090"),
    "brown": ("#804020", "#603018", "#a06840", "#b88860", "#905848"),
}

COLOURS = tuple(PROTOTYPES)
"""The names, in the order of the columns of :func:`colour_shares`."""


def colour_shares(
    pictures: NDArray[np.uint8], masks: NDArray[np.uint8] | None = None
) -> NDArray[np.float32]:
    """Return which share of each picture's foreground has which colour, by ``COLOURS``.

    Parameters
    ----------
    pictures
        Uint8 sRGB (I, 3, H, W).
    masks
        Foreground, uint8 (I, H, W), 0 outside; a picture whose mask is empty counts whole.

    Returns
    -------
    NDArray[np.float32]
        (I, 11); rows add up to 1.

    Raises
    ------
    DataError
        If a shape or dtype is another.

    Examples
    --------
    >>> sky = np.broadcast_to(np.array([80, 160, 240], np.uint8)[:, None, None], (1, 3, 2, 2))
    >>> COLOURS[int(colour_shares(sky)[0].argmax())]
    'blue'
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.dtype != np.uint8:
        raise DataError(
            f"pictures have to be uint8 (I, 3, H, W), got {pictures.dtype} {pictures.shape}"
        )
    shape = (len(pictures), *pictures.shape[2:])
    if masks is not None and masks.shape != shape:
        raise DataError(f"masks have to be {shape}, got {masks.shape}; give one for each picture")
    names = _names()[tuple(pictures.transpose(1, 0, 2, 3) // (256 // LEVELS))]  # (I, H, W)
    inside = np.ones(shape, bool) if masks is None else masks > 0
    inside = inside | ~inside.any(axis=(1, 2), keepdims=True)
    counts = [((names == name) & inside).sum(axis=(1, 2)) for name in range(len(COLOURS))]
    area = inside.sum(axis=(1, 2))[:, None]
    shares: NDArray[np.float32] = (np.stack(counts, axis=1) / area).astype(np.float32)
    return shares


@functools.cache
def _names() -> NDArray[np.uint8]:
    """Return the number of the name of every colour, (LEVELS, LEVELS, LEVELS)."""
    middles = (np.arange(LEVELS) * (256 // LEVELS) + 128 // LEVELS).astype(np.uint8)
    grid = np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1).reshape(-1, 3)
    listed = [(number, h) for number, hexes in enumerate(PROTOTYPES.values()) for h in hexes]
    prototypes = np.array([list(bytes.fromhex(h[1:])) for _, h in listed], np.uint8)
    lab, lab_of = mean_colours(grid[:, :, None, None]), mean_colours(prototypes[:, :, None, None])
    nearest = ((lab[:, None] - lab_of) ** 2).sum(axis=2).argmin(axis=1)
    names: NDArray[np.uint8] = np.array([number for number, _ in listed], np.uint8)[nearest]
    return names.reshape(LEVELS, LEVELS, LEVELS)
