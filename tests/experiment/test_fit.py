import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec import Pipeline
from ulrec.config import load_config
from ulrec.errors import ConfigError, DataError
from ulrec.experiment.config import RunConfig
from ulrec.experiment.fit import fit_pipeline

MIDDLE = "{width: 32, depth: 1, head_width: 16}"
TINY = (
    "latents.model.autoencoder.encoder={channels: [16, 32], num_blocks: 1, latent_channels: 4}",
    f"latents.model.autoencoder.decoder={{channels: [16], num_blocks: 1, middle: {MIDDLE}}}",
    f"latents.model.prior.network={MIDDLE}",
    "latents.fit={num_steps: 2, batch_size: 8, num_grids: 0}",
    f"base.network={MIDDLE}",
    "base.conditioner={num_tokens: 2, width: 16, hidden: 32}",
    "base.unconditional={num_steps: 2, batch_size: 8, num_grids: 0}",
    "base.conditional={num_steps: 2, batch_size: 8, num_grids: 0}",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    for item in range(30):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{item:03d}.png")
    rows = [
        (f"u{u}", int(i), 10 * u + n)
        for u in range(12)
        for n, i in enumerate(rng.permutation(30)[:6])
    ]
    return folder, pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")


def test_fit_goes_from_tables_to_a_pipeline_and_skips_what_is_done(shop, tmp_path):
    folder, likes = shop
    first, again = [], []
    pipeline = Pipeline.fit(
        likes, folder, folder=tmp_path / "run", overrides=TINY, progress=first.append
    )
    assert [result.stage for result in first][-1] == "index"
    assert not any(result.skipped for result in first)
    assert not (tmp_path / "run" / "metrics.json").exists()
    users = ["u0", "u11"]
    made = pipeline.generate(users, per_user=2, seed=1)
    assert made.media.shape == (4, 3, 1, 32, 32)
    assert pipeline.recommend(users, k=3)["item_id"].dtype == pl.Int64
    same = Pipeline.fit(
        likes, folder, folder=tmp_path / "run", overrides=TINY, progress=again.append
    )
    assert all(result.skipped for result in again) and len(again) == len(first)
    np.testing.assert_array_equal(same.generate(users, per_user=2, seed=1).media, made.media)

    # Other interactions: media and stage 1 stay as they are.
    changed = []
    fit_pipeline(
        likes.head(60), folder, folder=tmp_path / "run", overrides=TINY, progress=changed.append
    )
    kept = {result.stage for result in changed if result.skipped}
    assert {"train-latents", "encode", "train-base"} <= kept


def test_loading_a_pipeline_needs_nothing_of_training():
    code = (
        "import sys, ulrec.pipeline; "
        "assert not {'pytorch_lightning', 'ulrec.experiment'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrong_calls_say_so_before_anything_is_trained(shop, tmp_path):
    folder, likes = shop
    with pytest.raises(ConfigError, match=r"until has to be one of index, .*got 'encode'"):
        Pipeline.fit(likes, folder, folder=tmp_path / "run", until="encode")
    with pytest.raises(DataError, match="no item of the interactions has a picture"):
        strangers = likes.with_columns(item_id=pl.col("item_id") + 1000)
        Pipeline.fit(strangers, folder, folder=tmp_path / "run")
    with pytest.raises(ConfigError, match="did you mean 'guidance'"):
        Pipeline.fit(likes, folder, folder=tmp_path / "run", overrides=["generate.guidence=1"])
    assert not (tmp_path / "run" / "stages").exists()


def test_given_settings_take_the_place_of_the_proposed_ones(shop, tmp_path):
    folder, likes = shop
    settings = load_config(RunConfig, None, ["cf.als.num_factors=5", "data.split.name=leave_last"])
    done = []

    class Enough(Exception):
        pass

    def stop(result):
        done.append(result.stage)
        raise Enough

    with pytest.raises(Enough):
        fit_pipeline(likes, folder, folder=tmp_path / "run", config=settings, progress=stop)
    assert done == ["prepare"]
    config = load_config(RunConfig, tmp_path / "run" / "config.yaml")
    assert config.cf.als.num_factors == 5 and config.data.split.name == "leave_last"
    assert config.data.media_root == str(folder) and config.name == "run"
