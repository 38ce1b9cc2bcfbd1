"""A log whose truth is known: rates, propensities, and blends between what they blend."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.data.logged import softmax_policy, validate_log
from ulrec.data.simulate import SimulationConfig, simulate
from ulrec.data.simulate_log import (
    RewardConfig,
    blended_reward,
    expected_reward,
    policy_value,
    simulate_log,
)
from ulrec.errors import ConfigError, DataError

NUM_ITEMS, NUM_USERS = 24, 10


@pytest.fixture(scope="module")
def world():
    rows = np.arange(NUM_ITEMS)
    catalogue = pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in rows],
            "category": [f"c{row % 2}" for row in rows],
            "subcategory": [f"s{row % 6}" for row in rows],
        }
    )
    pictures = np.random.default_rng(0).integers(0, 256, (NUM_ITEMS, 3, 2, 2)).astype(np.uint8)
    return simulate(catalogue, pictures, None, SimulationConfig(num_users=NUM_USERS, seed=1))


@pytest.fixture(scope="module")
def reward(world):
    return expected_reward(world)


@pytest.fixture(scope="module")
def logging(world):
    scores = np.random.default_rng(1).normal(size=(NUM_USERS, NUM_ITEMS))
    return softmax_policy(scores, users=world.user_ids, items=world.item_ids, temperature=1.0)


def test_clicks_follow_utility(world, reward):
    utility = world.utility(3, 5)
    assert reward.shape == (NUM_USERS, NUM_ITEMS)
    assert reward[3, 5] == pytest.approx(1 / (1 + np.exp(-(utility - 1.5) / 0.75)), rel=1e-6)
    half = expected_reward(world, RewardConfig(offset=float(utility), scale=0.1))
    assert half[3, 5] == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="'scale' has to be positive"):
        RewardConfig(scale=0.0)


def test_a_log_is_drawn_from_its_policy(reward, logging):
    log = simulate_log(logging, reward, num_rows=40_000, seed=0)
    assert validate_log(log).equals(log)
    users, items = logging.logged(log)
    pairs = np.zeros((NUM_USERS, NUM_ITEMS))
    np.add.at(pairs, (users, items), 1.0)
    expected = 40_000 * logging.probabilities / NUM_USERS
    assert np.square(pairs - expected).sum() / expected.sum() < 1.2  # chi square a degree: 1
    assert log["reward"].mean() == pytest.approx(policy_value(logging, reward), abs=0.01)
    again = simulate_log(logging, reward, num_rows=40_000, seed=0)
    assert again.equals(log)
    assert not simulate_log(logging, reward, num_rows=40_000, seed=1).equals(log)


def test_what_is_never_shown_is_never_drawn(world, reward):
    scores = np.where(np.arange(NUM_ITEMS) % 3 == 1, 0.0, -1e9)
    only = softmax_policy(
        np.tile(scores, (NUM_USERS, 1)),
        users=world.user_ids,
        items=world.item_ids,
        temperature=1.0,
    )
    log = simulate_log(only, reward, num_rows=2000, seed=0)
    assert set(log["item_id"]) == {f"i{row}" for row in range(1, NUM_ITEMS, 3)}
    with pytest.raises(DataError, match="num_rows has to be at least 1"):
        simulate_log(only, reward, num_rows=0, seed=0)
    with pytest.raises(DataError, match="build both from one world"):
        simulate_log(only, reward[:, :3], num_rows=1, seed=0)


def test_a_blend_lies_between_its_parents(world, reward):
    users = np.arange(NUM_USERS)
    parents = np.tile([2, 7], (NUM_USERS, 1))
    alone = blended_reward(world, users, parents, np.tile([0.0, 1.0], (NUM_USERS, 1)))
    np.testing.assert_allclose(alone, reward[:, 7], rtol=1e-5)
    # Blended with itself, a colour stays what it is.
    same = blended_reward(world, users, parents[:, [1, 1]], np.tile([0.3, 0.7], (NUM_USERS, 1)))
    np.testing.assert_allclose(same, reward[:, 7], rtol=1e-5)
    user, half = 4, np.array([[0.5, 0.5]])
    tastes, config = world.tastes, world.config
    kinds = sum(
        tastes["category"][user, tastes["item_category"][i]]
        + 2 * tastes["subcategory"][user, tastes["item_subcategory"][i]]
        for i in (2, 7)
    )
    colour = (tastes["item_colour"][2] + tastes["item_colour"][7]) / 2 - tastes["colour"][user]
    liking = 1.5 * np.exp(-(colour @ colour) / (2 * config.colour_width**2))
    utility = (kinds / 2 + liking - tastes["mean"][user]) / tastes["scale"][user]
    blended = blended_reward(world, [user], parents[:1], half)
    assert blended[0] == pytest.approx(1 / (1 + np.exp(-(utility - 1.5) / 0.75)), rel=1e-5)


@pytest.mark.parametrize(
    ("users", "parents", "shares", "message"),
    [
        ([0], [[0, 1]], [[0.5, 0.4]], "sum to one"),
        ([0], [[0, 1]], [[1.5, -0.5]], "at least 0"),
        ([0, 1], [[0, 1]], [[0.5, 0.5]], "shares"),
        ([0], [[0, 99]], [[0.5, 0.5]], "item rows have to be"),
    ],
)
def test_a_bad_blend_is_refused(world, users, parents, shares, message):
    with pytest.raises(DataError, match=message):
        blended_reward(world, users, parents, shares)
