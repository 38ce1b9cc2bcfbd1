"""Measure whether a messy catalogue is read at twice plain Pillow's speed, corrupt files listed.

    python examples/benchmarks/media.py --num 10000 --folder runs/media-benchmark

Makes a catalogue of pictures of mixed size and format, 1 % of them corrupt in several ways, with a
table of interactions. Then measures, in turns, a plain loop of Pillow (open, convert to RGB, resize
with LANCZOS) and what ulrec does: ``init`` (headers, ids, proposal) and the stage ``prepare``.
The files are kept: a second run measures only. Plain Pillow has one thread, ulrec one a core; where
others use the cores too, ``cpu_ratio`` says what is gained without threads.
"""

import argparse
import dataclasses
import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from tqdm import tqdm

from ulrec.config import load_config
from ulrec.data.media import MediaStore
from ulrec.experiment.config import RunConfig
from ulrec.experiment.propose import propose
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES

SHORTEST, LONGEST = 100, 1600
CANVAS = 2304 + LONGEST
BAD_EVERY = 100
KINDS = {"jpg": 0.70, "png": 0.15, "webp": 0.10, "gif": 0.03, "bmp": 0.02}
OPTIONS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 88},
    "png": {"format": "PNG", "compress_level": 4},
    "webp": {"format": "WEBP", "quality": 82, "method": 1},
    "gif": {"format": "GIF"},
    "bmp": {"format": "BMP"},
}


def canvases(rng: np.random.Generator, count: int = 4) -> list[Image.Image]:
    """Return large pictures with detail at all scales, as photographs have; crops become items."""
    made = []
    for _ in range(count):
        total = np.zeros((CANVAS, CANVAS, 3), np.float32)
        for cells, strength in ((4, 70), (16, 40), (64, 20), (256, 10), (1024, 5)):
            small = rng.normal(128, strength, (cells, cells, 3)).clip(0, 255).astype(np.uint8)
            large = Image.fromarray(small).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
            total += np.asarray(large, np.float32) - 128
        made.append(Image.fromarray((total + 128).clip(0, 255).astype(np.uint8)))
    return made


def corrupt(data: bytes, way: int) -> bytes:
    """Spoil an encoded picture: cut it, empty it, replace it by text, or flip bits of its header.

    A cut takes a tenth to nine tenths; Pillow shows the upper part of such a picture if asked to.
    """
    match way % 4:
        case 0:
            return data[: len(data) * (1 + way // 4 % 9) // 10]
        case 1:
            return b""
        case 2:
            return b"<html><body>404 Not Found</body></html>\n"
        case _:
            return bytes(byte ^ 0x55 for byte in data[:16]) + data[16:]


def make(folder: Path, num: int) -> list[str]:
    """Write the catalogue, and return the ids of its corrupt items."""
    rng = np.random.default_rng(0)
    large = canvases(rng)
    bad = []
    for item in tqdm(range(num), desc="making pictures", disable=None):
        width, height = np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST), 2)).astype(int)
        width, height = (
            int(side) for side in np.sqrt([width * height * 0.75, width * height / 0.75])
        )
        left, top = rng.integers(0, LONGEST, 2).tolist()
        picture = large[item % len(large)].crop((left, top, left + width, top + height))
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        if kind == "png" and rng.random() < 0.5:  # a shop's cut-outs
            picture.putalpha(
                Image.radial_gradient("L").resize(picture.size).point(lambda v: 255 - v)
            )
        stream = io.BytesIO()
        picture.save(stream, **OPTIONS[kind])
        data = stream.getvalue()
        if item % BAD_EVERY == BAD_EVERY // 2:
            bad.append(f"p{item:05d}")
            data = corrupt(data, len(bad))
        (folder / f"p{item:05d}.{kind}").write_bytes(data)
    return bad


def make_interactions(num: int) -> pl.DataFrame:
    """Return likes of random users."""
    rng = np.random.default_rng(1)
    pairs = np.unique(rng.integers(0, [num // 5, num], (num * 10, 2)), axis=0)
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in pairs[:, 0]],
            "item_id": [f"p{item:05d}" for item in pairs[:, 1]],
            "timestamp": rng.integers(1_700_000_000, 1_720_000_000, len(pairs)),
        }
    )


def plain(files: list[Path], size: tuple[int, int]) -> int:
    """Decode and resize all files with Pillow alone, one after the other; count what it can."""
    done = 0
    for path in files:
        try:
            with Image.open(path) as picture:
                resized = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        except OSError:
            continue
        done += np.asarray(resized).shape == (size[1], size[0], 3)
    return done


@dataclasses.dataclass(frozen=True)
class Spent:
    """Readings of two clocks: on the wall, and of all threads on the processor."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> "Spent":
        """Return the readings of both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


def init_and_prepare(pictures: Path, table: Path, folder: Path) -> tuple[RunConfig, Spent, Spent]:
    """Return the proposed configuration and the time of both steps."""
    start = Spent.now()
    config_path = folder / "own.yaml"
    proposal = propose(pictures, table, out=config_path)
    proposal.write(force=True)
    proposed = Spent.now()
    config = load_config(RunConfig, config_path, [f"folder={folder}"])
    run_stages(Run(config=config), [STAGES["prepare"]], report=lambda result: None)
    return config, proposed - start, Spent.now() - proposed


def main() -> None:
    """Make what is missing, measure in turns, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("runs/media-benchmark"))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    pictures, bad_list = options.folder / "pictures", options.folder / "corrupt.json"
    table = options.folder / "likes.parquet"
    if not bad_list.is_file():
        pictures.mkdir(parents=True, exist_ok=True)
        make_interactions(options.num).write_parquet(table)
        bad_list.write_text(json.dumps(make(pictures, options.num)))
    bad = set(json.loads(bad_list.read_text()))
    files = sorted(pictures.iterdir())
    total = sum(len(path.read_bytes()) for path in files)  # both sides read from the page cache
    print(
        f"{len(files)} pictures, {len(bad)} corrupt, {total / 1e6:.0f} MB; {os.cpu_count()} cores"
    )

    rows, ratios = [], []
    for _ in range(options.repeats):
        stages = options.folder / "runs"
        shutil.rmtree(stages, ignore_errors=True)  # or prepare would be up to date
        config, init, prepare = init_and_prepare(pictures, table, stages)
        media = config.data.media
        start = Spent.now()
        done = plain(files, (media.width, media.height))
        by_pillow = Spent.now() - start
        store = MediaStore.open(stages / config.name / "media")
        listed = {entry.item_id for entry in store.quarantine}
        wall_s = init.wall_s + prepare.wall_s
        ratios.append(by_pillow.wall_s / wall_s)
        row = {
            "plain_per_s": len(files) / by_pillow.wall_s,
            "ulrec_per_s": len(files) / wall_s,
            "ratio": ratios[-1],
            "cpu_ratio": by_pillow.cpu_s / (init.cpu_s + prepare.cpu_s),
            "plain": dataclasses.asdict(by_pillow),
            "init": dataclasses.asdict(init),
            "prepare": dataclasses.asdict(prepare),
            "size": f"{media.height}x{media.width} {media.fit}",
            "plain_decoded": done,
            "corrupt_not_listed": sorted(bad - listed),
            "listed_though_good": sorted(map(str, listed - bad)),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    assert all(not row["corrupt_not_listed"] and not row["listed_though_good"] for row in rows)
    print(f"ratio {min(ratios):.2f} at least")


if __name__ == "__main__":
    main()
