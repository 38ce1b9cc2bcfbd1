"""The main job in time: all stages on clips, personal clips, and going on from frames."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from ulrec import Pipeline
from ulrec.config import load_config
from ulrec.data.media import MediaStore
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.motion import border_variance, temporal_energy
from ulrec.experiment.config import RunConfig
from ulrec.experiment.curve import Curve
from ulrec.experiment.generate import pipeline_of, validation_users
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import EXTRA_STAGES, STAGES
from ulrec.pipeline import sample_seeds
from ulrec.pipeline.prediction import STAYS, _anchored

ROOT = Path(__file__).parents[2]
CLIPS = (
    "data.max_items=80",
    "data.simulation.num_users=40",
    "data.media.frames=4",
    "latents.model.autoencoder.frames=4",
    "latents.model.autoencoder.encoder.frame_stride=2",
    "latents.model.autoencoder.encoder.temporal_kernel=3",
    "latents.model.autoencoder.decoder.temporal_kernel=3",
    "latents.model.autoencoder.decoder.middle.temporal=axial",
    "latents.model.prior.network.temporal=axial",
    "base.network.temporal=axial",
    "base.given_frames=3",
    "generate.num_users=4",
    "generate.fans_per_category=0",
)


@pytest.fixture(scope="module")
def clip_run(
    make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    catalogue = ROOT / "datasets/fluent_emoji/clips.parquet"
    folder = tmp_path_factory.mktemp("clips")
    run = Run(config=make_config(folder, *CLIPS, f"data.catalogue={catalogue}"))
    run_stages(run, list(STAGES.values()), report=lambda result: None)
    return run


@pytest.fixture(scope="module")
def pipeline(clip_run: Run) -> Pipeline:
    return Pipeline.load(clip_run.folder)


def test_personal_clips(pipeline: Pipeline) -> None:
    users = pipeline.factors.users[:2].tolist()
    made = pipeline.generate(users, per_user=2, guidance=2.0)
    assert made.media.shape == (4, 3, 4, 16, 16) and made.latents.shape == (4, 4, 2, 4, 4)
    near = pipeline.neighbours(made.latents, k=3)
    assert len(near) == 12


def test_clips_are_judged_by_how_they_move(clip_run: Run) -> None:
    metrics = clip_run.path("metrics.json").read_text()
    assert "picture" not in metrics and "held-out clips" in metrics
    tables = json.loads(metrics)["tables"]
    rows = {row["set"]: row for row in tables["motion"]["rows"]}
    assert rows["real held-out"]["energy_ratio"] == rows["real held-out"]["border_ratio"] == 1.0
    assert set(rows) == {
        "real held-out",
        "reconstructed held-out",
        "generated (user)",
        "generated (null)",
        "real held-out, shuffled frames",
    }
    report = clip_run.path("report.html").read_text()
    assert "data:image/webp" in report and "<h2>Clips</h2>" in report
    assert "held-out clips" in report and "held-out pictures" not in report


def test_guidance_is_also_chosen_by_how_clips_move(clip_run: Run) -> None:
    few = replace(clip_run.config.curve, num_users=3, guidances=(2.0,))
    run = Run(config=replace(clip_run.config, curve=few))
    run_stages(run, [EXTRA_STAGES["curve"]], report=lambda result: None)
    curve = Curve.load(run)
    assert curve is not None
    found = {row["metric"]: row for row in curve.table.to_dicts()}
    pipeline = pipeline_of(run)
    users = validation_users(run, pipeline, 3, stream=8)
    clips, _ = pipeline.generate_for(
        pipeline.factors.user_factors[users],
        seeds=sample_seeds(0, users, np.zeros_like(users)),
        guidance=2.0,
    )
    store = MediaStore.open(run.path("media"))
    heldout = pipeline.items.filter(pl.col("split") == "heldout")["item_id"].to_list()
    real = np.asarray(store.media[store.items.rows(heldout)])
    for name, measure in (("motion energy", temporal_energy), ("border variance", border_variance)):
        row = found[name]
        assert row["mean"] == pytest.approx(measure(clips).mean() / measure(real).mean())
        assert row["low"] <= row["mean"] <= row["high"]


def test_what_follows_given_frames(pipeline: Pipeline) -> None:
    given = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 16, 16), dtype=np.uint8)
    made = pipeline.continue_clips(given)
    assert made.shape == (2, 3, 4, 16, 16)
    assert (made[:, :, :3] == given).all()
    longer = pipeline.continue_clips(given, num_frames=7)
    assert longer.shape == (2, 3, 7, 16, 16)
    assert (longer[:, :, :4] == made).all()
    users = pipeline.factors.users[pipeline.factors.known_users][:2].tolist()
    personal = pipeline.continue_clips(given, users, guidance=3.0)
    assert (personal[:, :, :3] == given).all() and (personal != made).any()
    assert (pipeline.continue_clips(given, users, guidance=3.0) == personal).all()


def test_what_the_last_frame_lost_is_given_back_where_it_stays() -> None:
    decoded = torch.tensor([0.1, 0.2, 0.5, -0.9]).reshape(1, 1, 4, 1, 1)
    given = torch.tensor([0.0, 0.6]).reshape(1, 1, 2, 1, 1)
    found = _anchored(decoded, given).flatten()
    some = 0.4 * math.exp(-0.5 * (0.3 / STAYS) ** 2)  # of the 0.4 that decoding lost
    torch.testing.assert_close(found, torch.tensor([0.1, 0.6, 0.5 + some, -0.9]))
    assert 0.01 < some < 0.1
    still = _anchored(decoded[:, :, [1, 1, 1, 1]], given)
    torch.testing.assert_close(still[:, :, 1:], given[:, :, [1, 1, 1]])


@pytest.mark.parametrize(
    ("shape", "num_frames", "message"),
    [
        ((1, 3, 2, 16, 16), 4, "at least 3"),
        ((1, 3, 3, 8, 16), 4, r"have to be \(N, 3, at least 3, 16, 16\)"),
        ((1, 3, 4, 16, 16), 4, "has to be above 4"),
    ],
)
def test_frames_that_cannot_be_gone_on_from(
    pipeline: Pipeline, shape: tuple[int, ...], num_frames: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        pipeline.continue_clips(np.zeros(shape, np.uint8), num_frames=num_frames)


def test_a_base_that_goes_on_from_nothing_says_so(tiny_run: Run) -> None:
    with pytest.raises(DataError, match=r"set base\.given_frames"):
        Pipeline.load(tiny_run.folder).continue_clips(np.zeros((1, 3, 1, 16, 16), np.uint8))


def test_a_user_for_each_clip(pipeline: Pipeline) -> None:
    with pytest.raises(DataError, match="expected a user for each of 2 clips"):
        pipeline.continue_clips(np.zeros((2, 3, 3, 16, 16), np.uint8), ["u00000"])


def page_of(monkeypatch: pytest.MonkeyPatch, run: Run, **query: str) -> Any:
    testing = pytest.importorskip("streamlit.testing.v1")
    monkeypatch.setattr(sys, "argv", ["page.py", "--run", str(run.folder)])
    page = testing.AppTest.from_file(str(ROOT / "ulrec/app/page.py"), default_timeout=60)
    page.query_params.update({"quality": "Fast", "pictures": "2", **query})
    page.run()
    assert not page.exception and not page.error
    return page


def kinds_of(page: Any) -> set[str]:
    """Types of all media on a page, those to tap included."""
    parts = [element.proto.body for element in page.get("html")]
    parts += [button.label for button in page.button]
    parts += [image.url for element in page.get("image") for image in element.proto.imgs]
    return set(re.findall(r"data:image/(\w+);base64", " ".join(parts)))


@pytest.mark.parametrize(
    "query",
    [{}, {"who": "Me"}, {"view": "The space"}, {"view": "The catalogue"}],
    ids=["user", "visitor", "space", "catalogue"],
)
def test_clips_move_on_the_page_unless_held_still(
    monkeypatch: pytest.MonkeyPatch, clip_run: Run, query: dict[str, str]
) -> None:
    page = page_of(monkeypatch, clip_run, **query)
    assert kinds_of(page) == {"webp"}
    assert "Pictures" not in [slider.label for slider in page.slider]
    page.toggle(key="still").set_value(True).run()
    assert not page.exception and kinds_of(page) == {"png"}


def test_sheets_of_clips_are_on_the_page(monkeypatch: pytest.MonkeyPatch, clip_run: Run) -> None:
    page = page_of(monkeypatch, clip_run, view="The evidence")
    assert kinds_of(page) == {"webp"}
    assert "Nearest" in [tab.label for tab in page.tabs]


def test_pictures_cannot_be_told_to_move() -> None:
    overrides = ["generate.sampler.motion=1.2"]
    with pytest.raises(ConfigError, match=r"motion 1\.2 is for clips and data\.media\.frames is 1"):
        load_config(RunConfig, None, overrides)
    frames = ["data.media.frames=16", "latents.model.autoencoder.frames=16"]
    assert load_config(RunConfig, None, [*overrides, *frames]).generate.sampler.motion == 1.2
