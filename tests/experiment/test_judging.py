"""Fans and their category, the curve of guidance, and the report of both, on one small run."""

import importlib.util
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.checkpoint import new_artefact
from ulrec.data.simulate import SimulatedWorld
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.errors import DataError
from ulrec.evaluation.report import read_metrics
from ulrec.experiment.curve import Curve
from ulrec.experiment.fans import Fans, no_fans
from ulrec.experiment.generate import evaluated_users, pipeline_of, validation_users
from ulrec.experiment.judge import _named
from ulrec.experiment.judge_users import nearest_utility, true_utility
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import EXTRA_STAGES, STAGES

ROOT = Path(__file__).parents[2]
SMALL = ("generate.fans_per_category=3", "curve.guidances=[2.0, 0.0]", "curve.num_users=6")
AGAIN = ("generate", "recommend", "features", "evaluate")


def run_named(run: Run, *names: str) -> list[bool]:
    stages = {**STAGES, **EXTRA_STAGES}
    return [r.skipped for r in run_stages(run, [stages[n] for n in names], report=lambda r: None)]


def load_figures() -> ModuleType:
    """Import the script, which is no package."""
    path = ROOT / "examples/benchmarks/figures.py"
    spec = importlib.util.spec_from_file_location("figures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judged(tiny_run, make_config, tmp_path_factory) -> Run:
    """A run whose items are of two categories, light and dark, judged with a curve."""
    run = Run(config=make_config(tmp_path_factory.mktemp("judged"), *SMALL))
    shutil.copytree(tiny_run.folder, run.folder)
    items = pl.read_parquet(run.path("items") / "items.parquet")
    brightness = np.load(run.path("media") / "media.npy")[: len(items)].mean(axis=(1, 2, 3, 4))
    kinds = np.where(brightness > np.median(brightness), "light", "dark")
    with new_artefact(run.path("items"), kind="items") as folder:
        changed = items.with_columns(pl.Series("category", kinds))
        changed.write_parquet(folder / "items.parquet")
    run_named(run, *AGAIN, "curve", "report")
    return run


def test_fans_like_train_items_of_one_category_that_somebody_likes(judged):
    fans = Fans.load(judged.path("generated"))
    assert fans.table["category"].to_list() == ["dark"] * 3 + ["light"] * 3
    pipeline = pipeline_of(judged)
    train = pipeline.items.filter(pl.col("split") == "train")
    popularity = pipeline.interactions.popularity()
    for category, history in fans.table.select("category", "history").iter_rows():
        known = set(train.filter(pl.col("category") == category)["item_id"])
        assert len(set(history)) == len(history) == 20 and set(history) <= known
        assert (popularity[pipeline.interactions.items.rows(history)] > 0).all()
    assert fans.table["history"].n_unique() == 6 and fans.table["seed"].n_unique() == 6
    assert fans.media.shape == (6, 3, 1, 16, 16) and len(np.unique(fans.media, axis=0)) == 6


def test_fans_disturb_no_arm(judged, tiny_run):
    for name in ("samples.parquet", "media.npy", "latents.npy"):
        files = [run.path("generated") / name for run in (judged, tiny_run)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_without_categories_the_report_says_why(tiny_run):
    metrics = read_metrics(tiny_run.path("metrics.json"))
    reason = metrics.missing["category"]
    assert "category" not in metrics.tables and "fewer than two categories" in reason
    assert reason in tiny_run.path("report.html").read_text()
    pipeline = pipeline_of(tiny_run)
    config = tiny_run.config.generate
    assert "fans_per_category is 0" in no_fans(pipeline, replace(config, fans_per_category=0))
    kinds = pl.Series("category", [f"c{i % 3}" for i in range(len(pipeline.items))])
    pipeline.items = pipeline.items.with_columns(kinds)
    assert no_fans(pipeline, config) is None
    assert "two categories" in no_fans(pipeline, replace(config, fan_categories=1))
    pipeline.items = pipeline.items.drop("category")
    assert "no column 'category'" in no_fans(pipeline, config)
    pipeline.items = pl.read_parquet(tiny_run.path("items") / "items.parquet")
    pipeline.factors = replace(pipeline.factors, can_fold_in=False)
    assert "cannot fold in" in no_fans(pipeline, config)


def test_category_is_judged_beside_real_pictures_and_chance(judged):
    metrics = read_metrics(judged.path("metrics.json"))
    rows = {row["set"]: row for row in metrics.tables["category"].frame.iter_rows(named=True)}
    real, made = rows["real held-out"], rows["generated for fans"]
    assert made["n"] == 6 and made["largest_class"] == 0.5 and 0 < made["p"] <= 1
    assert real["margin"] == pytest.approx(real["balanced_accuracy"] - 0.5) and real["margin"] > 0
    assert made["margin_ratio"] == pytest.approx(made["margin"] / real["margin"])
    control = rows["generated for nobody, fans' labels dealt out"]
    assert control["n"] == 8 and abs(control["margin"]) < 0.1 and control["margin_ratio"] is None
    assert "2 categories" in metrics.tables["category"].note
    assert metrics.headline[-1].name == "category margin" and metrics.missing == {}


def test_a_condition_that_leaks_is_stated(judged, tiny_copy):
    assert read_metrics(judged.path("metrics.json")).protocol["can_fold_in"] is True
    assert "the condition leaks" not in judged.path("report.html").read_text()
    text = tiny_copy.path("metrics.json").read_text()
    leaking = text.replace('"can_fold_in": true', '"can_fold_in": false')
    tiny_copy.path("metrics.json").write_text(leaking)
    shutil.rmtree(tiny_copy.path("sheets"))
    assert run_named(tiny_copy, "report") == [False]
    assert "the condition leaks" in tiny_copy.path("report.html").read_text()


def test_every_set_says_how_many_it_is(judged):
    table = read_metrics(judged.path("metrics.json")).tables["fidelity"]
    assert table.frame["n"].min() == 8 and "each set gives 8 pictures" in table.note


def test_guidance_is_chosen_on_other_users(judged):
    pipeline = pipeline_of(judged)
    users = validation_users(judged, pipeline, 6, stream=8)
    assert len(users) == 6 and not set(users) & set(evaluated_users(judged, pipeline))
    validation = pl.read_parquet(judged.path("interactions") / "validation.parquet")
    assert set(pipeline.factors.users[users]) <= set(validation["user_id"])
    curve = Curve.load(judged)
    assert curve.num_users == 6 and curve.configured == 2.0 and curve.simulated
    assert curve.table["guidance"].unique().sort().to_list() == [0.0, 2.0]
    metrics = ["true utility", "held-out lift", "HR@20", "KID-efflite0", "copy rate"]
    assert curve.table["metric"].unique(maintain_order=True).to_list() == [
        *metrics,
        "diversity across users",
    ]
    assert (curve.table["low"] <= curve.table["high"]).all()
    page = judged.path("report.html").read_text()
    assert "What guidance buys" in page and "6 simulated validation users" in page


def test_a_guidance_that_is_known_is_not_drawn_again(judged, make_config):
    points = {path: path.stat().st_mtime_ns for path in judged.path("curve_points").iterdir()}
    assert len(points) == 2
    folder = judged.folder.parent
    more = Run(config=make_config(folder, *SMALL, "curve.guidances=[0.0, 1.0, 2.0]"))
    before = Curve.load(judged).table
    assert run_named(more, "curve") == [False]
    after = {path: path.stat().st_mtime_ns for path in judged.path("curve_points").iterdir()}
    assert len(after) == 3 and points.items() <= after.items()
    assert Curve.load(more).table.filter(pl.col("guidance") != 1.0).equals(before)
    assert run_named(judged, "curve") == [False] and Curve.load(judged).table.equals(before)
    assert run_named(judged, "curve", "report") == [True, True]


def test_a_curve_of_other_models_is_left_out(judged, make_config, tmp_path):
    run = Run(config=make_config(tmp_path, *SMALL))
    shutil.copytree(judged.folder, run.folder)
    weights = (run.path("base") / "model.safetensors").read_bytes()
    config = (run.path("base") / "config.yaml").read_text()
    with new_artefact(run.path("base"), kind="base", info={"other": True}) as folder:
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.yaml").write_text(config)
    assert Curve.load(run) is None
    shutil.rmtree(run.path("curve"))
    assert Curve.load(run) is None


def test_without_validation_users_the_curve_says_what_to_set(judged, make_config):
    pipeline = pipeline_of(judged)
    config = make_config(judged.folder.parent, *SMALL, "generate.num_users=1000")
    with pytest.raises(DataError, match="k_validation"):
        validation_users(Run(config=config), pipeline, 6, stream=8)


def test_nearest_utility_by_hand(judged):
    pipeline = pipeline_of(judged)
    items = pipeline.latents.items
    counts = np.diff(pipeline.interactions.user_items.indptr)
    users = np.flatnonzero(counts > 0)[:2]
    unseen = [np.setdiff1d(np.arange(len(items)), pipeline.interactions.history(u)) for u in users]
    picked = [unseen[0][3], unseen[0][5], unseen[1][4]]
    latents = np.array(pipeline.latents.z)[picked]
    truth = np.random.default_rng(0).normal(size=(2, len(items))).astype(np.float32)
    found = nearest_utility(pipeline, latents, users[[0, 0, 1]], truth=truth)
    expected = [truth[0, picked[:2]].mean(), truth[1, picked[2]]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    world = SimulatedWorld.load(judged.path("simulation"))
    own = true_utility(world, pipeline.factors.users[users], items)
    assert own.shape == (2, len(items)) and own.std() == pytest.approx(1, rel=0.2)


def test_figures_write_small_pictures_and_no_number_of_their_own(judged, tmp_path):
    figures = load_figures()
    curve = Curve.load(judged)
    written = figures.write_pictures(judged.folder, tmp_path, curve=curve)
    names = {
        f"smallest_{n}.png" for n in ("users", "reconstructions", "samples", "fans", "guidance")
    }
    assert {path.name for path in written} == names
    assert all(path.stat().st_size <= 300_000 for path in written)
    text = figures.markdown(read_metrics(judged.path("metrics.json")), curve)
    assert "seed 0" in text and "guidance 2.0" in text and "simulated users" in text
    utility = json.loads(judged.path("metrics.json").read_text())["tables"]["utility"]["rows"][1]
    assert f"| utility | null | {utility['mean']:.3g}"[:24] in text
    assert "| 2 (in use) |" in text and "margin over real" in text
    assert len(figures.write_pictures(judged.folder, tmp_path / "b", curve=None)) == 4


def test_pictures_too_large_get_a_palette(tmp_path):
    figures = load_figures()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (500, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size > 700_000
    assert len(figures.small_png(tmp_path / "noise.png")) <= 300_000


def test_a_protocol_tells_samplers_apart():
    """Results of samplers that differ in anything must not pass for the same."""
    usual = SamplerConfig(name="dpmpp_2m_sde", num_steps=4)
    others = [
        replace(usual, name="ancestral"),
        replace(usual, guidance_until=0.0),
        replace(usual, guidance_rescale=0.7),
        replace(usual, noise_until=-2.0),
        replace(usual, motion=1.15),
        replace(usual, levels=(-1.0, 0.0, 2.5)),
    ]
    names = [_named(sampler) for sampler in (usual, *others)]
    assert names[0] == "dpmpp_2m_sde" and len(set(names)) == len(names)
    told = "dpmpp_2m_sde, guidance up to logsnr 0, noise up to logsnr -2, 1.15 times the motion"
    both = replace(usual, guidance_until=0.0, noise_until=-2.0, motion=1.15)
    assert _named(both) == told
    # whoever adds a field has to say whether a protocol tells it
    assert len(fields(SamplerConfig)) == len(others) + 1  # and the number of steps
