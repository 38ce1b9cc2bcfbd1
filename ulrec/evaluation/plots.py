"""Plots as SVG text: axes with units, intervals shown, nothing told by colour alone.

Ink is ``currentColor`` and the ground transparent, so that a plot set into a page follows its light
or dark theme. Figures are narrow: their text stays readable at a phone's width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ulrec.data.schema import HIGH, LOW, MEAN, METRIC, K
from ulrec.errors import DataError
from ulrec.evaluation.canvas import BLUE, GREEN, INK, ORANGE, STYLE, VIOLET, panels, svg

__all__ = ["interval_plot", "loss_curves", "ranking_plot"]

FloatArray = NDArray[np.float64]

SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "D"), (VIOLET, "^"))

LINE = 0.27  # height of one row of a dot plot
LABEL_LENGTH = 34
SMOOTHED_SHARE = 0.05
LOG_RATIO = 8.0

UNITS = {
    "loss": "nats per value",
    "bits_per_pixel": "bits per pixel",
    "prior_nats": "nats per picture",
    "decoder_nats": "nats per picture",
}
"""Units of what training logs; other names stand for themselves."""


def loss_curves(
    runs: Mapping[str, Sequence[Mapping[str, float]]], *, values: Sequence[str] | None = None
) -> str:
    """Plot what trainings logged, one panel for each training and value.

    Parameters
    ----------
    runs
        Lines of the loss logs by the training's name: {"step": 10, "loss": 1.2, ...}.
    values
        The logged values to show; all by default.

    Returns
    -------
    str
        SVG. The pale line is what was logged, the strong one its moving mean. An axis is
        logarithmic where values are positive and far apart.

    Raises
    ------
    DataError
        If no line holds any of the values.
    """
    drawn = [
        (name, value, *_series(lines, value))
        for name, lines in runs.items()
        for value in _logged(lines, values)
    ]
    if not drawn:
        raise DataError(f"nothing to plot: no logged values {values or ''} in {list(runs)}")
    with matplotlib.rc_context(STYLE):
        figure, axes = panels([1.55] * len(drawn))
        for axis, (name, value, steps, logged) in zip(axes, drawn, strict=True):
            _draw_curve(axis, steps, logged)
            axis.set_title(f"{name}: {_words(value)}")
            axis.set_ylabel(UNITS.get(value, _words(value)))
        axes[-1].set_xlabel("training steps")
        return svg(figure)


def interval_plot(
    table: pl.DataFrame,
    *,
    label: str,
    mean: str = MEAN,
    low: str = LOW,
    high: str = HIGH,
    title: str,
    xlabel: str,
    reference: float | None = 0.0,
) -> str:
    """Plot a mean with its interval for each row of a table, the first on top.

    Parameters
    ----------
    table
        One row a dot.
    label, mean, low, high
        Names of columns. A row whose interval is null or NaN shows its mean only.
    title, xlabel
        Words above (may be empty) and below; ``xlabel`` names the unit.
    reference
        Where a line marks "no effect"; None draws none. A dot is filled where its interval leaves
        the reference out, hollow where not.

    Returns
    -------
    str
        SVG.

    Raises
    ------
    DataError
        If the table lacks a column or has no row with a mean.
    """
    rows = _dots(table, label, mean, low, high)
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = panels([LINE * len(rows) + 0.95])
        for place, dot in enumerate(rows):
            _draw_dot(
                axis, dot, place, BLUE, "o", filled=reference is None or dot.leaves(reference)
            )
        if reference is not None:
            axis.axvline(reference, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
            xlabel += f"\nfilled: the interval leaves out {reference:g}"
        _rows_axis(axis, [dot.label for dot in rows])
        axis.set_title(title)
        axis.set_xlabel(xlabel)
        return svg(figure)


def ranking_plot(
    table: pl.DataFrame,
    *,
    title: str,
    metrics: Sequence[str] | None = None,
    ks: Sequence[int] | None = None,
) -> str:
    """Plot ranking metrics, one panel a metric, one row a method, one marker a cut-off.

    Parameters
    ----------
    table
        [method, metric, k, mean, low, high].
    title
        Words above; may be empty.
    metrics, ks
        What to show, in this order; all in the order of the table by default, at most four ks.

    Returns
    -------
    str
        SVG.

    Raises
    ------
    DataError
        If the table lacks a column, a chosen value is not in it, or there are more than four ks.
    """
    _require_columns(table, ["method", METRIC, K, MEAN, LOW, HIGH])
    chosen = _chosen(table, METRIC, metrics)
    cuts = _chosen(table, K, ks)
    if len(cuts) > len(SERIES):
        raise DataError(f"a ranking plot shows at most {len(SERIES)} ks, got {cuts}; choose some")
    methods = table["method"].unique(maintain_order=True).to_list()
    with matplotlib.rc_context(STYLE):
        figure, axes = panels([LINE * 1.25 * len(methods) + 0.6] * len(chosen))
        for axis, metric in zip(axes, chosen, strict=True):
            part = table.filter(pl.col(METRIC) == metric)
            _draw_methods(axis, part, methods, cuts)
            axis.set_title(_words(metric) if len(cuts) > 1 else f"{_words(metric)}@{cuts[0]}")
            axis.set_xlim(left=0)
        axes[-1].set_xlabel("mean over users, 95 % interval")
        if len(cuts) > 1:
            _legend(figure, title, [f"k = {k}" for k in cuts])
        elif title:
            figure.suptitle(title, x=0.01, horizontalalignment="left", weight="bold", size=10)
        return svg(figure)


@dataclass(frozen=True, slots=True)
class _Dot:
    label: str
    mean: float
    low: float
    high: float

    def leaves(self, value: float) -> bool:
        """Return whether the interval is known and does not hold ``value``."""
        return bool(self.low > value or self.high < value)


def _dots(table: pl.DataFrame, label: str, mean: str, low: str, high: str) -> list[_Dot]:
    _require_columns(table, [label, mean, low, high])
    kept = table.filter(pl.col(mean).cast(pl.Float64).is_finite().fill_null(False))
    if kept.is_empty():
        raise DataError(f"nothing to plot: no row of the table has a {mean!r}")
    columns = [
        kept[name].cast(pl.Float64).fill_null(np.nan).to_list() for name in (mean, low, high)
    ]
    labels = kept[label].cast(pl.String).fill_null("").to_list()
    return [_Dot(*row) for row in zip(labels, *columns, strict=True)]


def _draw_dot(
    axis: Axes, dot: _Dot, place: float, colour: str, marker: str, *, filled: bool
) -> None:
    if np.isfinite(dot.low) and np.isfinite(dot.high):
        axis.plot([dot.low, dot.high], [place, place], color=colour, linewidth=1.6, zorder=2)
    axis.plot(
        [dot.mean],
        [place],
        marker=marker,
        markersize=5.5 if filled else 5,
        markerfacecolor=colour if filled else "none",
        markeredgecolor=colour,
        markeredgewidth=1.4,
        linestyle="none",
        zorder=3,
    )


def _draw_methods(
    axis: Axes, table: pl.DataFrame, methods: Sequence[str], cuts: Sequence[int]
) -> None:
    offsets = np.linspace(-0.24, 0.24, len(cuts)) if len(cuts) > 1 else np.zeros(1)
    for (colour, marker), offset, k in zip(SERIES, offsets, cuts, strict=False):
        part = table.filter(pl.col(K) == k)
        if part.is_empty():
            continue
        for dot in _dots(part, "method", MEAN, LOW, HIGH):
            place = methods.index(dot.label) + float(offset)
            _draw_dot(axis, dot, place, colour, marker, filled=True)
    _rows_axis(axis, methods)


def _draw_curve(axis: Axes, steps: FloatArray, logged: FloatArray) -> None:
    smooth = _moving_mean(logged, half=round(SMOOTHED_SHARE * len(steps) / 2))
    axis.plot(steps, logged, color=BLUE, alpha=0.35, linewidth=0.8)
    axis.plot(steps, smooth, color=BLUE, linewidth=1.8)
    finite = logged[np.isfinite(logged)]
    if len(finite) and finite.min() > 0 and finite.max() > LOG_RATIO * np.median(finite):
        axis.set_yscale("log")
    axis.annotate(
        f"{smooth[-1]:.3g}",
        (steps[-1], smooth[-1]),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        annotation_clip=False,
    )


def _moving_mean(values: FloatArray, *, half: int) -> FloatArray:
    """Return means over up to ``half`` finite neighbours on each side."""
    known = np.isfinite(values)
    window = np.ones(2 * half + 1)
    sums = np.convolve(np.where(known, values, 0.0), window, mode="full")
    counts = np.convolve(known.astype(np.float64), window, mode="full")
    inner = slice(half, half + len(values))
    return np.where(counts[inner] > 0, sums[inner] / np.maximum(counts[inner], 1), np.nan)


def _rows_axis(axis: Axes, labels: Sequence[str]) -> None:
    axis.set_yticks(range(len(labels)), [_short(name) for name in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.locator_params(axis="x", nbins=5)


def _legend(figure: Figure, title: str, names: Sequence[str]) -> None:
    marks = [
        Line2D([], [], color=colour, marker=marker, markersize=5.5, linewidth=1.6)
        for colour, marker in SERIES[: len(names)]
    ]
    figure.legend(
        marks,
        list(names),
        loc="outside upper left",
        ncols=len(names),
        title=title,
        title_fontproperties={"weight": "bold", "size": 10},
        alignment="left",
        borderpad=0,
    )


def _logged(lines: Sequence[Mapping[str, float]], values: Sequence[str] | None) -> list[str]:
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    return [name for name in names if values is None or name in values]


def _series(lines: Sequence[Mapping[str, float]], value: str) -> tuple[FloatArray, FloatArray]:
    pairs = [(line["step"], line[value]) for line in lines if value in line]
    steps, logged = np.array(pairs, dtype=np.float64).T
    return steps, logged


def _chosen(table: pl.DataFrame, column: str, wanted: Sequence[Any] | None) -> list[Any]:
    found = table[column].unique(maintain_order=True).drop_nulls().to_list()
    if wanted is None:
        return found
    unknown = [value for value in wanted if value not in found]
    if unknown or not wanted:
        raise DataError(f"the column {column!r} has no {unknown}; it has {found}")
    return list(wanted)


def _require_columns(table: pl.DataFrame, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"the table lacks the columns {missing}; it has {table.columns}")
    if table.is_empty():
        raise DataError("the table has no rows, there is nothing to plot")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(text: str) -> str:
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"
