"""Ranking metrics: hand-computed fractions, three second implementations, and every refusal."""

import math
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import ndcg_score, roc_auc_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from ulrec.errors import ConfigError, DataError
from ulrec.evaluation import hits, lists
from ulrec.evaluation.ranking import METRICS, evaluate_ranking, unseen_items


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
        _recommendations(LISTS),
        _truth(TRUTH),
        ks=(1, 2, 4),
        metrics=tuple(METRICS),
        seed=0,
        num_unseen=10,
    )
    log = math.log2
    expected = {  # ann: hits at ranks 2 and 4, |T| = 3
        ("hit_rate", 1): 0,
        ("hit_rate", 2): 1,
        ("recall", 2): 1 / 3,
        ("recall", 4): 2 / 3,
        ("recall_capped", 1): 0,
        ("recall_capped", 2): 1 / 2,
        ("recall_capped", 4): 2 / 3,
        ("precision", 2): 1 / 2,
        ("precision", 4): 2 / 4,
        ("mrr", 1): 0,
        ("mrr", 4): 1 / 2,
        ("ndcg", 2): (1 / log(3)) / (1 + 1 / log(3)),
        ("ndcg", 4): (1 / log(3) + 1 / log(5)) / (1 + 1 / log(3) + 1 / log(4)),
        ("ndcg_full_k", 4): (1 / log(3) + 1 / log(5)) / (1 + 1 / log(3) + 1 / log(4) + 1 / log(5)),
        ("map", 2): (1 / 2) / 3,
        ("map", 4): (1 / 2 + 2 / 4) / 3,
        # 7 items are not in T. b beats 6 of them, d 5; x is listed nowhere: 5 are below rank 4.
        ("auc", 4): Fraction(6 + 5) / 21 + Fraction(5, 2) / 21,
        # One of the 7 is above b; d and x stand with the other 6.
        ("auc", 2): (6 + 2 * Fraction(6, 2)) / 21,
        ("auc", 1): 3 * Fraction(6, 2) / 21,
    }
    for (metric, k), value in expected.items():
        found = _value(result, "ann", metric, k)
        assert found == pytest.approx(float(value), abs=1e-12), (metric, k)
    for user in ("bob", "zoe"):
        assert all(_value(result, user, metric, 4) == 0 for metric in METRICS if metric != "auc")
    # bob: two of nine stand above, x ties with seven; zoe: no list, all ties.
    assert _value(result, "bob", "auc", 4) == pytest.approx(7 / 2 / 9)
    assert _value(result, "zoe", "auc", 4) == 1 / 2


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
    result = evaluate_ranking(
        table, truth, ks=(k,), metrics=tuple(METRICS), seed=0, num_unseen=scores.shape[1]
    )
    # What stands below rank k is tied: the same score for all of it.
    cut = np.where((-scores).argsort(1).argsort(1) < k, scores, scores.min() - 1)
    theirs = [roc_auc_score(t, s) for s, t in zip(cut, liked, strict=True)]
    np.testing.assert_allclose(_per_user(result, "auc", k, users), theirs, atol=1e-12)
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
    names = tuple(name for name in METRICS if name != "auc")
    result = evaluate_ranking(table, truth, ks=(k,), metrics=names, seed=0)
    for u, user in enumerate(users.tolist()):
        rel = liked[u][np.argsort(-scores[u])][:k].tolist()
        num = int(liked[u].sum())
        gains = [1 / math.log2(r + 1) for r in range(1, k + 1)]
        dcg = sum(g for g, r in zip(gains, rel, strict=True) if r)
        first = next((1 / r for r, hit in enumerate(rel, 1) if hit), 0.0)
        expected = {
            "hit_rate": float(any(rel)),
            "recall": sum(rel) / num,
            "recall_capped": sum(rel) / min(num, k),
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


def test_tied_scores_change_nothing() -> None:
    """The order is that of the ranks; whoever made them has broken the ties."""
    table = _recommendations(LISTS)
    expected = evaluate_ranking(table, _truth(TRUTH), ks=(3,), seed=0).per_user
    tied = table.with_columns(score=pl.lit(1.0))
    assert evaluate_ranking(tied, _truth(TRUTH), ks=(3,), seed=0).per_user.equals(expected)


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
        (lambda t: t.with_columns(rank=pl.lit(2**63, pl.UInt64)), "ranks of 3 users"),
        (lambda t: t.with_columns(rank=pl.Series([0, 1, 2, 3, 1, 3, 1, 2, 3, 4])), "ranks of 2"),
        (lambda t: t.with_columns(rank=pl.col("rank").cast(pl.Float64)), "whole number"),
        (lambda t: t.with_columns(item_id=pl.lit(3)), "item_id is Int64 in the recommendations"),
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
    options = {"ks": (3,), "metrics": (name,), "seed": 0, "num_unseen": 4}
    shown = _recommendations({1: [5, 6, 7]})
    perfect = evaluate_ranking(shown, _truth({1: [5, 6, 7]}), **options)
    assert perfect.per_user["value"].to_list() == [pytest.approx(1)]
    misses = evaluate_ranking(shown, _truth({1: [8]}), **options)
    assert misses.per_user["value"].to_list() == [0]
    assert "@k" in str(METRICS[name].__doc__)


def test_intervals_can_be_left_out() -> None:
    result = evaluate_ranking(_recommendations(LISTS), _truth(TRUTH), seed=0, num_resamples=None)
    full = evaluate_ranking(_recommendations(LISTS), _truth(TRUTH), seed=0)
    assert result.summary["low"].null_count() == result.summary["high"].null_count() == 18
    assert result.summary.schema == full.summary.schema
    assert result.summary["mean"].equals(full.summary["mean"])


def test_unseen_items_count_each_seen_item_once() -> None:
    seen = pl.DataFrame({"user_id": [1, 1, 1, 3], "item_id": [5, 5, 6, 5]})
    table = unseen_items(seen, pl.Series([1, 2]), num_items=9)
    assert table.rows() == [(1, 7), (2, 9)]
    with pytest.raises(DataError, match="more items than the catalogue's 1"):
        unseen_items(seen, pl.Series([1]), num_items=1)


def test_auc_takes_a_number_for_each_user() -> None:
    shown, liked = _recommendations({1: [5, 6], 2: [5]}), _truth({2: [6], 1: [6]})
    unseen = pl.DataFrame({"user_id": [1, 2], "num_unseen": [3, 6]})
    result = evaluate_ranking(shown, liked, ks=(2,), metrics=("auc",), seed=0, num_unseen=unseen)
    # 1: one of two others is above. 2: one of five is above, four tie.
    assert dict(result.per_user.select("user_id", "value").rows()) == {1: 1 / 2, 2: 2 / 5}


@pytest.mark.parametrize(
    ("unseen", "error", "message"),
    [
        (None, ConfigError, "auc needs num_unseen"),
        (4, DataError, "1 users have fewer unseen items than"),
        (pl.DataFrame({"user_id": ["ann"]}), DataError, "need user_id and num_unseen"),
        (pl.DataFrame({"user_id": ["ann"], "num_unseen": [9]}), DataError, "lacks 2 of the"),
        (pl.DataFrame({"user_id": [1], "num_unseen": [9]}), DataError, "user_id is Int64"),
        (pl.DataFrame({"user_id": ["ann"] * 2, "num_unseen": [9, 9]}), DataError, "users twice"),
    ],
)
def test_auc_refuses(unseen, error, message) -> None:
    with pytest.raises(error, match=message):
        evaluate_ranking(
            _recommendations(LISTS), _truth(TRUTH), metrics=("auc",), seed=0, num_unseen=unseen
        )


def test_auc_refuses_users_who_like_all() -> None:
    with pytest.raises(DataError, match="1 users like all of their unseen items"):
        evaluate_ranking(
            _recommendations({1: [5]}), _truth({1: [5]}), metrics=("auc",), seed=0, num_unseen=1
        )


@pytest.mark.parametrize("kind", [pl.Int64, pl.String])
@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_lists_of_all_lengths_in_any_order(kind, block, monkeypatch) -> None:
    """What is read block by block, or sorted first, gives what a plain loop gives."""
    monkeypatch.setattr(lists, "BLOCK", block)
    rng = np.random.default_rng(block)
    shown = {u: rng.permutation(40)[: rng.integers(1, 9)].tolist() for u in range(60)}
    liked = {u: rng.permutation(40)[: rng.integers(1, 6)].tolist() for u in range(30, 90)}
    casts = pl.col("user_id").cast(kind), pl.col("item_id").cast(kind)
    table, truth = _recommendations(shown).with_columns(casts), _truth(liked).with_columns(casts)
    expected = [len(set(shown.get(u, ())[:5]) & set(items)) for u, items in liked.items()]
    for order in (table, table.reverse(), table.sample(fraction=1, shuffle=True, seed=1)):
        result = evaluate_ranking(order, truth, ks=(5,), metrics=("precision",), seed=0)
        np.testing.assert_allclose(result.per_user["value"] * 5, expected, atol=1e-12)
        assert (result.num_missing, result.num_without_truth) == (30, 30)


def test_ids_that_agree_in_their_last_32_bits_are_told_apart() -> None:
    big = 2**32
    shown = _recommendations({1: [7, 7 + big, 7 + 2 * big], 2: [7 + big, 3]})
    liked = _truth({1: [7 + big], 2: [7, 7 + 2 * big, 3]})
    result = evaluate_ranking(shown, liked, ks=(3,), metrics=("mrr",), seed=0)
    assert result.per_user["value"].to_list() == [1 / 2, 1 / 2]
    with pytest.raises(DataError, match="1 recommended"):
        evaluate_ranking(_recommendations({1: [7, 7 + big, 7]}), liked, seed=0)


def test_a_collision_of_hashes_changes_nothing(monkeypatch) -> None:
    """At the first attempt all strings get one of two numbers: everything collides."""
    attempts = []
    numbers = hits._numbers

    def colliding(ids, attempt):
        attempts.append(attempt)
        return numbers(ids, attempt) % 2 if attempt == 0 else numbers(ids, attempt)

    args = _recommendations(LISTS), _truth(TRUTH)
    expected = evaluate_ranking(*args, ks=(2, 4), seed=0).per_user
    monkeypatch.setattr(hits, "_numbers", colliding)
    assert evaluate_ranking(*args, ks=(2, 4), seed=0).per_user.equals(expected)
    assert set(attempts) == {0, 1}
    # A single truth whose number meets another item's: dropped when the ids are compared.
    one = evaluate_ranking(_recommendations({"u": ["a"]}), _truth({"u": ["c"]}), ks=(1,), seed=0)
    assert one.summary["mean"].to_list() == [0] * 6


def test_ids_beyond_int64_are_refused() -> None:
    huge = pl.col("item_id").cast(pl.UInt64) + 2**63
    shown, liked = _recommendations({1: [5]}), _truth({1: [5]})
    with pytest.raises(DataError, match="item_id of the recommendations exceeds Int64"):
        evaluate_ranking(shown.with_columns(huge), liked.with_columns(huge), seed=0)
