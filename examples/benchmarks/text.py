"""What a text does to what is generated, for users and for nobody, on a base that knows no texts.

    ulrec text-features --config configs/quickstart.yaml text.pretrained=emoji_clip
    python examples/benchmarks/text.py --run runs/quickstart --text "blue animal"

Draws the same seeds with and without the text. Two judges say whether a picture is of the wanted
kind (--column starts with --kind): the nearest real item by latents, and by efflite0 features,
which know neither texts nor latents. A third counts the wanted colour among pixels that are not
white. Writes a sheet, a row an arm. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from ulrec import Pipeline
from ulrec.data.colour_names import COLOURS, colour_shares
from ulrec.data.schema import ITEM_ID
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.evaluation.sheets import sample_sheet, save_png
from ulrec.evaluation.statistics import bootstrap_mean, paired_bootstrap, wilson_interval
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import sample_seeds

ON_SHEET = 10


def draw(
    pipeline: Pipeline, options: argparse.Namespace
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return media and latents by arm, N each from the same seeds."""
    rng = np.random.default_rng(options.seed)
    known = np.flatnonzero(pipeline.factors.known_users)
    factors = pipeline.factors.user_factors[rng.choice(known, options.num, replace=False)]
    nobody = np.zeros_like(factors)
    numbers = np.arange(options.num)
    seeds = sample_seeds(options.seed, numbers, numbers)
    one = options.text_guidance * pipeline.text_shift([options.text])
    shift = np.repeat(one, options.num, axis=0)
    arms = {
        "nobody": (nobody, None),
        "nobody + text": (nobody, shift),
        "user": (factors, None),
        "user + text": (factors, shift),
    }
    return {
        name: pipeline.generate_for(who, seeds=seeds, guidance=options.guidance, shift=by)
        for name, (who, by) in arms.items()
    }


def nearest_by_latents(pipeline: Pipeline, latents: np.ndarray) -> list[str]:
    """Return the item nearest to each latent."""
    nearest: list[str] = pipeline.neighbours(latents, k=1).sort("query")[ITEM_ID].to_list()
    return nearest


def nearest_by_features(pipeline: Pipeline, media: np.ndarray) -> list[str]:
    """Return the item nearest to each picture by the features that the run has stored."""
    catalogue = np.load(pipeline.folder / "features" / "catalogue.npy")
    found = extract_features(EffLite0(), [media[:, :, 0]])
    norm = np.linalg.norm(catalogue, axis=1)
    best = (found @ catalogue.T / norm).argmax(axis=1)
    nearest: list[str] = pipeline.latents.items[best].tolist()
    return nearest


def colour_of_drawing(media: np.ndarray, colour: str) -> np.ndarray:
    """Return the share of a colour among pixels that are not white, (N,)."""
    shares = colour_shares(media[:, :, 0])
    drawn = 1 - shares[:, COLOURS.index("white")]
    return shares[:, COLOURS.index(colour)] / np.maximum(drawn, 1e-6)


def table(judged: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], seed: int) -> list[str]:
    """Return a line an arm, and what the text changes, with 95 % intervals."""
    lines = []
    for arm, (by_latents, by_features, colour) in judged.items():
        shares = [wilson_interval(int(s.sum()), len(s)) for s in (by_latents, by_features)]
        cells = [*shares, bootstrap_mean(colour, seed=seed)]
        found = " | ".join(f"{c.mean:.3f} [{c.low:.3f}, {c.high:.3f}]" for c in cells)
        lines.append(f"| {arm} | {found} |")
    for who in ("nobody", "user"):
        pairs = zip(judged[f"{who} + text"], judged[who], strict=True)
        gains = [paired_bootstrap(a.astype(float), b.astype(float), seed=seed) for a, b in pairs]
        found = " | ".join(f"{g.mean:+.3f} [{g.low:+.3f}, {g.high:+.3f}]" for g in gains)
        lines.append(f"| {who}: with text - without | {found} |")
    return lines


def main() -> None:
    """Draw, judge, print, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--text", default="blue animal")
    parser.add_argument("--column", default="subcategory")
    parser.add_argument("--kind", default="animal", help="what the column starts with")
    parser.add_argument("--colour", default="blue", choices=COLOURS)
    parser.add_argument("--num", type=int, default=100)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--text-guidance", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a PNG: a row an arm")
    options = parser.parse_args()
    pipeline = Pipeline.load(options.run)
    pipeline.sampler = SamplerConfig(num_steps=options.steps, guidance_until=0.0)
    pipeline.decoder = SamplerConfig(name="ancestral", num_steps=options.steps)
    kinds = dict(pipeline.items.select(ITEM_ID, pl.col(options.column)).iter_rows())
    wanted = {item for item, kind in kinds.items() if (kind or "").startswith(options.kind)}
    drawn = draw(pipeline, options)
    judged = {}
    for arm, (media, latents) in drawn.items():
        judged[arm] = (
            np.array([item in wanted for item in nearest_by_latents(pipeline, latents)]),
            np.array([item in wanted for item in nearest_by_features(pipeline, media)]),
            colour_of_drawing(media, options.colour),
        )
    print(
        f'"{options.text}", n = {options.num}, seed {options.seed}, guidance '
        f"{options.guidance:g}, text {options.text_guidance:g}; {len(wanted) / len(kinds):.3f} of "
        f"the catalogue is {options.kind}\n"
    )
    judges = [f"{options.kind}, by latents", f"{options.kind}, by efflite0", options.colour]
    print(f"| arm | {' | '.join(judges)} |\n|---|---|---|---|")
    for line in table(judged, options.seed):
        print(line)
    if options.out is not None:
        shown = np.concatenate([media[:ON_SHEET] for media, _ in drawn.values()])
        title = f"{options.text}: {', '.join(drawn)}"
        save_png(sample_sheet(shown, columns=ON_SHEET, title=title), options.out)


if __name__ == "__main__":
    main()
