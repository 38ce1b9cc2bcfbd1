import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples/benchmarks/evaluation.py"
SMALL = ("--users", 60, "--k", 20, "--items", 200, "--truth", 5, "--repeats", 2)


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_it_measures_and_compares(tmp_path, monkeypatch, capsys):
    paths = []
    for ids in ("int", "str"):
        run(monkeypatch, *SMALL, "--ids", ids)
        paths.append(tmp_path / f"{ids}.json")
        paths[-1].write_text(capsys.readouterr().out)
    numbers, texts = (json.loads(path.read_text()) for path in paths)
    assert len(numbers["seconds"]) == len(numbers["bootstrap_seconds"]) == 2
    assert 0.05 < numbers["means"]["recall"] < 0.5
    assert numbers["means"] == pytest.approx(texts["means"], abs=1e-12)
    run(monkeypatch, "--compare", paths[0], paths[0])
    assert capsys.readouterr().out.count("ulrec") == 2
    with pytest.raises(SystemExit, match=r"other input: \['ids'\] differ"):
        run(monkeypatch, "--compare", *paths)
    texts["settings"], texts["means"]["map"] = numbers["settings"], 0.5
    paths[1].write_text(json.dumps(texts))
    with pytest.raises(SystemExit, match="gives other means"):
        run(monkeypatch, "--compare", *paths)
