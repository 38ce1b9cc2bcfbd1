"""What a pretrained model can do, with the weights as they are stored: the figures of its card.

    python examples/benchmarks/pretrained.py --run runs/quickstart --out ulrec/pretrained/emoji32

Takes a finished run that started from the model: its metrics.json holds rate and distortion of
held-out pictures. Draws --samples pictures from the *unconditional* base, decodes them as the run
does, compares them with the training pictures, and writes ``sheet.png`` (of clips, ``sheet.webp``).
Prints Markdown.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from ulrec.checkpoint import open_artefact
from ulrec.config import load_config
from ulrec.data.media import MediaStore, to_uint8
from ulrec.data.schema import HELDOUT, ITEM_ID, SPLIT, TRAIN
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.evaluation.animation import encode_sheet
from ulrec.evaluation.copying import copy_rate
from ulrec.evaluation.fidelity import frechet_distance, kid
from ulrec.evaluation.sheets import sample_sheet
from ulrec.experiment.config import RunConfig
from ulrec.experiment.features import picture_batches
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import decoder_seeds, load_autoencoder, load_base, load_items, sample_seeds

AT_ONCE = 48
ON_SHEET = 60


def draw(run: Path, num: int, *, seed: int, steps: int, decoder: SamplerConfig) -> np.ndarray:
    """Return unconditional samples, uint8 (N, C, F, H, W)."""
    autoencoder, _ = load_autoencoder(run / "autoencoder")
    base, _ = load_base(run / "base_unconditional")
    seeds = sample_seeds(seed, np.arange(num), np.zeros(num, np.int64))
    made = []
    at_once = max(1, AT_ONCE // autoencoder.config.frames)
    for start in tqdm(range(0, num, at_once), desc="draw", unit="batch", disable=None):
        some = seeds[start : start + at_once]
        drawn = base.sample(seeds=some.tolist(), sampler=SamplerConfig(num_steps=steps))
        x = autoencoder.decode(
            drawn.x_0,
            seeds=decoder_seeds(some),
            sampler=decoder,
        )
        made.append(to_uint8(x.numpy()))
    return np.concatenate(made)


def main() -> None:
    """Measure, write the sheet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where sheet.png goes")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run = options.run
    media, items = MediaStore.open(run / "media"), load_items(run / "items")
    rows = {
        part: media.items.rows(items.filter(pl.col(SPLIT) == part)[ITEM_ID].to_list())
        for part in (TRAIN, HELDOUT)
    }
    open_artefact(run / "features", kind="features")
    catalogue = np.load(run / "features" / "catalogue.npy")
    train, heldout = catalogue[rows[TRAIN]], catalogue[rows[HELDOUT]]
    decoder = load_config(RunConfig, run / "config.yaml").generate.decoder
    made = draw(run, options.samples, seed=options.seed, steps=options.steps, decoder=decoder)
    title = f"Samples of the unconditional base, seed {options.seed}, {options.steps} steps"
    frames = [made[:ON_SHEET, :, f : f + 1] for f in range(made.shape[2])]
    sheet = tuple(sample_sheet(frame, title=title) for frame in frames)
    name = "sheet.png" if len(sheet) == 1 else "sheet.webp"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / name).write_bytes(encode_sheet(sheet))
    found = extract_features(EffLite0(), picture_batches(made))
    size = min(100, len(found), len(heldout))
    print("| what | value |\n|---|---|")
    for row in json.loads((run / "metrics.json").read_text())["tables"]["latents"]["rows"]:
        print(f"| {row['metric']} | {row['mean']:.4g} [{row['low']:.4g}, {row['high']:.4g}] |")
    reconstructed = np.load(run / "features" / "reconstructed.npy")
    for name, some in (
        ("real held-out", heldout),
        ("reconstructed held-out", reconstructed),
        (f"{len(found)} unconditional samples", found),
    ):
        distance = kid(some, train, subset_size=size, num_subsets=50, seed=options.seed)
        frechet = frechet_distance(some, train).distance
        interval = f"[{distance.low:.3f}, {distance.high:.3f}]"
        print(f"| KID-efflite0, {name} | {distance.full:.3f} {interval} |")
        print(f"| FD-efflite0, {name} (n = {len(some)}) | {frechet:.0f} |")
    copied = copy_rate(found, catalogue=train, heldout=heldout, quantile=0.01).rate
    print(f"| copy rate of the samples | {copied.mean:.3f} [{copied.low:.3f}, {copied.high:.3f}] |")


if __name__ == "__main__":
    main()
