"""One run in the browser: ``ulrec demo --run runs/x`` or ``streamlit run page.py -- --run runs/x``.

The page shows what the pipeline gives; it computes nothing of its own. What is heavy is imported
below the header, which is seen at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

import streamlit as st

from ulrec.app.sharing import Busy
from ulrec.app.style import CSS
from ulrec.errors import ArtefactError, ULRecError

__all__ = ["main"]

FIRST_PAINT_S = 0.25
TABS = ("For a person", "The space", "The catalogue", "The evidence")

logger = logging.getLogger(__name__)


def main() -> None:
    """Draw the page; what goes wrong becomes a sentence, never a stack trace."""
    st.set_page_config(page_title="ulrec", page_icon="◐", layout="wide")
    st.html(CSS)
    try:
        folder = _folder(sys.argv[1:])
        _header(folder.name)
        _let_it_be_seen()
        _content(folder)
    except ULRecError as error:
        from ulrec.app.pictures import plain

        st.error(plain(str(error)), icon=":material/error:")
    except Busy:
        st.warning("Many people are drawing right now. Try again in a minute.")
    except Exception:  # a visitor reads a sentence, the log keeps the rest
        logger.exception("the page failed")
        st.error("Something went wrong. Reload the page; if it stays, the log says more.")


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


def _header(name: str) -> None:
    st.html(
        f'<header class="ul-top"><h1>ulrec</h1><p>drawn for one person · {escape(name)}'
        "</p></header>"
    )


def _let_it_be_seen() -> None:
    """Give a new visitor's browser a moment for the header: what comes with it delays it."""
    if "came" not in st.session_state:
        st.session_state["came"] = True
        time.sleep(FIRST_PAINT_S)


def _content(folder: Path) -> None:
    with st.spinner("Loading the models …"):
        from ulrec.app import catalogue, evidence, for_user, loading, space
        from ulrec.app.pictures import STILL

        shown = loading.load(str(folder), loading.stamp_of(folder))
    if loading.is_simulated(folder):
        evidence.say_simulated()
    if shown.noun == "clip":
        st.toggle("Hold still", key=STILL, bind="query-params", help="One frame of each clip.")
    tabs = st.tabs(TABS, key="view", on_change="rerun", bind="query-params")
    sections = (for_user.for_user, space.space, catalogue.catalogue, evidence.evidence)
    for tab, section in zip(tabs, sections, strict=True):
        if tab.open:
            with tab:
                section(shown)


if __name__ == "__main__":
    main()
