"""Pictures in a page: pixels that come back, clips that move, names that stay text."""

import base64
import importlib.util
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from ulrec.app.pictures import Card, data_uri, middle, plain, row_html
from ulrec.app.take_away import zipped
from ulrec.data.clips import decode_clip
from ulrec.data.media import MediaConfig

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 6), dtype=np.uint8)


CLIP = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 16), dtype=np.uint8)


def opened(link: str, mime: str) -> Image.Image:
    head, _, data = link.partition(",")
    assert head == f"data:{mime};base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_keeps_its_pixels() -> None:
    shown = opened(data_uri(PICTURE), "image/png")
    np.testing.assert_array_equal(np.asarray(shown), np.moveaxis(PICTURE[:, 0], 0, -1))


def test_a_clip_moves() -> None:
    assert opened(data_uri(CLIP), "image/webp").n_frames == 5  # type: ignore[attr-defined]
    shown = opened(data_uri(middle(CLIP)), "image/png")
    np.testing.assert_array_equal(np.asarray(shown), np.moveaxis(CLIP[:, 2], 0, -1))


@pytest.mark.parametrize("num_frames", [1, 3])
def test_what_is_large_is_sent_small(num_frames: int) -> None:
    mime = "image/png" if num_frames == 1 else "image/webp"
    large = np.zeros((3, num_frames, 400, 200), np.uint8)
    large[:, 1:] = 255
    assert opened(data_uri(large), mime).size == (64, 128)


@pytest.mark.parametrize("kind", ["png", "webp", "gif", "mp4"])
def test_what_was_drawn_is_taken_along(kind: str) -> None:
    if kind == "mp4" and importlib.util.find_spec("av") is None:
        pytest.skip("PyAV is not installed: pip install 'ulrec[video]'")
    media = PICTURE if kind == "png" else CLIP
    with zipfile.ZipFile(io.BytesIO(zipped([media, media], kind))) as archive:
        assert archive.namelist() == [f"01.{kind}", f"02.{kind}"]
        again = decode_clip(archive.read(f"02.{kind}"), config_of(media)).media
    if kind in ("png", "webp"):
        np.testing.assert_array_equal(again, media)
    assert again.shape == media.shape


def config_of(media: np.ndarray) -> MediaConfig:
    _, frames, height, width = media.shape
    return MediaConfig(height=height, width=width, frames=frames, stills="repeat")


def test_names_stay_text() -> None:
    hostile = '"><script>alert(1)</script>'
    html = row_html([Card(media=PICTURE, alt=hostile, caption=hostile)], "small")
    assert "<script>" not in html and html.count("&lt;script&gt;") == 3
    assert plain("[x](y) $z$") == r"\[x\]\(y\) \$z\$"
