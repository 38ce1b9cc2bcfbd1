"""Where recommendations meet the truth, found exactly and without sorting all recommendations.

Ids are compared by numbers that stand for them: ints for themselves, strings for their hashes, cut
to 32 bits at first because those sort thrice as fast. Different ids may thus collide. What follows
from equal numbers is always confirmed with the ids, and where a collision would hide something, all
is done again with other numbers: the result never rests on a hash.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.errors import DataError
from ulrec.evaluation.lists import RankedLists, Truth, check_same_ids, rows_of

__all__ = ["Hits", "find_hits"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Numbers = NDArray[Any]

# Odd, so that no two users share a shift of their items' numbers.
SPREAD = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Where recommendations meet the truth: all that a metric may know.

    Attributes
    ----------
    user_idx, rank, ordinal
        Of each hit its user, its rank from 1, and which of its user's hits it is from 1, (H,); the
        hits of a user stand together in order of rank.
    num_truth, num_listed
        The number of items in each user's truth and list, (U,).
    num_unseen
        The number of items that each user's list was picked from, (U,); None where nobody said.
    """

    user_idx: IntArray
    rank: IntArray
    ordinal: IntArray
    num_truth: IntArray
    num_listed: IntArray
    num_unseen: IntArray | None = None

    def sum_per_user(self, weights: FloatArray, k: int) -> FloatArray:
        """Return (U,) sums of the weights (H,) of hits at rank k or better."""
        weights = np.where(self.rank <= k, weights, 0.0)
        sums = np.bincount(self.user_idx, weights=weights, minlength=len(self.num_truth))
        return sums.astype(np.float64, copy=False)

    def count_per_user(self, k: int) -> FloatArray:
        """Return (U,) numbers of hits at rank k or better."""
        return self.sum_per_user(np.ones(len(self.rank)), k)


def find_hits(lists: RankedLists, truth: Truth) -> Hits:
    """Return the hits of users with truth.

    Raises
    ------
    DataError
        If ids differ in type, or a pair repeats in a list or in the truth.
    """
    check_same_ids(lists, truth)
    owner = rows_of(truth.users, lists.users)
    listed = np.zeros(len(truth.users), np.int64)
    listed[owner[owner >= 0]] = lists.lengths[owner >= 0]
    user_idx, rank = _match(lists, truth, owner)
    first = np.flatnonzero(np.diff(user_idx, prepend=-1))
    counts = np.diff(np.append(first, len(user_idx)))
    return Hits(
        user_idx=user_idx,
        rank=rank,
        ordinal=np.arange(len(rank)) - np.repeat(first, counts) + 1,
        num_truth=np.bincount(truth.user_idx, minlength=len(truth.users)),
        num_listed=listed,
    )


def _match(lists: RankedLists, truth: Truth, owner: IntArray) -> tuple[IntArray, IntArray]:
    """Return user and rank of every hit; owner (L,) is each list's row among the truth's users."""
    for attempt in itertools.count():
        numbers = _numbers(truth.items, attempt)
        keys = _keys(truth.user_idx, numbers, attempt)
        order = np.argsort(keys)
        keys = keys[order]
        if (keys[1:] == keys[:-1]).any():
            _refuse_repeats("(user, item) pairs of the truth", truth.user_idx, truth.items)
            continue
        marks = _marks(truth, numbers)
        numbers = _numbers(lists.items, attempt)
        list_idx, rank, suspects = _scan(lists, numbers, owner, marks, attempt)
        if len(suspects):
            counts = lists.lengths[suspects]
            rows = np.concatenate([np.arange(*lists.starts[i : i + 2]) for i in suspects])
            users = np.repeat(suspects, counts)
            _refuse_repeats("recommended (user, item) pairs", users, lists.items.gather(rows))
            continue
        rows = lists.starts[list_idx] + rank - 1
        users = owner[list_idx]
        wanted = _keys(users, numbers[rows], attempt)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        equal = np.flatnonzero(keys[at] == wanted)
        pairs = order[at[equal]]
        same = truth.user_idx[pairs] == users[equal]
        same &= (lists.items.gather(rows[equal]) == truth.items.gather(pairs)).to_numpy()
        found = equal[same]
        return users[found], rank[found]
    raise AssertionError("numbers without collision are found at some attempt")


def _marks(truth: Truth, numbers: Numbers) -> NDArray[np.bool_]:
    """Return (U, S): whether a user's truth has an item whose number ends in s, S a power of two.

    Of items that are no hits it keeps one in sixteen or so, which is little to look up exactly.
    """
    num_users = len(truth.users)
    mean = -(-len(numbers) // num_users)
    slots = 1 << (16 * mean - 1).bit_length()
    marks = np.zeros((num_users, slots), np.bool_)
    marks[truth.user_idx, (numbers & numbers.dtype.type(slots - 1)).astype(np.int64)] = True
    return marks


def _scan(
    lists: RankedLists,
    numbers: Numbers,
    owner: IntArray,
    marks: NDArray[np.bool_],
    attempt: int,
) -> tuple[IntArray, IntArray, IntArray]:
    """Return list and rank of rows that may be hits, and the lists in which a number repeats."""
    width, slots = _width(attempt), marks.shape[1]
    flat, base = marks.ravel(), np.maximum(owner, 0) * slots
    list_idx, rank, suspects = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    for block in lists.blocks():
        part: Numbers = numbers[block.rows].astype(width).reshape(-1, block.length)
        ordered = np.sort(part, axis=1)
        repeats = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        suspects += block.lists[repeats].tolist()
        places = (part & width(slots - 1)) + base[block.lists, None]
        line, column = np.divmod(np.flatnonzero(flat.take(places)), block.length)
        list_idx.append(block.lists[line])
        rank.append(column + 1)
    found, ranks = np.concatenate(list_idx), np.concatenate(rank)
    known = owner[found] >= 0
    return found[known], ranks[known], np.array(suspects, np.int64)


def _numbers(ids: pl.Series, attempt: int) -> Numbers:
    """Return what stands for ids (N,) in this attempt: the same for equal ids."""
    if ids.dtype == pl.String:
        return ids.hash(attempt).to_numpy()
    return ids.to_numpy()


def _width(attempt: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if attempt == 0 else np.int64


def _keys(user_idx: IntArray, numbers: Numbers, attempt: int) -> NDArray[np.uint64]:
    """Return one number for each pair; in 32 bits it is exact, later it may collide."""
    if attempt == 0:
        return (user_idx.astype(np.uint64) << np.uint64(32)) | numbers.astype(np.uint32)
    spread = np.uint64(SPREAD * (2 * attempt + 1) % 2**64)
    return np.asarray(user_idx.astype(np.uint64) * spread + numbers.astype(np.uint64))


def _refuse_repeats(what: str, users: IntArray, items: pl.Series) -> None:
    pairs = pl.DataFrame({"user": users, "item": items})
    repeats = len(pairs) - len(pairs.unique())
    if repeats:
        raise DataError(f"{repeats} {what} repeat; drop duplicates")
