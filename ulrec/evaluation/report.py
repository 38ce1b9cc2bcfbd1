"""A report as one HTML file that needs nothing else: no request leaves it.

It follows the reader's light or dark theme and any width. Everything that comes from outside (ids,
names, notes) is escaped.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree

import polars as pl

from ulrec.errors import ArtefactError, DataError

__all__ = [
    "SIMULATED_NOTICE",
    "Figure",
    "Metrics",
    "NamedImage",
    "NamedPlot",
    "NamedTable",
    "Report",
    "Section",
    "interval_text",
    "number_text",
    "read_metrics",
    "readable",
    "render",
]

SIMULATED_NOTICE = (
    "drawn by ulrec with known tastes, no real person's behaviour. Figures about users say how "
    "well the method recovers those tastes, not how people would respond."
)

MIMES = ("image/png", "image/jpeg", "image/webp", "image/gif")
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


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of the headline: "PSNR", "24.1 [23.8, 24.4]", "dB, held-out pictures"."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class NamedTable:
    """A table with a title and a note on how to read it.

    Three neighbouring columns X, low, high (or X, Y_low, Y_high) are shown as one, "X [low, high]".
    """

    title: str
    frame: pl.DataFrame
    note: str = ""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """A picture file; ``alt`` says what it shows to who cannot see it; the title may be empty."""

    title: str
    data: bytes
    mime: str
    alt: str


@dataclass(frozen=True, slots=True)
class NamedPlot:
    """A plot as an ``<svg>`` element, from :mod:`ulrec.evaluation.plots`."""

    title: str
    svg: str
    alt: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: paragraphs (a blank line between two), then pictures, plots, tables."""

    title: str
    text: str = ""
    tables: Sequence[NamedTable] = ()
    images: Sequence[NamedImage] = ()
    plots: Sequence[NamedPlot] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a report says; ``provenance`` may be nested plain data."""

    title: str
    subtitle: str = ""
    simulated: bool
    headline: Sequence[Figure] = ()
    sections: Sequence[Section] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What ``metrics.json`` of a run says; ``tables`` by key, in order."""

    simulated: bool
    protocol: dict[str, Any]
    headline: tuple[Figure, ...]
    tables: dict[str, NamedTable]


def read_metrics(path: str | Path) -> Metrics:
    """Read the metrics of a run.

    Raises
    ------
    ArtefactError
        If the file is missing or not what an evaluation writes.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(f"no metrics at {path}; run `ulrec evaluate` first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Metrics(
            simulated=bool(content["simulated"]),
            protocol=dict(content["protocol"]),
            headline=tuple(Figure(**figure) for figure in content["headline"]),
            tables={key: _table(entry) for key, entry in content["tables"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ArtefactError(f"{path} is damaged ({reason}); run `ulrec evaluate` again") from error


def render(report: Report) -> str:
    """Return a report as HTML.

    Raises
    ------
    DataError
        If a picture's type is not one that browsers show, or a plot is no plain SVG.
    """
    page = Template(resources.files("ulrec.evaluation").joinpath("report.html").read_text("utf-8"))
    return page.substitute(
        title=escape(report.title),
        head=_head(report),
        body="\n".join(_section(section, i) for i, section in enumerate(report.sections)),
        foot=_foot(report),
    )


def readable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table as it is shown: text cells, intervals joined to their means, plain headings.

    Examples
    --------
    >>> table = pl.DataFrame({"arm": ["null"], "mean": [0.12345], "low": [0.1], "high": [0.15]})
    >>> readable(table).to_dicts()
    [{'arm': 'null', 'mean [95 % interval]': '0.123 [0.100, 0.150]'}]
    """
    columns = _columns(frame)
    headings = _unlike([column.heading for column in columns])
    return pl.DataFrame(
        {name: column.texts for name, column in zip(headings, columns, strict=True)},
        schema=dict.fromkeys(headings, pl.String),
    )


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
    chosen = max(map(_decimals, (mean, low, high))) if decimals is None else decimals
    if decimals is None:
        chosen = min(chosen, _decimals(max(abs(mean), abs(low), abs(high))) + 1)
    texts = [number_text(value, decimals=chosen) for value in (mean, low, high)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as shown: ``texts`` of the cells, ``keys`` to sort by ("" last)."""

    heading: str
    texts: list[str]
    keys: list[str]
    is_number: bool


def _columns(frame: pl.DataFrame) -> list[_Column]:
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


def _column(frame: pl.DataFrame, at: int, ends: Sequence[pl.Series]) -> _Column:
    series = frame.to_series(at)
    heading = HEADINGS.get(series.name, series.name.replace("_", " "))
    values = series.to_list()
    if not series.dtype.is_numeric():
        texts = [_text(value) for value in values]
        return _Column(heading, texts, ["" if v is None else _text(v) for v in values], False)
    keys = ["" if v is None or v != v else repr(v) for v in values]
    if series.dtype.is_integer():
        texts = [ABSENT if v is None else (f"{v:,}" if abs(v) > 9999 else str(v)) for v in values]
    elif re.fullmatch(r"p(_.*)?", series.name):
        texts = [ABSENT if v is None else f"{v:.2g}" for v in values]
    elif ends:
        decimals = _shared_decimals(values)
        triples = zip(values, *(end.to_list() for end in ends), strict=True)
        texts = [interval_text(*triple, decimals=decimals) for triple in triples]
    else:
        decimals = _shared_decimals(values)
        texts = [number_text(value, decimals=decimals) for value in values]
    return _Column(heading, texts, keys, True)


def _shared_decimals(values: Sequence[float | None]) -> int | None:
    """Return decimals for a whole column of like numbers, None where sizes are too unlike."""
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    if not sizes:
        return 0
    largest, least = max(sizes), min(sizes)
    if largest < 1e-3 or (largest >= 10 and largest > 30 * least):
        return None
    # one figure of the least number shows too, if that costs no more than four decimals
    return max(_decimals(largest), min(4, _decimals(least) - 2))


def _decimals(value: float) -> int:
    size = abs(value)
    bounds = ((1000, 0), (100, 1), (1, 2), (0.1, 3), (0.01, 4), (0.001, 5))
    return next((decimals for bound, decimals in bounds if size >= bound), 0 if size == 0 else 6)


def _text(value: Any) -> str:
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


def _table(entry: Mapping[str, Any]) -> NamedTable:
    frame = pl.DataFrame(entry["rows"], infer_schema_length=None)
    return NamedTable(str(entry["title"]), frame, str(entry.get("note", "")))


def _head(report: Report) -> str:
    parts = [f'<p class="subtitle">{escape(report.subtitle)}</p>'] if report.subtitle else []
    if report.simulated:
        words = escape(SIMULATED_NOTICE)
        parts.append(f'<p class="banner" role="note"><b>Simulated users:</b> {words}</p>')
    if report.headline:
        parts.append(f'<dl class="figures">{"".join(map(_figure, report.headline))}</dl>')
    links = [f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(report.sections)]
    if report.provenance:
        links.append('<a href="#provenance">Provenance</a>')
    parts.append(f'<nav aria-label="Contents">{"".join(links)}</nav>')
    return "\n".join(parts)


def _figure(figure: Figure) -> str:
    value, bracket, rest = figure.value.partition(" [")
    interval = f'<dd class="interval">[{escape(rest)}</dd>' if bracket else ""
    note = f'<dd class="note">{escape(figure.note)}</dd>' if figure.note else ""
    name, shown = escape(figure.name), escape(value)
    return f'<div><dt>{name}</dt><dd class="value">{shown}</dd>{interval}{note}</div>'


def _section(section: Section, number: int) -> str:
    paragraphs = [p.strip() for p in section.text.split("\n\n") if p.strip()]
    parts = [f'<section id="s{number}"><h2>{escape(section.title)}</h2>']
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs]
    parts += [_image(image) for image in section.images]
    if section.plots:
        parts.append(f'<div class="block plots">{"".join(map(_plot, section.plots))}</div>')
    parts += [_named_table(table) for table in section.tables]
    return "\n".join([*parts, "</section>"])


def _image(image: NamedImage) -> str:
    if image.mime not in MIMES:
        raise DataError(f"a picture of a report has to be one of {MIMES}, got {image.mime!r}")
    data = base64.b64encode(image.data).decode("ascii")
    caption = f"<figcaption>{escape(image.title)}</figcaption>" if image.title else ""
    alt = escape(image.alt)
    return (
        f'<figure class="block">{caption}'
        f'<div class="picture" tabindex="0" role="region" aria-label="{alt}">'
        f'<img src="data:{image.mime};base64,{data}" alt="{alt}"></div></figure>'
    )


def _plot(plot: NamedPlot) -> str:
    _require_plain(plot)
    caption = f"<figcaption>{escape(plot.title)}</figcaption>" if plot.title else ""
    note = f'<p class="note">{escape(plot.note)}</p>' if plot.note else ""
    drawn = f'<div role="img" aria-label="{escape(plot.alt)}">{plot.svg}</div>'
    return f"<figure>{caption}{drawn}{note}</figure>"


def _require_plain(plot: NamedPlot) -> None:
    """Refuse an SVG that could do more than be looked at."""
    try:
        root = ElementTree.fromstring(plot.svg)
    except ElementTree.ParseError as error:
        raise DataError(f"the plot {plot.title!r} is no SVG ({error})") from error
    local = {element.tag.rpartition("}")[2] for element in root.iter()}
    attributes = [
        (name.rpartition("}")[2].lower(), value.strip())
        for element in root.iter()
        for name, value in element.attrib.items()
    ]
    acts = any(name.startswith("on") for name, _ in attributes)
    reaches = any(name == "href" and not value.startswith("#") for name, value in attributes)
    foreign = local & {"script", "foreignObject", "iframe", "image", "a"}
    if not root.tag.endswith("svg") or foreign or acts or reaches:
        raise DataError(
            f"the plot {plot.title!r} has to be an <svg> that only draws, got <{root.tag}> with "
            f"{sorted(foreign)} or attributes that act; take it from ulrec.evaluation.plots"
        )


def _named_table(table: NamedTable) -> str:
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    title = escape(table.title)
    heading = f"<h3>{title}</h3>" if table.title else ""
    return f'<div class="block">{heading}{note}{_box(_columns(table.frame), title)}</div>'


def _box(columns: Sequence[_Column], label: str) -> str:
    """Return a table that scrolls in its own box; ``label`` is escaped already."""
    head = "".join(
        f'<th scope="col"{" class=number" if column.is_number else ""}>'
        f'<button type="button">{escape(column.heading)}</button></th>'
        for column in columns
    )
    num_rows = len(columns[0].texts) if columns else 0
    rows = ("".join(_cell(column, row) for column in columns) for row in range(num_rows))
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(column: _Column, row: int) -> str:
    kind = "number" if column.is_number else "text"
    text, bracket, rest = escape(column.texts[row]).partition(" [" if column.is_number else "\0")
    ends = f' <span class="ends">[{rest}</span>' if bracket else ""
    return f'<td class="{kind}" data-v="{escape(column.keys[row])}">{text}{ends}</td>'


def _foot(report: Report) -> str:
    if not report.provenance:
        return ""
    pairs = _flat(report.provenance)
    columns = [
        _Column("what", [key for key, _ in pairs], [key for key, _ in pairs], False),
        _Column("value", [value for _, value in pairs], [value for _, value in pairs], False),
    ]
    return (
        '<section id="provenance"><h2>Provenance</h2><p>How these numbers came about. Compare them '
        "only with numbers of the same protocol.</p><details open><summary>Show all</summary>"
        f"{_box(columns, 'Provenance')}</details></section>"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested plain data as (dotted key, text) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            pairs.append((f"{prefix}{key}", ", ".join(map(_text, value))))
        else:
            pairs.append((f"{prefix}{key}", _text(value)))
    return pairs
