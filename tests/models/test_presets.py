"""Presets and the configurations that spell them out, on the meta device."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from ulrec.config import load_config
from ulrec.experiment.config import RunConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.presets import PRESETS, unified_preset
from ulrec.models.unified import Unified

CONFIGS = Path(__file__).parents[2] / "configs"
SPELT_OUT = [("small", 512), ("medium", 512), ("small", 256)]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_and_train_on_the_meta_device(name):
    size = PRESETS[name].size
    config = unified_preset(name, height=size, width=size)
    shape = config.autoencoder.latent_shape
    with torch.device("meta"):
        model = Unified(config)
        base = Base(BaseConfig(latent_shape=shape, network=PRESETS[name].base))
        x, z = torch.zeros(2, 3, 1, size, size), torch.zeros(2, *shape)
        v = base.network(z, torch.zeros(2))
        z_clean = model.autoencoder.encode(x)
        x_hat = model.autoencoder.denoise(x, torch.zeros(2), z_clean)
    assert shape[1:] == ((1, 8, 8) if name == "tiny" else (1, 32, 32))
    assert v.shape == z.shape == z_clean.shape
    assert x_hat.shape == x.shape


STEPS = [pytest.param("tiny", "cpu"), pytest.param("small", "cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize(("name", "device"), STEPS)
def test_one_real_step_of_stage_1(name, device):
    size = PRESETS[name].size
    with torch.device(device):
        model = Unified(unified_preset(name, height=size, width=size))
        x = torch.rand(2, 3, 1, size, size) * 2 - 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    before = model.autoencoder.decoder.out.weight.detach().clone()
    with torch.autocast(device, torch.bfloat16):
        loss = model.loss(x).total
    loss.backward()
    optimiser.step()
    assert loss.isfinite()
    after = model.autoencoder.decoder.out.weight
    assert after.isfinite().all()
    assert not torch.equal(before, after)


def test_presets_grow():
    sizes = []
    for preset in PRESETS.values():
        with torch.device("meta"):
            base = Base(BaseConfig(latent_shape=(32, 1, 32, 32), network=preset.base))
        sizes.append(sum(p.numel() for p in base.parameters()))
    assert all(2 * smaller < larger for smaller, larger in pairwise(sizes))


@pytest.mark.parametrize(("name", "size"), SPELT_OUT)
def test_configurations_are_their_presets(name, size):
    config = load_config(RunConfig, CONFIGS / f"imagenet{size}_{name}.yaml")
    expected, preset = unified_preset(name, height=size, width=size), PRESETS[name]
    model = config.latents.model
    assert model.autoencoder.encoder == expected.autoencoder.encoder
    assert model.autoencoder.decoder == expected.autoencoder.decoder
    assert model.prior == expected.prior
    assert config.base.network == preset.base
    assert model.autoencoder.latent_shape == (32, 1, 32, 32)


def test_what_the_paper_states():
    small = PRESETS["small"]
    assert (small.encoder.patch, small.decoder.patch) == (2, 2)
    assert small.encoder.channels == (128, 256, 512, 512)
    assert (small.encoder.num_blocks, small.encoder.num_last_blocks) == (2, 3)
    assert small.decoder.channels == (128, 256, 512)
    assert (small.decoder.middle.depth, small.decoder.middle.width) == (8, 1024)
    assert (small.prior.depth, small.prior.width) == (8, 1024)
    assert (small.base.outer.width, small.base.width) == (512, 1024)
    assert (small.base.outer.depth, small.base.depth) == (6, 16)
    assert small.base.patch == 1
    assert small.decoder.dropout == small.decoder.middle.dropout == small.base.dropout == 0.1
    assert {preset.base.head_width for preset in PRESETS.values()} == {32, 64, 128}


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="no preset 'huge'; choose one of tiny, small"):
        unified_preset("huge", height=512, width=512)


@pytest.mark.parametrize("size", [1024, 384, 32])
def test_a_size_that_does_not_suit_is_refused(size):
    with pytest.raises(ValueError, match=rf"one of \[512, 256, 128, 64\], got {size}"):
        unified_preset("small", height=size, width=size)


def test_a_side_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="500x512 do not divide by the encoder's stride 16"):
        unified_preset("small", height=500, width=512)
