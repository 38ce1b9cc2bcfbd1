"""A report as one HTML file that needs nothing else: no request leaves it.

It follows the reader's light or dark theme and any width. Everything that comes from outside (ids,
names, notes) is escaped.
"""

from __future__ import annotations

import base64
import json
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
from ulrec.evaluation.cells import Column, shown_columns, value_text

__all__ = [
    "SIMULATED_NOTICE",
    "Figure",
    "Metrics",
    "NamedImage",
    "NamedPlot",
    "NamedTable",
    "Report",
    "Section",
    "read_metrics",
    "render",
]

SIMULATED_NOTICE = (
    "drawn by ulrec with known tastes, no real person's behaviour. Figures about users say how "
    "well the method recovers those tastes, not how people would respond."
)

MIMES = ("image/png", "image/jpeg", "image/webp", "image/gif")


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
    """What ``metrics.json`` of a run says; ``tables`` by key, in order.

    ``missing`` says of tables that the run cannot have why.
    """

    simulated: bool
    protocol: dict[str, Any]
    headline: tuple[Figure, ...]
    tables: dict[str, NamedTable]
    missing: dict[str, str] = field(default_factory=dict)


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
            missing=dict(content.get("missing", {})),
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
    return f'<div class="block">{heading}{note}{_box(shown_columns(table.frame), title)}</div>'


def _box(columns: Sequence[Column], label: str) -> str:
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


def _cell(column: Column, row: int) -> str:
    kind = "number" if column.is_number else "text"
    text, bracket, rest = escape(column.texts[row]).partition(" [" if column.is_number else "\0")
    ends = f' <span class="ends">[{rest}</span>' if bracket else ""
    return f'<td class="{kind}" data-v="{escape(column.keys[row])}">{text}{ends}</td>'


def _foot(report: Report) -> str:
    if not report.provenance:
        return ""
    pairs = _flat(report.provenance)
    columns = [
        Column("what", [key for key, _ in pairs], [key for key, _ in pairs], False),
        Column("value", [value for _, value in pairs], [value for _, value in pairs], False),
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
            pairs.append((f"{prefix}{key}", ", ".join(map(value_text, value))))
        else:
            pairs.append((f"{prefix}{key}", value_text(value)))
    return pairs
