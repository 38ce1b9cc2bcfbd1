"""What all plots share: ink, type, panels of one width, and their way into a page or a file."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREEN", "INK", "ORANGE", "STYLE", "VIOLET", "WIDTH", "panels", "png", "svg"]

INK = "#1b1f24"  # becomes currentColor in SVG: used for nothing else
BLUE, ORANGE, GREEN, VIOLET = "#3b7dd8", "#d9772b", "#2e9e6b", "#9a6bd6"

WIDTH = 4.7  # inches: at a phone's 340 px, text of 9 points is still 9 px high
NARROWER = 0.7  # of a panel that stands beside others
DOTS_PER_INCH = 120

STYLE: Any = {  # matplotlib's types name each key, and differ between its versions
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # ids may hold dollar signs
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "ulrec",
}


def panels(heights: Sequence[float], *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each height in inches, row by row in so many columns."""
    rows = [max(heights[i : i + columns]) for i in range(0, len(heights), columns)]
    width = WIDTH if columns == 1 else WIDTH * columns * NARROWER
    figure = Figure(figsize=(width, sum(rows)), layout="constrained")
    axes = figure.subplots(
        len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": rows}
    ).ravel()
    for axis in axes[len(heights) :]:
        axis.set_visible(False)
    return figure, list(axes[: len(heights)])


def svg(figure: Figure) -> str:
    """Return the figure as one ``<svg>`` element whose ids clash with no other's on a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL
    )
    text = text.replace(INK, "currentColor")
    prefix = "p" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    return re.sub(r"url\(#", f"url(#{prefix}-", text).strip()


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={})
    return buffer.getvalue()
