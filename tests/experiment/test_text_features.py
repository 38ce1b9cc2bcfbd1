"""Text in a run, with an untrained CLIP model: what is stored, searched and steered by."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch

from ulrec import Pipeline
from ulrec.cli import main
from ulrec.data.ids import IdMap
from ulrec.data.latents import LatentStore
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES
from ulrec.experiment.text_features import item_texts
from ulrec.experiment.train_sources import Pairs, source_vectors
from ulrec.features.open_clip import (
    ClipConfig,
    ClipModel,
    ClipText,
    ClipVision,
    build_clip,
    save_clip,
    vocabulary_of,
)

STAGE = STAGES["text-features"]
TINY = ClipConfig(
    embed_dim=8,
    vision=ClipVision(image_size=16, patch_size=8, width=16, layers=1, head_width=8),
    text=ClipText(context_length=8, width=16, heads=2, layers=1),
)


def save_tiny(folder, seed=0):
    torch.manual_seed(seed)
    vocabulary = vocabulary_of(["a blue animal, smiling face"])
    save_clip(build_clip(TINY, vocabulary), folder, config=TINY, vocabulary=vocabulary)


@pytest.fixture
def run_with_text(open_clip_installed, tiny_run, make_config, tmp_path):
    """A copy of the tiny run with the stage done."""
    save_tiny(tmp_path / "clip")
    run = Run(config=make_config(tmp_path, f"text.pretrained={tmp_path / 'clip'}"))
    shutil.copytree(tiny_run.folder, run.folder)
    (result,) = run_stages(run, [STAGE], report=lambda result: None)
    assert not result.skipped
    return run


def test_the_stage_is_left_out_unless_it_is_asked_for(tiny_run, capsys):
    assert run_stages(tiny_run, [STAGE], report=lambda result: None) == []
    assert not tiny_run.path("text_features").exists()
    with pytest.raises(ConfigError, match="is not set; set it"):
        STAGE.run(tiny_run)
    assert main(["text-features", f"folder={tiny_run.folder.parent}", "name=smallest"]) == 1
    assert "leaves text-features out" in capsys.readouterr().err


def test_without_it_a_pipeline_says_what_to_run(tiny_run):
    with pytest.raises(ArtefactError, match="no text_features"):
        Pipeline.load(tiny_run.folder).search_text("blue animal")


def test_texts_search_and_steer(run_with_text, tmp_path):
    pipeline = Pipeline.load(run_with_text.folder)
    model = ClipModel.load(str(tmp_path / "clip"))
    media = np.load(run_with_text.path("media") / "media.npy")
    names = pipeline.items["name"].to_list()
    stored = np.load(run_with_text.path("text_features") / "features.npy")
    assert np.allclose(stored, model.encode_text(names), atol=1e-5)
    (query,) = pipeline.encode_text(["blue animal"])
    scores = model.encode_image(media[:, :, 0]) @ query
    found = pipeline.search_text("blue animal", k=3)
    assert found["item_id"].to_list() == [
        pipeline.latents.items[int(i)] for i in np.argsort(-scores)[:3]
    ]
    assert np.allclose(found["score"], np.sort(scores)[::-1][:3], atol=1e-5)
    assert found["rank"].to_list() == [1, 2, 3]
    said = pipeline.search_text(names[5], k=1, by="text")
    assert said["score"][0] == pytest.approx(1, abs=1e-5)

    weights = torch.softmax(torch.from_numpy(model.logit_scale * scores).double(), dim=0).numpy()
    z = np.asarray(pipeline.latents.z)
    shift = pipeline.text_shift(["blue animal"])
    assert np.allclose(shift[0], np.tensordot(weights, z, axes=1) - z.mean(0), atol=1e-4)

    with pytest.raises(DataError, match="say something"):
        pipeline.search_text(" ")
    with pytest.raises(DataError, match="list of texts"):
        pipeline.text_shift("blue animal")
    with pytest.raises(DataError, match="k of at least 1"):
        pipeline.search_text("blue", k=0)


def test_text_guidance_adds_to_that_of_users(run_with_text):
    """null + w (user - null) + v (text - null), where text - null is sigma^2 times the shift."""
    pipeline = Pipeline.load(run_with_text.folder)
    factors = pipeline.factors.user_factors[:2]
    seeds, by = np.array([4, 5]), 3 * np.repeat(pipeline.text_shift(["blue animal"]), 2, axis=0)

    def latents(who, guidance, shift):
        return pipeline.generate_for(
            who, seeds=seeds, guidance=guidance, shift=shift, decode=False
        )[1]

    plain, steered = latents(factors, 2.0, None), latents(factors, 2.0, by)
    assert np.array_equal(latents(factors, 2.0, 0 * by), plain)
    away = (steered - plain).reshape(2, -1)
    assert ((away * by.reshape(2, -1)).sum(axis=1) > 0).all()
    said, seeds_of = "blue animal", {"seeds": seeds, "guidance": 2.0, "decode": False}
    by_word = pipeline.generate_for(factors, text=said, **seeds_of)[1]
    once = np.repeat(pipeline.text_shift([said]), 2, axis=0)
    assert np.array_equal(by_word, latents(factors, 2.0, once))
    # with no user to go to, what is drawn depends on the text alone
    nobody = latents(np.zeros_like(factors), 2.0, by)
    assert np.allclose(nobody, latents(factors, 0.0, by), atol=1e-5)
    assert not np.allclose(nobody, steered, atol=1e-3)


def test_a_saved_pipeline_keeps_its_texts(run_with_text, tmp_path):
    pipeline = Pipeline.load(run_with_text.folder)
    pipeline.save(tmp_path / "saved")
    again = Pipeline.load(tmp_path / "saved")
    assert again.search_text("face", k=4).equals(pipeline.search_text("face", k=4))


def test_other_weights_by_the_same_name_are_refused(run_with_text, tmp_path):
    save_tiny(tmp_path / "clip", seed=1)
    with pytest.raises(ArtefactError, match="other weights of clip"):
        Pipeline.load(run_with_text.folder).encode_text(["face"])
    (result,) = run_stages(run_with_text, [STAGE], report=lambda result: None)
    assert not result.skipped  # the file it depends on is another


def test_a_base_that_hears_texts_is_told_every_phrasing(run_with_text, make_config, tmp_path):
    settings = (
        f"text.pretrained={tmp_path / 'clip'}",
        "text.phrasings=['{category}', '{name}, {category}']",
        "base.sources.text={width: 16}",
    )
    run = Run(config=make_config(tmp_path, *settings))
    (result,) = run_stages(run, [STAGE], report=lambda result: None)
    assert not result.skipped
    latents = LatentStore.open(run.path("latents"))
    items = pl.read_parquet(run.path("items") / "items.parquet")
    row = latents.items.rows(items["item_id"].to_list()[:1])
    name, category = items["name"][0], items["category"][0]
    texts = ClipModel.load(str(tmp_path / "clip")).encode_text(
        [name, category, f"{name}, {category}"]
    )
    pairs = Pairs(
        user_idx=np.zeros(60, np.int64),
        item_rows=np.repeat(row, 60),
        factors=np.zeros((60, 2), np.float32),
    )
    say = source_vectors(run, latents, pairs)["text"]
    told = say(np.arange(60), np.random.default_rng(0))
    which = np.abs(told[:, None] - texts).max(axis=2).argmin(axis=1)
    assert np.allclose(told, texts[which], atol=1e-5)
    assert set(which.tolist()) == {0, 1, 2}
    pipeline = Pipeline.load(run.folder)
    assert pipeline.search_text(name, k=1, by="text")["score"][0] == pytest.approx(1, abs=1e-5)


def test_templates_name_columns():
    items = pl.DataFrame({"item_id": ["a", "b"], "name": ["whale", None], "group": ["sea", "x"]})
    ids = IdMap(["b", "a"])
    assert item_texts(items, ids, "{name} ({group})") == [" (x)", "whale (sea)"]
    with pytest.raises(ConfigError, match="item_id, name, group"):
        item_texts(items, ids, "{title}")
    with pytest.raises(ConfigError, match="has to name columns"):
        item_texts(items, ids, "a thing")
