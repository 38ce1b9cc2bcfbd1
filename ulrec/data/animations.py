"""Animated pictures (WebP, GIF, PNG, AVIF): frames by the time at which they are shown."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image

from ulrec.data.frame_times import frames_at, join_frames, repeat_still, require_few, require_work
from ulrec.data.pictures import (
    Decoded,
    MediaConfig,
    decode,
    fit_frame,
    open_mask,
    open_picture,
    place_of,
)
from ulrec.errors import DataError

__all__ = ["decode_animation"]

# Browsers show a frame that claims to last 10 ms or less for 100 ms.
SHORTEST_MS, USUAL_MS = 10, 100

# Formats whose further pictures follow in time; those of a TIFF are pages.
ANIMATED = ("WEBP", "GIF", "PNG", "AVIF")


def decode_animation(data: bytes, config: MediaConfig, *, mask: bytes | None = None) -> Decoded:
    """Decode an animated picture into ``config.frames`` frames.

    Parameters
    ----------
    data
        An encoded picture; one that does not move is a still, see ``config.stills``.
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
        If it is too large or long, damaged, too short, a still, or of an unknown format.
    """
    with open_picture(data, config) as image:
        durations = _durations_ms(data, image, config)
        if len(durations) < 2:
            return repeat_still(decode(data, config, mask=mask), config)
        ends = np.cumsum([USUAL_MS if ms <= SHORTEST_MS else ms for ms in durations]) / 1000
        rows = frames_at(np.concatenate([[0.0], ends[:-1]]), float(ends[-1]), config)
        require_work((int(rows[-1]) + 1) * image.width * image.height, config)
        place = place_of(image.size, config)
        inside = None if mask is None else open_mask(mask, image.size, config)
        shown = {}
        for row in dict.fromkeys(rows.tolist()):
            image.seek(row)
            image.load()
            shown[row] = fit_frame(image, place, config, mask=inside)
    return join_frames([shown[row] for row in rows.tolist()])


def _durations_ms(data: bytes, image: Image.Image, config: MediaConfig) -> list[int]:
    """Return how long each frame is shown; one number for a still."""
    if image.format not in ANIMATED:
        return [0]
    read = DURATIONS.get(image.format)
    if read is not None:
        # One more than allowed is enough to refuse.
        found = list(itertools.islice(read(data), config.max_frames + 1))
        require_few(len(found), config)
        return found
    count = int(getattr(image, "n_frames", 1))
    require_few(count, config)
    require_work(2 * count * image.width * image.height if count > 1 else 0, config)
    return list(_durations_by_decoding(image, count))


def _durations_by_decoding(image: Image.Image, count: int) -> Iterator[int]:
    for row in range(count):
        image.seek(row)
        image.load()
        yield int(image.info.get("duration", 0))
    image.seek(0)


def _webp_durations_ms(data: bytes) -> Iterator[int]:
    """Walk over the chunks of a RIFF; frames are ANMF, with 24 bits of milliseconds."""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"ANMF":
            if at + 8 + size > len(data):
                raise DataError("is truncated: its last frame is not whole")
            yield int.from_bytes(data[at + 20 : at + 23], "little")
        at += 8 + size + size % 2


def _gif_durations_ms(data: bytes) -> Iterator[int]:
    """Walk over the blocks of a GIF; a control block before a frame has hundredths of a second."""
    delay, at = 0, 13 + _palette_bytes(data[10])
    try:
        while at < len(data) and data[at] != GIF_END:
            if data[at] == GIF_FRAME:
                at = _after_blocks(data, at + 11 + _palette_bytes(data[at + 9]))
                yield delay * 10
                delay = 0
            elif data[at] == GIF_EXTENSION:
                if data[at + 1] == GIF_CONTROL:
                    (delay,) = struct.unpack_from("<H", data, at + 4)
                at = _after_blocks(data, at + 2)
            else:
                raise DataError(f"is damaged: no block of a GIF starts with {data[at]}")
    except (IndexError, struct.error):
        raise DataError("is truncated: its last frame is not whole") from None


GIF_EXTENSION, GIF_CONTROL, GIF_FRAME, GIF_END = 0x21, 0xF9, 0x2C, 0x3B


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Return what follows a run of blocks, each with its size ahead; one of size 0 ends it."""
    while data[at]:
        at += data[at] + 1
    return at + 1


DURATIONS: Mapping[str, Callable[[bytes], Iterator[int]]] = {
    "WEBP": _webp_durations_ms,
    "GIF": _gif_durations_ms,
}
