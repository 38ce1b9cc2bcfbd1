"""Factors that another program has learned, read from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import (
    factors_of,
    known_factors,
    require_fitted,
    require_histories,
    single_blas_thread,
    turned,
)
from ulrec.data.factors import Factors, read_factors
from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions
from ulrec.errors import ConfigError, DataError

__all__ = ["Foreign", "ForeignConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignConfig:
    """Configuration of :class:`Foreign`; :func:`ulrec.data.factors.read_embeddings` names formats.

    Attributes
    ----------
    user_factors, item_factors
        The files, both needed.
    user_ids, item_ids
        Files of ids, where the factors' files hold none. Ids in text files are read as the run's
        are: all str or all int.
    min_share
        Refuse if fewer of the run's users, or of its items, have a factor.
    """

    user_factors: str | None = None
    item_factors: str | None = None
    user_ids: str | None = None
    item_ids: str | None = None
    min_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.min_share <= 1:
            raise ConfigError(f"'min_share' has to lie in [0, 1], got {self.min_share}")

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are named."""
        named = (self.user_factors, self.item_factors, self.user_ids, self.item_ids)
        return tuple(Path(name) for name in named if name is not None)


class Foreign:
    """Factors from files, on the users and items of the run; scores are products x . y.

    Users and items that the files lack get zeros: nothing is known of them, such users are not
    generated for in person, and are recommended what is popular.

    **It does not fold in.** Nobody here knows how the factors were learned, nor from which
    interactions: they have probably seen the pairs a generator is trained on, and may have seen the
    test interactions. ``Factors.can_fold_in`` is False and results say so. Users are scored by id.

    Attributes
    ----------
    user_factors_, item_factors_
        Float32 (U, R) and (I, R), on the rows of the interactions.
    """

    needs_history: ClassVar[bool] = False
    users_: IdMap
    items_: IdMap
    user_factors_: NDArray[np.float32]
    item_factors_: NDArray[np.float32]

    def __init__(self, config: ForeignConfig) -> None:
        self.config = config

    def fit(self, interactions: Interactions) -> Self:
        """Read the files and look up the users and items of the interactions; nothing is learned.

        Raises
        ------
        ConfigError
            If a file is not named.
        DataError
            If a file is bad, or too few users or items have a factor.
        """
        config = self.config
        if config.user_factors is None or config.item_factors is None:
            raise ConfigError(
                "foreign factors need both 'user_factors' and 'item_factors': name the two files"
            )
        found = read_factors(
            users=config.user_factors,
            items=config.item_factors,
            user_ids=config.user_ids,
            item_ids=config.item_ids,
            user_id_type=_type_of(interactions.users),
            item_id_type=_type_of(interactions.items),
        )
        share = config.min_share
        users = _on(
            interactions.users, found.users, found.user_factors, what="users", min_share=share
        )
        items = _on(
            interactions.items, found.items, found.item_factors, what="items", min_share=share
        )
        self.user_factors_, self.item_factors_ = users, items
        self.users_, self.items_ = interactions.users, interactions.items
        return self

    def score(
        self, user_items: sparse.csr_matrix, *, user_ids: Ids | None = None
    ) -> NDArray[np.float32]:
        """Return x . y (B, I) for the users ``user_ids`` (B,); zeros for those without a factor."""
        require_fitted(self)
        require_histories(user_items, num_items=len(self.items_))
        reason = "foreign factors cannot tell a user from a history"
        x = known_factors(self, user_ids, num_users=user_items.shape[0], reason=reason)
        with single_blas_thread():
            return np.asarray(x @ self.item_factors_.T)

    def factors(self) -> Factors:
        """Return the factors on the run's rows, flagged as ones that do not fold in."""
        return factors_of(self, name="foreign", can_fold_in=False)

    def rotated(self, rotation: NDArray[np.float64]) -> Self:
        """Return a copy with both factors turned."""
        return turned(self, rotation, "item_factors_", "user_factors_")

    def state(self) -> dict[str, NDArray[Any]]:
        """Return both factors in float32: the files are not needed again."""
        require_fitted(self)
        return {"item_factors": self.item_factors_, "user_factors": self.user_factors_}

    def restore(self, state: dict[str, NDArray[Any]], *, users: IdMap, items: IdMap) -> Self:
        """Take over what :meth:`state` gave."""
        self.item_factors_, self.user_factors_ = state["item_factors"], state["user_factors"]
        self.users_, self.items_ = users, items
        return self


def _type_of(ids: IdMap) -> Literal["str", "int"]:
    return "str" if ids.ids.dtype.kind == "U" else "int"


def _on(
    wanted: IdMap, found: IdMap, factors: NDArray[np.float32], *, what: str, min_share: float
) -> NDArray[np.float32]:
    """Return the factors on the rows of ``wanted``, zeros where there are none."""
    rows = found.find(wanted.ids)
    known = int((rows >= 0).sum())
    if known == 0 or known < min_share * len(wanted):
        raise DataError(
            f"{known} of the run's {len(wanted)} {what} have a foreign factor, expected at least "
            f"{max(1, int(np.ceil(min_share * len(wanted))))}; the run has "
            f"{_some(wanted.ids[rows < 0])}, the file {_some(found.ids)}; use one kind of id, or "
            "lower 'min_share'"
        )
    return np.where(rows[:, None] >= 0, factors[rows], np.float32(0))


def _some(ids: Ids) -> str:
    return ", ".join(repr(i) for i in ids[:3].tolist())
