"""Which picture belongs to which id: files are named as they are, ids stay what their owner has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ulrec.data.schema import ITEM_ID, PATH
from ulrec.data.tables import WHOLE_NUMBER

__all__ = ["RULES", "Match", "align", "match_pictures"]

KEY = "__key"
TEXT = "__text"
COUNT = "count"

# A later rule has to explain this much more of the interactions than the ones before it.
WORTH = 0.01

_FILE = pl.col(PATH).str.extract(r"([^/]+)$")
_STEM = _FILE.str.replace(r"\.[^.]+$", "")
_ID = pl.col(TEXT)


def _no_zeros(text: pl.Expr) -> pl.Expr:
    return text.str.replace(r"^0+([0-9])", "$1")


def _small(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().str.to_lowercase()


RULES: Mapping[str, tuple[pl.Expr, pl.Expr]] = {
    "the file's name without its ending": (_STEM, _ID),
    "the file's name": (_FILE, _ID),
    "the path without its ending": (pl.col(PATH).str.replace(r"\.[^./]+$", ""), _ID),
    "the path": (pl.col(PATH), _ID),
    "the file's name without its ending and leading zeros": (_no_zeros(_STEM), _no_zeros(_ID)),
    "the file's name in small letters": (_small(_STEM), _small(_ID)),
    "the file's name up to the first _ or -": (
        _no_zeros(_STEM.str.extract(r"^([^_\-]+)[_\-]")),
        _no_zeros(_ID),
    ),
    "the number at the end of the file's name": (
        _no_zeros(_STEM.str.extract(r"([0-9]+)$")),
        _no_zeros(_ID),
    ),
}
"""How a path and an id become the key that they share, the plainest first."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """What pairs pictures with ids.

    Attributes
    ----------
    rule
        A name of :data:`RULES`.
    items
        [item_id, path], one row an item, in the order of the pictures; ids of the given type.
    known
        Share of the counted interactions whose item has a picture.
    further
        Paths of pictures of items that have one already.
    strays
        Paths of pictures whose names are no id of the given type.
    """

    rule: str
    items: pl.DataFrame
    known: float
    further: tuple[str, ...]
    strays: tuple[str, ...]


def match_pictures(pictures: pl.DataFrame, ids: pl.DataFrame) -> Match:
    """Find the rule by which most interactions have a picture.

    Parameters
    ----------
    pictures
        [path].
    ids
        [item_id, count], one row an id. An item whose picture nobody has chosen gets its key as id.
    """
    texts = ids.with_columns(pl.col(ITEM_ID).cast(pl.String).alias(TEXT))
    best, known = next(iter(RULES)), 0.0
    for rule in RULES:
        found = _by_key(pictures, texts, rule)
        share = _total(found) / max(_total(ids), 1)
        if share > known + (WORTH if known else 0):
            best, known = rule, share
    return _pair(pictures, texts, best, known)


def align(catalogue: pl.Series, ids: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Write ids of a catalogue as the interactions [item_id, count] write them.

    Returns
    -------
    table, rule
        [item_id of the catalogue, aligned (null where no id of that type can be made)], and how.
    """
    rules = {"as they are": _ID, "without leading zeros": _no_zeros(_ID), "small": _small(_ID)}
    texts = ids.with_columns(pl.col(ITEM_ID).cast(pl.String).alias(TEXT))
    own = pl.DataFrame({"given": catalogue, TEXT: catalogue.cast(pl.String)})
    best, known, result = "as they are", -1.0, own
    for rule, key in rules.items():
        unique = texts.with_columns(key.alias(KEY)).filter(pl.col(KEY).is_unique())
        joined = own.with_columns(key.alias(KEY)).join(
            unique.select(KEY, ITEM_ID, COUNT), on=KEY, how="left", maintain_order="left"
        )
        share = _total(joined) / max(_total(ids), 1)
        if share > known + (WORTH if known > 0 else 0):
            best, known, result = rule, share, joined
    fallback = _as_type(pl.col(KEY), ids.schema[ITEM_ID])
    aligned = pl.coalesce(pl.col(ITEM_ID), fallback).alias("aligned")
    return result.select(pl.col("given").alias(ITEM_ID), aligned), best


def _by_key(pictures: pl.DataFrame, texts: pl.DataFrame, rule: str) -> pl.DataFrame:
    """Return [path, key, item_id, count] of the first picture of each key; null where no id is."""
    of_path, of_id = RULES[rule]
    # Two ids that become one key would share a picture: better none of them has one.
    unique = texts.with_columns(of_id.alias(KEY)).filter(pl.col(KEY).is_unique())
    keyed = pictures.select(PATH, of_path.alias(KEY)).filter(pl.col(KEY).is_not_null())
    first = keyed.unique(KEY, keep="first", maintain_order=True)
    return first.join(unique.select(KEY, ITEM_ID, COUNT), on=KEY, how="left", maintain_order="left")


def _pair(pictures: pl.DataFrame, texts: pl.DataFrame, rule: str, known: float) -> Match:
    found = _by_key(pictures, texts, rule)
    fallback = _as_type(pl.col(KEY), texts.schema[ITEM_ID])
    items = found.select(pl.coalesce(pl.col(ITEM_ID), fallback).alias(ITEM_ID), PATH)
    # What a name without an id becomes may be the id of another picture.
    named = items.filter(pl.col(ITEM_ID).is_not_null())
    chosen = found.filter(pl.col(ITEM_ID).is_not_null())
    taken = named.filter(
        pl.col(PATH).is_in(chosen[PATH].to_list())
        | ~pl.col(ITEM_ID).is_in(chosen[ITEM_ID].to_list())
    ).unique(ITEM_ID, keep="first", maintain_order=True)
    keys = pictures.select(PATH, RULES[rule][0].alias(KEY))
    no_id = keys.filter(pl.col(KEY).is_null())[PATH].to_list()
    odd = items.filter(pl.col(ITEM_ID).is_null())[PATH].to_list()
    used = {*taken[PATH].to_list(), *no_id, *odd}
    further = tuple(path for path in pictures[PATH].to_list() if path not in used)
    return Match(
        rule=rule, items=taken, known=known, further=further, strays=tuple(sorted([*no_id, *odd]))
    )


def _total(table: pl.DataFrame) -> int:
    return int(table[COUNT].sum())


def _as_type(key: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return keys as ids of a type, null where they are none."""
    if dtype == pl.String:
        return key
    return pl.when(key.str.contains(WHOLE_NUMBER)).then(key).cast(pl.Int64, strict=False)
