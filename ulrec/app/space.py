"""The second tab: a map of the catalogue, and the way from one item or person to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from ulrec.app.atlas import POINT, Atlas, atlas_of, chart, made_marks
from ulrec.app.drawing import Made, between_items, between_people, drawn
from ulrec.app.loading import Shown
from ulrec.app.people import listed_users, user_of
from ulrec.app.pictures import Card, heading, row, row_html
from ulrec.app.sharing import Waiting
from ulrec.app.state import Wish, choose_item, chosen_item, person_in_url, wish_in_url
from ulrec.data.schema import ITEM_ID

__all__ = ["space"]

FRAMES = 9
NEAREST = 8
ITEMS, PEOPLE = "Two items", "Two people"
MAP, SPOT = "map", "spot"
LIST = "Item on the map"


def space(shown: Shown) -> None:
    """Show the tab."""
    with st.spinner("Drawing the map …", show_time=True):
        atlas = atlas_of(shown, shown.stamp)
    heading(
        "Where everything lies",
        "Items on the two main axes of the latent space; liked ones have a ring, and what is drawn "
        "for the person of the first tab lies among them. Tap one, or choose it from the list.",
    )
    where, what = st.columns([2.4, 1], gap="large")
    with where:
        _map(shown, atlas)
    with what:
        _listed(shown, atlas)
        _point(shown)
    _strip(shown)


def _map(shown: Shown, atlas: Atlas) -> None:
    person, wish = person_in_url(shown), wish_in_url(shown)
    liked = [] if person is None else list(person.liked)
    marks = atlas.items.filter(pl.col(ITEM_ID).is_in(liked))
    made: list[Made] = []
    if person is not None:
        with st.spinner("Drawing …"):
            made = list(drawn(shown, person, wish, waiting=lambda ahead: None))
    item_id = chosen_item(shown)
    chosen = atlas.items.filter(pl.col(ITEM_ID).is_in([] if item_id is None else [item_id]))
    st.altair_chart(
        chart(atlas, marks, chosen, made_marks(atlas, shown, made)),
        key=MAP,
        on_select=_tapped,
        selection_mode=POINT,
        alt=f"A map of {atlas.items.height} items: what looks alike lies together. The list "
        f"“{LIST}” beside it has the same items, and choosing one there does what a tap does.",
    )


def _tapped() -> None:
    tapped = st.session_state[MAP].selection.get(POINT, [])
    if tapped:
        choose_item(tapped[0][ITEM_ID])


def _listed(shown: Shown, atlas: Atlas) -> None:
    """Offer the items of the map as a list, for who cannot tap on it."""
    items = atlas.items[ITEM_ID].to_list()
    chosen = chosen_item(shown)
    st.session_state[SPOT] = chosen if chosen in items else None
    st.selectbox(
        LIST,
        items,
        index=None,
        key=SPOT,
        format_func=lambda item_id: f"{shown.titles[item_id]} ({item_id})",
        on_change=_chosen_from_list,
        placeholder="Type to search",
    )


def _chosen_from_list() -> None:
    if st.session_state[SPOT] is not None:
        choose_item(st.session_state[SPOT])


def _point(shown: Shown) -> None:
    """Show the chosen item as it is and decoded from its latent, and its neighbours."""
    item_id = chosen_item(shown)
    if item_id is None:
        return
    card = shown.card(item_id)
    at = shown.fine.latents.items.find([item_id])
    if at[0] < 0:
        return
    latent = np.asarray(shown.fine.latents.z[at])
    wish = Wish(guidance=0.0, quality="Fast")
    pair = (latent[0], latent[0])
    with st.spinner("Decoding …"):
        decoded = between_items(shown, pair, wish, share=0.0, waiting=lambda ahead: None)
    again = Card(media=decoded.media, alt=f"{card.alt}, decoded", caption="from its latent")
    row([card, again], "large")
    heading("Nearest")
    near = shown.fine.neighbours(latent, k=NEAREST, exclude=[[item_id]])
    row([shown.card(i, captioned=False) for i in near[ITEM_ID]], "small")


def _strip(shown: Shown) -> None:
    heading("From one to another", "Even steps in the latent space, each decoded.")
    kind = st.segmented_control(
        "Between", [ITEMS, PEOPLE], default=ITEMS, required=True, key="between", bind="query-params"
    )
    ends = _item_ends(shown) if kind == ITEMS else _people_ends(shown)
    if ends is None:
        return
    slot = st.empty()
    made: list[Card] = []
    for place in range(FRAMES):
        share = place / (FRAMES - 1)
        one = ends(share, _in_queue(slot))
        made.append(Card(media=one.media, alt=f"{share:.0%} of the way"))
        slot.html(row_html(made, "strip"))


def _in_queue(slot: Any) -> Waiting:
    return lambda ahead: slot.caption(f"Others are drawing; {ahead + 1} before you.")


Ends = Callable[[float, Waiting], Made]


def _item_ends(shown: Shown) -> Ends | None:
    names = {f"{title} ({item_id})": item_id for item_id, title in shown.titles.items()}
    first, second = _two(list(names), ("from", "to"))
    latents = shown.fine.latents
    rows = latents.items.find([names[first], names[second]])
    if min(rows) < 0:
        st.info("One of these has no picture.")
        return None
    pair = (np.asarray(latents.z[rows[0]]), np.asarray(latents.z[rows[1]]))
    wish = Wish(guidance=0.0, quality="Fast")
    return lambda share, waiting: between_items(shown, pair, wish, share=share, waiting=waiting)


def _people_ends(shown: Shown) -> Ends | None:
    users = listed_users(shown)
    if len(users) < 2:
        st.info("This takes two users with a history.")
        return None
    first, second = _two(users, ("one", "other"))
    people = (user_of(shown, first), user_of(shown, second))
    wish = Wish(guidance=shown.guidance, seed=wish_in_url(shown).seed, quality="Fast")
    return lambda share, waiting: between_people(shown, people, wish, share=share, waiting=waiting)


def _two(options: list[str], keys: tuple[str, str]) -> tuple[str, str]:
    left, right = st.columns(2)
    with left:
        first = st.selectbox("From", options, key=keys[0], bind="query-params")
    with right:
        second = st.selectbox(
            "To", options, index=len(options) // 3, key=keys[1], bind="query-params"
        )
    return first, second
