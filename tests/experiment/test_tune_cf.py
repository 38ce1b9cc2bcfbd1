from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from ulrec.cf.als import ALSConfig
from ulrec.cf.registry import CFConfig
from ulrec.checkpoint import open_artefact
from ulrec.cli import main
from ulrec.config import from_mapping
from ulrec.errors import ConfigError, DataError
from ulrec.experiment import tune_cf as module
from ulrec.experiment.search_space import SEARCHES, SPACES, LogRange
from ulrec.experiment.tune_cf import TuneConfig, tune_cf


def fewer_fits(monkeypatch) -> list:
    """Count what is fitted."""
    fitted = []

    def counting(config):
        fitted.append(config)
        return build(config)

    build = module.build
    monkeypatch.setattr(module, "build", counting)
    return fitted


def test_a_search_finds_writes_and_goes_on(tiny_copy, monkeypatch):
    fitted = fewer_fits(monkeypatch)
    config = TuneConfig(models=("als", "ease"), num_trials=3, seed=1)
    # A search that never reads the test part does not notice that it is gone.
    (tiny_copy.path("interactions") / "test.parquet").write_bytes(b"nothing to read")
    tuned = tune_cf(tiny_copy, config)
    assert len(fitted) == 6 and tuned.table.height == 6
    figures = tuned.table["recall@20"].to_list()
    assert figures == sorted(figures, reverse=True)
    assert fitted[0].als == tiny_copy.config.cf.als  # the run's own settings are the first trial
    assert from_mapping(CFConfig, yaml.safe_load(tuned.yaml)["cf"]) == tuned.winner
    assert tuned.table["behind the best"][0] == "0.0000 [0.0000, 0.0000]"

    open_artefact(tuned.folder, kind="tuning")
    protocol = json.loads((tuned.folder / "protocol.json").read_text())
    assert protocol["part"] == "validation" and protocol["search"]["seed"] == 1
    assert protocol["interactions"] == tiny_copy.fingerprint("interactions")
    assert len(protocol["trials"]) == 6
    assert protocol["trials"][0]["config"] == protocol["winner"]
    assert protocol["trials"][0]["recall@20"]["mean"] == figures[0]

    # an interruption in the middle of a line costs that trial alone
    kept = tiny_copy.path("tune_cf_trials.jsonl")
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:4]) + lines[4][:30])
    again = tune_cf(tiny_copy, config)
    assert len(fitted) == 8
    assert again.table.equals(tuned.table)
    assert len(kept.read_text().splitlines()) == 6


def test_halving_gives_the_best_more_iterations(tiny_copy, monkeypatch):
    fitted = fewer_fits(monkeypatch)
    tuned = tune_cf(tiny_copy, TuneConfig(num_trials=9, schedule="halving"))
    whole = tiny_copy.config.cf.als.iterations
    iterations = [config.als.iterations for config in fitted]
    assert sorted(set(iterations)) == sorted({max(1, whole // 9), max(1, whole // 3), whole})
    assert tuned.table.height == 1 and tuned.winner.als.iterations == whole
    with pytest.raises(DataError, match="ease does not iterate, halving is for als, bpr, lmf"):
        tune_cf(tiny_copy, TuneConfig(models=("ease",), schedule="halving"))


def test_searches_start_with_what_is_and_stay_in_the_space():
    first, space = ALSConfig(), SPACES["als"]
    for search in SEARCHES.values():
        found = search(space, first, 12, 0)
        assert found[0] == first and len(found) == len(set(found)) == 12
        assert found == search(space, first, 12, 0) != search(space, first, 12, 1)
        for candidate in found[1:]:
            assert 0.1 <= candidate.regularisation <= 50 and 0.5 <= candidate.alpha <= 40
            assert candidate.iterations == first.iterations
    everything = SEARCHES["grid"](space, first, 1000, 0)
    assert len(everything) == 28  # 3 x 3 x 3 and the first
    assert LogRange(0.1, 10.0).grid() == (0.1, 1.0, 10.0)
    draws = [LogRange(0.1, 10.0).draw(np.random.default_rng(s)) for s in range(400)]
    assert 0.4 < np.mean(np.array(draws) < 1) < 0.6  # uniform in the logarithm


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": "test"}, "chosen on 'validation', got 'test': a part that chooses cannot judge"),
        ({"models": ("svd",)}, "'models' has to be one of als, bpr, lmf, ease, item_item"),
        ({"models": ()}, "needs a model"),
        ({"num_trials": 0}, "got 0 trials"),
        ({"metric": "auc"}, "'metric' has to be one of recall@20, ndcg@10, got 'auc'"),
    ],
)
def test_bad_searches_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TuneConfig(**changes)


def test_without_validation_interactions_the_remedy_is_named(tiny_copy):
    path = tiny_copy.path("interactions") / "validation.parquet"
    module.pl.read_parquet(path).head(0).write_parquet(path)
    with pytest.raises(DataError, match=r"0 users .* set data\.split\.k_validation"):
        tune_cf(tiny_copy, TuneConfig(num_trials=1))


def test_the_command_prints_a_table_and_refuses_the_test_part(tiny_copy, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text((tiny_copy.path("config.yaml")).read_text())
    command = ["tune-cf", "--config", str(path), f"folder={tiny_copy.folder.parent}"]
    assert main([*command, "--trials", "2"]) == 0
    said = capsys.readouterr().out
    assert "recall@20" in said and "cf:\n  model: als" in said
    assert "validation part, seed 0; by recall@20" in said
    assert main([*command, "--part", "test"]) == 1
    assert "cannot judge any more" in capsys.readouterr().err
