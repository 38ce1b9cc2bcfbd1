"""What a visitor uploads, judged by its content before anything looks at it."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.data.clips import decode_clip
from ulrec.data.media import MediaConfig, decode
from ulrec.errors import DataError

__all__ = ["MAX_MEGABYTES", "read_upload"]

MAX_MEGABYTES = 10
MAX_PIXELS = 20_000_000
MAX_FRAMES, MAX_CLIP_PIXELS = 500, 100_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")


def read_upload(data: bytes, config: MediaConfig) -> NDArray[np.uint8]:
    """Return a picture or an animation (C, F, H, W) at the size of a catalogue's media.

    Among clips a picture is one that stands still; among pictures an animation is its first frame.

    Parameters
    ----------
    data
        A file of whatever content.
    config
        How the catalogue's media were made.

    Raises
    ------
    DataError
        If it is empty or larger than 10 MB, no picture of a known format, damaged, or says that it
        has more than 20 megapixels, or too many frames; the size is judged before a pixel is
        decoded.
    """
    if not 0 < len(data) <= MAX_MEGABYTES * 1_000_000:
        raise DataError(
            f"a picture has up to {MAX_MEGABYTES} MB, this one has {len(data) / 1e6:.1f} MB; "
            "choose a smaller one"
        )
    _verify(data)
    limited = dataclasses.replace(
        config,
        max_pixels=MAX_PIXELS,
        max_frames=MAX_FRAMES,
        max_clip_pixels=MAX_CLIP_PIXELS,
        stills="repeat",
        short="repeat",
    )
    read = decode if config.frames == 1 else decode_clip
    try:
        return read(data, limited).media
    except DataError as error:
        raise DataError(f"this file {error}; choose another") from error


def _verify(data: bytes) -> None:
    """Refuse what is no whole picture by its own checksums."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(
                    f"this picture has {width} x {height} pixels, more than "
                    f"{MAX_PIXELS // 1_000_000} megapixels; choose a smaller one"
                )
            image.verify()
    except DataError:
        raise
    except Exception as error:  # damaged input makes decoders raise anything, even MemoryError
        raise DataError(
            f"this file is no picture that can be read ({', '.join(FORMATS)}); choose another"
        ) from error
