"""Draw the contact sheet of the emoji catalogue."""

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

CELL = 26
COLUMNS = 64
HEADING = 22
NUM_COLOURS = 128
HELDOUT_COLOUR = (220, 30, 90)


def draw_overview(
    groups: Mapping[str, Sequence[tuple[bytes, bool]]], clips: Sequence[bytes]
) -> bytes:
    """Return the sheet as PNG bytes: every still by category, then some clips frame by frame.

    Parameters
    ----------
    groups
        Category -> (picture bytes, whether it is held out) in order; held-out ones are underlined.
    clips
        Animations whose frames fill a quarter of a row each.
    """
    rows = sum(-(-len(group) // COLUMNS) for group in groups.values()) + -(-len(clips) // 4)
    height = rows * CELL + (len(groups) + 1) * HEADING
    sheet = Image.new("RGB", (COLUMNS * CELL, height), "white")
    top = 0
    for category, group in groups.items():
        heldout = sum(held for _, held in group)
        write_heading(sheet, top, f"{category}: {len(group)} stills, {heldout} held out")
        top = paste_stills(sheet, top + HEADING, group)
    write_heading(sheet, top, f"Some clips, {COLUMNS // 4} frames each")
    paste_clips(sheet, top + HEADING, clips)
    out = io.BytesIO()
    palette = sheet.quantize(NUM_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.save(out, "PNG", optimize=True)
    return out.getvalue()


def write_heading(sheet: Image.Image, top: int, text: str) -> None:
    """Write one line of text."""
    draw = ImageDraw.Draw(sheet)
    draw.text((4, top + 3), text, fill=(60, 60, 60), font=ImageFont.load_default(14))


def paste_stills(sheet: Image.Image, top: int, group: Sequence[tuple[bytes, bool]]) -> int:
    """Paste one category's pictures row by row and return where the next one begins."""
    draw = ImageDraw.Draw(sheet)
    for i, (content, held) in enumerate(group):
        x, y = i % COLUMNS * CELL, top + i // COLUMNS * CELL
        with Image.open(io.BytesIO(content)) as picture:
            sheet.paste(thumbnail(picture), (x, y))
        if held:
            draw.line((x + 1, y + CELL - 1, x + CELL - 3, y + CELL - 1), fill=HELDOUT_COLOUR)
    return top + -(-len(group) // COLUMNS) * CELL


def paste_clips(sheet: Image.Image, top: int, clips: Sequence[bytes]) -> None:
    """Paste clips frame by frame, four in a row."""
    for i, content in enumerate(clips):
        with Image.open(io.BytesIO(content)) as clip:
            frames = getattr(clip, "n_frames", 1)
            for frame in range(frames):
                clip.seek(frame)
                x = (i % 4 * (COLUMNS // 4) + frame) * CELL
                sheet.paste(thumbnail(clip), (x, top + i // 4 * CELL))


def thumbnail(picture: Image.Image) -> Image.Image:
    """Return the picture at the size of a cell, leaving a pixel for the mark below it."""
    return picture.convert("RGB").resize((CELL - 2, CELL - 2), Image.Resampling.LANCZOS)
