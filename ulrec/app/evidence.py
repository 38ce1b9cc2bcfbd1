"""The fourth tab: how good it is, against what, and how the numbers came about."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st
import yaml

from ulrec.app.loading import Shown
from ulrec.app.pictures import heading, plain
from ulrec.errors import ArtefactError
from ulrec.evaluation.cells import readable
from ulrec.evaluation.curves import curve_png, wide
from ulrec.evaluation.report import SIMULATED_NOTICE, Figure, Metrics, read_metrics

__all__ = ["evidence", "say_simulated"]

SHEETS = {".png": "image/png", ".webp": "image/webp"}
PARTS = {
    "ulrec run": {"metrics.json": "figures", "sheets": "sheets", "report.html": "a report"},
    "ulrec curve": {"curve/curve.json": "what guidance buys"},
}


def say_simulated() -> None:
    """Say that the users are simulated, wherever they are shown."""
    st.html(
        f'<p class="ul-note" role="note"><b>Simulated users:</b> {escape(SIMULATED_NOTICE)}</p>'
    )


def evidence(shown: Shown) -> None:
    """Show the tab."""
    path = shown.folder / "metrics.json"
    metrics = read_metrics(path) if path.is_file() else None
    if metrics is None:
        st.info(f"This run has not been judged yet. {_absent(shown.folder)}")
    else:
        st.html(f'<dl class="ul-figures">{"".join(map(_figure, metrics.headline))}</dl>')
    _downloads(shown.folder)
    _curve(shown)
    _rate(shown.folder)
    _sheets(shown)
    if metrics is not None:
        _tables(metrics)
        if absent := _absent(shown.folder):
            st.caption(absent)
        with st.expander("How these numbers came about", icon=":material/history_edu:"):
            st.json(metrics.protocol)
    _configuration(shown.folder)


def _absent(folder: Path) -> str:
    """Return which parts of the evidence are not there, and what makes them."""
    missing = {
        command: [told for name, told in parts.items() if not (folder / name).exists()]
        for command, parts in PARTS.items()
    }
    made = [f"{', '.join(told)} (`{by} --config …`)" for by, told in missing.items() if told]
    return f"Not there yet: {'; '.join(made)}." if made else ""


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


def _curve(shown: Shown) -> None:
    """Show what guidance buys, where it was measured with the models that the run has now."""
    path = shown.folder / "curve" / "curve.json"
    if not path.is_file():
        return
    try:
        if not _is_of_now(path.parent):
            heading("What guidance buys", "It was measured with other models than these.")
            return
        content = json.loads(path.read_text(encoding="utf-8"))
        table = pl.DataFrame(content["rows"], infer_schema_length=None)
        users = int(content["num_users"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged; run `ulrec curve` again") from error
    heading(
        "What guidance buys",
        f"{users} validation users; the dashed line is guidance {shown.guidance:g}, in use.",
    )
    st.image(
        curve_png(table, setting="guidance", mark=shown.guidance),
        alt="Each metric over the guidance scale, with intervals",
        width="stretch",
    )
    with st.expander("As a table"):
        st.dataframe(readable(wide(table, setting="guidance")), hide_index=True)


def _is_of_now(folder: Path) -> bool:
    """Tell whether what an artefact was made from is what the run has."""
    made_from = _manifest(folder)["made_from"]
    return all(
        _manifest(folder.parent / name)["fingerprint"] == was for name, was in made_from.items()
    )


def _manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def _rate(folder: Path) -> None:
    """Show what bits buy, where ``ulrec sweep`` was run on the same media, in or beside the run."""
    for place in (folder / "sweep", folder.parent / "sweep"):
        picture = place / "sweep.png"
        if picture.is_file() and _has_media_of(folder, place):
            heading(
                "What bits buy",
                f"Rate and distortion of models trained at several prices of their bits "
                f"({place.name}), beside codecs at no more bits.",
            )
            st.image(
                picture.read_bytes(),
                alt="PSNR and other metrics of held-out pictures over bits per pixel",
                width="stretch",
            )
            return


def _has_media_of(folder: Path, sweep: Path) -> bool:
    """Tell whether the models of a sweep were trained on the media of a run."""
    configurations = sorted(sweep.glob("runs/*/config.yaml"))
    own = folder / "config.yaml"
    return own.is_file() and bool(configurations) and _media_of(own) == _media_of(configurations[0])


def _media_of(path: Path) -> dict[str, Any]:
    try:
        data: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
        return {key: data[key] for key in ("catalogue", "max_items", "media")}
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged; run its stages again") from error


def _tables(metrics: Metrics) -> None:
    for table in metrics.tables.values():
        heading(table.title, table.note)
        st.dataframe(readable(table.frame), hide_index=True)
    for name, reason in metrics.missing.items():
        st.caption(plain(f"{name}: {reason}"))


def _sheets(shown: Shown) -> None:
    sheets = sorted(p for p in shown.folder.glob("sheets/*") if p.suffix in SHEETS)
    titles = [sheet.stem.replace("_", " ").replace("-", " ").capitalize() for sheet in sheets]
    if not sheets:
        return
    heading("Sheets", f"{shown.noun.capitalize()}s of the run itself, chosen by nobody.")
    tabs = st.tabs(titles, key="sheet", on_change="rerun")
    for tab, sheet, title in zip(tabs, sheets, titles, strict=True):
        if tab.open:
            with tab:
                st.image(_link(sheet), alt=title, width="stretch")


def _link(sheet: Path) -> str:
    """Return a sheet as a link that holds it: a file would be sent again as a still picture."""
    data = base64.b64encode(sheet.read_bytes()).decode("ascii")
    return f"data:{SHEETS[sheet.suffix]};base64,{data}"


def _configuration(folder: Path) -> None:
    path = folder / "config.yaml"
    if path.is_file():
        with st.expander("The configuration of this run", icon=":material/tune:"):
            st.code(path.read_text(encoding="utf-8"), language="yaml", height=420)
