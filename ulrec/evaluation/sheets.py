"""Sheets of pictures: what was real, what was made of it, and for whom.

Media are uint8 (N, C, H, W), or (N, C, F, H, W) with F = 1; C is 1 or 3. Pixels are enlarged whole
numbers of times and never smoothed, so that a sheet shows what a model drew.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation.page import GUTTER, PAD, SMALL_SIZE, TEXT_SIZE, Page, font

__all__ = [
    "UserRow",
    "compared_sheet",
    "film",
    "reconstruction_sheet",
    "sample_sheet",
    "save_png",
    "tile",
    "user_sheet",
]

Bytes = NDArray[np.uint8]
SHOWN = 64  # smallest side of a picture on a sheet, in pixels
PER_BAND = 12  # pictures in a row before a sheet goes on below
GAP = 4
LABEL_WIDTH = 150


@dataclass(frozen=True, kw_only=True, slots=True)
class UserRow:
    """One user on a sheet.

    Attributes
    ----------
    user_id
        Shown at the left.
    groups
        Media by heading, such as "liked" and "generated"; a heading of the sheet that is missing
        here stays blank.
    note
        A few words below the id, such as "32 liked".
    """

    user_id: str
    groups: Mapping[str, Bytes] = field(default_factory=dict)
    note: str = ""


def tile(media: Bytes, *, columns: int, scale: int = 1, gap: int = GAP) -> Bytes:
    """Return media as one picture, row by row, on white.

    Parameters
    ----------
    media
        Uint8 (N, C, H, W) or (N, C, 1, H, W), N at least 1.
    columns
        Pictures in a row.
    scale
        Pixels of the result for one pixel of the media.
    gap
        White pixels between pictures.

    Returns
    -------
    Bytes
        Uint8 (height, width, 3).

    Raises
    ------
    DataError
        If type or shape are others, there is nothing to show, or a number is too small.

    Examples
    --------
    >>> tile(np.zeros((3, 3, 8, 8), np.uint8), columns=2, scale=2, gap=4).shape
    (36, 36, 3)
    """
    pictures = _pictures(media)
    if columns < 1 or scale < 1 or gap < 0 or len(pictures) == 0:
        raise DataError(
            f"expected pictures, columns and scale from 1 and a gap from 0, got {len(pictures)} "
            f"pictures, columns {columns}, scale {scale}, gap {gap}"
        )
    height, width = (side * scale for side in pictures.shape[1:3])
    used, rows = min(columns, len(pictures)), math.ceil(len(pictures) / columns)
    size = (rows * (height + gap) - gap, used * (width + gap) - gap, 3)
    sheet = np.full(size, 255, np.uint8)
    for number, picture in enumerate(pictures):
        top = (number // columns) * (height + gap)
        left = (number % columns) * (width + gap)
        large = picture.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + height, left : left + width] = large
    return sheet


def sample_sheet(media: Bytes, *, columns: int = PER_BAND, title: str) -> Image.Image:
    """Return media in rows below a title.

    See :func:`tile` for the errors.
    """
    body = tile(media, columns=columns, scale=_scale(_pictures(media)))
    page = Page(title=title, width=body.shape[1], height=body.shape[0])
    page.paste(body, 0, 0)
    return page.image


def reconstruction_sheet(
    real: Bytes,
    reconstructed: Bytes,
    *,
    baseline: Bytes | None = None,
    baseline_name: str = "",
    title: str,
) -> Image.Image:
    """Return rows of real pictures, what the latents keep of them, and a baseline at equal bits.

    Parameters
    ----------
    real, reconstructed, baseline
        The same N pictures, media of one shape each.
    baseline_name
        What the baseline's row is called; needed with one.
    title
        Stands above.

    Raises
    ------
    DataError
        If the media are not of one shape, or the baseline has no name.
    """
    rows = {"real": real, "reconstructed": reconstructed}
    if baseline is not None:
        if not baseline_name:
            raise DataError("a baseline needs its name; pass baseline_name")
        rows[baseline_name] = baseline
    return compared_sheet(rows, title=title)


def compared_sheet(rows: Mapping[str, Bytes], *, title: str) -> Image.Image:
    """Return labelled rows of pictures that belong together column by column.

    Parameters
    ----------
    rows
        Media of one shape by label, at least one row of at least one picture.
    title
        Stands above.

    Raises
    ------
    DataError
        If the media are not of one shape, or there are none.
    """
    pictures = {name: _pictures(media) for name, media in rows.items()}
    shapes = {name: found.shape for name, found in pictures.items()}
    if len(set(shapes.values())) != 1 or 0 in next(iter(shapes.values())):
        raise DataError(f"rows need the same pictures (N, H, W, 3), N at least 1, got {shapes}")
    return _bands(pictures, title)


def user_sheet(
    rows: Sequence[UserRow],
    *,
    columns: Sequence[str],
    title: str,
    simulated: bool = False,
    highlight: str | None = "generated",
) -> Image.Image:
    """Return one row a user and one group of pictures a column.

    Parameters
    ----------
    rows
        The users, at least one.
    columns
        Headings, in order; every group of a row has to be among them.
    title
        Stands above.
    simulated
        Whether to say that the users are simulated.
    highlight
        The column that gets a tinted ground, if it is there.

    Raises
    ------
    DataError
        If there are no users, a group has no column, or media differ in size.
    """
    layout = _UserLayout.of(rows, columns)
    badge = "Simulated users" if simulated else ""
    page = Page(title=title, width=layout.width, height=layout.height(len(rows)), badge=badge)
    if highlight is not None and highlight in columns:
        left, right = layout.span(list(columns).index(highlight))
        page.ground(left - PAD, 0, right + PAD, layout.height(len(rows)))
    for column, heading in enumerate(columns):
        left, right = layout.span(column)
        page.text(heading, left, PAD - 3, width=right - left, bold=True)
    for number, row in enumerate(rows):
        _draw_user(page, layout, number, row, columns)
    return page.image


def save_png(image: Image.Image, path: str | Path) -> None:
    """Write a PNG whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            image.save(file, format="PNG", optimize=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _UserLayout:
    """Where the groups of a user sheet stand: columns of some widths, pictures of one size."""

    widths: tuple[int, ...]
    size: tuple[int, int]
    scale: int
    label: int

    @classmethod
    def of(cls, rows: Sequence[UserRow], columns: Sequence[str]) -> _UserLayout:
        unknown = sorted({name for row in rows for name in row.groups} - set(columns))
        if not rows or not columns or unknown:
            raise DataError(
                f"expected users whose groups are among the columns {list(columns)}, got "
                f"{len(rows)} users and the other groups {unknown}"
            )
        media = [_pictures(pictures) for row in rows for pictures in row.groups.values()]
        sizes = {pictures.shape[1:3] for pictures in media if len(pictures)}
        if len(sizes) != 1:
            raise DataError(f"pictures of a sheet need one size (H, W), got {sorted(sizes)}")
        height, width = sizes.pop()
        scale = math.ceil(SHOWN / min(height, width))
        bold, text, small = font(TEXT_SIZE, bold=True), font(TEXT_SIZE), font(SMALL_SIZE)
        labels = [max(text.getlength(row.user_id), small.getlength(row.note)) for row in rows]
        counts = [max(len(row.groups.get(name, ())) for row in rows) for name in columns]
        return cls(
            widths=tuple(
                max(count * (width * scale + GAP) - GAP, math.ceil(bold.getlength(name)))
                for name, count in zip(columns, counts, strict=True)
            ),
            size=(height * scale, width * scale),
            scale=scale,
            label=min(LABEL_WIDTH, math.ceil(max(SHOWN, *labels))),
        )

    @property
    def width(self) -> int:
        return self.span(len(self.widths) - 1)[1] + PAD

    def height(self, num_rows: int) -> int:
        return self.row(num_rows) + PAD // 2

    def row(self, number: int) -> int:
        return PAD + TEXT_SIZE + PAD + number * (self.size[0] + 2 * PAD)

    def span(self, column: int) -> tuple[int, int]:
        """Return the left and right end of a column."""
        left = self.label + GUTTER + sum(width + GUTTER for width in self.widths[:column])
        return left, left + self.widths[column]


def _draw_user(
    page: Page, layout: _UserLayout, number: int, row: UserRow, columns: Sequence[str]
) -> None:
    top = layout.row(number)
    page.rule(top, layout.width)
    middle = top + PAD + layout.size[0] // 2
    page.text(row.user_id, 0, middle - TEXT_SIZE - (2 if row.note else -5), width=layout.label)
    if row.note:
        page.text(row.note, 0, middle + 3, width=layout.label, quiet=True)
    for column, heading in enumerate(columns):
        media = row.groups.get(heading)
        if media is not None and len(media):
            pixels = tile(media, columns=len(media), scale=layout.scale)
            page.paste(pixels, layout.span(column)[0], top + PAD)


def _bands(rows: Mapping[str, Bytes], title: str) -> Image.Image:
    """Return labelled rows of pictures; long ones go on in another band below."""
    pictures = next(iter(rows.values()))
    number, scale = len(pictures), _scale(pictures)
    height, width = (side * scale for side in pictures.shape[1:3])
    longest = max(font(TEXT_SIZE).getlength(name) for name in rows)
    label = min(LABEL_WIDTH, math.ceil(longest)) + GUTTER
    used, num_bands = min(number, PER_BAND), math.ceil(number / PER_BAND)
    band_height = len(rows) * (height + GAP) + GUTTER
    page = Page(
        title=title,
        width=label + used * (width + GAP) - GAP,
        height=num_bands * band_height - GUTTER - GAP,
    )
    for band in range(num_bands):
        part = slice(band * PER_BAND, (band + 1) * PER_BAND)
        for place, (name, media) in enumerate(rows.items()):
            top = band * band_height + place * (height + GAP)
            page.text(name, 0, top + height // 2 - TEXT_SIZE // 2 - 2, width=label - GUTTER)
            shown = np.moveaxis(media[part], -1, 1)
            page.paste(tile(shown, columns=PER_BAND, scale=scale), label, top)
    return page.image


def film(media: NDArray[Any], *, num_frames: int = 4) -> NDArray[Any]:
    """Return clips as strips of a few frames, evenly spread, and pictures as they are.

    (N, C, F, H, W) -> (N, C, 1, H, k W), k at most ``num_frames``.
    """
    chosen = np.linspace(0, media.shape[2] - 1, min(num_frames, media.shape[2])).round().astype(int)
    frames = media[:, :, chosen]  # (N, C, k, H, W)
    return np.concatenate([frames[:, :, i : i + 1] for i in range(len(chosen))], axis=-1)


def _pictures(media: NDArray[Any]) -> Bytes:
    """Return media as (N, H, W, 3), checked."""
    if media.dtype != np.uint8 or media.ndim not in (4, 5) or media.shape[1] not in (1, 3):
        raise DataError(
            f"expected uint8 (N, C, [1,] H, W) with C of 1 or 3, got {media.dtype} {media.shape}"
        )
    if media.ndim == 5 and media.shape[2] != 1:
        raise DataError(
            f"a sheet shows single frames, got clips of {media.shape[2]}; choose one, as in "
            "media[:, :, 0], or see ulrec.evaluation.animation"
        )
    flat = media[:, :, 0] if media.ndim == 5 else media
    if 0 in flat.shape[2:]:
        raise DataError(f"pictures need a height and a width, got {media.shape}")
    channels = np.broadcast_to(flat, (len(flat), 3, *flat.shape[2:]))
    return np.moveaxis(channels, 1, -1)


def _scale(pictures: Bytes) -> int:
    smallest = int(min(pictures.shape[1:3]))
    return math.ceil(SHOWN / smallest)
