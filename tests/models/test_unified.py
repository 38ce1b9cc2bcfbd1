from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ulrec.diffusion.loss import stratified_times
from ulrec.models.prior import PriorConfig
from ulrec.models.unified import Unified, UnifiedConfig


@pytest.fixture
def unified(tiny, randomised):
    torch.manual_seed(0)
    return randomised(Unified(tiny))


def draws(z_shape, x_shape, seed):
    """Times and noises in the order in which ``Unified.loss`` takes them."""
    generator, cpu = torch.Generator().manual_seed(seed), torch.device("cpu")
    eps_0 = torch.randn(z_shape, generator=generator)
    t_z = stratified_times(z_shape[0], generator, cpu)
    eps_z = torch.randn(z_shape, generator=generator)
    t_x = stratified_times(x_shape[0], generator, cpu)
    eps_x = torch.randn(x_shape, generator=generator)
    return eps_0, t_z, eps_z, t_x, eps_x


def hand_assembled(unified, x, seed, *, cut_prior=False, cut_decoder=False):
    """L_z and L_x per sample; a cut detaches z_clean in that branch alone."""
    z = unified.autoencoder.encode(x)
    eps_0, t_z, eps_z, t_x, eps_x = draws(z.shape, x.shape, seed)
    prior = unified.prior.loss(z.detach() if cut_prior else z, t=t_z, eps=eps_z)
    z_0 = unified.autoencoder.noise(z.detach() if cut_decoder else z, eps_0)
    return prior, unified.autoencoder.loss(x, z_0, t=t_x, eps=eps_x)


@pytest.mark.parametrize("progress", [0.0, 0.11, 1.0])
def test_loss_is_the_sum_of_both_terms(unified, pictures, progress):
    loss = unified.loss(pictures, generator=torch.Generator().manual_seed(5), progress=progress)
    prior, decoder = hand_assembled(unified, pictures, 5)
    assert torch.equal(loss.prior, prior)
    assert torch.equal(loss.decoder, decoder)
    weight = min(1.0, progress / 0.33)
    expected = (weight * prior + decoder).mean() / 192  # 3 x 1 x 8 x 8 values
    torch.testing.assert_close(loss.total, expected)
    assert not loss.prior.requires_grad
    assert not loss.decoder.requires_grad


def test_the_three_noises_are_independent_draws(unified, pictures):
    eps_0, t_z, eps_z, t_x, _ = draws((8, 4, 1, 2, 2), pictures.shape, 5)
    assert not torch.equal(eps_0, eps_z)
    assert not torch.equal(t_z, t_x)


def test_default_generator_is_the_global_one(unified, pictures):
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(unified.loss(pictures).total)
    assert torch.equal(*losses)
    assert not torch.equal(losses[0], unified.loss(pictures).total)


def gradient(unified, value):
    parameters = list(unified.autoencoder.encoder.parameters())
    parts = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.flatten()
            for p, g in zip(parameters, parts, strict=True)
        ]
    )


def test_gradients_reach_the_encoder_through_prior_and_through_decoder(unified, pictures):
    """METHOD.md 6.4: two paths, each alone, together what the training sees."""
    prior, decoder = hand_assembled(unified, pictures, 2)
    through_prior = gradient(unified, prior.mean() / 192)
    through_decoder = gradient(unified, decoder.mean() / 192)
    assert through_prior.abs().max() > 1e-6
    assert through_decoder.abs().max() > 1e-6
    total = unified.loss(pictures, generator=torch.Generator().manual_seed(2)).total
    torch.testing.assert_close(
        gradient(unified, total), through_prior + through_decoder, rtol=1e-3, atol=1e-5
    )


def test_a_cut_takes_away_exactly_its_path(unified, pictures):
    prior, decoder = hand_assembled(unified, pictures, 2)
    cut_prior, still_decoder = hand_assembled(unified, pictures, 2, cut_prior=True)
    assert torch.equal(cut_prior, prior)
    assert not gradient(unified, cut_prior.sum()).any()
    expected = gradient(unified, decoder.sum())
    torch.testing.assert_close(gradient(unified, (cut_prior + still_decoder).sum()), expected)
    still_prior, cut_decoder = hand_assembled(unified, pictures, 2, cut_decoder=True)
    assert torch.equal(cut_decoder, decoder)
    assert not gradient(unified, cut_decoder.sum()).any()
    expected = gradient(unified, prior.sum())
    torch.testing.assert_close(gradient(unified, (still_prior + cut_decoder).sum()), expected)


def test_prior_weight_ramps_up_to_one(tiny):
    model = Unified(tiny)
    weights = [model.prior_weight(progress) for progress in (0.0, 0.165, 0.33, 0.5, 1.0)]
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0])
    assert Unified(dataclasses.replace(tiny, ramp=0.0)).prior_weight(0.0) == 1.0


@pytest.mark.parametrize("ramp", [-0.1, 0.6])
def test_a_ramp_longer_than_half_is_refused(tiny, ramp):
    with pytest.raises(ValueError, match=r"ramp has to lie in \[0, 0.5\]"):
        dataclasses.replace(tiny, ramp=ramp)


def test_prior_and_latents_have_one_noise(tiny):
    schedule = dataclasses.replace(PriorConfig().schedule_z, logsnr_0=6.0)
    with pytest.raises(ValueError, match=r"logsnr_0 6.0 against logsnr_z0 5.0"):
        UnifiedConfig(autoencoder=tiny.autoencoder, prior=PriorConfig(schedule_z=schedule))


def test_a_patch_that_does_not_divide_the_latents_is_refused(tiny):
    network = dataclasses.replace(tiny.prior.network, patch=4)
    with pytest.raises(ValueError, match=r"latents of 2x2 do not divide by the prior's patch 4"):
        dataclasses.replace(tiny, prior=dataclasses.replace(tiny.prior, network=network))


def test_bits_per_pixel(tiny):
    nats = torch.tensor([64 * math.log(2), 3 * 64 * math.log(2)])  # 1 and 3 bits on 8x8 pixels
    assert Unified(tiny).bits_per_pixel(nats).item() == pytest.approx(2.0)
    clip = dataclasses.replace(tiny.autoencoder, frames=4)
    model = Unified(dataclasses.replace(tiny, autoencoder=clip))
    assert model.bits_per_pixel(nats).item() == pytest.approx(0.5)


def test_clips(tiny, randomised):
    clip = dataclasses.replace(tiny.autoencoder, frames=4)
    model = randomised(Unified(dataclasses.replace(tiny, autoencoder=clip)))
    loss = model.loss(torch.rand(2, 3, 4, 8, 8) * 2 - 1)
    assert loss.prior.shape == loss.decoder.shape == (2,)
    loss.total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_overfits_one_batch(overfitted):
    _, losses = overfitted
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert last < 0.6 * first


def test_an_overfitted_model_shows_the_pictures_again(overfitted, pictures):
    model, _ = overfitted
    with torch.no_grad():
        z = model.autoencoder.encode(pictures)
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    drawn = model.autoencoder.decode(model.autoencoder.noise(z, eps), seeds=range(8))
    distance = torch.cdist(drawn.flatten(1), pictures.flatten(1))
    assert distance.argmin(1).tolist() == list(range(8))
    assert (drawn - pictures).square().mean() < 0.5 * pictures.var()
