import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ulrec.data.interactions import Interactions
from ulrec.data.latents import LatentStore
from ulrec.data.media import MediaStore
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.experiment.prepare import read_interactions, read_split, split_items, train_rows
from ulrec.experiment.runner import Run, Stage, run_stages
from ulrec.experiment.stages import STAGES


def skipped(run: Run) -> dict[str, bool]:
    results = run_stages(run, list(STAGES.values()), report=lambda result: None)
    return {result.stage: result.skipped for result in results}


def test_a_run_leaves_what_it_promises(tiny_run):
    for stage in (stage for stage in STAGES.values() if stage.wanted(tiny_run.config)):
        for name in stage.outputs:
            assert (tiny_run.path(name) / "manifest.json").is_file(), name
    for name in ("config.yaml", "metrics.json", "report.html", "losses/train-latents.jsonl"):
        assert tiny_run.path(name).stat().st_size > 0
    sheets = {path.stem for path in tiny_run.path("sheets").glob("*.png")}
    assert sheets == {"reconstructions", "samples", "users"}


def test_metrics_carry_protocol_and_controls(tiny_run):
    metrics = json.loads(tiny_run.path("metrics.json").read_text())
    assert metrics["simulated"] is True
    assert metrics["protocol"]["backbone"] == "efflite0" and metrics["protocol"]["seed"] == 0
    tables = {"latents", "fidelity", "copying", "lifts", "utility", "ranking", "ranking_all"}
    personal = {"history", "identifiability", "verifier", "verifier_check"}
    among_items = {"grounding", "diversity", "beyond_accuracy"}
    assert tables | personal | among_items == set(metrics["tables"])
    arms = {row["arm"]: row for row in metrics["tables"]["utility"]["rows"]}
    assert {"user", "null", "shuffled", "popular", "mean", "oracle"} <= set(arms)
    assert arms["oracle"]["gap_closed"] == pytest.approx(1) and arms["null"]["gap_closed"] == 0
    assert all(0 < arms[a]["p_holm"] <= 1 for a in ("null", "shuffled", "popular", "mean"))
    lifts = {(row["metric"], row["arm"]) for row in metrics["tables"]["lifts"]["rows"]}
    wanted = {("control_lift", arm) for arm in ("null", "shuffled", "popular", "mean")}
    assert wanted <= lifts


def test_the_report_asks_for_nothing_from_outside(tiny_run):
    page = tiny_run.path("report.html").read_text()
    assert "imulated" in page
    for sign in ('src="http', "src='http", '<link rel="stylesheet" href="http', "@import"):
        assert sign not in page


def test_a_second_run_skips_everything(tiny_copy):
    # the copy lies elsewhere and is the same run
    assert all(skipped(tiny_copy).values())


def test_only_what_depends_on_a_change_runs_again(tiny_copy, make_config):
    folder = tiny_copy.folder.parent
    changed = Run(config=make_config(folder, "generate.guidance=1.0"))
    result = skipped(changed)
    again = {name for name, was in result.items() if not was}
    assert again == {"generate", "recommend", "features", "evaluate", "report"}


def test_a_lost_output_is_made_again(tiny_copy):
    shutil.rmtree(tiny_copy.path("index"))
    results = run_stages(tiny_copy, [STAGES["encode"], STAGES["index"]], report=lambda r: None)
    assert [r.skipped for r in results] == [True, False]


def test_a_stage_names_what_it_misses(make_config, tmp_path):
    run = Run(config=make_config(tmp_path))
    with pytest.raises(ArtefactError, match="media is missing"):
        run_stages(run, [STAGES["encode"]], report=lambda result: None)


def test_the_generator_never_sees_heldout_items_nor_cold_pairs(tiny_run):
    media = MediaStore.open(tiny_run.path("media"))
    items = pl.read_parquet(tiny_run.path("items") / "items.parquet")
    heldout = set(items.filter(pl.col("split") == "heldout")["item_id"].to_list())
    assert heldout and not heldout & set(media.items[train_rows(tiny_run, media.items)].tolist())
    train = read_split(tiny_run, "train")
    assert not heldout & set(train["item_id"].to_list()), (
        "held-out items are released after the cut"
    )


def test_no_condition_has_seen_its_pair(tiny_run):
    from ulrec.cf.registry import load_model

    interactions = read_interactions(tiny_run)
    model = load_model(tiny_run.path("recommender"))
    left_out = model.leave_one_out(interactions)
    user_idx, item_idx = interactions.pairs()
    for pair in (0, len(user_idx) // 2, len(user_idx) - 1):
        history = interactions.user_items[user_idx[pair]].copy().tolil()
        history[0, item_idx[pair]] = 0
        without = history.tocsr()
        without.eliminate_zeros()
        np.testing.assert_allclose(left_out[pair], model.fold_in(without)[0], atol=1e-4)


def test_fingerprints_chain(tiny_run):
    store = LatentStore.open(tiny_run.path("latents"))
    assert store.manifest.made_from["autoencoder"] == tiny_run.fingerprint("autoencoder")
    base = json.loads((tiny_run.path("base") / "manifest.json").read_text())
    assert base["made_from"]["latents"] == tiny_run.fingerprint("latents")
    assert base["made_from"]["factors"] == tiny_run.fingerprint("factors")


def test_sizes_that_disagree_are_refused(make_config, tmp_path):
    with pytest.raises(ConfigError, match="height and width"):
        make_config(tmp_path, "data.media.height=24")


def test_unknown_keys_are_named_with_their_path(make_config, tmp_path):
    with pytest.raises(ConfigError, match=r"latents\.model\.autoencoder\.los_factor.*loss_factor"):
        make_config(tmp_path, "latents.model.autoencoder.los_factor=2")


def test_a_model_without_factors_cannot_steer(tiny_copy, make_config):
    run = Run(config=make_config(tiny_copy.folder.parent, "cf.model=popularity"))
    with pytest.raises(DataError, match="no user factors"):
        run_stages(run, [STAGES["fit-cf"]], report=lambda result: None)


def test_interactions_that_name_no_item_are_refused(make_config, tmp_path):
    table = pl.DataFrame({"user_id": ["a"], "item_id": ["nowhere"], "timestamp": [1]})
    table.write_parquet(tmp_path / "table.parquet")
    run = Run(config=make_config(tmp_path, f"data.interactions={tmp_path / 'table.parquet'}"))
    with pytest.raises(DataError, match="no interaction names an item"):
        run_stages(run, [STAGES["prepare"]], report=lambda result: None)


def test_items_are_held_out_by_concept():
    catalogue = pl.DataFrame(
        {"item_id": [str(i) for i in range(300)], "concept": [f"c{i // 3}" for i in range(300)]}
    )
    split = split_items(catalogue, share=0.2, seed=0)
    sides = split.group_by("concept").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1
    assert 0.1 < (split["split"] == "heldout").mean() < 0.3
    assert split.equals(split_items(catalogue, share=0.2, seed=0))


def test_interactions_of_the_run_keep_cold_users(tiny_run):
    interactions = read_interactions(tiny_run)
    assert isinstance(interactions, Interactions)
    assert (np.diff(interactions.user_items.indptr) == 0).any()


def test_likes_are_ratings_of_at_least_min_weight(make_config, tmp_path):
    items = pl.read_parquet(make_config(tmp_path).data.catalogue)["item_id"][:10].to_list()
    table = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "b", "b", "b"],
            "item_id": [items[0], items[1], items[2], items[1], items[3], items[4]],
            "timestamp": [1, 2, 3, 1, 2, 3],
            "weight": [5.0, 4.0, 5.0, 2.0, 4.0, 4.0],
        }
    )
    table.write_parquet(tmp_path / "table.parquet")
    overrides = (
        f"data.interactions={tmp_path / 'table.parquet'}",
        "data.min_weight=4.0",
        "data.split.name=leave_last",
    )
    run = Run(config=make_config(tmp_path, *overrides))
    run_stages(run, [STAGES["prepare"]], report=lambda result: None)
    assert read_split(run, "test").sort("user_id")["item_id"].to_list() == [items[2], items[4]]
    train = read_split(run, "train")
    assert set(zip(train["user_id"], train["item_id"], strict=True)) == {
        ("a", items[0]),
        ("a", items[1]),
        ("b", items[3]),
    }
    assert not (run.path("simulation")).exists()


def test_other_users_do_not_cost_the_unconditional_base(tiny_copy, make_config):
    folder = tiny_copy.folder.parent
    stood = tiny_copy.fingerprint("base_unconditional")
    longer = Run(config=make_config(folder, "base.conditional.num_steps=7"))
    stages = [STAGES["train-base"], STAGES["condition"]]
    results = run_stages(longer, stages, report=lambda result: None)
    assert [result.skipped for result in results] == [True, False]
    assert longer.fingerprint("base_unconditional") == stood
    wider = Run(config=make_config(folder, "base.unconditional.num_steps=7"))
    results = run_stages(wider, stages, report=lambda result: None)
    assert [result.skipped for result in results] == [False, False]
    assert wider.fingerprint("base_unconditional") != stood
    assert not list(wider.path("training").iterdir())


def test_two_processes_are_not_at_work_on_one_run(tmp_path, tiny_run):
    run = Run(config=replace(tiny_run.config, folder=str(tmp_path)))
    command = [sys.executable, "-m", "ulrec", "prepare", f"folder={tmp_path}", "--config"]
    command.append(str(tiny_run.path("config.yaml")))
    beside = []

    def at_work(run: Run) -> str:
        beside.append(subprocess.run(command, capture_output=True, text=True, check=False))
        return "done"

    stage = Stage(name="long", help="", run=at_work, settings=lambda config: None)
    run_stages(run, [stage], report=lambda result: None)
    assert beside[0].returncode != 0 and not run.path("media").exists()
    assert f"another process is at work on {run.folder}" in beside[0].stderr
    assert "Traceback" not in beside[0].stderr
    # what has ended, however, keeps nobody away
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert run.path("media").is_dir()
