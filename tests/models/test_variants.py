"""The variants of the paper's tables: each is the variant that it says."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ulrec.checkpoint import load_component
from ulrec.diffusion.loss import diffusion_loss, terminal_kl, variance_nats
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting
from ulrec.models.base import Base, BaseConfig
from ulrec.models.components import load_weights, save_model
from ulrec.models.prior import Prior, PriorConfig
from ulrec.models.unified import Unified


def variant(config, *, prior=None, autoencoder=None, **changes):
    """Return the configuration with fields of prior, autoencoder and stage 1 changed."""
    return dataclasses.replace(
        config,
        prior=dataclasses.replace(config.prior, **(prior or {})),
        autoencoder=dataclasses.replace(config.autoencoder, **(autoencoder or {})),
        **changes,
    )


def built(config, randomised):
    torch.manual_seed(0)
    return randomised(Unified(config))


def loss_of(model, x):
    return model.loss(x, generator=torch.Generator().manual_seed(2))


def encoder_gradient(model, value):
    parameters = list(model.autoencoder.encoder.parameters())
    parts = torch.autograd.grad(value, parameters, retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


def test_a_detached_prior_input_cuts_exactly_the_prior_s_gradient(tiny, pictures, randomised):
    """Ablation A: the same losses, the decoder's gradient alone reaches the encoder."""
    whole = built(tiny, randomised)
    cut = built(variant(tiny, prior_input="detached"), randomised)
    losses = loss_of(whole, pictures), loss_of(cut, pictures)
    assert torch.equal(losses[0].total, losses[1].total)
    decoder_only = whole.loss(pictures, generator=torch.Generator().manual_seed(2), progress=0.0)
    expected = encoder_gradient(whole, decoder_only.total)
    torch.testing.assert_close(encoder_gradient(cut, losses[1].total), expected)
    assert not torch.allclose(encoder_gradient(whole, losses[0].total), expected)
    losses[1].total.backward()
    assert all(p.grad.abs().sum() > 0 for p in cut.prior.parameters())


def normal_prior(logsnr_0: float = 5.0) -> Prior:
    schedule = Schedule(logsnr_0=logsnr_0, logsnr_1=-10.0)
    return Prior(PriorConfig(name="normal", schedule_z=schedule), channels=4)


@pytest.mark.parametrize("logsnr_0", [5.0, 10.0])
def test_the_normal_prior_charges_the_kl_of_z_0(logsnr_0):
    z = 2 * torch.randn(3, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    level = torch.tensor(logsnr_0)
    q = Normal(torch.sigmoid(level).sqrt() * z, torch.sigmoid(-level).sqrt())
    expected = kl_divergence(q, Normal(torch.zeros_like(z), 1.0)).sum((1, 2, 3, 4))
    prior = normal_prior(logsnr_0)
    torch.testing.assert_close(prior.loss(z, t=torch.rand(3), eps=torch.randn_like(z)), expected)
    assert not list(prior.parameters())


def test_the_normal_prior_is_a_diffusion_that_has_learnt_the_normal(tiny):
    """Its z_hat = alpha z_t in the diffusion's own bound gives the same nats, whatever z is."""
    prior, num = normal_prior(), 4000
    generator = torch.Generator().manual_seed(0)
    z = torch.tensor([0.3, -2.0, 1.1]).expand(num, -1)[:, :, None, None, None]
    t = (torch.arange(num) + 0.5) / num
    nats = diffusion_loss(
        prior.denoise,
        z,
        t,
        torch.randn(z.shape, generator=generator),
        schedule=prior.config.schedule_z,
        weighting=Weighting(name="elbo"),
    )
    total = (nats + terminal_kl(z, -10.0)).mean()
    assert total.item() == pytest.approx(terminal_kl(z[:1], 5.0).item(), rel=0.02)


def test_the_normal_prior_trains_samples_and_comes_back(tiny, pictures, randomised, tmp_path):
    model = built(variant(tiny, prior={"name": "normal"}), randomised)
    loss = loss_of(model, pictures)
    loss.total.backward()
    assert torch.equal(loss.prior, terminal_kl(model.autoencoder.encode(pictures), 5.0))
    drawn = model.prior.sample((4, 1, 32, 32), seeds=[0, 1]).x_0
    assert drawn.std().item() == pytest.approx(1, abs=0.05)
    save_model(model.prior, tmp_path / "prior", kind="prior", config=model.prior.config)
    load_weights(normal_prior(), load_component(tmp_path / "prior", kind="prior"))


@pytest.fixture
def mse(tiny, randomised):
    return built(variant(tiny, autoencoder={"decoding": "mse"}), randomised)


def test_the_mse_decoder_answers_with_one_picture(mse):
    z_0 = torch.randn(3, 4, 1, 2, 2)
    x = mse.autoencoder.decode(z_0, seeds=[0, 1, 2])
    assert torch.equal(x, mse.autoencoder.decode(z_0, seeds=[7, 8, 9]))
    assert x.shape == (3, 3, 1, 8, 8)
    assert x.abs().max() <= 1
    assert not torch.allclose(x[0], x[1], atol=1e-3)


def test_the_loss_of_the_mse_decoder_is_the_squared_error(mse, pictures):
    """c_lf 1/2 |x - x_hat|^2: no time, no noise."""
    z_0 = torch.randn(8, 4, 1, 2, 2)
    expected = 15 * 0.5 * (pictures - mse.autoencoder.estimate(z_0)).square().sum((1, 2, 3, 4))
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        t, eps = torch.rand(8, generator=generator), torch.randn(pictures.shape)
        torch.testing.assert_close(mse.autoencoder.loss(pictures, z_0, t=t, eps=eps), expected)


def test_the_mse_decoder_learns(tiny, pictures):
    torch.manual_seed(0)
    model = Unified(variant(tiny, autoencoder={"decoding": "mse"}))
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    errors = []
    for _ in range(40):
        loss = model.loss(pictures, generator=generator, progress=0.0)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        errors.append(loss.decoder.mean().item())
    assert errors[-1] < 0.3 * errors[0]


@pytest.fixture
def learned(tiny):
    encoder = dataclasses.replace(tiny.autoencoder.encoder, variance="learned")
    return variant(tiny, autoencoder={"encoder": encoder})


def test_a_learned_variance_is_paid_by_its_own_kl():
    """Eq. 5: with the normal prior L_z less the term is KL(N(alpha m, alpha^2 s^2 + sigma^2) || N).

    E of terminal_kl over z ~ N(m, s^2) is that at m, and alpha^2 s^2 / 2 a dimension.
    """
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 4, 1, 2, 2, generator=generator, dtype=torch.float64)
    variance = torch.rand(mean.shape, generator=generator, dtype=torch.float64) * 2
    alpha_2, sigma_2 = torch.sigmoid(torch.tensor([5.0, -5.0], dtype=torch.float64))
    charged = terminal_kl(mean, 5.0) + 0.5 * alpha_2 * variance.sum((1, 2, 3, 4))
    q = Normal(alpha_2.sqrt() * mean, (alpha_2 * variance + sigma_2).sqrt())
    expected = kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)).sum((1, 2, 3, 4))
    torch.testing.assert_close(charged - variance_nats(variance, 5.0), expected)
    one_nat = torch.full((1, 3), (math.exp(2) - 1) / math.exp(5))
    assert variance_nats(one_nat, 5.0).item() == pytest.approx(3.0)


def test_a_learned_variance_is_drawn_charged_and_learnt(learned, pictures, randomised):
    """Ablation D."""
    model = built(learned, randomised)
    mean, variance = model.autoencoder.posterior(pictures)
    assert torch.equal(model.autoencoder.encode(pictures), mean)
    assert mean.shape == variance.shape == (8, 4, 1, 2, 2)
    assert (variance > 0).all()
    seen = []
    whole = model.prior.loss
    model.prior.loss = lambda z, **draws: seen.append((z, whole(z, **draws))) or seen[-1][1]
    loss = loss_of(model, pictures)
    z_clean, charged = seen[0]
    eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(z_clean, mean + variance.sqrt() * eps)
    torch.testing.assert_close(loss.prior, charged - variance_nats(variance, 5.0))
    loss.total.backward()
    of_variance = model.autoencoder.encoder.out.weight.grad[4:]
    assert of_variance.abs().max() > 0


def test_two_ablations_that_leave_the_variance_free_are_refused(learned):
    with pytest.raises(ValueError, match="choose one of the two"):
        dataclasses.replace(learned, prior_input="detached")


def test_latents_of_logsnr_10_have_their_noise(tiny, pictures, randomised):
    """Ablation B: less noise in z_0 for the decoder, and more levels that the prior charges for."""
    schedule = Schedule(logsnr_0=10.0, logsnr_1=-10.0)
    config = variant(tiny, prior={"schedule_z": schedule}, autoencoder={"logsnr_z0": 10.0})
    model, usual = built(config, randomised), built(tiny, randomised)
    z, eps = torch.zeros(2, 4, 1, 2, 2), torch.ones(2, 4, 1, 2, 2)
    noise = math.sqrt(1 / (1 + math.exp(10)))
    torch.testing.assert_close(model.autoencoder.noise(z, eps), noise * eps)
    assert loss_of(model, pictures).prior.sum() > 2 * loss_of(usual, pictures).prior.sum()
    drawn = model.prior.sample((4, 1, 2, 2), seeds=[0]).x_0
    assert drawn.isfinite().all()


def test_pictures_from_the_stage_1_prior(overfitted):
    """What the prior draws is what the decoder takes: no base in between."""
    model, _ = overfitted
    drawn = model.prior.sample(model.config.autoencoder.latent_shape, seeds=range(4))
    x = model.autoencoder.decode(drawn.x_0, seeds=range(4))
    assert x.shape == (4, 3, 1, 8, 8)
    assert x.std() > 0.2


@pytest.mark.parametrize("shape", [(1, 4, 1, 4, 4), (1, 8, 1, 2, 2), (1, 4, 2, 2)])
def test_a_latent_of_another_grid_is_refused(tiny, shape, network):
    model = Unified(tiny)
    with pytest.raises(ValueError, match=r"decodes latents \(B, \*\(4, 1, 2, 2\)\), got"):
        model.autoencoder.decode(torch.zeros(shape), seeds=[0])
    base = Base(BaseConfig(latent_shape=(4, 1, 2, 2), network=network))
    with pytest.raises(ValueError, match=r"this base is for latents \(B, \*\(4, 1, 2, 2\)\), got"):
        base.loss(torch.zeros(shape))
