"""Trained latents beside codecs, shrinking and a Gaussian: rate, distortion, and their plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ulrec.errors import DataError
from ulrec.evaluation.canvas import BLUE, GREEN, INK, ORANGE, STYLE, VIOLET, panels, png
from ulrec.evaluation.gaussian_rate import gaussian_psnr
from ulrec.evaluation.rate import CODECS, codec_psnr, downsampling_psnr

__all__ = ["BITS", "PSNR", "rate_baselines", "rate_png"]

BITS, PSNR = "bits/pixel", "PSNR"
GAUSSIAN, SHRINKING = "Gaussian R(D)", "shrinking"
LOOK = {
    "jpeg": (GREEN, "-", "D"),
    "webp": (VIOLET, "-", "^"),
    SHRINKING: (ORANGE, "-", "s"),
    GAUSSIAN: (INK, "--", ""),
}
MARKERS = "ovP*X<>h"
BESIDE = (INK, ORANGE, VIOLET, GREEN)
HEIGHT = 3.2


def rate_baselines(
    heldout: NDArray[np.uint8], train: NDArray[np.uint8], rates: Sequence[float]
) -> tuple[pl.DataFrame, list[tuple[str, float, str]]]:
    """Return rows [method, at, bits/pixel, PSNR] at no more bits than each rate, and what lacks.

    What lacks is told as (method, rate, reason).

    Parameters
    ----------
    heldout
        Pictures uint8 (N, 3, [F,] H, W) that codecs and shrinking are judged on.
    train
        Pictures that the Gaussian's covariance is of.
    rates
        In bits/pixel.
    """
    rows: list[tuple[str, float, float, float]] = []
    missing: list[tuple[str, float, str]] = []
    for rate in rates:
        for method in (*CODECS, SHRINKING):
            try:
                if method in CODECS:
                    codec = codec_psnr(heldout, bits_per_pixel=rate, codec=method)
                    rows.append((method, rate, codec.bits_per_pixel, float(codec.psnr.mean())))
                else:
                    small = downsampling_psnr(heldout, bits_per_pixel=rate)
                    rows.append((method, rate, small.bits_per_pixel, float(small.psnr.mean())))
            except DataError as error:
                missing.append((method, rate, str(error)))
    found = gaussian_psnr(train, bits_per_pixel=rates, block=min(8, *train.shape[-2:]))
    rows += [(GAUSSIAN, at, at, float(value)) for at, value in zip(rates, found, strict=True)]
    schema = {"method": pl.String, "at": pl.Float64, BITS: pl.Float64, PSNR: pl.Float64}
    return pl.DataFrame(rows, schema, orient="row"), missing


def rate_png(
    points: pl.DataFrame,
    others: pl.DataFrame,
    *,
    series: str,
    label: str,
    beside: Mapping[str, pl.DataFrame] | None = None,
) -> bytes:
    """Plot metrics over bits/pixel: PSNR with the baselines, one panel for each other metric.

    Parameters
    ----------
    points
        [bits/pixel, PSNR, any other metrics] and a column each for ``series`` and ``label``; one
        row a trained model.
    others
        As of :func:`rate_baselines`.
    series
        Column whose values share a marker, such as b_x.
    label
        Column written beside the points, such as c_lf.
    beside
        Points of other sweeps by name, drawn in colours of their own; a metric that only they have
        is not drawn.
    """
    metrics = [c for c in points.columns if c not in (BITS, series, label)]
    metrics.sort(key=lambda name: name != PSNR)
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white"}):
        figure, axes = panels([HEIGHT] * len(metrics), columns=min(2, len(metrics)))
        for metric, axis in zip(metrics, axes, strict=True):
            if metric == PSNR:
                _draw_baselines(axis, others)
            _draw_points(axis, points, metric, series, label)
            for number, (name, other) in enumerate((beside or {}).items()):
                if metric in other.columns:
                    colour = BESIDE[number % len(BESIDE)]
                    _draw_points(axis, other, metric, series, label, colour, f"{name}: ")
            axis.set_title(metric)
            axis.set_xlabel("bits per pixel")
            axis.margins(x=0.1, y=0.12)
        axes[0].legend(loc="best")
        return png(figure)


def _draw_baselines(axis: Axes, others: pl.DataFrame) -> None:
    for method, (colour, line, marker) in LOOK.items():
        part = others.filter(pl.col("method") == method).sort(BITS)
        if part.height:
            x, y = part[BITS].to_numpy(), part[PSNR].to_numpy()
            axis.plot(x, y, line, color=colour, marker=marker, markersize=4, label=method)


def _draw_points(
    axis: Axes,
    points: pl.DataFrame,
    metric: str,
    series: str,
    label: str,
    colour: str = BLUE,
    name: str = "",
) -> None:
    values = points[series].unique().sort().to_list()
    for number, value in enumerate(values):
        part = points.filter(pl.col(series) == value).sort(BITS)
        marker = MARKERS[number % len(MARKERS)]
        x, y = part[BITS].to_numpy(), part[metric].to_numpy()
        axis.plot(
            x, y, linestyle="none", color=colour, marker=marker, label=f"{name}{series} {value:g}"
        )
        last = part.group_by(label).agg(pl.col(BITS).max(), pl.col(metric).first())
        for price, at, height in last.select(label, BITS, metric).iter_rows():
            axis.annotate(
                f"{price:g}", (at, height), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
