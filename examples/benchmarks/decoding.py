"""How few evaluations decode a picture? Samplers and levels, with the shipped emoji autoencoder.

    python examples/benchmarks/decoding.py --num 370 --out decoding.json
    python examples/benchmarks/decoding.py --search 3 --num 185

Prints PSNR, KID-efflite0 and FD-efflite0 of reconstructions against their originals: the 185
held-out emoji and as many train ones as ``--num`` asks for, all settings on the same latents, noise
and seeds. ``--search`` places the levels of so many evaluations on *train* pictures first, by
coordinates, for the least KID among those whose PSNR is not 0.3 dB under that of 50 steps.
"""

import argparse
import dataclasses
import json
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ulrec.data.media import to_uint8
from ulrec.data.pictures import MediaConfig
from ulrec.data.pictures import decode as read_picture
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.fidelity import frechet_distance, kid, psnr
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.models.autoencoder import Autoencoder
from ulrec.models.components import pretrained_folder
from ulrec.pipeline import decoder_seeds, load_autoencoder

STILLS = Path(__file__).parents[2] / "datasets/fluent_emoji/stills.parquet"
REFERENCE = SamplerConfig(num_steps=50)
WITHIN_DB = 0.3
AT_ONCE = 64
STEPS = (1.5, 0.75)
"""How far a level is moved in each round of the search."""

SETTINGS = {
    "ddim 50": REFERENCE,
    "ddim 25": SamplerConfig(num_steps=25),
    "ancestral 25": SamplerConfig(name="ancestral", num_steps=25),
    "ancestral 16": SamplerConfig(name="ancestral", num_steps=16),
    "ddim 8": SamplerConfig(num_steps=8),
    "ddim 4": SamplerConfig(num_steps=4),
    "ddim 4, placed": SamplerConfig(num_steps=4, levels=(3.0, 5.5, 8.0)),
    "dpmpp_2m 4": SamplerConfig(name="dpmpp_2m", num_steps=4),
    "heun 4": SamplerConfig(name="heun", num_steps=4),
    "ancestral 4": SamplerConfig(name="ancestral", num_steps=4),
    "dpmpp_2m 8": SamplerConfig(name="dpmpp_2m", num_steps=8),
}


@dataclass(frozen=True)
class Bench:
    """Pictures with their latents, decoded by any sampler from the same noise."""

    pictures: NDArray[np.uint8]
    model: str = "emoji32"

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The shipped one."""
        return load_autoencoder(pretrained_folder(self.model) / "autoencoder")[0]

    @cached_property
    def z_0(self) -> torch.Tensor:
        """Noisy latents, each by its own seed."""
        x = torch.from_numpy(self.pictures.astype(np.float32) / np.float32(127.5) - 1)
        with torch.no_grad():
            z = torch.cat([self.autoencoder.encode(part) for part in x.split(AT_ONCE)])
        seeds = range(len(x))
        return self.autoencoder.noise(z, NoiseSource(seeds, z.shape[1:], device="cpu")())

    @cached_property
    def real(self) -> NDArray[np.float32]:
        """Features of the originals."""
        return features(self.pictures)

    def judge(self, sampler: SamplerConfig) -> dict[str, float]:
        """Return what a sampler's reconstructions are worth."""
        seeds = decoder_seeds(np.arange(len(self.z_0)))
        start, made = time.monotonic(), []
        for rows in torch.arange(len(self.z_0)).split(AT_ONCE):
            chosen = [seeds[row] for row in rows.tolist()]
            made.append(self.autoencoder.decode(self.z_0[rows], seeds=chosen, sampler=sampler))
        seconds = time.monotonic() - start
        media = to_uint8(torch.cat(made).numpy())
        found = features(media)
        size = len(found) // 2
        return {
            "evaluations": sampler.num_steps,
            "PSNR": float(psnr(self.pictures, media, data_range=255).mean()),
            "KID-efflite0": kid(found, self.real, subset_size=size, num_subsets=1, seed=0).full,
            "FD-efflite0": frechet_distance(found, self.real).distance,
            "ms a picture": 1000 * seconds / len(media),
        }


def features(media: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return efflite0 features of media (N, 3, 1, H, W)."""
    return extract_features(EffLite0(), np.array_split(media[:, :, 0], -(-len(media) // AT_ONCE)))


def emoji(split: str, num: int) -> NDArray[np.uint8]:
    """Return evenly spaced pictures of a split, (N, 3, 1, 32, 32)."""
    images = pl.read_parquet(STILLS).filter(split=split)["image"]
    chosen = np.unique(np.linspace(0, len(images) - 1, min(num, len(images))).astype(int))
    config = MediaConfig(height=32, width=32)
    return np.stack([read_picture(images[int(i)], config).media for i in chosen])


def search(bench: Bench, sampler: SamplerConfig) -> SamplerConfig:
    """Place a sampler's levels by coordinates, from an even grid's, on the bench's pictures."""
    floor = bench.judge(REFERENCE)["PSNR"] - WITHIN_DB
    schedule = bench.autoencoder.config.schedule_x
    even = schedule.logsnr(torch.linspace(1, 0, sampler.num_steps + 1, dtype=torch.float64))[1:-1]
    best, least = [round(float(level), 2) for level in even], np.inf
    tried: dict[tuple[float, ...], float] = {}

    def cost(levels: list[float]) -> float:
        key = tuple(levels)
        ends = (schedule.logsnr_1, *key, schedule.logsnr_0)
        if any(a >= b for a, b in pairwise(ends)):
            return np.inf
        if key not in tried:
            found = bench.judge(dataclasses.replace(sampler, levels=key))
            tried[key] = found["KID-efflite0"] if found["PSNR"] >= floor else np.inf
            print(json.dumps({"sampler": sampler.name, "levels": key, **found}), flush=True)
        return tried[key]

    least = cost(best)
    for step in STEPS:
        moved = True
        while moved:
            moved = False
            for index in range(len(best)):
                for by in (step, -step):
                    levels = [*best]
                    levels[index] = round(levels[index] + by, 2)
                    if cost(levels) < least:
                        best, least, moved = levels, cost(levels), True
    return dataclasses.replace(sampler, levels=tuple(best))


def main() -> None:
    """Judge every setting, with searched levels where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=370, help="pictures, 185 of them held out")
    parser.add_argument("--search", type=int, nargs="*", default=[], metavar="EVALUATIONS")
    parser.add_argument("--search-samplers", nargs="+", default=["ddim", "dpmpp_2m", "ancestral"])
    parser.add_argument("--search-num", type=int, default=400, help="train pictures of the search")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    settings = {name: SETTINGS[name] for name in options.settings}
    if options.search:
        train = Bench(emoji("train", options.search_num))
        for num_steps in options.search:
            for name in options.search_samplers:
                found = search(train, SamplerConfig(name=name, num_steps=num_steps))
                settings[f"{name} {num_steps} at {found.levels}"] = found
    pictures = emoji("heldout", options.num)
    if len(pictures) < options.num:
        extra = emoji("train", options.num - len(pictures))
        pictures = np.concatenate([pictures, extra])
    bench = Bench(pictures)
    rows = []
    for name, sampler in settings.items():
        rows.append({"sampler": name, **bench.judge(sampler)})
        print(json.dumps(rows[-1]), flush=True)
    print(text_table(pl.DataFrame(rows)), f"{len(bench.pictures)} pictures", sep="\n")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
