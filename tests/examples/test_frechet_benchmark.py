"""The benchmark of the Frechet distance runs, and its three ways agree."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples/benchmarks/frechet.py"


def test_three_ways_one_distance(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--dim", "24", "--rounds", "1", "--threads", "1"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()[-3:]
    gaps = {line.split("|")[1].strip(): float(line.split("|")[4]) for line in lines}
    assert set(gaps) == {"ulrec", "scipy sqrtm", "torchmetrics"}
    assert max(map(abs, gaps.values())) < 1e-9
