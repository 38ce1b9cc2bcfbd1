"""METHOD.md 6.6: c_lf buys bits. Nine short trainings, a few minutes on one thread."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ulrec.models.measure import latent_nats
from ulrec.models.unified import Unified, UnifiedConfig

NUM_STEPS, BATCH = 300, 32


def squares(num: int, *, seed: int) -> Tensor:
    """Pictures of four squares in any colours, (num, 3, 1, 8, 8): twelve numbers each."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(num, 3, 1, 2, 2, generator=generator) * 1.6 - 0.8
    return colours.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)


def trained(config: UnifiedConfig, *, seed: int) -> Unified:
    torch.manual_seed(seed)
    model = Unified(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    for step, x in enumerate(squares(NUM_STEPS * BATCH, seed=seed).split(BATCH)):
        progress = step / NUM_STEPS
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * min((step + 1) / 50, 1 - progress)
        loss = model.loss(x, generator=generator, progress=progress).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


def rate_and_distortion(model: Unified) -> tuple[float, float]:
    """Bits/pixel of fresh pictures, and the squared error of one decoder sample of each."""
    x = squares(128, seed=999)
    with torch.no_grad():
        z = model.autoencoder.encode(x)
    bits = model.bits_per_pixel(latent_nats(model.prior, z, num_levels=16, seed=0))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    drawn = model.autoencoder.decode(model.autoencoder.noise(z, noise), seeds=range(len(x)))
    return bits.item(), (drawn - x).square().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bits_fall_and_distortion_rises_as_the_loss_factor_falls(tiny, seed):
    points = []
    for loss_factor in (2.0, 4.0, 8.0):
        autoencoder = dataclasses.replace(tiny.autoencoder, loss_factor=loss_factor)
        config = dataclasses.replace(tiny, autoencoder=autoencoder)
        points.append(rate_and_distortion(trained(config, seed=seed)))
    for (bits, distortion), (more_bits, less_distortion) in pairwise(points):
        assert more_bits > 1.1 * bits
        assert less_distortion < 0.9 * distortion
