from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation.animation import (
    animated_compared_sheet,
    animated_user_sheet,
    encode_sheet,
    sheet_mime,
    tile_clips,
)
from ulrec.evaluation.report import NamedImage, Report, Section, render
from ulrec.evaluation.sheets import UserRow, compared_sheet, tile


def clips(count=3, frames=4, size=8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 3, frames, size, size), dtype=np.uint8)


def test_each_frame_of_a_grid_is_the_grid_of_that_frame():
    media = clips()
    grid = tile_clips(media, columns=2, scale=2)
    assert grid.shape == (4, 36, 36, 3)
    for frame in range(4):
        still = tile(media[:, :, frame], columns=2, scale=2)
        np.testing.assert_array_equal(grid[frame], still)
    assert tile_clips(media, columns=3).shape == (4, 64, 3 * 64 + 8, 3)


def test_a_sheet_moves():
    rows = {"generated": clips(), "nearest": clips()}
    sheet = animated_compared_sheet(rows, title="Clips")
    assert len(sheet) == 4
    first = compared_sheet({name: m[:, :, 0] for name, m in rows.items()}, title="Clips")
    np.testing.assert_array_equal(np.asarray(sheet[0]), np.asarray(first))
    assert (np.asarray(sheet[0]) != np.asarray(sheet[1])).any()
    with Image.open(io.BytesIO(encode_sheet(sheet))) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("WEBP", 4, 0)
        assert image.size == first.size


def test_a_sheet_of_single_frames_is_the_still_one():
    sheet = animated_compared_sheet({"one": clips(frames=1)}, title="Pictures")
    assert sheet_mime(sheet) == "image/png"
    buffer = io.BytesIO()
    compared_sheet({"one": clips(frames=1)}, title="Pictures").save(buffer, "PNG", optimize=True)
    assert encode_sheet(sheet) == buffer.getvalue()


def test_users_with_clips():
    row = UserRow(user_id="u1", groups={"liked": clips(2), "generated": clips(1)}, note="2 liked")
    blank = UserRow(user_id="u2", groups={"liked": clips(0), "generated": clips(1)})
    sheet = animated_user_sheet([row, blank], columns=("liked", "generated"), title="Users")
    assert len(sheet) == 4
    assert len({frame.size for frame in sheet}) == 1


def test_a_report_holds_it():
    sheet = animated_compared_sheet({"one": clips()}, title="Clips")
    image = NamedImage("Clips", encode_sheet(sheet), sheet_mime(sheet), "Clips that move")
    page = render(Report(title="x", simulated=False, sections=[Section("Clips", images=[image])]))
    assert '<img src="data:image/webp;base64,' in page


@pytest.mark.parametrize("media", [clips()[:, :, 0], clips(frames=0)])
def test_media_that_are_no_clips(media):
    with pytest.raises(DataError, match=r"have to be \(N, C, F, H, W\) of one F"):
        tile_clips(media, columns=2)


def test_clips_of_one_sheet_have_one_length():
    with pytest.raises(DataError, match="of one F, got"):
        animated_compared_sheet({"a": clips(), "b": clips(frames=3)}, title="Clips")
