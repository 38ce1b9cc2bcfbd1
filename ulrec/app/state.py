"""What of the page is in its URL, so that a view can be shared.

Widgets bind themselves to parameters named by their keys; what is tapped is kept here. A URL says
anything: what it says that is not so is ignored, or a sentence where somebody is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from ulrec.app.loading import Shown
from ulrec.app.people import Person, Taste, known_ids, listed_users, user_of, visitor_of

__all__ = [
    "LONGEST_TEXT",
    "ME",
    "PICTURES",
    "SOMEBODY",
    "Quality",
    "Wish",
    "choose_item",
    "chosen_item",
    "clear_taste",
    "keep_taste",
    "person_in_url",
    "taste",
    "wish_in_url",
]

Quality = Literal["Fast", "Fine"]

LIKE, DISLIKE, ITEM, TASTE = "like", "dislike", "item", "taste"
SOMEBODY, ME = "A user", "Me"
PICTURES, MOST_PICTURES = 4, 12
LARGEST = 1e4
LONGEST_TEXT = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """How to draw: guidance, seed, quality, how many pictures, which of several, and words."""

    guidance: float
    seed: int = 0
    quality: Quality = "Fine"
    pictures: int = PICTURES
    surprising: bool = False
    varied: bool = False
    text: str = ""


def person_in_url(shown: Shown) -> Person | None:
    """Return for whom the first tab draws, or None where that is nobody yet.

    Raises
    ------
    DataError
        If the URL names a user that there is not.
    """
    if st.query_params.get("who") == ME:
        mine = taste(shown)
        return visitor_of(shown, mine) if mine.liked else None
    users = listed_users(shown)
    named = st.query_params.get("user", users[0] if users else None)
    return None if named is None else user_of(shown, named)


def wish_in_url(shown: Shown) -> Wish:
    """Return how the first tab draws; what is no number in range has its default."""
    return Wish(
        guidance=_number("guidance", shown.guidance),
        seed=int(_number("seed", 0)),
        quality="Fast" if st.query_params.get("quality") == "Fast" else "Fine",
        pictures=min(int(_number("pictures", PICTURES)) or PICTURES, MOST_PICTURES),
        surprising=shown.has_prior and st.query_params.get("surprise") == "true",
        varied=st.query_params.get("varied") == "true",
        text=st.query_params.get("text", "")[:LONGEST_TEXT].strip() if shown.has_text else "",
    )


def taste(shown: Shown) -> Taste:
    """Return what is liked and disliked; of what the URL says, what no item is called is ignored.

    The URL is read once: a browser that is tapped quickly sends one that lacks the last tap.
    """
    if TASTE in st.session_state:
        kept: Taste = st.session_state[TASTE]
        return kept
    items = shown.media.items
    liked = known_ids(items, st.query_params.get_all(LIKE))
    disliked = known_ids(items, st.query_params.get_all(DISLIKE))
    st.session_state[TASTE] = Taste(
        liked=tuple(liked), disliked=tuple(i for i in disliked if i not in liked)
    )
    return taste(shown)


def keep_taste(taste: Taste) -> None:
    """Remember a taste and write it into the URL."""
    st.session_state[TASTE] = taste
    for key, ids in ((LIKE, taste.liked), (DISLIKE, taste.disliked)):
        if ids:
            st.query_params[key] = [str(item_id) for item_id in ids]
        elif key in st.query_params:
            del st.query_params[key]


def clear_taste() -> None:
    """Forget what was tapped."""
    keep_taste(Taste())


def chosen_item(shown: Shown) -> Any:
    """Return the item that the URL names, or None."""
    found = known_ids(shown.media.items, st.query_params.get_all(ITEM)[:1])
    return found[0] if found else None


def choose_item(item_id: Any) -> None:
    """Write an item into the URL."""
    st.query_params[ITEM] = str(item_id)


def _number(key: str, default: float) -> float:
    try:
        value = float(st.query_params.get(key, default))
    except ValueError:
        return default
    return value if 0 <= value < LARGEST else default  # nor is NaN
