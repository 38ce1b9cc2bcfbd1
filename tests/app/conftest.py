"""The tiny run as the page knows it."""

from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from ulrec.app.loading import Shown, load, stamp_of
from ulrec.experiment.runner import Run


@pytest.fixture(scope="session")
def shown(tiny_run: Run) -> Shown:
    folder = Path(tiny_run.folder)
    return load(str(folder), stamp_of(folder))
