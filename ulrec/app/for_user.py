"""The first tab: for whom, what they like, what is recommended, what is drawn, and why."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import streamlit as st

from ulrec.app.drawing import Made, drawn
from ulrec.app.loading import Shown
from ulrec.app.people import Person, Taste, listed_users, user_of, visitor_of
from ulrec.app.pictures import Card, heading, plain, row, row_html, tap
from ulrec.app.state import (
    LONGEST_TEXT,
    ME,
    PICTURES,
    SOMEBODY,
    Wish,
    clear_taste,
    keep_taste,
    taste,
)
from ulrec.app.take_away import take_away
from ulrec.data.schema import CATEGORY, ITEM_ID, SCORE
from ulrec.errors import DataError

__all__ = ["for_user"]

HISTORY_SHOWN = 30
RECOMMENDED = 8
NEAREST = 3
OFFERED = 28
WANTED = 10

USER = "user"


def for_user(shown: Shown) -> None:
    """Show the tab."""
    controls, content = st.columns([1, 2.9], gap="large")
    with controls:
        person = _who(shown)
        with st.container(key="settings"):
            wish = _settings(shown)
    with content:
        if st.session_state.get("who") == ME:
            _tapping(shown)
        elif person is not None:
            _liked(person, shown)
        if person is not None:
            _recommended(shown, person)
            _drawn(shown, person, wish)


def _settings(shown: Shown) -> Wish:
    """Show how to draw, and return it."""
    guidance = st.slider(
        "How personal",
        min_value=0.0,
        max_value=max(2 * shown.guidance, 4.0),
        value=shown.guidance,
        step=0.5,
        format="%.1f",
        key="guidance",
        bind="query-params",
        help="The guidance scale: 0 ignores the person, 1 follows what was learnt, more "
        "exaggerates it.",
    )
    kind = f"{shown.noun.capitalize()}s"
    number = st.slider(kind, 1, 12, PICTURES, key="pictures", bind="query-params")
    seed = st.number_input(
        "Seed",
        min_value=0,
        max_value=9999,
        value=0,
        key="seed",
        bind="query-params",
        help=f"Another seed, other {shown.noun}s; the same seed, the same {shown.noun}s.",
    )
    quality = st.segmented_control(
        "Quality",
        ["Fast", "Fine"],
        default="Fine",
        required=True,
        key="quality",
        bind="query-params",
        help="Fast takes fewer steps. Mostly one has to look twice to see it.",
    )
    surprising = shown.has_prior and st.toggle(
        "Surprise me",
        key="surprise",
        bind="query-params",
        help="Of six drawings each, the one the model finds the least likely. Takes longer.",
    )
    varied = st.toggle(
        "Varied",
        key="varied",
        bind="query-params",
        disabled=bool(surprising),
        help="Of six drawings each, the one least like those before it. Takes longer.",
    )
    text = ""
    if shown.has_text:
        text = st.text_input(
            "In words",
            key="text",
            bind="query-params",
            max_chars=LONGEST_TEXT,
            placeholder="blue animal",
            help="Pulls what is drawn towards what the words say, beside what the person likes.",
        )
    return Wish(
        text=text.strip(),
        surprising=bool(surprising),
        varied=varied,
        guidance=float(guidance),
        seed=int(seed),
        quality="Fast" if quality == "Fast" else "Fine",
        pictures=int(number),
    )


def _who(shown: Shown) -> Person | None:
    """Show the choice of a person and return them; None for a visitor who likes nothing yet."""
    who = st.segmented_control(
        "For whom", [SOMEBODY, ME], default=SOMEBODY, required=True, key="who", bind="query-params"
    )
    if who == ME:
        liked = taste(shown)
        return visitor_of(shown, liked) if liked.liked else None
    users = listed_users(shown)
    if not users:
        st.info("No user of this run has a history. Choose “Me” and say what you like.")
        return None
    chosen = st.selectbox(
        "User",
        users,
        key=USER,
        bind="query-params",
        accept_new_options=True,
        help="Type to search, or type any id of this run.",
    )
    st.button("Somebody else", on_click=_pick, args=(users,), icon=":material/casino:")
    try:
        return user_of(shown, str(chosen))
    except DataError as error:
        st.warning(plain(str(error)))
        return None


def _pick(users: list[str]) -> None:
    st.session_state[USER] = random.choice(users)


def _tapping(shown: Shown) -> None:
    """Show pictures to tap, and how far one is."""
    mine = taste(shown)
    heading(
        f"Tap {WANTED} {shown.noun}s",
        "Once for what you like, twice for what you do not, a third time to take it back.",
    )
    count = len(mine.liked) + len(mine.disliked)
    words = f"{len(mine.liked)} liked, {len(mine.disliked)} not"
    st.progress(min(count / WANTED, 1.0), text=words)
    page = int(st.session_state.get("offer", 0))
    offered = _offered(shown, page)
    with st.container(horizontal=True, gap="small", key="taps"):
        for item_id in offered:
            _tap(shown, mine, item_id)
    with st.container(horizontal=True):
        st.button(f"Other {shown.noun}s", on_click=_next_offer, icon=":material/refresh:")
        if count:
            st.button("Start again", on_click=clear_taste, icon=":material/close:")
    if not mine.liked:
        st.caption(f"Like one {shown.noun}, and drawing begins.")


def _tap(shown: Shown, mine: Taste, item_id: Any) -> None:
    card = shown.card(item_id)
    is_liked, is_disliked = item_id in mine.liked, item_id in mine.disliked
    state = ", liked" if is_liked else ", disliked" if is_disliked else ""
    icons = {", liked": ":material/favorite:", ", disliked": ":material/thumb_down:"}
    tap(
        Card(media=card.media, alt=f"{card.alt}{state}"),
        key=f"taste-{item_id}",
        on_click=_tapped,
        args=(shown, item_id),
        icon=icons.get(state),
        is_chosen=is_liked,
    )


def _tapped(shown: Shown, item_id: Any) -> None:
    keep_taste(taste(shown).tapped(item_id))


def _next_offer() -> None:
    st.session_state["offer"] = st.session_state.get("offer", 0) + 1


def _offered(shown: Shown, page: int) -> list[Any]:
    """Return items to tap: of every category in turn, other ones on every page."""
    items = shown.fine.items.sample(fraction=1.0, shuffle=True, seed=page)
    if CATEGORY in items.columns:
        turn = pl.col(ITEM_ID).cum_count().over(CATEGORY)
        items = items.sort(turn, maintain_order=True)
    return shown.pictured(items[ITEM_ID].to_list())[:OFFERED]


def _liked(person: Person, shown: Shown) -> None:
    total = len(person.liked)
    kept = f", {HISTORY_SHOWN} of them shown" if total > HISTORY_SHOWN else ""
    heading("Liked so far", f"{total} item{'' if total == 1 else 's'}{kept}.")
    row([shown.card(i, captioned=False) for i in person.liked[:HISTORY_SHOWN]], "small")


def _recommended(shown: Shown, person: Person) -> None:
    heading(
        "What collaborative filtering recommends",
        "Existing items that people with a like history liked. It never looks at a picture.",
    )
    row([shown.card(i) for i in person.recommended(shown, k=RECOMMENDED)], "medium")


def _drawn(shown: Shown, person: Person, wish: Wish) -> None:
    if person.is_known:
        whom = "you" if person.user_id is None else "this person"
        words = " and your words" if wish.text else ""
        note = f"New {shown.noun}s, drawn from nothing but what {whom} liked{words}."
        heading(f"Made for {whom}", note)
    else:
        heading("Made for nobody in particular", "Nothing is known of this user yet.")
    slots = []
    with st.container(key="made"):
        for _ in range(wish.pictures):
            slot = st.empty()
            slot.html(_waiting("waiting"))
            slots.append(slot)
    made: list[Made] = []

    def in_queue(ahead: int) -> None:
        slots[len(made)].html(_waiting(f"{ahead + 1} before you"))

    slots[0].html(_waiting("drawing …"))
    for one in drawn(shown, person, wish, waiting=in_queue):
        slots[len(made)].html(_made_card(shown, person, one))
        made.append(one)
        if len(made) < len(slots):
            slots[len(made)].html(_waiting("drawing …"))
    take_away(shown, person, wish, made)


def _waiting(words: str) -> str:
    return f'<div class="ul-made"><div class="ul-wait" role="status">{words}</div></div>'


def _made_card(shown: Shown, person: Person, made: Made) -> str:
    """Return a drawn picture, the real items nearest to it, and the liked ones it comes from."""
    picture = row_html([Card(media=made.media, alt="Drawn for this person")], "hero")
    known = shown.fine.index.items
    liked = [
        i for i, at in zip(person.liked, known.find(list(person.liked)), strict=True) if at >= 0
    ]
    latent = made.latent[None]
    near = shown.fine.neighbours(latent, k=NEAREST, exclude=[liked])
    parts = [picture, "<h3>Nearest new items</h3>"]
    parts.append(row_html([shown.card(i, captioned=False) for i in near[ITEM_ID]], "small"))
    if liked:
        why = shown.fine.neighbours(latent, k=NEAREST, among=liked)
        cards = [
            Card(media=shown.card(i).media, alt=shown.titles[i], caption=f"{score:.2f}")
            for i, score in why.select(ITEM_ID, SCORE).iter_rows()
        ]
        parts.append('<h3 title="Cosine in the space that is searched">Nearest liked items</h3>')
        parts.append(row_html(cards, "small"))
    return f'<div class="ul-made">{"".join(parts)}</div>'
