import runpy
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "examples/01_quickstart.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_it_draws_and_recommends(tiny_run, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "drawn.png"
    run(monkeypatch, "--run", tiny_run.folder, "--out", picture, "--users", 2)
    told = capsys.readouterr().out
    assert "nearest to what was drawn" in told and str(picture) in told
    with Image.open(picture) as image:
        assert image.width > image.height > 2 * 16 * 2


def test_without_a_run_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--run", tmp_path)
    assert stop.value.code == 1
    assert "make quickstart" in capsys.readouterr().err
