"""Every parameter learns, though many layers start at zero and hide those before them at first."""

from __future__ import annotations

import pytest
import torch

from ulrec.networks.decoder import Decoder, DecoderConfig
from ulrec.networks.encoder import Encoder, EncoderConfig
from ulrec.networks.transformer import Cond, LatentTransformer, OuterConfig, TransformerConfig

MIDDLE = TransformerConfig(width=16, depth=2, head_width=8)


def encoder(num_frames: int):
    network = Encoder(EncoderConfig(channels=(16, 32), num_blocks=1, num_last_blocks=1))
    return network, (torch.randn(2, 3, num_frames, 16, 12),)


def decoder(num_frames: int):
    config = DecoderConfig(channels=(16, 32), num_blocks=1, middle=MIDDLE)
    network = Decoder(config, latent_channels=3)
    x_t, z_0 = torch.randn(2, 3, num_frames, 16, 24), torch.randn(2, 3, num_frames, 4, 6)
    return network, (x_t, torch.tensor([-1.0, 2.0]), z_0)


def transformer(num_frames: int):
    network = LatentTransformer(MIDDLE, channels=3)
    return network, (torch.randn(2, 3, num_frames, 3, 2), torch.tensor([-1.0, 2.0]))


def conditioned(num_frames: int):
    config = TransformerConfig(width=16, depth=2, head_width=8, cond_width=6)
    _, inputs = transformer(num_frames)
    cond = Cond(torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool))
    return LatentTransformer(config, channels=3), (*inputs, cond)


def two_levels(num_frames: int):
    outer = OuterConfig(width=8, depth=2)
    config = TransformerConfig(width=16, depth=1, head_width=8, cond_width=6, outer=outer)
    _, (_, logsnr, cond) = conditioned(num_frames)
    z_t = torch.randn(2, 3, num_frames, 4, 2)
    return LatentTransformer(config, channels=3), (z_t, logsnr, cond)


@pytest.mark.parametrize("num_frames", [1, 4])
@pytest.mark.parametrize("build", [encoder, decoder, transformer, conditioned, two_levels])
def test_gradient_reaches_every_parameter(build, num_frames):
    torch.manual_seed(0)
    network, inputs = build(num_frames)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    output = network(*inputs)
    target = torch.randn_like(output)
    for _ in range(4):  # awake in turn: output, ends of branches, modulation, time
        optimiser.zero_grad()
        (network(*inputs) - target).square().mean().backward()
        optimiser.step()
    largest = {name: p.grad.abs().max().item() for name, p in network.named_parameters()}
    assert not [name for name, gradient in largest.items() if gradient < 1e-9]
