"""Evaluate recommendations of any system: accuracy, tests between systems, slices, exposure.

python examples/04_evaluate_recommendations.py      # a demonstration on simulated users
python examples/04_evaluate_recommendations.py --recommendations mine.parquet theirs.parquet \
    --truth truth.csv --train train.csv --items items.csv --out runs/mine

Tables are parquet or csv. Recommendations have [user_id, item_id, score, rank from 1], a ranking of
all items that a user has not seen; truth and train have [user_id, item_id]. The catalogue is
--items [item_id, (category)], or else all items that any table names.
"""

import argparse
import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ulrec import __version__
from ulrec.cf.als import ALS, ALSConfig
from ulrec.cf.base import recommend
from ulrec.cf.popularity import Popularity, PopularityConfig
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.simulate import SimulationConfig, simulate
from ulrec.data.splits import global_time
from ulrec.errors import ULRecError
from ulrec.evaluation.beyond_accuracy import evaluate_beyond_accuracy
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.ranking import RankingResult, evaluate_ranking, unseen_items
from ulrec.evaluation.results import Result, save_results
from ulrec.evaluation.slices import (
    evaluate_item_slices,
    history_slices,
    popularity_slices,
    summarize_slices,
)
from ulrec.evaluation.statistics import holm, paired_bootstrap, paired_permutation_test

METRICS = ("ndcg", "recall", "recall_capped", "map", "mrr", "hit_rate", "auc")
COMPARED = ("ndcg", "recall")
PAIR = ["user_id", "item_id"]


@dataclass(frozen=True, kw_only=True)
class World:
    """What is judged (one table a system), and what it is judged by."""

    systems: dict[str, pl.DataFrame]
    truth: pl.DataFrame
    train: pl.DataFrame
    items: pl.DataFrame


def read(path: Path) -> pl.DataFrame:
    """Read a table."""
    return pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)


def load(options: argparse.Namespace) -> World:
    """Read all tables; without --items the catalogue is every item that one of them names."""
    systems = {path.stem: read(path) for path in options.recommendations}
    truth, train = read(options.truth), read(options.train)
    if options.items:
        items = read(options.items)
    else:
        named = [table["item_id"] for table in (*systems.values(), truth, train)]
        items = pl.concat(named).unique().sort().to_frame()
    return World(systems=systems, truth=truth, train=train, items=items)


def demonstration(num_users: int, num_items: int, k: int) -> World:
    """Simulate users of a made-up catalogue, and let ALS and popularity recommend to them."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 12, num_items)
    catalogue = pl.DataFrame(
        {
            "item_id": [f"item{i:04d}" for i in range(num_items)],
            "category": [f"category {kind // 3}" for kind in kinds],
            "subcategory": [f"kind {kind}" for kind in kinds],
        }
    )
    colours = rng.integers(0, 256, (num_items, 3, 1, 1), dtype=np.uint8)
    config = SimulationConfig(num_users=num_users, mean_history=20, temperature=0.5)
    world = simulate(catalogue, np.tile(colours, (1, 1, 2, 2)), config=config)
    parts = global_time(world.interactions, test_share=0.25, validation_share=0.0)
    train, truth = parts.train, parts.test.select(PAIR)
    likes = Interactions.from_table(
        train.select(PAIR), users=world.user_ids, items=IdMap(catalogue["item_id"].to_list())
    )
    users = truth["user_id"].unique(maintain_order=True).to_list()
    models = {"als": ALS(ALSConfig(num_factors=8)), "popularity": Popularity(PopularityConfig())}
    systems = {
        name: recommend(model.fit(likes), likes, users, k=k, seed=0)
        for name, model in models.items()
    }
    return World(systems=systems, truth=truth, train=train.select(PAIR), items=catalogue)


def compare(found: dict[str, RankingResult], seed: int, num_resamples: int) -> pl.DataFrame:
    """Return each pair of systems' difference on the same users, with interval and p-value."""
    rows = []
    for a, b in itertools.combinations(found, 2):
        values = (found[name].per_user.partition_by("metric", "k", as_dict=True) for name in (a, b))
        ours, theirs = values
        for (metric, k), table in ours.items():
            if metric in COMPARED:
                pair = table["value"].to_numpy(), theirs[metric, k]["value"].to_numpy()
                gap = paired_bootstrap(*pair, seed=seed, num_resamples=num_resamples)
                p = paired_permutation_test(*pair, seed=seed)
                rows.append((a, b, metric, k, gap.mean, gap.low, gap.high, p))
    names = ["a", "b", "metric", "k", "difference", "low", "high", "p_value"]
    table = pl.DataFrame(rows, names, orient="row")
    return table.with_columns(p_holm=holm(table["p_value"].to_numpy()))


def labelled(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Return one table of several with the system beside the user, or first."""
    return pl.concat(
        table.select(
            *(name for name in table.columns if name == "user_id"),
            pl.lit(system).alias("system"),
            pl.exclude("user_id"),
        )
        for system, table in tables.items()
    )


def coverage(found: dict[str, RankingResult], world: World) -> list[str]:
    """Return who is covered, and what looks wrong, in words."""
    notes = ["Accuracy covers all users of the truth; who has no list counts as zero (auc: 1/2)."]
    for name, result in found.items():
        seen = len(world.systems[name].join(world.train, on=PAIR, how="semi"))
        notes.append(
            f"{name}: {result.num_users} users, {result.num_missing} without list, "
            f"{result.num_short} with fewer items than the largest k; {result.num_without_truth} "
            f"more lists have no truth; {seen} recommended pairs are in train."
        )
    return notes


def slices_of(world: World) -> pl.DataFrame:
    """Return items by popularity and, where the catalogue says it, by category."""
    slices = popularity_slices(world.train, world.items["item_id"])
    if "category" not in world.items.columns:
        return slices
    category = pl.col("category").cast(pl.String)
    return pl.concat([slices, world.items.select("item_id", slice=category).drop_nulls()])


def popularity_of(world: World) -> np.ndarray:
    """Return the number of train users of each item, (I,)."""
    counts = world.train.unique(PAIR).group_by("item_id").len("count")
    table = world.items.join(counts, on="item_id", how="left", maintain_order="left")
    return table["count"].fill_null(0).to_numpy()


def evaluate(world: World, options: argparse.Namespace) -> list[tuple[str, list[str], dict]]:
    """Return name, notes and tables of each result."""
    shared = {"seed": options.seed, "num_resamples": options.resamples}
    ks, k = sorted(options.ks), max(options.ks)
    users = world.truth["user_id"].unique(maintain_order=True)
    unseen = unseen_items(world.train, users, num_items=len(world.items))
    slices, popularity = slices_of(world), popularity_of(world)
    found, wider, by_user, by_item, notes = {}, {}, {}, {}, []
    for name, shown in world.systems.items():
        found[name] = evaluate_ranking(
            shown, world.truth, ks=ks, metrics=METRICS, num_unseen=unseen, **shared
        )
        wider[name] = evaluate_beyond_accuracy(
            shown,
            items=IdMap(world.items["item_id"].to_list()),
            popularity=popularity,
            num_train_users=world.train["user_id"].n_unique(),
            truth=world.truth,
            ks=ks,
            **shared,
        )
        largest = found[name].per_user.filter(pl.col("k") == k, pl.col("metric").is_in(COMPARED))
        history = history_slices(world.train, users)
        by_user[name] = summarize_slices(largest, history, **shared).summary
        parts = evaluate_item_slices(
            shown, world.truth, slices, ks=(k,), metrics=COMPARED, **shared
        )
        by_item[name] = parts.summary
        # The truth decides both, so that they are the same of all systems.
        notes = [f"{parts.num_pairs_without_slice} liked pairs are in no slice."]
        notes += [f"Nobody likes an item of {empty}." for empty in parts.empty]
    restricted = "The truth restricted to the slice; num_left_out users like none of it."
    tables = [
        ("accuracy", coverage(found, world), of_all(found)),
        ("beyond_accuracy", ["Of users with a list; serendipity of the truth's."], of_all(wider)),
        ("users_by_history", ["By train items."], {"summary": labelled(by_user)}),
        ("items_by_slice", [restricted, *notes], {"summary": labelled(by_item)}),
    ]
    if len(found) > 1:
        gaps = compare(found, options.seed, options.resamples)
        note = "a - b of the same users; paired bootstrap and permutation test, Holm's correction."
        tables.insert(1, ("comparison", [note], {"summary": gaps}))
    return tables


def of_all(found: dict) -> dict[str, pl.DataFrame]:
    """Return summaries and per-user values of all systems."""
    return {
        part: labelled({name: getattr(result, part) for name, result in found.items()})
        for part in ("summary", "per_user")
    }


def digest(*tables: pl.DataFrame) -> str:
    """Return what identifies the pairs, whatever the order of their rows."""
    texts = [table.select(PAIR).sort(PAIR).write_csv() for table in tables]
    return hashlib.sha256("\n\n".join(texts).encode()).hexdigest()[:16]


def main() -> None:
    """From tables to a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recommendations", type=Path, nargs="+", help="a table for each system")
    parser.add_argument("--truth", type=Path, help="what users liked later")
    parser.add_argument("--train", type=Path, help="what the systems had learnt from")
    parser.add_argument("--items", type=Path, help="the catalogue")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluated_recommendations"))
    parser.add_argument("--ks", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num", type=int, default=1000, help="users of the demonstration")
    options = parser.parse_args()
    given = [options.recommendations, options.truth, options.train]
    if any(given) and not all(given):
        parser.error("--recommendations, --truth and --train go together; none: a demonstration")
    names = [path.stem for path in options.recommendations or ()]
    if len(set(names)) < len(names):
        parser.error(f"the tables of recommendations need different names, got {names}")
    try:
        # 1. Tables.
        simulated = options.recommendations is None
        world = demonstration(options.num, 300, max(options.ks)) if simulated else load(options)
        # 2. Figures, with those whom they cover.
        tables = evaluate(world, options)
    except (ULRecError, pl.exceptions.PolarsError, OSError) as error:
        parser.exit(1, f"{error}\n")

    # 3. How they came about.
    settings = f"{sorted(options.ks)} {options.resamples} {METRICS}"
    protocol = Protocol(
        data_fingerprint=digest(world.truth, world.train),
        config_hash=hashlib.sha256(settings.encode()).hexdigest()[:16],
        code_version=__version__,
        seed=options.seed,
        n=world.truth["user_id"].n_unique(),
    )
    results = [
        Result(name=name, protocol=protocol, notes=tuple(notes), **parts)
        for name, notes, parts in tables
    ]
    place = options.out / "results"
    save_results(place, results, title="Recommendations", simulated=simulated)
    for result in results:
        print(result.name, text_table(result.summary), *result.notes, "", sep="\n")
    print(f"page: {place / 'report.html'}")


if __name__ == "__main__":
    main()
