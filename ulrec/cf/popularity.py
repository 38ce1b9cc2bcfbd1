"""The most popular items for everyone: the baseline that has to be beaten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import require_fitted, require_histories
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions

__all__ = ["Popularity", "PopularityConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PopularityConfig:
    """Configuration of :class:`Popularity`: there is nothing to choose."""


class Popularity:
    """Scores are numbers of users.

    Attributes
    ----------
    popularity_
        Float32 (I,): the number of users of each item.
    """

    needs_history: ClassVar[bool] = False
    users_: IdMap
    items_: IdMap
    popularity_: NDArray[np.float32]

    def __init__(self, config: PopularityConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Count the users of every item."""
        self.users_, self.items_ = interactions.users, interactions.items
        self.popularity_ = interactions.popularity().astype(np.float32)
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return the same scores (B, I) for everyone."""
        del user_ids  # everyone gets the same
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        return np.tile(self.popularity_, (user_items.shape[0], 1))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the counts."""
        require_fitted(self)
        return {"popularity": self.popularity_}

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        self.popularity_ = state["popularity"]
        self.users_, self.items_ = users, items
        return self
