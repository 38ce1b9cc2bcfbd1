"""Random scores: the floor of every figure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import require_fitted, require_histories, require_user_ids
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions

__all__ = ["Random", "RandomConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomConfig:
    """Configuration of :class:`Random`.

    Attributes
    ----------
    seed
        Of the scores, together with a user's id.
    """

    seed: int = 0


class Random:
    """Uniform scores drawn from the seed and the user's id: the same in any batch and any order."""

    needs_history: ClassVar[bool] = False
    users_: IdMap
    items_: IdMap

    def __init__(self, config: RandomConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Remember the catalogue."""
        self.users_, self.items_ = interactions.users, interactions.items
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return scores (B, I) in [0, 1); ``user_ids`` (B,) are needed, known or not."""
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        reason = "random scores are drawn per user"
        known = require_user_ids(user_ids, num_users=user_items.shape[0], reason=reason)
        scores = np.empty(user_items.shape, np.float32)
        for row, user_id in enumerate(known.tolist()):
            scores[row] = self._generator(user_id).random(len(self.items_), np.float32)
        return scores

    def state(self) -> dict[str, NDArray[Any]]:
        """Return nothing: seed and ids say it all."""
        require_fitted(self)
        return {}

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over the maps."""
        del state  # empty
        self.users_, self.items_ = users, items
        return self

    def _generator(self, user_id: str | int) -> np.random.Generator:
        # The digest of the id, for Python's own hash of a string changes with every process.
        digest = hashlib.sha256(str(user_id).encode()).digest()
        return np.random.default_rng([self.config.seed, *np.frombuffer(digest, np.uint32).tolist()])
