"""Directions of latents along which items that the same people like lie near one another.

Most of what tells two pictures apart is no matter of taste. Items that share their users are
embedded first, without any look at them; a ridge regression then finds the directions of the
latents that predict that embedding. What nobody has liked yet is placed by its latent alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from ulrec.errors import DataError

__all__ = ["co_liked_axes", "embed_co_liked"]

RIDGE = 0.3

FloatArray = NDArray[np.float64]


def embed_co_liked(likes: sparse.csr_matrix, dim: int) -> FloatArray:
    """Embed items so that products of two embeddings are how much two items share their users.

    With S the likes, each user's row weighted by 1/sqrt(|H_u|) and each item's column brought to
    length 1, S'S holds the cosines between items. Its top eigenvectors after centring, each times
    sqrt(eigenvalue - 1), are the best embedding of the cosines of *different* items.

    Parameters
    ----------
    likes
        (U, J), more than zero where a user likes an item; every item is liked by someone.
    dim
        Q.

    Returns
    -------
    FloatArray
        (J, Q).

    Raises
    ------
    DataError
        If fewer than Q directions hold more than chance.
    """
    num_items = int(likes.shape[1])
    if dim >= num_items:
        raise DataError(f"'dim' {dim} needs more liked items than {num_items}; lower it")
    binary = likes.astype(np.bool_).astype(np.float64)
    lengths = np.asarray(binary.sum(axis=1)).ravel()
    rows = sparse.diags_array(1 / np.sqrt(np.maximum(lengths, 1))) @ binary
    unit = rows @ sparse.diags_array(1 / np.sqrt(np.asarray(rows.power(2).sum(axis=0)).ravel()))

    def product(vector: FloatArray) -> FloatArray:
        flat = vector.ravel()
        cosines = unit.T @ (unit @ (flat - flat.mean()))
        return np.asarray(cosines - cosines.mean())

    operator = LinearOperator((num_items, num_items), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(num_items)
    values, vectors = eigsh(operator, k=dim, v0=start)
    strength = values[::-1] - 1
    if strength[-1] <= 0:
        raise DataError(
            f"the likes hold {int((strength > 0).sum())} directions of taste, 'dim' is {dim}; lower"
            " it, or use a query that needs no interactions"
        )
    # An axis has no sign of its own: its largest entry is made positive, on every machine.
    vectors = vectors[:, ::-1]
    largest = np.abs(vectors).argmax(0)
    return np.asarray(vectors * np.sign(vectors[largest, np.arange(dim)]) * np.sqrt(strength))


def co_liked_axes(
    flat: NDArray[Any], likes: sparse.csr_matrix | None, dim: int
) -> tuple[FloatArray, FloatArray]:
    """Return mean (P,) and matrix (P, Q) of the directions that predict the embedding.

    Parameters
    ----------
    flat
        Flattened latents (I, P).
    likes
        (U, I), columns as the latents' rows.
    dim
        Q.

    Raises
    ------
    DataError
        If there are no likes, their items are others, or they do not hold Q directions.
    """
    if likes is None or likes.shape[1] != len(flat):
        got = "none" if likes is None else f"those of {likes.shape[1]} items"
        raise DataError(
            f"the query 'co_liked' needs the interactions of the {len(flat)} items, got {got}"
        )
    liked = np.flatnonzero(likes.getnnz(axis=0))
    if np.any(likes.data <= 0):
        raise DataError("likes have to be more than zero where they are stored; drop the others")
    target = embed_co_liked(likes[:, liked], dim)
    x = np.asarray(flat[liked], np.float64)
    mean = x.mean(0)
    x -= mean
    y = target - target.mean(0)
    penalty = RIDGE * float(np.square(x).sum()) / x.shape[1]
    if x.shape[1] <= len(x):
        return mean, np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return mean, x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)
