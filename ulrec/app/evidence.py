"""The fourth tab: how good it is, against what, and how the numbers came about."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import polars as pl
import streamlit as st

from ulrec.app.loading import Shown
from ulrec.app.pictures import heading, plain
from ulrec.errors import ArtefactError
from ulrec.evaluation.cells import readable
from ulrec.evaluation.curves import curve_png, wide
from ulrec.evaluation.report import SIMULATED_NOTICE, Figure, Metrics, read_metrics

__all__ = ["evidence", "say_simulated"]


def say_simulated() -> None:
    """Say that the users are simulated, wherever they are shown."""
    st.html(
        f'<p class="ul-note" role="note"><b>Simulated users:</b> {escape(SIMULATED_NOTICE)}</p>'
    )


def evidence(shown: Shown) -> None:
    """Show the tab."""
    path = shown.folder / "metrics.json"
    if not path.is_file():
        st.info("This run has not been judged yet: `ulrec evaluate`, then `ulrec report`.")
        return
    metrics = read_metrics(path)
    st.html(f'<dl class="ul-figures">{"".join(map(_figure, metrics.headline))}</dl>')
    _downloads(shown.folder)
    _curve(shown.folder)
    _sheets(shown.folder)
    _tables(metrics)
    with st.expander("How these numbers came about", icon=":material/history_edu:"):
        st.json(metrics.protocol)
    _configuration(shown.folder)


def _figure(figure: Figure) -> str:
    value, bracket, interval = figure.value.partition(" [")
    below = escape(f"[{interval}" if bracket else "")
    return (
        f'<div><dt>{escape(figure.name)}</dt><dd class="value">{escape(value)}</dd>'
        f"<dd>{below}</dd><dd>{escape(figure.note)}</dd></div>"
    )


def _downloads(folder: Path) -> None:
    files = (
        ("report.html", "text/html", "Download the report"),
        ("metrics.json", "application/json", "Download the numbers"),
    )
    with st.container(horizontal=True):
        for name, mime, label in files:
            path = folder / name
            if path.is_file():
                st.download_button(
                    label,
                    data=path.read_bytes(),
                    file_name=f"{folder.name}-{name}",
                    mime=mime,
                    icon=":material/download:",
                    on_click="ignore",
                )


def _curve(folder: Path) -> None:
    """Show what guidance buys, where the run has measured it."""
    path = folder / "curve" / "curve.json"
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        table = pl.DataFrame(content["rows"], infer_schema_length=None)
        note = f"{int(content['num_users'])} validation users; the square is what the run uses."
        mark = float(content["configured"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged; run `ulrec curve` again") from error
    heading("What guidance buys", note)
    st.image(
        curve_png(table, setting="guidance", mark=mark),
        alt="Each metric over the guidance scale, with intervals",
        width="stretch",
    )
    with st.expander("As a table"):
        st.dataframe(readable(wide(table, setting="guidance")), hide_index=True)


def _tables(metrics: Metrics) -> None:
    for table in metrics.tables.values():
        heading(table.title, table.note)
        st.dataframe(readable(table.frame), hide_index=True)
    for name, reason in metrics.missing.items():
        st.caption(plain(f"{name}: {reason}"))


def _sheets(folder: Path) -> None:
    sheets = sorted(folder.glob("sheets/*.png"))
    titles = [sheet.stem.replace("_", " ").replace("-", " ").capitalize() for sheet in sheets]
    if not sheets:
        return
    heading("Sheets", "Pictures of the run itself, chosen by nobody.")
    for tab, sheet, title in zip(st.tabs(titles), sheets, titles, strict=True):
        with tab:
            st.image(sheet.read_bytes(), alt=title, width="stretch")


def _configuration(folder: Path) -> None:
    path = folder / "config.yaml"
    if path.is_file():
        with st.expander("The configuration of this run", icon=":material/tune:"):
            st.code(path.read_text(encoding="utf-8"), language="yaml", height=420)
