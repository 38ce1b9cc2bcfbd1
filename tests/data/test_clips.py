from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ulrec.config import load_config
from ulrec.data.clips import decode_clip
from ulrec.data.frame_times import frames_at, sample_times
from ulrec.data.pictures import MediaConfig
from ulrec.errors import ConfigError, DataError


def animate(levels, *, durations=100, kind="WEBP", size=(4, 4), **options):
    """Encode one grey frame a level; (level, alpha) is a frame of one alpha."""
    frames = [
        Image.new("RGBA", size, (level[0],) * 3 + (level[1],))
        if isinstance(level, tuple)
        else Image.new("RGB", size, (level,) * 3)
        for level in levels
    ]
    options = {"lossless": True, **options} if kind == "WEBP" else options
    stream = io.BytesIO()
    frames[0].save(
        stream, kind, save_all=True, append_images=frames[1:], duration=durations, **options
    )
    return stream.getvalue()


def config(frames=4, **options):
    return MediaConfig(**{"frames": frames, "height": 2, "width": 2, **options})


def levels_of(decoded):
    """Return the grey of each frame (F,), checked to be one grey."""
    assert decoded.media.dtype == np.uint8
    assert np.ptp(decoded.media, axis=(0, 2, 3)).max() == 0
    return decoded.media[0, :, 0, 0].tolist()


# --- which frames


def test_times_are_centres_of_equal_parts():
    np.testing.assert_allclose(sample_times(8.0, config(4)), [1, 3, 5, 7])
    np.testing.assert_allclose(sample_times(8.0, config(4, frame_rate=2)), [3.25, 3.75, 4.25, 4.75])


@pytest.mark.parametrize("frames", [2, 3, 5, 16])
def test_as_many_frames_as_there_are_is_each_once(frames):
    starts = np.cumsum([0.0, *[0.147] * (frames - 1)])
    assert frames_at(starts, frames * 0.147, config(frames)).tolist() == list(range(frames))


def test_half_as_many_frames_is_every_other_one():
    starts = np.arange(32) * 0.04
    assert frames_at(starts, 1.28, config(16)).tolist() == list(range(1, 32, 2))


def test_a_clip_that_is_too_short_is_refused_or_held():
    starts = [0.0, 0.1, 0.2]
    assert frames_at(starts, 0.3, config(3, frame_rate=10)).tolist() == [0, 1, 2]
    # The centre of the last of 4 frames at 10 a second is at 0.35 s.
    with pytest.raises(DataError, match=r"lasts 0.34 s, too short for 4 frames at 10 a second"):
        frames_at(starts, 0.34, config(4, frame_rate=10))
    assert frames_at(starts, 0.35, config(4, frame_rate=10)).tolist() == [0, 1, 2, 2]
    held = config(6, frame_rate=10, short="repeat")
    assert frames_at(starts, 0.3, held).tolist() == [0, 1, 2, 2, 2, 2]


# --- animated pictures


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG"])
def test_frames_are_taken_by_time_not_by_index(kind):
    data = animate([10, 100, 200], durations=[100, 100, 600], kind=kind)
    assert levels_of(decode_clip(data, config(8))) == [10, 100, *[200] * 6]
    assert levels_of(decode_clip(data, config(2, frame_rate=10))) == [200, 200]
    assert levels_of(decode_clip(data, config(8, frame_rate=10))) == [10, 100, *[200] * 6]


def test_avif_sequences_are_clips():
    found = levels_of(decode_clip(animate([10, 200], kind="AVIF", quality=100), config(4)))
    np.testing.assert_allclose(found, [10, 10, 200, 200], atol=2)


def test_frames_that_claim_no_time_last_a_tenth_of_a_second():
    data = animate([10, 100, 200], durations=[0, 10, 200], kind="GIF")
    assert levels_of(decode_clip(data, config(4))) == [10, 100, 200, 200]


def test_transparency_becomes_background_and_masks_of_each_frame():
    data = animate([(10, 0), (200, 255)], size=(4, 4))
    decoded = decode_clip(data, config(2, background=(1, 2, 3)))
    assert decoded.media[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert decoded.media[:, 1, 0, 0].tolist() == [200] * 3
    assert decoded.mask.tolist() == [[[0, 0]] * 2, [[255, 255]] * 2]
    assert decode_clip(animate([1, 2]), config(2)).mask is None


def test_a_given_mask_is_that_of_all_frames():
    half = np.zeros((4, 4), np.uint8)
    half[:, 2:] = 255
    stream = io.BytesIO()
    Image.fromarray(half).save(stream, "PNG")
    decoded = decode_clip(animate([1, 2]), config(2, resample="box"), mask=stream.getvalue())
    assert decoded.mask.tolist() == [[[0, 255]] * 2] * 2


def test_aspect_is_kept():
    data = animate([50, 60], size=(8, 4))
    decoded = decode_clip(data, config(2, height=4, width=4))
    assert decoded.mask[:, :, 0].tolist() == [[0, 255, 255, 0]] * 2
    assert decoded.media[0, 1, :, 0].tolist() == [255, 60, 60, 255]
    assert decode_clip(data, config(2, fit="crop")).mask is None


def still(kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (7, 7, 7)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("data", [still(), still("GIF"), still("WEBP"), still("TIFF")])
def test_a_still_is_refused_or_repeated(data):
    with pytest.raises(DataError, match="is a single picture among clips; set stills to 'repeat'"):
        decode_clip(data, config())
    assert levels_of(decode_clip(data, config(stills="repeat"))) == [7] * 4


def test_pages_of_a_tiff_are_no_clip():
    with pytest.raises(DataError, match="is a single picture"):
        decode_clip(animate([1, 2], kind="TIFF"), config())


# --- folders of frames


def fill(folder, names):
    folder.mkdir(exist_ok=True)
    for level, name in enumerate(names):
        Image.new("RGB", (4, 4), (level,) * 3).save(folder / name)
    return folder


def test_frames_of_a_folder_follow_naturally(tmp_path):
    folder = fill(tmp_path / "clip", ["f1.png", "f2.png", "f9.png", "f10.PNG"])
    (folder / ".f0.png").write_bytes(b"hidden")
    (folder / "notes.txt").write_text("no frame")
    assert levels_of(decode_clip(folder, config(4))) == [0, 1, 2, 3]
    assert levels_of(decode_clip(folder, config(2))) == [1, 3]
    assert levels_of(decode_clip(folder, config(8))) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_folders_that_are_no_clip(tmp_path):
    with pytest.raises(DataError, match="is a folder without frames"):
        decode_clip(fill(tmp_path / "empty", []), config())
    one = fill(tmp_path / "one", ["1.png"])
    with pytest.raises(DataError, match="single picture"):
        decode_clip(one, config())
    assert levels_of(decode_clip(one, config(stills="repeat"))) == [0] * 4
    two = fill(tmp_path / "two", ["1.png", "2.png"])
    with pytest.raises(DataError, match="is a folder, whose frames have no times"):
        decode_clip(two, config(frame_rate=5))
    with pytest.raises(DataError, match="has 2 frames, more than max_frames 1"):
        decode_clip(two, config(max_frames=1))
    (two / "2.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"frame 2.png is not a readable picture"):
        decode_clip(two, config())


# --- hostile files


def gif_bomb(width, height, frames):
    """A GIF whose frames claim a size and hold a few bytes each."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    control = b"\x21\xf9\x04\0" + struct.pack("<H", 5) + b"\0\0"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    return head + (control + frame) * frames + b"\x3b"


def test_bombs_are_refused_before_they_are_decoded():
    with pytest.raises(DataError, match="has 40000 x 2000 pixels, more than max_pixels"):
        decode_clip(gif_bomb(40000, 2000, 2), config())
    with pytest.raises(DataError, match="has 1001 frames, more than max_frames 1000"):
        decode_clip(gif_bomb(4, 4, 5000), config(max_frames=1000))
    with pytest.raises(
        DataError, match=r"needs 31536000000 pixels decoded, more than max_clip_pixels"
    ):
        decode_clip(gif_bomb(6000, 6000, 1000), config())


def test_an_animated_png_that_claims_a_million_frames():
    data = bytearray(animate([1, 2], kind="PNG"))
    at = data.index(b"acTL") + 4
    data[at : at + 4] = struct.pack(">I", 1_000_000)
    data[at + 8 : at + 12] = struct.pack(">I", zlib.crc32(data[at - 4 : at + 8]))
    with pytest.raises(DataError, match="has 1000000 frames, more than max_frames 250000"):
        decode_clip(bytes(data), config())


GIF, WEBP = animate(range(0, 200, 20), kind="GIF"), animate(range(0, 200, 20))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a readable picture"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "is not a readable picture"),
        (GIF[:-8], "is truncated: its last frame is not whole"),
        (WEBP[:-8], "is truncated|cannot be decoded|not a readable"),
        (GIF[:200] + b"\x99" * 40, "is damaged|is truncated|cannot be decoded"),
    ],
)
def test_damaged_animations_say_why(data, message):
    with pytest.raises(DataError, match=message):
        decode_clip(data, config())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["frames=0"], "'frames', 'max_frames' and 'max_clip_pixels' have to be positive"),
        (["frames=4", "frame_rate=0"], r"'frame_rate' has to be in \(0, 1000\]"),
        (["frame_rate=8"], "with more than one of 'frames', got 8.0 with 1; leave it out"),
        (["stills=loop"], "'stills' has to be one of 'refuse', 'repeat'"),
    ],
)
def test_bad_configurations(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(MediaConfig, None, override)
