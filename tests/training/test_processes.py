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


@pytest.mark.parametrize("strategy", ["fsdp_cpu_offload", "deepspeed_stage_2"])
def test_weights_that_are_split_otherwise_are_refused(strategy):
    with pytest.raises(ValueError, match=r"splits weights in a way.*; use fsdp or ddp"):
        FitConfig(strategy=strategy)


SCRIPT = """
import dataclasses
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import TransformerConfig
from ulrec.training.compute import ComputeConfig
from ulrec.training.datamodule import AugmentConfig, media_source, pair_source
from ulrec.training.fit import FitConfig, fit
from ulrec.training.stability import CollapseConfig, CollapseGuard
from ulrec.training.tasks import BaseTask, OptimiserConfig, UnifiedTask

folder, devices, strategy = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
small = TransformerConfig(width=16, depth=1, head_width=8)
encoder = EncoderConfig(channels=(8, 8), num_blocks=1, num_last_blocks=1)
decoder = DecoderConfig(channels=(8,), num_blocks=1, middle=small)
media = AutoencoderConfig(height=8, width=8, encoder=encoder, decoder=decoder)
x = np.random.default_rng(0).uniform(-1, 1, (20, 3, 1, 8, 8)).astype(np.float32)
settings = dict(
    num_steps=5, batch_size=4, log_every=1, accelerator="cpu", devices=devices, draws="batch",
    strategy=strategy, save_every_s=0.0, num_grids=1,
)
drawings = []


def drawn(models):  # looks at the averages where a grid would be drawn
    drawings.append(sum(p.double().abs().sum().item() for p in models["model"].parameters()))
    return np.zeros((2, 2, 3), np.uint8)


def stage_2():
    z = np.random.default_rng(1).normal(size=(9, 4, 1, 2, 2)).astype(np.float32)
    factors = np.random.default_rng(2).normal(size=(20, 5)).astype(np.float32)
    users = UserConditioner(UserConditionerConfig(num_factors=5, width=6, hidden=8, dropout=0.3))
    network = dataclasses.replace(small, cond_width=6)
    model = Base(BaseConfig(latent_shape=(4, 1, 2, 2), network=network))
    task = BaseTask(model, users, optimiser=OptimiserConfig(), num_steps=5, seed=0)
    return task, pair_source(z, np.arange(20) % 9, factors), []


def stage_1():
    model = Unified(UnifiedConfig(autoencoder=media, prior=PriorConfig(network=small)))
    task = UnifiedTask(model, optimiser=OptimiserConfig(), num_steps=5, seed=0)
    source = media_source(lambda rows: x[rows], np.arange(20), augment=AugmentConfig(shift=1))
    return task, source, [CollapseGuard(CollapseConfig(floor=1e-6)), Stop()]


class Stop(pl.Callback):  # looks at latents between steps; interrupts once, after three
    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        with torch.no_grad():
            assert module.model.autoencoder.encode(batch[0]).isfinite().all()
        if trainer.global_step == 3 and not (folder / "stopped").exists():
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                (folder / "stopped").touch()
            os.kill(os.getpid(), signal.SIGTERM)


for name, stage in {"first": stage_2, "second": stage_1}.items():
    if (folder / f"{name}.done").exists():  # as a run skips its finished stages
        continue
    torch.manual_seed(0)
    task, source, guards = stage()
    trained = fit(
        task,
        source,
        num_samples=20,
        config=FitConfig(**settings),
        folder=folder / name,
        title="test",
        draw=drawn,
        grids=folder,
        guards=guards,
        compute=ComputeConfig(activation_checkpointing=devices > 1),
    )
    weights = {part: model.state_dict() for part, model in trained.items()}
    torch.save([weights, drawings], folder / f"{name}.done")
"""


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return train_script(tmp_path_factory.mktemp("one"), devices=1, strategy="auto")


def train_script(folder, *, devices, strategy):
    """Run the script, stopped once; return losses, weights and drawings of both trainings."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(folder), str(devices), strategy]
    stopped = subprocess.run(command, check=False, env=environment, cwd=ROOT, timeout=540)
    assert stopped.returncode != 0 and (folder / "stopped").exists()
    subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=540)
    found = {}
    for name in ("first", "second"):
        lines = (folder / name / "losses.jsonl").read_text().splitlines()
        weights, drawings = torch.load(folder / f"{name}.done", weights_only=True)
        found[name] = [json.loads(line) for line in lines], weights, drawings
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_have_the_loss_curve_of_one(one_process, tmp_path, strategy):
    """Over gloo, both stages in a row as in a run, stopped and resumed; and with less memory.

    Only the first process goes on after each training. Averages are those of one process, too.
    """
    found = train_script(tmp_path, devices=2, strategy=strategy)
    for name, (expected, weights, drawings) in one_process.items():
        assert len(expected) == 5
        for two, one in zip(found[name][0], expected, strict=True):
            assert two == pytest.approx(one, rel=1e-5)
        for part, tensors in weights.items():
            for key, tensor in tensors.items():
                # Adam, at steps of 1e-3, makes much of rounding where gradients are small.
                torch.testing.assert_close(found[name][1][part][key], tensor, rtol=0, atol=5e-4)
        assert found[name][2] == pytest.approx(drawings, rel=1e-5) and len(drawings) == 1
