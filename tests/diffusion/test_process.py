from __future__ import annotations

import pytest
import torch

from ulrec.diffusion.process import (
    alpha,
    angle,
    eps_from_x,
    noised,
    sigma,
    v_from_x,
    x_around,
    x_from_v,
)


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(0)
    logsnr = torch.linspace(-10, 10, 21, dtype=torch.float64)
    shape = (21, 3, 1, 4, 2)
    x, x_hat, eps = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return x, x_hat, eps, logsnr


def test_variance_preserving():
    logsnr = torch.linspace(-12, 12, 49, dtype=torch.float64)
    torch.testing.assert_close(alpha(logsnr) ** 2 + sigma(logsnr) ** 2, torch.ones_like(logsnr))
    torch.testing.assert_close(torch.log(alpha(logsnr) ** 2 / sigma(logsnr) ** 2), logsnr)


def test_the_angle_of_a_level():
    logsnr = torch.linspace(-12, 12, 49, dtype=torch.float64)
    torch.testing.assert_close(torch.cos(angle(logsnr)), alpha(logsnr))
    torch.testing.assert_close(torch.sin(angle(logsnr)), sigma(logsnr))


def test_latent_noise_of_the_paper():
    level = torch.tensor(5.0, dtype=torch.float64)
    assert alpha(level).item() == pytest.approx(0.99665, abs=5e-6)
    assert sigma(level).item() == pytest.approx(0.08181, abs=5e-6)


def test_round_trips(draws):
    x, _, eps, logsnr = draws
    x_t = noised(x, logsnr, eps)
    torch.testing.assert_close(eps_from_x(x_t, logsnr, x), eps)
    v = v_from_x(x_t, logsnr, x)
    scale = alpha(logsnr)[:, None, None, None, None], sigma(logsnr)[:, None, None, None, None]
    torch.testing.assert_close(v, scale[0] * eps - scale[1] * x)
    torch.testing.assert_close(x_from_v(x_t, logsnr, v), x)


def test_three_forms_of_the_error_agree(draws):
    """METHOD.md 6.1: |eps - eps_hat|^2 = exp(logsnr) |x - x_hat|^2 = alpha^2 |v - v_hat|^2."""
    x, x_hat, eps, logsnr = draws
    x_t = noised(x, logsnr, eps)
    error_eps = (eps - eps_from_x(x_t, logsnr, x_hat)).square().flatten(1).sum(1)
    error_x = (x - x_hat).square().flatten(1).sum(1)
    v, v_hat = v_from_x(x_t, logsnr, x), v_from_x(x_t, logsnr, x_hat)
    error_v = (v - v_hat).square().flatten(1).sum(1)
    torch.testing.assert_close(torch.exp(logsnr) * error_x, error_eps)
    torch.testing.assert_close(alpha(logsnr) ** 2 * error_v, error_eps)


def test_around_nothing_known_is_x_from_v(draws):
    x_t, v, _, logsnr = draws
    zero, one = torch.zeros_like(x_t), torch.ones_like(x_t)
    found = x_around(x_t, logsnr, v, mean=zero, std=one)
    torch.testing.assert_close(found, x_from_v(x_t, logsnr, v))


def test_around_a_gaussian_is_its_posterior(draws):
    """Products of Gaussians: precisions add, means are weighted by them; v counts in deviations."""
    x_t, mean, v, logsnr = draws
    std = 0.05 + mean.flip(0).abs()
    level = logsnr.reshape(-1, 1, 1, 1, 1)
    own, seen = 1 / std**2, torch.exp(level)  # precisions of x: alone, and from x_t
    posterior = (own * mean + seen * x_t / alpha(level)) / (own + seen)
    zero = torch.zeros_like(v)
    torch.testing.assert_close(x_around(x_t, logsnr, zero, mean=mean, std=std), posterior)
    moved = posterior - v / (own + seen).sqrt()
    torch.testing.assert_close(x_around(x_t, logsnr, v, mean=mean, std=std), moved)
