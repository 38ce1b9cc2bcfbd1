"""Each baseline is what it says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ulrec.diffusion.loss import terminal_kl, variance_nats
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.diffusion.schedule import Schedule
from ulrec.models.base import Base, BaseConfig
from ulrec.models.baselines import kl_vae, pixel_base
from ulrec.models.unified import Unified


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


def test_the_kl_vae_is_trained_on_the_kl_of_its_latents(tiny, pictures, randomised):
    """A step's nats over the draws of z are KL(q(z_0 | x) || N(0, I)), as torch has it."""
    torch.manual_seed(0)
    model = randomised(Unified(kl_vae(tiny, loss_factor=100.0)))
    with torch.no_grad():
        step = model.loss(pictures, generator=torch.Generator().manual_seed(1), progress=0.0)
        mean, variance = model.autoencoder.posterior(pictures)

    def nats(z):
        return terminal_kl(z, 5.0) - variance_nats(variance.double(), 5.0)

    eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(step.prior, nats(mean + variance.sqrt() * eps).float())
    torch.testing.assert_close(step.total, (step.prior + step.decoder).mean() / 192)  # weight 1

    draws = torch.randn(4_000, *mean.shape, generator=torch.Generator().manual_seed(2))
    found = torch.stack([nats(mean.double() + variance.double().sqrt() * eps) for eps in draws])
    level = torch.tensor(5.0).double()
    deviation = (torch.sigmoid(level) * variance + torch.sigmoid(-level)).sqrt()
    z_0 = Normal(torch.sigmoid(level).sqrt() * mean.double(), deviation)
    expected = kl_divergence(z_0, Normal(torch.zeros_like(mean).double(), 1.0)).flatten(1).sum(1)
    error = found.std(0) / len(draws) ** 0.5
    assert ((found.mean(0) - expected).abs() < 4 * error).all()
    assert (error < 0.05 * expected).all()


def test_the_kl_vae_s_decoder_term_is_half_the_squared_error_at_its_price(
    tiny, pictures, randomised
):
    torch.manual_seed(0)
    model = randomised(Unified(kl_vae(tiny, loss_factor=100.0)))
    z_0 = torch.randn(8, 4, 1, 2, 2)
    with torch.no_grad():
        answer = model.autoencoder.decode(z_0, seeds=range(8))
        unclipped = model.autoencoder.estimate(z_0)
        nats = model.autoencoder.loss(pictures, z_0, t=torch.rand(8), eps=torch.zeros(1))
    assert torch.equal(answer, unclipped.clamp(-1, 1))
    expected = 50 * (pictures - unclipped).square().sum((1, 2, 3, 4))
    torch.testing.assert_close(nats, expected)


def test_the_kl_vae_has_the_same_backbone_and_no_network_for_a_prior(tiny):
    whole, vae = Unified(tiny), Unified(kl_vae(tiny, loss_factor=100.0))
    assert shapes(vae.autoencoder.decoder) == shapes(whole.autoencoder.decoder)
    differing = {
        name
        for name, shape in shapes(vae.autoencoder.encoder).items()
        if shape != shapes(whole.autoencoder.encoder)[name]
    }
    assert differing == {"out.weight", "out.bias"}  # mean and variance instead of z alone
    assert not list(vae.prior.parameters())


@pytest.fixture
def latent_base(tiny, network):
    return BaseConfig(latent_shape=tiny.autoencoder.latent_shape, network=network)


def test_the_base_for_pixels_has_the_tokens_of_the_base_for_latents(tiny, latent_base):
    config = pixel_base(latent_base, tiny.autoencoder)
    assert config.latent_shape == (3, 1, 8, 8)
    assert config.schedule_z == Schedule(logsnr_0=10.0, logsnr_1=-10.0, shift=2.0)
    pixels, latents = Base(config), Base(latent_base)
    tokens = []
    for base in (pixels, latents):
        hook = base.network.embed.register_forward_hook(
            lambda layer, inputs, answer: tokens.append(answer.flatten(2).shape)
        )
        base.network(torch.zeros(1, *base.config.latent_shape), torch.zeros(1))
        hook.remove()
    assert tokens[0] == tokens[1] and tokens[0].numel() > 0
    differing = {
        name for name, shape in shapes(pixels).items() if shape != shapes(latents).get(name)
    }
    assert all(name.split(".")[1] in ("embed", "out") for name in differing), differing


def test_the_base_for_pixels_samples_pictures_that_it_has_learnt(tiny, latent_base, pictures):
    torch.manual_seed(0)
    base = Base(pixel_base(latent_base, tiny.autoencoder))
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(base.parameters(), lr=4e-3)
    losses = []
    for _ in range(30):
        loss = base.loss(pictures, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    drawn = base.sample(seeds=[0, 1], sampler=SamplerConfig(num_steps=3))
    assert drawn.x_hat.shape == (2, 3, 1, 8, 8)


def test_pixels_of_merged_frames_are_refused(tiny, latent_base):
    encoder = dataclasses.replace(tiny.autoencoder.encoder, frame_stride=2)
    clips = dataclasses.replace(tiny.autoencoder, frames=2, encoder=encoder)
    with pytest.raises(ValueError, match="set frame_stride to 1"):
        pixel_base(latent_base, clips)
