"""EASE: a linear model of items by items in closed form, with factors that fold in exactly."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

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

__all__ = ["EASE", "EASEConfig", "item_weights"]

# Below, the whole singular value decomposition takes less than a second.
DENSE_ITEMS = 500

# Float64 matrices (I, I) at the peak: the Gram matrix's factorisation, its inverse, and B.
PEAK_MATRICES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class EASEConfig:
    """Configuration of :class:`EASE`.

    Attributes
    ----------
    num_factors
        The dimension R of the factors; that of the catalogue where it has fewer items. What is
        ranked by has no such limit.
    regularisation
        Added to the diagonal of the items' Gram matrix.
    max_items
        A larger catalogue is refused: memory grows with its square, time with its cube.
    seed
        Of the first vector of the truncated decomposition.
    """

    num_factors: int = 48
    regularisation: float = 200.0
    max_items: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_factors", "regularisation", "max_items"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"'{name}' of EASE has to be positive, got {value}")


class EASE:
    """EASE (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019).

    Scores are X B, where B with a zero diagonal is the minimum of
    |X - X B|^2 + regularisation |B|^2: see :func:`item_weights`.

    With B = U S V^T cut after R singular values, the factor of a history x is x U S^1/2, that of
    item j the row j of V S^1/2, and their product approximates the score. Both are linear in x: a
    user folds in exactly, and without one item by subtracting that item's row. (B itself has been
    fitted with the pair, as the item factors of every model here.)

    Attributes
    ----------
    item_weights_
        B, float32 (I, I).
    encoder_, item_factors_
        U S^1/2 and V S^1/2, float64 (I, R).
    user_factors_
        Float64 (U, R).
    """

    needs_history: ClassVar[bool] = True
    users_: IdMap
    items_: IdMap
    item_weights_: NDArray[np.float32]
    encoder_: NDArray[np.float64]
    item_factors_: NDArray[np.float64]
    user_factors_: NDArray[np.float64]

    def __init__(self, config: EASEConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Solve for B in float64 and cut it into factors.

        Raises
        ------
        DataError
            If there is no interaction, or the catalogue is larger than ``max_items``.
        """
        require_pairs(interactions)
        _require_room(interactions.num_items, self.config.max_items)
        with single_blas_thread():
            b = item_weights(
                interactions.user_items, regularisation=self.config.regularisation
            )  # (I, I)
            self.encoder_, self.item_factors_ = _factorise(
                b, self.config.num_factors, self.config.seed
            )
        self.users_, self.items_ = interactions.users, interactions.items
        self.item_weights_ = b.astype(np.float32)
        self.user_factors_ = interactions.user_items @ self.encoder_
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return X B (B, I), by the whole of B."""
        del user_ids  # a history says everything
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        return np.asarray(user_items.astype(np.float32) @ self.item_weights_)

    def factors(self) -> Factors:
        """Return user and item factors in float32, flagged as ones that fold in."""
        return factors_of(self, name="ease", can_fold_in=True)

    def fold_in(self, user_items: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return exact factors (B, R) for the histories (B, I); zeros for an empty one."""
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        return np.asarray(user_items @ self.encoder_, np.float32)

    def leave_one_out(self, interactions: Interactions) -> NDArray[np.float32]:
        """Return (nnz, R), exact: the row of the left-out item, times its weight, is subtracted."""
        require_fitted(self)
        require_same_items(self, interactions)
        whole = interactions.user_items @ self.encoder_
        user_idx, item_idx = interactions.pairs()
        weight = interactions.user_items.data.astype(np.float64)[:, None]
        left_out = whole[user_idx] - weight * self.encoder_[item_idx]
        # Nothing is left of a history of one item: exactly zero, as for an empty one.
        left_out[np.diff(interactions.user_items.indptr)[user_idx] == 1] = 0.0
        return np.asarray(left_out, np.float32)

    def refolded(self, interactions: Interactions) -> Self:
        """Return a copy with the users of ``interactions``, exact for the B it has."""
        require_fitted(self)
        require_same_items(self, interactions)
        other = copy.copy(self)
        other.users_ = interactions.users
        other.user_factors_ = interactions.user_items @ self.encoder_
        return other

    def rotated(self, rotation: NDArray[np.float64]) -> Self:
        """Return a copy with its factors turned; B, which ranks, stays."""
        return turned(self, rotation, "encoder_", "item_factors_", "user_factors_")

    def state(self) -> dict[str, NDArray[Any]]:
        """Return B in float32, the factors in float64."""
        require_fitted(self)
        return {
            "item_weights": self.item_weights_,
            "encoder": self.encoder_,
            "item_factors": self.item_factors_,
            "user_factors": self.user_factors_,
        }

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        self.item_weights_, self.encoder_ = state["item_weights"], state["encoder"]
        self.item_factors_, self.user_factors_ = state["item_factors"], state["user_factors"]
        self.users_, self.items_ = users, items
        return self


def item_weights(user_items: sparse.csr_matrix, *, regularisation: float) -> NDArray[np.float64]:
    """Return B (I, I): with P = (X^T X + regularisation I)^-1, B_ij = -P_ij / P_jj, B_jj = 0.

    Examples
    --------
    Two items that one user has, regularisation 1: X^T X + I = [[2, 1], [1, 2]], whose inverse is
    [[2, -1], [-1, 2]] / 3.

    >>> item_weights(sparse.csr_matrix([[1.0, 1.0]]), regularisation=1.0).round(12).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    x = user_items.astype(np.float64)
    gram = (x.T @ x).toarray()
    gram[np.diag_indices_from(gram)] += regularisation
    factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    identity = np.eye(len(gram), order="F")
    p = scipy.linalg.cho_solve(factor, identity, overwrite_b=True, check_finite=False)
    b: NDArray[np.float64] = -p / np.diagonal(p)
    np.fill_diagonal(b, 0.0)
    return b


def _require_room(num_items: int, max_items: int) -> None:
    if num_items > max_items:
        gib = PEAK_MATRICES * 8 * num_items**2 / 2**30
        raise DataError(
            f"EASE solves for all pairs of items: {num_items} items need about {gib:.1f} GiB, "
            f"'max_items' allows {max_items}; raise it, or choose 'als'"
        )


def _factorise(
    b: NDArray[np.float64], num_factors: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return U S^1/2 and V S^1/2 (I, R) of the largest singular values, largest first."""
    if len(b) <= max(DENSE_ITEMS, num_factors):
        u, s, vt = np.linalg.svd(b)
    else:
        first = np.random.default_rng(seed).standard_normal(len(b))
        u, s, vt = svds(b, k=num_factors, v0=first)
        u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
    root = np.sqrt(s[:num_factors])
    return u[:, :num_factors] * root, vt[:num_factors].T * root
