"""The paper's table of variants at a size one can afford, each with one thing changed.

    python examples/benchmarks/ablations.py --data cifar10 --steps 1000 --seeds 0 1

Trains stage 1 on CIFAR-10 as it is and with one thing changed: the prior's gradient cut off the
encoder (the paper's A), logsnr_z(0) = 10 (B), a learned variance (D), an MSE decoder, a normal
prior. Judges held-out pictures: bits/pixel (the objective's L_z), PSNR, FD- and KID-efflite0 of the
reconstructions against the test pictures themselves (rFD, rKID), and of the stage-1 prior's samples
against train pictures (gFD, gKID). FD depends on the number of pictures, KID does not.
The networks, optimiser and samplers are a run's configuration's, the data those of generative.py.
A finished (variant, seed) is kept in ``--out`` and not run again; a broken off one goes on.
"""

import argparse
import dataclasses
import functools
import json
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from generative import (
    AT_ONCE,
    ROOT,
    Bench,
    Draw,
    Pictures,
    decode,
    features_of,
    kept,
    require_tables,
    sheet,
    train_stage_one,
)
from PIL import Image

from ulrec.checkpoint import write_text
from ulrec.config import digest, load_config, to_mapping
from ulrec.data.media import to_uint8
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.fidelity import frechet_distance, kid, psnr
from ulrec.experiment.config import RunConfig
from ulrec.models.unified import Unified
from ulrec.training.fit import FitConfig

MODEL = "latents.model"
VARIANTS = {
    "baseline": (),
    "A: no prior gradient into the encoder": (f"{MODEL}.prior_input=detached",),
    "B: logsnr_z(0) = 10": (
        f"{MODEL}.autoencoder.logsnr_z0=10.0",
        f"{MODEL}.prior.schedule_z.logsnr_0=10.0",
    ),
    "D: learned variance": (f"{MODEL}.autoencoder.encoder.variance=learned",),
    "MSE decoder": (
        f"{MODEL}.autoencoder.decoding=mse",
        f"{MODEL}.autoencoder.loss_factor=100.0",
    ),
    "normal prior": (f"{MODEL}.prior.name=normal",),
}
LEVELS = 16
"""Passes over which bits are averaged, each with its own times and noises."""


@torch.no_grad()
def judge(model: Unified, bench: Bench, draw: Draw, folder: Path) -> dict[str, float]:
    """Return what a trained stage 1 is judged by, over all of the bench's test pictures."""
    test, generator = bench.test, torch.Generator().manual_seed(0)
    made, nats = [], []
    for rows in np.array_split(np.arange(len(test.media)), -(-len(test.media) // AT_ONCE)):
        x = torch.from_numpy(test.read_rows(rows))
        passes = [model.loss(x, generator=generator).prior for _ in range(LEVELS)]
        nats.append(torch.stack(passes).mean(0))
        z, variance = model.autoencoder.posterior(x)
        if variance is not None:
            z = z + variance.sqrt() * torch.randn(z.shape, generator=generator)
        z_0 = model.autoencoder.noise(z, torch.randn(z.shape, generator=generator))
        made.append(to_uint8(decode(model, z_0, rows.tolist(), draw.decoder).numpy()))
    remade, (samples, _) = np.concatenate(made), draw(model, None)
    both = np.stack([test.media[:50, :, 0], remade[:50, :, 0]], axis=1).reshape(-1, 3, 32, 32)
    Image.fromarray(sheet(both)).save(folder / "reconstructions.png")
    Image.fromarray(sheet(samples)).save(folder / "samples.png")
    found = {
        "bits/pixel": model.bits_per_pixel(torch.cat(nats)).item(),
        "PSNR": float(psnr(test.media, remade, data_range=255).mean()),
    }
    sets = {"r": (remade[:, :, 0], bench.test_features), "g": (samples, bench.train_features)}
    for name, (media, real) in sets.items():
        features = features_of(media)
        size = min(len(features), len(real)) // 2
        distance = kid(features, real, subset_size=size, num_subsets=20, seed=0)
        found[f"{name}FD-efflite0"] = frechet_distance(features, real).distance
        found[f"{name}KID-efflite0"] = distance.full
    return found


def measure(
    config: RunConfig, settings: FitConfig, bench: Bench, draw: Draw, folder: Path, *, seed: int
) -> dict[str, float]:
    """Train a variant and judge it."""
    start = time.monotonic()
    stage_one = config.latents.model
    model = train_stage_one(stage_one, bench.train, folder / "stage-1", settings, seed)
    trained = time.monotonic() - start
    return {**judge(model, bench, draw, folder), "training s": trained}


def table_of(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Return each variant's mean over seeds, and how far the seeds lie apart."""
    table = pl.DataFrame(rows)
    judged = [c for c in table.columns if c not in ("variant", "seed")]
    return table.group_by("variant", maintain_order=True).agg(
        pl.len().alias("seeds"),
        *(pl.col(c).mean() for c in judged),
        *((pl.col(c).max() - pl.col(c).min()).alias(f"{c} range") for c in judged[:-1]),
    )


def parsed() -> argparse.Namespace:
    """Return the options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--config", type=Path, default=ROOT / "configs/emoji32.yaml")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="key.sub=value")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=2000, help="of the prior, and test pictures")
    parser.add_argument("--reference", type=int, default=5000, help="train pictures for gFD, gKID")
    parser.add_argument("--limit", type=int, help="train pictures, for a trial")
    options = parser.parse_args()
    require_tables(parser, options.data)
    return options


def main() -> None:
    """Run all variants over all seeds, then print a table over seeds."""
    options = parsed()
    train = Pictures.read(options.data / "train.parquet", options.limit)
    test = Pictures.read(options.data / "test.parquet", options.samples)
    bench, rows = Bench.of(train, test, options.out, num_reference=options.reference), []
    for seed in options.seeds:
        for variant in options.variants:
            overrides = [*options.overrides, *VARIANTS[variant]]
            config = load_config(RunConfig, options.config, overrides)
            draw = Draw(
                num=options.samples,
                sampler=config.generate.sampler,
                decoder=config.generate.decoder,
                guidance=0.0,
            )
            settings = dataclasses.replace(config.latents.fit, num_steps=options.steps, num_grids=0)
            parts = [to_mapping(part) for part in (config.latents, settings, draw.sampler)]
            decoder = to_mapping(draw.decoder)
            key = digest(
                [variant, seed, options.limit, options.samples, options.reference, decoder, *parts]
            )
            find = functools.partial(measure, config, settings, bench, draw, seed=seed)
            rows.append(kept(options.out, key, {"variant": variant, "seed": seed}, find))
    table = table_of(rows)
    print(text_table(table))
    write_text(options.out / "table.json", json.dumps(table.to_dicts(), indent=1))


if __name__ == "__main__":
    main()
