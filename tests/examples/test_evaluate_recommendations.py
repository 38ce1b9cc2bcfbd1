import runpy
from pathlib import Path

import polars as pl
import pytest

from ulrec.evaluation.results import load_results

SCRIPT = Path(__file__).parents[2] / "examples/04_evaluate_recommendations.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_demonstration_compares_two_systems(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "--num", 80, "--resamples", 50, "--ks", 5, 10, "--out", tmp_path)
    told = capsys.readouterr().out
    assert str(tmp_path / "results" / "report.html") in told
    assert "0 recommended pairs are in train" in told
    found = {result.name: result.summary for result in load_results(tmp_path / "results")}
    assert list(found) == [
        "accuracy",
        "comparison",
        "beyond_accuracy",
        "users_by_history",
        "items_by_slice",
    ]
    ndcg = found["accuracy"].filter(metric="ndcg", k=10)
    means = dict(ndcg.select("system", "mean").rows())
    gap = found["comparison"].filter(metric="ndcg", k=10).row(0, named=True)
    assert gap["difference"] == pytest.approx(means["als"] - means["popularity"])
    assert gap["low"] <= gap["difference"] <= gap["high"]
    assert gap["p_value"] <= gap["p_holm"]
    slices = found["items_by_slice"].filter(system="als", metric="recall")
    assert {"head", "torso", "tail", "category 0"} <= set(slices["slice"])
    assert (slices["num_users"] + slices["num_left_out"]).n_unique() == 1


def tables(folder: Path) -> list[str]:
    shown = pl.DataFrame(
        {"user_id": [1, 1, 2], "item_id": [7, 8, 9], "score": [2.0, 1.0, 1.0], "rank": [1, 2, 1]}
    )
    shown.write_parquet(folder / "mine.parquet")
    pl.DataFrame({"user_id": [1, 3], "item_id": [8, 9]}).write_csv(folder / "truth.csv")
    pl.DataFrame({"user_id": [1, 2], "item_id": [9, 8]}).write_csv(folder / "train.csv")
    names = {"recommendations": "mine.parquet", "truth": "truth.csv", "train": "train.csv"}
    return [word for option, name in names.items() for word in (f"--{option}", str(folder / name))]


def test_tables_of_another_system(tmp_path, monkeypatch, capsys):
    run(monkeypatch, *tables(tmp_path), "--ks", 2, "--out", tmp_path / "out")
    told = capsys.readouterr().out
    assert "mine: 2 users, 1 without list, 1 with fewer items than the largest k; 1 more" in told
    found = {result.name: result.summary for result in load_results(tmp_path / "out/results")}
    assert "comparison" not in found
    accuracy = found["accuracy"]
    assert accuracy.filter(metric="recall")["mean"].item() == 1 / 2
    # 1: two of three are unseen, one of them above 8. 3 has no list.
    assert accuracy.filter(metric="auc")["mean"].item() == (0 + 1 / 2) / 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.with_columns(rank=pl.lit(1)), "ranks of 1 users"),
        (lambda t: t.with_columns(score=pl.lit(float("nan"))), "3 scores are NaN"),
        (lambda t: t.drop("rank"), "lack the columns"),
        (lambda t: t.cast({"user_id": pl.String}), "user_id is String"),
    ],
)
def test_bad_tables_stop_it_with_the_reason(spoil, message, tmp_path, monkeypatch, capsys):
    arguments = tables(tmp_path)
    spoil(pl.read_parquet(tmp_path / "mine.parquet")).write_parquet(tmp_path / "mine.parquet")
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *arguments, "--out", tmp_path / "out")
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tables_go_together(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--truth", "truth.csv")
    assert "go together" in capsys.readouterr().err
