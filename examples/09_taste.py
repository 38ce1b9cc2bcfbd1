"""Draw for tastes: groups, strangers with a few examples, "not those", strips; and say why.

python examples/09_taste.py --run runs/quickstart --out taste.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ulrec import Pipeline
from ulrec.evaluation.sheets import tile
from ulrec.pipeline import Taste

COLUMNS = 5


def main() -> None:
    """Show what tastes can say, and what explains a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("taste.png"))
    parser.add_argument("--guidance", type=float, default=4.0)
    options = parser.parse_args()
    if not (options.run / "base").is_dir():
        parser.exit(1, f"there is no trained run at {options.run}: run `make quickstart` first\n")

    pipeline = Pipeline.load(options.run)
    likes = pipeline.interactions
    histories = np.diff(likes.user_items.indptr)
    anna, ben = pipeline.factors.users[np.argsort(-histories, kind="stable")[:2]].tolist()
    row = pipeline.factors.users.rows([anna])[0]
    five = likes.items[likes.history(row)[:COLUMNS]].tolist()
    popular = likes.items[np.argsort(-likes.popularity(), kind="stable")].tolist()
    unwanted = [item for item in popular if item not in five][:3]

    # What a taste can say. One seed for all, so that what differs is what was asked for.
    said = {
        "one user": Taste(users=[anna]),
        "two together": Taste(users=[anna, ben]),
        "five examples": Taste(liked=five),
        "but not those": Taste(users=[anna], disliked=unwanted),
        "mostly Ben": Taste(users=[anna, ben], weights=[1, 3]),
    }
    same = np.full(COLUMNS, 7)
    tastes = pipeline.generate_taste(list(said.values()), guidance=options.guidance, seeds=same)
    between = Taste.between(anna, ben, num=COLUMNS)
    strip = pipeline.generate_taste(between, guidance=options.guidance, seeds=same)

    # One factor of collaborative filtering, moved alone; and what steering did at all.
    factor = pipeline.factor_strip(anna, factor=0, num=COLUMNS, guidance=options.guidance)
    beside = pipeline.beside_null([anna, ben], guidance=options.guidance)

    # Which of their likes steered Anna's picture most.
    why = pipeline.explain(tastes.latents[:1], user_ids=[anna], k=3)
    print("what explains the first picture\n", why)

    # Where is it worth drawing at all? With no skill to tell users apart it says so.
    some = pipeline.factors.users[np.flatnonzero(histories)[:20]].tolist()
    plan = pipeline.plan_generation(some, pictures=5, guidance=options.guidance, num_validation=40)
    skill = plan.model
    print(
        f"rank correlation of foreseen and real gains {skill.rank_correlation:.2f} "
        f"[{skill.low:.2f}, {skill.high:.2f}]\n",
        plan.table.head(3),
    )

    blank = np.full_like(beside.media[:1], 255)
    rows = [tastes.media, strip.media, factor.media, beside.media, blank]
    Image.fromarray(tile(np.concatenate(rows), columns=COLUMNS, scale=2)).save(options.out)
    print(f"{', '.join(said)} | between two | one factor | user, nobody: {options.out}")


if __name__ == "__main__":
    main()
