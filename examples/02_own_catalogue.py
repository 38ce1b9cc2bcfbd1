"""Bring a catalogue of your own: look at it, train on it, draw for its users, recommend.

python examples/02_own_catalogue.py                 # a made-up shop, a minute or two
python examples/02_own_catalogue.py --media shop/pictures --interactions shop/likes.csv --steps 900
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from ulrec import Pipeline
from ulrec.evaluation.sheets import tile
from ulrec.experiment.propose import propose

COLOURS = ("crimson", "orange", "gold", "seagreen", "royalblue", "purple")
BASES = ("base.unconditional", "base.conditional")


def make_shop(folder: Path, *, num_items: int, num_users: int) -> tuple[Path, Path]:
    """Draw badges of six colours, and users who mostly like one colour."""
    rng = np.random.default_rng(0)
    pictures, table = folder / "pictures", folder / "likes.csv"
    pictures.mkdir(parents=True, exist_ok=True)
    for item in range(num_items):
        image = Image.new("RGB", (96, 96), "white")
        radius, corners, turn = rng.integers([24, 3, 0], [44, 8, 90]).tolist()
        colour = COLOURS[item % len(COLOURS)]
        ImageDraw.Draw(image).regular_polygon((48, 48, radius), corners, turn, fill=colour)
        image.save(pictures / f"{item:04d}.png")
    likes = []
    for user in range(num_users):
        own = np.arange(num_items) % len(COLOURS) == user % len(COLOURS)
        chances = np.where(own, 8.0, 1.0)
        for item in rng.choice(num_items, 12, replace=False, p=chances / chances.sum()):
            likes.append((f"u{user}", int(item), 1_700_000_000 + int(rng.integers(31_536_000))))
    pl.DataFrame(likes, ["userId", "itemId", "time"], orient="row").write_csv(table)
    return pictures, table


def main() -> None:
    """From a folder and a table to pictures for users."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, help="a folder of pictures; made up by default")
    parser.add_argument("--interactions", type=Path, help="csv, tsv or parquet: who chose what")
    parser.add_argument("--out", type=Path, default=Path("runs/own_catalogue"))
    parser.add_argument("--items", type=int, default=240, help="of the made-up shop")
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help="of the training")
    options = parser.parse_args()
    media, interactions = options.media, options.interactions
    if media is None:
        media, interactions = make_shop(options.out / "shop", num_items=options.items, num_users=90)

    # 1. What is there, what is wrong with it, and what suits it (`ulrec init` on the command line).
    proposal = propose(media, interactions, out=options.out / "own.yaml")
    print(proposal)
    if not proposal.ok:
        parser.exit(1, "nothing to train on: see the errors above\n")

    # 2. Train (`ulrec init`, then `ulrec run`). The same call again goes on where this one stopped.
    # Few steps, to see it work: leave them out for the proposed ones.
    short = [f"{part}.num_steps=150" for part in ("latents.fit", *BASES)]
    pipeline = Pipeline.fit(
        interactions,
        media,
        folder=options.out / "run",
        overrides=[*short, *options.settings],
        progress=lambda stage: print(f"{stage.stage:<14} {stage.seconds:6.0f} s   {stage.summary}"),
    )

    # 3. Draw for users and recommend; ids are those of your own table.
    users = pipeline.factors.users[:6].tolist()
    made = pipeline.generate(users, per_user=6, guidance=3.0, seed=0)
    print(pipeline.recommend(users, k=3, by="generate"))
    picture = options.out / "drawn.png"
    Image.fromarray(tile(made.media, columns=6, scale=2)).save(picture)
    print(f"a row for each of {', '.join(map(str, users))}: {picture}")


if __name__ == "__main__":
    main()
