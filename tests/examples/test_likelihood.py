import runpy
import shutil
from pathlib import Path

import pytest

from ulrec.experiment.runner import run_stages
from ulrec.experiment.stages import EXTRA_STAGES

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(monkeypatch, script, *arguments):
    monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


def test_it_ranks_and_says_what_surprises(tiny_run, monkeypatch, capsys):
    run(monkeypatch, "08_likelihood.py", "--run", tiny_run.folder, "--users", 2, "--k", 3)
    told = capsys.readouterr().out
    assert "by likelihood + 1 log(1 + users of the item):" in told
    assert "items without interactions:" in told and "run `ulrec fit-hybrid`" in told
    assert told.count("nats, novelty") == 8


def test_without_a_run_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "08_likelihood.py", "--run", tmp_path)
    assert stop.value.code == 1 and "make quickstart" in capsys.readouterr().err


def test_the_benchmark_prints_all_tables(tiny_copy, monkeypatch, capsys):
    small = ("--users", 12, "--cost-users", 2, "--shortlist", 30, "--proposal-users", 2)
    script = "benchmarks/likelihood.py"
    with pytest.raises(SystemExit):
        run(monkeypatch, script, "--run", tiny_copy.folder, *small)
    assert "run `ulrec fit-hybrid` first" in capsys.readouterr().err
    run_stages(tiny_copy, [EXTRA_STAGES["fit-hybrid"]], report=lambda result: None)
    run(monkeypatch, script, "--run", tiny_copy.folder, *small)
    told = capsys.readouterr().out
    for name in ("hybrid", "likelihood", "als", "bpr", "ease", "item_item", "popularity", "random"):
        assert f"\n{name} " in told
    assert "cold items" in told and "likelihood - popularity:" in told
    assert "fewer evaluations: " in told and "gaussian - full" in told and "naive loop:" in told
    assert "NDCG@10 by length of the history" in told
    shutil.rmtree(tiny_copy.path("hybrid"))
    run(monkeypatch, "08_likelihood.py", "--run", tiny_copy.folder, "--users", 1)
