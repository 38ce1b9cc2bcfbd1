"""What the report says of personalization and grounding, on the small run."""

import dataclasses
import shutil

import numpy as np
import polars as pl
import pytest

from ulrec.checkpoint import new_artefact, open_artefact
from ulrec.errors import DataError
from ulrec.evaluation.report import read_metrics
from ulrec.experiment.judge import Judge
from ulrec.experiment.judge_personal import judge_history, judge_identity, judge_verifier
from ulrec.experiment.judge_users import judge_lifts, judge_utility

CONTROLS = ["null", "shuffled", "popular", "mean"]


@pytest.fixture(scope="module")
def tables(tiny_run):
    return read_metrics(tiny_run.path("metrics.json")).tables


def test_every_similarity_stands_beside_controls_and_copy_rate(tables):
    frame = tables["history"].frame
    assert frame["arm"].to_list() == CONTROLS * 3
    forms = ["history_mean", "history_last", "history_max"]
    assert frame["score"].unique(maintain_order=True).to_list() == forms
    lifts = frame["own"] - frame["control"]
    np.testing.assert_allclose(frame["lift"], lifts, atol=1e-12)
    copied = tables["copying"].frame
    assert set(frame["copy_rate"]) == set(copied["mean"])
    own = frame.group_by("score", maintain_order=True).agg(pl.col("own").n_unique())
    assert own["own"].to_list() == [1, 1, 1]  # one raw number a form


def test_identifiability_stands_beside_chance(tables, tiny_run):
    frame = tables["identifiability"].frame
    train = pl.read_parquet(tiny_run.path("interactions") / "train.parquet")
    num = train["user_id"].n_unique()
    assert frame["metric"].to_list() == ["top 1", "top 5", "top 16", "MRR"]
    assert frame["num_candidates"].to_list() == [num] * 4
    chance = [1 / num, 5 / num, 16 / num, (1 / np.arange(1, num + 1)).mean()]
    assert frame["chance"].to_list() == pytest.approx(chance)


def test_every_verifier_score_stands_beside_its_auroc(tables):
    scores, check = tables["verifier"].frame, tables["verifier_check"].frame
    assert scores["arm"].to_list() == CONTROLS
    assert scores["auroc"].to_list() == [check["mean"][0]] * 4
    assert check["among"].to_list() == ["all items"] * 2 + ["new items"] * 2
    assert check["mean"].is_between(0, 1).all() and check["mean"][0] > 0.5
    assert scores["own"].is_between(0, 1, closed="none").all()


def test_retrieval_stands_beside_the_mean_latent(tables, tiny_run):
    for key in ("ranking", "ranking_all", "beyond_accuracy"):
        assert "mean latent of the history" in tables[key].frame["method"].to_list()
    grounding = tables["grounding"].frame
    sets = ["real held-out", *(f"generated ({arm})" for arm in ["user", *CONTROLS])]
    assert grounding["set"].to_list() == tables["diversity"].frame["set"].to_list() == sets
    assert "95% quantile" in tables["grounding"].note
    assert tables["utility"].frame["win_rate"].null_count() == 4  # user, two items, the oracle
    page = tiny_run.path("report.html").read_text()
    for key in ("history", "identifiability", "verifier", "grounding", "beyond_accuracy"):
        assert tables[key].title in page, key
    names = [figure.name for figure in read_metrics(tiny_run.path("metrics.json")).headline]
    assert "preferred to null" in names and "user found in top 16" in names


@pytest.mark.parametrize(
    ("part", "score"),
    [
        (judge_history, "history_max"),
        (judge_identity, "identifiability"),
        (judge_verifier, "verifier"),
        (judge_lifts, "heldout_lift"),
        (judge_utility, "true_utility"),
    ],
)
def test_no_table_reports_what_picked(tiny_run, part, score):
    judge = Judge.of(tiny_run)
    picked = dataclasses.replace(judge.protocol, num_candidates=4, selected_by=score)
    with pytest.raises(DataError, match=f"{score} picked the best of 4"):
        part(dataclasses.replace(judge, protocol=picked), {}, [])


def test_without_timestamps_the_last_items_are_left_out_and_that_is_said(tiny_copy):
    folder = tiny_copy.path("interactions")
    parts = {path.name: pl.read_parquet(path) for path in folder.glob("*.parquet")}
    info = open_artefact(folder, kind="interactions").info
    shutil.rmtree(folder)
    with new_artefact(folder, kind="interactions", info=info) as temporary:
        for name, table in parts.items():
            table.drop("timestamp").write_parquet(temporary / name)
    tables = {"copying": {"rows": [{"mean": 0.0, "low": 0.0, "high": 0.3}]}}
    judge_history(Judge.of(tiny_copy), tables, [])
    found = tables["history"]
    assert {row["score"] for row in found["rows"]} == {"history_mean", "history_max"}
    assert "no timestamps" in found["note"]
