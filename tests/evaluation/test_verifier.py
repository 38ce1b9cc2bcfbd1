"""The verifier in a world whose tastes are known: it finds them, and where none are, nothing."""

import dataclasses

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.personalization import Generated, Taste
from ulrec.evaluation.preference import compare_arms, preference_table
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.selection import select_best
from ulrec.evaluation.verifier import (
    VerifierConfig,
    VerifierScores,
    fit_verifier,
    training_pairs,
)

PROTOCOL = Protocol(
    data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=4, backbone="efflite0"
)
NUM_USERS, NUM_ITEMS, KNOWN = 60, 150, 110


class World:
    """Users like items in proportion to exp(direction @ item); the last items are new."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.items = rng.normal(size=(NUM_ITEMS, 12)) + 0.5
        self.directions = rng.normal(size=(NUM_USERS, 12))
        noise = rng.gumbel(size=(NUM_USERS, NUM_ITEMS))
        wanted = 0.7 * self.directions @ self.items.T + noise
        early = np.argsort(-wanted[:, :KNOWN], axis=1)[:, :12]
        wanted[np.arange(NUM_USERS)[:, None], early] = -np.inf
        later = np.argsort(-wanted, axis=1)[:, :6]
        self.train, self.heldout = self.taste(early), self.taste(later)

    def taste(self, liked) -> Taste:
        users = np.repeat(np.arange(NUM_USERS), liked.shape[1])
        return Taste(features=self.items, user_idx=users, item_idx=liked.ravel())


def shuffled(taste: Taste) -> Taste:
    """Everyone gets another's items; numbers of items agree, so these are permuted labels."""
    return dataclasses.replace(taste, user_idx=(taste.user_idx + 7) % NUM_USERS)


def fit(world: World, heldout: Taste | None = None, **settings):
    return fit_verifier(
        world.train,
        world.heldout if heldout is None else heldout,
        known_items=np.arange(KNOWN),
        backbone="efflite0",
        **{"seed": 0, **settings},
    )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def verifier(world):
    return fit(world)


def test_it_finds_tastes_also_in_items_that_train_never_showed(verifier):
    assert verifier.auroc.interval.low > 0.7
    assert verifier.auroc_new.interval.low > 0.7
    assert len(verifier.auroc.values) == NUM_USERS and verifier.num_pairs == NUM_USERS * 12
    assert abs(verifier.auroc.shuffled.mean - 0.5) < 0.1


def test_shuffled_labels_are_worth_nothing(world):
    """Tastes that are another's: everything else is as before."""
    keys = set(zip(world.train.user_idx, world.train.item_idx, strict=True))
    other = shuffled(world.heldout)
    apart = [pair not in keys for pair in zip(other.user_idx, other.item_idx, strict=True)]
    other = dataclasses.replace(
        other, user_idx=other.user_idx[apart], item_idx=other.item_idx[apart]
    )
    judged = fit(world, other)
    assert judged.auroc.interval.mean == pytest.approx(0.5, abs=0.06)
    # learning from shuffled likes is worth as little: 0.5 on average over worlds
    means = []
    for seed in range(6):
        drawn = World(seed)
        rng = np.random.default_rng(seed)
        likes = np.stack([rng.permutation(KNOWN)[:12] for _ in range(NUM_USERS)])
        drawn.train = drawn.taste(likes)
        keys = set(zip(drawn.train.user_idx, drawn.train.item_idx, strict=True))
        pairs = zip(drawn.heldout.user_idx, drawn.heldout.item_idx, strict=True)
        apart = [pair not in keys for pair in pairs]
        later = dataclasses.replace(
            drawn.heldout,
            user_idx=drawn.heldout.user_idx[apart],
            item_idx=drawn.heldout.item_idx[apart],
        )
        means.append(fit(drawn, later, num_resamples=10).auroc.interval.mean)
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)


def test_scores_carry_the_auroc_and_prefer_what_users_like(world, verifier):
    near = world.directions / np.linalg.norm(world.directions, axis=1, keepdims=True)
    users = np.arange(NUM_USERS)
    arms = {
        "user": Generated(features=near, user_idx=users),
        "shuffled": Generated(features=np.roll(near, 1, axis=0), user_idx=users),
        "null": Generated(features=world.items.mean(axis=0)[None], user_idx=None),
    }
    scores = verifier.score(arms, protocol=PROTOCOL)
    assert isinstance(scores, VerifierScores) and scores.auroc is verifier.auroc
    assert all(((v > 0) & (v < 1)).all() for v in scores.arms.values())
    found = compare_arms(scores, controls=["shuffled", "null"], seed=0)
    assert min(p.wins.rate.low for p in found) > 0.7
    table = preference_table(found)
    assert table["auroc"].to_list() == [verifier.auroc.interval.mean] * 2
    assert (table["auroc_low"] < table["auroc"]).all()


def test_there_is_no_verifier_score_without_an_auroc():
    fields = {field.name: field for field in dataclasses.fields(VerifierScores)}
    assert fields["auroc"].default is dataclasses.MISSING
    with pytest.raises(TypeError, match="auroc"):
        VerifierScores(
            name="verifier", user_idx=np.arange(1), arms={"user": np.ones(1)}, protocol=PROTOCOL
        )


def test_probability_is_the_logistic_of_its_definition(world, verifier):
    model, unit = verifier.model, world.items / np.linalg.norm(world.items, axis=1, keepdims=True)
    q = (unit - model.centre) @ model.directions
    p = q[world.train.item_idx[world.train.user_idx == 3]].mean(axis=0)
    x = np.concatenate([p * q[40], q[40]])
    logits = verifier.model.classifier.decision(x[None])[0]
    expected = 1 / (1 + np.exp(logits[0] - logits[1]))
    made = Generated(features=world.items[[40]] * 3, user_idx=np.array([3]))
    scores = verifier.score({"user": made}, protocol=PROTOCOL)
    assert scores.arms["user"].tolist() == [pytest.approx(expected)]
    # components of the known items: centred, uncorrelated, of mean squared length one
    known = q[:KNOWN]
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-12)
    assert np.square(known).sum(axis=1).mean() == pytest.approx(1)


def test_negatives_are_known_items_that_the_user_lacks(world):
    pairs, others = training_pairs(world.train, np.arange(KNOWN), max_pairs=500, seed=0)
    users = world.train.user_idx[pairs]
    likes = set(zip(world.train.user_idx, world.train.item_idx, strict=True))
    assert len(np.unique(pairs)) == len(others) == 500
    assert not likes & set(zip(users, others, strict=True))
    assert others.max() < KNOWN and len(np.unique(others)) > 0.9 * KNOWN


def test_pairs_of_users_with_nothing_to_compare_are_left_out():
    # 0 likes all that is known, 1 one item, 2 two of three: 2's other item is the only negative
    train = Taste(
        features=np.eye(4),
        user_idx=np.array([0, 2, 0, 1, 0, 2]),
        item_idx=np.array([0] * 2 + [1] * 2 + [2] * 2),
    )
    pairs, others = training_pairs(train, np.arange(3), max_pairs=10, seed=0)
    assert pairs.tolist() == [1, 5] and others.tolist() == [1, 1]


def test_no_like_explains_itself():
    """Where likes are random a profile tells nothing of them, though it is made of them."""
    drawn = World()
    rng = np.random.default_rng(0)
    drawn.train = drawn.taste(np.stack([rng.permutation(KNOWN)[:3] for _ in range(NUM_USERS)]))
    model = fit(drawn, drawn.taste(np.full((NUM_USERS, 1), KNOWN + 1)), num_resamples=10).model
    unit = drawn.items / np.linalg.norm(drawn.items, axis=1, keepdims=True)
    q = model.components(unit)
    own = [model.decision(u, q[drawn.train.item_idx[3 * u : 3 * u + 3]]).mean() for u in range(60)]
    anyone = [model.decision(u, q[:KNOWN]).mean() for u in range(60)]
    assert np.mean(own) - np.mean(anyone) < 0.3


def test_the_same_seed_gives_the_same_verifier(world, verifier):
    again = fit(world)
    np.testing.assert_array_equal(again.auroc.values, verifier.auroc.values)
    few = fit(world, config=VerifierConfig(num_components=3, max_pairs=100), num_resamples=10)
    assert few.num_pairs == 100 and few.model.profiles.shape == (NUM_USERS, 3)


def test_users_it_does_not_know_are_counted(world, verifier):
    made = Generated(features=world.items[:3], user_idx=np.array([0, 99, 5]))
    scores = verifier.score({"user": made}, protocol=PROTOCOL)
    assert scores.user_idx.tolist() == [0, 5] and scores.num_without_history == 1


def test_what_it_picked_it_does_not_judge(world, verifier):
    picked = select_best(np.eye(2), name="verifier", seed=0).recorded_in(PROTOCOL)
    made = Generated(features=world.items[:2], user_idx=np.array([0, 1]))
    with pytest.raises(DataError, match="verifier picked the best of 2"):
        verifier.score({"user": made}, protocol=picked)


def test_bad_input_is_refused(world, verifier):
    with pytest.raises(DataError, match="720 held-out likes are in train too"):
        fit(world, world.train)
    fewer = dataclasses.replace(world.heldout, features=world.items[:, :4])
    with pytest.raises(DataError, match="of the same items"):
        fit(world, fewer)
    made = Generated(features=world.items[:2], user_idx=np.array([0, 1]))
    with pytest.raises(DataError, match="features of efflite0"):
        verifier.score({"user": made}, protocol=dataclasses.replace(PROTOCOL, backbone="inception"))
    narrow = Generated(features=world.items[:2, :4], user_idx=np.array([0, 1]))
    with pytest.raises(DataError, match="knows 12 features, got 4"):
        verifier.score({"user": narrow}, protocol=PROTOCOL)
    bad = dataclasses.replace(made, features=np.full((2, 12), np.nan))
    with pytest.raises(DataError, match="hold NaN"):
        verifier.score({"user": bad}, protocol=PROTOCOL)
    one = Taste(features=world.items, user_idx=np.array([0, 1]), item_idx=np.array([3, 4]))
    with pytest.raises(DataError, match="no user has two train likes"):
        fit_verifier(one, world.heldout, known_items=np.arange(9), backbone="x", seed=0)
    mine = world.heldout.user_idx == 0
    alone = dataclasses.replace(
        world.heldout, user_idx=np.zeros(6, np.int64), item_idx=world.heldout.item_idx[mine]
    )
    with pytest.raises(DataError, match="1 users have a history"):
        fit(world, alone)
    same = Taste(features=np.ones((9, 3)), user_idx=np.zeros(3, int), item_idx=np.arange(3))
    later = Taste(features=np.ones((9, 3)), user_idx=np.zeros(1, int), item_idx=np.array([5]))
    with pytest.raises(DataError, match="same features"):
        fit_verifier(same, later, known_items=np.arange(9), backbone="x", seed=0)
