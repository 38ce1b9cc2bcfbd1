"""A latent that carries nothing stops the training; one that is cheap and useful does not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from ulrec.checkpoint import load_component
from ulrec.config import from_mapping
from ulrec.errors import TrainingError
from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.components import load_weights, pretrained_folder
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import TransformerConfig
from ulrec.training.datamodule import media_source
from ulrec.training.fit import FitConfig, fit
from ulrec.training.stability import CollapseConfig, CollapseGuard
from ulrec.training.tasks import OptimiserConfig, UnifiedTask

FIT = FitConfig(num_steps=8, batch_size=4, log_every=1, accelerator="cpu", num_grids=0)


def train(model, source, folder, config, *, guards, learning_rate=4e-3):
    optimiser = OptimiserConfig(learning_rate=learning_rate)
    task = UnifiedTask(model, optimiser=optimiser, num_steps=config.num_steps, seed=0)
    fit(
        task,
        source,
        num_samples=20,
        config=config,
        folder=folder,
        title="test",
        guards=guards,
    )
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def untrained(tiny, *, ramp=0.0):
    """A latent that the decoder does not look at yet, at the price of a cold start."""
    torch.manual_seed(0)
    autoencoder = dataclasses.replace(tiny.autoencoder, loss_factor=1.5, bias_x=2.5)
    return Unified(dataclasses.replace(tiny, autoencoder=autoencoder, ramp=ramp))


def test_a_latent_that_gains_nothing_stops_the_training(tiny, media, tmp_path):
    guard = CollapseGuard(CollapseConfig(floor=10.0, patience=5))
    with pytest.raises(TrainingError, match=r"collapsed at step 5: for 5 steps .* Raise loss_fac"):
        train(untrained(tiny), media, tmp_path, FIT, guards=[guard])


def test_bits_above_the_floor_are_let_be(tiny, media, tmp_path):
    guard = CollapseGuard(CollapseConfig(floor=0.1, patience=1))
    lines = train(untrained(tiny), media, tmp_path, FIT, guards=[guard])
    assert len(lines) == FIT.num_steps
    assert all(line["bits_per_pixel"] > 0.1 for line in lines)
    assert guard.steps_below == 0


def test_the_ramp_is_waited_for_and_a_resume_point_keeps_the_count(tiny, media, tmp_path):
    guard = CollapseGuard(CollapseConfig(floor=10.0, patience=5))
    train(untrained(tiny, ramp=0.5), media, tmp_path, FIT, guards=[guard])
    assert guard.steps_below == 4
    resumed = CollapseGuard(guard.config)
    resumed.load_state_dict(guard.state_dict())
    assert resumed.steps_below == 4


@pytest.fixture(scope="module")
def shipped():
    """The emoji model: its latents are worth a lot more than they are charged."""
    folder = pretrained_folder("emoji32")
    parts = {name: load_component(folder / name, kind=name) for name in ("autoencoder", "prior")}
    config = UnifiedConfig(
        autoencoder=from_mapping(AutoencoderConfig, parts["autoencoder"].config),
        prior=from_mapping(PriorConfig, parts["prior"].config),
        ramp=0.0,
    )

    def build():
        model = Unified(config)
        load_weights(model.autoencoder, parts["autoencoder"])
        load_weights(model.prior, parts["prior"])
        return model.train()

    return build


def test_a_latent_that_earns_its_bits_goes_on_and_is_left_alone(shipped, tmp_path):
    """Every step is under so high a floor, so that the gain is looked at twice."""
    x = flat_pictures(20, 32)
    config = dataclasses.replace(FIT, num_steps=2)
    guard = CollapseGuard(CollapseConfig(floor=1e6, patience=1))
    guarded = train(
        shipped(), source_of(x), tmp_path / "guarded", config, guards=[guard], learning_rate=1e-5
    )
    alone = train(
        shipped(), source_of(x), tmp_path / "alone", config, guards=[], learning_rate=1e-5
    )
    assert guarded == alone


@pytest.mark.slow
def test_the_paper_s_price_from_a_cold_start_collapses_and_stops(tmp_path):
    """Pictures of 16x16 of one colour each: a healthy price would keep their latents alive."""
    small = TransformerConfig(width=32, depth=1, head_width=16)
    autoencoder = AutoencoderConfig(
        height=16,
        width=16,
        loss_factor=1.5,
        bias_x=2.5,
        encoder=EncoderConfig(
            channels=(16, 32), num_blocks=1, num_last_blocks=1, latent_channels=4
        ),
        decoder=DecoderConfig(channels=(16,), num_blocks=1, middle=small),
    )
    config = UnifiedConfig(autoencoder=autoencoder, prior=PriorConfig(network=small), ramp=0.0)
    torch.manual_seed(0)
    steps = dataclasses.replace(FIT, num_steps=600, batch_size=16)
    guard = CollapseGuard(CollapseConfig())
    with pytest.raises(TrainingError, match="the latent has collapsed"):
        train(Unified(config), source_of(flat_pictures(20, 16)), tmp_path, steps, guards=[guard])


def flat_pictures(num, size):
    colours = np.random.default_rng(0).uniform(-1, 1, (num, 3, 1, 1, 1)).astype(np.float32)
    return np.broadcast_to(colours, (num, 3, 1, size, size))


def source_of(x):
    return media_source(lambda rows: x[rows], np.arange(len(x)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"floor": 0.0}, "floor has to be above 0"), ({"patience": 0}, "patience has to be at least")],
)
def test_bad_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        CollapseConfig(**wrong)
