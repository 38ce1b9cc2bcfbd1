from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest

from ulrec.data.clips import decode_clip
from ulrec.data.pictures import MediaConfig
from ulrec.errors import DataError

av = pytest.importorskip("av")

BITS = 8


def numbered(count, size=16):
    """Frames (16, 128) whose eight columns of squares spell their number in black and white."""
    for number in range(count):
        bits = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8) * 255
        yield np.kron(bits[None, :, None], np.ones((size, size, 3), np.uint8))


def encode(frames, kind="mp4", codec="libx264", *, rate=25, gop=12, pixels="yuv420p", sound=False):
    stream = io.BytesIO()
    with av.open(stream, "w", format=kind) as file:
        video = None
        for frame in frames:
            if video is None:
                video = file.add_stream(codec, rate=rate)
                video.height, video.width = frame.shape[:2]
                video.pix_fmt, video.gop_size = pixels, gop
            kind = "rgba" if frame.shape[2] == 4 else "rgb24"
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, format=kind)))
        if video is not None:
            file.mux(video.encode())
        if sound:
            audio = file.add_stream("aac", rate=8000)
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            samples.sample_rate = 8000
            file.mux(audio.encode(samples))
            file.mux(audio.encode())
    return stream.getvalue()


def config(frames=4, **options):
    return MediaConfig(**{"frames": frames, "height": 16, "width": 128, **options})


def numbers(decoded):
    """Return the number that each frame spells."""
    frames, step = decoded.media[1], decoded.media.shape[3] // BITS
    bits = frames[:, frames.shape[1] // 2, step // 2 :: step] > 127
    return (bits << np.arange(BITS)).sum(axis=1).tolist()


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("mp4", "libx264"),  # with frames that refer to later ones
        ("mp4", "mpeg4"),
        ("mov", "mpeg4"),
        ("matroska", "libx264"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
    ],
)
def test_the_very_frames_are_read_whether_it_seeks_or_not(kind, codec):
    data = encode(numbered(200), kind, codec, gop=25)
    assert numbers(decode_clip(data, config(4))) == [25, 75, 125, 175]  # seeks
    assert numbers(decode_clip(data, config(40))) == list(range(2, 200, 5))  # does not


def test_a_rate_is_taken_from_the_middle(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(numbered(100), rate=25))
    # 4 frames of 0.2 s in the middle of 4 s: 1.6 .. 2.4 s, their centres at 1.7, 1.9, 2.1, 2.3 s.
    assert numbers(decode_clip(path, config(4, frame_rate=5))) == [42, 47, 52, 57]
    with pytest.raises(DataError, match=r"lasts 4 s, too short for 30 frames at 5 a second"):
        decode_clip(path, config(30, frame_rate=5))


@pytest.mark.parametrize("level", [0, 20, 100, 255])
@pytest.mark.parametrize("size", [(64, 64), (16, 16), (10, 14)])
def test_greys_keep_their_value(level, size):
    data = encode([np.full((64, 64, 3), level, np.uint8)] * 4)
    media = decode_clip(data, config(2, height=size[0], width=size[1], fit="crop")).media
    assert np.abs(media.astype(int) - level).max() <= 1


def test_large_frames_shrink_like_their_mean():
    rng = np.random.default_rng(0)
    frame = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((64, 64, 1))).astype(np.uint8)
    media = decode_clip(encode([frame] * 3), config(2, height=8, width=8, resample="box")).media
    expected = frame[32::64, 32::64].transpose(2, 0, 1)[:, None].astype(int)
    assert np.abs(media - expected).mean() < 3


def test_alpha_becomes_background_and_mask():
    frame = np.zeros((16, 16, 4), np.uint8)
    frame[:, 8:] = (200, 100, 0, 255)
    data = encode([frame] * 4, "mov", "qtrle", pixels="argb")
    decoded = decode_clip(data, config(2, height=16, width=16))
    assert decoded.mask[:, 5, [2, 12]].tolist() == [[0, 255]] * 2
    assert decoded.media[:, 0, 5, 2].tolist() == [255] * 3
    assert decoded.media[:, 0, 5, 12].tolist() == [200, 100, 0]


def test_a_phone_held_upright():
    stream, frames = io.BytesIO(), list(numbered(10))
    with av.open(stream, "w", format="mp4") as file:
        video = file.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 16, 128, "yuv420p"
        video.set_display_rotation(90)
        for frame in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(video.encode())
    decoded = decode_clip(stream.getvalue(), config(2, height=128, width=16))
    assert decoded.mask is None
    turned = decoded.media[1, 1, :, 8]  # number 7: the first three squares are white
    lit = np.flatnonzero(turned[8::16] > 127).tolist()
    assert lit == [5, 6, 7]  # counter-clockwise: what was left is below


def test_a_single_frame_is_a_still():
    data = encode(numbered(6).__next__() for _ in range(1))
    with pytest.raises(DataError, match="is a single picture among clips"):
        decode_clip(data, config())
    assert numbers(decode_clip(data, config(stills="repeat"))) == [0] * 4


# --- hostile files


def test_sound_alone_is_no_clip():
    with pytest.raises(DataError, match="has no pictures, only audio"):
        decode_clip(encode([], sound=True), config())


def test_an_mp4_that_lost_its_end():
    data = encode(numbered(100))
    with pytest.raises(DataError, match="cannot be decoded"):  # the index stands at the end
        decode_clip(data[: len(data) // 2], config())


def test_a_stream_that_lost_its_end():
    for kind, codec in (("matroska", "libx264"), ("avi", "mpeg4")):
        data = encode(numbered(100), kind, codec)
        with pytest.raises(DataError, match=r"is cut off: .* s are there|of 100 frames are there"):
            decode_clip(data[: len(data) * 2 // 3], config())


def test_frames_that_are_rubbish():
    data = bytearray(encode(numbered(100), gop=10))
    at = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[at:end] = np.random.default_rng(0).bytes(end - at)
    with pytest.raises(
        DataError, match=r"has no frames that can be decoded|is damaged|cannot be decoded"
    ):
        decode_clip(bytes(data), config())


def test_limits():
    data = encode(numbered(100))
    with pytest.raises(DataError, match="has 100 frames, more than max_frames 99"):
        decode_clip(data, config(max_frames=99))
    with pytest.raises(DataError, match="has 100 frames, more than max_frames 99"):
        decode_clip(encode(numbered(100), "avi", "mpeg4"), config(max_frames=99))
    # A matroska file does not say how many frames it has: they are counted up to the limit.
    with pytest.raises(DataError, match="has 100 frames, more than max_frames 99"):
        decode_clip(encode(numbered(120), "matroska"), config(max_frames=99))
    with pytest.raises(DataError, match="has 128 x 16 pixels, more than max_pixels 2000"):
        decode_clip(data, config(max_pixels=2000))
    with pytest.raises(DataError, match="pixels decoded, more than max_clip_pixels 20000"):
        decode_clip(data, config(50, max_clip_pixels=20_000))


def test_a_header_that_lies_about_the_duration():
    data = bytearray(encode(numbered(50)))
    for box in (b"mvhd", b"mdhd"):  # version 0: times, then the scale, then the duration
        at = data.index(box) + 4
        data[at + 16 : at + 20] = (2**31 - 1).to_bytes(4, "big")
    # What the frames say counts, not what is said of them.
    assert numbers(decode_clip(bytes(data), config(5))) == [5, 15, 25, 35, 45]


def test_playlists_and_scripts_are_never_opened(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(encode(numbered(10)))
    for text in (f"#EXTM3U\n{tmp_path}/secret.mp4\n", f"ffconcat version 1.0\nfile {tmp_path}"):
        path = tmp_path / "clip.mp4"
        path.write_text(text)
        with pytest.raises(DataError, match="is not a readable picture"):
            decode_clip(path, config())


def test_without_pyav_the_extra_is_named():
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from ulrec.data.clips import decode_clip\n"
        "from ulrec.data.pictures import MediaConfig\n"
        "from ulrec.errors import MissingExtraError\n"
        "try: decode_clip(b'\\0\\0\\0\\x1cftypisom', MediaConfig(frames=2))\n"
        "except MissingExtraError as error: assert \"pip install 'ulrec[video]'\" in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
