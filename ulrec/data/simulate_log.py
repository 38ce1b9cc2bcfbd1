"""Semi-synthetic logs: a logging policy shows items of a simulated world, users click or do not.

The expected reward of every pair is known, so that the true value of every policy is: what an
estimator says can be held against it. So it is for generated items that blend real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.logged import Policy
from ulrec.data.schema import ITEM_ID, PROPENSITY, REWARD, TIMESTAMP, USER_ID
from ulrec.data.simulate import SimulatedWorld
from ulrec.errors import ConfigError, DataError

__all__ = ["RewardConfig", "blended_reward", "expected_reward", "policy_value", "simulate_log"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardConfig:
    """A click has probability sigmoid((utility - offset) / scale).

    Attributes
    ----------
    offset
        Utility at which half the users click, in standard deviations above the mean item.
    scale
        Of the slope; the smaller, the more a click says.
    """

    offset: float = 1.5
    scale: float = 0.75

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"'scale' has to be positive, got {self.scale}")


def expected_reward(world: SimulatedWorld, config: RewardConfig | None = None) -> Floats:
    """Return the click probability of every pair, float64 (U, I)."""
    users, items = np.arange(len(world.users)), np.arange(len(world.items))
    return _clicks(world.utility(users[:, None], items), config)


def policy_value(policy: Policy, reward: Floats) -> float:
    """Return the true value of a policy over users that all come equally often.

    Parameters
    ----------
    policy
        For all users of ``reward`` in its order.
    reward
        Expected rewards (U, I).

    Raises
    ------
    DataError
        If the shapes differ.
    """
    if policy.probabilities.shape != reward.shape:
        raise DataError(
            f"a policy of shape {policy.probabilities.shape} has no value under rewards of shape "
            f"{reward.shape}; build both from one world"
        )
    return float((policy.probabilities * reward).sum(axis=1).mean())


def simulate_log(
    logging: Policy, reward: Floats, *, num_rows: int, seed: int | np.random.Generator
) -> pl.DataFrame:
    """Draw users, what they are shown, and whether they click.

    Parameters
    ----------
    logging
        The logging policy, for all users of ``reward`` in its order.
    reward
        Click probabilities (U, I), from :func:`expected_reward`.
    num_rows
        Items shown, n; users come equally often, independently.
    seed
        Of all draws.

    Returns
    -------
    pl.DataFrame
        [user_id, item_id, reward, propensity, timestamp], n rows; the timestamp counts them.

    Raises
    ------
    DataError
        If the shapes differ or there is no row to draw.
    """
    policy_value(logging, reward)
    if num_rows < 1:
        raise DataError(f"num_rows has to be at least 1, got {num_rows}")
    rng = np.random.default_rng(seed)
    users = rng.integers(len(logging.users), size=num_rows)
    items = np.empty(num_rows, np.int64)
    drawn = rng.random(num_rows)
    for user in np.unique(users):
        shown = users == user
        possible = np.flatnonzero(logging.probabilities[user])
        steps = np.cumsum(logging.probabilities[user, possible])
        # A product that rounds up to the last step still names the last item.
        place = np.searchsorted(steps[:-1], drawn[shown] * steps[-1], side="right")
        items[shown] = possible[place]
    clicked = rng.random(num_rows) < reward[users, items]
    return pl.DataFrame(
        {
            USER_ID: logging.users[users],
            ITEM_ID: logging.items[items],
            REWARD: clicked.astype(np.float64),
            PROPENSITY: logging.probabilities[users, items],
            TIMESTAMP: np.arange(num_rows),
        }
    )


def blended_reward(
    world: SimulatedWorld,
    user_rows: ArrayLike,
    parents: ArrayLike,
    shares: ArrayLike,
    config: RewardConfig | None = None,
) -> Floats:
    """Return the click probability of items that blend real ones.

    A blend belongs to its parents' categories and subcategories by their shares, and has the mean
    of their colours in CIELAB: its utility is what the world's formula says of that.

    Parameters
    ----------
    world
        The world.
    user_rows
        Who sees each blend, (n,).
    parents
        Rows of the items blended, (n, m).
    shares
        Theirs, (n, m), summing to one.
    config
        How utility turns into clicks; None for the defaults.

    Returns
    -------
    NDArray[np.float64]
        (n,); that of a real item where it has all the share.

    Raises
    ------
    DataError
        If shares are negative or do not sum to one, or shapes differ.
    """
    users, items = np.asarray(user_rows), np.asarray(parents)
    parts = np.asarray(shares, np.float64)
    if items.shape != parts.shape or items.shape[:1] != users.shape or items.ndim != 2:
        raise DataError(
            f"expected users (n,), parents and shares (n, m), got {users.shape}, {items.shape}, "
            f"{parts.shape}"
        )
    if not (np.all(parts >= 0) and np.allclose(parts.sum(axis=1), 1)):
        raise DataError("the shares of a blend have to be at least 0 and sum to one; divide by it")
    world.utility(users[:, None], items)  # refuses rows that do not exist
    return _clicks(_blended_utility(world, users, items, parts), config)


def _blended_utility(
    world: SimulatedWorld, users: NDArray[Any], items: NDArray[Any], shares: Floats
) -> Floats:
    tastes: Mapping[str, NDArray[Any]] = world.tastes
    config, whose = world.config, users[:, None]
    category = tastes["category"][whose, tastes["item_category"][items]]
    subcategory = tastes["subcategory"][whose, tastes["item_subcategory"][items]]
    kinds = config.weight_category * category + config.weight_subcategory * subcategory
    colour = (shares[..., None] * tastes["item_colour"][items]).sum(axis=1)
    distance = np.square(tastes["colour"][users] - colour).sum(axis=1)
    liking = config.weight_colour * np.exp(-distance / (2 * config.colour_width**2))
    raw = (shares * kinds).sum(axis=1) + liking
    return np.asarray((raw - tastes["mean"][users]) / tastes["scale"][users], np.float64)


def _clicks(utility: NDArray[Any], config: RewardConfig | None) -> Floats:
    config = RewardConfig() if config is None else config
    return np.asarray(
        1 / (1 + np.exp(-(utility.astype(np.float64) - config.offset) / config.scale))
    )
