"""Media as a browser shows them: encoded pictures and clips, rows of them, and ones to tap."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Card", "data_uri", "encoded", "heading", "plain", "row", "row_html", "tap"]

THUMBNAIL = 128  # longest side of a picture in a row, in pixels
FRAME_MS = 125

Bytes = NDArray[np.uint8]
Size = Literal["small", "medium", "large", "hero", "strip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A picture (C, F, H, W) with what it is called; the caption may be empty."""

    media: Bytes
    alt: str
    caption: str = ""


def encoded(media: Bytes, *, longest: int | None = None) -> tuple[bytes, str]:
    """Return media (C, F, H, W) as the bytes of a file and its type: PNG, or WebP of a clip."""
    frames = [Image.fromarray(np.ascontiguousarray(f)) for f in np.moveaxis(media, 0, -1)]
    if longest is not None:
        for frame in frames:
            frame.thumbnail((longest, longest))
    buffer = io.BytesIO()
    if len(frames) == 1:
        frames[0].save(buffer, format="PNG")
        return buffer.getvalue(), "image/png"
    frames[0].save(
        buffer, format="WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0
    )
    return buffer.getvalue(), "image/webp"


def data_uri(media: Bytes, *, longest: int | None = THUMBNAIL) -> str:
    """Return media (C, F, H, W) as a link that holds them."""
    data, mime = encoded(media, longest=longest)
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


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


def _figure(card: Card) -> str:
    caption = f"<figcaption>{escape(card.caption)}</figcaption>" if card.caption else ""
    alt = escape(card.alt, quote=True)
    return f'<figure><img src="{data_uri(card.media)}" alt="{alt}" title="{alt}">{caption}</figure>'
