"""Several processes train as one does: each on its share of the batch, of rows and of noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ulrec.diffusion.draws import Share, rows, uniform
from ulrec.diffusion.loss import standard_noise, stratified_times
from ulrec.training.datamodule import AugmentConfig, StepBatches, media_source
from ulrec.training.fit import FitConfig

ROOT = Path(__file__).parents[2]


def whole():
    return torch.Generator().manual_seed(5)


def share(rank, world_size=2):
    return Share.of(5, rank=rank, world_size=world_size)


@pytest.mark.parametrize(
    "draw",
    [
        lambda num, generator: uniform(num, generator),
        lambda num, generator: standard_noise(torch.zeros(num, 3, 1, 2, 2), generator),
        lambda num, generator: stratified_times(num, generator, torch.device("cpu")),
        lambda num, generator: rows(
            num, generator, lambda n: torch.randperm(n, generator=generator)
        ),
    ],
)
@pytest.mark.parametrize("world_size", [2, 3])
def test_shares_together_are_the_draws_of_one_process(draw, world_size):
    """Draw after draw, from generators that stay in step."""
    one, shares = whole(), [share(rank, world_size) for rank in range(world_size)]
    for _ in range(2):
        expected = draw(6, one)
        for rank, generator in enumerate(shares):
            part = draw(6 // world_size, generator)
            assert torch.equal(part, expected[rank::world_size])


def batches(source, **settings):
    plan = {"num_samples": 10, "batch_size": 4, "seed": 1, "start": 0, "stop": 3}
    return list(StepBatches(source=source, **plan, **settings))


def test_shares_of_augmented_batches_are_those_of_one_process():
    x = np.random.default_rng(0).uniform(-1, 1, (10, 3, 1, 4, 4)).astype(np.float32)
    config = AugmentConfig(flip=0.5, shift=1, swap_colours=0.5)
    source = media_source(lambda chosen: x[chosen], np.arange(10), augment=config)
    expected = batches(source)
    for rank in (0, 1):
        parts = batches(source, rank=rank, world_size=2, draws="batch")
        for (part,), (one,) in zip(parts, expected, strict=True):
            assert torch.equal(part, one[rank::2])


def test_shares_of_tensors_by_name():
    def source(chosen, rng):
        return torch.from_numpy(chosen), {"user": torch.from_numpy(chosen * 10)}

    for (z, given), (one,) in zip(
        batches(source, rank=1, world_size=2, draws="batch"),
        batches(lambda chosen, rng: (torch.from_numpy(chosen),)),
        strict=True,
    ):
        assert torch.equal(z, one[1::2]) and torch.equal(given["user"], 10 * one[1::2])


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2"])
def test_split_weights_are_refused(strategy):
    with pytest.raises(ValueError, match=r"splits the weights over processes.*; use ddp"):
        FitConfig(strategy=strategy)


SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import torch

from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import TransformerConfig
from ulrec.training.datamodule import AugmentConfig, media_source
from ulrec.training.fit import FitConfig, fit
from ulrec.training.stability import CollapseConfig, CollapseGuard
from ulrec.training.tasks import OptimiserConfig, UnifiedTask

folder, devices = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
small = TransformerConfig(width=16, depth=1, head_width=8)
encoder = EncoderConfig(channels=(8, 8), num_blocks=1, num_last_blocks=1)
decoder = DecoderConfig(channels=(8,), num_blocks=1, middle=small)
media = AutoencoderConfig(height=8, width=8, encoder=encoder, decoder=decoder)
x = np.random.default_rng(0).uniform(-1, 1, (20, 3, 1, 8, 8)).astype(np.float32)
settings = dict(
    num_steps=5, batch_size=4, log_every=1, accelerator="cpu", devices=devices, draws="batch",
    strategy="ddp" if devices > 1 else "auto", save_every_s=0.0, num_grids=0,
)
for name in ("first", "second"):
    if (folder / f"{name}.done").exists():  # as a run skips its finished stages
        continue
    torch.manual_seed(0)
    model = Unified(UnifiedConfig(autoencoder=media, prior=PriorConfig(network=small)))
    fit(
        UnifiedTask(model, optimiser=OptimiserConfig(), num_steps=5, seed=0),
        media_source(lambda rows: x[rows], np.arange(20), augment=AugmentConfig(shift=1)),
        num_samples=20,
        config=FitConfig(**settings),
        folder=folder / name,
        title="test",
        guards=[CollapseGuard(CollapseConfig(floor=1e-6))],
    )
    (folder / f"{name}.done").touch()
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    """Over gloo, twice in a row as in a run; only the first process goes on after each."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    found = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(script), str(folder), str(devices)]
        subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=540)
        lines = (folder / "second" / "losses.jsonl").read_text().splitlines()
        found[devices] = [json.loads(line) for line in lines]
    assert len(found[1]) == len(found[2]) == 5
    for one, two in zip(found[1], found[2], strict=True):
        assert two == pytest.approx(one, rel=1e-5)
