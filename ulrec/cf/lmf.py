"""Logistic matrix factorisation: the probability of a like, with users as exact optima.

Given the items, a user is a logistic regression. With factors y_i and biases b_i, positives H of
confidence c = alpha * weight, and n negatives drawn from the items by their share p_i of all
interactions, the expectation of implicit's loss over the draws is, for s_i = x . y_i + b_i + beta,

    sum_{i in H} c_i (softplus(s_i) - s_i) + n sum_i p_i softplus(s_i) + lambda/2 (|x|^2 + beta^2).

It is strictly convex in (x, beta): Newton's method finds the one minimum, without drawing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from ulrec.cf.base import (
    factors_of,
    require_fitted,
    require_histories,
    require_pairs,
    require_same_items,
    single_blas_thread,
    turned,
)
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions
from ulrec.errors import ConfigError, DataError

__all__ = ["LMF", "LMFConfig", "optimal_users"]

Matrix = NDArray[np.float64]

# Numbers in the largest array of a chunk of users.
CHUNK_NUMBERS = 2**20
MIN_CHUNK = 64
ITEMS_AT_ONCE = 2048

MAX_STEPS = 100
# Of the Newton decrement, twice the loss to be gained by the last step, in nats: what that step
# leaves goes with its square.
TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class LMFConfig:
    """Configuration of :class:`LMF`.

    Attributes
    ----------
    num_factors
        The dimension R, without the biases.
    learning_rate
        Of implicit's AdaGrad.
    regularisation
        lambda.
    alpha
        The confidence of a pair is alpha times its weight.
    negatives
        Negatives drawn for each positive; implicit draws R + 2 for a user or item at the most.
    iterations
        Of all users, then all items.
    seed
        Of the initial factors and of the draws.
    """

    num_factors: int = 16
    learning_rate: float = 1.0
    regularisation: float = 0.6
    alpha: float = 1.0
    negatives: int = 30
    iterations: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name != "seed" and not value > 0:
                raise ConfigError(f"'{name}' of LMF has to be positive, got {value}")


class LMF:
    """LMF (Johnson, "Logistic Matrix Factorization for Implicit Feedback Data", 2014).

    implicit finds the items, on one thread. Its users are where stochastic steps left them; here
    they are solved exactly as the last step (:func:`optimal_users`), so that a fitted user factor
    *is* the fold-in of their history, and one without a pair differs from it by that pair alone.

    Attributes
    ----------
    item_factors_
        Float64 (I, R).
    item_bias_, item_share_
        Float64 (I,): b, and the share p of all interactions.
    user_factors_
        Float64 (U, R), without beta, which ranks nothing.
    """

    needs_history: ClassVar[bool] = True
    users_: IdMap
    items_: IdMap
    item_factors_: Matrix
    item_bias_: Matrix
    item_share_: Matrix
    user_factors_: Matrix

    def __init__(self, config: LMFConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Learn the items on one thread (each has draws of its own), then solve for the users."""
        # Imported at use: with its progress bars it takes as long as the rest of ulrec.cf.
        from implicit.cpu.lmf import LogisticMatrixFactorization

        require_pairs(interactions)
        config = self.config
        model = LogisticMatrixFactorization(
            factors=config.num_factors,
            learning_rate=config.learning_rate,
            regularization=config.regularisation,
            iterations=config.iterations,
            neg_prop=config.negatives,
            num_threads=1,
            random_state=config.seed,
        )
        confidence = interactions.user_items * np.float32(config.alpha)
        model.fit(confidence, show_progress=False)
        self.users_, self.items_ = interactions.users, interactions.items
        # The last two columns of the items are their bias and 1, those of the users 1 and beta.
        self.item_factors_ = model.item_factors[:, :-2].astype(np.float64)
        self.item_bias_ = model.item_factors[:, -2].astype(np.float64)
        popularity = interactions.popularity()
        self.item_share_ = popularity / popularity.sum()
        self.user_factors_ = self._solve(interactions.user_items)[:, :-1]
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return x . y + b + beta (B, I), the log-odds of a like, for folded-in users."""
        del user_ids  # a history says everything
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        users = self._solve(user_items)
        with single_blas_thread():
            scores = users[:, :-1] @ self.item_factors_.T + self.item_bias_ + users[:, -1:]
        scores[np.diff(user_items.indptr) == 0] = 0.0
        return scores.astype(np.float32)

    def factors(self) -> Factors:
        """Return x and y in float32, flagged as factors that fold in."""
        return factors_of(self, name="lmf", can_fold_in=True)

    def fold_in(self, user_items: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return the optimal x (B, R) for the histories (B, I); zeros for an empty one."""
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        return self._solve(user_items)[:, :-1].astype(np.float32)

    def leave_one_out(self, interactions: Interactions) -> NDArray[np.float32]:
        """Return (nnz, R): each user solved anew without each of their items."""
        require_fitted(self)
        require_same_items(self, interactions)
        start = self._solve(interactions.user_items)
        factors = np.empty((interactions.user_items.nnz, start.shape[1] - 1), np.float32)
        counts = np.diff(interactions.user_items.indptr)
        first = 0
        for user_idx in _chunks_of(counts, self._chunk()):
            shorter = _without_each(interactions.user_items[user_idx])
            rows = slice(first, first + shorter.shape[0])
            near = np.repeat(start[user_idx], counts[user_idx], axis=0)
            factors[rows] = self._solve(shorter, start=near)[:, :-1]
            first = rows.stop
        return factors

    def refolded(self, interactions: Interactions) -> Self:
        """Return a copy with the users of ``interactions``, optimal for the items it has."""
        require_fitted(self)
        require_same_items(self, interactions)
        other = copy.copy(self)
        other.users_ = interactions.users
        other.user_factors_ = self._solve(interactions.user_items)[:, :-1]
        return other

    def rotated(self, rotation: Matrix) -> Self:
        """Return a copy with both factors turned; the biases stay, |x|^2 feels no rotation."""
        return turned(self, rotation, "item_factors_", "user_factors_")

    def state(self) -> dict[str, NDArray[Any]]:
        """Return factors, biases and shares in float64."""
        require_fitted(self)
        return {
            "item_factors": self.item_factors_,
            "item_bias": self.item_bias_,
            "item_share": self.item_share_,
            "user_factors": self.user_factors_,
        }

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        self.item_factors_, self.item_bias_ = state["item_factors"], state["item_bias"]
        self.item_share_, self.user_factors_ = state["item_share"], state["user_factors"]
        self.users_, self.items_ = users, items
        return self

    def _solve(self, user_items: sparse.csr_matrix, *, start: Matrix | None = None) -> Matrix:
        """Return (x, beta), float64 (B, R + 1)."""
        ones = np.ones((len(self.item_factors_), 1))
        y = np.concatenate([self.item_factors_, ones], axis=1)
        solved = np.zeros((user_items.shape[0], y.shape[1]))
        drawn = np.diff(user_items.indptr) * self.config.negatives
        num_negatives = np.minimum(self.config.num_factors + 2, drawn)
        with single_blas_thread():
            for begin in range(0, user_items.shape[0], self._chunk()):
                rows = slice(begin, begin + self._chunk())
                solved[rows] = optimal_users(
                    self.config.alpha * user_items[rows].toarray().astype(np.float64),
                    num_negatives[rows, None] * self.item_share_,
                    y,
                    offset=self.item_bias_,
                    regularisation=self.config.regularisation,
                    start=None if start is None else start[rows],
                )
        solved[np.diff(user_items.indptr) == 0] = 0.0
        return solved

    def _chunk(self) -> int:
        return max(MIN_CHUNK, CHUNK_NUMBERS // len(self.items_))


def optimal_users(
    positives: Matrix,
    negatives: Matrix,
    y: Matrix,
    *,
    offset: Matrix,
    regularisation: float,
    start: Matrix | None = None,
) -> Matrix:
    """Return the minima (B, R) of the module's loss by Newton's method with halved steps.

    Parameters
    ----------
    positives, negatives
        c and n p, (B, I): how often each item counts as liked, and as not.
    y
        Item factors (I, R); a column of ones gives the user's bias.
    offset
        Of the scores, (I,).
    regularisation
        lambda, positive.
    start
        Where to begin, (B, R); zeros by default. The minimum is the same.

    Raises
    ------
    DataError
        If it does not converge, as with factors that are NaN.

    Examples
    --------
    One item with factor 1, liked once and not liked once: nothing is to be learned from it.

    >>> one = np.ones((1, 1))
    >>> optimal_users(one, one, one, offset=np.zeros(1), regularisation=1.0).tolist()
    [[0.0]]
    """
    x = np.zeros((len(positives), y.shape[1])) if start is None else start.copy()
    active = np.arange(len(x))
    for _ in range(MAX_STEPS):
        c, n, at = positives[active], negatives[active], x[active]
        chance = expit(at @ y.T + offset)  # (B, I)
        gradient = ((n + c) * chance - c) @ y + regularisation * at
        hessian = _curvature((n + c) * chance * (1.0 - chance), y, regularisation)
        step: Matrix = np.asarray(np.linalg.solve(hessian, gradient[..., None])[..., 0], np.float64)
        decrement: Matrix = np.asarray((gradient * step).sum(1), np.float64)
        x[active] = _descend(at, step, decrement, c, n, y, offset, regularisation)
        active = active[~(decrement <= TOLERANCE * (1.0 + np.abs(at).max(1, initial=0.0)))]  # NaN
        if not len(active):
            return x
    raise DataError(
        f"{len(active)} users of LMF found no optimum in {MAX_STEPS} steps; scale weights or alpha "
        "down, or regularisation up"
    )


def _descend(
    at: Matrix,
    step: Matrix,
    decrement: Matrix,
    c: Matrix,
    n: Matrix,
    y: Matrix,
    offset: Matrix,
    regularisation: float,
) -> Matrix:
    """Return at - step, halved for those whose loss would not fall by a fair share."""

    def loss(x: Matrix, rows: NDArray[np.bool_] | slice) -> Matrix:
        s = x @ y.T + offset
        likelihood = ((n[rows] + c[rows]) * np.logaddexp(0.0, s) - c[rows] * s).sum(1)
        return np.asarray(likelihood + 0.5 * regularisation * (x**2).sum(1))

    size = np.ones((len(at), 1))
    far = decrement > 1e-6  # nearer, a full step is safe, and a loss in float64 cannot tell
    if far.any():
        before = loss(at[far], far)
        for _ in range(30):
            after = loss((at - size * step)[far], far)
            fails = after > before - 0.25 * size[far, 0] * decrement[far]
            if not fails.any():
                break
            size[np.flatnonzero(far)[fails]] /= 2.0
    return at - size * step


def _curvature(weight: Matrix, y: Matrix, regularisation: float) -> Matrix:
    """Return sum_i weight_i y_i y_i^T + lambda I, (B, R, R), as products of large matrices."""
    size = y.shape[1]
    rows, columns = np.triu_indices(size)
    upper = np.zeros((len(weight), len(rows)))
    for begin in range(0, len(y), ITEMS_AT_ONCE):
        part = y[begin : begin + ITEMS_AT_ONCE]
        upper += weight[:, begin : begin + ITEMS_AT_ONCE] @ (part[:, rows] * part[:, columns])
    full = np.empty((len(weight), size, size))
    full[:, rows, columns] = upper
    full[:, columns, rows] = upper
    full[:, np.arange(size), np.arange(size)] += regularisation
    return full


def _chunks_of(counts: NDArray[Any], num_rows: int) -> list[NDArray[np.int64]]:
    """Return users in their order, in groups of about ``num_rows`` interactions."""
    group = np.cumsum(counts) // num_rows
    cuts = np.flatnonzero(np.diff(group)) + 1
    return np.split(np.arange(len(counts), dtype=np.int64), cuts)


def _without_each(user_items: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return (nnz, I): for every entry the row it stands in, without it."""
    counts = np.diff(user_items.indptr)
    repeated = user_items[np.repeat(np.arange(user_items.shape[0]), counts)]
    lengths = np.repeat(counts, counts)
    place = np.arange(user_items.nnz) - np.repeat(user_items.indptr[:-1], counts)
    kept = np.ones(repeated.nnz, dtype=bool)
    kept[repeated.indptr[:-1] + place] = False
    indptr = np.concatenate([[0], np.cumsum(lengths - 1)])
    arrays = (repeated.data[kept], repeated.indices[kept], indptr)
    return sparse.csr_matrix(arrays, shape=repeated.shape)
