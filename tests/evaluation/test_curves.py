"""Curves over a setting: one panel a metric, the value in use marked, for pages and for files."""

import io
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation import canvas
from ulrec.evaluation.curves import curve_png, curve_svg, wide

TABLE = pl.DataFrame(
    [
        {"guidance": w, "metric": m, "mean": w / 10, "low": w / 10 - 0.1, "high": w / 10 + 0.1}
        for w in (3.0, 0.0, 1.0)
        for m in ("true utility", "copy rate")
    ]
)


def test_svg_has_a_panel_for_each_metric_and_its_band():
    text = curve_svg(TABLE, setting="guidance", mark=1.0)
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and canvas.INK not in text and "currentColor" in text
    ids = [element.get("id", "") for element in root.iter()]
    assert sum("axes_" in name for name in ids) == 2
    assert sum("FillBetween" in name for name in ids) == 2
    assert curve_svg(TABLE, setting="guidance", mark=1.0) == text
    assert text.count(canvas.ORANGE) > curve_svg(TABLE, setting="guidance").count(canvas.ORANGE)


def test_png_stands_on_white_with_panels_side_by_side():
    image = Image.open(io.BytesIO(curve_png(TABLE, setting="guidance", mark=1.0)))
    assert image.width > 2 * image.height
    pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0, 0] == 255).all() and (pixels < 128).any()
    below = Image.open(io.BytesIO(curve_png(TABLE, setting="guidance", columns=1)))
    assert below.height > 1.5 * image.height


def test_wide_is_sorted_and_keeps_what_one_metric_lacks():
    table = wide(
        TABLE.filter((pl.col("metric") == "copy rate") | (pl.col("guidance") > 0)),
        setting="guidance",
    )
    assert table["guidance"].to_list() == [0.0, 1.0, 3.0]
    assert table["true utility"].to_list() == [None, 0.1, 0.3]
    assert table["copy rate_high"].to_list() == pytest.approx([0.1, 0.2, 0.4])


def test_tables_that_are_none():
    with pytest.raises(DataError, match="low"):
        curve_svg(TABLE.drop("low"), setting="guidance")
    with pytest.raises(DataError, match="0 rows"):
        curve_png(TABLE.head(0), setting="guidance")
