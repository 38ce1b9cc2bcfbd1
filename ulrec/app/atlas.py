"""The map of a catalogue: its latents on their two main axes, each item drawn where it lies."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from ulrec.app.loading import Shown
from ulrec.app.pictures import data_uri, middle
from ulrec.data.schema import ITEM_ID, NAME

__all__ = ["POINT", "Atlas", "atlas_of", "chart"]

WIDTH, TALL = 1400, 0.8  # of the drawn map: pixels, and height for width
THUMBNAIL = 30
SHOWN_AT_MOST = 4000
POINT = "point"
CHOSEN = "#e8590c"
EDGE = 0.04  # nothing is drawn nearer to the border, where it would be cut off

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """Items [item_id, name, x, y] in the unit square, and the map drawn of them."""

    items: pl.DataFrame
    picture: str
    low: Floats
    high: Floats

    def place(self, latents: Floats, shown: Shown) -> Floats:
        """Return where latents (N, D, f, h, w) lie, (N, 2); outside it is the margin."""
        flat = shown.fine.plane(latents)
        return _inside(flat, self.low, self.high)


@st.cache_resource(max_entries=1, show_spinner=False)
def atlas_of(_shown: Shown, stamp: tuple[int, ...]) -> Atlas:
    """Project and draw a catalogue once; of a large one, evenly many items."""
    latents = _shown.fine.latents
    rows = np.unique(np.linspace(0, len(latents.items) - 1, SHOWN_AT_MOST).astype(int))
    flat = _shown.fine.plane(np.asarray(latents.z[rows]))
    low, high = np.quantile(flat, 0.002, axis=0), np.quantile(flat, 0.998, axis=0)
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    at = _inside(flat, low, high)
    ids = latents.items[rows].tolist()
    table = pl.DataFrame(
        {ITEM_ID: ids, NAME: [_shown.titles[i] for i in ids], "x": at[:, 0], "y": at[:, 1]}
    )
    return Atlas(items=table, picture=_drawn(_shown, ids, at), low=low, high=high)


def chart(
    atlas: Atlas,
    marks: pl.DataFrame,
    chosen: pl.DataFrame,
    made: list[tuple[float, float, str]],
) -> Any:
    """Return the map with liked items ringed and drawn pictures on it; its points can be tapped.

    Parameters
    ----------
    atlas
        The catalogue.
    marks
        Liked items, rows of ``atlas.items``.
    chosen
        The item that is looked at, a row of ``atlas.items`` or none.
    made
        (x, y, link) of drawn pictures.
    """
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    tall = alt.expr(f"min(height, width * {TALL})")
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, 1], range=[tall, 0]))
    whole = pl.DataFrame({"x": [0.5], "y": [0.5], "url": [atlas.picture]})
    base = (
        alt.Chart(whole)
        .mark_image(width=alt.expr("width"), height=tall, aspect=False)
        .encode(x=x, y=y, url="url:N")
    )
    picked = alt.selection_point(name=POINT, fields=[ITEM_ID], on="click", nearest=True)
    points = (
        alt.Chart(atlas.items)
        .mark_circle(size=220, opacity=0.001)
        .encode(x=x, y=y, tooltip=[alt.Tooltip(f"{NAME}:N", title=" ")])
        .add_params(picked)
    )
    rings = alt.Chart(marks).mark_point(size=520, strokeWidth=2.5, filled=False).encode(x=x, y=y)
    frames = pl.DataFrame(
        made, schema={"x": pl.Float64, "y": pl.Float64, "url": pl.String}, orient="row"
    )
    border = alt.Chart(frames).mark_square(size=2100, opacity=1).encode(x=x, y=y)
    pictures = alt.Chart(frames).mark_image(width=40, height=40).encode(x=x, y=y, url="url:N")
    here = (
        alt.Chart(chosen)
        .mark_point(size=900, strokeWidth=4, filled=False, color=CHOSEN)
        .encode(x=x, y=y)
    )
    layers = alt.layer(base, rings, border, pictures, here, points)
    return layers.properties(height=560).configure_view(strokeWidth=0)


def _inside(flat: Floats, low: Floats, high: Floats) -> Floats:
    return np.clip((flat - low) / (high - low), EDGE, 1 - EDGE)


def _drawn(shown: Shown, ids: list[Any], at: Floats) -> str:
    """Return the map as a link that holds it: thumbnails, see-through where there is a mask."""
    canvas = Image.new("RGBA", (WIDTH, int(WIDTH * TALL)), (0, 0, 0, 0))
    store = shown.media
    for (x, y), row in zip(at, store.items.find(ids), strict=True):
        if row < 0:
            continue
        thumbnail = Image.fromarray(
            np.ascontiguousarray(np.moveaxis(store.media[row][:, 0], 0, -1))
        )
        if store.masks is not None:
            thumbnail.putalpha(Image.fromarray(np.ascontiguousarray(store.masks[row][0])))
        thumbnail = thumbnail.convert("RGBA")
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        middle = (int(x * canvas.width), int((1 - y) * canvas.height))
        corner = (middle[0] - THUMBNAIL // 2, middle[1] - THUMBNAIL // 2)
        canvas.paste(thumbnail, corner, thumbnail)
    buffer = io.BytesIO()
    canvas.save(buffer, format="WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def made_marks(atlas: Atlas, shown: Shown, made: list[Any]) -> list[tuple[float, float, str]]:
    """Return (x, y, link) of drawn pictures."""
    if not made:
        return []
    at = atlas.place(np.stack([one.latent for one in made]), shown)
    links = [data_uri(middle(one.media)) for one in made]
    return [(float(x), float(y), link) for (x, y), link in zip(at, links, strict=True)]
