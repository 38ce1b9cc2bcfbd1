"""Recommend by how much likelier a picture is for a user than for anybody, cold items included.

python examples/08_likelihood.py --run runs/quickstart
ulrec fit-hybrid --config configs/quickstart.yaml      # then the hybrid is shown, too
"""

import argparse
import sys
from pathlib import Path

import polars as pl

from ulrec import Pipeline
from ulrec.data.media import MediaStore
from ulrec.errors import ULRecError


def show(title: str, table: pl.DataFrame) -> None:
    """Print recommendations, the users' items in order of rank."""
    print(title)
    for (user,), part in table.group_by("user_id", maintain_order=True):
        items = zip(part["item_id"].to_list(), part["score"].to_list(), strict=True)
        print(f"  {user}: " + ", ".join(f"{item} ({score:.2f})" for item, score in items))


def main() -> None:
    """Rank the catalogue, then its cold items; tell what surprises, and what is novel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--users", type=int, default=3)
    parser.add_argument("--k", type=int, default=5)
    options = parser.parse_args()
    try:
        pipeline = Pipeline.load(options.run)
    except ULRecError as error:
        print(f"{error}\nMake a run first: make quickstart", file=sys.stderr)
        sys.exit(1)
    known = pipeline.factors.known_users
    users = pipeline.factors.users[known.nonzero()[0][: options.users]].tolist()

    # 1. r = log p(z | user) - log p(z) in nats, with and without popularity.
    for weight in (0.0, 1.0):
        table = pipeline.recommend(users, k=options.k, by="likelihood", popularity=weight)
        show(f"by likelihood + {weight:g} log(1 + users of the item):", table)

    # 2. Items that nobody has chosen yet: r alone ranks them.
    cold = pipeline.interactions.items.ids[pipeline.interactions.popularity() == 0].tolist()
    if cold:
        table = pipeline.recommend(
            users, k=options.k, by="likelihood", popularity=0.0, candidates=cold
        )
        show(f"the {len(cold)} items without interactions:", table)

    # 3. The mixture of all ways to recommend, if it was fitted.
    if pipeline.hybrid is None:
        print("no hybrid: run `ulrec fit-hybrid` with the configuration of this run")
    else:
        weights = ", ".join(f"{name} {w:g}" for name, w in pipeline.hybrid.weights.items())
        show(f"hybrid of {weights}:", pipeline.recommend(users, k=options.k, by="hybrid"))

    # 4. What surprises the first user among items, and what is novel whoever looks.
    media = MediaStore.open(options.run / "media")
    items = media.items.ids[:8].tolist()
    surprise = pipeline.surprise(users[0], items)
    novelty = pipeline.novelty(media.media[:8], num_levels=4)
    for item, nats, bits in zip(items, surprise.tolist(), novelty.tolist(), strict=True):
        print(f"{item}: surprise {nats:.2f} nats, novelty {bits:+.3f} bits per pixel")


if __name__ == "__main__":
    main()
