"""Results on disk and against one another."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from ulrec.errors import ArtefactError, DataError
from ulrec.evaluation.compare import compare_results
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.report import read_metrics
from ulrec.evaluation.results import Result, load_results, save_results
from ulrec.evaluation.statistics import holm, paired_permutation_test

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=4)


def ranking(values: dict[str, list[float]], *, users=(1, 2, 3, 4), **protocol) -> Result:
    per_user = pl.DataFrame(
        [
            {"user_id": user, "metric": metric, "k": 10, "value": value}
            for metric, column in values.items()
            for user, value in zip(users, column, strict=True)
        ]
    )
    summary = per_user.group_by("metric", "k", maintain_order=True).agg(
        pl.col("value").mean().alias("mean")
    )
    changed = dataclasses.replace(PROTOCOL, **protocol)
    return Result(
        name="ranking", protocol=changed, summary=summary, per_user=per_user, notes=("All users.",)
    )


def fidelity(distance: float, **protocol) -> Result:
    summary = pl.DataFrame({"set": ["samples", "noise"], "n": [4, 4], "mean": [distance, 0.9]})
    changed = dataclasses.replace(PROTOCOL, **protocol)
    return Result(name="fidelity", protocol=changed, summary=summary)


def test_results_come_back_as_they_were(tmp_path):
    saved = [ranking({"ndcg": [0.1, 0.2, 0.3, 0.4], "mrr": [1, 0, 0, 1]}), fidelity(0.2)]
    fingerprint = save_results(tmp_path / "r", saved, title="A page", simulated=True)
    loaded = load_results(tmp_path / "r")
    assert len(fingerprint) == 16
    assert [result.name for result in loaded] == ["ranking", "fidelity"]
    for before, after in zip(saved, loaded, strict=True):
        assert (after.protocol, after.notes) == (before.protocol, before.notes)
        assert after.summary.equals(before.summary)
    assert loaded[0].keys == ["metric", "k"]
    assert loaded[0].per_user["value"].to_list() == [0.1, 0.2, 0.3, 0.4, 1, 0, 0, 1]
    assert loaded[0].per_user["user_id"].to_list() == ["1", "2", "3", "4"] * 2
    assert loaded[1].per_user is None
    metrics = read_metrics(tmp_path / "r" / "metrics.json")
    assert metrics.simulated and metrics.protocol["data_fingerprint"] == "d"
    page = (tmp_path / "r" / "report.html").read_text()
    assert "A page" in page and "All users." in page and "data_fingerprint" in page


def test_shared_protocol_holds_only_what_all_share(tmp_path):
    save_results(tmp_path, [fidelity(0.1, guidance=2.0), ranking({"mrr": [1, 0, 1, 0]})], title="x")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert "guidance" not in content["protocol"] and content["protocol"]["seed"] == 0
    assert content["tables"]["fidelity"]["protocol"]["guidance"] == 2.0


def test_a_bad_result_never_replaces_a_good_one(tmp_path):
    save_results(tmp_path / "r", [fidelity(0.2)], title="first")
    with pytest.raises(DataError, match="different names"):
        save_results(tmp_path / "r", [fidelity(0.2), fidelity(0.3)], title="second")
    assert load_results(tmp_path / "r")[0].summary["mean"][0] == 0.2
    (tmp_path / "r" / "fidelity.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtefactError, match="damaged"):
        load_results(tmp_path / "r")
    with pytest.raises(ArtefactError, match="no evaluation at"):
        load_results(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": [1], "value": [1.0]}, r"need the columns user_id \(or item_id\)"),
        ({"user_id": [1], "value": [float("nan")]}, "1 per-user values of x are null or not"),
        ({"user_id": [1], "value": [None]}, "1 per-user values of x are null or not"),
        ({"user_id": [1, 1], "value": [1.0, 2.0]}, r"not told apart by \['user_id'\]"),
        ({"user_id": [1], "result": ["a"], "value": [1.0]}, "none called 'result'"),
    ],
)
def test_values_that_could_mislead_are_refused(frame, message):
    per_user = pl.DataFrame(frame)
    with pytest.raises(DataError, match=message):
        Result(name="x", protocol=PROTOCOL, summary=pl.DataFrame(), per_user=per_user)


def test_names_name_files():
    with pytest.raises(DataError, match="letters, digits and underscores, got 'a/b'"):
        Result(name="a/b", protocol=PROTOCOL, summary=pl.DataFrame())


def test_differences_by_hand():
    a = ranking({"ndcg": [0.0, 0.5, 0.5, 1.0], "mrr": [0.0, 0.0, 0.0, 1.0]})
    b = ranking({"ndcg": [0.5, 1.0, 1.0, 1.0], "mrr": [0.0, 0.0, 0.0, 1.0]}, config_hash="other")
    (found,) = compare_results({"a": [a], "b": [b]}, seed=0)
    row, same = found.table.to_dicts()
    assert (row["run"], row["metric"], row["k"]) == ("b", "ndcg", 10)
    assert (row["value"], row["baseline"], row["difference"]) == (0.875, 0.5, 0.375)
    assert 0 <= row["difference_low"] < 0.375 < row["difference_high"] <= 0.5
    expected = paired_permutation_test([0.5, 1, 1, 1], [0, 0.5, 0.5, 1], seed=0)
    assert row["p"] == expected
    assert [row["p_holm"], same["p_holm"]] == holm([expected, 1.0]).tolist()
    assert (same["difference"], same["p"]) == (0.0, 1.0)
    assert (row["num_paired"], row["only_run"], row["only_baseline"]) == (4, 0, 0)


def test_pairing_finds_what_means_cannot():
    """The same small gain for everyone drowns in the spread over users, but not in pairs."""
    easy = np.linspace(0, 1, 40)
    users = range(40)
    a = ranking({"ndcg": easy.tolist()}, users=users)
    b = ranking({"ndcg": (easy + 0.01).tolist()}, users=users)
    row = compare_results({"a": [a], "b": [b]}, seed=0)[0].table.row(0, named=True)
    assert row["p"] < 0.001
    assert row["difference_low"] == pytest.approx(0.01)


def test_only_those_that_both_have_are_compared_and_the_others_counted():
    a = ranking({"ndcg": [1.0, 0.0, 0.0], "map": [0.5, 0.5, 0.5]}, users=(1, 2, 3))
    b = ranking({"ndcg": [0.0, 1.0, 1.0, 1.0]}, users=(3, 4, 5, 1))
    (found,) = compare_results({"a": [a], "b": [b]}, seed=0)
    (row,) = found.table.to_dicts()
    assert (row["num_paired"], row["only_run"], row["only_baseline"]) == (2, 2, 1)
    assert (row["value"], row["baseline"]) == (0.5, 0.5)
    assert any("1 of 2 figures are not among those of b" in note for note in found.notes)


def test_order_of_rows_changes_nothing():
    a = ranking({"ndcg": [0.1, 0.5, 0.2, 0.9]})
    b = ranking({"ndcg": [0.3, 0.4, 0.8, 0.7]})
    turned = dataclasses.replace(b, per_user=b.per_user.reverse())
    one, other = (compare_results({"a": [a], "b": [x]}, seed=0)[0].table for x in (b, turned))
    assert one.equals(other)


def test_figures_without_users_stand_side_by_side():
    compared = compare_results({"a": [fidelity(0.3)], "b": [fidelity(0.2)]}, seed=0)
    rows = compared[0].table.to_dicts()
    assert [row["set"] for row in rows] == ["samples", "noise"]
    assert rows[0]["difference"] == pytest.approx(-0.1)
    assert "p" not in rows[0]
    named = [
        dataclasses.replace(fidelity(x), summary=fidelity(x).summary.rename({"mean": "KID-clip"}))
        for x in (0.3, 0.2)
    ]
    (found,) = compare_results({"a": [named[0]], "b": [named[1]]}, seed=0)
    assert found.table.row(0, named=True)["figure"] == "KID-clip"
    assert found.table["value"].to_list() == [0.2, 0.9]


def test_unlike_protocols_do_not_meet_unless_they_are_the_subject():
    a, b = fidelity(0.3, guidance=1.0), fidelity(0.2, guidance=2.0, seed=1)
    with pytest.raises(DataError, match=r"guidance: 1.0 against 2.0") as error:
        compare_results({"a": [a], "b": [b]}, seed=0)
    assert "seed: 0 against 1" in str(error.value) and "fidelity of a and of b" in str(error.value)
    assert compare_results({"a": [a], "b": [b]}, seed=0, varying=["guidance", "seed"])
    with pytest.raises(DataError, match="no fields"):
        compare_results({"a": [a], "b": [b]}, seed=0, varying=["guidence"])


def test_nothing_in_common_is_said():
    with pytest.raises(DataError, match="no table in common"):
        compare_results({"a": [fidelity(0.1)], "b": [ranking({"mrr": [1, 0, 1, 0]})]}, seed=0)
    with pytest.raises(DataError, match="at least two"):
        compare_results({"a": [fidelity(0.1)]}, seed=0)
    a = ranking({"mrr": [1, 0, 1, 0]})
    other = dataclasses.replace(a, per_user=a.per_user.rename({"k": "cut"}))
    with pytest.raises(DataError, match="told apart by"):
        compare_results({"a": [a], "b": [other]}, seed=0)
