"""What can be said of the pictures of a catalogue, from their tables and from themselves.

A caption is drawn from templates over an item's name, the kinds of thing it is (words for its
category), the colours it mostly has and, where it is plain, its shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ulrec.data.colour_names import COLOURS, colour_shares
from ulrec.errors import DataError

__all__ = ["Described", "captions", "describe_items", "draw_caption"]

COLOUR_SHARE = 0.3
"""Of the foreground, from which on a colour is said of it."""
SQUARE, ROUND, LONG = 0.97, 0.95, 1.5
"""Shares of the bounding box filled, of the inscribed ellipse met, and its ratio of sides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """An item in words: each field may be empty but the name."""

    name: str
    kinds: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()


def describe_items(
    names: Sequence[str],
    groups: Sequence[str],
    *,
    pictures: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    kinds: Mapping[str, Sequence[str]],
) -> list[Described]:
    """Describe items.

    Parameters
    ----------
    names, groups
        Name and (sub)category of each, I.
    pictures, masks
        Uint8 (I, 3, H, W) and (I, H, W), 0 outside.
    kinds
        Words for the things in each group.

    Raises
    ------
    DataError
        If a group has no words.
    """
    missing = sorted(set(groups) - kinds.keys())
    if missing:
        raise DataError(f"there are no words for the groups {', '.join(missing)}; add them")
    shares = colour_shares(pictures, masks)
    described = []
    for name, group, share, mask in zip(names, groups, shares, masks > 0, strict=True):
        order = [int(c) for c in share.argsort(stable=True)[::-1] if share[c] >= COLOUR_SHARE]
        described.append(
            Described(
                name=name.lower(),
                kinds=tuple(kinds[group]),
                colours=tuple(COLOURS[c] for c in order),
                shapes=shapes_of(mask),
            )
        )
    return described


def shapes_of(mask: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return what the outline of a foreground (H, W) is called, if it is plain.

    Examples
    --------
    >>> shapes_of(np.ones((4, 8), bool))
    ('wide',)
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return ()
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    if height > LONG * width:
        return ("tall",)
    if width > LONG * height:
        return ("wide",)
    if box.mean() > SQUARE:
        return ("square",)
    y, x = (np.linspace(-1, 1, n) * (n - 1) / n for n in box.shape)
    ellipse = y[:, None] ** 2 + x**2 <= 1
    return ("round",) if (ellipse == box).mean() > ROUND else ()


def captions(item: Described) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all captions of an item: those that name it, and those that only say what it is like.

    Examples
    --------
    >>> named, like = captions(Described(name="whale", kinds=("animal",), colours=("blue",)))
    >>> named
    ('whale', 'a whale', 'whale, animal', 'blue whale')
    >>> like
    ('animal', 'a blue animal', 'blue animal', 'something blue', 'blue thing')
    """
    colours = [c for c in item.colours if c not in item.name.split()]
    named = [item.name, f"a {item.name}", *(f"{item.name}, {kind}" for kind in item.kinds)]
    named += [f"{colour} {item.name}" for colour in colours]
    like = list(item.kinds)
    for colour in item.colours:
        for kind in item.kinds:
            like += [f"a {colour} {kind}", f"{colour} {kind}"]
            like += [f"{colour} {shape} {kind}" for shape in item.shapes]
        like += [f"something {colour}", f"{colour} thing"]
        like += [f"{colour} {shape} thing" for shape in item.shapes]
    both = " and ".join(item.colours[:2])
    if len(item.colours) > 1:
        like += [f"{both} {kind}" for kind in item.kinds]
    like += [f"{shape} thing" for shape in item.shapes]
    return tuple(named), tuple(like)


def draw_caption(item: Described, rng: np.random.Generator) -> str:
    """Return a caption: every second one names the item."""
    named, like = captions(item)
    chosen = named if not like or rng.random() < 0.5 else like
    return chosen[int(rng.integers(len(chosen)))]
