"""How far recommendations go with popularity: novelty, bias, serendipity, and evening it out.

Popularity n_i is the number of train users of item i, N the number of all train users. Pairs of
recommendations are rows: ``user_idx``, ``item_idx`` (P,), and every user 0..U-1 has one.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.schema import ITEM_ID, USER_ID
from ulrec.errors import DataError

__all__ = [
    "even_out_popularity",
    "inverse_user_frequency",
    "mean_popularity",
    "serendipity",
    "surprisal",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def inverse_user_frequency(
    user_idx: IntArray, item_idx: IntArray, *, popularity: ArrayLike, num_train_users: int
) -> FloatArray:
    """Return each user's MIUF: the mean of log2(N / n_i) over the recommended items, in bits.

    An item without train users counts as having one: the most surprising that one can be. This is
    RecTools' MeanInvUserFreq; values of data with different N do not compare.

    Parameters
    ----------
    user_idx, item_idx
        Recommended pairs as rows, (P,) each; every user 0..U-1 has one.
    popularity
        Train users n_i of each item, (I,).
    num_train_users
        All train users N.

    Returns
    -------
    FloatArray
        (U,) in [0, log2 N].

    Raises
    ------
    DataError
        If N < 2, a count exceeds N or is negative, or an item has none.
    """
    counts = _train_users(popularity, item_idx)
    if num_train_users < 2 or counts.max() > num_train_users:
        raise DataError(
            f"popularity has to lie in 0..num_train_users and that be at least 2, got "
            f"{counts.min():g}..{counts.max():g} and {num_train_users}"
        )
    information = np.log2(num_train_users / np.maximum(counts, 1))
    return _mean_of(information, user_idx, item_idx)


def surprisal(
    user_idx: IntArray, item_idx: IntArray, *, popularity: ArrayLike, num_train_users: int
) -> FloatArray:
    """Return each user's novelty: MIUF over log2 N, its largest value (RePlay's Surprisal).

    Parameters, errors and the treatment of unseen items are those of
    :func:`inverse_user_frequency`; the values (U,) lie in [0, 1].
    """
    bits = inverse_user_frequency(
        user_idx, item_idx, popularity=popularity, num_train_users=num_train_users
    )
    return np.asarray(bits / np.log2(num_train_users))


def mean_popularity(user_idx: IntArray, item_idx: IntArray, *, popularity: ArrayLike) -> FloatArray:
    """Return each user's mean of n_i over the recommended items; its mean over users is ARP.

    Parameters
    ----------
    user_idx, item_idx
        Recommended pairs as rows, (P,) each; every user 0..U-1 has one.
    popularity
        Train users n_i of each item, (I,).

    Returns
    -------
    FloatArray
        (U,).

    Raises
    ------
    DataError
        If a count is negative, or an item has none.
    """
    counts = _train_users(popularity, item_idx)
    return _mean_of(counts, user_idx, item_idx)


def serendipity(rank: IntArray, item_idx: IntArray, *, popularity: ArrayLike) -> FloatArray:
    """Return what each hit adds to serendipity@k = 1/k sum_{r<=k} max(p(r) - pu(r), 0) rel_r.

    p(r) = (n + 1 - r) / n with n = I items is how likely rank r is to be taken; pu is the same of
    the item's rank by popularity, which items of equal popularity share and which counts different
    popularities: what everybody would be recommended. Items without train users have pu = 0.

    Parameters
    ----------
    rank, item_idx
        Rank from 1 and row of each recommended item that its user liked, (H,).
    popularity
        Train users n_i of each item, (I,).

    Returns
    -------
    FloatArray
        (H,) in [0, 1], to be summed by user and divided by k.

    Raises
    ------
    DataError
        If a count is negative, or an item has none.
    """
    counts = _train_users(popularity, item_idx)
    num_items = len(counts)
    different = np.unique(counts[counts > 0])
    place = len(different) - np.searchsorted(different, counts)
    expected = np.where(counts > 0, (num_items + 1 - place) / num_items, 0.0)
    found = (num_items + 1 - rank) / num_items
    return np.asarray(np.maximum(found - expected[item_idx], 0.0))


def even_out_popularity(
    interactions: pl.DataFrame, *, seed: int, iqr_factor: float = 1.5
) -> pl.DataFrame:
    """Return interactions in which no item has more users than is usual (RecTools' debiasing).

    Of an item with more than Q3 + iqr_factor (Q3 - Q1) users, rounded down, that many random
    interactions are kept; Q1 and Q3 are quartiles over items. Evaluated with such a truth, a model
    gains less from a few very popular items.

    Parameters
    ----------
    interactions
        [user_id, item_id, ...], one row per pair.
    seed
        Of what is kept.
    iqr_factor
        At least 0.

    Returns
    -------
    pl.DataFrame
        Rows of the interactions, in their order.

    Raises
    ------
    DataError
        If a pair repeats, or the factor is negative.
    """
    if iqr_factor < 0:
        raise DataError(f"iqr_factor has to be at least 0, got {iqr_factor}")
    if interactions.select(USER_ID, ITEM_ID).is_duplicated().any():
        raise DataError("(user, item) pairs of the interactions repeat; drop duplicates")
    if interactions.is_empty():
        return interactions
    counts = interactions[ITEM_ID].value_counts()["count"].to_numpy()
    low, high = np.quantile(counts, [0.25, 0.75])
    most = int(high + iqr_factor * (high - low))
    drawn = np.random.default_rng(seed).permutation(len(interactions))
    place = pl.col("drawn").rank("ordinal").over(ITEM_ID)
    kept = interactions.select(ITEM_ID).with_columns(drawn=drawn).select(place).to_series()
    return interactions.filter(kept <= most)


def _mean_of(values: FloatArray, user_idx: IntArray, item_idx: IntArray) -> FloatArray:
    return np.bincount(user_idx, weights=values[item_idx]) / np.bincount(user_idx)


def _train_users(popularity: ArrayLike, item_idx: IntArray) -> FloatArray:
    counts = np.asarray(popularity, dtype=np.float64)
    if counts.ndim != 1 or len(counts) == 0 or not (counts >= 0).all():
        raise DataError(f"popularity has to be counts (I,), got shape {counts.shape}")
    if len(item_idx) and (item_idx.min() < 0 or item_idx.max() >= len(counts)):
        raise DataError(
            f"recommended items have to be rows of popularity, of which are {len(counts)}"
        )
    return counts
