"""The demo as ``ulrec demo`` starts it, on a small run of the shipped models, in Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ulrec.config import load_config
from ulrec.experiment.config import RunConfig
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES

ROOT = Path(__file__).parents[2]
SMALLER = (
    "data.max_items=300",
    "data.simulation.num_users=200",
    "base.conditional.num_steps=40",
    "generate.num_users=8",
    "evaluate.reconstruction.num_steps=4",
    "evaluate.num_resamples=50",
    "evaluate.num_permutations=99",
)
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VIEWPORTS = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}
NOISE = ("Failed to load resource: net::ERR_INTERNET_DISCONNECTED",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run of the shipped models, or the one that ULREC_DEMO_RUN names."""
    if "ULREC_DEMO_RUN" in os.environ:
        return Path(os.environ["ULREC_DEMO_RUN"])
    folder = tmp_path_factory.mktemp("runs")
    catalogue = f"data.catalogue={ROOT / 'datasets/fluent_emoji/stills.parquet'}"
    overrides = ("name=demo", f"folder={folder}", catalogue, *SMALLER)
    run = Run(config=load_config(RunConfig, ROOT / "configs/quickstart.yaml", overrides))
    run_stages(run, list(STAGES.values()), report=lambda result: None)
    return run.folder


@pytest.fixture(scope="session")
def address(shown_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the demo answers; its log has to be free of tracebacks at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("demo") / "log.txt"
    command = [sys.executable, "-m", "ulrec", "demo", "--run", str(shown_run), "--port", str(port)]
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true", "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            _wait(f"http://localhost:{port}/_stcore/health", server)
            yield f"http://localhost:{port}/"
        finally:
            os.killpg(server.pid, 15)
            server.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


def _wait(url: str, server: "subprocess.Popen[bytes]", *, limit_s: float = 60) -> None:
    start = time.monotonic()
    while True:
        assert server.poll() is None, "the demo ended at once"
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            assert time.monotonic() - start < limit_s, "the demo does not answer"
            time.sleep(0.2)
        else:
            return


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path is not None, "there is no chromium: make test-browser installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture(params=VIEWPORTS)
def page(request: pytest.FixtureRequest, chromium: Any) -> Iterator[Any]:
    """A page at desktop and at phone width; what its console says against it fails the test."""
    scheme = getattr(request.node.get_closest_marker("scheme"), "args", ("light",))[0]
    context = chromium.new_context(
        viewport=VIEWPORTS[request.param], color_scheme=scheme, has_touch=request.param == "phone"
    )
    opened = context.new_page()
    opened.set_default_timeout(90_000)
    said: list[str] = []
    opened.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert [text for text in said if not text.startswith(NOISE)] == []
