"""Alternating least squares on implicit feedback: the model whose factors steer generation."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf import least_squares
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
from ulrec.errors import ConfigError

__all__ = ["ALS", "ALSConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ALSConfig:
    """Configuration of :class:`ALS`.

    Attributes
    ----------
    num_factors
        The dimension R.
    regularisation
        Added to the diagonal of every normal matrix; positive, so that each has one solution.
    alpha
        The confidence of a pair is alpha times its weight; that of pairs not observed is 1.
    iterations
        Of solving for all users, then for all items.
    seed
        Of the initial factors.
    """

    num_factors: int = 48
    regularisation: float = 5.0
    alpha: float = 3.0
    iterations: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_factors", "regularisation", "alpha", "iterations"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"'{name}' of ALS has to be positive, got {value}")


class ALS:
    """ALS of implicit, in float64; users are solved exactly, by fold-in, as the last step.

    implicit ends an iteration with the items, its users are one half-step behind and its conjugate
    gradients stop early. Here a fitted user factor *is* the fold-in of their history, so that a
    condition computed without one pair differs from it by that pair alone.

    Attributes
    ----------
    item_factors_
        Float64 (I, R).
    user_factors_
        Float64 (U, R).
    """

    needs_history: ClassVar[bool] = True
    users_: IdMap
    items_: IdMap
    item_factors_: NDArray[np.float64]
    user_factors_: NDArray[np.float64]

    def __init__(self, config: ALSConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Learn the factors; the same seed gives the same bits with any number of threads."""
        # Imported at use: with its progress bars it takes as long as the rest of ulrec.cf.
        from implicit.cpu.als import AlternatingLeastSquares

        require_pairs(interactions)
        config = self.config
        with single_blas_thread():
            model = AlternatingLeastSquares(
                factors=config.num_factors,
                regularization=config.regularisation,
                alpha=config.alpha,
                iterations=config.iterations,
                random_state=config.seed,
                dtype=np.float64,
            )
            model.fit(interactions.user_items, show_progress=False)
        self.users_, self.items_ = interactions.users, interactions.items
        self.item_factors_ = model.item_factors
        self.user_factors_ = self._solve(interactions.user_items)
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return the products (B, I) of folded-in users with the items."""
        del user_ids  # a history says everything
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        with single_blas_thread():
            return (self._solve(user_items) @ self.item_factors_.T).astype(np.float32)

    def factors(self) -> Factors:
        """Return user and item factors in float32, flagged as ones that fold in."""
        return factors_of(self, name="als", can_fold_in=True)

    def fold_in(self, user_items: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return exact factors (B, R) for the histories (B, I); zeros for an empty one."""
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        return self._solve(user_items).astype(np.float32)

    def leave_one_out(self, interactions: Interactions) -> NDArray[np.float32]:
        """Return (nnz, R), exact: see :func:`ulrec.cf.least_squares.leave_one_out`."""
        require_fitted(self)
        require_same_items(self, interactions)
        with single_blas_thread():
            factors: NDArray[np.float32] = least_squares.leave_one_out(
                interactions.user_items,
                self.item_factors_,
                regularisation=self.config.regularisation,
                alpha=self.config.alpha,
                dtype=np.float32,
            )
        return factors

    def refolded(self, interactions: Interactions) -> Self:
        """Return a copy with the users of ``interactions``, exact for the item factors it has."""
        require_fitted(self)
        require_same_items(self, interactions)
        other = copy.copy(self)
        other.users_ = interactions.users
        other.user_factors_ = self._solve(interactions.user_items)
        return other

    def rotated(self, rotation: NDArray[np.float64]) -> Self:
        """Return a copy with both factors turned; the penalty |x|^2 does not feel a rotation."""
        return turned(self, rotation, "item_factors_", "user_factors_")

    def state(self) -> dict[str, NDArray[Any]]:
        """Return both factor matrices in float64."""
        require_fitted(self)
        return {"item_factors": self.item_factors_, "user_factors": self.user_factors_}

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        self.item_factors_, self.user_factors_ = state["item_factors"], state["user_factors"]
        self.users_, self.items_ = users, items
        return self

    def _solve(self, user_items: sparse.csr_matrix) -> NDArray[np.float64]:
        with single_blas_thread():
            return least_squares.fold_in(
                user_items,
                self.item_factors_,
                regularisation=self.config.regularisation,
                alpha=self.config.alpha,
            )
