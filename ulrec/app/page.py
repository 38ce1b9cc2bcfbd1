"""One run in the browser: ``ulrec demo --run runs/x`` or ``streamlit run page.py -- --run runs/x``.

The page shows what the pipeline gives; it computes nothing of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from ulrec.data.media import MediaStore
from ulrec.data.schema import ITEM_ID, NAME
from ulrec.errors import ArtefactError, ULRecError
from ulrec.evaluation.cells import readable
from ulrec.evaluation.report import SIMULATED_NOTICE, Metrics, read_metrics
from ulrec.pipeline import ARTEFACTS, Generation, Pipeline

__all__ = ["main"]

HISTORY_SHOWN = 16
RECOMMENDED = 8
PER_USER = 4
NEAREST = 3
SHOWN = 96  # smallest side of a picture on the page, in pixels
USER_KEY = "user"


def main() -> None:
    """Draw the page; what goes wrong becomes a sentence, never a stack trace."""
    st.set_page_config(page_title="ulrec", page_icon="◐", layout="wide")
    try:
        folder = _folder(sys.argv[1:])
        pipeline, media = _load(str(folder), _stamp(folder))
        _header(folder, simulated=_is_simulated(folder))
        for_user, judged = st.tabs(["For a user", "How good it is"])
        with for_user:
            _user_page(pipeline, media, folder)
        with judged:
            _metrics_page(folder)
    except ULRecError as error:
        st.error(_plain(str(error)), icon=":material/error:")


def _folder(arguments: Sequence[str]) -> Path:
    """Return the run's folder that the command line names."""
    parser = argparse.ArgumentParser(prog="page.py", exit_on_error=False, add_help=False)
    parser.add_argument("--run", type=Path)
    options, _ = parser.parse_known_args(arguments)
    if options.run is None:
        raise ArtefactError("no run was named; start the page with `ulrec demo --run runs/<name>`")
    folder: Path = options.run
    if not folder.is_dir():
        raise ArtefactError(
            f"there is no run at {folder}; make one with `ulrec run --config "
            "configs/quickstart.yaml`, or check the path"
        )
    return folder


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes when the run is made again, so that a page left open follows."""
    manifests = [folder / name / "manifest.json" for name in (*ARTEFACTS, "media")]
    return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in manifests)


@st.cache_resource(max_entries=1, show_spinner="Loading the run …")
def _load(folder: str, stamp: tuple[int, ...]) -> tuple[Pipeline, MediaStore]:
    return Pipeline.load(folder), MediaStore.open(Path(folder) / "media")


@st.cache_resource(max_entries=64, show_spinner=False)
def _generate(
    _pipeline: Pipeline, stamp: tuple[int, ...], user_id: str | int, guidance: float, seed: int
) -> Generation:
    return _pipeline.generate([user_id], per_user=PER_USER, guidance=guidance, seed=seed)


def _is_simulated(folder: Path) -> bool:
    manifest = json.loads((folder / "interactions" / "manifest.json").read_text(encoding="utf-8"))
    return bool(manifest.get("info", {}).get("simulated", False))


def _header(folder: Path, *, simulated: bool) -> None:
    st.title(_plain(f"ulrec · {folder.name}"))
    if simulated:
        st.warning(f"**Simulated users:** {SIMULATED_NOTICE}", icon=":material/science:")


def _user_page(pipeline: Pipeline, media: MediaStore, folder: Path) -> None:
    counts = np.diff(pipeline.interactions.user_items.indptr)
    users = pipeline.interactions.users.ids[counts > 0].tolist()
    if not users:
        st.info("No user of this run has a history, so there is nobody to draw for.")
        return
    user_id, guidance, seed = _choices(users)
    history = pipeline.interactions.history(int(pipeline.interactions.users.rows([user_id])[0]))
    liked = pipeline.interactions.items[history].tolist()
    titles = _titles(pipeline.items)

    shown = f", {HISTORY_SHOWN} of them shown" if len(liked) > HISTORY_SHOWN else ""
    items = "1 item" if len(liked) == 1 else f"{len(liked)} items"
    st.subheader("Liked so far", help="The user's history, as the models know it.")
    st.caption(f"{items}{shown}")
    _pictures(media, liked[:HISTORY_SHOWN], titles)

    st.subheader(
        "What collaborative filtering recommends",
        help="Items that users with a like history liked; it never looks at a picture.",
    )
    ranked = pipeline.recommend([user_id], k=RECOMMENDED, by="cf")
    _pictures(media, ranked[ITEM_ID].to_list(), titles)

    st.subheader(
        "Made for this user", help="Drawn by the generator, steered by what the user liked."
    )
    with st.spinner("Drawing …", show_time=True):
        made = _generate(pipeline, _stamp(folder), user_id, guidance, seed)
    near = pipeline.neighbours(made.latents, k=NEAREST, exclude=[liked] * len(made.latents))
    for number, column in enumerate(st.columns(PER_USER, border=True)):
        with column:
            st.image(_enlarged(made.media[number], 2 * SHOWN), output_format="PNG")
            st.caption("Nearest items not seen yet")
            found = near.filter(pl.col("query") == number)[ITEM_ID].to_list()
            _pictures(media, found, least=SHOWN // 2)
            st.caption(_plain(" · ".join(titles[item_id] for item_id in found)))


def _choices(users: list[Any]) -> tuple[str | int, float, int]:
    """Return the user, the guidance and the seed that the visitor chose."""
    with st.sidebar:
        if st.session_state.get(USER_KEY) not in users:
            st.session_state[USER_KEY] = users[0]
        user_id = st.selectbox("User", users, key=USER_KEY, help="Type to search.")
        st.button("Somebody else", on_click=_pick, args=(users,), icon=":material/casino:")
        guidance = st.slider(
            "Guidance",
            min_value=0.0,
            max_value=6.0,
            value=2.0,
            step=0.5,
            help="0 ignores the user, 1 follows what was learnt, more exaggerates it.",
        )
        seed = st.number_input(
            "Seed", min_value=0, max_value=9999, value=0, help="Another seed, other pictures."
        )
    return user_id, float(guidance), int(seed)


def _pick(users: list[Any]) -> None:
    st.session_state[USER_KEY] = random.choice(users)


def _titles(items: pl.DataFrame) -> dict[Any, str]:
    """Return what each item is called."""
    column = NAME if NAME in items.columns else ITEM_ID
    names = items[column].cast(pl.String).fill_null("")
    return dict(zip(items[ITEM_ID].to_list(), names.to_list(), strict=True))


def _pictures(
    media: MediaStore,
    item_ids: list[Any],
    titles: dict[Any, str] | None = None,
    *,
    least: int = SHOWN,
) -> None:
    """Show items in a row that wraps, above their titles where these are given."""
    rows = media.items.rows(item_ids)
    with st.container(horizontal=True, gap="small"):
        for item_id, row in zip(item_ids, rows, strict=True):
            pixels = _enlarged(np.asarray(media.media[row]), least)
            caption = None if titles is None else _plain(titles[item_id])
            st.image(pixels, caption=caption, width=pixels.shape[1], output_format="PNG")


def _enlarged(media: NDArray[np.uint8], least: int) -> NDArray[np.uint8]:
    """Return the first frame of media (C, F, H, W) as (h, w, 3), its pixels enlarged."""
    picture = np.moveaxis(media[:, 0], 0, -1)
    scale = max(1, -(-least // min(picture.shape[:2])))
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _plain(text: str) -> str:
    """Return text whose Markdown stays text: names come from outside."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|<>~:$" else c for c in text)


def _metrics_page(folder: Path) -> None:
    path = folder / "metrics.json"
    if not path.is_file():
        st.info("This run has not been judged yet: `ulrec evaluate`, then `ulrec report`.")
        return
    metrics = read_metrics(path)
    _headline(metrics)
    report = folder / "report.html"
    if report.is_file():
        st.download_button(
            "Download the report",
            data=report.read_bytes(),
            file_name=f"{folder.name}-report.html",
            mime="text/html",
            icon=":material/download:",
        )
    for table in metrics.tables.values():
        st.subheader(_plain(table.title))
        st.caption(_plain(table.note))
        st.dataframe(readable(table.frame), hide_index=True)
    for sheet in sorted(folder.glob("sheets/*.png")):
        st.subheader(_plain(sheet.stem.replace("_", " ").replace("-", " ").capitalize()))
        st.image(sheet.read_bytes())
    with st.expander("How these numbers came about"):
        st.json(metrics.protocol)


def _headline(metrics: Metrics) -> None:
    with st.container(horizontal=True):
        for figure in metrics.headline:
            with st.container(border=True, width=240):
                value, _, interval = figure.value.partition(" [")
                st.metric(_plain(figure.name), value)
                st.caption(_plain(f"[{interval} {figure.note}" if interval else figure.note))


if __name__ == "__main__":
    main()
