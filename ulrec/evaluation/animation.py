"""Animated sheets: the sheets of :mod:`ulrec.evaluation.sheets`, frame by frame.

Media are uint8 (N, C, F, H, W); all of a sheet have the same F. A sheet of single frames is one
picture, and the same as the still one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.data.encode import FPS, encode_frames
from ulrec.errors import DataError
from ulrec.evaluation.sheets import SHOWN, UserRow, compared_sheet, tile, user_sheet

__all__ = [
    "Sheet",
    "animated_compared_sheet",
    "animated_user_sheet",
    "encode_sheet",
    "sheet_mime",
    "tile_clips",
]

Bytes = NDArray[np.uint8]

Sheet = tuple[Image.Image, ...]
"""The frames of a sheet; a still one has one."""


def tile_clips(media: Bytes, *, columns: int, scale: int | None = None, gap: int = 4) -> Bytes:
    """Return clips as one clip, row by row, on white.

    Parameters
    ----------
    media
        Uint8 (N, C, F, H, W), N at least 1.
    columns
        Clips in a row.
    scale
        Pixels of the result for one of the media; None enlarges small clips to 64 pixels.
    gap
        White pixels between clips.

    Returns
    -------
    Bytes
        Uint8 (F, height, width, 3), for :func:`ulrec.data.encode.encode_frames`.

    Raises
    ------
    DataError
        If type or shape are others, there is nothing to show, or a number is too small.

    Examples
    --------
    >>> tile_clips(np.zeros((3, 3, 5, 8, 8), np.uint8), columns=2, scale=2, gap=4).shape
    (5, 36, 36, 3)
    """
    num_frames = _num_frames([media])
    if scale is None:
        scale = max(1, math.ceil(SHOWN / max(1, min(media.shape[3:]))))
    frames = (media[:, :, frame : frame + 1] for frame in range(num_frames))
    return np.stack([tile(frame, columns=columns, scale=scale, gap=gap) for frame in frames])


def animated_compared_sheet(rows: Mapping[str, Bytes], *, title: str) -> Sheet:
    """Return labelled rows of clips that belong together column by column.

    See :func:`ulrec.evaluation.sheets.compared_sheet` for the parameters and errors.
    """
    return tuple(
        compared_sheet({name: m[:, :, f : f + 1] for name, m in rows.items()}, title=title)
        for f in range(_num_frames(rows.values()))
    )


def animated_user_sheet(
    rows: Sequence[UserRow], *, columns: Sequence[str], title: str, simulated: bool = False
) -> Sheet:
    """Return one row a user and one group of clips a column.

    See :func:`ulrec.evaluation.sheets.user_sheet` for the parameters and errors.
    """
    frames = range(_num_frames(media for row in rows for media in row.groups.values()))
    return tuple(
        user_sheet(
            [_at(row, frame) for row in rows], columns=columns, title=title, simulated=simulated
        )
        for frame in frames
    )


def encode_sheet(sheet: Sheet, *, fps: float = FPS) -> bytes:
    """Return a sheet as a file: PNG if it is still, else animated WebP that plays for ever."""
    frames = np.stack([np.asarray(frame) for frame in sheet])
    return encode_frames(frames, kind="png" if len(sheet) == 1 else "webp", fps=fps)


def sheet_mime(sheet: Sheet) -> str:
    """Return the type of what :func:`encode_sheet` makes."""
    return "image/png" if len(sheet) == 1 else "image/webp"


def _at(row: UserRow, frame: int) -> UserRow:
    shown = {name: media[:, :, frame : frame + 1] for name, media in row.groups.items()}
    return dataclasses.replace(row, groups=shown)


def _num_frames(media: Iterable[Bytes]) -> int:
    shapes = {tuple(clips.shape) for clips in media}
    counts = {shape[2] for shape in shapes if len(shape) == 5}
    if len(counts) != 1 or any(len(shape) != 5 for shape in shapes) or 0 in counts:
        raise DataError(
            f"clips of a sheet have to be (N, C, F, H, W) of one F, got {sorted(shapes)}"
        )
    return int(counts.pop())
