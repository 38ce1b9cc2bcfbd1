"""Simulated users with known tastes over a real catalogue, where no real interactions exist.

A user likes one to three subcategories (and, less, their categories) and one colour. Utility is the
weighted sum, standardised per user over the catalogue: 0 is the mean item, 1 a standard deviation.
What a user picks is a Plackett-Luce draw (Gumbel top-k) from utility / temperature + log
popularity; popularity is Zipf-like, hidden, and has nothing to do with what an item looks like.
Held-out items are released, and some users join, after the cut: whoever trains on what is before it
has never seen them.

Only the interactions may reach a model. Tastes, popularity and attributes are kept for judging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file

from ulrec.checkpoint import new_artefact, open_artefact
from ulrec.config import from_mapping, to_mapping
from ulrec.data.colour import hex_colours, mean_colours
from ulrec.data.ids import IdMap
from ulrec.data.schema import CATEGORY, HELDOUT, ITEM_ID, SPLIT, SUBCATEGORY, TIMESTAMP, USER_ID
from ulrec.errors import ConfigError, DataError

__all__ = ["SimulatedWorld", "SimulationConfig", "simulate"]

KIND = "simulation"
LABEL = {"simulated": "true"}
SECONDS_PER_DAY = 86_400
NUM_HUES = 12

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationConfig:
    """What is drawn.

    Attributes
    ----------
    num_users
        Users, named u00000, u00001, ...
    mean_history, min_history
        Interactions of a user: at least the minimum, the rest from a heavy-tailed count.
    temperature
        Of the choice, in standard deviations of utility: the higher, the noisier.
    popularity_strength
        Exponent of the Zipf law of the items' hidden popularity; 0 switches it off.
    weight_category, weight_subcategory, weight_colour
        What the parts of a taste count in its utility, before it is standardised.
    colour_width
        Distance in CIELAB at which the liking for a colour has fallen to 0.61.
    max_favourites
        A user has 1 to this many favourite subcategories.
    cold_user_share
        Share of users that join after the cut.
    start
        First second of the period.
    period_days
        Its length.
    cut_share
        Share of the period before the cut, from which on held-out items exist.
    seed
        Of every draw.
    """

    num_users: int = 1500
    mean_history: float = 36.0
    min_history: int = 8
    temperature: float = 0.8
    popularity_strength: float = 0.65
    weight_category: float = 1.0
    weight_subcategory: float = 2.0
    weight_colour: float = 1.5
    colour_width: float = 25.0
    max_favourites: int = 3
    cold_user_share: float = 0.05
    start: int = 1_704_067_200
    period_days: int = 365
    cut_share: float = 0.85
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("num_users", "min_history", "temperature", "colour_width", "max_favourites")
        for name in (*positive, "period_days"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"'{name}' has to be positive, got {getattr(self, name)}")
        if not 0 <= self.cold_user_share < 1:
            raise ConfigError(f"'cold_user_share' has to be in [0, 1), got {self.cold_user_share}")
        if not 0 < self.cut_share < 1:
            raise ConfigError(f"'cut_share' has to be in (0, 1), got {self.cut_share}")
        if self.mean_history < self.min_history:
            raise ConfigError(
                f"'mean_history' ({self.mean_history}) is below 'min_history' ({self.min_history})"
            )
        if self.popularity_strength < 0:
            raise ConfigError(
                f"'popularity_strength' has to be at least 0, got {self.popularity_strength}"
            )

    @property
    def cut(self) -> int:
        """The second from which on held-out items and cold users exist."""
        return self.start + round(self.cut_share * self.period_days * SECONDS_PER_DAY)

    @property
    def end(self) -> int:
        """The second after the last."""
        return self.start + self.period_days * SECONDS_PER_DAY


@dataclass(frozen=True, kw_only=True)
class SimulatedWorld:
    """Interactions that models may see and the truth behind them, which they may not.

    Attributes
    ----------
    interactions
        [user_id, item_id, timestamp], sorted by time.
    users
        [user_id, cold, joined, num_interactions, favourite_category, favourite_subcategories,
        favourite_colour (#rrggbb)], one row per user.
    items
        [item_id, cold, released, log_popularity, colour (#rrggbb)], rows as in the catalogue.
    tastes
        Float32 arrays that :meth:`utility` is computed from: "category" (U, num_categories),
        "subcategory" (U, num_subcategories), "colour" (U, 3) CIELAB, "mean" and "scale" (U,);
        of items "item_colour" (I, 3), and int64 "item_category", "item_subcategory" (I,).
    config
        What was drawn.
    fingerprint
        Identifies the world on disk; None before it is saved.
    """

    interactions: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame
    tastes: Mapping[str, NDArray[Any]]
    config: SimulationConfig
    fingerprint: str | None = None

    @property
    def user_ids(self) -> IdMap:
        """The map of user rows."""
        return IdMap(self.users[USER_ID].to_list())

    @property
    def item_ids(self) -> IdMap:
        """The map of item rows, those of the catalogue."""
        return IdMap(self.items[ITEM_ID].to_list())

    def utility(self, user_rows: ArrayLike, item_rows: ArrayLike) -> Floats:
        """Return true utility, without popularity and noise.

        Parameters
        ----------
        user_rows, item_rows
            Rows of ``users`` and ``items``; they broadcast, so (n,) and (n,) give pairs and
            (n, 1) and (m,) a matrix.

        Returns
        -------
        NDArray[np.float32]
            Utility of the broadcast shape, in standard deviations above the mean of the catalogue.

        Raises
        ------
        DataError
            If a row does not exist (-1 marks unknown ids).
        """
        users = _rows(user_rows, len(self.users), "user")
        items = _rows(item_rows, len(self.items), "item")
        raw = _raw_utility(self.tastes, self.config, users, items)
        mean, scale = self.tastes["mean"][users], self.tastes["scale"][users]
        return np.asarray((raw - mean) / scale, np.float32)

    def save(self, folder: str | Path, *, made_from: Mapping[str, str] | None = None) -> str:
        """Write the artefact, labelled as simulated throughout; returns its fingerprint."""
        info = {"simulated": True, "cut": self.config.cut, "config": to_mapping(self.config)}
        with new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary:
            for name in ("interactions", "users", "items"):
                table: pl.DataFrame = getattr(self, name)
                table.write_parquet(temporary / f"{name}.parquet", metadata=LABEL)
            arrays = {name: np.ascontiguousarray(array) for name, array in self.tastes.items()}
            save_file(arrays, temporary / "tastes.safetensors", metadata=LABEL)
        return open_artefact(folder, kind=KIND, verify=False).fingerprint

    @classmethod
    def load(cls, folder: str | Path) -> SimulatedWorld:
        """Read and check the artefact; :func:`ulrec.checkpoint.open_artefact` names the errors."""
        folder = Path(folder)
        manifest = open_artefact(folder, kind=KIND)
        return cls(
            interactions=pl.read_parquet(folder / "interactions.parquet", glob=False),
            users=pl.read_parquet(folder / "users.parquet", glob=False),
            items=pl.read_parquet(folder / "items.parquet", glob=False),
            tastes=load_file(folder / "tastes.safetensors"),
            config=from_mapping(SimulationConfig, manifest.info["config"]),
            fingerprint=manifest.fingerprint,
        )


def simulate(
    catalogue: pl.DataFrame,
    pictures: NDArray[np.uint8],
    masks: NDArray[np.uint8] | None = None,
    config: SimulationConfig | None = None,
) -> SimulatedWorld:
    """Draw users and what they pick from a catalogue.

    Parameters
    ----------
    catalogue
        [item_id, category, subcategory, (split)]; further columns are not looked at. Items whose
        split is "heldout" are released after the cut.
    pictures
        Uint8 (I, 3, H, W), row by row those of the catalogue. Users like mean colours, so the same
        pictures at another size give a slightly different world: keep to one.
    masks
        Foreground, uint8 (I, H, W), 255 inside; without it the whole picture counts.
    config
        What is drawn; None for the defaults.

    Raises
    ------
    DataError
        If a column is absent or null, or pictures or masks have another shape or dtype.
    """
    config = SimulationConfig() if config is None else config
    _check_catalogue(catalogue, len(pictures))
    rng = np.random.default_rng(config.seed)
    tastes = _draw_tastes(catalogue, mean_colours(pictures, masks), config, rng)
    num_items = len(catalogue)
    cold = np.zeros(num_items, dtype=bool)
    if SPLIT in catalogue.columns:
        cold = (catalogue[SPLIT] == HELDOUT).to_numpy()
    released = np.where(cold, _moments(config.cut, config, num_items, rng), config.start)
    popularity = -config.popularity_strength * np.log(rng.permutation(num_items) + 1.0)
    items = pl.DataFrame(
        {
            ITEM_ID: catalogue[ITEM_ID],
            "cold": cold,
            "released": released,
            "log_popularity": popularity,
            "colour": hex_colours(tastes["item_colour"]),
        }
    )
    chosen = _choose(tastes, popularity, config, rng)
    joined = _draw_joining(config, rng)
    interactions = _draw_times(chosen, joined, items, config, rng)
    users = _describe_users(tastes, catalogue, joined, interactions, config)
    return SimulatedWorld(
        interactions=interactions, users=users, items=items, tastes=tastes, config=config
    )


def _check_catalogue(catalogue: pl.DataFrame, num_pictures: int) -> None:
    for name in (ITEM_ID, CATEGORY, SUBCATEGORY):
        if name not in catalogue.columns:
            raise DataError(f"a simulation needs the column '{name}' in the catalogue; add it")
        if catalogue[name].null_count():
            raise DataError(f"'{name}' of the catalogue is null in some rows; fill or drop them")
    if len(catalogue) != num_pictures or not num_pictures:
        raise DataError(
            f"the catalogue has {len(catalogue)} items, there are {num_pictures} pictures;"
            " keep the items that have one"
        )


def _rows(rows: ArrayLike, count: int, what: str) -> Rows:
    result = np.asarray(rows)
    if result.size and (result.dtype.kind not in "iu" or result.min() < 0 or result.max() >= count):
        raise DataError(
            f"{what} rows have to be ints in 0 .. {count - 1}; look ids up with IdMap.rows"
        )
    return result.astype(np.int64)


def _raw_utility(
    tastes: Mapping[str, NDArray[Any]],
    config: SimulationConfig,
    users: Rows | int,
    items: Rows | slice,
) -> Floats:
    category = tastes["category"][users, tastes["item_category"][items]]
    subcategory = tastes["subcategory"][users, tastes["item_subcategory"][items]]
    distance = np.square(tastes["colour"][users] - tastes["item_colour"][items]).sum(axis=-1)
    colour = np.exp(-distance / (2 * config.colour_width**2))
    utility = (
        config.weight_category * category
        + config.weight_subcategory * subcategory
        + config.weight_colour * colour
    )
    return np.asarray(utility, np.float32)


def _draw_tastes(
    catalogue: pl.DataFrame, colours: Floats, config: SimulationConfig, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Draw what every user likes; large subcategories and common hues count by a square root."""
    _, item_category = np.unique(catalogue[CATEGORY].to_numpy(), return_inverse=True)
    subcategories = catalogue[SUBCATEGORY].to_numpy()
    _, first, item_subcategory, sizes = np.unique(
        subcategories, return_index=True, return_inverse=True, return_counts=True
    )
    appeal = np.sqrt(sizes) / np.sqrt(sizes).sum()
    category = np.zeros((config.num_users, item_category.max() + 1), np.float32)
    subcategory = np.zeros((config.num_users, len(sizes)), np.float32)
    favourite = np.zeros(config.num_users, np.int64)
    colour_appeal = np.log(_colour_appeal(colours))
    for user in range(config.num_users):
        number = min(int(rng.integers(1, config.max_favourites + 1)), len(sizes))
        favourites = rng.choice(len(sizes), size=number, replace=False, p=appeal)
        strength = np.linspace(1.0, 0.6, number)
        subcategory[user, favourites] = strength
        np.maximum.at(category[user], item_category[first[favourites]], strength)
        # A draw by Gumbel-max hardly changes when pictures do, one by cumulated sums all over.
        favourite[user] = np.argmax(colour_appeal + rng.gumbel(size=len(colours)))
    tastes: dict[str, NDArray[Any]] = {
        "category": category,
        "subcategory": subcategory,
        "colour": colours[favourite],
        "item_category": item_category.astype(np.int64),
        "item_subcategory": item_subcategory.astype(np.int64),
        "item_colour": colours,
    }
    raw = (_raw_utility(tastes, config, user, slice(None)) for user in range(config.num_users))
    mean, scale = np.array([(row.mean(), row.std()) for row in raw], np.float32).T
    # A catalogue of identical items gives everybody the same, flat taste.
    return {**tastes, "mean": mean, "scale": np.where(scale > 0, scale, np.float32(1))}


def _colour_appeal(colours: Floats) -> NDArray[np.float64]:
    """Return how much each item's colour is preferred: vivid ones, of any hue."""
    _, a, b = colours.astype(np.float64).T
    hue = np.floor((np.arctan2(b, a) / (2 * np.pi) % 1) * NUM_HUES).astype(int)
    return np.asarray((10 + np.hypot(a, b)) / np.sqrt(np.bincount(hue)[hue]))


def _choose(
    tastes: Mapping[str, NDArray[Any]],
    popularity: NDArray[np.float64],
    config: SimulationConfig,
    rng: np.random.Generator,
) -> list[Rows]:
    """Draw the items of every user, in no order that depends on how much they are liked."""
    extra = config.mean_history - config.min_history
    rate = rng.gamma(2.0, extra / 2.0, size=config.num_users)
    counts = np.minimum(config.min_history + rng.poisson(rate), len(popularity))
    chosen = []
    for user, count in enumerate(counts):
        raw = _raw_utility(tastes, config, user, slice(None))
        utility = (raw - tastes["mean"][user]) / tastes["scale"][user]
        score = utility / config.temperature + popularity + rng.gumbel(size=len(popularity))
        # Sorted first, because the order that argpartition leaves depends on the machine.
        chosen.append(rng.permutation(np.sort(np.argpartition(-score, count - 1)[:count])))
    return chosen


def _moments(
    first: int, config: SimulationConfig, size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw seconds in the first half of what is left of the period after ``first``."""
    return rng.integers(first, first + max((config.end - first) // 2, 1), size=size)


def _draw_joining(config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw when users join: before six tenths of the time to the cut, or after it if cold."""
    latest = config.start + max(round(0.6 * (config.cut - config.start)), 1)
    joined = rng.integers(config.start, latest, size=config.num_users)
    num_cold = round(config.cold_user_share * config.num_users)
    cold = rng.choice(config.num_users, size=num_cold, replace=False)
    joined[cold] = _moments(config.cut, config, num_cold, rng)
    return joined


def _draw_times(
    chosen: Sequence[Rows],
    joined: NDArray[np.int64],
    items: pl.DataFrame,
    config: SimulationConfig,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Spread each user's picks over the time that both the user and the item are there."""
    released = items["released"].to_numpy()
    user_rows = np.repeat(np.arange(len(chosen)), [len(picks) for picks in chosen])
    item_rows = np.concatenate(chosen)
    earliest = np.maximum(joined[user_rows], released[item_rows])
    times = rng.integers(earliest, config.end)
    there = released[item_rows] <= joined[user_rows]
    # Joining is a first pick: who joined before the cut has at least one interaction before it.
    candidates = np.flatnonzero(there)
    first = candidates[np.unique(user_rows[candidates], return_index=True)[1]]
    times[first] = joined[user_rows[first]]
    names = np.array(_user_names(len(chosen)))
    table = pl.DataFrame(
        {USER_ID: names[user_rows], ITEM_ID: items[ITEM_ID].gather(item_rows), TIMESTAMP: times}
    )
    return table.sort(TIMESTAMP, USER_ID, ITEM_ID)


def _user_names(count: int) -> list[str]:
    return [f"u{row:05d}" for row in range(count)]


def _describe_users(
    tastes: Mapping[str, NDArray[Any]],
    catalogue: pl.DataFrame,
    joined: NDArray[np.int64],
    interactions: pl.DataFrame,
    config: SimulationConfig,
) -> pl.DataFrame:
    categories = np.unique(catalogue[CATEGORY].to_numpy())
    subcategories = np.unique(catalogue[SUBCATEGORY].to_numpy())
    strength = tastes["subcategory"]
    favourites = [
        [str(subcategories[i]) for i in np.argsort(-row, kind="stable") if row[i] > 0]
        for row in strength
    ]
    users = pl.DataFrame(
        {
            USER_ID: _user_names(config.num_users),
            "joined": joined,
            "favourite_category": categories[tastes["category"].argmax(axis=1)],
            "favourite_subcategories": favourites,
            "favourite_colour": hex_colours(tastes["colour"]),
        }
    )
    first = interactions.group_by(USER_ID).agg(
        (pl.col(TIMESTAMP).min() >= config.cut).alias("cold"),
        pl.len().cast(pl.Int64).alias("num_interactions"),
    )
    users = users.join(first, on=USER_ID, how="left", maintain_order="left")
    columns = [USER_ID, "cold", "joined", "num_interactions", "favourite_category"]
    return users.select(*columns, "favourite_subcategories", "favourite_colour")
