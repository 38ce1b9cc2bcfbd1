"""Tables of recommendations and truth, checked, and read without building a key for every row.

Millions of recommended rows are the rule, so nothing here sorts them as a whole: rows that stand
user by user in order of rank, as recommenders write them, are only looked through, a block of lists
at a time. Rows in another order are sorted first, and mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.schema import ITEM_ID, RANK, SCORE, USER_ID
from ulrec.errors import DataError

__all__ = [
    "Block",
    "RankedLists",
    "Truth",
    "check_columns",
    "check_same_ids",
    "plain_ids",
    "read_lists",
    "read_truth",
    "rows_of",
]

IntArray = NDArray[np.int64]

BLOCK = 32_768


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some lists of one length n: their numbers (B,), and their rows as a slice or (B * n,)."""

    lists: IntArray
    length: int
    rows: slice | IntArray


@dataclass(frozen=True, kw_only=True)
class RankedLists:
    """Recommendations, one list after the other, each in order of rank.

    Attributes
    ----------
    users
        The user of each list, (U,), different ones.
    items
        The recommended items, (N,).
    starts
        Where lists begin in ``items``, and its end, (U + 1,).
    """

    users: pl.Series
    items: pl.Series
    starts: IntArray

    @property
    def lengths(self) -> IntArray:
        """The number of items in each list, (U,)."""
        return np.diff(self.starts)

    def blocks(self) -> Iterator[Block]:
        """Yield all lists, some of one length at a time, such that a block fits into the cache."""
        return _blocks(self.starts)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What users liked later.

    ``users`` (U,) are the different users in order of appearance, ``user_idx`` (P,) the row of each
    pair among them, ``items`` (P,) the items of the pairs.
    """

    users: pl.Series
    user_idx: IntArray
    items: pl.Series


def read_lists(recommendations: pl.DataFrame) -> RankedLists:
    """Return checked recommendations [user_id, item_id, score, rank] as lists.

    That no item repeats within a list is not looked at here.

    Raises
    ------
    DataError
        If a column is missing, null or of a wrong type, a score is NaN, or the ranks of a user are
        not 1..n.
    """
    check_columns("recommendations", recommendations, (USER_ID, ITEM_ID, SCORE, RANK))
    score, rank = recommendations[SCORE], recommendations[RANK]
    if not score.dtype.is_numeric():
        raise DataError(f"{SCORE} has to be a number, got {score.dtype}")
    if not rank.dtype.is_integer():
        raise DataError(f"{RANK} has to be a whole number, got {rank.dtype}; cast the column")
    # The least value is NaN where any is: far quicker to find than a mask of them.
    if score.dtype.is_float() and len(score) and np.isnan(score.to_numpy().min()):
        raise DataError(f"{score.is_nan().sum()} scores are NaN; mend the model that gave them")
    table = recommendations.select(
        plain_ids("recommendations", recommendations[USER_ID]),
        plain_ids("recommendations", recommendations[ITEM_ID]),
        rank.cast(pl.Int64, strict=False).fill_null(0),  # what does not fit is no rank either
    )
    lists = _as_lists(table) or _as_lists(table[_by_user_and_rank(table)])
    lists = lists or _as_lists(table.sort(USER_ID, RANK))  # where hashes of users collide
    if lists is None:
        raise DataError(
            f"the ranks of {_num_wrong(table)} users are not 1, 2, ..., n without gap or tie; rank "
            "each user's items anew, ties broken by a fixed random key"
        )
    return lists


def read_truth(truth: pl.DataFrame) -> Truth:
    """Return the checked truth [user_id, item_id].

    That no pair repeats is not looked at here.

    Raises
    ------
    DataError
        If a column is missing, null or of a wrong type, or there are no rows.
    """
    check_columns("truth", truth, (USER_ID, ITEM_ID))
    if truth.is_empty():
        raise DataError("the truth has no rows, nothing can be evaluated; check the split")
    ids = plain_ids("truth", truth[USER_ID])
    starts = _starts(ids)
    users = ids.gather(starts[:-1])
    user_idx = np.repeat(np.arange(len(users)), np.diff(starts))
    if users.n_unique() < len(users):
        users = ids.unique(maintain_order=True)
        user_idx = rows_of(users, ids)
    return Truth(users=users, user_idx=user_idx, items=plain_ids("truth", truth[ITEM_ID]))


def plain_ids(name: str, ids: pl.Series) -> pl.Series:
    """Return ids as Int64 or String.

    Raises
    ------
    DataError
        If they are of another kind, or do not fit into Int64.
    """
    if ids.dtype.is_integer():
        if ids.dtype == pl.UInt64 and len(ids) and int(ids.max()) >= 2**63:  # type: ignore[arg-type]
            raise DataError(f"{ids.name} of the {name} exceeds Int64; cast the column to String")
        return ids.cast(pl.Int64)
    if isinstance(ids.dtype, pl.String | pl.Categorical | pl.Enum):
        return ids.cast(pl.String)
    raise DataError(f"{ids.name} of the {name} has to be str or int, got {ids.dtype}; cast it")


def check_same_ids(lists: RankedLists, truth: Truth) -> None:
    """Refuse ids that are int in one table and str in the other."""
    for column, ours, theirs in (
        (USER_ID, lists.users.dtype, truth.users.dtype),
        (ITEM_ID, lists.items.dtype, truth.items.dtype),
    ):
        if ours != theirs:
            raise DataError(
                f"{column} is {ours} in the recommendations and {theirs} in the truth; cast one"
            )


def rows_of(known: pl.Series, wanted: pl.Series) -> IntArray:
    """Return the row of each wanted id among the known, different ones, -1 where there is none."""
    if len(known) == len(wanted) and known.equals(wanted):
        return np.arange(len(known))
    numbered = pl.DataFrame({"id": known, "row": np.arange(len(known))})
    joined = (
        wanted.rename("id").to_frame().join(numbered, on="id", how="left", maintain_order="left")
    )
    return joined["row"].fill_null(-1).to_numpy()


def _blocks(starts: IntArray) -> Iterator[Block]:
    lengths = np.diff(starts)
    order = np.argsort(lengths, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(lengths[order])) + 1, len(order))
    for first, end in zip([0, *ends], ends, strict=False):
        if first == end:
            continue
        length = int(lengths[order[first]])
        step = max(1, BLOCK // length)
        for start in range(first, end, step):
            lists = order[start : min(start + step, end)]
            rows: slice | IntArray
            if lists[-1] - lists[0] == len(lists) - 1:
                rows = slice(int(starts[lists[0]]), int(starts[lists[-1] + 1]))
            else:
                rows = (starts[lists][:, None] + np.arange(length)).ravel()
            yield Block(lists=lists, length=length, rows=rows)


def _starts(ids: pl.Series) -> IntArray:
    """Return where runs of one id begin, and the end: (R + 1,)."""
    if ids.is_empty():
        return np.zeros(1, np.int64)
    changes = np.flatnonzero((ids[1:] != ids[:-1]).to_numpy()) + 1
    return np.concatenate([[0], changes, [len(ids)]])


def _by_user_and_rank(table: pl.DataFrame) -> IntArray:
    """Return an order (N,) that brings the rows of a user together, and into order of rank.

    Numbers are sorted, which is far quicker than sorting by two columns: user, rank and row in one
    number where they fit, else a hash of the user with the rank.
    """
    users, rank = table[USER_ID], table[RANK].to_numpy()
    rank_bits, row_bits = int(np.abs(rank).max()).bit_length(), len(rank).bit_length()
    if users.dtype == pl.Int64:
        ids = users.to_numpy()
        least = int(ids.min())
        if (int(ids.max()) - least).bit_length() + rank_bits + row_bits < 64:
            keys = (((ids - least) << rank_bits | rank) << row_bits) | np.arange(len(rank))
            keys.sort()
            return np.asarray(keys & ((1 << row_bits) - 1))
    hashes = users.hash(0).to_numpy()
    return np.argsort(hashes << np.uint64(rank_bits) | rank.astype(np.uint64))


def _as_lists(table: pl.DataFrame) -> RankedLists | None:
    """Return the rows as lists; None where they do not stand user by user with ranks 1..n."""
    starts = _starts(table[USER_ID])
    rank = table[RANK].to_numpy()
    users = table[USER_ID].gather(starts[:-1])
    if (rank[starts[:-1]] != 1).any() or users.n_unique() < len(users):
        return None
    for block in _blocks(starts):
        ranks = rank[block.rows].reshape(-1, block.length)
        if (ranks != np.arange(1, block.length + 1)).any():
            return None
    return RankedLists(users=users, items=table[ITEM_ID], starts=starts)


def _num_wrong(table: pl.DataFrame) -> int:
    wrong = (pl.col(RANK).sort() != pl.int_range(1, pl.len() + 1)).any()
    return int(table.group_by(USER_ID).agg(wrong)[RANK].sum())


def check_columns(name: str, table: pl.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table without these columns, or with nulls in them."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"the {name} lack the columns {missing}; they have {table.columns}")
    nulls = {column: n for column in columns if (n := table[column].null_count())}
    if nulls:
        raise DataError(f"the {name} hold nulls ({nulls}); drop or mend those rows")
