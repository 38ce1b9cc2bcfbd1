from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ulrec.diffusion.loss import denoising_loss, diffusion_loss, stratified_times, terminal_kl
from ulrec.diffusion.process import eps_from_x, expand, noised
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting
from ulrec.networks.transformer import LatentTransformer, TransformerConfig

ELBO = Weighting(name="elbo")


def midpoints(num: int) -> torch.Tensor:
    return (torch.arange(num, dtype=torch.float64) + 0.5) / num


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def optimal_denoiser(s: float):
    """E[x | x_t] for x ~ N(0, s^2) per dimension."""

    def denoise(x_t, logsnr, cond):
        alpha_2, sigma_2 = torch.sigmoid(logsnr), torch.sigmoid(-logsnr)
        return expand(alpha_2.sqrt() * s**2 / (alpha_2 * s**2 + sigma_2), x_t) * x_t

    return denoise


def test_denoising_loss_is_the_weighted_error_of_eps():
    x, eps, x_hat = (
        normal(7, 2, 1, 3, 3),
        normal(7, 2, 1, 3, 3, seed=1),
        normal(7, 2, 1, 3, 3, seed=2),
    )
    logsnr = torch.linspace(-6, 6, 7, dtype=torch.float64)
    weighting = Weighting(name="sigmoid", bias=1.0)
    nats = denoising_loss(lambda x_t, logsnr, cond: x_hat, x, logsnr, eps, weighting=weighting)
    eps_hat = eps_from_x(noised(x, logsnr, eps), logsnr, x_hat)
    error = (eps - eps_hat).square().sum((1, 2, 3, 4))
    torch.testing.assert_close(nats, 0.5 * torch.sigmoid(1 - logsnr) * error)


def test_the_condition_reaches_the_denoiser():
    x = normal(2, 3)
    seen = []

    def denoise(x_t, logsnr, cond):
        seen.append(cond)
        return x_t

    t = torch.tensor([0.2, 0.8], dtype=torch.float64)
    schedule = Schedule(logsnr_0=5.0, logsnr_1=-5.0)
    diffusion_loss(denoise, x, t, x, schedule=schedule, weighting=ELBO, cond="a user")
    assert seen == ["a user"]


@pytest.mark.parametrize("logsnr_1", [-10.0, -2.0, 1.0])
def test_terminal_kl_equals_torch_distributions(logsnr_1):
    x = 3 * normal(5, 2, 1, 3, 4)
    level = torch.tensor(logsnr_1, dtype=torch.float64)
    q = Normal(torch.sigmoid(level).sqrt() * x, torch.sigmoid(-level).sqrt())
    expected = kl_divergence(q, Normal(torch.zeros_like(x), torch.ones_like(x))).sum((1, 2, 3, 4))
    torch.testing.assert_close(terminal_kl(x, logsnr_1), expected)
    single = terminal_kl(x.float(), logsnr_1)
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0, 3.0])
def test_bits_of_a_gaussian(schedule_z, s):
    """METHOD.md 6.2: the bound is tight for the optimal denoiser.

    L_z = 1/2 ln(1 + s^2 e^5) + KL(N(0, alpha_1^2 s^2 + sigma_1^2) || N(0, 1)) per dimension.
    """
    num_levels, num_draws = 400, 4000
    z = s * normal(num_levels, num_draws)
    eps = normal(num_levels, num_draws, seed=1)
    nats = diffusion_loss(
        optimal_denoiser(s), z, midpoints(num_levels), eps, schedule=schedule_z, weighting=ELBO
    )
    per_dimension = ((nats + terminal_kl(z, schedule_z.logsnr_1)) / num_draws).mean().item()
    variance = s**2 / (1 + math.exp(10)) + 1 / (1 + math.exp(-10))
    kl = 0.5 * (variance - 1 - math.log(variance))
    assert per_dimension == pytest.approx(0.5 * math.log1p(s**2 * math.exp(5)) + kl, rel=0.01)


def test_a_worse_denoiser_costs_more_bits():
    """It is a bound from above: any other denoiser charges more."""
    z, eps, t = normal(200, 2000), normal(200, 2000, seed=1), midpoints(200)
    schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)

    def nats(s: float) -> float:
        denoise = optimal_denoiser(s)
        return diffusion_loss(denoise, z, t, eps, schedule=schedule, weighting=ELBO).mean().item()

    assert nats(1.0) < nats(0.7)
    assert nats(1.0) < nats(1.4)


WEIGHTINGS = [ELBO, Weighting(name="sigmoid", bias=-1.0), Weighting(name="sigmoid", bias=2.0)]


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda w: f"{w.name}{w.bias:+g}")
def test_shape_and_shift_leave_the_expected_loss(schedule_z, weighting):
    """METHOD.md 6.5, against the integral of 1/2 w exp(l) |x|^2 from -10 to 5 (x_hat = 0)."""
    num = 20_000
    x = torch.full((num, 1), 3.0, dtype=torch.float64)
    nats = diffusion_loss(
        lambda x_t, logsnr, cond: torch.zeros_like(x_t),
        x,
        midpoints(num),
        x,
        schedule=schedule_z,
        weighting=weighting,
    )
    if weighting.name == "elbo":
        integral = math.exp(5) - math.exp(-10)
    else:  # of exp(l) sigmoid(b - l)
        b = weighting.bias
        integral = math.exp(b) * math.log((1 + math.exp(5 - b)) / (1 + math.exp(-10 - b)))
    assert nats.mean().item() == pytest.approx(4.5 * integral, rel=1e-5)


def test_shape_and_shift_leave_the_loss_of_a_network(schedule_z):
    """The same for a network's error, whose form nobody knows, at one noise."""
    torch.manual_seed(0)
    network = LatentTransformer(TransformerConfig(width=16, depth=1, head_width=8), channels=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.double()
    num = 1500
    z, eps = normal(1, 2, 1, 2, 2).expand(num, -1, -1, -1, -1), normal(1, 2, 1, 2, 2, seed=1)

    @torch.no_grad()
    def expected_loss(schedule):
        return diffusion_loss(
            lambda z_t, logsnr, cond: network(z_t, logsnr),
            z,
            midpoints(num),
            eps.expand_as(z),
            schedule=schedule,
            weighting=Weighting(name="sigmoid", bias=1.0),
        ).mean()

    reference = expected_loss(Schedule(logsnr_0=5.0, logsnr_1=-10.0, name="linear"))
    torch.testing.assert_close(expected_loss(schedule_z), reference, rtol=1e-3, atol=0)


def test_stratified_times_are_evenly_spread():
    generator = torch.Generator().manual_seed(3)
    t = stratified_times(64, generator, torch.device("cpu"))
    torch.testing.assert_close(t.sort().values.diff(), torch.full((63,), 1 / 64), atol=1e-6, rtol=0)
    assert 0 <= t.min() < 1 / 64
    assert t.max() <= 1


def test_stratified_times_are_uniform_and_independent_of_the_sample():
    """Kolmogorov-Smirnov per sample, and no correlation between sample and time."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([stratified_times(8, generator, torch.device("cpu")) for _ in range(4000)])
    uniform = torch.arange(1, 4001) / 4000
    distance = (draws.sort(0).values - uniform[:, None]).abs().max()
    assert distance < 1.95 / math.sqrt(4000)  # the 0.1 % point
    positions = torch.arange(8.0).expand(4000, -1)
    correlation = torch.corrcoef(torch.stack([draws.flatten(), positions.flatten()]))[0, 1]
    assert abs(correlation) < 3.3 / math.sqrt(32_000)


def test_stratified_times_have_less_variance_than_independent_ones():
    generator = torch.Generator().manual_seed(0)
    cpu = torch.device("cpu")
    means = torch.stack([stratified_times(16, generator, cpu).mean() for _ in range(500)])
    assert means.std() < 0.5 * (1 / 12 / 16) ** 0.5
