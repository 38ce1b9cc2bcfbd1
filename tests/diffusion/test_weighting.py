"""The weight of the decoder's loss, and the two printed defects of the paper (METHOD.md 2)."""

from __future__ import annotations

import math

import pytest
import torch

from ulrec.diffusion.loss import denoising_loss, diffusion_loss
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting

LEVELS = torch.linspace(-15, 15, 301, dtype=torch.float64)
BIASES = [-3.0, 0.0, 2.5]


def test_elbo_is_one_everywhere():
    assert torch.equal(Weighting(name="elbo", bias=3.0)(LEVELS), torch.ones_like(LEVELS))


@pytest.mark.parametrize("bias", BIASES)
def test_sigmoid_is_half_at_the_bias_and_falls(bias):
    weight = Weighting(name="sigmoid", bias=bias)
    assert weight(torch.tensor(bias)).item() == 0.5
    assert (weight(LEVELS).diff() < 0).all()
    torch.testing.assert_close(weight(LEVELS), 1 / (1 + torch.exp(LEVELS - bias)))


@pytest.mark.parametrize("bias", BIASES)
def test_weight_on_the_error_of_x(bias):
    """exp(l) sigmoid(b - l) = exp(b) sigmoid(l - b): the weight that our loss puts on x."""
    on_x = torch.exp(LEVELS) * Weighting(name="sigmoid", bias=bias)(LEVELS)
    torch.testing.assert_close(on_x, math.exp(bias) * torch.sigmoid(LEVELS - bias))
    x = torch.full((len(LEVELS), 1), 2.0, dtype=torch.float64)  # x_hat = 0: |x - x_hat|^2 = 4
    nats = denoising_loss(
        lambda x_t, logsnr, cond: torch.zeros_like(x_t),
        x,
        LEVELS,
        torch.zeros_like(x),
        weighting=Weighting(name="sigmoid", bias=bias),
    )
    torch.testing.assert_close(nats, 0.5 * on_x * 4)


def test_dropping_the_factor_of_the_bias_changes_the_loss_twentyfold():
    logsnr = torch.tensor(1.0, dtype=torch.float64)
    without = torch.sigmoid(logsnr + 3)
    with_it = torch.exp(logsnr) * Weighting(name="sigmoid", bias=-3.0)(logsnr)
    assert (without / with_it).item() == pytest.approx(math.exp(3))
    assert math.exp(3) == pytest.approx(20.09, abs=0.01)


@pytest.mark.parametrize("loss_factor", [1.3, 1.7, 4.0])
@pytest.mark.parametrize("bias", BIASES)
def test_the_printed_weight_contradicts_figure_3(bias, loss_factor):
    """Figure 3: c_lf w falls through 1 at l = b + ln(c_lf - 1), below it the latent is preferred.

    The text's sigmoid(l - b) beside an explicit exp(l)/2 on the error of x is sigmoid(l - b) on the
    error of eps. It rises with l, so it would have the latent carry the finest noise only.
    """
    crossing = bias + math.log(loss_factor - 1)
    at = torch.tensor([crossing - 1e-6, crossing, crossing + 1e-6], dtype=torch.float64)
    ours = loss_factor * Weighting(name="sigmoid", bias=bias)(at)
    assert ours[1].item() == pytest.approx(1.0)
    assert ours[0] > 1 > ours[2]
    printed_on_x = torch.exp(LEVELS) * torch.sigmoid(LEVELS - bias)
    printed_on_eps = printed_on_x / torch.exp(LEVELS)
    assert (printed_on_eps.diff() > 0).all()
    ours_everywhere = Weighting(name="sigmoid", bias=bias)(LEVELS)
    torch.testing.assert_close(printed_on_eps, 1 - ours_everywhere, rtol=1e-9, atol=1e-9)


def test_the_printed_sign_makes_every_loss_negative():
    """Eq. 4 and Algorithm 1 multiply by d logsnr / dt, which is negative: worse would be better."""
    schedule = Schedule(logsnr_0=10.0, logsnr_1=-10.0)
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    logsnr = schedule.logsnr(t)
    (derivative,) = torch.autograd.grad(logsnr.sum(), t)
    x, eps = torch.ones(50, 3, dtype=torch.float64), torch.ones(50, 3, dtype=torch.float64)
    weighting = Weighting(name="sigmoid")

    def losses(error: float) -> tuple[torch.Tensor, torch.Tensor]:
        def denoise(x_t, logsnr, cond):
            return torch.full_like(x_t, 1 + error)

        nats = denoising_loss(denoise, x, logsnr.detach(), eps, weighting=weighting)
        ours = diffusion_loss(denoise, x, t.detach(), eps, schedule=schedule, weighting=weighting)
        return derivative * nats, ours

    printed_bad, ours_bad = losses(2.0)
    printed_good, ours_good = losses(0.1)
    assert (printed_bad < printed_good).all()
    assert (printed_good < 0).all()
    assert (ours_bad > ours_good).all()
    torch.testing.assert_close(ours_bad, -printed_bad)
