"""The example that judges pictures made elsewhere: its demonstration, and folders of one's own."""

import json
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.errors import DataError
from ulrec.evaluation.results import load_results

SCRIPT = Path(__file__).parents[2] / "examples/05_evaluate_media.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def folder(path: Path, num: int, *, seed: int, suffix: str = "png") -> Path:
    path.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(num):
        size = (24 + 8 * (i % 2), 32, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path / f"{i}.{suffix}")
    return path


def value(table: pl.DataFrame, label: str, metric: str) -> float:
    found = table.filter(pl.col("set") == label, pl.col("metric").str.starts_with(metric))
    return float(found["mean"].item())


def test_the_demonstration_tells_good_from_bad(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "--out", tmp_path, "--num", 10)
    fidelity, copying = load_results(tmp_path / "results")
    table = fidelity.summary
    for metric in ("KID-efflite0", "FD-efflite0", "MMD-efflite0"):
        assert value(table, "other real", metric) < value(table, "noisy", metric)
    assert value(table, "real", "Vendi") > 1
    assert value(copying.summary, "copies of train", "copy rate") == 1
    assert value(copying.summary, "other real", "copy rate") < 1
    assert (fidelity.protocol.n, fidelity.protocol.backbone) == (10, "efflite0")
    assert any("KID, whose estimate is unbiased" in note for note in fidelity.notes)
    assert (tmp_path / "sheet.png").stat().st_size > 0
    assert f"page: {tmp_path / 'results' / 'report.html'}" in capsys.readouterr().out
    written = (tmp_path / "results" / "metrics.json").read_text()
    assert "FID" not in written and json.loads(written)["protocol"]["n"] == 10


def test_folders_of_ones_own(tmp_path, monkeypatch):
    real, made = folder(tmp_path / "real", 8, seed=0), folder(tmp_path / "made", 7, seed=1)
    run(monkeypatch, "--real", real, "--generated", made, "--out", tmp_path / "out")
    (fidelity,) = load_results(tmp_path / "out" / "results")
    assert fidelity.protocol.n == 7
    assert set(fidelity.summary["set"]) == {"real", "made"}
    assert len(fidelity.summary.filter(pl.col("set") == "made")) == 8


def test_what_cannot_be_judged_stops_it(tmp_path, monkeypatch, capsys):
    real, out = folder(tmp_path / "real", 2, seed=0), tmp_path / "out"
    (real / "broken.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        run(monkeypatch, "--real", real, "--generated", real, "--out", out)
    (tmp_path / "empty").mkdir()
    empty = tmp_path / "empty"
    with pytest.raises(DataError, match="empty has no pictures"):
        run(monkeypatch, "--real", real, "--generated", empty, "--out", out)
    with pytest.raises(SystemExit):
        run(monkeypatch, "--real", real, "--out", out)
    assert "go together" in capsys.readouterr().err
    assert not out.exists()
