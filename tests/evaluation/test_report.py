"""Reports: self-contained, escaped, labelled; numbers as people read them."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from ulrec.errors import ArtefactError, DataError
from ulrec.evaluation.plots import interval_plot
from ulrec.evaluation.report import (
    Figure,
    NamedImage,
    NamedPlot,
    NamedTable,
    Report,
    Section,
    read_metrics,
    render,
)

EVIL = "<script>alert('x')</script>\"&"
TABLE = pl.DataFrame(
    {"arm": [EVIL, "null"], "mean": [0.2, 0.1], "low": [0.1, 0.0], "high": [0.3, 0.2]}
)
PNG = bytes.fromhex("89504e470d0a1a0a")


class Page(HTMLParser):
    """Collects what a browser would run or ask for, and checks that tags close."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.sources: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        assert not any(k.startswith("on") for k, _ in attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if not self.open or self.open[-1] not in ("style", "script") else ""


def full_report(*, simulated: bool = True) -> Report:
    svg = interval_plot(TABLE, label="arm", title=EVIL, xlabel=EVIL)
    return Report(
        title=EVIL,
        subtitle=EVIL,
        simulated=simulated,
        headline=[Figure(EVIL, f"0.1 [{EVIL}, 0.3]", EVIL)],
        sections=[
            Section(
                EVIL,
                f"{EVIL}\n\nsecond",
                tables=[NamedTable(EVIL, TABLE.rename({"arm": EVIL}), EVIL)],
                images=[NamedImage(EVIL, PNG, "image/png", EVIL)],
                plots=[NamedPlot(EVIL, svg, EVIL, EVIL)],
            )
        ],
        provenance={EVIL: {"seed": 0, "list": [EVIL, 1]}, "none": None},
    )


def test_everything_is_escaped_and_nothing_is_requested() -> None:
    text = render(full_report())
    page = Page(text)
    assert page.scripts == 1  # its own
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert page.words.count(EVIL) >= 10
    assert "default-src 'none'" in text


def test_simulated_users_are_announced_only_where_they_are() -> None:
    assert "Simulated users:" in Page(render(full_report())).words
    assert "Simulated users:" not in Page(render(full_report(simulated=False))).words


def test_an_empty_report_is_a_page() -> None:
    assert "T" in Page(render(Report(title="T", simulated=False))).words
    empty = Section("S", tables=[NamedTable("none", pl.DataFrame())])
    assert "none" in Page(render(Report(title="T", simulated=False, sections=[empty]))).words


def test_cells_carry_what_they_are_sorted_by() -> None:
    table = pl.DataFrame({"name": ["b", None], "x": [1234.5, None]})
    text = render(
        Report(title="", simulated=False, sections=[Section("", tables=[NamedTable("", table)])])
    )
    keys = re.findall(r'data-v="([^"]*)"', text)
    assert keys == ["b", "1234.5", "", ""]


def test_what_is_no_picture_or_plot_is_refused() -> None:
    def report(section: Section) -> str:
        return render(Report(title="T", simulated=False, sections=[section]))

    with pytest.raises(DataError, match="image/tiff"):
        report(Section("S", images=[NamedImage("i", PNG, "image/tiff", "")]))
    for bad in (
        "no svg",
        "<html/>",
        '<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        '<svg onload="alert(1)"/>',
        '<svg xmlns:xlink="http://www.w3.org/1999/xlink"><use xlink:href="http://a/b"/></svg>',
    ):
        with pytest.raises(DataError, match="plot"):
            report(Section("S", plots=[NamedPlot("p", bad, "")]))


def test_metrics_are_read(tmp_path: Path) -> None:
    content = {
        "simulated": True,
        "protocol": {"seed": 0},
        "headline": [{"name": "PSNR", "value": "24", "note": "dB"}],
        "tables": {"t": {"title": "T", "note": "N", "rows": [{"a": None}, {"a": 1.5}]}},
    }
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    metrics = read_metrics(path)
    assert metrics.simulated and metrics.headline == (Figure("PSNR", "24", "dB"),)
    assert metrics.tables["t"].title == "T"
    assert metrics.tables["t"].frame["a"].to_list() == [None, 1.5]
    assert metrics.missing == {}
    path.write_text(json.dumps({**content, "missing": {"category": "no column"}}))
    assert read_metrics(path).missing == {"category": "no column"}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"simulated": true, "protocol": 3}'])
def test_damaged_metrics_say_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(ArtefactError, match="damaged"):
        read_metrics(path)
    with pytest.raises(ArtefactError, match="ulrec evaluate"):
        read_metrics(tmp_path / "none.json")
