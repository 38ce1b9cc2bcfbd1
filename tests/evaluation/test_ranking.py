"""Ranking metrics: hand-computed fractions, three second implementations, and every refusal."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import ndcg_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.ranking import METRICS, evaluate_ranking


def _recommendations(lists: dict) -> pl.DataFrame:
    rows = [
        (user, item, 1 / rank, rank)
        for user, items in lists.items()
        for rank, item in enumerate(items, start=1)
    ]
    return pl.DataFrame(rows, ["user_id", "item_id", "score", "rank"], orient="row")


def _truth(sets: dict) -> pl.DataFrame:
    rows = [(user, item) for user, items in sets.items() for item in items]
    return pl.DataFrame(rows, ["user_id", "item_id"], orient="row")


LISTS = {"ann": ["a", "b", "c", "d"], "bob": ["d", "a"], "eve": ["a", "b", "c", "d"]}
TRUTH = {"ann": ["b", "d", "x"], "bob": ["x"], "zoe": ["a"]}


def _value(result, user: str, metric: str, k: int) -> float:
    table = result.per_user
    row = table.filter((table["user_id"] == user) & (table["metric"] == metric) & (table["k"] == k))
    return row["value"].item()


def test_hand_computed_fractions() -> None:
    result = evaluate_ranking(
        _recommendations(LISTS), _truth(TRUTH), ks=(1, 2, 4), metrics=tuple(METRICS), seed=0
    )
    log = math.log2
    expected = {  # ann: hits at ranks 2 and 4, |T| = 3
        ("hit_rate", 1): 0,
        ("hit_rate", 2): 1,
        ("recall", 2): 1 / 3,
        ("recall", 4): 2 / 3,
        ("precision", 2): 1 / 2,
        ("precision", 4): 2 / 4,
        ("mrr", 1): 0,
        ("mrr", 4): 1 / 2,
        ("ndcg", 2): (1 / log(3)) / (1 + 1 / log(3)),
        ("ndcg", 4): (1 / log(3) + 1 / log(5)) / (1 + 1 / log(3) + 1 / log(4)),
        ("ndcg_full_k", 4): (1 / log(3) + 1 / log(5)) / (1 + 1 / log(3) + 1 / log(4) + 1 / log(5)),
        ("map", 2): (1 / 2) / 3,
        ("map", 4): (1 / 2 + 2 / 4) / 3,
    }
    for (metric, k), value in expected.items():
        assert _value(result, "ann", metric, k) == pytest.approx(value, abs=1e-12), (metric, k)
    for user in ("bob", "zoe"):
        assert all(_value(result, user, metric, 4) == 0 for metric in METRICS)


def test_everyone_is_counted() -> None:
    result = evaluate_ranking(_recommendations(LISTS), _truth(TRUTH), ks=(3,), seed=0)
    assert result.num_users == 3
    assert result.num_missing == 1  # zoe
    assert result.num_short == 2  # zoe and bob
    assert result.num_without_truth == 1  # eve
    row = result.summary.row(by_predicate=pl.col("metric") == "hit_rate", named=True)
    assert row["mean"] == pytest.approx(1 / 3)
    assert row["num_users"] == 3
    assert row["low"] <= row["mean"] <= row["high"]
    assert set(result.per_user["user_id"]) == {"ann", "bob", "zoe"}
    assert result.summary.columns == ["metric", "k", "mean", "low", "high", "num_users"]


def _random_world(seed: int, *, num_users: int = 25, num_items: int = 30):
    """Full rankings of every item, ids out of order and of int type, rows shuffled."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_users, num_items))
    liked = rng.random((num_users, num_items)) < rng.uniform(0.02, 0.4, (num_users, 1))
    liked[np.arange(num_users), rng.integers(num_items, size=num_users)] = True
    users, items = rng.permutation(1000)[:num_users], rng.permutation(1000)[:num_items] - 500
    ranks = (-scores).argsort(1).argsort(1) + 1
    table = pl.DataFrame(
        {
            "user_id": np.repeat(users, num_items),
            "item_id": np.tile(items, num_users),
            "score": scores.ravel(),
            "rank": ranks.ravel(),
        }
    )
    at = np.nonzero(liked)
    truth = pl.DataFrame({"user_id": users[at[0]], "item_id": items[at[1]]})
    shuffled = table.sample(fraction=1, shuffle=True, seed=seed)
    return users, scores, liked, shuffled, truth.sample(fraction=1, shuffle=True, seed=seed)


def _per_user(result, metric: str, k: int, users: np.ndarray) -> np.ndarray:
    table = result.per_user.filter((pl.col("metric") == metric) & (pl.col("k") == k))
    values = dict(zip(table["user_id"].to_list(), table["value"].to_list(), strict=True))
    return np.array([values[user] for user in users.tolist()])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_equals_torchmetrics_and_scikit_learn(seed, k) -> None:
    users, scores, liked, table, truth = _random_world(seed)
    result = evaluate_ranking(table, truth, ks=(k,), metrics=tuple(METRICS), seed=0)
    # torchmetrics takes items scored zero or below for not recommended: only order matters here.
    scores = scores - scores.min() + 1
    peers = {
        "hit_rate": retrieval_hit_rate,
        "recall": retrieval_recall,
        "precision": retrieval_precision,
        "mrr": retrieval_reciprocal_rank,
        "ndcg": retrieval_normalized_dcg,
    }
    for metric, peer in peers.items():
        theirs = [
            float(peer(torch.from_numpy(s), torch.from_numpy(t), top_k=k))
            for s, t in zip(scores, liked, strict=True)
        ]
        np.testing.assert_allclose(_per_user(result, metric, k, users), theirs, atol=1e-6)
    theirs = [
        ndcg_score(t[None].astype(float), s[None], k=k) for s, t in zip(scores, liked, strict=True)
    ]
    np.testing.assert_allclose(_per_user(result, "ndcg", k, users), theirs, atol=1e-9)
    if k == 30:  # torchmetrics divides by the hits within k; over all items that is |T|
        theirs = [
            float(retrieval_average_precision(torch.from_numpy(s), torch.from_numpy(t)))
            for s, t in zip(scores, liked, strict=True)
        ]
        np.testing.assert_allclose(_per_user(result, "map", k, users), theirs, atol=1e-6)


@pytest.mark.parametrize("seed", [3, 4])
def test_equals_a_plain_loop(seed) -> None:
    """Float64, every metric, 1e-9: the definitions once more, user by user."""
    users, scores, liked, table, truth = _random_world(seed)
    k = 7
    result = evaluate_ranking(table, truth, ks=(k,), metrics=tuple(METRICS), seed=0)
    for u, user in enumerate(users.tolist()):
        rel = liked[u][np.argsort(-scores[u])][:k].tolist()
        num = int(liked[u].sum())
        gains = [1 / math.log2(r + 1) for r in range(1, k + 1)]
        dcg = sum(g for g, r in zip(gains, rel, strict=True) if r)
        first = next((1 / r for r, hit in enumerate(rel, 1) if hit), 0.0)
        expected = {
            "hit_rate": float(any(rel)),
            "recall": sum(rel) / num,
            "precision": sum(rel) / k,
            "mrr": first,
            "ndcg": dcg / sum(gains[: min(k, num)]),
            "ndcg_full_k": dcg / sum(gains),
            "map": sum(sum(rel[:r]) / r for r in range(1, k + 1) if rel[r - 1]) / num,
        }
        for metric, value in expected.items():
            got = _per_user(result, metric, k, np.array([user]))[0]
            assert got == pytest.approx(value, abs=1e-9), metric


def test_rows_and_ids_may_come_in_any_order_and_type() -> None:
    _, _, _, table, truth = _random_world(5)
    expected = evaluate_ranking(table, truth, ks=(5,), seed=0).summary["mean"]
    for cast in (pl.String, pl.Int32, pl.Categorical):
        ids = (pl.col("user_id").cast(pl.String).cast(cast), pl.col("item_id").cast(pl.String))
        other = evaluate_ranking(
            table.sort("user_id", "item_id").with_columns(ids),
            truth.with_columns(ids),
            ks=(5,),
            seed=0,
        )
        np.testing.assert_allclose(other.summary["mean"], expected, atol=1e-12)


def test_no_recommendations_at_all_is_zero_for_all() -> None:
    empty = _recommendations(LISTS).clear()
    result = evaluate_ranking(empty, _truth(TRUTH), ks=(3,), seed=0)
    assert result.num_missing == result.num_users == 3
    assert result.summary["mean"].to_list() == [0] * 6


def test_the_interval_narrows_and_follows_the_seed() -> None:
    _, _, _, table, truth = _random_world(6)
    one, two, three = (
        evaluate_ranking(table, truth, ks=(5,), seed=seed).summary for seed in (0, 0, 1)
    )
    assert one.equals(two)
    assert not one.equals(three)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: pl.concat([t, t[:1]]), "ranks of 1 users"),
        (lambda t: t.with_columns(item_id=pl.lit("a")), "pairs repeat"),
        (lambda t: t.with_columns(score=pl.lit(float("nan"))), "scores are NaN"),
        (lambda t: t.with_columns(score=pl.lit("high")), "score has to be a number"),
        (lambda t: t.with_columns(rank=pl.col("rank") - 1), "ranks of 3 users are not 1, 2"),
        (lambda t: t.with_columns(rank=pl.col("rank") * 2), "ranks of 3 users"),
        (lambda t: t.with_columns(rank=pl.lit(1)), "ranks of 3 users"),
        (lambda t: t.with_columns(rank=pl.col("rank").cast(pl.Float64)), "whole number"),
        (lambda t: t.with_columns(item_id=pl.lit(3)), "item_id is Int32 in the recommendations"),
        (lambda t: t.with_columns(item_id=pl.lit(3.0)), "str or int, got Float64"),
        (lambda t: t.with_columns(user_id=pl.lit(None, pl.String)), "nulls"),
        (lambda t: t.drop("score"), r"lack the columns \['score'\]"),
    ],
)
def test_bad_recommendations(change, message) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_ranking(change(_recommendations(LISTS)), _truth(TRUTH), seed=0)


def test_bad_truth() -> None:
    truth = _truth(TRUTH)
    with pytest.raises(DataError, match="1 \\(user, item\\) pairs of the truth repeat"):
        evaluate_ranking(_recommendations(LISTS), pl.concat([truth, truth[:1]]), seed=0)
    with pytest.raises(DataError, match="no rows"):
        evaluate_ranking(_recommendations(LISTS), truth.clear(), seed=0)


@pytest.mark.parametrize("ks", [(0,), (), (5, 5), (2.5,), (True,)])
def test_bad_ks(ks) -> None:
    with pytest.raises(DataError, match="whole numbers from 1"):
        evaluate_ranking(_recommendations(LISTS), _truth(TRUTH), ks=ks, seed=0)


def test_unknown_metric_names_the_near_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ndcg'"):
        evaluate_ranking(_recommendations(LISTS), _truth(TRUTH), metrics=("ndgc",), seed=0)


@pytest.mark.parametrize("name", METRICS)
def test_contract_of_every_metric(name) -> None:
    """1 for a perfect list, 0 for a list of misses, and the formula is written down."""
    perfect = evaluate_ranking(
        _recommendations({1: [5, 6, 7]}), _truth({1: [5, 6, 7]}), ks=(3,), metrics=(name,), seed=0
    )
    assert perfect.per_user["value"].to_list() == [pytest.approx(1)]
    misses = evaluate_ranking(
        _recommendations({1: [5, 6, 7]}), _truth({1: [8]}), ks=(3,), metrics=(name,), seed=0
    )
    assert misses.per_user["value"].to_list() == [0]
    assert "@k" in str(METRICS[name].__doc__)
