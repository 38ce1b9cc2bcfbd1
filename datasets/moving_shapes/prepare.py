"""Draw a catalogue of clips in which shapes bounce: a test bed whose every factor is known.

    python datasets/moving_shapes/prepare.py --out FOLDER

The same seed gives the same pixels. README.md in this folder is the card of the data.
"""

import argparse
import itertools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import write_file
from ulrec.data import schema
from ulrec.data.encode import encode_frames
from ulrec.data.tables import validate_catalogue
from ulrec.errors import DataError, ULRecError
from ulrec.evaluation.animation import tile_clips

logger = logging.getLogger("moving_shapes")

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIZE, NUM_FRAMES, FPS = 32, 16, 8.0
# Every pixel is the mean of so many points a side.
POINTS = 4
RADIUS = 0.16
BACKGROUND = (255, 255, 255)
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "orange": (255, 140, 0),
    "green": (44, 160, 44),
    "blue": (31, 90, 200),
    "purple": (140, 60, 180),
    "black": (30, 30, 30),
}
# Sides of the picture that a shape crosses in a second, at FPS.
SPEEDS: Mapping[str, float] = {"slow": 0.25, "medium": 0.6, "fast": 1.2}
HELDOUT_EVERY = 9


def discs(x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Return which points, relative to the centre in units of the radius, are inside a disc."""
    return np.asarray(x**2 + y**2 <= 1)


def squares(x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Return which points are inside a square of about the disc's area."""
    return np.asarray(np.maximum(abs(x), abs(y)) <= 0.886)


def triangles(x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Return which points are inside a triangle that stands on its side."""
    return np.asarray((y <= 0.8) & (y >= 2.25 * abs(x) - 1))


SHAPES = {"disc": discs, "square": squares, "triangle": triangles}


def bounce(start: Floats, velocity: Floats, times: Floats) -> Floats:
    """Return positions (F, 2) of what is thrown back by walls at RADIUS and 1 - RADIUS.

    Examples
    --------
    >>> walls = bounce(np.array([0.5, 0.5]), np.array([0.5, 0.0]), np.array([0.0, 1.0]))
    >>> walls.round(2).tolist()
    [[0.5, 0.5], [0.68, 0.5]]
    """
    room = 1 - 2 * RADIUS
    straight = (start - RADIUS + velocity * times[:, None]) % (2 * room)
    positions: Floats = RADIUS + np.minimum(straight, 2 * room - straight)
    return positions


def draw(shape: str, colour: str, speed: str, rng: np.random.Generator) -> Bytes:
    """Return a clip (F, H, W, 3); where it starts and which way it goes come from ``rng``."""
    start = rng.uniform(RADIUS, 1 - RADIUS, 2)
    angle = rng.uniform(0, 2 * np.pi)
    velocity = SPEEDS[speed] * np.array([np.cos(angle), np.sin(angle)])
    centres = bounce(start, velocity, np.arange(NUM_FRAMES) / FPS)
    points = (np.arange(SIZE * POINTS) + 0.5) / (SIZE * POINTS)
    frames = []
    for x, y in centres:
        inside = SHAPES[shape]((points[None] - x) / RADIUS, (points[:, None] - y) / RADIUS)
        share = inside.reshape(SIZE, POINTS, SIZE, POINTS).mean(axis=(1, 3))[..., None]
        mixed = share * np.array(COLOURS[colour]) + (1 - share) * np.array(BACKGROUND)
        frames.append(np.rint(mixed).astype(np.uint8))
    return np.stack(frames)


def build(per_concept: int, seed: int) -> tuple[pl.DataFrame, Bytes]:
    """Return the catalogue and the clips (N, F, H, W, 3) that it holds."""
    rows, clips = [], []
    order = list(itertools.product(SHAPES, COLOURS, SPEEDS))
    drawn = np.random.default_rng(seed).permutation(len(order))
    heldout = {order[i] for i in drawn[: len(order) // HELDOUT_EVERY]}
    for concept, number in itertools.product(order, range(per_concept)):
        shape, colour, speed = concept
        rng = np.random.default_rng([seed, order.index(concept), number])
        clips.append(draw(shape, colour, speed, rng))
        rows.append(
            {
                schema.ITEM_ID: f"{shape}-{colour}-{speed}-{number:02d}",
                schema.NAME: f"a {speed} {colour} {shape}",
                schema.CATEGORY: shape,
                schema.SUBCATEGORY: colour,
                schema.CONCEPT: "-".join(concept),
                schema.SPLIT: schema.HELDOUT if concept in heldout else schema.TRAIN,
                schema.CLIP: encode_frames(clips[-1], kind="webp", fps=FPS, lossless=True),
            }
        )
    return validate_catalogue(pl.DataFrame(rows)), np.stack(clips)


def overview(clips: Bytes) -> bytes:
    """Return the first clip of each concept, moving, as an animated WebP."""
    media = np.moveaxis(clips, -1, 1)  # (N, C, F, H, W)
    grid = tile_clips(media, columns=len(COLOURS) * len(SPEEDS), scale=1, gap=2)
    return encode_frames(grid, kind="webp", fps=FPS, lossless=True)


def prepare(options: argparse.Namespace) -> None:
    """Draw everything, then write it."""
    if options.per_concept < 1:
        raise DataError(f"--per-concept has to be at least 1, got {options.per_concept}")
    table, clips = build(options.per_concept, options.seed)
    write_file(options.out / "clips.parquet", table.write_parquet)
    moving = overview(clips[:: options.per_concept])
    write_file(options.out / "overview.webp", lambda path: path.write_bytes(moving))
    heldout = int((table[schema.SPLIT] == schema.HELDOUT).sum())
    logger.info("%s: %s clips (%s held out)", options.out, len(table), heldout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 with the reason logged."""
    parser = argparse.ArgumentParser(description="Draw clips.parquet and overview.webp.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--per-concept", type=int, default=12, help="clips of each of 54 concepts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(options)
    except ULRecError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
