"""Load a trained run, draw for users, find the nearest real items, recommend, save a picture.

python examples/01_quickstart.py --run runs/quickstart --out quickstart.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ulrec import Pipeline
from ulrec.data.media import MediaStore
from ulrec.evaluation.sheets import tile


def main() -> None:
    """Show what a run does for a few users."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("quickstart.png"))
    parser.add_argument("--users", type=int, default=4)
    options = parser.parse_args()
    if not (options.run / "base").is_dir():
        parser.exit(1, f"there is no trained run at {options.run}: run `make quickstart` first\n")

    pipeline = Pipeline.load(options.run)

    # Users with a history; ids are those of your own tables.
    histories = np.diff(pipeline.interactions.user_items.indptr)
    users = pipeline.factors.users[np.flatnonzero(histories >= 4)[: options.users]].tolist()

    # Four pictures for each. More guidance follows the user more; a seed always gives the same.
    made = pipeline.generate(users, per_user=4, guidance=3.0, seed=0)

    # The real item nearest to each picture, and what to recommend: items the user has not seen.
    nearest = pipeline.neighbours(made.latents, k=1)
    by_picture = pipeline.recommend(users, k=5, by="generate")
    by_likes = pipeline.recommend(users, k=5, by="cf")
    print("nearest to what was drawn\n", by_picture.filter(by_picture["rank"] == 1))
    print("by collaborative filtering\n", by_likes.filter(by_likes["rank"] == 1))

    # A row per user: four likes, the four pictures, and the four nearest items.
    store = MediaStore.open(options.run / "media")
    near = store.media[store.items.rows(nearest["item_id"].to_list())]
    rows = []
    for place, row in enumerate(pipeline.factors.users.rows(users)):
        likes = pipeline.factors.items[pipeline.interactions.history(row)[:4]]
        four = slice(4 * place, 4 * place + 4)
        rows += [store.media[store.items.rows(likes)], made.media[four], near[four]]
    Image.fromarray(tile(np.concatenate(rows), columns=12, scale=2)).save(options.out)
    print(f"likes | drawn | nearest real items: {options.out}")


if __name__ == "__main__":
    main()
