"""Turn source pictures and animations into what the emoji catalogue stores."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
CLIP_FRAMES = 16
STILL_QUALITY = 85
CLIP_QUALITY = 70
BACKGROUND = (255, 255, 255)
# Hamming has no negative lobes: white ground stays white beside an edge, without a ringing halo.
RESAMPLING = Image.Resampling.HAMMING


@dataclass(frozen=True, kw_only=True, slots=True)
class Still:
    """One finished picture: WebP bytes, and where it is opaque as the bytes of a 1-bit PNG."""

    image: bytes
    mask: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One finished clip: WebP bytes, and how many frames and milliseconds its source had."""

    clip: bytes
    num_frames: int
    duration_ms: int


def encode_still(content: bytes) -> Still:
    """Turn one source still into the stored picture and mask."""
    with Image.open(io.BytesIO(content)) as source:
        image = source.convert("RGBA")
    picture, mask = io.BytesIO(), io.BytesIO()
    on_background(image).save(picture, "WEBP", quality=STILL_QUALITY, method=6)
    Image.fromarray(opaque_area(image)).save(mask, "PNG", optimize=True)
    return Still(image=picture.getvalue(), mask=mask.getvalue())


def encode_clip(content: bytes) -> Clip | None:
    """Turn one source animation into the stored clip; None when it has a single frame."""
    with Image.open(io.BytesIO(content)) as source:
        num_frames: int = getattr(source, "n_frames", 1)
        if num_frames == 1:
            return None
        needed = {i for place in places_of(num_frames) for i, _ in place}
        frames, duration_ms = {}, 0
        for i in range(num_frames):
            source.seek(i)
            source.load()
            if i in needed:
                frames[i] = on_background(source.convert("RGBA"))
            duration_ms += int(source.info["duration"])
    sampled = [mix([(frames[i], part) for i, part in place]) for place in places_of(num_frames)]
    return Clip(
        clip=write_animation(sampled, duration_ms), num_frames=num_frames, duration_ms=duration_ms
    )


def places_of(num_frames: int) -> list[list[tuple[int, float]]]:
    """Return what each of CLIP_FRAMES frames, evenly spaced over a loop, is made of.

    One source frame each, unless the source has fewer frames than that. Then neighbours are
    blended: repeated frames would be merged by the WebP writer and the clip would be too short.

    Returns
    -------
    list of list of tuple
        Per frame, (source frame, part), parts adding up to 1.

    Examples
    --------
    >>> places_of(48)[:3]
    [[(0, 1.0)], [(3, 1.0)], [(6, 1.0)]]
    >>> places_of(8)[:3]
    [[(0, 1.0)], [(0, 0.5), (1, 0.5)], [(1, 1.0)]]
    """
    starts = [divmod(i * num_frames, CLIP_FRAMES) for i in range(CLIP_FRAMES)]
    if num_frames >= CLIP_FRAMES:
        return [[(whole, 1.0)] for whole, _ in starts]
    return [
        [(whole, 1 - rest / CLIP_FRAMES), ((whole + 1) % num_frames, rest / CLIP_FRAMES)]
        if rest
        else [(whole, 1.0)]
        for whole, rest in starts
    ]


def mix(parts: Sequence[tuple[Image.Image, float]]) -> Image.Image:
    """Return one picture, or the blend of two by the part of the second."""
    (first, _), *more = parts
    return Image.blend(first, more[0][0], more[0][1]) if more else first


def write_animation(frames: Sequence[Image.Image], duration_ms: int) -> bytes:
    """Return a looping WebP whose frames share the duration equally."""
    clip = io.BytesIO()
    frames[0].save(
        clip,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=round(duration_ms / len(frames)),
        loop=0,
        quality=CLIP_QUALITY,
        method=4,
        # Every frame a key frame: each decodes alone, and at this size the file is smaller too.
        kmin=0,
        kmax=1,
    )
    return clip.getvalue()


def on_background(image: Image.Image) -> Image.Image:
    """Return the RGBA picture as a square RGB of SIZE, composited on BACKGROUND.

    Compositing comes before resampling. Both are linear, so this equals resampling premultiplied
    colours: what lies under transparent pixels never bleeds into an edge.
    """
    ground = Image.new("RGBA", (max(image.size),) * 2, BACKGROUND)
    ground.alpha_composite(image, corner_of(image))
    return ground.convert("RGB").resize((SIZE, SIZE), RESAMPLING)


def opaque_area(image: Image.Image) -> NDArray[np.bool_]:
    """Return where the resampled alpha exceeds one half, (SIZE, SIZE)."""
    ground = Image.new("L", (max(image.size),) * 2, 0)
    ground.paste(image.getchannel("A"), corner_of(image))
    return np.asarray(ground.resize((SIZE, SIZE), RESAMPLING)) > 127


def corner_of(image: Image.Image) -> tuple[int, int]:
    """Return where a picture's corner lies when it is centred on a square of its longer side."""
    side = max(image.size)
    return (side - image.width) // 2, (side - image.height) // 2


def twin_distances(stills: Sequence[Still]) -> NDArray[np.float32]:
    """Return how far apart drawings are, in colour and outline per pixel of joint area, (N, N).

    Each pixel gives its mean squared colour difference (colours in 0..1), plus 1 where one drawing
    is opaque and the other is not.
    """
    colours = np.stack([decode(still.image, "RGB") for still in stills]).reshape(len(stills), -1)
    areas = np.stack([decode(still.mask, "1") for still in stills]).reshape(len(stills), -1)
    joint = areas.sum(1)[:, None] + areas.sum(1)[None] - areas @ areas.T
    differences = squared_distances(colours) / (3 * 255**2) + squared_distances(areas)
    return np.asarray(differences / joint, dtype=np.float32)


def squared_distances(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared Euclidean distances between rows (N, d), (N, N)."""
    squares = (rows**2).sum(1)
    distances: NDArray[np.float32] = squares[:, None] + squares[None] - 2 * rows @ rows.T
    return distances.clip(0)


def decode(content: bytes, mode: str) -> NDArray[np.float32]:
    """Return a stored picture in a Pillow mode: "RGB" in 0..255, "1" in 0..1."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert(mode), dtype=np.float32)
