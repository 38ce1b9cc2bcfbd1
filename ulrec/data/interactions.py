"""Interactions as a sparse matrix with the maps of its rows and columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ulrec.data.ids import IdMap
from ulrec.data.schema import ITEM_ID, USER_ID, WEIGHT
from ulrec.errors import DataError

__all__ = ["Interactions"]


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Who liked what: ``user_items`` is CSR (num_users, num_items) float32, one entry a pair.

    ``users`` and ``items`` name its rows and columns. Users and items without interactions keep
    their (empty) row or column, so that indices agree everywhere in a run.
    """

    user_items: sparse.csr_matrix
    users: IdMap
    items: IdMap

    def __post_init__(self) -> None:
        expected = (len(self.users), len(self.items))
        if self.user_items.shape != expected:
            raise DataError(
                f"user_items has shape {self.user_items.shape}, the id maps say {expected}"
            )

    @classmethod
    def from_table(
        cls, table: pl.DataFrame, *, users: IdMap | None = None, items: IdMap | None = None
    ) -> Interactions:
        """Build the matrix from a table [user_id, item_id, (weight)].

        Parameters
        ----------
        table
            One row per pair; weight 1 where there is no such column.
        users, items
            Maps to use; by default those of the ids in the table, sorted.

        Raises
        ------
        DataError
            If a pair repeats, an id is not in its map, or a weight is not positive and finite.
        """
        users = IdMap(table[USER_ID].unique().sort().to_list()) if users is None else users
        items = IdMap(table[ITEM_ID].unique().sort().to_list()) if items is None else items
        user_idx = users.rows(table[USER_ID].to_list())
        item_idx = items.rows(table[ITEM_ID].to_list())
        weight = np.ones(len(table), np.float32)
        if WEIGHT in table.columns:
            weight = table[WEIGHT].cast(pl.Float32).to_numpy()
        if not np.all(np.isfinite(weight) & (weight > 0)):
            raise DataError("weights have to be positive and finite; filter the interactions table")
        matrix = sparse.csr_matrix(
            (weight, (user_idx, item_idx)), shape=(len(users), len(items)), dtype=np.float32
        )
        if matrix.nnz != len(table):
            repeats = len(table) - matrix.nnz
            raise DataError(
                f"{repeats} (user, item) pairs repeat; aggregate them before (last, sum, max)"
            )
        matrix.sort_indices()
        return cls(user_items=matrix, users=users, items=items)

    @property
    def num_users(self) -> int:
        """Rows, users without interactions included."""
        return int(self.user_items.shape[0])

    @property
    def num_items(self) -> int:
        """Columns, items without interactions included."""
        return int(self.user_items.shape[1])

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (user_idx, item_idx) of every entry, each of shape (nnz,), in row order."""
        counts = np.diff(self.user_items.indptr)
        user_idx = np.repeat(np.arange(self.num_users, dtype=np.int64), counts)
        return user_idx, self.user_items.indices.astype(np.int64)

    def history(self, user_idx: int) -> NDArray[np.int64]:
        """Return the item rows of one user, shape (n,)."""
        start, stop = self.user_items.indptr[user_idx : user_idx + 2]
        return np.asarray(self.user_items.indices[start:stop], dtype=np.int64)

    def popularity(self) -> NDArray[np.int64]:
        """Return the number of users of each item, shape (num_items,)."""
        return np.bincount(self.user_items.indices, minlength=self.num_items).astype(np.int64)
