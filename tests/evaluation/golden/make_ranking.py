"""Write ranking.json: small worlds, and what RecTools and ranx say about them, user by user.

    pip install rectools ranx        # in an environment of its own: RecTools needs numpy < 2
    python tests/evaluation/golden/make_ranking.py

The worlds are written too, so that tests/evaluation/test_peers.py needs neither library. ranx is
given 1 / rank for a score; both get the lists of all users, and the truth of all users.
"""

import json
import random
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import ranx
from rectools import Columns
from rectools.metrics import (
    MAP,
    MRR,
    NDCG,
    AvgRecPopularity,
    CatalogCoverage,
    DebiasConfig,
    HitRate,
    MeanInvUserFreq,
    Precision,
    Recall,
    Serendipity,
    debias_interactions,
)

KS = (1, 3, 5, 40)
RANX = ("hit_rate", "recall", "precision", "mrr", "ndcg", "map")


def random_world(seed: int, *, num_users: int, num_items: int, length: int) -> dict:
    """Return lists, truth and history of users over a catalogue, popular items more often."""
    draw = random.Random(seed)
    items = [f"i{i:02d}" for i in range(num_items)]
    weights = [1 / (i + 1) for i in range(num_items)]
    world: dict = {"num_items": num_items, "lists": {}, "truth": {}, "train": {}}
    for user in (f"u{u:02d}" for u in range(num_users)):
        world["train"][user] = sorted(set(draw.choices(items, weights, k=draw.randint(1, 6))))
        unseen = [item for item in items if item not in world["train"][user]]
        world["lists"][user] = draw.sample(unseen, min(length, len(unseen)))
        world["truth"][user] = sorted(draw.sample(unseen, draw.randint(1, 8)))
    return world


ADVERSARIAL = {
    "num_items": 9,
    "lists": {
        "one_truth": ["a", "b", "c", "d"],
        "short_list": ["b", "a"],
        "no_hits": ["a", "b", "c", "d", "e", "f"],
        "all_hits": ["a", "b", "c"],
        "more_truth_than_k": ["a", "g", "c", "h", "e"],
        "last_place": ["a", "b", "c", "d", "e", "f", "g"],
        "without_truth": ["a", "b", "c"],
    },
    "truth": {
        "one_truth": ["c"],
        "short_list": ["a", "c", "d"],
        "no_hits": ["g", "h"],
        "all_hits": ["a", "b", "c"],
        "more_truth_than_k": ["a", "b", "c", "d", "e", "f"],
        "last_place": ["g"],
        "missing": ["a", "b"],
    },
    "train": {"one_truth": ["e", "f"], "short_list": ["e", "f", "g"], "no_hits": ["e", "i"]},
}


def pairs(world: dict, part: str) -> pd.DataFrame:
    """Return the rows of a part of a world, ranked where it is the lists."""
    rows = [(u, i, r) for u, items in world[part].items() for r, i in enumerate(items, start=1)]
    return pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Rank])


def by_rectools(world: dict) -> dict:
    """Return {metric@k: {user: value}}; the catalogue's coverage has no users."""
    shown, truth, train = (pairs(world, part) for part in ("lists", "truth", "train"))
    truth, train = truth.drop(columns=Columns.Rank), train.drop(columns=Columns.Rank)
    catalogue = range(world["num_items"])  # only its size counts
    values: dict = {}
    for k in KS:
        accuracy = {
            "hit_rate": HitRate(k=k),
            "recall": Recall(k=k),
            "precision": Precision(k=k),
            "mrr": MRR(k=k),
            "ndcg_full_k": NDCG(k=k),
            "ndcg": NDCG(k=k, divide_by_achievable=True),
            "map": MAP(k=k),
            "map_over_k": MAP(k=k, divide_by_k=True),
        }
        found = {name: m.calc_per_user(shown, truth) for name, m in accuracy.items()}
        found["miuf"] = MeanInvUserFreq(k=k).calc_per_user(shown, train)
        found["popularity"] = AvgRecPopularity(k=k).calc_per_user(shown, train)
        found["serendipity"] = Serendipity(k=k).calc_per_user(shown, truth, train, catalogue)
        values |= {f"{name}@{k}": series.to_dict() for name, series in found.items()}
        values[f"coverage@{k}"] = CatalogCoverage(k=k, normalize=True).calc(shown, catalogue)
    for factor in (0.0, 1.5):
        kept = debias_interactions(train, DebiasConfig(iqr_coef=factor, random_state=0))
        values[f"debiased@{factor}"] = kept[Columns.Item].value_counts().sort_index().to_dict()
    return values


def by_ranx(world: dict) -> dict:
    """Return {metric@k: {user: value}}."""
    run = ranx.Run(
        {u: {i: 1 / r for r, i in enumerate(items, 1)} for u, items in world["lists"].items()}
    )
    qrels = ranx.Qrels({u: dict.fromkeys(items, 1) for u, items in world["truth"].items()})
    names = [f"{name}@{k}" for name in RANX for k in KS]
    ranx.evaluate(qrels, run, names, make_comparable=True)
    return {
        name: {user: float(value) for user, value in run.scores[name].items()} for name in names
    }


def main() -> None:
    """Make the worlds, ask both libraries, write."""
    worlds = {
        "adversarial": ADVERSARIAL,
        "random_short": random_world(0, num_users=12, num_items=30, length=4),
        "random_long": random_world(1, num_users=12, num_items=20, length=20),
    }
    content = {
        "versions": {name: version(name) for name in ("rectools", "ranx", "numpy", "pandas")},
        "ks": KS,
        "worlds": worlds,
        "rectools": {name: by_rectools(world) for name, world in worlds.items()},
        "ranx": {name: by_ranx(world) for name, world in worlds.items()},
    }
    path = Path(__file__).with_name("ranking.json")
    path.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
