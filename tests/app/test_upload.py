"""Uploads are judged by content: pictures come back at the size, everything else is a sentence."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from ulrec.app.upload import read_upload
from ulrec.data.media import MediaConfig
from ulrec.errors import DataError

CONFIG = MediaConfig(height=16, width=16)
CLIPS = MediaConfig(height=16, width=16, frames=4)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, format=kind)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it has width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def text_bomb() -> bytes:
    """A PNG whose compressed note unpacks to 200 MB."""
    note = b"note\x00\x00" + zlib.compress(bytes(200_000_000), 9)
    png = encoded("PNG")
    return png[:33] + chunk(b"zTXt", note) + png[33:]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "L"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"),
     ("WEBP", "RGB"), ("GIF", "P"), ("BMP", "RGB")],
)  # fmt: skip
def test_pictures_come_back_at_the_size(kind: str, mode: str) -> None:
    media = read_upload(encoded(kind, mode), CONFIG)
    assert media.shape == (3, 1, 16, 16) and media.dtype == np.uint8
    assert media.std() > 1


PNG, JPEG = encoded("PNG"), encoded("JPEG")
HOSTILE = {
    "empty": b"",
    "text": b"hello",
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "zeros": bytes(4096),
    "noise": np.random.default_rng(0).bytes(4096),
    "cut png": PNG[: len(PNG) // 2],
    "cut jpeg": JPEG[: len(JPEG) // 3],
    "only a header": PNG[:33],
    "damaged png": PNG[:60] + b"\xff\xff\xff" + PNG[63:],
    "wide bomb": bomb(50_000, 50_000),
    "bomb past the limit": bomb(5_000, 4_001),
    "tall bomb": bomb(1, 2**31 - 1),
    "nothing wide": bomb(0, 10),
    "text bomb": text_bomb(),
    "too many bytes": PNG + bytes(10_000_001),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "tiff": encoded("TIFF"),
    "ico": b"\x00\x00\x01\x00\x01\x00\x10\x10" + bytes(30),
    "zip": b"PK\x03\x04" + bytes(60),
    "pickle": b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.",
    "xpm": b"/* XPM */\nstatic char *x[] = {\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_uploads_are_sentences_and_soon(data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(DataError, match=r"choose|decoded|pixels"):
        read_upload(data, CONFIG)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_uploads_among_clips(data: bytes) -> None:
    with pytest.raises(DataError, match=r"choose"):
        read_upload(data, CLIPS)


def animation(num_frames: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A GIF whose n-th frame has the grey n."""
    first, *others = (Image.new("L", size, n % 256) for n in range(num_frames))
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=100, optimize=False)
    return buffer.getvalue()


def test_an_animation_is_a_clip_among_clips_and_its_first_frame_among_pictures() -> None:
    data = animation(8)
    assert read_upload(data, CLIPS)[0, :, 8, 8].tolist() == [1, 3, 5, 7]
    assert read_upload(data, CONFIG)[0, :, 8, 8].tolist() == [0]


def test_a_picture_among_clips_stands_still() -> None:
    clip = read_upload(PNG, CLIPS)
    assert clip.shape == (3, 4, 16, 16) and (clip == clip[:, :1]).all() and clip.std() > 1


@pytest.mark.parametrize(("num_frames", "side"), [(501, 8), (120, 1000)])
def test_an_animation_of_too_much_work_is_refused_at_once(num_frames: int, side: int) -> None:
    data = animation(num_frames, (side, side))
    start = time.process_time()
    with pytest.raises(DataError, match=r"choose another"):
        read_upload(data, CLIPS)
    assert time.process_time() - start < 1


def test_what_lies_just_inside_the_limit_is_taken() -> None:
    buffer = io.BytesIO()
    Image.new("1", (5_000, 4_000)).save(buffer, format="PNG")
    assert read_upload(buffer.getvalue(), CONFIG).max() == 255  # padded white above and below
