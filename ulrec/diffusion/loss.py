"""The one loss of ulrec: nats per sample, summed over dimensions, never averaged over them.

The same call trains a network, reports bits, and scores an item for a user.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ulrec.diffusion.draws import rows
from ulrec.diffusion.process import noised
from ulrec.diffusion.schedule import Schedule

__all__ = [
    "Denoiser",
    "denoising_loss",
    "diffusion_loss",
    "standard_noise",
    "stratified_times",
    "terminal_kl",
    "variance_nats",
]

Denoiser = Callable[[Tensor, Tensor, Any], Tensor]
"""denoise(x_t, logsnr, cond) -> x_hat, with x_t (B, ...), logsnr (B,), cond whatever it knows."""

Weight = Callable[[Tensor], Tensor]
"""w(logsnr), of each level (B,); a :class:`ulrec.diffusion.weighting.Weighting` is one."""


def denoising_loss(
    denoise: Denoiser,
    x: Tensor,
    logsnr: Tensor,
    eps: Tensor,
    *,
    weighting: Weight,
    cond: Any = None,
) -> Tensor:
    """Return 1/2 w(logsnr) |eps - eps_hat|^2: nats per unit of logsnr at one noise level a sample.

    Computed as 1/2 w exp(logsnr) |x - x_hat|^2, which is equal for the variance-preserving process
    (METHOD.md section 1).

    Parameters
    ----------
    denoise
        Gives x_hat for (x_t, logsnr, cond).
    x
        Clean media or latents (B, ...).
    logsnr
        Noise levels (B,).
    eps
        Standard normal noise, the shape of x.
    weighting
        w, on the eps error.
    cond
        Passed to ``denoise``.

    Returns
    -------
    Tensor
        (B,), float32 or better.
    """
    x_hat = denoise(noised(x, logsnr, eps), logsnr, cond)
    error = (x - x_hat).square().flatten(1).sum(1)
    return 0.5 * weighting(logsnr) * torch.exp(logsnr) * error


def diffusion_loss(
    denoise: Denoiser,
    x: Tensor,
    t: Tensor,
    eps: Tensor,
    *,
    schedule: Schedule,
    weighting: Weight,
    cond: Any = None,
) -> Tensor:
    """Return an unbiased estimate of the weighted diffusion loss, nats per sample (B,).

    E_t[1/2 (-d logsnr/dt) w(logsnr) |eps - eps_hat|^2] for t uniform in [0, 1]: Eq. 3's first term
    with the "elbo" weighting, Eq. 4 (with the sign it drops) with "sigmoid".
    """
    nats = denoising_loss(denoise, x, schedule.logsnr(t), eps, weighting=weighting, cond=cond)
    return schedule.slope(t) * nats


def terminal_kl(x: Tensor, logsnr_1: float) -> Tensor:
    """Return KL[q(x_1 | x) || N(0, I)] in nats per sample (B,): Eq. 3's second term.

    1/2 sum(alpha_1^2 x^2 + sigma_1^2 - 1 - ln sigma_1^2).
    """
    level = torch.tensor(logsnr_1, dtype=torch.float64)
    variance = torch.sigmoid(-level)
    constant = variance - 1 - torch.nn.functional.logsigmoid(-level)
    squares = (1 - variance).to(x) * x.square()
    return 0.5 * (squares + constant.to(x)).flatten(1).sum(1)


def variance_nats(variance: Tensor, logsnr_0: float) -> Tensor:
    """Return 1/2 sum ln(sigma_z^2 exp(logsnr_0) + 1) in nats per sample (B,): Eq. 5, less its sign.

    What a latent of variance sigma_z^2 does not have to be paid for: the entropy of z_0 grows from
    that of its fixed noise, sigma_0^2, to that of alpha_0^2 sigma_z^2 + sigma_0^2.
    """
    return 0.5 * torch.log1p(variance * math.exp(logsnr_0)).flatten(1).sum(1)


def stratified_times(num: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return times (num,), each uniform in [0, 1], evenly spread over the batch.

    One uniform offset is shared by the batch, so the mean over the batch has less variance than
    with independent draws; the order is random, so time is independent of the sample.
    """

    def draw(num: int) -> Tensor:
        offset = torch.rand((), generator=generator, device=generator.device)
        order = torch.randperm(num, generator=generator, device=generator.device)
        return (order + offset) / num

    return rows(num, generator, draw).to(device)


def standard_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal noise of the shape of x (B, ...), drawn where the generator is."""
    device = generator.device

    def draw(num: int) -> Tensor:
        return torch.randn((num, *x.shape[1:]), generator=generator, device=device)

    return rows(len(x), generator, draw).to(x.device)
