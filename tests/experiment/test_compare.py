"""`ulrec compare`: folders of results against the first, as tables and as one page."""

from __future__ import annotations

import json

import polars as pl
import pytest

from ulrec.cli import main
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result, save_results


def results(folder, values, *, seed=0):
    protocol = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=seed, n=4)
    per_user = pl.DataFrame(
        {"user_id": ["a", "b", "c", "d"], "metric": ["ndcg"] * 4, "value": values}
    )
    result = Result(
        name="ranking", protocol=protocol, summary=pl.DataFrame({"x": [1]}), per_user=per_user
    )
    save_results(folder, [result], title="t", simulated=True)
    return folder


@pytest.fixture
def two(tmp_path):
    one = results(tmp_path / "one" / "r", [0.0, 0.5, 0.5, 1.0])
    return one, results(tmp_path / "other" / "r", [0.5, 1.0, 1.0, 1.0])


def test_a_page_a_table_and_numbers(two, tmp_path, capsys):
    assert main(["compare", *map(str, two), "--out", str(tmp_path / "c")]) == 0
    said = capsys.readouterr().out
    assert "other/r" in said and "0.375" in said and "Holm over this table" in said
    content = json.loads((tmp_path / "c" / "comparison.json").read_text())
    (row,) = content["ranking"]["rows"]
    assert (row["run"], row["difference"], row["num_paired"]) == ("other/r", 0.375, 4)
    assert pl.read_parquet(tmp_path / "c" / "ranking.parquet").to_dicts() == [row]
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Simulated users" in page and "<svg" in page and "0.375" in page


def test_sheets_of_pictures_and_clips_stand_beside_one_another(two, tmp_path):
    for folder, name in zip(two, ("samples.png", "samples.webp"), strict=True):
        (folder / "sheets").mkdir()
        (folder / "sheets" / name).write_bytes(name.encode())
    assert main(["compare", *map(str, two), "--out", str(tmp_path / "c")]) == 0
    page = (tmp_path / "c" / "report.html").read_text()
    assert "data:image/png;base64,c2FtcGxlcy5wbmc=" in page
    assert "data:image/webp;base64,c2FtcGxlcy53ZWJw" in page


def test_unlike_protocols_leave_the_earlier_comparison(two, tmp_path, capsys):
    out = tmp_path / "c"
    assert main(["compare", *map(str, two), "--out", str(out)]) == 0
    before = (out / "comparison.json").read_bytes()
    results(two[1], [1.0, 1.0, 1.0, 1.0], seed=1)
    assert main(["compare", *map(str, two), "--out", str(out)]) == 1
    assert "seed: 0 against 1" in capsys.readouterr().err
    assert (out / "comparison.json").read_bytes() == before
    assert main(["compare", *map(str, two), "--out", str(out), "--varying", "seed"]) == 0
    assert (out / "comparison.json").read_bytes() != before


def test_what_cannot_be_compared_is_said(two, tmp_path, capsys):
    assert main(["compare", str(two[0]), "--out", str(tmp_path / "c")]) == 1
    assert "at least two" in capsys.readouterr().err
    assert main(["compare", str(two[0]), str(two[0]), "--out", str(tmp_path / "c")]) == 1
    assert "named twice" in capsys.readouterr().err
    assert main(["compare", str(two[0]), str(tmp_path / "no"), "--out", str(tmp_path / "c")]) == 1
    assert "no evaluation at" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
