"""Presets change what a training costs, and not what it learns."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ulrec.errors import TrainingError
from ulrec.models.unified import Unified
from ulrec.networks.transformer import LatentTransformer
from ulrec.training.compute import ComputeConfig, computed
from ulrec.training.fit import FitConfig, fit
from ulrec.training.tasks import OptimiserConfig, UnifiedTask

CHECKPOINTING = ComputeConfig(activation_checkpointing=True)
FIT = FitConfig(batch_size=4, log_every=1, accelerator="cpu", save_every_s=0.0, num_grids=0)
ROOT = Path(__file__).parents[2]


def noised(model):
    """Give all weights something to do: many start at zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model.train()


def step(model, config):
    """Return loss, gradients by name and the bytes that are saved for the backward pass."""
    saved = []

    def pack(tensor):
        saved.append(tensor.numel() * tensor.element_size())
        return tensor

    model.zero_grad()
    torch.manual_seed(1)  # dropout
    x = torch.linspace(-1, 1, 4 * 3 * 64).reshape(4, 3, 1, 8, 8)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with computed(model, config):
        with hooks:
            loss = model.loss(x, generator=torch.Generator().manual_seed(2)).total
        loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return loss.detach(), gradients, sum(saved)


def test_recomputed_activations_give_the_same_gradients_from_less_memory(tiny):
    """Dropout included: it is drawn again as it was."""
    model = noised(Unified(tiny))
    loss, gradients, saved = step(model, ComputeConfig())
    again, recomputed, kept = step(model, CHECKPOINTING)
    assert torch.equal(again, loss)
    for name, gradient in gradients.items():
        assert torch.equal(recomputed[name], gradient), name
    assert any(gradient.abs().max() > 0 for gradient in gradients.values())
    assert kept < 0.5 * saved


def test_a_model_is_left_as_it_was(tiny):
    model = Unified(tiny)
    names = list(model.state_dict())
    with pytest.raises(ZeroDivisionError), computed(model, CHECKPOINTING):
        assert list(model.state_dict()) == names
        assert sum("forward" in vars(module) for module in model.modules()) > 3
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_training_goes_on_with_other_presets(tiny, media, tmp_path):
    """A resume point is of no preset, and the losses are those of none."""
    for folder, presets in {
        "plain": {4: ComputeConfig()},
        "mixed": {2: CHECKPOINTING, 4: ComputeConfig()},
    }.items():
        for num_steps, compute in presets.items():
            torch.manual_seed(0)
            fit(
                UnifiedTask(Unified(tiny), optimiser=OptimiserConfig(), num_steps=4, seed=3),
                media,
                num_samples=20,
                config=dataclasses.replace(FIT, num_steps=num_steps),
                folder=tmp_path / folder,
                title="test",
                compute=compute,
            )
    plain, mixed = ((tmp_path / name / "losses.jsonl").read_text() for name in ("plain", "mixed"))
    assert plain == mixed and plain.count("\n") == 4


@pytest.mark.slow
def test_compiled_networks_give_the_gradients_of_plain_ones(network):
    model = noised(LatentTransformer(dataclasses.replace(network, dropout=0.0), channels=4))
    z, logsnr = torch.linspace(-1, 1, 32).reshape(2, 4, 1, 2, 2), torch.tensor([0.0, 3.0])
    found = []
    for config in (
        ComputeConfig(),
        ComputeConfig(compile=True),
        ComputeConfig(compile=True, activation_checkpointing=True),
    ):
        model.zero_grad()
        try:
            with computed(model, config):
                model(z, logsnr).square().sum().backward()
        except TrainingError as error:
            pytest.skip(str(error))
        found.append([p.grad.clone() for p in model.parameters()])
    for compiled in found[1:]:
        for gradient, one in zip(compiled, found[0], strict=True):
            torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_without_a_compiler_nothing_starts(tmp_path):
    script = """
import torch
from ulrec.networks.layers import ResBlock
from ulrec.training.compute import ComputeConfig, computed

with computed(ResBlock(8), ComputeConfig(compile=True)):
    print("started")
"""
    nowhere = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "started" not in done.stdout
    assert "TrainingError: compute.compile needs a working compiler for cpu" in done.stderr
