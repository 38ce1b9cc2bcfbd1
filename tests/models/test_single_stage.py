"""One stage: the drawn largest logsnr is the sigmoid weight, and the decoder is told of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ulrec.diffusion.loss import diffusion_loss, terminal_kl
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.diffusion.weighting import Weighting, truncated_logistic
from ulrec.models.single_stage import SingleStage, SingleStageConfig, Told
from ulrec.training.tasks import OptimiserConfig, UnifiedTask

LOW, HIGH, BIAS = -10.0, 5.0, -1.5


@pytest.fixture
def model(tiny, randomised):
    torch.manual_seed(0)
    return randomised(SingleStage(SingleStageConfig(unified=tiny, bias_z=BIAS)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def even(num):
    """Uniform draws without their chance: the middles of so many equal pieces of [0, 1]."""
    return (torch.arange(num, dtype=torch.float64) + 0.5) / num


def test_draws_are_of_the_truncated_logistic():
    """Its distribution function, [F(l) - F(low)] / [F(high) - F(low)], gives the uniform back."""
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    draws = truncated_logistic(u, bias=BIAS, low=LOW, high=HIGH)
    below, above = (torch.sigmoid(torch.tensor(end - BIAS).double()) for end in (LOW, HIGH))
    torch.testing.assert_close((torch.sigmoid(draws - BIAS) - below) / (above - below), u)
    ends = draws[[0, -1]].tolist()
    assert ends == pytest.approx([LOW, HIGH]) and draws.max() <= HIGH
    assert truncated_logistic(torch.rand(999), bias=-30.0, low=LOW, high=HIGH).max() <= HIGH


def test_a_level_counts_as_often_as_the_sigmoid_says():
    """P(L > l) = sigmoid(b - l), up to what the ends cut off: 2e-4 above, 1.5e-3 below."""
    draws = truncated_logistic(even(200_000), bias=BIAS, low=LOW, high=HIGH)
    levels = torch.linspace(-9, 4, 14, dtype=torch.float64)
    shares = (draws[:, None] > levels).double().mean(0)
    torch.testing.assert_close(shares, torch.sigmoid(BIAS - levels), atol=2e-3, rtol=0)
    cut = torch.sigmoid(torch.tensor([LOW - BIAS, HIGH - BIAS]).double())
    exact = (cut[1] - torch.sigmoid(levels - BIAS)) / (cut[1] - cut[0])
    torch.testing.assert_close(shares, exact, atol=1e-5, rtol=0)


def test_the_expected_loss_is_the_sigmoid_weighted_one(model):
    """In float64 over 4,000 even draws of the level, at fixed times and noises."""
    model = model.double()
    num = 4000
    z = torch.randn(6, 4, 1, 2, 2, generator=generator(), dtype=torch.float64)
    t, eps = even(6), torch.randn(z.shape, generator=generator(1), dtype=torch.float64)
    schedule = model.config.prior.schedule_z
    with torch.no_grad():
        errors = diffusion_loss(
            model.prior.denoise, z, t, eps, schedule=schedule, weighting=Weighting(name="elbo")
        )
        levels = model.levels(even(num))
        counted = (schedule.logsnr(t) < levels[:, None]).double().mean(0)  # of each sample
        chosen = [model.prior_nats(z, level.expand(6), t=t, eps=eps) for level in levels[::400]]
        sigmoid = diffusion_loss(
            model.prior.denoise,
            z,
            t,
            eps,
            schedule=schedule,
            weighting=Weighting(name="sigmoid", bias=BIAS),
        )
    by_hand = [
        errors * (schedule.logsnr(t) < level) + terminal_kl(z, schedule.logsnr_1)
        for level in levels[::400]
    ]
    torch.testing.assert_close(torch.stack(chosen), torch.stack(by_hand))
    torch.testing.assert_close(errors * counted, sigmoid, rtol=0.02, atol=0.002 * errors.max())


def test_the_decoder_is_told_the_noise_of_its_latent(model, pictures):
    z, logsnr = torch.randn(8, 4, 1, 2, 2), torch.zeros(8)
    with torch.no_grad():
        unsaid = model.autoencoder.denoise(pictures, logsnr, z)
        least = model.autoencoder.denoise(pictures, logsnr, Told(z, torch.full((8,), 5.0)))
        noisier = model.autoencoder.denoise(pictures, logsnr, Told(z, torch.full((8,), -2.0)))
    assert torch.equal(unsaid, least)
    assert not torch.allclose(least, noisier, atol=1e-4)


def test_gradients_reach_every_part_and_a_draw_repeats(model, pictures):
    first = model.loss(pictures, generator=generator(2))
    first.total.backward()
    parts = (model.autoencoder.encoder, model.autoencoder.decoder, model.prior)
    for part in parts:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert torch.equal(model.loss(pictures, generator=generator(2)).total, first.total)
    assert torch.equal(first.total, (first.prior + first.decoder).mean() / 192)


def test_it_trains_as_stage_1_does_and_samples(model, pictures):
    settings = {"optimiser": OptimiserConfig(), "num_steps": 4, "seed": 0}
    assert UnifiedTask(model, **settings).model.bits_per_pixel(torch.ones(2)) > 0
    few = SamplerConfig(num_steps=2)
    drawn = model.sample(seeds=[3, 4], sampler=few, decoder=few)
    assert drawn.shape == (2, 3, 1, 8, 8)
    torch.testing.assert_close(model.sample(seeds=[4], sampler=few, decoder=few), drawn[1:])
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)


def test_what_does_not_go_with_a_drawn_noise_is_refused(tiny):
    learned = dataclasses.replace(tiny.autoencoder.encoder, variance="learned")
    for part, message in (
        ({"prior": dataclasses.replace(tiny.prior, name="normal")}, "set prior.name to diffusion"),
        (
            {"autoencoder": dataclasses.replace(tiny.autoencoder, decoding="mse")},
            "set decoding to diffusion",
        ),
        (
            {"autoencoder": dataclasses.replace(tiny.autoencoder, encoder=learned)},
            "set encoder.variance to fixed",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            SingleStageConfig(unified=dataclasses.replace(tiny, **part))
