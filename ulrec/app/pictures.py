"""Media as a browser shows them: encoded pictures and clips, rows of them, and ones to tap."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from ulrec.data.encode import encode_media

__all__ = ["STILL", "Card", "data_uri", "heading", "middle", "plain", "row", "row_html", "tap"]

THUMBNAIL = 128  # longest side of a picture in a row, in pixels
STILL = "still"
SENT = 2048

Bytes = NDArray[np.uint8]
Size = Literal["small", "medium", "large", "hero", "strip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A picture (C, F, H, W) with what it is called; the caption may be empty."""

    media: Bytes
    alt: str
    caption: str = ""


def middle(media: Bytes) -> Bytes:
    """Return the middle frame (C, 1, H, W) of media (C, F, H, W)."""
    at = media.shape[1] // 2
    return media[:, at : at + 1]


def data_uri(media: Bytes) -> str:
    """Return media (C, F, H, W) as a link that holds them small; clips move unless held still."""
    is_still = media.shape[1] > 1 and bool(st.session_state.get(STILL))
    return _link(np.ascontiguousarray(middle(media) if is_still else media))


def row(cards: Sequence[Card], size: Size = "medium") -> None:
    """Show cards beside one another; the row wraps."""
    st.html(row_html(cards, size))


def row_html(cards: Sequence[Card], size: Size) -> str:
    """Return a row of cards; whatever they are called stays text."""
    kind = "ul-hero" if size == "hero" else f"ul-row ul-{size}"
    return f'<div class="{kind}">{"".join(map(_figure, cards))}</div>'


def heading(title: str, note: str = "") -> None:
    """Begin a part of the page."""
    below = f"<p>{escape(note)}</p>" if note else ""
    st.html(f'<div class="ul-head"><h2>{escape(title)}</h2>{below}</div>')


def tap(
    card: Card,
    *,
    key: str,
    on_click: Callable[..., None],
    args: tuple[Any, ...],
    icon: str | None = None,
    is_chosen: bool = False,
) -> None:
    """Show a picture as a button: one can tap it, or reach it by keyboard and press Enter."""
    st.button(
        f"![{plain(card.alt)}]({data_uri(card.media)})",
        key=f"tap-{key}",
        on_click=on_click,
        args=args,
        icon=icon,
        type="primary" if is_chosen else "secondary",
    )


def plain(text: str) -> str:
    """Return text whose Markdown stays text: names come from outside."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|<>~:$" else c for c in text)


@st.cache_data(max_entries=SENT, show_spinner=False)
def _link(media: Bytes) -> str:
    kind: Literal["png", "webp"] = "png" if media.shape[1] == 1 else "webp"
    data = base64.b64encode(encode_media(_small(media), kind=kind)).decode("ascii")
    return f"data:image/{kind};base64,{data}"


def _small(media: Bytes) -> Bytes:
    """Return media (C, F, H, W) no longer than a thumbnail."""
    if max(media.shape[2:]) <= THUMBNAIL:
        return media
    frames = [Image.fromarray(np.ascontiguousarray(frame)) for frame in np.moveaxis(media, 0, -1)]
    for frame in frames:
        frame.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.moveaxis(np.stack([np.asarray(frame) for frame in frames]), -1, 0)


def _figure(card: Card) -> str:
    caption = f"<figcaption>{escape(card.caption)}</figcaption>" if card.caption else ""
    alt = escape(card.alt, quote=True)
    return f'<figure><img src="{data_uri(card.media)}" alt="{alt}" title="{alt}">{caption}</figure>'
