"""Sheets: every picture where it belongs, pixels whole, bad input refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation import page, sheets
from ulrec.evaluation.sheets import (
    UserRow,
    compared_sheet,
    reconstruction_sheet,
    sample_sheet,
    save_png,
    tile,
    user_sheet,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def flat(*colours: tuple[int, int, int], size: int = 32) -> np.ndarray:
    """Return one picture a colour, (N, 3, size, size)."""
    values = np.array(colours, np.uint8)
    return np.broadcast_to(values[:, :, None, None], (len(colours), 3, size, size)).copy()


def boxes(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of all pixels of exactly one colour."""
    rows, columns = np.nonzero((np.asarray(image) == colour).all(axis=-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_tile_places_every_pixel() -> None:
    media = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    out = tile(media, columns=3, scale=2, gap=1)
    assert out.shape == (2 * 8 + 1, 3 * 12 + 2, 3)
    for n in range(5):
        top, left = (n // 3) * 9, (n % 3) * 13
        for y in range(4):
            for x in range(6):
                block = out[top + 2 * y : top + 2 * y + 2, left + 2 * x : left + 2 * x + 2]
                assert (block == media[n, :, y, x]).all()
    assert (out[9:, 26:] == 255).all()  # the place that is left over


def test_tile_takes_one_frame_and_grey() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (2, 1, 5, 5), dtype=np.uint8)
    expected = tile(grey.repeat(3, axis=1), columns=2)
    assert np.array_equal(tile(grey, columns=2), expected)
    assert np.array_equal(tile(grey[:, :, None], columns=2), expected)


@pytest.mark.parametrize(
    ("media", "match"),
    [
        (np.zeros((1, 3, 4, 4), np.float32), "float32"),
        (np.zeros((1, 4, 4, 4), np.uint8), r"\(1, 4, 4, 4\)"),
        (np.zeros((1, 3, 2, 4, 4), np.uint8), "clips of 2"),
        (np.zeros((0, 3, 4, 4), np.uint8), "0 pictures"),
        (np.zeros((1, 3, 0, 4), np.uint8), "height"),
    ],
)
def test_media_that_are_none(media: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        tile(media, columns=1)


def test_reconstruction_rows_stand_below_one_another_at_twice_their_size() -> None:
    image = reconstruction_sheet(
        flat(RED), flat(GREEN), baseline=flat(BLUE), baseline_name="6x6, 8 bits", title="Title"
    )
    red, green, blue = (boxes(image, colour) for colour in (RED, GREEN, BLUE))
    assert red[0] == green[0] == blue[0]
    assert red[3] < green[1] and green[3] < blue[1]
    assert (red[2] - red[0], red[3] - red[1]) == (64, 64)


def test_long_reconstructions_go_on_below() -> None:
    media = flat(*[RED] * (sheets.PER_BAND + 1))
    image = reconstruction_sheet(media, flat(*[GREEN] * len(media)), title="")
    assert boxes(image, GREEN)[1] < boxes(image, RED)[3]  # red again, below the first green
    assert image.width < 64 * (len(media) + 3)


def test_reconstructions_have_to_match() -> None:
    with pytest.raises(DataError, match="same pictures"):
        reconstruction_sheet(flat(RED, RED), flat(GREEN), title="")
    with pytest.raises(DataError, match="baseline_name"):
        reconstruction_sheet(flat(RED), flat(GREEN), baseline=flat(BLUE), title="")


def test_any_rows_can_be_compared() -> None:
    image = compared_sheet(
        {"for a user": flat(RED, BLUE), "for nobody": flat(GREEN, RED)}, title=""
    )
    green, blue = boxes(image, GREEN), boxes(image, BLUE)
    assert blue[0] >= green[2] and blue[3] <= green[1]
    with pytest.raises(DataError, match="same pictures"):
        compared_sheet({}, title="")


def test_users_stand_in_rows_and_groups_in_columns() -> None:
    rows = [
        UserRow(
            user_id="u1", groups={"liked": flat(RED), "generated": flat(GREEN)}, note="1 liked"
        ),
        UserRow(user_id="u2" * 60, groups={"generated": flat(BLUE, BLUE)}),
    ]
    image = user_sheet(rows, columns=["liked", "generated"], title="Users")
    red, green, blue = (boxes(image, colour) for colour in (RED, GREEN, BLUE))
    assert red[2] < green[0] and red[1] == green[1]
    assert blue[0] == green[0] and blue[1] > green[3]
    assert blue[2] - blue[0] == 2 * 64 + sheets.GAP


def test_simulated_users_are_labelled() -> None:
    rows = [UserRow(user_id="u", groups={"liked": flat(RED)})]
    plain = user_sheet(rows, columns=["liked"], title="T")
    labelled = user_sheet(rows, columns=["liked"], title="T", simulated=True)
    amber = (np.asarray(labelled) == page.AMBER).all(axis=-1)
    assert amber.sum() > 500 and not (np.asarray(plain) == page.AMBER).all(axis=-1).any()


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "0 users"),
        ([UserRow(user_id="u", groups={"other": flat(RED)})], "other"),
        ([UserRow(user_id="u")], "one size"),
        ([UserRow(user_id="u", groups={"a": flat(RED), "b": flat(RED, size=8)})], "one size"),
    ],
)
def test_user_sheets_that_cannot_be_drawn(rows: list[UserRow], match: str) -> None:
    with pytest.raises(DataError, match=match):
        user_sheet(rows, columns=["a", "b"], title="T")


def test_posters_keep_their_aspect() -> None:
    image = sample_sheet(np.zeros((1, 3, 48, 32), np.uint8), title="Posters")
    left, top, right, bottom = boxes(image, (0, 0, 0))
    assert (right - left, bottom - top) == (64, 96)


def test_png_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    image = sample_sheet(flat(RED), title="T")
    path = tmp_path / "sheets" / "s.png"
    save_png(image, path)
    first = path.read_bytes()
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(image))
    save_png(image, path)
    assert path.read_bytes() == first
    broken = Image.new("CMYK", (2, 2))  # PNG has no CMYK
    with pytest.raises(OSError, match="CMYK"):
        save_png(broken, path)
    assert path.read_bytes() == first and [p.name for p in path.parent.iterdir()] == ["s.png"]
