"""Bayesian personalised ranking: factors that put a user's items above others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import (
    factors_of,
    known_factors,
    require_fitted,
    require_histories,
    require_pairs,
    single_blas_thread,
    turned,
)
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions
from ulrec.errors import ConfigError

__all__ = ["BPR", "BPRConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BPRConfig:
    """Configuration of :class:`BPR`.

    Attributes
    ----------
    num_factors
        The dimension R, without the items' bias.
    learning_rate
        Of stochastic gradient descent.
    regularisation
        Times the factor, subtracted in every step.
    iterations
        Passes of as many drawn pairs as there are interactions.
    seed
        Of the initial factors and of the pairs drawn.
    """

    num_factors: int = 48
    learning_rate: float = 0.02
    regularisation: float = 0.03
    iterations: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_factors", "learning_rate", "regularisation", "iterations"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"'{name}' of BPR has to be positive, got {value}")


class BPR:
    """BPR of implicit (Rendle et al., UAI 2009, arXiv 1205.2618), one thread, weights ignored.

    For a user, one of their items i and another item j it raises ln sigmoid(s_i - s_j) with
    s_i = x . y_i + b_i.

    **It does not fold in.** A user's factor is where the steps of training left it, not the optimum
    of anything that a history alone determines, so that there is none "without one pair". A
    generator that is trained on these factors sees conditions that have seen their pairs;
    ``Factors.can_fold_in`` is False and results say so. Users are scored by their id.

    Attributes
    ----------
    item_factors_
        Float32 (I, R).
    item_bias_
        Float32 (I,).
    user_factors_
        Float32 (U, R); zeros for a user without interactions, who is ranked for by the bias.
    """

    needs_history: ClassVar[bool] = False
    users_: IdMap
    items_: IdMap
    item_factors_: NDArray[np.float32]
    item_bias_: NDArray[np.float32]
    user_factors_: NDArray[np.float32]

    def __init__(self, config: BPRConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Learn the factors on one thread: with more, implicit's steps race with one another."""
        # Imported at use: with its progress bars it takes as long as the rest of ulrec.cf.
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        require_pairs(interactions)
        config = self.config
        model = BayesianPersonalizedRanking(
            factors=config.num_factors,
            learning_rate=config.learning_rate,
            regularization=config.regularisation,
            iterations=config.iterations,
            random_state=config.seed,
            num_threads=1,
        )
        model.fit(interactions.user_items, show_progress=False)
        self.users_, self.items_ = interactions.users, interactions.items
        # The last column of the items is their bias, that of the users 1.
        self.item_factors_ = np.ascontiguousarray(model.item_factors[:, :-1])
        self.item_bias_ = np.ascontiguousarray(model.item_factors[:, -1])
        self.user_factors_ = np.ascontiguousarray(model.user_factors[:, :-1])
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return s (B, I) for the users ``user_ids`` (B,); the bias alone for unknown ones."""
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        reason = "BPR cannot tell a user from a history"
        x = known_factors(self, user_ids, num_users=user_items.shape[0], reason=reason)
        with single_blas_thread():
            return np.asarray(x @ self.item_factors_.T + self.item_bias_, np.float32)

    def factors(self) -> Factors:
        """Return x and y without the bias, flagged as factors that do not fold in."""
        return factors_of(self, name="bpr", can_fold_in=False)

    def rotated(self, rotation: NDArray[np.float64]) -> Self:
        """Return a copy with both factors turned; the bias stays."""
        return turned(self, rotation, "item_factors_", "user_factors_")

    def state(self) -> dict[str, NDArray[Any]]:
        """Return factors and bias in float32."""
        require_fitted(self)
        return {
            "item_factors": self.item_factors_,
            "item_bias": self.item_bias_,
            "user_factors": self.user_factors_,
        }

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        self.item_factors_, self.item_bias_ = state["item_factors"], state["item_bias"]
        self.user_factors_ = state["user_factors"]
        self.users_, self.items_ = users, items
        return self
