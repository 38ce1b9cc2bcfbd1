"""Sampling towards some conditions and away from others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ulrec.diffusion.loss import Denoiser
from ulrec.diffusion.process import expand
from ulrec.diffusion.sampler import Sampled, SamplerConfig, held_to
from ulrec.models.base import Base
from ulrec.networks.transformer import Cond

__all__ = ["Pull", "pulled", "sample_pulled"]


class Pull(NamedTuple):
    """A condition of B samples and its guidance, (B,): below zero it pushes."""

    cond: Any
    weight: Tensor


def pulled(
    denoise: Denoiser,
    null: Any,
    pulls: Sequence[Pull],
    *,
    until: float = math.inf,
    rescale: float = 0.0,
) -> Denoiser:
    """Return a denoiser that answers null + sum_i w_i (cond_i - null), whatever it is told.

    Above the logsnr ``until`` what pulls stands alone, as in
    :func:`ulrec.diffusion.sampler.guided`: the mean of the conditions with weights above zero,
    weighted by them, and the null where there is none.

    Parameters
    ----------
    denoise
        The denoiser to steer.
    null
        The condition that says nothing.
    pulls
        What to go to and what to keep away from; one network evaluation each, and one for the null.
    until
        The end of guidance.
    rescale
        How far the answer is held to the size of that mean
        (:class:`ulrec.diffusion.sampler.SamplerConfig`).
    """
    total = torch.stack([pull.weight.clamp(min=0) for pull in pulls]).sum(0)
    share = [pull.weight.clamp(min=0) / total.clamp(min=1e-12) for pull in pulls]

    def steered(x_t: Tensor, logsnr: Tensor, cond: Any) -> Tensor:
        ended = logsnr.min() > until
        weights = share if ended else [pull.weight for pull in pulls]
        parts = [(p.cond, w, s) for p, w, s in zip(pulls, weights, share, strict=True) if w.any()]
        if len(parts) == 1 and (parts[0][1] == 1).all():
            return denoise(x_t, logsnr, parts[0][0])
        x_null = denoise(x_t, logsnr, null)
        x_hat = x_mean = x_null
        for part, weight, of_mean in parts:
            pull = denoise(x_t, logsnr, part) - x_null
            x_hat = x_hat + expand(weight, x_t) * pull
            x_mean = x_mean + expand(of_mean, x_t) * pull
        return x_hat if ended else held_to(x_mean, x_hat, rescale=rescale)

    return steered


def sample_pulled(
    base: Base, pulls: Sequence[Pull], *, null: Cond, seeds: Sequence[int], sampler: SamplerConfig
) -> Sampled:
    """Draw latents as :meth:`Base.sample` does, for several conditions at once.

    Parameters
    ----------
    base
        A conditional base.
    pulls
        Conditions of B samples each, with their weights.
    null
        What says nothing, B samples.
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
        If there is no condition, or not one seed for each of its samples.
    """
    if not pulls:
        raise ValueError("sampling takes at least one condition, got none; use Base.sample")
    if len(seeds) != len(pulls[0].weight):
        raise ValueError(
            f"sampling takes one seed for each of {len(pulls[0].weight)} conditions, got "
            f"{len(seeds)}"
        )
    denoise = pulled(
        base.denoise,
        null,
        pulls,
        until=sampler.guidance_until,
        rescale=sampler.guidance_rescale,
    )
    return base.walk(denoise, seeds=seeds, sampler=sampler)
