"""The models that ship with the package: whole, of one piece, small, and as good as they say."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from ulrec.checkpoint import open_artefact
from ulrec.data.media import MediaConfig, prepare_media, to_uint8
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.evaluation.fidelity import psnr
from ulrec.models.components import PRETRAINED, pretrained_folder
from ulrec.pipeline import load_autoencoder, load_base

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.parent.name for path in PRETRAINED.glob("*/autoencoder"))


CLIPS = "emoji_clips32"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_emoji_models_are_shipped():
    assert {"emoji32", CLIPS} <= set(NAMES)


def test_together_they_are_small():
    pictures = [path for path in PRETRAINED.iterdir() if path.name != CLIPS]
    assert sum(map(size_of, pictures)) < 15e6
    assert size_of(PRETRAINED / CLIPS) < 12e6


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_belong_together(name):
    folder = pretrained_folder(name)
    autoencoder = open_artefact(folder / "autoencoder", kind="autoencoder").fingerprint
    for part in ("prior", "base"):
        assert open_artefact(folder / part, kind=part).made_from == {"autoencoder": autoencoder}
    for part in ("autoencoder", "prior", "base"):
        stored = load_file(folder / part / "model.safetensors")
        is_rounded = name == CLIPS and part != "autoencoder"  # to 8 bits
        matrices = {tensor.dtype.name for key, tensor in stored.items() if tensor.ndim > 1}
        assert matrices == ({"int8", "float32"} if is_rounded else {"float16"})
        assert {t.dtype.name for t in stored.values() if t.ndim < 2} == {"float16"}
    for name in ("README.md", "config.yaml"):
        assert (folder / name).stat().st_size > 0
    assert any(sheet.stat().st_size > 0 for sheet in folder.glob("sheet.*"))


def test_held_out_emoji_come_back(tmp_path):
    """Sixteen of the 185 held-out pictures, few decoder steps: well below the card's figure."""
    table = pq.read_table(ROOT / "datasets/fluent_emoji/stills.parquet")
    heldout = table.filter(np.array(table["split"].to_pylist()) == "heldout")
    some = heldout.take(np.linspace(0, len(heldout) - 1, 16).astype(int))
    store = prepare_media(some, config=MediaConfig(height=32, width=32), folder=tmp_path / "media")
    autoencoder, _ = load_autoencoder(pretrained_folder("emoji32") / "autoencoder")
    seeds = list(range(len(store)))
    with torch.no_grad():
        z = autoencoder.encode(torch.from_numpy(store.read(seeds)))
    z_0 = autoencoder.noise(z, NoiseSource(seeds, z.shape[1:], device=z.device)())
    made = autoencoder.decode(z_0, seeds=seeds, sampler=SamplerConfig(num_steps=8))
    real = np.asarray(store.media)
    own = psnr(real, to_uint8(made.numpy()), data_range=255).mean()
    others = psnr(real, to_uint8(made.roll(1, 0).numpy()), data_range=255).mean()
    assert own > 25.0
    assert own > others + 12.0


def test_the_base_draws_latents_like_real_ones():
    """Moments of samples against those that the autoencoder gives (card: standard deviation)."""
    base, _ = load_base(pretrained_folder("emoji32") / "base")
    drawn = base.sample(seeds=list(range(8)), sampler=SamplerConfig(num_steps=8)).x_hat
    assert drawn.shape == (8, 8, 1, 8, 8)
    assert 0.5 < drawn.std() < 0.9
