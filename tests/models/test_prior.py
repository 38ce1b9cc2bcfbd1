from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ulrec.diffusion.loss import terminal_kl
from ulrec.diffusion.process import expand, v_from_x
from ulrec.diffusion.sampler import SAMPLERS, SamplerConfig
from ulrec.diffusion.schedule import Schedule
from ulrec.models.measure import latent_nats
from ulrec.models.prior import Prior, PriorConfig


class GaussianNetwork(nn.Module):
    """v of the optimal denoiser of z ~ N(0, s^2), in place of a trained network."""

    def __init__(self, s: float) -> None:
        super().__init__()
        self.s = s
        self.embed = nn.Linear(1, 1)

    def forward(self, z_t: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
        alpha_2, sigma_2 = torch.sigmoid(logsnr), torch.sigmoid(-logsnr)
        gain = alpha_2.sqrt() * self.s**2 / (alpha_2 * self.s**2 + sigma_2)
        return v_from_x(z_t, logsnr, expand(gain, z_t) * z_t)


def gaussian_prior(s: float, *, logsnr_1: float = -10.0) -> Prior:
    schedule = Schedule(logsnr_0=5.0, logsnr_1=logsnr_1)
    prior = Prior(PriorConfig(schedule_z=schedule), channels=4)
    prior.network = GaussianNetwork(s)
    return prior


@pytest.mark.parametrize("logsnr_1", [-10.0, -1.0])
@pytest.mark.parametrize("s", [0.3, 1.0, 2.5])
def test_nats_of_gaussian_latents_are_those_of_theory(s, logsnr_1):
    """METHOD.md 6.2 through the model and the measure that reports bits.

    With an early end the terminal term counts: without it the sum is 2 to 25 % short.
    """
    shape = (400, 4, 1, 8, 8)
    z = s * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    nats = latent_nats(gaussian_prior(s, logsnr_1=logsnr_1), z, num_levels=16, seed=0)
    assert nats.shape == (400,)
    variance = s**2 / (1 + math.exp(-logsnr_1)) + 1 / (1 + math.exp(logsnr_1))
    expected = 0.5 * math.log1p(s**2 * math.exp(5)) + 0.5 * (variance - 1 - math.log(variance))
    assert nats.mean().item() / 256 == pytest.approx(expected, rel=0.01)


def test_nats_are_reproducible():
    z = torch.randn(4, 4, 1, 2, 2)
    first, again, other = (
        latent_nats(gaussian_prior(1.0), z, num_levels=2, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_end_at_the_noise_of_the_latents(name):
    """Variance alpha_0^2 s^2 + sigma_0^2: noisy latents, as the decoder wants them.

    At s = 0.1 the noise is two fifths of it.
    """
    sampler = SamplerConfig(name=name, num_steps=200)
    drawn = gaussian_prior(0.1).sample((4, 1, 64, 64), seeds=[0, 1, 2], sampler=sampler)
    assert drawn.x_0.shape == (3, 4, 1, 64, 64)
    expected = 0.01 / (1 + math.exp(-5)) + 1 / (1 + math.exp(5))
    assert drawn.x_0.var().item() == pytest.approx(expected, rel=0.06)


def test_the_loss_of_an_untrained_prior(network):
    """A network of zeros predicts z_hat = alpha z_t; the terminal term is added."""
    schedule = Schedule(logsnr_0=5.0, logsnr_1=-2.0)
    prior = Prior(PriorConfig(network=network, schedule_z=schedule), channels=4)
    z, eps = torch.randn(2, 4, 1, 2, 2), torch.randn(2, 4, 1, 2, 2)
    t = torch.tensor([0.3, 0.6])
    logsnr = schedule.logsnr(t)
    alpha, sigma = torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()
    z_hat = expand(alpha**2, z) * z + expand(alpha * sigma, z) * eps
    error = (z - z_hat).square().sum((1, 2, 3, 4))
    expected = 0.5 * schedule.slope(t) * torch.exp(logsnr) * error + terminal_kl(z, -2.0)
    torch.testing.assert_close(prior.loss(z, t=t, eps=eps), expected, rtol=1e-4, atol=1e-4)
