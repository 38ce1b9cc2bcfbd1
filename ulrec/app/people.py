"""For whom is drawn: a user of the run, or a visitor who says what they like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ulrec.app.loading import Shown
from ulrec.data.schema import ITEM_ID
from ulrec.errors import DataError

__all__ = ["LISTED", "Person", "Taste", "known_ids", "listed_users", "user_of", "visitor_of"]

LISTED = 2000
TAPS = 40  # more is no taste but an attack on the URL


@dataclass(frozen=True, kw_only=True, slots=True)
class Taste:
    """Item ids that a visitor likes and dislikes, in the order tapped; no item is in both."""

    liked: tuple[Any, ...] = ()
    disliked: tuple[Any, ...] = ()

    def tapped(self, item_id: Any) -> Taste:
        """Return the taste after a tap: nothing, liked, disliked, nothing again."""
        liked = tuple(i for i in self.liked if i != item_id)
        disliked = tuple(i for i in self.disliked if i != item_id)
        if item_id in self.liked:
            return Taste(liked=liked, disliked=(*disliked, item_id))
        if item_id in self.disliked:
            return Taste(liked=liked, disliked=disliked)
        return Taste(liked=(*liked, item_id), disliked=disliked)


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody to draw for.

    Attributes
    ----------
    user_id
        None for a visitor.
    row
        With the seed it determines what is drawn.
    liked, disliked
        Item ids with pictures.
    factor
        (R,) of what is liked.
    away
        (R,) of what is disliked, or None.
    is_known
        False where nothing is known, so that nobody in particular is drawn for.
    """

    user_id: Any
    row: int
    liked: tuple[Any, ...]
    disliked: tuple[Any, ...]
    factor: NDArray[np.float32]
    away: NDArray[np.float32] | None
    is_known: bool

    def recommended(self, shown: Shown, *, k: int) -> list[Any]:
        """Return what collaborative filtering alone recommends, item ids."""
        if self.user_id is not None:
            table = shown.fine.recommend([self.user_id], k=k, by="cf")
        else:
            table = shown.fine.recommend_for(self.liked, self.disliked, k=k)
        return shown.pictured(table[ITEM_ID].to_list())


def listed_users(shown: Shown) -> list[str]:
    """Return ids of users with a history, as text; of many, the first."""
    interactions = shown.fine.interactions
    rows = np.flatnonzero(np.diff(interactions.user_items.indptr) > 0)[:LISTED]
    return [str(user_id) for user_id in interactions.users[rows].tolist()]


def user_of(shown: Shown, text: str) -> Person:
    """Return the user whose id is given as text.

    Raises
    ------
    DataError
        If there is no such user.
    """
    interactions, factors = shown.fine.interactions, shown.fine.factors
    known = known_ids(interactions.users, [text])
    if not known:
        raise DataError(f"there is no user {text[:40]!r} in this run; choose one from the list")
    row = int(interactions.users.rows(known)[0])
    liked = interactions.items[interactions.history(row)].tolist()
    return Person(
        user_id=known[0],
        row=row,
        liked=tuple(shown.pictured(liked)),
        disliked=(),
        factor=factors.user_factors[row],
        away=None,
        is_known=bool(factors.known_users[row]),
    )


def visitor_of(shown: Shown, taste: Taste) -> Person:
    """Return a visitor with a taste, folded in by the run's own collaborative filtering.

    Raises
    ------
    DataError
        If the run's model cannot fold in.
    """
    away = shown.fine.fold_in(list(taste.disliked)) if taste.disliked else None
    return Person(
        user_id=None,
        row=-1,
        liked=taste.liked,
        disliked=taste.disliked,
        factor=shown.fine.fold_in(list(taste.liked)),
        away=away,
        is_known=bool(taste.liked),
    )


def known_ids(ids: Any, texts: Sequence[str]) -> list[Any]:
    """Return the ids of an id map that texts from a URL name, each once; the others are dropped."""
    is_text = ids.ids.dtype.kind not in "iu"
    wanted = dict.fromkeys(_as_id(text, is_text=is_text) for text in texts[:TAPS])
    named = [item for item in wanted if item is not None]
    found = ids.find(named) if named else []
    return [item for item, row in zip(named, found, strict=True) if row >= 0]


def _as_id(text: str, *, is_text: bool) -> str | int | None:
    if is_text:
        return text
    is_whole = text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19
    return int(text) if is_whole else None
