"""One clip: frames taken by time, put on a background, fitted to a size.

A clip is a video (mp4, mov, webm, mkv, avi), an animated picture (WebP, GIF, PNG, AVIF), or a
folder of pictures, its frames by name. Frames are taken where :mod:`ulrec.data.frame_times` says.
"""

from __future__ import annotations

import re
from pathlib import Path

from ulrec.data.animations import decode_animation
from ulrec.data.frame_times import frames_at, join_frames, repeat_still, require_few
from ulrec.data.pictures import Decoded, MediaConfig, decode
from ulrec.data.video import container_of, decode_video
from ulrec.errors import DataError, MissingExtraError

__all__ = ["FRAME_ENDINGS", "decode_clip", "frame_files"]

FRAME_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")


def decode_clip(source: bytes | Path, config: MediaConfig, *, mask: bytes | None = None) -> Decoded:
    """Decode one clip into ``config.frames`` frames.

    Parameters
    ----------
    source
        An encoded clip, a file of one, or a folder of frames, each shown equally long.
    config
        The size, the frames, the limits.
    mask
        An encoded picture of the foreground (white) of all frames, of the same aspect; by default
        the alpha of each frame, where there is any that is not opaque.

    Returns
    -------
    Decoded
        Arrays of the configured size.

    Raises
    ------
    DataError
        If it is too large, long or short, damaged, a still, or of an unknown format.
    MissingExtraError
        If it is a video and PyAV is not installed.
    """
    try:
        if isinstance(source, Path) and source.is_dir():
            return _decode_folder(source, mask, config)
        container = container_of(source)
        if container is not None:
            return decode_video(source, container, config, mask=mask)
        data = source.read_bytes() if isinstance(source, Path) else source
        return decode_animation(data, config, mask=mask)
    except (DataError, MissingExtraError):
        raise
    except Exception as error:  # damaged input makes decoders raise anything, even MemoryError
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder in natural order: frame 9 before frame 10.

    Hidden files, and those of other endings, are no frames.
    """
    found = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted((p for p in found if p.suffix.lower() in FRAME_ENDINGS), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.findall(r"([0-9]+)|([^0-9]+)", path.stem.lower())
    return [(int(number or 0), text) for number, text in parts], path.name


def _decode_folder(folder: Path, mask: bytes | None, config: MediaConfig) -> Decoded:
    files = frame_files(folder)
    if not files:
        raise DataError(f"is a folder without frames ({', '.join(FRAME_ENDINGS)})")
    require_few(len(files), config)
    if config.frame_rate is not None:
        raise DataError("is a folder, whose frames have no times; leave frame_rate out")
    if len(files) == 1:
        return repeat_still(_decode_frame(files[0], mask, config), config)
    rows = frames_at(range(len(files)), len(files), config).tolist()
    shown = {row: _decode_frame(files[row], mask, config) for row in dict.fromkeys(rows)}
    return join_frames([shown[row] for row in rows])


def _decode_frame(path: Path, mask: bytes | None, config: MediaConfig) -> Decoded:
    try:
        return decode(path.read_bytes(), config, mask=mask)
    except DataError as error:
        raise DataError(f"frame {path.name} {error}") from error
