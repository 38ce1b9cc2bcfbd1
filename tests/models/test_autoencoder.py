from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ulrec.diffusion.process import eps_from_x, noised
from ulrec.diffusion.sampler import SAMPLERS, SamplerConfig
from ulrec.diffusion.schedule import Schedule
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.networks.encoder import EncoderConfig


@pytest.fixture
def autoencoder(tiny, randomised):
    torch.manual_seed(0)
    return randomised(Autoencoder(tiny.autoencoder))


@pytest.mark.parametrize(
    ("changes", "media", "latent"),
    [
        ({}, (3, 1, 8, 8), (4, 1, 2, 2)),
        ({"height": 48, "width": 32}, (3, 1, 48, 32), (4, 1, 12, 8)),
        ({"frames": 4}, (3, 4, 8, 8), (4, 4, 2, 2)),
        ({"media_channels": 1}, (1, 1, 8, 8), (4, 1, 2, 2)),
    ],
)
def test_shapes(tiny, randomised, changes, media, latent):
    config = dataclasses.replace(tiny.autoencoder, **changes)
    assert (config.media_shape, config.latent_shape) == (media, latent)
    model, x = randomised(Autoencoder(config)), torch.rand(2, *media) * 2 - 1
    z = model.encode(x)
    assert z.shape == (2, *latent)
    assert z.dtype == torch.float32
    loss = model.loss(x, z, t=torch.tensor([0.2, 0.7]), eps=torch.randn_like(x))
    assert loss.shape == (2,)
    drawn = model.decode(z, seeds=[0, 1], sampler=SamplerConfig(num_steps=2))
    assert drawn.shape == x.shape


@pytest.mark.parametrize("shape", [(2, 3, 1, 8, 4), (2, 3, 4, 8, 8), (2, 3, 8, 8), (2, 1, 1, 8, 8)])
def test_media_of_another_shape_are_refused(autoencoder, shape):
    with pytest.raises(ValueError, match=r"takes media \(B, \*\(3, 1, 8, 8\)\), got .*prepare"):
        autoencoder.encode(torch.zeros(shape))


def test_latents_get_the_fixed_noise(autoencoder):
    z, eps = torch.randn(3, 4, 1, 2, 2), torch.randn(3, 4, 1, 2, 2)
    alpha_0, sigma_0 = math.sqrt(1 / (1 + math.exp(-5))), math.sqrt(1 / (1 + math.exp(5)))
    torch.testing.assert_close(autoencoder.noise(z, eps), alpha_0 * z + sigma_0 * eps)


def test_loss_is_the_weighted_error_of_eps(autoencoder):
    """Eq. 4 with the sign of Figure 3: c_lf 1/2 (-dl/dt) sigmoid(b - l) |eps - eps_hat|^2."""
    config = autoencoder.config
    x, z_0 = torch.rand(4, 3, 1, 8, 8) * 2 - 1, torch.randn(4, 4, 1, 2, 2)
    t, eps = torch.tensor([0.1, 0.3, 0.6, 0.9]), torch.randn(4, 3, 1, 8, 8)
    logsnr, slope = config.schedule_x.logsnr(t), config.schedule_x.slope(t)
    x_t = noised(x, logsnr, eps)
    eps_hat = eps_from_x(x_t, logsnr, autoencoder.denoise(x_t, logsnr, z_0))
    error = (eps - eps_hat).square().sum((1, 2, 3, 4))
    expected = 15 * 0.5 * slope * torch.sigmoid(0 - logsnr) * error
    loss = autoencoder.loss(x, z_0, t=t, eps=eps)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_decoding_is_deterministic_and_independent_of_the_batch(autoencoder, name):
    z_0, sampler = torch.randn(3, 4, 1, 2, 2), SamplerConfig(name=name, num_steps=3)
    x = autoencoder.decode(z_0, seeds=[3, 1, 2], sampler=sampler)
    assert x.min() >= -1
    assert x.max() <= 1
    assert not x.requires_grad
    torch.manual_seed(123)  # global randomness has no say
    assert torch.equal(autoencoder.decode(z_0, seeds=[3, 1, 2], sampler=sampler), x)
    alone = autoencoder.decode(z_0[1:2], seeds=[1], sampler=sampler)
    torch.testing.assert_close(alone, x[1:2], atol=1e-5, rtol=0)
    other = autoencoder.decode(z_0[1:2], seeds=[4], sampler=sampler)
    assert not torch.allclose(other, alone, atol=1e-3)


def test_a_seed_for_each_latent(autoencoder):
    with pytest.raises(ValueError, match=r"one seed for each of 2 latents, got 3"):
        autoencoder.decode(torch.zeros(2, 4, 1, 2, 2), seeds=[1, 2, 3])


@pytest.mark.parametrize("loss_factor", [1.0, 0.5, math.nan])
def test_a_loss_factor_that_never_pays_is_refused(loss_factor):
    with pytest.raises(ValueError, match="loss_factor has to be above 1"):
        AutoencoderConfig(loss_factor=loss_factor)


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"30x32 do not divide by the encoder's stride 4"):
        AutoencoderConfig(height=30)
    encoder = EncoderConfig(patch=1, channels=(8,))
    with pytest.raises(ValueError, match=r"32x30 do not divide by the decoder's stride 4"):
        AutoencoderConfig(width=30, encoder=encoder)


def test_swapped_ends_are_refused():
    with pytest.raises(ValueError, match="swap them"):
        AutoencoderConfig(schedule_x=Schedule(logsnr_0=-10.0, logsnr_1=10.0))
