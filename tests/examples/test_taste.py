import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(monkeypatch, script, *arguments):
    path = EXAMPLES / script
    monkeypatch.setattr("sys.argv", [str(path), *map(str, arguments)])
    runpy.run_path(str(path), run_name="__main__")


def test_it_draws_and_explains(tiny_run, tmp_path, monkeypatch, capsys):
    picture = tmp_path / "taste.png"
    run(monkeypatch, "09_taste.py", "--run", tiny_run.folder, "--out", picture)
    told = capsys.readouterr().out
    assert "what explains the first picture" in told and "rank correlation" in told
    assert str(picture) in told
    with Image.open(picture) as image:
        assert image.width > image.height > 3 * 16 * 2


def test_without_a_run_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "09_taste.py", "--run", tmp_path)
    assert stop.value.code == 1
    assert "make quickstart" in capsys.readouterr().err


def test_the_benchmark_of_conditioning_runs(tiny_run, monkeypatch, capsys):
    settings = ("--users", 6, "--run", tiny_run.folder)
    with pytest.raises(SystemExit, match="one category, Smileys & Emotion: nothing to keep out"):
        run(monkeypatch, "benchmarks/conditioning.py", *settings)
    assert "5 examples" in capsys.readouterr().out
    run(monkeypatch, "benchmarks/conditioning.py", *settings, "--only", "groups")
    assert "denoisers - factors" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="hears users alone"):
        run(monkeypatch, "benchmarks/conditioning.py", *settings, "--only", "sources")


def test_the_benchmark_of_guidance_writes_what_a_pipeline_loads(tiny_copy, monkeypatch, capsys):
    from ulrec import Pipeline

    settings = ("--users", 4, "--shortest", 2, "--lengths", 1, 2, "--guidances", 4)
    run(monkeypatch, "benchmarks/guidance.py", "--run", tiny_copy.folder, *settings)
    assert "20+" in capsys.readouterr().out
    pipeline = Pipeline.load(tiny_copy.folder)
    users = pipeline.factors.users[np.flatnonzero(pipeline.factors.known_users)[:2]].tolist()
    assert pipeline.generate(users, guidance="calibrated", decode=False).personal.all()
