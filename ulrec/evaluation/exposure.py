"""How recommendations share the catalogue's exposure: coverage, Gini index, entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError

__all__ = ["catalogue_coverage", "exposure", "exposure_entropy", "gini"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def exposure(item_idx: IntArray, *, num_items: int) -> IntArray:
    """Return how often each item of the catalogue is recommended, (num_items,)."""
    return np.bincount(item_idx, minlength=num_items).astype(np.int64)


def catalogue_coverage(counts: ArrayLike) -> float:
    """Return the share of items with any exposure, of counts (I,).

    Examples
    --------
    >>> catalogue_coverage([3, 0, 1, 0])
    0.5
    """
    return float(np.mean(_counts(counts) > 0))


def gini(counts: ArrayLike) -> float:
    """Return the Gini index of exposure (I,): 0 where all items share it, 1 - 1/I where one has it.

    Items that are never recommended count.

    Examples
    --------
    >>> gini([2, 2, 2, 2]), gini([8, 0, 0, 0])
    (0.0, 0.75)
    """
    ordered = np.sort(_counts(counts))
    num = len(ordered)
    weights = 2 * np.arange(1, num + 1) - num - 1
    return float(weights @ ordered / (num * ordered.sum()))


def exposure_entropy(counts: ArrayLike) -> float:
    """Return Shannon's entropy -sum p_i log2 p_i of exposure (I,), in bits.

    p_i is the item's share of all exposure: log2 I where all items share it, 0 where one has it.

    Examples
    --------
    >>> exposure_entropy([2, 2, 2, 2]), exposure_entropy([8, 0, 0, 0])
    (2.0, 0.0)
    """
    shares = _counts(counts)
    shares = shares[shares > 0] / shares.sum()
    return float(np.sum(shares * np.log2(1 / shares)))


def _counts(counts: ArrayLike) -> FloatArray:
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim != 1 or not (array >= 0).all() or array.sum() <= 0:
        raise DataError(f"exposure has to be counts (I,), not all zero, got shape {array.shape}")
    return array
