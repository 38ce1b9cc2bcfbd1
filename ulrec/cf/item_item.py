"""Item-item nearest neighbours: what is liked by the users of an item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import require_fitted, require_histories, require_pairs
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions
from ulrec.errors import ConfigError

__all__ = ["WEIGHTINGS", "ItemItem", "ItemItemConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemItemConfig:
    """Configuration of :class:`ItemItem`.

    Attributes
    ----------
    num_neighbours
        How many similar items are kept for each item, itself among them.
    weighting
        A name of :data:`WEIGHTINGS`: what is done to weights before the cosine.
    """

    num_neighbours: int = 200
    weighting: str = "tfidf"

    def __post_init__(self) -> None:
        if self.num_neighbours < 1:
            raise ConfigError(f"'num_neighbours' has to be at least 1, got {self.num_neighbours}")
        if self.weighting not in WEIGHTINGS:
            known = ", ".join(WEIGHTINGS)
            raise ConfigError(f"'weighting' has to be one of {known}, got {self.weighting!r}")


class ItemItem:
    """Neighbours by the cosine of items' columns; scores are history @ similarity.

    implicit finds the neighbours.

    Attributes
    ----------
    similarity_
        CSR (I, I): row i holds the neighbours of item i, itself among them.
    """

    needs_history: ClassVar[bool] = True
    users_: IdMap
    items_: IdMap
    similarity_: sparse.csr_matrix

    def __init__(self, config: ItemItemConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Find the neighbours of every item."""
        # Imported at use: with its progress bars it takes as long as the rest of ulrec.cf.
        from implicit.nearest_neighbours import ItemItemRecommender

        require_pairs(interactions)
        model = ItemItemRecommender(K=self.config.num_neighbours)
        weighted = WEIGHTINGS[self.config.weighting](interactions.user_items)
        model.fit(_unit_columns(weighted), show_progress=False)
        self.users_, self.items_ = interactions.users, interactions.items
        self.similarity_ = sparse.csr_matrix(model.similarity)
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return the summed similarity (B, I) of each item to the history, weighted."""
        del user_ids  # a history says everything
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        return np.asarray((user_items @ self.similarity_).toarray(), dtype=np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the similarity matrix."""
        require_fitted(self)
        matrix = self.similarity_
        return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        arrays = (state["data"], state["indices"], state["indptr"])
        self.similarity_ = sparse.csr_matrix(arrays, shape=(len(items), len(items)))
        self.users_, self.items_ = users, items
        return self


def _as_is(user_items: sparse.csr_matrix) -> sparse.csr_matrix:
    return user_items.astype(np.float64)


def _tf_idf(user_items: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return sqrt(weight) * ln(I / (1 + n_u)): who likes n_u of I items tells little by each."""
    counts = np.diff(user_items.indptr)
    idf = np.log(user_items.shape[1]) - np.log1p(counts)
    weighted = user_items.astype(np.float64)
    weighted.data = np.sqrt(weighted.data) * np.repeat(idf, counts)
    return weighted


def _unit_columns(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Divide columns by their length; a column of zeros (no users, or users of no weight) stays."""
    length = np.sqrt(np.bincount(matrix.indices, matrix.data**2, minlength=matrix.shape[1]))
    unit = matrix.copy()
    unit.data = matrix.data / np.where(length > 0, length, 1.0)[matrix.indices]
    return unit


WEIGHTINGS: dict[str, Callable[[sparse.csr_matrix], sparse.csr_matrix]] = {
    "cosine": _as_is,
    "tfidf": _tf_idf,
}
