"""Bits that a picture's plainness does not explain."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.data.media import MediaStore
from ulrec.errors import DataError

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["codec_bytes", "novelty"]

FITTED_ON = 256


def novelty(pipeline: Pipeline, media: NDArray[Any], *, num_levels: int) -> NDArray[np.float32]:
    """Return bits per pixel (N,) above the line of bits on PNG bytes over the run's media.

    The line is a least-squares fit to at most ``FITTED_ON`` of them, drawn by a fixed seed.
    """
    sizes = codec_bytes(media)
    store = MediaStore.open(pipeline.folder / "media")
    rows = np.sort(np.random.default_rng(0).permutation(len(store.media))[:FITTED_ON])
    known = np.asarray(store.media[rows])
    slope, height = np.polynomial.polynomial.polyfit(
        codec_bytes(known), pipeline.bits(pipeline.encode(known), num_levels=num_levels), 1
    )[::-1]
    bits = pipeline.bits(pipeline.encode(media), num_levels=num_levels)
    return np.asarray(bits - (height + slope * sizes), np.float32)


def codec_bytes(media: NDArray[Any]) -> NDArray[np.float64]:
    """Return the size of each as a PNG file, frames one below another, (N,).

    Parameters
    ----------
    media
        Uint8 (N, C, H, W) or (N, C, F, H, W), C being 1, 3 or 4.

    Raises
    ------
    DataError
        If they are of another type or number of channels.
    """
    x = media[:, :, None] if media.ndim == 4 else media
    if x.ndim != 5 or x.dtype != np.uint8 or x.shape[1] not in MODES:
        raise DataError(
            f"media have to be uint8 (N, C, H, W) or (N, C, F, H, W) with 1, 3 or 4 channels, got "
            f"{media.dtype} {media.shape}; convert them"
        )
    sizes = np.empty(len(x))
    for i, one in enumerate(x):
        tall = one.reshape(one.shape[0], -1, one.shape[-1]).transpose(1, 2, 0)  # (F H, W, C)
        buffer = io.BytesIO()
        pixels = np.ascontiguousarray(tall[..., 0] if tall.shape[-1] == 1 else tall)
        Image.fromarray(pixels, MODES[one.shape[0]]).save(buffer, "PNG", compress_level=9)
        sizes[i] = buffer.tell()
    return sizes


MODES = {1: "L", 3: "RGB", 4: "RGBA"}
