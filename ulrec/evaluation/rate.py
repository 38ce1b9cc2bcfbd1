"""What a plain method reaches at the same rate: shrink, quantise, enlarge; or JPEG and WebP."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation.fidelity import psnr

__all__ = ["CODECS", "CodecBaseline", "DownsamplingBaseline", "codec_psnr", "downsampling_psnr"]

CODECS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "optimize": True},
    "webp": {"format": "WEBP", "method": 6},
}
"""Options of Pillow's encoders by the codec's name; both halve the resolution of colour."""

FloatArray = NDArray[np.float64]

CHUNK = 256
BEST_QUALITY = 100


@dataclass(frozen=True, kw_only=True)
class DownsamplingBaseline:
    """The best of shrinking and quantising within a budget of bits.

    ``psnr`` (N,) and ``reconstructions`` (uint8, the shape of the images) are those of the chosen
    ``size`` (height, width) and ``bits_per_value``; ``bits_per_pixel`` is what they use, raw,
    without entropy coding and without a header.
    """

    psnr: FloatArray
    reconstructions: NDArray[np.uint8]
    size: tuple[int, int]
    bits_per_value: int
    bits_per_pixel: float


def downsampling_psnr(
    images: NDArray[np.uint8],
    *,
    bits_per_pixel: float,
    bits_per_value: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8),
) -> DownsamplingBaseline:
    """Return the PSNR that a small copy of each image reaches at a given rate.

    The image is shrunk by area, its height * width * C values are quantised uniformly to q bits,
    and enlarged bicubically. One (size, q) serves all images: for each q the largest size with
    height * width * C * q <= bits_per_pixel * H * W is tried, and the highest mean PSNR kept.

    Parameters
    ----------
    images
        uint8 (N, C, H, W), or (N, C, F, H, W): then each frame is an image with its own budget.
    bits_per_pixel
        The budget, such as the rate of the latents.
    bits_per_value
        The values of q to try, 1 to 8 each.

    Raises
    ------
    DataError
        If images have another type or shape, or not even one value a channel fits the budget.
    """
    if images.dtype != np.uint8 or images.ndim not in (4, 5) or images.size == 0:
        raise DataError(f"expected uint8 (N, C, [F,] H, W), got {images.dtype} {images.shape}")
    if not bits_per_value or not all(1 <= q <= 8 for q in bits_per_value):
        raise DataError(f"bits_per_value has to list numbers from 1 to 8, got {bits_per_value}")
    frames = images if images.ndim == 4 else _frames(images)
    options = _options(frames.shape, bits_per_pixel, bits_per_value)
    if not options:
        raise DataError(
            f"{bits_per_pixel} bits/pixel leave less than {min(bits_per_value)} bits for each of "
            f"{images.shape[1]} channels; there is no baseline at this rate"
        )
    (height, width), q = max(options, key=lambda option: _mean_psnr(frames, *option))
    restored = _reconstruct(frames, (height, width), q)
    if images.ndim == 5:
        restored = _clips(restored, images.shape)
    return DownsamplingBaseline(
        psnr=psnr(images, restored, data_range=255),
        reconstructions=restored,
        size=(height, width),
        bits_per_value=q,
        bits_per_pixel=height * width * frames.shape[1] * q / (frames.shape[2] * frames.shape[3]),
    )


@dataclass(frozen=True, kw_only=True)
class CodecBaseline:
    """The best quality of a codec within a budget of bits.

    ``psnr`` (N,) and ``reconstructions`` (uint8, the shape of the images) are those of ``quality``;
    ``bits_per_pixel`` is the mean over whole files, headers included.
    """

    psnr: FloatArray
    reconstructions: NDArray[np.uint8]
    codec: str
    quality: int
    bits_per_pixel: float


def codec_psnr(
    images: NDArray[np.uint8], *, bits_per_pixel: float, codec: str = "webp"
) -> CodecBaseline:
    """Return the PSNR that a codec of pictures reaches at a given rate.

    One quality serves all images: the highest, 1 to 100, of which the mean file is within the
    budget. Headers count; in small pictures they are most of the file.

    Parameters
    ----------
    images
        uint8 (N, 3, H, W), or (N, 3, F, H, W): then each frame is a file of its own.
    bits_per_pixel
        The budget, such as the rate of the latents.
    codec
        A key of :data:`CODECS`.

    Raises
    ------
    DataError
        If images have another type or shape, the codec is unknown, or the budget is less than the
        lowest quality takes.
    """
    colour = images.dtype == np.uint8 and images.ndim in (4, 5) and images.size > 0
    if not colour or images.shape[1] != 3 or codec not in CODECS:
        raise DataError(
            f"expected uint8 (N, 3, [F,] H, W) and a codec of {list(CODECS)}, got {images.dtype} "
            f"{images.shape} and {codec!r}"
        )
    frames = images if images.ndim == 4 else _frames(images)
    low, high = 0, BEST_QUALITY
    # Sizes grow with quality: after each turn ``low`` fits (or is 0) and all above ``high`` do not.
    while low < high:
        middle = (low + high + 1) // 2
        fits = _rate(_encode(frames, codec, middle), frames) <= bits_per_pixel
        low, high = (middle, high) if fits else (low, middle - 1)
    if low == 0:
        least = _rate(_encode(frames, codec, 1), frames)
        raise DataError(
            f"{codec} takes {least:.3g} bits/pixel at its lowest quality, more than "
            f"{bits_per_pixel:.3g}; there is no baseline at this rate"
        )
    files = _encode(frames, codec, low)
    restored = np.stack([_decode(data) for data in files])
    if images.ndim == 5:
        restored = _clips(restored, images.shape)
    return CodecBaseline(
        psnr=psnr(images, restored, data_range=255),
        reconstructions=restored,
        codec=codec,
        quality=low,
        bits_per_pixel=_rate(files, frames),
    )


def _encode(frames: NDArray[np.uint8], codec: str, quality: int) -> list[bytes]:
    files = []
    for frame in frames:
        buffer = io.BytesIO()
        picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
        picture.save(buffer, quality=quality, **CODECS[codec])
        files.append(buffer.getvalue())
    return files


def _decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8).transpose(2, 0, 1)


def _rate(files: Sequence[bytes], frames: NDArray[np.uint8]) -> float:
    """Return the mean bits of a file for each pixel of its frame."""
    return float(8 * sum(map(len, files)) / (len(frames) * frames.shape[2] * frames.shape[3]))


def _frames(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (N * F, C, H, W) of (N, C, F, H, W)."""
    return clips.swapaxes(1, 2).reshape(-1, clips.shape[1], *clips.shape[3:])


def _clips(frames: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return (N, C, F, H, W) of (N * F, C, H, W)."""
    num, channels, num_frames, height, width = shape
    clips = frames.reshape(num, num_frames, channels, height, width).swapaxes(1, 2)
    return np.ascontiguousarray(clips)


def _options(
    shape: tuple[int, ...], bits_per_pixel: float, bits_per_value: Sequence[int]
) -> list[tuple[tuple[int, int], int]]:
    """Return, for each q, the largest size that fits, of about the images' proportions."""
    _, channels, height, width = shape
    budget = bits_per_pixel * height * width
    short = min(height, width)
    sizes = [
        (max(1, round(height * s / short)), max(1, round(width * s / short)))
        for s in range(1, short + 1)
    ]
    options = []
    for q in bits_per_value:
        fitting = [size for size in sizes if size[0] * size[1] * channels * q <= budget]
        if fitting:
            options.append((fitting[-1], q))
    return options


def _mean_psnr(frames: NDArray[np.uint8], size: tuple[int, int], q: int) -> float:
    return float(psnr(frames, _reconstruct(frames, size, q), data_range=255).mean())


def _reconstruct(frames: NDArray[np.uint8], size: tuple[int, int], q: int) -> NDArray[np.uint8]:
    """Return frames (N, C, H, W) shrunk to ``size``, quantised to q bits, enlarged again."""
    height, width = frames.shape[2:]
    down = _area(height, size[0]), _area(width, size[1])
    up = _bicubic(size[0], height), _bicubic(size[1], width)
    levels = 2**q - 1
    restored = np.empty_like(frames)
    for start in range(0, len(frames), CHUNK):
        part = slice(start, start + CHUNK)
        small = down[0] @ frames[part].astype(np.float64) @ down[1].T
        quantised = np.round(small / 255 * levels) / levels * 255
        restored[part] = np.clip(np.round(up[0] @ quantised @ up[1].T), 0, 255).astype(np.uint8)
    return restored


@cache
def _area(source: int, target: int) -> FloatArray:
    """Return the matrix (target, source) that averages over the area of each new pixel."""
    edges = np.arange(target + 1) * (source / target)
    starts, ends = edges[:-1, None], edges[1:, None]
    pixels = np.arange(source)
    overlap = np.minimum(ends, pixels + 1) - np.maximum(starts, pixels)
    weights = np.maximum(overlap, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@cache
def _bicubic(source: int, target: int) -> FloatArray:
    """Return the matrix (target, source) of cubic interpolation (a = -0.5) when enlarging."""
    centres = (np.arange(target)[:, None] + 0.5) * (source / target) - 0.5
    distance = np.abs(centres - np.arange(source))
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
    # Beyond the edge there is nothing: what is left is brought to sum one.
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
