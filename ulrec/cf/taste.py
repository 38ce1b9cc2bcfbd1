"""Somebody who is in no table: what a model makes of a few liked and disliked items.

Implicit feedback knows no dislikes, so they are folded in as a second history, and what that one
would be recommended counts against the first:

    score = score(liked) - weight score(disliked).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import FactorModel, Recommender
from ulrec.data.schema import ITEM_ID, RANK, SCORE
from ulrec.errors import DataError

__all__ = ["DISLIKES_COUNT", "fold_in_items", "recommend_for_taste"]

DISLIKES_COUNT = 0.5
"""What disliked items weigh against liked ones, in scores as in guidance."""


def fold_in_items(model: Recommender, item_ids: Sequence[Any]) -> NDArray[np.float32]:
    """Return the factor (R,) of somebody whose history is these items; zeros for none.

    Raises
    ------
    DataError
        If an item is unknown or named twice, or the model cannot fold in a history.
    """
    if not isinstance(model, FactorModel):
        raise DataError(
            f"a taste has to be folded in, which {type(model).__name__} cannot; fit als, lmf or "
            "ease, or name a user"
        )
    factor: NDArray[np.float32] = model.fold_in(_history(model, item_ids))[0]
    return factor


def recommend_for_taste(
    model: Recommender,
    liked: Sequence[Any],
    disliked: Sequence[Any],
    *,
    k: int,
    weight: float = DISLIKES_COUNT,
) -> pl.DataFrame:
    """Recommend items that are in neither list.

    Parameters
    ----------
    model
        One that scores histories.
    liked, disliked
        Item ids, each once in both together; there has to be a liked one.
    k
        How many; where fewer items are left, all that are left come.
    weight
        Of the dislikes, as in the module's equation.

    Returns
    -------
    polars.DataFrame
        [item_id, score, rank from 1]; equal scores in the order of the catalogue.

    Raises
    ------
    DataError
        If nothing is liked, an item is unknown or named twice, or the model needs to know who the
        user is.
    """
    if len(liked) == 0:
        raise DataError("a taste needs at least one liked item, got none; name one")
    _history(model, [*liked, *disliked])
    scores = model.score(_history(model, liked))[0].astype(np.float64)
    if len(disliked):
        scores -= weight * model.score(_history(model, disliked))[0]
    scores[model.items_.rows([*liked, *disliked])] = -np.inf
    order = np.argsort(-scores, kind="stable")[:k]
    order = order[scores[order] > -np.inf]
    ranks = np.arange(1, len(order) + 1, dtype=np.int64)
    return pl.DataFrame({ITEM_ID: model.items_[order], SCORE: scores[order], RANK: ranks})


def _history(model: Recommender, item_ids: Sequence[Any]) -> sparse.csr_matrix:
    """Return a history of weight 1 as CSR (1, num_items)."""
    rows = model.items_.rows(list(item_ids))
    if len(np.unique(rows)) != len(rows):
        raise DataError("an item of a taste is named twice; like it or dislike it, once")
    data, row = np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64)
    return sparse.csr_matrix((data, (row, rows)), shape=(1, len(model.items_)))
