"""Numbers and tables as people read them: intervals beside means, decimals that mean something."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

__all__ = [
    "Column",
    "interval_text",
    "number_text",
    "readable",
    "shown_columns",
    "text_table",
    "value_text",
]

ABSENT = "–"

HEADINGS = {
    "mean": "mean [95 % interval]",
    "num_users": "users",
    "p_holm": "p (Holm)",
    "num_permutations": "permutations",
    "num_without_media": "without media",
    "num_without_items": "without items",
}
"""Headings of columns whose names do not stand for themselves."""


def readable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table as it is shown: text cells, intervals joined to their means, plain headings.

    Examples
    --------
    >>> table = pl.DataFrame({"arm": ["null"], "mean": [0.12345], "low": [0.1], "high": [0.15]})
    >>> readable(table).to_dicts()
    [{'arm': 'null', 'mean [95 % interval]': '0.123 [0.100, 0.150]'}]
    """
    columns = shown_columns(frame)
    headings = _unlike([column.heading for column in columns])
    return pl.DataFrame(
        {name: column.texts for name, column in zip(headings, columns, strict=True)},
        schema=dict.fromkeys(headings, pl.String),
    )


def text_table(frame: pl.DataFrame) -> str:
    """Return a table as :func:`readable` shows it, as lines of text for a terminal."""
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=-1,
        fmt_str_lengths=200,
        tbl_formatting="ASCII_MARKDOWN",
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        return str(readable(frame))


def number_text(value: float | None, *, decimals: int | None = None) -> str:
    """Return a number with three or four figures that mean something.

    Parameters
    ----------
    value
        The number; None and what is not finite have texts of their own.
    decimals
        Figures behind the point; chosen by the size of the number by default.

    Examples
    --------
    >>> [number_text(x) for x in (0.12345, 0.01234, 21.934, 1234567.0, 0.00002, 0.0, None)]
    ['0.123', '0.0123', '21.93', '1,234,567', '2e-05', '0', '–']
    """
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == 0 and decimals is None:
        return "0"
    if decimals is None and abs(value) < 1e-4:
        return f"{value:.2g}"
    text = f"{value:,.{_decimals(value) if decimals is None else decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def interval_text(
    mean: float | None, low: float | None, high: float | None, *, decimals: int | None = None
) -> str:
    """Return a mean with the ends of its interval to the same decimals.

    Examples
    --------
    >>> interval_text(0.1234, 0.11, 0.1371)
    '0.123 [0.110, 0.137]'
    >>> interval_text(0.5, None, None)
    '0.500'
    """
    if mean is None or low is None or high is None or math.isnan(low) or math.isnan(high):
        return number_text(mean, decimals=decimals)
    chosen = _decimals(max(abs(mean), abs(low), abs(high))) if decimals is None else decimals
    texts = [number_text(value, decimals=chosen) for value in (mean, low, high)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as shown: ``texts`` of the cells, ``keys`` to sort by ("" last)."""

    heading: str
    texts: list[str]
    keys: list[str]
    is_number: bool


def shown_columns(frame: pl.DataFrame) -> list[Column]:
    """Return the columns of a table as shown.

    Three neighbours X, low, high (or X, Y_low, Y_high) become one, "X [low, high]".
    """
    columns, at = [], 0
    while at < frame.width:
        ends = _interval_ends(frame, at)
        columns.append(_column(frame, at, ends))
        at += 3 if ends else 1
    return columns


def _interval_ends(frame: pl.DataFrame, at: int) -> list[pl.Series]:
    """Return the two columns after ``at`` if they are the interval of that one."""
    names = frame.columns[at : at + 3]
    if len(names) < 3 or not frame.to_series(at).dtype.is_numeric():
        return []
    match = re.fullmatch(r"(.*_)?low", names[1])
    if match is None or names[2] != f"{match[1] or ''}high":
        return []
    ends = [frame.to_series(at + 1), frame.to_series(at + 2)]
    is_number = all(end.dtype.is_numeric() or end.dtype == pl.Null for end in ends)
    return ends if is_number else []


def _column(frame: pl.DataFrame, at: int, ends: Sequence[pl.Series]) -> Column:
    series = frame.to_series(at)
    heading = HEADINGS.get(series.name, series.name.replace("_", " "))
    values = series.to_list()
    if not series.dtype.is_numeric():
        texts = [value_text(value) for value in values]
        return Column(heading, texts, ["" if v is None else value_text(v) for v in values], False)
    keys = ["" if v is None or v != v else repr(v) for v in values]
    if series.dtype.is_integer():
        texts = [ABSENT if v is None else (f"{v:,}" if abs(v) > 9999 else str(v)) for v in values]
    elif re.fullmatch(r"p(_.*)?", series.name):
        texts = [ABSENT if v is None else f"{v:.2g}" for v in values]
    else:
        lists = [values, *(end.to_list() for end in ends)]
        decimals = _shared_decimals(values, [value for values in lists for value in values])
        write = interval_text if ends else number_text
        texts = [write(*cells, decimals=decimals) for cells in zip(*lists, strict=True)]
    return Column(heading, texts, keys, True)


def _shared_decimals(
    values: Sequence[float | None], with_ends: Sequence[float | None]
) -> int | None:
    """Return decimals for a whole column of like numbers, None where sizes are too unlike."""
    sizes, all_sizes = _sizes(values), _sizes(with_ends)
    if not all_sizes:
        return 0
    sizes = sizes or all_sizes
    largest, least = max(all_sizes), min(sizes)
    if largest < 1e-3 or (largest >= 10 and largest > 30 * least):
        return None
    # one figure of the least number shows too, if that costs no more than four decimals
    return max(_decimals(largest), min(4, _decimals(least) - 2))


def _sizes(values: Sequence[float | None]) -> list[float]:
    return [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]


def _decimals(value: float) -> int:
    size = abs(value)
    bounds = ((1000, 0), (100, 1), (1, 2), (0.1, 3), (0.01, 4), (0.001, 5))
    return next((decimals for bound, decimals in bounds if size >= bound), 0 if size == 0 else 6)


def value_text(value: Any) -> str:
    """Return plain data that is no number as text."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _unlike(names: Sequence[str]) -> list[str]:
    """Return names that differ: a frame cannot hold one twice."""
    return [
        f"{n} ({names[: i + 1].count(n)})" if n in names[:i] else n for i, n in enumerate(names)
    ]
