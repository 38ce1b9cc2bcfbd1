"""Splits of interactions in time, with what leaks and who is cold stated in ``info``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.schema import ITEM_ID, TIMESTAMP, TRAIN, USER_ID
from ulrec.data.tables import validate_interactions
from ulrec.errors import ConfigError, DataError

__all__ = [
    "SPLITS",
    "Split",
    "SplitConfig",
    "deduplicate",
    "global_time",
    "leave_last",
    "split",
]

_TIE = "__tie"
_FROM_END = "__from_end"
_COUNT = "__count"


@dataclass(frozen=True, kw_only=True)
class Split:
    """Three tables with the columns of the interactions; every row is in exactly one of them.

    ``info`` is plain data: what was done, sizes, times, cold users and items (those without a row
    in ``train``), and whether the split leaks global time.
    """

    train: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    info: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """How interactions are split.

    Attributes
    ----------
    name
        "global_time" uses the times or shares, "leave_last" the counts and the seed.
    test_from, validation_from
        First second of test and of validation; each takes the place of its share.
    test_share, validation_share
        Share of all interactions, the newest in test, those before them in validation.
    k_test, k_validation
        Interactions of every user, the newest in test, those before them in validation.
    seed
        Of the key that breaks ties in time.
    """

    name: Literal["global_time", "leave_last"] = "global_time"
    test_from: int | None = None
    validation_from: int | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    k_test: int = 1
    k_validation: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_shares(self.test_share, self.validation_share)
        _check_counts(self.k_test, self.k_validation)


def split(config: SplitConfig, interactions: pl.DataFrame) -> Split:
    """Split interactions [user_id, item_id, timestamp, (weight)] as the configuration says.

    Raises
    ------
    DataError
        If the table is not valid, has no timestamps, or nothing is left to train or test on.
    """
    return SPLITS[config.name](config, interactions)


def deduplicate(interactions: pl.DataFrame, *, keep: Literal["first", "last"]) -> pl.DataFrame:
    """Keep one row per (user, item), the first or the last in time (in row order without times).

    Row order is kept, and decides where the times are equal.

    Examples
    --------
    >>> twice = pl.DataFrame({"user_id": [1, 1], "item_id": [7, 7], "timestamp": [20, 10]})
    >>> deduplicate(twice, keep="first").rows()
    [(1, 7, 10)]
    """
    pair = [USER_ID, ITEM_ID]
    absent = [name for name in pair if name not in interactions.columns]
    if absent:
        raise DataError(f"the interactions have no column '{absent[0]}'; rename the one that it is")
    order = [TIMESTAMP, _TIE] if TIMESTAMP in interactions.columns else [_TIE]
    return (
        interactions.with_row_index(_TIE)
        .sort(order)
        .unique(subset=pair, keep=keep, maintain_order=True)
        .sort(_TIE)
        .drop(_TIE)
    )


def leave_last(
    interactions: pl.DataFrame, *, k_test: int = 1, k_validation: int = 0, seed: int = 0
) -> Split:
    """Hold out the last interactions of every user.

    It leaks global time: another user's train rows may be younger than this user's test row. The
    share of such test rows stands in ``info``.

    Parameters
    ----------
    interactions
        [user_id, item_id, timestamp, (weight)].
    k_test, k_validation
        The newest ``k_test`` rows of a user go to test, the ``k_validation`` before them to
        validation. Users without at least one more row stay in train whole and are counted.
    seed
        Of the random key that breaks ties in time; it does not depend on the order of rows.

    Raises
    ------
    DataError
        If the table is not valid, has no timestamps, or no user has enough interactions.
    """
    _check_counts(k_test, k_validation)
    held = k_test + k_validation
    placed = _place_from_end(_with_times(interactions), seed)
    enough, from_end = pl.col(_COUNT) > held, pl.col(_FROM_END)
    test = placed.filter(enough & (from_end < k_test))
    validation = placed.filter(enough & (from_end >= k_test) & (from_end < held))
    train = placed.filter(~enough | (from_end >= held))
    if not len(test):
        raise DataError(
            f"no user has more than {held} interactions, leave_last(k_test={k_test},"
            f" k_validation={k_validation}) needs one more for train; hold out fewer"
        )
    too_few = placed.filter(~enough)[USER_ID].n_unique()
    info = {
        "name": "leave_last",
        "k_test": k_test,
        "k_validation": k_validation,
        "seed": seed,
        "num_users_too_few": too_few,
        "num_users_tied_at_cut": _count_ties(test, train if not k_validation else validation),
        "leaks_global_time": True,
        "share_of_test_older_than_train_end": _older(test, train),
        "note": "per-user split: models may learn from other users' later interactions",
    }
    drop = [_TIE, _FROM_END, _COUNT]
    return _finish(train.drop(drop), validation.drop(drop), test.drop(drop), info)


def global_time(
    interactions: pl.DataFrame,
    *,
    test_from: int | None = None,
    validation_from: int | None = None,
    test_share: float | None = None,
    validation_share: float | None = None,
) -> Split:
    """Hold out everything from a moment on: nothing in train is younger than what is predicted.

    Parameters
    ----------
    interactions
        [user_id, item_id, timestamp, (weight)].
    test_from, test_share
        Exactly one: the first second of test, or the share of newest rows. Rows of one second
        stay together, so a share is met up to ties; the actual one is in ``info``.
    validation_from, validation_share
        At most one, likewise; validation ends where test begins. Without either it is empty.

    Raises
    ------
    DataError
        If the table is not valid, has no timestamps, or train or test would be empty.
    ConfigError
        If the boundaries are given twice, not at all, or in the wrong order.
    """
    _check_bounds(test_from, validation_from, test_share, validation_share)
    table = _with_times(interactions).sort(TIMESTAMP, USER_ID, ITEM_ID)
    times = table[TIMESTAMP].to_numpy()
    test_at = _boundary(times, test_from, test_share, stop=len(times))
    stop = int(np.searchsorted(times, test_at))
    validation_at = test_at
    if validation_from is not None or validation_share:
        validation_at = _boundary(times, validation_from, validation_share, stop=stop)
    start = int(np.searchsorted(times, validation_at))
    if start == 0 or stop == len(times):
        side = "train" if start == 0 else "test"
        raise DataError(
            f"{side} would be empty: the interactions span {times[0]} to {times[-1]}, validation"
            f" begins at {validation_at} and test at {test_at}; move the boundaries"
        )
    info = {
        "name": "global_time",
        "validation_from": int(validation_at),
        "test_from": int(test_at),
        "validation_share": (stop - start) / len(times),
        "test_share": (len(times) - stop) / len(times),
        "leaks_global_time": False,
        "note": "global split: users and items that appear later are cold, see the counts",
    }
    return _finish(table[:start], table[start:stop], table[stop:], info)


def _with_times(interactions: pl.DataFrame) -> pl.DataFrame:
    table = validate_interactions(interactions)
    if TIMESTAMP not in table.columns:
        raise DataError(f"a split in time needs the column '{TIMESTAMP}' (int64 seconds); add it")
    return table


def _place_from_end(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Add the place from the end of each user's history (0 is the newest) and its length."""
    table = table.sort(USER_ID, ITEM_ID)
    key = np.random.default_rng(seed).permutation(len(table))
    count = pl.len().over(USER_ID)
    return (
        table.with_columns(pl.Series(_TIE, key))
        .sort(USER_ID, TIMESTAMP, _TIE)
        .with_columns(count.alias(_COUNT).cast(pl.Int64))
        .with_columns((pl.col(_COUNT) - 1 - pl.int_range(pl.len()).over(USER_ID)).alias(_FROM_END))
    )


def _count_ties(later: pl.DataFrame, earlier: pl.DataFrame) -> int:
    """Count users whose oldest row in ``later`` is as old as their newest in ``earlier``."""
    oldest = later.group_by(USER_ID).agg(pl.col(TIMESTAMP).min())
    newest = earlier.group_by(USER_ID).agg(pl.col(TIMESTAMP).max())
    return len(oldest.join(newest, on=[USER_ID, TIMESTAMP]))


def _older(test: pl.DataFrame, train: pl.DataFrame) -> float:
    end = train[TIMESTAMP].to_numpy().max()
    return float(np.mean(test[TIMESTAMP].to_numpy() < end))


def _boundary(times: NDArray[np.int64], at: int | None, share: float | None, *, stop: int) -> int:
    """Return the first second of a part that ends before row ``stop`` of the sorted times."""
    if at is not None:
        return at
    rows = round((share or 0.0) * len(times))
    return int(times[max(min(stop - rows, len(times) - 1), 0)])


def _finish(
    train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame, info: dict[str, Any]
) -> Split:
    parts = {TRAIN: train, "validation": validation, "test": test}
    sizes = {name: _describe(part, train) for name, part in parts.items()}
    return Split(train=train, validation=validation, test=test, info={**info, **sizes})


def _describe(part: pl.DataFrame, train: pl.DataFrame) -> dict[str, Any]:
    cold_user = ~pl.col(USER_ID).is_in(train[USER_ID].unique().implode())
    cold_item = ~pl.col(ITEM_ID).is_in(train[ITEM_ID].unique().implode())
    times = part[TIMESTAMP].to_list()
    return {
        "num_rows": len(part),
        "num_users": part[USER_ID].n_unique(),
        "num_items": part[ITEM_ID].n_unique(),
        "num_cold_users": part.filter(cold_user)[USER_ID].n_unique(),
        "num_cold_items": part.filter(cold_item)[ITEM_ID].n_unique(),
        "num_rows_cold": len(part.filter(cold_user | cold_item)),
        "time_first": min(times, default=None),
        "time_last": max(times, default=None),
    }


def _check_counts(k_test: int, k_validation: int) -> None:
    if k_test < 1 or k_validation < 0:
        raise ConfigError(
            f"'k_test' has to be at least 1 and 'k_validation' at least 0, got {k_test} and"
            f" {k_validation}"
        )


def _check_shares(test: float | None, validation: float | None) -> None:
    test, validation = (0.0 if share is None else share for share in (test, validation))
    if not (test >= 0 and validation >= 0 and test + validation < 1):
        raise ConfigError(
            "'test_share' and 'validation_share' have to be at least 0 and below 1 together, got"
            f" {test} and {validation}"
        )


def _check_bounds(
    test_from: int | None,
    validation_from: int | None,
    test_share: float | None,
    validation_share: float | None,
) -> None:
    _check_shares(test_share, validation_share)
    if (test_from is None) == (not test_share):
        raise ConfigError(
            f"give either 'test_from' or 'test_share', got {test_from} and {test_share}"
        )
    if validation_from is not None and validation_share:
        raise ConfigError(
            f"give 'validation_from' or 'validation_share', got {validation_from} and"
            f" {validation_share}"
        )
    if test_from is not None and validation_from is not None and validation_from > test_from:
        raise ConfigError(f"validation ({validation_from}) has to begin before test ({test_from})")


def _split_by_time(config: SplitConfig, interactions: pl.DataFrame) -> Split:
    return global_time(
        interactions,
        test_from=config.test_from,
        validation_from=config.validation_from,
        test_share=config.test_share if config.test_from is None else None,
        validation_share=config.validation_share if config.validation_from is None else None,
    )


def _split_by_user(config: SplitConfig, interactions: pl.DataFrame) -> Split:
    return leave_last(
        interactions, k_test=config.k_test, k_validation=config.k_validation, seed=config.seed
    )


SPLITS: Mapping[str, Callable[[SplitConfig, pl.DataFrame], Split]] = {
    "global_time": _split_by_time,
    "leave_last": _split_by_user,
}
