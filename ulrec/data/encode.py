"""Clips and pictures as files: animated WebP, GIF, mp4, and PNG of a single frame."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.data.video import load_av
from ulrec.errors import ConfigError, DataError

__all__ = ["FPS", "FileKind", "encode_frames", "encode_media", "save_media"]

Bytes = NDArray[np.uint8]
FileKind = Literal["png", "webp", "gif", "mp4"]

FPS = 8.0
"""Frames a second where nothing says more: 16 frames last two seconds."""

# Lossy WebP at which 64 x 64 drawings show no blocks; small differences of colour stay.
WEBP_QUALITY = 90
# Of a lossless WebP "quality" is the effort.
LOSSLESS_EFFORT = 75
# Constant rate factors: 18 is said to be visually lossless for x264, 1 .. 31 is mpeg4's scale.
X264_CRF, MPEG4_QSCALE = 18, 2


def encode_media(
    media: Bytes, *, kind: FileKind, fps: float = FPS, loop: int = 0, lossless: bool = False
) -> bytes:
    """Return one clip as the bytes of a file.

    Parameters
    ----------
    media
        Uint8 (C, F, H, W), C of 1 or 3.
    kind
        "webp" and "gif" (256 colours a frame) are animated; "mp4" is H.264, or MPEG-4 where FFmpeg
        came without x264; "png" takes a single frame.
    fps
        Frames a second; a GIF rounds them to hundredths of a second a frame.
    loop
        How often it plays, 0 for ever; of "webp" and "gif" only, the player of an mp4 decides.
    lossless
        Whether a WebP keeps every pixel.

    Returns
    -------
    bytes
        An mp4 has even sides: an odd one gets its last line twice.

    Raises
    ------
    DataError
        If type or shape are others, or a PNG is to hold several frames.
    ConfigError
        If the kind, ``fps`` or ``loop`` is none.
    MissingExtraError
        If an mp4 is asked for and PyAV is not installed.
    """
    if (
        media.dtype != np.uint8
        or media.ndim != 4
        or media.shape[0] not in (1, 3)
        or 0 in media.shape
    ):
        raise DataError(
            f"expected uint8 (C, F, H, W) with C of 1 or 3, got {media.dtype} {media.shape}"
        )
    frames = np.moveaxis(np.broadcast_to(media, (3, *media.shape[1:])), 0, -1)  # (F, H, W, 3)
    return encode_frames(frames, kind=kind, fps=fps, loop=loop, lossless=lossless)


def encode_frames(
    frames: Bytes, *, kind: FileKind, fps: float = FPS, loop: int = 0, lossless: bool = False
) -> bytes:
    """Return frames (F, H, W, 3) as the bytes of a file; see :func:`encode_media`."""
    if kind not in ENCODERS:
        raise ConfigError(f"a kind of file is one of {', '.join(ENCODERS)}, got {kind!r}")
    if not 0 < fps <= 1000 or loop < 0:
        raise ConfigError(f"'fps' has to be in (0, 1000] and 'loop' from 0, got {fps} and {loop}")
    return ENCODERS[kind](frames, fps, loop, lossless)


def save_media(
    media: Bytes,
    folder: str | Path,
    *,
    names: Sequence[str],
    kind: FileKind,
    fps: float = FPS,
    loop: int = 0,
) -> list[Path]:
    """Write clips (N, C, F, H, W) as ``folder/name.kind``, each whole or not at all.

    Parameters
    ----------
    media
        Uint8.
    folder
        Is made where it is missing; files of the same names are written over.
    names
        One a clip, unique, without the ending.
    kind, fps, loop
        See :func:`encode_media`, for the errors as well.

    Returns
    -------
    list of Path
        In order.

    Raises
    ------
    DataError
        If names repeat, are no plain names, or are not as many as the clips.
    """
    odd = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if len(names) != len(media) or len(set(names)) != len(names) or odd:
        raise DataError(
            f"expected {len(media)} different names of files, got {len(set(names))} of which"
            f" {len(odd)} are no names{f', such as {odd[0]!r}' if odd else ''}"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, clip in zip(names, media, strict=True):
        path = folder / f"{name}.{kind}"
        content = encode_media(np.asarray(clip), kind=kind, fps=fps, loop=loop)
        temporary = folder / f".{name}.{kind}.tmp"
        temporary.write_bytes(content)
        temporary.replace(path)
        written.append(path)
    return written


def _png(frames: Bytes, fps: float, loop: int, lossless: bool) -> bytes:
    if len(frames) > 1:
        raise DataError(f"a PNG holds one frame, got {len(frames)}; choose webp, gif or mp4")
    return _saved(frames, "PNG", optimize=True)


def _webp(frames: Bytes, fps: float, loop: int, lossless: bool) -> bytes:
    quality = LOSSLESS_EFFORT if lossless else WEBP_QUALITY
    return _animated(frames, "WEBP", fps, loop=loop, lossless=lossless, quality=quality, method=4)


def _gif(frames: Bytes, fps: float, loop: int, lossless: bool) -> bytes:
    # The number in a GIF counts repetitions; one that says nothing plays once.
    return _animated(frames, "GIF", fps, **({} if loop == 1 else {"loop": max(loop - 1, 0)}))


def _animated(frames: Bytes, kind: str, fps: float, **options: Any) -> bytes:
    return _saved(frames, kind, save_all=True, duration=round(1000 / fps), **options)


def _saved(frames: Bytes, kind: str, **options: Any) -> bytes:
    first, *others = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    stream = io.BytesIO()
    first.save(stream, kind, append_images=others, **options)
    return stream.getvalue()


def _mp4(frames: Bytes, fps: float, loop: int, lossless: bool) -> bytes:
    av, stream = load_av(), io.BytesIO()
    codec, options = "libx264", {"crf": str(X264_CRF)}
    if codec not in av.codecs_available:
        codec, options = "mpeg4", {"qscale": str(MPEG4_QSCALE)}
    even = np.pad(
        frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), "edge"
    )
    with av.open(stream, "w", format="mp4") as file:
        video = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        video.height, video.width, video.pix_fmt = *even.shape[1:3], "yuv420p"
        for frame in even:
            pixels = np.ascontiguousarray(frame)
            file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(video.encode())
    return stream.getvalue()


ENCODERS: Mapping[FileKind, Callable[[Bytes, float, int, bool], bytes]] = {
    "png": _png,
    "webp": _webp,
    "gif": _gif,
    "mp4": _mp4,
}
