from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ulrec.data.clips import decode_clip
from ulrec.data.encode import encode_media, save_media
from ulrec.data.pictures import MediaConfig
from ulrec.errors import ConfigError, DataError


def clip(frames=5, height=8, width=12, channels=3):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (channels, frames, height // 4, width // 4), dtype=np.uint8)
    return coarse.repeat(4, axis=2).repeat(4, axis=3)


def read(data, frames=5, height=8, width=12):
    return decode_clip(data, MediaConfig(frames=frames, height=height, width=width)).media


def test_a_lossless_webp_comes_back_exactly():
    media = clip()
    data = encode_media(media, kind="webp", fps=10, lossless=True)
    np.testing.assert_array_equal(read(data), media)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.n_frames, image.info["loop"]) == (5, 0)
        image.load()
        assert image.info["duration"] == 100


@pytest.mark.parametrize(("kind", "error"), [("webp", 25), ("gif", 1), ("mp4", 40)])
def test_what_is_written_can_be_read(kind, error):
    if kind == "mp4":
        pytest.importorskip("av")
    # Colour has half of the resolution in a lossy file.
    media = clip() if kind == "gif" else np.repeat(clip(channels=1), 3, axis=0)
    found = read(encode_media(media, kind=kind)).astype(int)
    assert np.abs(found - media).mean() < error / 4
    assert np.abs(found - media).max() <= error


def test_a_clip_may_stand_still_and_keeps_its_length():
    media = np.repeat(clip(frames=2), 3, axis=1)  # writers join equal frames and add up their times
    for kind in ("webp", "gif"):
        data = encode_media(media, kind=kind, fps=10, lossless=True)
        found = read(data, frames=6).astype(int)
        assert np.abs(found - media).mean() < 2


@pytest.mark.parametrize("loop", [0, 1, 3])
def test_how_often_it_plays(loop):
    for kind in ("webp", "gif"):
        with Image.open(io.BytesIO(encode_media(clip(), kind=kind, loop=loop))) as image:
            # The number of a GIF counts repetitions and is left out for none.
            expected = {"webp": loop, "gif": {0: 0, 1: None, 3: 2}[loop]}[kind]
            assert image.info.get("loop") == expected


def test_an_mp4_has_even_sides():
    av = pytest.importorskip("av")
    data = encode_media(np.full((3, 4, 7, 9), 200, np.uint8), kind="mp4", fps=7.5)
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.video[0]
        size = (stream.codec_context.height, stream.codec_context.width)
        assert (size, stream.pix_fmt, stream.frames) == ((8, 10), "yuv420p", 4)
        assert float(stream.average_rate) == 7.5


def test_files_are_named_and_written(tmp_path):
    media = np.stack([clip(), clip()])
    paths = save_media(media, tmp_path / "new", names=["a", "b"], kind="webp")
    assert [path.name for path in paths] == ["a.webp", "b.webp"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.webp", "b.webp"]
    assert paths[0].read_bytes() == encode_media(clip(), kind="webp")
    (picture,) = save_media(media[:1, :, :1], tmp_path, names=["c"], kind="png")
    with Image.open(picture) as image:
        np.testing.assert_array_equal(np.asarray(image), np.moveaxis(media[0, :, 0], 0, -1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"media": clip().astype(float)}, DataError, r"expected uint8 \(C, F, H, W\)"),
        ({"media": clip(channels=2)}, DataError, "C of 1 or 3"),
        ({"kind": "png"}, DataError, "a PNG holds one frame, got 5; choose webp"),
        ({"kind": "avi"}, ConfigError, "one of png, webp, gif, mp4, got 'avi'"),
        ({"fps": 0}, ConfigError, "'fps' has to be"),
        ({"loop": -1}, ConfigError, "'loop' from 0"),
    ],
)
def test_what_cannot_be_written(arguments, error, message):
    with pytest.raises(error, match=message):
        encode_media(**{"media": clip(), "kind": "webp", **arguments})


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "../b"]])
def test_names_have_to_be_names(tmp_path, names):
    with pytest.raises(DataError, match="expected 2 different names of files"):
        save_media(np.stack([clip(), clip()]), tmp_path, names=names, kind="webp")
