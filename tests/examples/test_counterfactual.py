import runpy
from pathlib import Path

import pytest

from ulrec.evaluation.results import load_results

SCRIPT = Path(__file__).parents[2] / "examples/07_counterfactual.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_estimators_are_judged_and_gates_speak(tiny_run, tmp_path, monkeypatch, capsys):
    settings = ["--sizes", 300, 600, "--repeats", 3, "--distances", 0.25]
    run(monkeypatch, "--run", tiny_run.folder, "--out", tmp_path, *settings)
    told = capsys.readouterr().out
    assert "the counterfactual estimate is refused" in told
    assert "below min_ess 1000" in told
    assert (tmp_path / "value_of_h.png").stat().st_size > 0
    found = {result.name: result.summary for result in load_results(tmp_path / "results")}
    assert set(found) == {"catalogue_study", "generated_study", "kernel_ips", "kernel_ips_curve"}
    known = found["catalogue_study"]
    assert known["num_logs"].unique().to_list() == [3]
    assert known["num"].unique(maintain_order=True).to_list() == [300, 600]
    weighted = known.filter(known["estimator"] != "dm")
    assert (weighted["refused"] == 1).all()
    assert ((known["bias"] ** 2 + known["sd"] ** 2 - known["mse"]).abs() < 1e-12).all()


def test_without_a_run_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--run", tmp_path)
    assert stop.value.code == 1
    assert "make quickstart" in capsys.readouterr().err
