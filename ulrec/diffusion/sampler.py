"""Samplers: pure functions over one ``denoise(x_t, logsnr, cond) -> x_hat``.

They walk an even grid of times from t = 1 down to t = 0 and stop *at* logsnr(0): what they return
is noisy to that degree (the decoder is given noisy latents, METHOD.md section 3), beside the last
estimate of the clean sample. Every sample has its own seed, so results do not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from ulrec.diffusion.loss import Denoiser
from ulrec.diffusion.process import alpha, eps_from_x, expand, sigma
from ulrec.diffusion.schedule import Schedule

__all__ = ["SAMPLERS", "NoiseSource", "Sampled", "SamplerConfig", "guided", "sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """How to sample.

    Attributes
    ----------
    name
        The method, a key of ``SAMPLERS``.
    num_steps
        Its number of network evaluations (twice as many where guidance is at work).
    guidance_until
        The logsnr up to which guidance is at work. Above it the condition stands alone: what is
        drawn is settled there, and more guidance only saturates it (Kynkaanniemi et al. 2024,
        arXiv 2404.07724). By default there is no such end.
    """

    name: Literal["ddim", "ancestral"] = "ddim"
    num_steps: int = 25
    guidance_until: float = math.inf

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps has to be at least 1, got {self.num_steps}")


@dataclass(frozen=True, slots=True)
class Sampled:
    """``x_0``: the state at logsnr(0), (B, ...). ``x_hat``: the last estimate of clean samples."""

    x_0: Tensor
    x_hat: Tensor


class NoiseSource:
    """Standard normal noise with one generator a sample.

    Parameters
    ----------
    seeds
        One integer a sample.
    shape
        The shape of one sample.
    device
        Where the noise goes; it is drawn on the CPU, so that every device sees the same.
    """

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], *, device: torch.device | str
    ) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.shape = tuple(shape)
        self.device = device

    def __call__(self) -> Tensor:
        """Return the next noise, B samples of the shape."""
        draws = [torch.randn(self.shape, generator=g) for g in self.generators]
        return torch.stack(draws).to(self.device)


Step = Callable[[Tensor, Tensor, Tensor, Tensor, NoiseSource], Tensor]


def sample(
    denoise: Denoiser,
    noise: NoiseSource,
    *,
    schedule: Schedule,
    config: SamplerConfig,
    cond: Any = None,
) -> Sampled:
    """Draw samples by walking from pure noise to logsnr(0).

    Parameters
    ----------
    denoise
        Gives x_hat for (x_t, logsnr, cond).
    noise
        Gives x_1 and, for stochastic methods, the noise of each step.
    schedule
        The noise levels; the grid is even in its time.
    config
        Method and number of steps, each one evaluation of ``denoise``.
    cond
        Passed to ``denoise``.
    """
    x_t = noise()
    t = torch.linspace(1, 0, config.num_steps + 1, dtype=torch.float64)
    levels = schedule.logsnr(t).to(x_t)
    step = SAMPLERS[config.name]
    x_hat = x_t
    for logsnr_t, logsnr_s in pairwise(levels):
        x_hat = denoise(x_t, logsnr_t.expand(len(x_t)), cond)
        x_t = step(x_t, x_hat, logsnr_t, logsnr_s, noise)
    return Sampled(x_t, x_hat)


def guided(denoise: Denoiser, null: Any, *, scale: float, until: float = math.inf) -> Denoiser:
    """Return a denoiser that answers null + scale (cond - null): scale 1 is plain conditioning.

    Parameters
    ----------
    denoise
        The denoiser to guide.
    null
        The condition that says nothing.
    scale
        0 ignores the condition (one evaluation), 1 is the condition alone (one), else two.
    until
        The logsnr above which the condition stands alone; a scale of 0 ignores it there too.
    """
    if scale == 0:
        return lambda x_t, logsnr, cond: denoise(x_t, logsnr, null)
    if scale == 1:
        return denoise

    def denoise_guided(x_t: Tensor, logsnr: Tensor, cond: Any) -> Tensor:
        if logsnr.min() > until:
            return denoise(x_t, logsnr, cond)
        x_null = denoise(x_t, logsnr, null)
        return x_null + scale * (denoise(x_t, logsnr, cond) - x_null)

    return denoise_guided


def _ddim(
    x_t: Tensor, x_hat: Tensor, logsnr_t: Tensor, logsnr_s: Tensor, noise: NoiseSource
) -> Tensor:
    """Deterministic step: keep the implied noise, x_s = alpha_s x_hat + sigma_s eps_hat."""
    return alpha(logsnr_s) * x_hat + sigma(logsnr_s) * eps_from_x(x_t, logsnr_t[None], x_hat)


def _ancestral(
    x_t: Tensor, x_hat: Tensor, logsnr_t: Tensor, logsnr_s: Tensor, noise: NoiseSource
) -> Tensor:
    """Draw from q(x_s | x_t, x = x_hat), the posterior of the forward process."""
    c = -torch.expm1(logsnr_t - logsnr_s)
    mean = alpha(logsnr_s) * ((1 - c) / alpha(logsnr_t) * x_t + c * x_hat)
    return mean + expand((sigma(logsnr_s) * c.sqrt())[None], x_t) * noise()


SAMPLERS: dict[str, Step] = {"ddim": _ddim, "ancestral": _ancestral}
