"""Sampling towards one condition and away from another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ulrec.diffusion.loss import Denoiser
from ulrec.diffusion.sampler import NoiseSource, Sampled, SamplerConfig, sample
from ulrec.models.base import Base
from ulrec.networks.transformer import Cond

__all__ = ["sample_away", "towards_and_away"]


def towards_and_away(
    denoise: Denoiser,
    null: Any,
    away: Any,
    *,
    scale: float,
    weight: float,
    until: float = math.inf,
) -> Denoiser:
    """Return a denoiser that answers null + scale ((cond - null) - weight (away - null)).

    A scale of 0 ignores both conditions, a weight of 0 is classifier-free guidance. With a
    weight of 1 it is null + scale (cond - away): the two are equals.

    Parameters
    ----------
    denoise
        The denoiser to steer.
    null, away
        The condition that says nothing, and the one to keep away from.
    scale, weight
        As in the formula.
    until
        The logsnr above which the condition stands alone, as in
        :func:`ulrec.diffusion.sampler.guided`.
    """

    def steered(x_t: Tensor, logsnr: Tensor, cond: Any) -> Tensor:
        if scale == 0:
            return denoise(x_t, logsnr, null)
        x_cond = denoise(x_t, logsnr, cond)
        if logsnr.min() > until:
            return x_cond
        x_null = denoise(x_t, logsnr, null)
        x_away = denoise(x_t, logsnr, away)
        return x_null + scale * ((x_cond - x_null) - weight * (x_away - x_null))

    return steered


@torch.no_grad()
def sample_away(
    base: Base,
    cond: Cond,
    *,
    null: Cond,
    away: Cond,
    guidance: float,
    weight: float,
    seeds: Sequence[int],
    sampler: SamplerConfig,
) -> Sampled:
    """Draw latents as :meth:`Base.sample` does, away from a second condition.

    Parameters
    ----------
    base
        A conditional base.
    cond, null, away
        What to go to, what says nothing, what to keep away from; B samples each.
    guidance, weight
        ``scale`` and ``weight`` of :func:`towards_and_away`.
    seeds
        One a sample.
    sampler
        Method and steps.

    Returns
    -------
    Sampled
        ``x_0`` and ``x_hat``, each (B, D, f, h, w).

    Raises
    ------
    ValueError
        If there is not one seed for each condition.
    """
    if len(seeds) != len(cond.tokens):
        raise ValueError(
            f"sampling takes one seed for each of {len(cond.tokens)} conditions, got {len(seeds)}"
        )
    until = sampler.guidance_until
    denoise = towards_and_away(base.denoise, null, away, scale=guidance, weight=weight, until=until)
    noise = NoiseSource(seeds, base.config.latent_shape, device=base.network.embed.weight.device)
    schedule = base.config.schedule_z
    z_0 = sample(denoise, noise, schedule=schedule, config=sampler, cond=cond).x_0
    z_hat = denoise(z_0, z_0.new_full((len(z_0),), schedule.logsnr_0), cond)
    return Sampled(z_0, z_hat)
