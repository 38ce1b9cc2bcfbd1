"""Runs on collaborative filtering other than ALS: from fit-cf to recommendations."""

import json

import numpy as np
import polars as pl
import pytest

from ulrec.data.factors import Factors
from ulrec.errors import ConfigError, DataError
from ulrec.experiment.generate import _arm_factors, evaluated_users, pipeline_of
from ulrec.experiment.prepare import read_interactions
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES


def summaries(run: Run, *names: str) -> dict[str, str]:
    results = run_stages(run, [STAGES[name] for name in names], report=lambda result: None)
    return {result.stage: "" if result.skipped else result.summary for result in results}


@pytest.fixture
def export(tiny_copy, tmp_path):
    """Factors of the tiny run's ALS as another program would leave them; one user is missing."""
    factors = Factors.load(tiny_copy.path("factors"))
    kept = np.flatnonzero(factors.known_users)[1:]
    users = {"user_id": factors.users[kept], "vector": factors.user_factors[kept].tolist()}
    items = {f"f{i}": factors.item_factors[:, i] for i in range(factors.num_factors)}
    pl.DataFrame(users).write_parquet(tmp_path / "users.parquet")
    pl.DataFrame({"item_id": factors.items.ids, **items}).write_parquet(tmp_path / "items.parquet")
    return (
        "cf.model=foreign",
        f"cf.foreign.user_factors={tmp_path / 'users.parquet'}",
        f"cf.foreign.item_factors={tmp_path / 'items.parquet'}",
    )


def test_foreign_factors_run_to_recommendations(tiny_copy, make_config, export, tmp_path):
    run = Run(config=make_config(tiny_copy.folder.parent, *export))
    said = summaries(run, "fit-cf", "condition", "index", "generate", "recommend")
    assert "users have no factor, such as u0" in said["fit-cf"]
    for stage in ("fit-cf", "condition"):
        assert "foreign does not fold in: each condition has seen its own pair" in said[stage]
    for part in ("base", "conditioner"):
        manifest = json.loads((run.path(part) / "manifest.json").read_text())
        assert manifest["info"]["can_fold_in"] is False
    for part in ("generated", "recommendations"):
        manifest = json.loads((run.path(part) / "manifest.json").read_text())
        assert manifest["info"]["can_fold_in"] is False
    pipeline = pipeline_of(run)
    unknown = np.flatnonzero(~pipeline.factors.known_users)
    counts = np.diff(pipeline.interactions.user_items.indptr)
    (stranger,) = unknown[counts[unknown] > 0]  # with a history, without a factor
    made = pipeline.generate(pipeline.factors.users[[stranger]].tolist(), decode=False)
    assert not made.personal.any() and made.can_fold_in is False
    assert stranger not in evaluated_users(run, pipeline)
    # nothing runs again, unless a file changes
    assert summaries(run, "fit-cf") == {"fit-cf": ""}
    table = pl.read_parquet(tmp_path / "users.parquet")
    table.head(len(table) - 1).write_parquet(tmp_path / "users.parquet")
    assert summaries(run, "fit-cf")["fit-cf"] != ""


def test_pairs_of_what_does_not_fold_in_have_the_fitted_factor(tiny_copy, make_config, export):
    from ulrec.data.latents import LatentStore
    from ulrec.experiment.train_base import training_pairs

    run = Run(config=make_config(tiny_copy.folder.parent, *export))
    summaries(run, "fit-cf")
    factors = Factors.load(run.path("factors"))
    conditions = training_pairs(run, LatentStore.open(run.path("latents"))).factors
    user_idx, _ = read_interactions(run).pairs()
    known = user_idx[factors.known_users[user_idx]]  # no held-out item is in the train split
    np.testing.assert_array_equal(conditions, factors.user_factors[known])
    assert len(known) < len(user_idx)


def test_the_popular_arm_of_what_does_not_fold_in(tiny_copy, make_config):
    run = Run(config=make_config(tiny_copy.folder.parent, "cf.model=bpr", "cf.bpr.num_factors=4"))
    assert "bpr does not fold in" in summaries(run, "fit-cf", "condition")["condition"]
    pipeline = pipeline_of(run)
    arms = _arm_factors(pipeline, np.array([0, 1]), popular=2, seed=0)
    factors = pipeline.factors
    top = np.argsort(-pipeline.interactions.popularity(), kind="stable")[:2]
    direction = factors.item_factors[top].mean(0)
    length = np.linalg.norm(factors.user_factors[factors.known_users], axis=1).mean()
    cosine = arms["popular"][0] @ direction / np.linalg.norm(direction)
    assert cosine == pytest.approx(length, rel=1e-5)
    assert np.linalg.norm(arms["popular"][0]) == pytest.approx(length, rel=1e-5)
    assert set(arms) == {"user", "null", "shuffled", "popular", "mean"}


@pytest.mark.parametrize("name", ["item_item", "popularity", "random"])
def test_models_without_factors_are_refused_before_they_are_fitted(name, tiny_run, make_config):
    run = Run(config=make_config(tiny_run.folder.parent, f"cf.model={name}"))
    message = f"'{name}' has no user factors .* choose one that has: als, bpr, lmf, ease, foreign"
    with pytest.raises(DataError, match=message):
        STAGES["fit-cf"].run(run)


def test_foreign_without_files_is_refused(tiny_run, make_config):
    run = Run(config=make_config(tiny_run.folder.parent, "cf.model=foreign"))
    with pytest.raises(ConfigError, match="name the two files"):
        STAGES["fit-cf"].run(run)


def test_other_models_fold_their_pairs_out(tiny_copy, make_config):
    run = Run(config=make_config(tiny_copy.folder.parent, "cf.model=ease", "cf.ease.num_factors=6"))
    said = summaries(run, "fit-cf", "condition")
    assert "fold in" not in said["condition"]
    manifest = json.loads((run.path("conditioner") / "manifest.json").read_text())
    assert manifest["info"]["can_fold_in"] is True
