"""The page: a visitor reads sentences, whatever is wrong with the run."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("streamlit")
from streamlit.testing.v1 import AppTest

from ulrec.experiment.runner import Run

PAGE = Path(__file__).parents[2] / "ulrec" / "app" / "page.py"


def open_page(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> AppTest:
    monkeypatch.setattr(sys, "argv", ["page.py", *arguments])
    return AppTest.from_file(str(PAGE), default_timeout=60).run()


def only_error(page: AppTest) -> str:
    assert not page.exception
    assert len(page.error) == 1
    return page.error[0].value.replace("\\", "")


def test_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ulrec demo --run" in only_error(open_page(monkeypatch))


def test_missing_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    message = only_error(open_page(monkeypatch, "--run", str(tmp_path / "none")))
    assert "no run at" in message and "ulrec run" in message


def test_unfinished_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    message = only_error(open_page(monkeypatch, "--run", str(tmp_path)))
    assert "autoencoder" in message and "run the stage" in message


def test_damaged_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "autoencoder" / "manifest.json").write_text("{")
    assert "damaged" in only_error(open_page(monkeypatch, "--run", str(tmp_path)))


def test_a_run_is_shown(monkeypatch: pytest.MonkeyPatch, tiny_run: Run) -> None:
    page = open_page(monkeypatch, "--run", str(tiny_run.folder))
    assert not page.exception and not page.error
    shown = " ".join(
        str(element.value) for element in (*page.markdown, *page.caption, *page.warning)
    )
    assert "imulated" in shown
