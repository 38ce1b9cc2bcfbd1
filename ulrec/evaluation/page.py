"""A white page for sheets of pictures: a title, text cut to its width, pixels in their places."""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["GUTTER", "MARGIN", "PAD", "SMALL_SIZE", "TEXT_SIZE", "Page", "font"]

Bytes = NDArray[np.uint8]

WHITE = (255, 255, 255)
INK = (38, 43, 51)
QUIET = (112, 119, 130)
RULE = (226, 229, 234)
TINT = (237, 243, 252)
AMBER, AMBER_INK = (255, 243, 214), (122, 79, 1)

MARGIN, GUTTER, PAD = 28, 24, 10
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 20, 13, 12


class Page:
    """A white page with a title; what is drawn is placed relative to the corner below the title."""

    def __init__(self, *, title: str, width: int, height: int, badge: str = "") -> None:
        heading = font(TITLE_SIZE, bold=True)
        badge_width = 0 if not badge else int(font(SMALL_SIZE).getlength(badge)) + 2 * PAD
        needed = int(heading.getlength(title)) + (badge_width + GUTTER if badge else 0)
        self.top = MARGIN + TITLE_SIZE + GUTTER
        size = (max(width, needed) + 2 * MARGIN, self.top + height + MARGIN)
        self.image = Image.new("RGB", size, WHITE)
        self.draw = ImageDraw.Draw(self.image)
        self.draw.text((MARGIN, MARGIN - 4), title, fill=INK, font=heading)
        if badge:
            right = size[0] - MARGIN
            box = (right - badge_width, MARGIN - 4, right, MARGIN + TITLE_SIZE + 2)
            self.draw.rounded_rectangle(box, radius=12, fill=AMBER)
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            self.draw.text(middle, badge, fill=AMBER_INK, font=font(SMALL_SIZE), anchor="mm")

    def paste(self, pixels: Bytes, left: int, top: int) -> None:
        """Set pixels (H, W, 3)."""
        self.image.paste(Image.fromarray(pixels), (MARGIN + left, self.top + top))

    def rule(self, top: int, width: int) -> None:
        """Draw a thin line across."""
        y = self.top + top
        self.draw.line((MARGIN, y, MARGIN + width, y), fill=RULE)

    def ground(self, left: int, top: int, right: int, bottom: int) -> None:
        """Tint a box."""
        box = (MARGIN + left, self.top + top, MARGIN + right, self.top + bottom)
        self.draw.rounded_rectangle(box, radius=8, fill=TINT)

    def text(
        self, text: str, left: int, top: int, *, width: int, bold: bool = False, quiet: bool = False
    ) -> None:
        """Write a line, cut to ``width`` pixels."""
        face = font(SMALL_SIZE if quiet else TEXT_SIZE, bold=bold)
        place = (MARGIN + left, self.top + top)
        self.draw.text(place, _cut(text, face, width), fill=QUIET if quiet else INK, font=face)


def _cut(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    if face.getlength(text) <= width:
        return text
    kept = next((n for n in range(len(text), 0, -1) if face.getlength(text[:n] + "…") <= width), 0)
    return text[:kept] + "…"


@functools.cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the type that matplotlib brings, so that sheets are alike everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
