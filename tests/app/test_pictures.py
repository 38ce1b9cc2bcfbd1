"""Pictures in a page: pixels that come back, clips that move, names that stay text."""

import base64
import io

import numpy as np
from PIL import Image

from ulrec.app.pictures import Card, data_uri, encoded, plain, row_html

PICTURE = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 6), dtype=np.uint8)


def test_a_picture_keeps_its_pixels() -> None:
    data, mime = encoded(PICTURE)
    assert mime == "image/png"
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(data))), np.moveaxis(PICTURE[:, 0], 0, -1)
    )


def test_a_clip_moves() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (3, 5, 16, 16), dtype=np.uint8)
    data, mime = encoded(clip)
    assert mime == "image/webp" and Image.open(io.BytesIO(data)).n_frames == 5


def test_a_large_picture_is_sent_small() -> None:
    large = np.zeros((3, 1, 400, 200), np.uint8)
    link = data_uri(large)
    assert link.startswith("data:image/png;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))
    assert picture.size == (64, 128)


def test_names_stay_text() -> None:
    hostile = '"><script>alert(1)</script>'
    html = row_html([Card(media=PICTURE, alt=hostile, caption=hostile)], "small")
    assert "<script>" not in html and html.count("&lt;script&gt;") == 3
    assert plain("[x](y) $z$") == r"\[x\]\(y\) \$z\$"
