"""Curves over a setting, such as guidance: one panel a metric, intervals as a band."""

from __future__ import annotations

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ulrec.data.schema import HIGH, LOW, MEAN, METRIC
from ulrec.errors import DataError
from ulrec.evaluation.canvas import BLUE, INK, ORANGE, STYLE, panels, png, svg

__all__ = ["curve_png", "curve_svg", "wide"]

HEIGHT = 1.75
UNITS = {
    "true utility": "standard deviations",
    "held-out lift": "difference of cosines",
    "HR@20": "share of users",
    "copy rate": "share of pictures",
    "diversity across users": "1 - cosine",
    "motion energy": "over that of real clips",
    "border variance": "over that of real clips",
}
"""Units beside the axes; other metrics have none."""


def curve_svg(table: pl.DataFrame, *, setting: str, mark: float | None = None) -> str:
    """Plot each metric over a setting as SVG, one panel below the other.

    Parameters
    ----------
    table
        [setting, metric, mean, low, high]; an end that is null or NaN has no band.
    setting
        The column along the axis.
    mark
        Where a dashed line and a square mark the value in use; None marks none.

    Raises
    ------
    DataError
        If the table lacks a column or has no row with a mean.
    """
    with matplotlib.rc_context(STYLE):
        return svg(_figure(table, setting, mark, columns=1))


def curve_png(
    table: pl.DataFrame, *, setting: str, mark: float | None = None, columns: int = 3
) -> bytes:
    """Plot as :func:`curve_svg` does, as PNG with panels side by side."""
    with matplotlib.rc_context(STYLE):
        return png(_figure(table, setting, mark, columns=columns))


def wide(table: pl.DataFrame, *, setting: str) -> pl.DataFrame:
    """Return one row a value of the setting: each metric with its _low and _high beside it.

    Examples
    --------
    >>> rows = {"guidance": [1.0], "metric": ["lift"], "mean": [0.2], "low": [0.1], "high": [0.3]}
    >>> wide(pl.DataFrame(rows), setting="guidance").to_dicts()
    [{'guidance': 1.0, 'lift': 0.2, 'lift_low': 0.1, 'lift_high': 0.3}]
    """
    _require(table, setting)
    result = table.select(setting).unique().sort(setting)
    for metric in table[METRIC].unique(maintain_order=True).to_list():
        part = table.filter(pl.col(METRIC) == metric).select(
            setting,
            pl.col(MEAN).alias(metric),
            pl.col(LOW).alias(f"{metric}_low"),
            pl.col(HIGH).alias(f"{metric}_high"),
        )
        result = result.join(part, on=setting, how="left", maintain_order="left")
    return result


def _figure(table: pl.DataFrame, setting: str, mark: float | None, *, columns: int) -> Figure:
    _require(table, setting)
    metrics = table[METRIC].unique(maintain_order=True).to_list()
    figure, axes = panels([HEIGHT] * len(metrics), columns=min(columns, len(metrics)))
    for axis, metric in zip(axes, metrics, strict=True):
        part = table.filter(pl.col(METRIC) == metric).sort(setting)
        _draw(axis, part, setting, mark)
        axis.set_title(metric)
        axis.set_ylabel(UNITS.get(metric, ""))
        if axis in axes[-columns:]:
            axis.set_xlabel(setting)
    return figure


def _draw(axis: Axes, part: pl.DataFrame, setting: str, mark: float | None) -> None:
    names = (setting, MEAN, LOW, HIGH)
    x, mean, low, high = (
        part[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names
    )
    axis.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(x, mean, color=BLUE, linewidth=1.6, marker="o", markersize=4)
    if mark is not None:
        axis.axvline(mark, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axis.plot(
            x[x == mark],
            mean[x == mark],
            color=ORANGE,
            marker="s",
            markersize=7,
            linestyle="none",
            zorder=3,
        )
    axis.margins(x=0.04)
    axis.locator_params(axis="y", nbins=5)


def _require(table: pl.DataFrame, setting: str) -> None:
    missing = [c for c in (setting, METRIC, MEAN, LOW, HIGH) if c not in table.columns]
    if missing or table.is_empty():
        raise DataError(
            f"a curve needs rows and the columns {missing or 'it has'}, got {table.height} rows of "
            f"{table.columns}"
        )
