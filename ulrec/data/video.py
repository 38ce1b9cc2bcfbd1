"""Videos: their frames at given times, without decoding more of them than needed.

PyAV (FFmpeg) reads them and is imported when the first one comes. Interlaced fields are not
separated; of several video streams the first counts.
"""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.data.frame_times import frames_at, join_frames, repeat_still, require_few, require_work
from ulrec.data.pictures import DRAFT_GAP, Decoded, MediaConfig, fit_frame, open_mask, place_of
from ulrec.errors import DataError, MissingExtraError

__all__ = ["container_of", "decode_video", "load_av", "video_size"]

# Kinds of box that an mp4 or mov starts with.
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
STILL_BRANDS = (b"avif", b"avis", b"heic", b"mif1", b"msf1")

# Frames that are decoded in less time than a seek takes, with the buffers it throws away.
SEEK_GAP = 16

# FFmpeg's SWS_AREA with SWS_FULL_CHR_H_INT and SWS_ACCURATE_RND: without these white becomes 253.
EXACT_AREA = 0x20 | 0x2000 | 0x40000

# A look at a header decodes nothing: any number of frames will do.
HEADER_FRAMES = 2**62

# Share of the stated length that has to be there.
WHOLE = 0.9


def load_av() -> Any:
    """Return PyAV.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingExtraError("videos need PyAV: pip install 'ulrec[video]'") from error


def container_of(source: bytes | Path) -> str | None:
    """Return FFmpeg's name for what a video is packed in, by its first bytes; None if it is none.

    FFmpeg is never left to guess: playlists and scripts, which name further files, are not read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(12)
    else:
        head = source[:12]
    if head[4:8] in BOXES and head[8:12] not in STILL_BRANDS:
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


@dataclass(frozen=True, slots=True)
class _Index:
    """All frames by the time at which they are shown, in the stream's units."""

    shown: NDArray[np.int64]
    keys: NDArray[np.int64]
    end: int

    def key_before(self, row: int) -> int:
        """Return the row of the last frame up to ``row`` from which decoding can start."""
        found = int(np.searchsorted(self.keys, self.shown[row], side="right")) - 1
        return int(np.searchsorted(self.shown, self.keys[max(found, 0)]))


def decode_video(
    source: bytes | Path, container: str, config: MediaConfig, *, mask: bytes | None = None
) -> Decoded:
    """Decode a video into ``config.frames`` frames.

    Parameters
    ----------
    source
        An encoded video, or its file.
    container
        What :func:`container_of` says of it.
    config
        The size, the frames, the limits.
    mask
        An encoded picture of the foreground of all frames; by default the alpha of each.

    Returns
    -------
    Decoded
        Arrays of the configured size.

    Raises
    ------
    DataError
        If there is no video in it, or it is too large or long, cut off, too short, or a still.
    MissingExtraError
        If PyAV is not installed.
    """
    with _opened(source, container, config) as file:
        stream = _video_stream(file, config)
        index = _index(file, stream, config)
        unit = float(stream.time_base)
        if len(index.shown) == 1:
            (frame,) = _frames(file, stream, index, [0], config)
            return repeat_still(_fit(frame, stream, mask, config), config)
        rows = frames_at(index.shown * unit, index.end * unit, config).tolist()
        wanted = list(dict.fromkeys(rows))
        frames = _frames(file, stream, index, wanted, config)
        fitted = (_fit(frame, stream, mask, config) for frame in frames)
        shown = dict(zip(wanted, fitted, strict=True))
    return join_frames([shown[row] for row in rows])


def video_size(source: bytes | Path, container: str) -> tuple[int, int]:
    """Return width and height as the header says them; see :func:`decode_video` for the errors."""
    config = MediaConfig(frames=2, max_frames=HEADER_FRAMES)
    with _opened(source, container, config) as file:
        context = _video_stream(file, config).codec_context
        return context.width, context.height


@contextmanager
def _opened(source: bytes | Path, container: str, config: MediaConfig) -> Iterator[Any]:
    av, limit = load_av(), {"max_pixels": str(config.max_pixels)}
    with (
        source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as data,
        av.open(data, format=container, options=limit, io_open=_refuse) as file,
    ):
        yield file


def _refuse(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise DataError(f"names another file, {url}, which is not read")


def _video_stream(file: Any, config: MediaConfig) -> Any:
    """Return the stream of the pictures, judged by what its header says."""
    if not file.streams.video:
        held = ", ".join(sorted({stream.type for stream in file.streams})) or "nothing"
        raise DataError(f"has no pictures, only {held}")
    stream = file.streams.video[0]
    # One thread a clip: clips are decoded side by side.
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1
    width, height = stream.codec_context.width, stream.codec_context.height
    if width < 1 or height < 1:
        raise DataError("has no pictures: it does not say how large they are")
    _require_small(width, height, config)
    require_few(stream.frames, config)
    return stream


def _require_small(width: int, height: int, config: MediaConfig) -> None:
    if width * height > config.max_pixels:
        raise DataError(f"has {width} x {height} pixels, more than max_pixels {config.max_pixels}")


def _index(file: Any, stream: Any, config: MediaConfig) -> _Index:
    """Read the packets, which says when every frame is shown, and decode none."""
    shown: list[int] = []
    keys: list[int] = []
    end = 0
    step = 1 / float(stream.time_base * (stream.average_rate or 25))
    for packet in file.demux(stream):
        time = packet.dts if packet.pts is None else packet.pts
        if not packet.size or time is None or packet.is_discard:
            continue
        require_few(len(shown) + 1, config)
        shown.append(time)
        end = max(end, time + (packet.duration or round(step)))
        if packet.is_keyframe:
            keys.append(time)
    if not shown or not keys:
        raise DataError("has no frames that can be decoded")
    _require_whole(stream, len(shown), end - min(shown))
    return _Index(np.unique(shown), np.unique(keys), end)


def _require_whole(stream: Any, num_frames: int, length: int) -> None:
    if num_frames < WHOLE * stream.frames:
        raise DataError(f"is cut off: {num_frames} of {stream.frames} frames are there")
    stated = stream.duration
    if stated is None and stream.container.duration is not None:
        # In microseconds, over all streams: sound may last a little longer.
        stated = float(stream.container.duration / (1_000_000 * stream.time_base))
    if stated is not None and length < WHOLE * stated:
        unit = float(stream.time_base)
        raise DataError(f"is cut off: {length * unit:.3g} of {stated * unit:.3g} s are there")


def _frames(
    file: Any, stream: Any, index: _Index, wanted: list[int], config: MediaConfig
) -> Iterator[Any]:
    """Yield wanted frames (ascending rows); seek only over more frames than a seek is worth."""
    pixels, position = 0, None
    decoder: Iterator[Any] = iter(())
    for row in wanted:
        key = index.key_before(row)
        if position is None or key - position > SEEK_GAP:
            file.seek(int(index.shown[key]), stream=stream, backward=True)
            decoder = file.decode(stream)
        for frame in decoder:
            pixels += frame.width * frame.height
            require_work(pixels, config)
            if frame.pts is None or frame.pts >= index.shown[row]:
                break
        else:
            raise DataError(f"is damaged: frame {row} of {len(index.shown)} cannot be decoded")
        if frame.is_corrupt:
            raise DataError(f"is damaged: frame {row} of {len(index.shown)} is not whole")
        position = row
        yield frame


def _fit(frame: Any, stream: Any, mask: bytes | None, config: MediaConfig) -> Decoded:
    _require_small(frame.width, frame.height, config)
    ratio = float(stream.sample_aspect_ratio or 1)
    turned = frame.rotation % 180 == 90
    size = (max(1, round(frame.width * ratio)), frame.height)
    upright = size[::-1] if turned else size
    place = place_of(upright, config)
    inside = None if mask is None else open_mask(mask, upright, config)
    # FFmpeg converts and shrinks in one go; the last factor is left to the configured filter.
    scale = min(1.0, place.scale * DRAFT_GAP)
    image = _image(frame, *(math.ceil(side * scale) for side in size))
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    if inside is not None:
        inside = inside.resize(image.size, Image.Resampling.BOX)
    return fit_frame(image, place, config, mask=inside)


def _image(frame: Any, width: int, height: int) -> Image.Image:
    alpha = any(part.is_alpha for part in frame.format.components)
    kind = "rgba" if alpha else "rgb24"
    made = frame.reformat(width, height, format=kind, interpolation=EXACT_AREA, threads=1)
    return Image.fromarray(made.to_ndarray())
