"""Lifts: definitions against plain loops, power, level, and users who are not covered."""

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.personalization import (
    Generated,
    Taste,
    control_lift,
    heldout_lift,
    history_lift,
    label_lift,
    lift_table,
    shuffled_lift,
)
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.selection import select_best

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=36)


def _world(seed: int = 0, *, strength: float = 1.0, num_users: int = 12):
    """Users who like items near a direction; generations lean there by ``strength``."""
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(60, 8)) + 1.0
    direction = rng.normal(size=(num_users, 8))
    liked = np.argsort(-direction @ items.T, axis=1)
    counts = rng.integers(1, 6, num_users)
    user_idx = np.repeat(np.arange(num_users), counts)
    item_idx = np.concatenate([liked[u, :n] for u, n in enumerate(counts)])
    owners = np.repeat(np.arange(num_users), 3)
    features = strength * direction[owners] + rng.normal(size=(len(owners), 8)) + 1.0
    order = rng.permutation(len(owners))
    generated = Generated(features=features[order].astype(np.float32), user_idx=owners[order])
    return generated, Taste(features=items, user_idx=user_idx, item_idx=item_idx)


def _similarity(generated: Generated, taste: Taste, u: int, v: int) -> float:
    """Mean cosine of u's pictures and v's items, pair by pair."""
    values = []
    for g in generated.features[generated.user_idx == u].astype(float):
        for i in taste.item_idx[taste.user_idx == v]:
            x = taste.features[i]
            values.append(g @ x / np.linalg.norm(g) / np.linalg.norm(x))
    return float(np.mean(values))


def test_label_lift_is_its_definition() -> None:
    generated, taste = _world()
    result = heldout_lift(generated, taste, seed=0)
    users = range(12)
    expected = [
        _similarity(generated, taste, u, u)
        - np.mean([_similarity(generated, taste, u, v) for v in users if v != u])
        for u in users
    ]
    np.testing.assert_allclose(result.values, expected, atol=1e-9)
    assert result.metric == "heldout_lift"
    assert result.interval.mean == pytest.approx(np.mean(expected))
    assert result.own - result.control == pytest.approx(result.interval.mean)


def test_shuffled_lift_varies_who_was_generated_for() -> None:
    generated, taste = _world()
    result = shuffled_lift(generated, taste, seed=0)
    users = range(12)
    expected = [
        _similarity(generated, taste, u, u)
        - np.mean([_similarity(generated, taste, v, u) for v in users if v != u])
        for u in users
    ]
    np.testing.assert_allclose(result.values, expected, atol=1e-9)
    assert (result.metric, result.arm) == ("control_lift", "shuffled")
    assert result.interval.mean == pytest.approx(label_lift(generated, taste, seed=0).interval.mean)


def test_control_lift_against_one_set_and_against_sets() -> None:
    generated, taste = _world()
    rng = np.random.default_rng(5)
    shared = Generated(features=rng.normal(size=(4, 8)), user_idx=None)
    result = control_lift(generated, shared, taste, arm="null", seed=0)
    everyone = Generated(
        features=np.tile(shared.features, (12, 1)), user_idx=np.repeat(range(12), 4)
    )
    spread = control_lift(generated, everyone, taste, arm="null", seed=0)
    expected = [
        _similarity(generated, taste, u, u) - _similarity(everyone, taste, u, u) for u in range(12)
    ]
    np.testing.assert_allclose(result.values, expected, atol=1e-9)
    np.testing.assert_allclose(spread.values, expected, atol=1e-9)
    assert result.arm == "null"
    itself = control_lift(generated, generated, taste, arm="itself", seed=0)
    assert itself.interval.mean == pytest.approx(0, abs=1e-12)


def test_the_test_finds_personal_pictures_and_only_those() -> None:
    personal, taste = _world(strength=2.0)
    assert heldout_lift(personal, taste, seed=0).p_value == pytest.approx(1e-4)
    assert history_lift(personal, taste, seed=0).metric == "history_lift"
    p_values = [
        heldout_lift(*_world(seed, strength=0.0), seed=seed, num_permutations=199).p_value
        for seed in range(200)
    ]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert 0.4 <= np.mean(p_values) <= 0.6


def test_permutation_statistic_equals_relabelling_by_hand() -> None:
    """The mean lift under relabelling, computed in full, gives the same p-value."""
    generated, taste = _world(strength=0.3)
    result = label_lift(generated, taste, seed=7, num_permutations=200)
    users = range(12)
    similarity = np.array([[_similarity(generated, taste, u, v) for v in users] for u in users])

    def mean_lift(labels: np.ndarray) -> float:
        own = similarity[users, labels]
        return float(np.mean(own - (similarity.sum(1) - own) / 11))

    rng = np.random.default_rng(7)
    labels = rng.permuted(np.broadcast_to(np.arange(12), (200, 12)), axis=1)
    permuted = np.array([mean_lift(row) for row in labels])
    count = np.count_nonzero(permuted >= mean_lift(np.arange(12)) - 1e-12)
    assert result.p_value == pytest.approx((1 + count) / 201)


def test_users_without_media_or_items_are_counted() -> None:
    generated, taste = _world()
    kept = generated.user_idx != 3
    some = Generated(features=generated.features[kept], user_idx=generated.user_idx[kept])
    has = taste.user_idx < 10
    fewer = Taste(
        features=taste.features, user_idx=taste.user_idx[has], item_idx=taste.item_idx[has]
    )
    result = heldout_lift(some, fewer, seed=0)
    assert result.user_idx.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert (result.num_without_media, result.num_without_items) == (1, 2)
    control = control_lift(some, generated, fewer, arm="mean", seed=0)
    assert control.user_idx.tolist() == result.user_idx.tolist()
    assert (control.num_without_media, control.num_without_items) == (1, 2)


def test_scale_of_features_does_not_matter() -> None:
    generated, taste = _world()
    scaled = Generated(features=generated.features * 7, user_idx=generated.user_idx)
    one, two = (heldout_lift(g, taste, seed=0) for g in (generated, scaled))
    np.testing.assert_allclose(one.values, two.values, atol=1e-6)


def test_table_adjusts_over_the_family() -> None:
    generated, taste = _world(strength=2.0)
    lifts = [heldout_lift(generated, taste, seed=0), shuffled_lift(generated, taste, seed=0)]
    table = lift_table(lifts, protocol=PROTOCOL)
    assert table["metric"].to_list() == ["heldout_lift", "control_lift"]
    assert table["p_holm"].to_list() == [pytest.approx(2e-4)] * 2
    assert table["num_users"].to_list() == [12, 12]
    assert {"arm", "mean", "low", "high", "own", "control"} <= set(table.columns)


def test_a_lift_that_picked_is_refused() -> None:
    generated, taste = _world()
    lifts = [shuffled_lift(generated, taste, seed=0), heldout_lift(generated, taste, seed=0)]
    picked = select_best(np.eye(3), name="heldout_lift", seed=0).recorded_in(PROTOCOL)
    assert lift_table(lifts[:1], protocol=picked).height == 1
    with pytest.raises(DataError, match="heldout_lift picked the best of 3"):
        lift_table(lifts, protocol=picked)


def test_size_of_a_real_run() -> None:
    rng = np.random.default_rng(0)
    items = rng.normal(size=(2000, 1280)).astype(np.float32)
    generated = Generated(
        features=rng.normal(size=(800, 1280)).astype(np.float32),
        user_idx=np.repeat(np.arange(200), 4),
    )
    taste = Taste(
        features=items,
        user_idx=np.repeat(np.arange(200), 10),
        item_idx=rng.integers(0, 2000, 2000),
    )
    assert heldout_lift(generated, taste, seed=0).p_value > 0.001


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g, t: Generated(features=g.features, user_idx=g.user_idx[1:]), "as many user rows"),
        (
            lambda g, t: Taste(features=t.features[:2], user_idx=t.user_idx, item_idx=t.item_idx),
            "r",
        ),
        (
            lambda g, t: Taste(features=t.features, user_idx=t.user_idx[1:], item_idx=t.item_idx),
            "p",
        ),
        (
            lambda g, t: label_lift(Generated(features=g.features, user_idx=None), t, seed=0),
            "labels",
        ),
        (
            lambda g, t: label_lift(
                Generated(features=g.features, user_idx=g.user_idx + 50), t, seed=0
            ),
            "0 users",
        ),
        (
            lambda g, t: label_lift(
                Generated(features=g.features[:, :3], user_idx=g.user_idx), t, seed=0
            ),
            "one dimension",
        ),
        (
            lambda g, t: label_lift(g, Taste(features=t.features, user_idx=E, item_idx=E), seed=0),
            "no .user, item. pairs",
        ),
        (lambda g, t: label_lift(g, t, seed=0, num_permutations=0), "num_permutations"),
        (
            lambda g, t: control_lift(
                g, Generated(features=g.features, user_idx=g.user_idx + 50), t, arm="x", seed=0
            ),
            "no user has media",
        ),
    ],
)
def test_bad_input(make, message) -> None:
    with pytest.raises(DataError, match=message):
        make(*_world())


E = np.empty(0, np.int64)
