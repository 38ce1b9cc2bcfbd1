"""The only place where ids of the outside world become rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ulrec.errors import DataError

__all__ = ["IdMap"]

Ids = NDArray[Any]


class IdMap:
    """A bijection between unique ids (all str or all int64) and rows 0 .. n - 1.

    Parameters
    ----------
    ids
        The ids in row order, shape (n,).

    Raises
    ------
    DataError
        If ids repeat, are null, or mix types.

    Examples
    --------
    >>> items = IdMap(["cat", "dog", "owl"])
    >>> items.rows(["owl", "cat"]).tolist()
    [2, 0]
    >>> items[[1]].tolist()
    ['dog']
    """

    def __init__(self, ids: Sequence[Any] | Ids) -> None:
        self.ids = _as_ids(ids)
        self._order = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._order]
        repeated = self._sorted[1:][self._sorted[1:] == self._sorted[:-1]]
        if len(repeated):
            examples = ", ".join(repr(i) for i in repeated[:3].tolist())
            raise DataError(
                f"ids have to be unique; {len(repeated)} repeat, such as {examples}; drop them"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Any) -> Ids:
        """Return the ids of rows, which are never negative: -1 stands for an unknown id."""
        if not isinstance(rows, slice) and np.any(np.asarray(rows) < 0):
            raise DataError("rows have to be at least 0; -1 stands for unknown, drop those first")
        return np.asarray(self.ids[rows])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and np.array_equal(self.ids, other.ids)

    __hash__ = None  # type: ignore[assignment]

    def find(self, ids: Sequence[Any] | Ids) -> NDArray[np.int64]:
        """Return the row of each id, shape (n,), and -1 where an id is unknown."""
        if len(ids) == 0 or len(self) == 0:
            return np.full(len(ids), -1, dtype=np.int64)
        wanted = _as_ids(ids)
        if wanted.dtype.kind != self.ids.dtype.kind:
            raise DataError(
                f"ids are of type {_type_name(self.ids)} here, got {_type_name(wanted)};"
                " cast one of the tables"
            )
        position = np.minimum(np.searchsorted(self._sorted, wanted), len(self) - 1)
        rows = self._order[position]
        return np.where(self.ids[rows] == wanted, rows, -1).astype(np.int64)

    def rows(self, ids: Sequence[Any] | Ids) -> NDArray[np.int64]:
        """Return the row of each id, shape (n,).

        Raises
        ------
        DataError
            If an id is unknown; the first few are named.
        """
        rows = self.find(ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            examples = ", ".join(repr(np.asarray(ids)[i].item()) for i in unknown[:3])
            raise DataError(
                f"{len(unknown)} of {len(rows)} ids are unknown, such as {examples};"
                " check the id map"
            )
        return rows

    @property
    def fingerprint(self) -> str:
        """A short digest of the ids and their order."""
        text = "\x00".join(map(str, self.ids.tolist()))
        return hashlib.sha256(f"{self.ids.dtype.kind}\x00{text}".encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write the ids as a parquet table of one column."""
        pq.write_table(pa.table({"id": self.ids.tolist()}), path)

    @classmethod
    def load(cls, path: Path) -> IdMap:
        """Read what :meth:`save` wrote."""
        return cls(pq.read_table(path).column("id").to_pylist())


def _as_ids(ids: Sequence[Any] | Ids) -> Ids:
    if isinstance(ids, str):
        raise DataError(f"ids have to be a sequence, got the single id {ids!r}; write [{ids!r}]")
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iU":
        return ids.astype(np.int64) if ids.dtype.kind == "i" else ids
    values = list(ids)
    types = {type(v) for v in values}
    if all(issubclass(t, str) for t in types):  # np.str_ too: what indexing an array of ids gives
        return np.array(values, dtype=np.str_)
    if all(issubclass(t, int | np.integer) and t is not bool for t in types):
        try:
            return np.array([int(v) for v in values], dtype=np.int64)
        except OverflowError as error:
            raise DataError(f"int ids have to fit into int64 ({error}); use str") from error
    names = ", ".join(sorted(t.__name__ for t in types))
    raise DataError(f"ids have to be all str or all int, got {names}; cast the column")


def _type_name(ids: Ids) -> str:
    return "str" if ids.dtype.kind == "U" else "int"
