"""Our values against RecTools' and ranx', user by user, to 1e-9.

What they say was written by golden/make_ranking.py with the versions named in golden/ranking.json:
random worlds, and one with a single liked item, lists shorter than k, no hits, all hits, k beyond
the catalogue, more liked items than k, users without list, users without truth. scikit-learn is
compared live in test_ranking.py.
"""

import json
from pathlib import Path

import polars as pl
import pytest

from ulrec.data.ids import IdMap
from ulrec.evaluation.beyond_accuracy import evaluate_beyond_accuracy
from ulrec.evaluation.popularity import even_out_popularity
from ulrec.evaluation.ranking import evaluate_ranking

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ranking.json").read_text())
KS = GOLDEN["ks"]
ACCURACY = ("hit_rate", "recall", "precision", "mrr", "ndcg", "ndcg_full_k", "map")
WORLDS = pytest.mark.parametrize("name", GOLDEN["worlds"])


def _table(lists: dict) -> pl.DataFrame:
    rows = [
        (user, item, 1 / rank, rank)
        for user, items in lists.items()
        for rank, item in enumerate(items, start=1)
    ]
    return pl.DataFrame(rows, ["user_id", "item_id", "score", "rank"], orient="row")


def _values(per_user: pl.DataFrame) -> dict:
    values: dict = {}
    for user, metric, k, value in per_user.rows():
        values.setdefault(f"{metric}@{k}", {})[user] = value
    return values


@WORLDS
@pytest.mark.parametrize("library", ["rectools", "ranx"])
def test_accuracy_is_theirs(name, library) -> None:
    """Same users, same values: nobody is dropped by either, short lists are divided by k."""
    world, theirs = GOLDEN["worlds"][name], GOLDEN[library][name]
    result = evaluate_ranking(
        _table(world["lists"]), _table(world["truth"]), ks=KS, metrics=ACCURACY, seed=0
    )
    ours = _values(result.per_user)
    names = [f"{metric}@{k}" for metric in ACCURACY for k in KS]
    # ranx knows no NDCG over k items.
    names = [n for n in names if library == "rectools" or not n.startswith("ndcg_full_k")]
    for metric in names:
        assert ours[metric] == pytest.approx(theirs[metric], abs=1e-9), metric


@WORLDS
def test_map_over_k_is_another_definition(name) -> None:
    """RecTools' MAP(divide_by_k=True) divides by k where ours divides by |T|."""
    world = GOLDEN["worlds"][name]
    result = evaluate_ranking(
        _table(world["lists"]), _table(world["truth"]), ks=KS, metrics=("map",), seed=0
    )
    for metric, values in _values(result.per_user).items():
        k = int(metric.split("@")[1])
        other = {user: v * len(world["truth"][user]) / k for user, v in values.items()}
        theirs = GOLDEN["rectools"][name][f"map_over_k@{k}"]
        assert other == pytest.approx(theirs, abs=1e-9)


def _beyond(world: dict, names: set) -> dict:
    """Return our values with a catalogue of the items named, filled up to the world's size."""
    filler = [f"never {i}" for i in range(world["num_items"] - len(names))]
    items = IdMap([*sorted(names), *filler])
    train = [item for seen in world["train"].values() for item in seen]
    result = evaluate_beyond_accuracy(
        _table(world["lists"]),
        items=items,
        popularity=[train.count(item) for item in items.ids],
        num_train_users=len(world["train"]),
        truth=_table(world["truth"]),
        ks=KS,
        seed=0,
        num_resamples=None,
    )
    coverage = result.summary.filter(metric="coverage").select("k", "mean").rows()
    return {**_values(result.per_user), **{f"coverage@{k}": mean for k, mean in coverage}}


@WORLDS
def test_beyond_accuracy_is_theirs(name) -> None:
    world, theirs = GOLDEN["worlds"][name], GOLDEN["rectools"][name]
    parts = (world["lists"], world["truth"], world["train"])
    named = {item for part in parts for items in part.values() for item in items}
    ours = _beyond(world, named)
    for k in KS:
        for metric in ("miuf", "popularity", "coverage"):
            assert ours[f"{metric}@{k}"] == pytest.approx(theirs[f"{metric}@{k}"], abs=1e-9), metric


@WORLDS
def test_serendipity_is_theirs_up_to_short_lists(name) -> None:
    """RecTools divides by the items listed, of users with a list; we divide by k, of the truth's.

    With a list cut short theirs rises; and a user without a list counts as zero with us.
    """
    world, theirs = GOLDEN["worlds"][name], GOLDEN["rectools"][name]
    named = {i for part in ("lists", "truth", "train") for x in world[part].values() for i in x}
    ours = _beyond(world, named)
    for k in KS:
        values = ours[f"serendipity@{k}"]
        assert values.keys() == world["truth"].keys()
        for user, value in values.items():
            length = min(k, len(world["lists"].get(user, ())))
            expected = theirs[f"serendipity@{k}"][user] * length / k if length else 0.0
            assert value == pytest.approx(expected, abs=1e-9), (user, k)


@WORLDS
@pytest.mark.parametrize("factor", [0.0, 1.5])
def test_evening_popularity_out_keeps_as_many(name, factor) -> None:
    train = _table(GOLDEN["worlds"][name]["train"])
    kept = even_out_popularity(train, seed=0, iqr_factor=factor)
    counts = dict(kept["item_id"].value_counts().rows())
    assert counts == GOLDEN["rectools"][name][f"debiased@{factor}"]
