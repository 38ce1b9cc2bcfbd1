"""Users' factors as exact solutions of implicit least squares, with and without one of their items.

With confidence c = alpha * weight of an observed pair (1 of any other) and preference 1 of an
observed pair (0 of any other), the factor x of a history with item factors y_j is the minimum of

    sum_i c_i (p_i - x . y_i)^2 + regularisation |x|^2,  so that  A x = b  with
    A = Y^T Y + regularisation I + sum_j (c_j - 1) y_j y_j^T,  b = sum_j c_j y_j.

This is the convention of implicit 0.7, where alpha multiplies the weight and is not added to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import sparse

__all__ = ["fold_in", "leave_one_out"]

Matrix = NDArray[np.float64]

# Numbers in the largest array of a chunk: 8 MiB of float64 stay in the cache's reach.
CHUNK_NUMBERS = 2**20


def fold_in(
    user_items: sparse.csr_matrix, item_factors: Matrix, *, regularisation: float, alpha: float
) -> Matrix:
    """Return the factors (B, R) of the histories in the rows of CSR (B, I).

    Parameters
    ----------
    user_items
        Positive weights; an empty row gives zeros.
    item_factors
        Float64 (I, R).
    regularisation, alpha
        As in the module's equation.

    Examples
    --------
    One item with factor 1 of two, weight 1, alpha 2: A = 2 + 1 + 1 (2 - 1), b = 2.

    >>> history = sparse.csr_matrix([[1.0, 0.0]])
    >>> fold_in(history, np.ones((2, 1)), regularisation=1.0, alpha=2.0).tolist()
    [[0.5]]
    """
    factors = np.zeros((user_items.shape[0], item_factors.shape[1]))
    for system in _systems(user_items, item_factors, regularisation, alpha):
        factors[system.rows] = np.linalg.solve(system.a, system.b[..., None])[..., 0]
    return factors


def leave_one_out(
    user_items: sparse.csr_matrix,
    item_factors: Matrix,
    *,
    regularisation: float,
    alpha: float,
    dtype: DTypeLike = np.float64,
) -> NDArray[Any]:
    """Return (nnz, R): for every entry of the matrix its row's factor, folded in without it.

    Leaving item j out takes (c_j - 1) y_j y_j^T from A and c_j y_j from b. By Sherman-Morrison,
    with v = A^-1 y_j and d = c_j - 1, the solution becomes

        x - v (c_j - d y_j . x) / (1 - d y_j . v).

    Parameters
    ----------
    user_items, item_factors, regularisation, alpha
        As in :func:`fold_in`.
    dtype
        Of the result; the computation is in float64.
    """
    factors = np.zeros((user_items.nnz, item_factors.shape[1]), dtype)
    for system in _systems(user_items, item_factors, regularisation, alpha):
        y, c = system.y, system.confidence
        right = np.concatenate([system.b[:, None], y], axis=1)  # (B, 1 + L, R)
        solved = np.linalg.solve(system.a, right.swapaxes(1, 2)).swapaxes(1, 2)
        x, v = solved[:, :1], solved[:, 1:]
        d = c - 1.0
        step = (c - d * (y * x).sum(-1)) / (1.0 - d * (y * v).sum(-1))  # (B, L)
        left_out = x - v * step[..., None]
        factors[system.entry[system.observed]] = left_out[system.observed]
    # Nothing is left of a history of one item: exactly zero, as for an empty one.
    starts, counts = user_items.indptr[:-1], np.diff(user_items.indptr)
    factors[starts[counts == 1]] = 0.0
    return factors


@dataclass(frozen=True, kw_only=True, slots=True)
class _System:
    """Normal equations of B users, histories padded to L items with factors of zero."""

    rows: NDArray[np.int64]  # (B,)
    entry: NDArray[np.int64]  # (B, L): position in the CSR arrays
    observed: NDArray[np.bool_]  # (B, L): False where padded
    y: Matrix  # (B, L, R)
    confidence: Matrix  # (B, L)
    a: Matrix  # (B, R, R)
    b: Matrix  # (B, R)


def _systems(
    user_items: sparse.csr_matrix, item_factors: Matrix, regularisation: float, alpha: float
) -> Iterator[_System]:
    num_factors = item_factors.shape[1]
    base = item_factors.T @ item_factors + regularisation * np.eye(num_factors)
    counts = np.diff(user_items.indptr)
    for rows in _chunks(counts, num_factors):
        position = np.arange(counts[rows[0]])
        observed = position < counts[rows][:, None]
        entry = np.where(observed, user_items.indptr[rows][:, None] + position, 0).astype(np.int64)
        y = item_factors[user_items.indices[entry]] * observed[..., None]
        confidence = alpha * user_items.data[entry].astype(np.float64)
        weighted = y * (confidence - 1.0)[..., None]
        yield _System(
            rows=rows,
            entry=entry,
            observed=observed,
            y=y,
            confidence=confidence,
            a=base + y.swapaxes(1, 2) @ weighted,
            b=(y * confidence[..., None]).sum(1),
        )


def _chunks(counts: NDArray[Any], num_factors: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows with a history, the longest first: the first of a chunk tells its width."""
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    start = 0
    while start < len(order):
        width = max(int(counts[order[start]]), num_factors)
        size = max(1, CHUNK_NUMBERS // (width * num_factors))
        yield order[start : start + size]
        start += size
