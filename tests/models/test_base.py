from __future__ import annotations

import dataclasses

import pytest
import torch

from ulrec.diffusion.process import noised
from ulrec.diffusion.sampler import SAMPLERS, SamplerConfig
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting
from ulrec.models.base import Base, BaseConfig, add_condition
from ulrec.networks.transformer import Cond, TransformerConfig

SHAPE = (4, 1, 3, 2)


@pytest.fixture
def config(network):
    return BaseConfig(latent_shape=SHAPE, network=network)


@pytest.fixture
def base(config, randomised):
    torch.manual_seed(0)
    return randomised(Base(config))


@pytest.fixture
def conditioned(base, randomised):
    return randomised(add_condition(base, cond_width=6))


def condition(num, *, seed=0):
    tokens = torch.randn(num, 2, 6, generator=torch.Generator().manual_seed(seed))
    return Cond(tokens, torch.ones(num, 2, dtype=torch.bool))


def test_loss_is_the_mean_of_the_nats(base):
    z = torch.randn(6, *SHAPE)
    loss = base.loss(z, generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    offset, order = torch.rand((), generator=generator), torch.randperm(6, generator=generator)
    eps = torch.randn(z.shape, generator=generator)
    nats = base.nats(z, t=(order + offset) / 6, eps=eps)
    assert nats.shape == (6,)
    torch.testing.assert_close(loss, nats.mean() / 24)


def test_another_weighting_scores_in_true_nats(base):
    """The likelihood of an item for a user needs the plain bound, whatever the training used."""
    z, eps, t = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE), torch.tensor([0.1, 0.5, 0.8])
    weighted = base.nats(z, t=t, eps=eps)
    plain = base.nats(z, t=t, eps=eps, weighting=Weighting(name="elbo"))
    logsnr = base.config.schedule_z.logsnr(t)
    bias = base.config.weighting.bias
    torch.testing.assert_close(weighted, plain * torch.sigmoid(bias - logsnr))


def test_noise_is_added_once(base):
    """z_t is drawn from z_clean, not from the already noisy z_0."""
    z, eps, t = torch.randn(2, *SHAPE), torch.randn(2, *SHAPE), torch.tensor([0.0, 0.4])
    seen = []
    base.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    base.nats(z, t=t, eps=eps)
    assert torch.equal(seen[0], noised(z, base.config.schedule_z.logsnr(t), eps))


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling(conditioned, name):
    sampler, cond = SamplerConfig(name=name, num_steps=3), condition(3)
    drawn = conditioned.sample(cond, seeds=[5, 6, 7], sampler=sampler)
    assert drawn.x_0.shape == drawn.x_hat.shape == (3, *SHAPE)
    z_hat = conditioned.denoise(drawn.x_0, torch.full((3,), 5.0), cond)
    assert torch.equal(drawn.x_hat, z_hat)  # the estimate of z_clean is made from z_0 itself
    alone = conditioned.sample(Cond(cond.tokens[1:2], cond.mask[1:2]), seeds=[6], sampler=sampler)
    torch.testing.assert_close(alone.x_0, drawn.x_0[1:2], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.x_hat, drawn.x_hat[1:2], atol=1e-5, rtol=0)


def test_guidance(conditioned):
    cond, null, seeds = condition(2), condition(2, seed=9), [1, 2]

    def draw(cond, **options):
        sampler = SamplerConfig(num_steps=3)
        return conditioned.sample(cond, seeds=seeds, sampler=sampler, **options).x_0

    plain = draw(cond)
    assert torch.equal(draw(cond, null=null, guidance=1.0), plain)
    assert torch.equal(draw(cond, null=null, guidance=0.0), draw(null))
    torch.testing.assert_close(draw(cond, null=cond, guidance=2.0), plain, atol=1e-5, rtol=0)
    strong = draw(cond, null=null, guidance=2.0)
    assert not torch.allclose(strong, plain, atol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_guidance_needs_a_null(conditioned, guidance):
    with pytest.raises(ValueError, match=r"needs the null condition; pass null="):
        conditioned.sample(condition(1), seeds=[0], guidance=guidance)


def test_a_seed_for_each_condition(conditioned):
    with pytest.raises(ValueError, match=r"one seed for each of 2 conditions, got 3"):
        conditioned.sample(condition(2), seeds=[0, 1, 2])


def test_added_condition_changes_nothing_before_its_training(base):
    """Bit-equal, whatever the condition says, in value and in what is drawn."""
    conditioned = add_condition(base, cond_width=6).eval()
    assert conditioned.config.network.cond_width == 6
    assert base.config.network.cond_width is None
    z, logsnr = torch.randn(3, *SHAPE), torch.tensor([-8.0, 0.0, 4.0])
    cond = Cond(100 * condition(3).tokens, condition(3).mask)
    assert torch.equal(conditioned.denoise(z, logsnr, cond), base.denoise(z, logsnr))
    assert torch.equal(conditioned.denoise(z, logsnr), base.denoise(z, logsnr))
    drawn = [
        model.sample(given, seeds=[0, 1, 2], sampler=SamplerConfig(num_steps=3)).x_0
        for model, given in ((conditioned, cond), (base, None))
    ]
    assert torch.equal(*drawn)


def test_users_may_be_learnt_under_another_weighting(base):
    kept = add_condition(base, cond_width=6)
    assert kept.config.weighting == base.config.weighting
    lower = Weighting(name="sigmoid", bias=base.config.weighting.bias - 3)
    other = add_condition(base, cond_width=6, weighting=lower)
    z, t = torch.randn(4, *SHAPE), torch.full((4,), 0.5)
    eps = torch.randn(z.shape)
    ratio = other.nats(z, t=t, eps=eps) / kept.nats(z, t=t, eps=eps)
    logsnr = base.config.schedule_z.logsnr(t)
    torch.testing.assert_close(ratio, lower(logsnr) / base.config.weighting(logsnr))


def test_added_condition_is_a_copy(base):
    before = base.network.out.weight.clone()
    conditioned = add_condition(base, cond_width=6)
    torch.nn.init.ones_(conditioned.network.out.weight)
    assert torch.equal(base.network.out.weight, before)


def test_a_conditioned_base_gets_no_second_condition(conditioned):
    with pytest.raises(ValueError, match="already takes a condition"):
        add_condition(conditioned, cond_width=6)


def test_added_condition_learns(base):
    """Two latents, told apart by the condition alone: it comes to decide which is drawn."""
    torch.manual_seed(0)
    model = add_condition(base, cond_width=6)
    z = torch.stack([torch.full(SHAPE, 1.0), torch.full(SHAPE, -1.0)])
    cond = condition(2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(16) % 2
    losses = []
    for _ in range(60):
        batch = Cond(cond.tokens[rows], cond.mask[rows])
        loss = model.loss(z[rows], batch, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    model.eval()
    both = Cond(cond.tokens[[0, 0, 1, 1]], cond.mask[[0, 0, 1, 1]])
    drawn = model.sample(both, seeds=[0, 1, 0, 1]).x_hat.mean((1, 2, 3, 4))
    assert (drawn[:2] > 0.5).all()
    assert (drawn[2:] < -0.5).all()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_a_patch_that_does_not_divide_the_latents_is_refused(network):
    patched = dataclasses.replace(network, patch=2)
    assert BaseConfig(latent_shape=(4, 1, 4, 2), network=patched).network.patch == 2
    with pytest.raises(ValueError, match=r"latents of 3x2 do not divide by the network's patch 2"):
        BaseConfig(latent_shape=SHAPE, network=patched)


@pytest.mark.parametrize("shape", [(4, 1, 12, 8), (4, 4, 2, 2)])
def test_other_grids(shape, randomised):
    network = TransformerConfig(width=16, depth=1, head_width=8)
    schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
    config = BaseConfig(latent_shape=shape, network=network, schedule_z=schedule)
    drawn = randomised(Base(config)).sample(seeds=[0], sampler=SamplerConfig(num_steps=2))
    assert drawn.x_0.shape == (1, *shape)


def test_a_shift_is_exact_for_gaussian_latents(config):
    """A fresh base is the exact denoiser of N(0, 1); with shift mu, that of N(mu, 1)."""
    torch.manual_seed(0)
    base = add_condition(Base(config), cond_width=6).double()
    mu = torch.randn(3, *SHAPE, dtype=torch.float64)
    cond = Cond(condition(3).tokens.double(), condition(3).mask, mu)
    z_t = torch.randn(3, *SHAPE, dtype=torch.float64)
    logsnr = torch.tensor([-6.0, 0.0, 4.0], dtype=torch.float64)
    alpha2 = torch.sigmoid(logsnr)[:, None, None, None, None]
    exact = mu + alpha2.sqrt() * (z_t - alpha2.sqrt() * mu)
    torch.testing.assert_close(base.denoise(z_t, logsnr, cond).double(), exact, atol=1e-6, rtol=0)


def test_what_is_drawn_lies_where_the_shift_says(config):
    base = add_condition(Base(config), cond_width=6)
    mu = torch.tensor([2.0, -1.0]).repeat_interleave(256)[:, None, None, None, None]
    cond = Cond(condition(512).tokens, condition(512).mask, mu.expand(-1, *SHAPE))
    sampler = SamplerConfig(num_steps=50)
    for guidance in (1.0, 2.0):  # guidance moves on along the shift
        null = Cond(cond.tokens, cond.mask)
        drawn = base.sample(
            cond, seeds=range(512), null=null, guidance=guidance, sampler=sampler
        ).x_0
        means = drawn.unflatten(0, (2, 256)).mean(dim=(1, 2, 3, 4, 5))
        torch.testing.assert_close(means, guidance * torch.tensor([2.0, -1.0]), atol=0.1, rtol=0.05)
        assert 0.9 < drawn[:256].std() < 1.1
