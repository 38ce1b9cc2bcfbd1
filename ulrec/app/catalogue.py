"""The third tab: what there is, from typical to novel, and what is near a picture of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import streamlit as st

from ulrec.app.loading import Shown
from ulrec.app.pictures import Card, heading, plain, row, tap
from ulrec.app.state import choose_item, chosen_item
from ulrec.app.upload import MAX_MEGABYTES, read_upload
from ulrec.data.schema import CATEGORY, ITEM_ID, NAME
from ulrec.errors import DataError

__all__ = ["catalogue"]

ON_PAGE = 42
NEAREST = 12
AT_ONCE = 64
LEVELS = 4
BITS = "bits"
AS_LISTED, TYPICAL, NOVEL = "As listed", "Typical first", "Novel first"


def catalogue(shown: Shown) -> None:
    """Show the tab."""
    _by_picture(shown)
    about, choice = st.columns([1, 2.4], gap="large")
    with choice:
        heading("Look through it", "Tap an item to see what is near it.")
        items = _sorted(shown, _filtered(shown))
        _grid(shown, items)
    with about:
        first = items[ITEM_ID][0] if items.height else None
        item_id = chosen_item(shown)
        _about(shown, first if item_id is None else item_id)


def _grid(shown: Shown, items: pl.DataFrame) -> None:
    if items.is_empty():
        st.caption("Nothing is called that.")
        return
    pages = -(-items.height // ON_PAGE)
    page = st.pagination(pages, key="page", bind="query-params") - 1 if pages > 1 else 0
    with st.container(horizontal=True, gap="small", key="items"):
        for item_id in items[ITEM_ID][page * ON_PAGE : (page + 1) * ON_PAGE]:
            is_chosen = item_id == chosen_item(shown)
            key = f"item-{item_id}"
            card = shown.card(item_id)
            tap(card, key=key, on_click=choose_item, args=(item_id,), is_chosen=is_chosen)


def _by_picture(shown: Shown) -> None:
    heading(
        f"Search by {shown.noun}",
        f"The nearest items to a {shown.noun} of yours, up to {MAX_MEGABYTES} MB. It stays in "
        "memory and is not kept.",
    )
    file = st.file_uploader(
        f"A {shown.noun}",
        type=["png", "jpg", "jpeg", "webp", "gif", "bmp", "avif"],
        max_upload_size=MAX_MEGABYTES,
        label_visibility="collapsed",
    )
    if file is None:
        return
    try:
        with shown.queue.turn(lambda ahead: None):
            media = read_upload(file.getvalue(), shown.media.config)
            latent = shown.fine.encode(media[None])
    except DataError as error:
        st.warning(plain(str(error)), icon=":material/broken_image:")
        return
    near = shown.fine.neighbours(latent, k=NEAREST)
    yours = Card(media=media, alt=f"Your {shown.noun}", caption="as the model sees it")
    row([yours], "large")
    row([shown.card(i) for i in near[ITEM_ID]], "medium")


def _filtered(shown: Shown) -> pl.DataFrame:
    """Show the filters and return the items with pictures that pass."""
    items = shown.fine.items
    items = items.filter(pl.Series(shown.media.items.find(items[ITEM_ID].to_list()) >= 0))
    left, right = st.columns([2, 1])
    with left:
        words = st.text_input(
            "Name", key="q", bind="query-params", placeholder="Search names", max_chars=60
        )
    if words:
        titles = pl.Series([shown.titles[i] for i in items[ITEM_ID]], dtype=pl.String)
        items = items.filter(titles.str.to_lowercase().str.contains(words.lower(), literal=True))
    if CATEGORY in items.columns:
        known = shown.fine.items[CATEGORY].drop_nulls().unique().sort().cast(pl.String).to_list()
        with right:
            wanted = st.selectbox(
                "Category",
                known,
                index=None,
                key="category",
                bind="query-params",
                placeholder="All categories",
            )
        if wanted is not None:
            items = items.filter(pl.col(CATEGORY).cast(pl.String) == wanted)
    return items


def _sorted(shown: Shown, items: pl.DataFrame) -> pl.DataFrame:
    if not shown.has_prior:
        return items
    order = st.segmented_control(
        "Order",
        [AS_LISTED, TYPICAL, NOVEL],
        default=AS_LISTED,
        required=True,
        key="order",
        bind="query-params",
        help="By the bits that the prior charges for an item: few for a typical one.",
    )
    if order == AS_LISTED:
        return items
    bits = _bits(shown)
    column = pl.Series(BITS, [bits[i] for i in items[ITEM_ID]], dtype=pl.Float64)
    return items.with_columns(column).sort(BITS, descending=order == NOVEL)


def _bits(shown: Shown) -> dict[Any, float]:
    """Return bits per pixel of every item, reckoned once for all visitors."""
    kept: dict[Any, float] | None = shown.kept.get(BITS)
    if kept is not None:
        return kept
    latents = shown.fine.latents
    parts, total = [], len(latents.items)
    progress = st.progress(0.0, text="Weighing the catalogue, once …")
    for start in range(0, total, AT_ONCE):
        with shown.queue.turn(lambda ahead: None):
            block = np.asarray(latents.z[start : start + AT_ONCE])
            parts.append(shown.fine.bits(block, num_levels=LEVELS))
        progress.progress(
            min((start + AT_ONCE) / total, 1.0), text="Weighing the catalogue, once …"
        )
    progress.empty()
    bits = dict(zip(latents.items.ids.tolist(), np.concatenate(parts).tolist(), strict=True))
    shown.kept.put(BITS, bits)
    return bits


def _about(shown: Shown, item_id: Any) -> None:
    if item_id is None:
        return
    heading(shown.titles[item_id], _facts(shown, item_id))
    row([shown.card(item_id, captioned=False)], "large")
    at = shown.fine.latents.items.find([item_id])
    if at[0] < 0:
        return
    latent = np.asarray(shown.fine.latents.z[at])
    heading("Nearest items")
    near = shown.fine.neighbours(latent, k=NEAREST, exclude=[[item_id]])
    row([shown.card(i, captioned=False) for i in near[ITEM_ID]], "small")


def _facts(shown: Shown, item_id: Any) -> str:
    """Return what is known of an item in a line."""
    interactions = shown.fine.interactions
    found = shown.fine.items.filter(pl.col(ITEM_ID) == item_id).drop(
        [c for c in (ITEM_ID, NAME) if c in shown.fine.items.columns]
    )
    parts = [str(value) for value in found.row(0) if value is not None][:3]
    at = interactions.items.find([item_id])
    if at[0] >= 0:
        parts.append(f"liked by {int(interactions.popularity()[at[0]])}")
    if shown.has_prior:
        latent = shown.fine.latents.z[shown.fine.latents.items.find([item_id])]
        bits = float(shown.fine.bits(np.asarray(latent))[0])
        parts.append(f"at most {bits:.2f} bits a pixel")
    return " · ".join(parts)
