"""The contract of every recommender, and the table of recommendations that any of them gives."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from ulrec.config import to_mapping
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ITEM_ID, RANK, SCORE, USER_ID
from ulrec.errors import DataError, NotFittedError

__all__ = [
    "EmbeddingModel",
    "FactorModel",
    "Recommender",
    "factors_of",
    "known_factors",
    "recommend",
    "require_fitted",
    "require_histories",
    "require_pairs",
    "require_same_items",
    "require_user_ids",
    "single_blas_thread",
    "turned",
]

USERS_AT_ONCE = 256

M = TypeVar("M", bound="Recommender")


class Recommender(Protocol):
    """What every collaborative-filtering model can do; ``Model(config)`` builds one.

    Attributes
    ----------
    needs_history
        Whether a user's scores come from their history, so that an empty one says nothing.
    users_, items_
        The maps of the interactions it was fitted on.
    """

    needs_history: ClassVar[bool]
    users_: IdMap
    items_: IdMap

    @property
    def config(self) -> Any:
        """The configuration it was built with."""
        ...

    def fit(self, interactions: Interactions) -> Self:
        """Learn from interactions and return the model itself.

        Raises
        ------
        DataError
            If a model that needs histories gets no interaction at all.
        """
        ...

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Score the whole catalogue for the users whose histories are the rows.

        Parameters
        ----------
        user_items
            Histories, CSR (B, num_items), in the columns of the items the model was fitted on.
        user_ids
            Who they are (B,). Only models that cannot tell it from a history ask for it.

        Returns
        -------
        NDArray
            Float32 (B, num_items), the higher the better. Where a model needs a history, an empty
            row scores 0 everywhere.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        DataError
            If the histories have other columns or weights that are not positive and finite.
        """
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what was learned as named arrays, such that ``restore`` scores bit-equally."""
        ...

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what ``state`` gave, with the maps of its rows, and return the model itself."""
        ...


@runtime_checkable
class EmbeddingModel(Recommender, Protocol):
    """A recommender with user and item factors.

    ``isinstance(model, EmbeddingModel)`` tells whether a *fitted* model is one.
    """

    def factors(self) -> Factors:
        """Return the factors of the users and items it was fitted on; zeros for unknown ones.

        ``can_fold_in`` says whether the model is a :class:`FactorModel`. The fitted factor of one
        that is not has seen every pair of its user, in training too: results carry the flag.
        """
        ...

    def rotated(self, rotation: NDArray[np.float64]) -> Self:
        """Return a copy whose factors are turned by an orthogonal (R, R); its scores are the same.

        Every factor f becomes f @ rotation, those that are folded in later alike.
        """
        ...


@runtime_checkable
class FactorModel(EmbeddingModel, Protocol):
    """An embedding model whose user factors can be computed anew from a history.

    ``isinstance(model, FactorModel)`` tells whether a *fitted* model is one.
    """

    def fold_in(self, user_items: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return the factors (B, R) of users whose histories are the rows of CSR (B, num_items).

        An empty history gives zeros. On the training histories these are the fitted user factors.
        """
        ...

    def leave_one_out(self, interactions: Interactions) -> NDArray[np.float32]:
        """Return (nnz, R): a factor for every pair that has not seen the pair.

        Row p is the factor of ``user_idx[p]`` folded in from their history without ``item_idx[p]``,
        in the order of :meth:`Interactions.pairs`. The item factors are those of ``fit``.
        """
        ...

    def refolded(self, interactions: Interactions) -> Self:
        """Return a copy whose users are those of ``interactions``, folded in from them.

        Raises
        ------
        DataError
            If the interactions have other items.
        """
        ...


def recommend(
    model: Recommender,
    interactions: Interactions,
    user_ids: Sequence[Any] | Ids,
    *,
    k: int,
    exclude_seen: bool = True,
    seed: int,
) -> pl.DataFrame:
    """Recommend from the full catalogue.

    Parameters
    ----------
    model
        A fitted model of the same items.
    interactions
        The histories to recommend from; they may be newer than those of ``fit``.
    user_ids
        Whom to recommend to, each once.
    k
        How many items each; where fewer are left, all that are left come.
    exclude_seen
        Leave out the items of a user's history.
    seed
        Of the fixed random key (one permutation of the catalogue) that breaks ties.

    Returns
    -------
    DataFrame
        [user_id, item_id, score, rank from 1], users in the order given. A user of whom the model
        knows nothing (without a history where it needs one, without a factor where that is foreign:
        scores of 0 everywhere) gets the most popular items of ``interactions``; their score is then
        the number of users of an item.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    DataError
        If ``k`` is below 1, a user is unknown or named twice, the model knows other items, or it
        gives a score that is not finite.
    """
    if k < 1:
        raise DataError(f"k has to be at least 1, got {k}")
    require_fitted(model)
    require_same_items(model, interactions)
    user_idx = interactions.users.rows(IdMap(user_ids).ids)
    key = np.random.default_rng(seed).permutation(interactions.num_items)
    starts = range(0, max(1, len(user_idx)), USERS_AT_ONCE)
    blocks = [user_idx[start : start + USERS_AT_ONCE] for start in starts]
    return pl.concat(
        _recommend_block(model, interactions, block, k, key, exclude_seen) for block in blocks
    )


def require_fitted(model: Recommender) -> None:
    """Refuse a model before ``fit``.

    Raises
    ------
    NotFittedError
        If it has learned nothing yet.
    """
    if not hasattr(model, "items_"):
        name = type(model).__name__
        raise NotFittedError(f"{name} has learned nothing yet; call fit(interactions) first")


def require_same_items(model: Recommender, interactions: Interactions) -> None:
    """Refuse interactions whose columns are not the items of the model.

    Raises
    ------
    DataError
        If the maps differ.
    """
    if model.items_ == interactions.items:
        return
    known, given = model.items_, interactions.items
    missing = int((known.find(given.ids) < 0).sum())
    raise DataError(
        f"the model knows {len(known)} items in their order, the interactions have {len(given)}, "
        f"{missing} of them unknown to it; build both with one items map"
    )


def factors_of(model: Any, *, name: str, can_fold_in: bool) -> Factors:
    """Return ``user_factors_`` and ``item_factors_`` of a fitted model in float32."""
    require_fitted(model)
    return Factors(
        user_factors=model.user_factors_.astype(np.float32),
        item_factors=model.item_factors_.astype(np.float32),
        users=model.users_,
        items=model.items_,
        can_fold_in=can_fold_in,
        info={"model": name, "config": to_mapping(model.config)},
    )


def turned(model: M, rotation: NDArray[np.float64], *names: str) -> M:
    """Return a copy of a fitted model with the named arrays (.., R) multiplied by a rotation.

    They keep their precision; products of users and items do not change.
    """
    require_fitted(model)
    other = copy.copy(model)
    for name in names:
        array = getattr(model, name)
        setattr(other, name, (array @ rotation).astype(array.dtype))
    return other


def known_factors(model: Any, user_ids: Ids | None, *, num_users: int, reason: str) -> Any:
    """Return the fitted factors (B, R) of users named by id; zeros for those not fitted."""
    rows = model.users_.find(require_user_ids(user_ids, num_users=num_users, reason=reason))
    return np.where(rows[:, None] >= 0, model.user_factors_[rows], np.float32(0))


def require_pairs(interactions: Interactions) -> None:
    """Refuse to learn from nothing.

    Raises
    ------
    DataError
        If there is not one interaction.
    """
    if interactions.user_items.nnz == 0:
        raise DataError("expected interactions to learn from, got none; check the split or filter")


def require_histories(user_items: sparse.csr_matrix, *, num_items: int) -> None:
    """Check histories before they are scored or folded in.

    Raises
    ------
    DataError
        If their columns are not the model's items or a weight is not positive and finite.
    """
    if user_items.shape[1] != num_items:
        raise DataError(
            f"histories have {user_items.shape[1]} columns, the model knows {num_items} items; "
            "build them with the model's items map"
        )
    if not np.all(np.isfinite(user_items.data) & (user_items.data > 0)):
        raise DataError("weights of a history have to be positive and finite; leave such pairs out")


def require_user_ids(user_ids: Ids | None, *, num_users: int, reason: str) -> Ids:
    """Return the ids that a model scores by.

    Raises
    ------
    DataError
        If there are none, or not one a history.
    """
    if user_ids is None or len(user_ids) != num_users:
        got = "none" if user_ids is None else str(len(user_ids))
        raise DataError(f"{reason}: expected {num_users} user_ids, got {got}; pass user_ids")
    return user_ids


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: many small systems are slower, and not reproducible, with more."""
    with threadpool_limits(1, "blas"):
        yield


def _recommend_block(
    model: Recommender,
    interactions: Interactions,
    user_idx: NDArray[np.int64],
    k: int,
    key: NDArray[np.int64],
    exclude_seen: bool,
) -> pl.DataFrame:
    histories = interactions.user_items[user_idx]
    user_ids = interactions.users[user_idx]
    scores = model.score(histories, user_ids=user_ids)
    if not np.isfinite(scores).all():
        name = type(model).__name__
        raise DataError(f"{name} gave scores that are NaN or infinite; fit it again")
    counts = np.diff(histories.indptr)
    scores[~scores.any(axis=1)] = interactions.popularity()
    if exclude_seen:
        scores[np.repeat(np.arange(len(user_idx)), counts), histories.indices] = -np.inf
    best = [_best(row, k, key) for row in scores]
    lengths = [len(items) for items in best]
    item_idx = np.concatenate([*best, np.empty(0, np.int64)])
    row = np.repeat(np.arange(len(user_idx)), lengths)
    rank = [np.arange(1, n + 1, dtype=np.int64) for n in lengths]
    return pl.DataFrame(
        {
            USER_ID: user_ids[row],
            ITEM_ID: interactions.items[item_idx],
            SCORE: scores[row, item_idx].astype(np.float64),
            RANK: np.concatenate([*rank, np.empty(0, np.int64)]),
        }
    )


def _best(scores: NDArray[np.float32], k: int, key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the columns of the k highest scores above -inf, equal ones in the order of ``key``."""
    candidates = np.flatnonzero(scores > -np.inf)
    if len(candidates) > k:
        threshold = np.partition(scores[candidates], -k)[-k]
        candidates = candidates[scores[candidates] >= threshold]
    order = np.lexsort((key[candidates], -scores[candidates]))[:k]
    return candidates[order]
