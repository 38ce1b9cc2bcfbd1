"""One picture: decoded, put on a background, fitted to a size.

Colour profiles are not applied: values are taken as sRGB. Of an animation the first frame is read;
:mod:`ulrec.data.clips` reads all of it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ulrec.errors import ConfigError, DataError

__all__ = [
    "CHANNELS",
    "Decoded",
    "MediaConfig",
    "decode",
    "fit_frame",
    "open_mask",
    "open_picture",
    "place_of",
]

CHANNELS = 3

# Decoders of web pictures only: Pillow would hand an EPS to an interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Pillow refuses more than this by itself.
PILLOW_LIMIT = 178_956_970

# A JPEG is decoded at the smallest DCT scale that is still this much larger than what is needed.
DRAFT_GAP = 2.0
REDUCING_GAP = 3.0

# EXIF orientations that swap width and height.
SIDEWAYS = range(5, 9)

Resample = Literal["box", "hamming", "bicubic", "lanczos"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaConfig:
    """How pictures and clips become arrays.

    Attributes
    ----------
    height, width
        Size of all media, in pixels.
    frames
        Frames of all media. 1 reads pictures, and of an animation its first frame; more reads clips
        (videos, animations, folders of frames).
    frame_rate
        Frames a second, taken from the middle of a clip. None spreads ``frames`` over the whole
        clip, whatever it lasts: what is shown at the centres of as many equal parts.
    stills
        What becomes of a single picture among clips: "refuse" quarantines it, "repeat" shows it in
        every frame.
    short
        What becomes of a clip that ends before the last frame at ``frame_rate``: "refuse"
        quarantines it, "repeat" holds its last frame.
    background
        Colour under transparent pixels and beside padded pictures.
    fit
        The aspect is always kept: "pad" shows the whole picture, "crop" its centre.
    resample
        Filter; "hamming" averages areas like "box" but has no jumps at odd ratios, "lanczos" is
        sharper and rings.
    max_pixels
        A picture, or a frame, that says it is larger is refused before it is decoded.
    max_frames
        A clip that has more is refused before it is decoded.
    max_clip_pixels
        A clip of which more pixels would have to be decoded, over all frames, is refused.
    max_bad_share
        Share of pictures that may be quarantined before preparing fails.
    """

    height: int = 32
    width: int = 32
    frames: int = 1
    background: tuple[int, int, int] = (255, 255, 255)
    fit: Literal["pad", "crop"] = "pad"
    resample: Resample = "hamming"
    frame_rate: float | None = None
    stills: Literal["refuse", "repeat"] = "refuse"
    short: Literal["refuse", "repeat"] = "refuse"
    max_pixels: int = 40_000_000
    max_frames: int = 250_000
    max_clip_pixels: int = 20_000_000_000
    max_bad_share: float = 0.1

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ConfigError(
                f"'height' and 'width' have to be positive, got {self.height} and {self.width}"
            )
        if self.frames < 1 or self.max_frames < 1 or self.max_clip_pixels < 1:
            raise ConfigError(
                f"'frames', 'max_frames' and 'max_clip_pixels' have to be positive, got"
                f" {self.frames}, {self.max_frames} and {self.max_clip_pixels}"
            )
        if self.frame_rate is not None and not (self.frames > 1 and 0 < self.frame_rate <= 1000):
            raise ConfigError(
                f"'frame_rate' has to be in (0, 1000] with more than one of 'frames', got"
                f" {self.frame_rate} with {self.frames}; leave it out for pictures"
            )
        if any(not 0 <= value <= 255 for value in self.background):
            raise ConfigError(
                f"'background' has to be three values in 0 .. 255, got {self.background}"
            )
        if not 1 <= self.max_pixels <= PILLOW_LIMIT:
            raise ConfigError(
                f"'max_pixels' has to be in 1 .. {PILLOW_LIMIT}, got {self.max_pixels}"
            )
        if not 0 <= self.max_bad_share < 1:
            raise ConfigError(f"'max_bad_share' has to be in [0, 1), got {self.max_bad_share}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A picture as arrays: ``media`` uint8 (C, F, H, W); ``mask`` uint8 (F, H, W), 255 inside.

    Outside is what is transparent, padded, or black in a given mask; None if nothing is.
    """

    media: Bytes
    mask: Bytes | None


def decode(data: bytes, config: MediaConfig, *, mask: bytes | None = None) -> Decoded:
    """Decode one picture, put it on the background and fit it.

    Parameters
    ----------
    data
        An encoded picture (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF); its EXIF orientation counts.
    config
        The size to fit, the background, the limits.
    mask
        An encoded picture of the foreground (white) of the same aspect; by default the alpha
        channel, where there is one that is not opaque.

    Returns
    -------
    Decoded
        Arrays of the configured size.

    Raises
    ------
    DataError
        If it is too large, damaged, or of an unknown format.
    """
    try:
        return _decode(data, mask, config)
    except DataError:
        raise
    except Exception as error:  # damaged input makes decoders raise anything, even MemoryError
        raise DataError(f"cannot be decoded ({type(error).__name__}: {error})") from error


def _decode(data: bytes, mask: bytes | None, config: MediaConfig) -> Decoded:
    with open_picture(data, config) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
        # The size of a TIFF is upright already, and so is what Pillow loads from it.
        turned = orientation in SIDEWAYS and image.format != "TIFF"
        size = (height, width) if turned else (width, height)
        place = place_of(size, config)
        needed = place.scale * DRAFT_GAP
        image.draft(None, (math.ceil(width * needed), math.ceil(height * needed)))
        image.load()
        upright = image if orientation == 1 else ImageOps.exif_transpose(image)
    inside = None if mask is None else open_mask(mask, size, config)
    return fit_frame(upright, place, config, mask=inside)


def fit_frame(
    image: Image.Image, place: Place, config: MediaConfig, *, mask: Image.Image | None = None
) -> Decoded:
    """Put an upright picture on the background and fit it.

    Parameters
    ----------
    image
        Of any mode.
    place
        Where it goes; see :func:`place_of`.
    config
        The size, the background.
    mask
        Stands for its alpha channel, in the mode "L".

    Returns
    -------
    Decoded
        A single frame.
    """
    colour, alpha = _colour_and_alpha(image)
    if alpha is not None:
        colour = _over_background(colour, alpha, config)
    if mask is not None:
        alpha = mask
    media = np.asarray(_fit(colour, place, config, config.background)).transpose(2, 0, 1)[:, None]
    if alpha is None and place.size == (config.width, config.height):
        return Decoded(media=media, mask=None)
    inside = Image.new("L", colour.size, 255) if alpha is None else alpha
    fitted = np.asarray(_fit(inside, place, config, 0))[None]
    return Decoded(media=media, mask=fitted if fitted.min() < 255 else None)


def open_picture(data: bytes, config: MediaConfig) -> Image.Image:
    """Open a picture, of which only the header has been read when its size is judged."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its message holds an address in memory
        raise DataError(f"is not a readable picture ({', '.join(FORMATS)})") from None
    width, height = image.size
    if width * height > config.max_pixels:
        raise DataError(f"has {width} x {height} pixels, more than max_pixels {config.max_pixels}")
    return image


def _colour_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture of any mode as RGB and, if it is not opaque, its alpha."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB"), None
    # Pillow copies a picture that is converted to the mode it has.
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB"), None
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = rgba.getchannel("A")
    return rgba.convert("RGB"), None if alpha.getextrema() == (255, 255) else alpha


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys, which Pillow would clip."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise DataError(f"has pixels of mode {image.mode} beyond 16 bits; their range is not known")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


def _over_background(colour: Image.Image, alpha: Image.Image, config: MediaConfig) -> Image.Image:
    """Composite before resizing: colours under transparent pixels never bleed into the edges."""
    canvas = Image.new("RGB", colour.size, config.background)
    canvas.paste(colour, mask=alpha)
    return canvas


def open_mask(data: bytes, size: tuple[int, int], config: MediaConfig) -> Image.Image:
    """Open a mask of any size that has the aspect of the picture to within one pixel."""
    with open_picture(data, config) as image:
        if abs(image.width * size[1] / size[0] - image.height) > 1:
            raise DataError(f"has a mask of another aspect: {image.width} x {image.height}")
        return image.convert("L")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture goes: which part of it (fractions), at what size, and where."""

    scale: float
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    offset: tuple[int, int]


def place_of(size: tuple[int, int], config: MediaConfig) -> Place:
    """Return where a picture of a size (width, height) goes."""
    target = (config.width, config.height)
    ratios = [t / s for t, s in zip(target, size, strict=True)]
    if config.fit == "crop":
        scale = max(ratios)
        left, top = (max(0.0, (1 - ratio / scale) / 2) for ratio in ratios)
        return Place(scale, target, (left, top, 1 - left, 1 - top), (0, 0))
    scale = min(ratios)
    width, height = (min(max(round(s * scale), 1), t) for s, t in zip(size, target, strict=True))
    offset = ((config.width - width) // 2, (config.height - height) // 2)
    return Place(scale, (width, height), (0.0, 0.0, 1.0, 1.0), offset)


def _fit(
    image: Image.Image, place: Place, config: MediaConfig, fill: int | tuple[int, int, int]
) -> Image.Image:
    left, top, right, bottom = place.box
    width, height = image.size
    resized = image.resize(
        place.size,
        RESAMPLE[config.resample],
        box=(left * width, top * height, right * width, bottom * height),
        reducing_gap=REDUCING_GAP,
    )
    if place.size == (config.width, config.height):
        return resized
    canvas = Image.new(image.mode, (config.width, config.height), fill)
    canvas.paste(resized, place.offset)
    return canvas


RESAMPLE: Mapping[Resample, Image.Resampling] = {
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
