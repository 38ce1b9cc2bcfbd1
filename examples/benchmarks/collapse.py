"""Does the latent stay alive? Stage 1 by the quickstart's recipe and without its parts, over seeds.

    python examples/benchmarks/collapse.py --steps 250 --seeds 0 1 2 --out collapse.json
    python examples/benchmarks/collapse.py --catalogue cifar10.parquet --out cifar10.json
    python examples/benchmarks/collapse.py --size 64 --recipes quickstart --out emoji64.json

Prints for each recipe and seed the bits per pixel and the gain of z on held-out pictures: near
zero, both say that the decoder does as well with another picture's latent. Where the monitor of
the run stops the training, what it says stands instead. What is in ``--out`` already is not
trained again.
"""

import argparse
import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ulrec.checkpoint import write_text
from ulrec.config import load_config
from ulrec.data.media import MediaStore
from ulrec.errors import TrainingError
from ulrec.experiment.config import RunConfig
from ulrec.experiment.prepare import train_rows
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES
from ulrec.models.measure import gain_of_z, latent_nats
from ulrec.models.rarity import load_prior
from ulrec.pipeline import load_autoencoder

ROOT = Path(__file__).parents[2]
JUDGED = 500
"""Held-out pictures at most."""
Row = dict[str, float | str | int]
MODEL = "latents.model.autoencoder"
EMOJI = ROOT / "datasets/fluent_emoji/stills.parquet"
RECIPES = {
    "quickstart": (),
    "no ramp": ("latents.model.ramp=0",),
    "paper's price: c_lf 1.5, b 2.5, no ramp": (
        "latents.model.ramp=0",
        f"{MODEL}.loss_factor=1.5",
        f"{MODEL}.bias_x=2.5",
    ),
    "weight further up: c_lf 4, b 3, ramp": (f"{MODEL}.loss_factor=4.0", f"{MODEL}.bias_x=3.0"),
}


def measure(folder: str, overrides: tuple[str, ...], options: argparse.Namespace, seed: int) -> Row:
    """Train stage 1 and judge it on held-out pictures."""
    sides = [f"{side}={options.size}" for side in ("height", "width")]
    places = (
        f"folder={folder}",
        f"data.catalogue={options.catalogue.resolve()}",
        *(f"{part}.{side}" for part in ("data.media", MODEL) for side in sides),
        f"latents.fit.num_steps={options.steps}",
        f"seed={seed}",
    )
    config = load_config(
        RunConfig, ROOT / "configs/quickstart_from_scratch.yaml", (*places, *overrides)
    )
    run = Run(config=dataclasses.replace(config, name="collapse"))
    start = time.monotonic()
    run_stages(run, [STAGES["prepare"], STAGES["train-latents"]], report=lambda result: None)
    media = MediaStore.open(run.path("media"))
    heldout = np.setdiff1d(np.arange(len(media)), train_rows(run, media.items))[:JUDGED]
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    x = torch.from_numpy(media.read(heldout))
    with torch.no_grad():
        z = autoencoder.encode(x)
    nats = latent_nats(load_prior(run.path("prior")), z, num_levels=8, seed=0).mean().item()
    return {
        "bits_per_pixel": nats / math.log(2) / x[0, 0].numel(),
        "gain_nats": gain_of_z(autoencoder, x, z, num_levels=8, seed=0).mean().item(),
        "latent_std": z.std().item(),
        "seconds": time.monotonic() - start,
    }


def main() -> None:
    """Run all recipes over all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--catalogue", type=Path, default=EMOJI)
    parser.add_argument("--size", type=int, default=32, help="height and width of the pictures")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    if options.out and options.out.is_file():
        rows = json.loads(options.out.read_text())
    for recipe in options.recipes:
        for seed in options.seeds:
            asked: Row = {
                "catalogue": options.catalogue.name,
                "size": options.size,
                "recipe": recipe,
                "seed": seed,
                "steps": options.steps,
            }
            row = next((row for row in rows if asked.items() <= row.items()), None)
            if row is None:
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        row = {**asked, **measure(folder, RECIPES[recipe], options, seed)}
                    except TrainingError as error:  # the monitor's word is a result as well
                        row = {**asked, "stopped": str(error)}
                rows.append(row)
                if options.out:
                    write_text(options.out, json.dumps(rows, indent=1))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
