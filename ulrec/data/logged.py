"""Logged feedback with propensities, and policies: who was shown what, how likely, and what came.

A context is a user: pi(a|x) is the probability that a policy shows the item a to the user x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.ids import IdMap
from ulrec.data.schema import ITEM_ID, PROBABILITY, PROPENSITY, REWARD, TIMESTAMP, USER_ID
from ulrec.errors import DataError

__all__ = ["Policy", "softmax_policy", "validate_log"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

COLUMNS = (USER_ID, ITEM_ID, REWARD, PROPENSITY)
TOLERANCE = 1e-6  # of sums and of propensities: policies are often computed in float32


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The probability of every item for every user.

    Attributes
    ----------
    probabilities
        Float64 (U, I); each row sums to one.
    users, items
        Name rows and columns.

    Raises
    ------
    DataError
        If the shape is another, a probability is negative or not finite, or a row does not sum to
        one.
    """

    probabilities: Floats
    users: IdMap
    items: IdMap

    def __post_init__(self) -> None:
        expected = (len(self.users), len(self.items))
        if self.probabilities.shape != expected or self.probabilities.dtype != np.float64:
            raise DataError(
                f"probabilities have to be float64 {expected}, one row a user and one column an "
                f"item, got {self.probabilities.dtype} {self.probabilities.shape}"
            )
        if not np.all(self.probabilities >= 0):
            raise DataError("probabilities have to be at least 0, some are negative or NaN")
        sums = self.probabilities.sum(axis=1)
        bad = np.flatnonzero(~(np.abs(sums - 1) <= TOLERANCE))
        if len(bad):
            raise DataError(
                f"the probabilities of {len(bad)} of {len(sums)} users do not sum to one, such as "
                f"{sums[bad[0]]:.6g} of {self.users.ids[bad[0]].item()!r}; list every item that "
                "the policy may show, and divide by the sum only if none is missing"
            )

    @classmethod
    def from_table(cls, table: pl.DataFrame, *, items: IdMap) -> Policy:
        """Build a policy from a table [user_id, item_id, probability]; what is not in it is 0.

        Parameters
        ----------
        table
            One row a pair.
        items
            All items, those that the policy never shows included.

        Raises
        ------
        DataError
            If a column is missing, a pair repeats, an item is unknown, or a user's probabilities
            do not sum to one.
        """
        missing = [name for name in (USER_ID, ITEM_ID, PROBABILITY) if name not in table.columns]
        if missing:
            raise DataError(f"a policy needs the columns {missing}, got {table.columns}; add them")
        users = IdMap(table[USER_ID].unique(maintain_order=True).to_list())
        rows, columns = users.rows(table[USER_ID].to_list()), items.rows(table[ITEM_ID].to_list())
        repeats = table.select(USER_ID, ITEM_ID).is_duplicated().sum()
        if repeats:
            raise DataError(f"{repeats} rows of a policy share user and item; keep one of each")
        probabilities = np.zeros((len(users), len(items)))
        values = table[PROBABILITY].cast(pl.Float64).fill_null(float("nan"))
        probabilities[rows, columns] = values.to_numpy()
        return cls(probabilities=probabilities, users=users, items=items)

    def require(self, users: Sequence[Any] | NDArray[Any], *, what: str) -> Rows:
        """Return the rows of users (n,).

        Raises
        ------
        DataError
            If a user is unknown; ``what`` is what the message calls the policy.
        """
        return _known(self.users, users, f"users of the log are unknown to {what}")

    def logged(self, log: pl.DataFrame) -> tuple[Rows, Rows]:
        """Return the rows of a log's users and items, (n,) each, if this policy wrote the log.

        Parameters
        ----------
        log
            A valid log.

        Raises
        ------
        DataError
            If a user or an item is unknown, or a propensity is not the probability given here.
        """
        users = self.require(log[USER_ID].to_list(), what="the logging policy")
        items = self.items.rows(log[ITEM_ID].to_list())
        logged, known = log[PROPENSITY].to_numpy(), self.probabilities[users, items]
        bad = np.flatnonzero(~(np.abs(logged - known) <= TOLERANCE * logged))
        if len(bad):
            raise DataError(
                f"{len(bad)} propensities of the log are not those of the logging policy, such as "
                f"{logged[bad[0]]:.6g} against {known[bad[0]]:.6g}; give the policy that logged"
            )
        return users, items

    def aligned(self, items: IdMap, *, what: str) -> Policy:
        """Return the policy with columns in the order of ``items``.

        Raises
        ------
        DataError
            If the two sets of items differ; ``what`` is what the message calls the policy.
        """
        if items == self.items:
            return self
        if len(items) != len(self.items):
            raise DataError(
                f"{what} knows {len(self.items)} items, the target policy {len(items)}; give both "
                "all items, with probability 0 where one is never shown"
            )
        columns = _known(self.items, items.ids, f"items of the target are unknown to {what}")
        return Policy(probabilities=self.probabilities[:, columns], users=self.users, items=items)


def softmax_policy(
    scores: ArrayLike, *, users: IdMap, items: IdMap, temperature: float, explore: float = 0.0
) -> Policy:
    """Return pi(a|x) = (1 - explore) softmax(scores / temperature) + explore / I.

    Parameters
    ----------
    scores
        (U, I).
    users, items
        Name its rows and columns.
    temperature
        Above 0; the lower, the greedier.
    explore
        Share of traffic that is shown any item, in [0, 1]: what gives every item a propensity.

    Raises
    ------
    DataError
        If a score is not finite or a setting is out of its range.
    """
    logits = np.asarray(scores, np.float64)
    if not temperature > 0 or not 0 <= explore <= 1:
        raise DataError(
            f"expected temperature > 0 and 0 <= explore <= 1, got {temperature} and {explore}"
        )
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise DataError(f"scores have to be finite (U, I), got {logits.shape} with NaN or infinity")
    logits = logits / temperature
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    greedy = weight / weight.sum(axis=1, keepdims=True)
    mixed = (1 - explore) * greedy + explore / logits.shape[1]
    return Policy(probabilities=mixed, users=users, items=items)


def validate_log(table: pl.DataFrame, *, source: str = "the log") -> pl.DataFrame:
    """Check logged feedback [user_id, item_id, reward, propensity, (timestamp)].

    Parameters
    ----------
    table
        One row per item shown: what came of it, and the probability with which the logging policy
        showed it. Rows that agree in user, item and timestamp are duplicates; without timestamps
        those that agree in user and item are.
    source
        What messages call the table.

    Returns
    -------
    pl.DataFrame
        The columns above; reward and propensity are Float64.

    Raises
    ------
    DataError
        If propensities are absent, a column is missing or null, a reward is not finite, a
        propensity lies outside (0, 1], or rows are duplicates.
    """
    if PROPENSITY not in table.columns:
        raise DataError(
            f"{source} has no column '{PROPENSITY}': without the probability with which each item "
            "was shown there is no counterfactual estimate, and it is never assumed to be uniform; "
            "log it where items are chosen"
        )
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing or table.is_empty():
        raise DataError(
            f"{source} needs rows and the columns {', '.join(COLUMNS)}; got {table.height} rows of "
            f"{table.columns}"
        )
    present = [*COLUMNS, *([TIMESTAMP] if TIMESTAMP in table.columns else [])]
    table = table.select(present)
    for name in (REWARD, PROPENSITY):
        if not table[name].dtype.is_numeric() and table[name].dtype != pl.Boolean:
            raise DataError(f"'{name}' of {source} has to be numbers, got {table[name].dtype}")
    table = table.with_columns(pl.col(REWARD, PROPENSITY).cast(pl.Float64))
    _check_rows(table, source)
    return table


def _check_rows(table: pl.DataFrame, source: str) -> None:
    for name in table.columns:
        if table[name].null_count():
            raise DataError(
                f"'{name}' of {source} is null in {table[name].null_count()} rows; drop those rows "
                "only if that does not depend on the reward"
            )
    bad = table.filter(~pl.col(REWARD).is_finite())
    if bad.height:
        raise DataError(
            f"'{REWARD}' of {source} has to be finite, {bad.height} of {table.height} rows are "
            f"NaN or infinite, such as that of user {bad[USER_ID][0]!r}; a missing reward is not 0"
        )
    bad = table.filter(~((pl.col(PROPENSITY) > 0) & (pl.col(PROPENSITY) <= 1)))
    if bad.height:
        raise DataError(
            f"'{PROPENSITY}' of {source} has to lie in (0, 1], {bad.height} rows do not, such as "
            f"{bad[PROPENSITY][0]}; what was shown had a probability above 0"
        )
    keys = [name for name in (USER_ID, ITEM_ID, TIMESTAMP) if name in table.columns]
    repeats = table.select(keys).is_duplicated().sum()
    if repeats:
        remedy = "drop the copies"
        if TIMESTAMP not in keys:
            remedy += f", or add the column '{TIMESTAMP}' if an item was shown to a user again"
        raise DataError(f"{repeats} rows of {source} share {' + '.join(keys)}; {remedy}")


def _known(ids: IdMap, wanted: Sequence[Any] | NDArray[Any], complaint: str) -> Rows:
    rows = ids.find(wanted)
    unknown = np.unique(np.asarray(wanted)[rows < 0]).tolist()
    if unknown:
        examples = ", ".join(map(repr, unknown[:3]))
        raise DataError(f"{len(unknown)} {complaint}, such as {examples}; use the ids of one table")
    return rows
