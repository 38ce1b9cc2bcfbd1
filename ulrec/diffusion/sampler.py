"""Samplers: pure functions over one ``denoise(x_t, logsnr, cond) -> x_hat``.

They walk an even grid of times from t = 1 down to t = 0 and stop *at* logsnr(0): what they return
is noisy to that degree (the decoder is given noisy latents, METHOD.md section 3), beside the last
estimate of the clean sample. Every sample has its own seed, so results do not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from ulrec.diffusion.loss import Denoiser
from ulrec.diffusion.process import alpha, angle, eps_from_x, expand, sigma, v_from_x
from ulrec.diffusion.schedule import Schedule

__all__ = [
    "NOISY",
    "SAMPLERS",
    "NoiseSource",
    "Sampled",
    "SamplerConfig",
    "guided",
    "moving",
    "sample",
]

NOISY = ("ancestral", "dpmpp_2m_sde")
"""Samplers whose steps add noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """How to sample.

    Attributes
    ----------
    name
        The method, a key of ``SAMPLERS``.
    num_steps
        Its number of network evaluations (twice as many where guidance is at work). Heun spends two
        on an interval of time, the others one, so that equal numbers cost the same.
    guidance_until
        The logsnr up to which guidance is at work. Above it the condition stands alone: what is
        drawn is settled there, and more guidance only saturates it (Kynkaanniemi et al. 2024,
        arXiv 2404.07724). By default there is no such end.
    guidance_rescale
        How far a guided estimate is held to the size of the conditional one, which much guidance
        inflates until it saturates: 1 gives it the same standard deviation, 0 leaves it as it is
        (Lin et al. 2023, arXiv 2305.08891, Eqs. 15 and 16).
    noise_until
        The logsnr up to which the steps of "ancestral" and "dpmpp_2m_sde" add noise, and so forget
        what earlier ones erred. Above it they follow the flow: where details are decided the noise
        costs some of them (Karras et al. 2022, arXiv 2206.00364, section 4). By default there is
        no such end.
    motion
        How far the estimate of a clip is taken away from the still clip that is its mean over time:
        1 leaves it as it is, 0 stands still, more than 1 moves more, and flickers more. What a
        briefly trained model has not learnt of motion it estimates as none.
    levels
        The logsnr of every evaluation after the first, which is at logsnr_1: one less than
        ``num_steps``, rising. None spreads them evenly in the schedule's time. Few evaluations are
        worth placing (examples/benchmarks/decoding.py); Heun's are in pairs and placed by time.
    """

    name: Literal["ddim", "ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde"] = "ddim"
    num_steps: int = 25
    guidance_until: float = math.inf
    guidance_rescale: float = 0.0
    noise_until: float = math.inf
    motion: float = 1.0
    levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps has to be at least 1, got {self.num_steps}")
        if not 0 <= self.guidance_rescale <= 1:
            raise ValueError(f"guidance_rescale has to be in [0, 1], got {self.guidance_rescale}")
        if self.noise_until < math.inf and self.name not in NOISY:
            raise ValueError(
                f"noise_until is for {' and '.join(NOISY)}, {self.name} adds no noise; leave it "
                "out or name another sampler"
            )
        if not 0 <= self.motion < math.inf:
            raise ValueError(f"motion has to be at least 0 and finite, got {self.motion}")
        if self.levels is None:
            return
        if self.name == "heun" or len(self.levels) != self.num_steps - 1:
            raise ValueError(
                f"levels are of the {self.num_steps - 1} evaluations after the first of another "
                f"method than heun, got {len(self.levels)} for {self.name}; set num_steps and name"
            )
        if any(a >= b for a, b in pairwise(self.levels)):
            raise ValueError(f"levels have to rise (less and less noise), got {self.levels}")


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


Answer = Callable[[Tensor, Tensor], Tensor]
"""(x_t (B, ...), logsnr ()) -> x_hat: a denoiser, its condition filled in."""

Levels = Callable[[int], Tensor]
"""The logsnr at the ends of so many even intervals of time, from t = 1 to t = 0."""

Method = Callable[[Answer, NoiseSource, Levels, SamplerConfig], Sampled]
"""A walk of the configuration's ``num_steps`` evaluations of the denoiser."""

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

    Raises
    ------
    ValueError
        If the configuration's levels leave the schedule, or what does not move is to move more.
    """

    def answer(x_t: Tensor, logsnr: Tensor) -> Tensor:
        x_hat = denoise(x_t, logsnr.expand(len(x_t)), cond)
        return x_hat if config.motion == 1 else moving(x_hat, scale=config.motion)

    def levels(num_intervals: int) -> Tensor:
        if config.levels is not None:
            return _placed(config.levels, schedule)
        t = torch.linspace(1, 0, num_intervals + 1, dtype=torch.float64)
        return schedule.logsnr(t)

    return SAMPLERS[config.name](answer, noise, levels, config)


def _placed(levels: Sequence[float], schedule: Schedule) -> Tensor:
    """Return the ends of the intervals between given levels, from logsnr_1 to logsnr_0."""
    grid = (schedule.logsnr_1, *levels, schedule.logsnr_0)
    if any(a >= b for a, b in pairwise(grid)):
        raise ValueError(
            f"levels have to lie between the schedule's ends {schedule.logsnr_1} and "
            f"{schedule.logsnr_0}, got {tuple(levels)}"
        )
    return torch.tensor(grid, dtype=torch.float64)


def guided(
    denoise: Denoiser,
    null: Any,
    *,
    scale: float,
    until: float = math.inf,
    rescale: float = 0.0,
) -> Denoiser:
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
    rescale
        ``guidance_rescale`` of :class:`SamplerConfig`.
    """
    if scale == 0:
        return lambda x_t, logsnr, cond: denoise(x_t, logsnr, null)
    if scale == 1:
        return denoise

    def denoise_guided(x_t: Tensor, logsnr: Tensor, cond: Any) -> Tensor:
        if logsnr.min() > until:
            return denoise(x_t, logsnr, cond)
        x_null, x_cond = denoise(x_t, logsnr, null), denoise(x_t, logsnr, cond)
        return held_to(x_cond, x_null + scale * (x_cond - x_null), rescale=rescale)

    return denoise_guided


def held_to(x_cond: Tensor, x_guided: Tensor, *, rescale: float) -> Tensor:
    """Return x_guided (B, ...) at the standard deviation of x_cond, by a share ``rescale``."""
    if rescale == 0:
        return x_guided
    ratio = x_cond.flatten(1).std(1) / x_guided.flatten(1).std(1).clamp(min=1e-12)
    return expand(1 + rescale * (ratio - 1), x_guided) * x_guided


def moving(x_hat: Tensor, *, scale: float) -> Tensor:
    """Return still + scale (x_hat - still); still is the mean of x_hat (B, C, F, H, W) over frames.

    Raises
    ------
    ValueError
        If there is one frame only, or no axis of frames.
    """
    if x_hat.ndim != 5 or x_hat.shape[2] == 1:
        raise ValueError(
            f"motion is for clips (B, C, F, H, W) of 2 frames or more, got {tuple(x_hat.shape)}; "
            "leave motion out for pictures"
        )
    still = x_hat.mean(2, keepdim=True)
    return torch.lerp(still, x_hat, scale)


def _single_steps(
    step: Step, answer: Answer, noise: NoiseSource, levels: Levels, config: SamplerConfig
) -> Sampled:
    """Walk with one evaluation an interval, each step knowing that one only."""
    x_t = x_hat = noise()
    for logsnr_t, logsnr_s in pairwise(levels(config.num_steps).to(x_t)):
        x_hat = answer(x_t, logsnr_t)
        move = step if logsnr_t < config.noise_until else _ddim
        x_t = move(x_t, x_hat, logsnr_t, logsnr_s, noise)
    return Sampled(x_t, x_hat)


def _ddim(
    x_t: Tensor, x_hat: Tensor, logsnr_t: Tensor, logsnr_s: Tensor, noise: NoiseSource
) -> Tensor:
    """Deterministic step: keep the implied noise, x_s = alpha_s x_hat + sigma_s eps_hat.

    Song et al. 2021, arXiv 2010.02502, Eq. 12 with no noise of its own: first order.
    """
    return alpha(logsnr_s) * x_hat + sigma(logsnr_s) * eps_from_x(x_t, logsnr_t[None], x_hat)


def _ancestral(
    x_t: Tensor, x_hat: Tensor, logsnr_t: Tensor, logsnr_s: Tensor, noise: NoiseSource
) -> Tensor:
    """Draw from q(x_s | x_t, x = x_hat), the posterior of the forward process."""
    c = -torch.expm1(logsnr_t - logsnr_s)
    mean = alpha(logsnr_s) * ((1 - c) / alpha(logsnr_t) * x_t + c * x_hat)
    return mean + expand((sigma(logsnr_s) * c.sqrt())[None], x_t) * noise()


def _heun(answer: Answer, noise: NoiseSource, levels: Levels, config: SamplerConfig) -> Sampled:
    """Walk with Heun's rule in the angle, second order; an odd evaluation ends with DDIM.

    With alpha = cos(phi) and sigma = sin(phi) the flow is dx_t / dphi = v_hat (Salimans and Ho
    2022, arXiv 2202.00512, App. D), bounded in both at both ends. DDIM turns by d = phi_s - phi_t:
    x_s = cos(d) x_t + sin(d) v_t with v_t = cos(phi_t) eps_hat - sin(phi_t) x_hat, exact while
    x_hat and eps_hat hold still. Along the flow cos(phi) dx_hat + sin(phi) deps_hat = 0, whence
    x_s = cos(d) x_t + sin(d) (v_t + v_s) / 2 + O(d^3), v_s from the answer at s and the angle at t.

    The same rule over sigma / alpha (Karras et al. 2022, arXiv 2206.00364, Alg. 1) has to be given
    a grid of its own: on ours sigma / alpha falls from 148 to 10 in one of 16 steps.
    """
    x_t = x_hat = noise()
    num_pairs = config.num_steps // 2
    grid = levels(config.num_steps - num_pairs).to(x_t)
    for logsnr_t, logsnr_s in pairwise(grid[: num_pairs + 1]):
        turn = angle(logsnr_s) - angle(logsnr_t)
        v_t = v_from_x(x_t, logsnr_t[None], answer(x_t, logsnr_t))
        x_s = torch.cos(turn) * x_t + torch.sin(turn) * v_t
        x_hat = answer(x_s, logsnr_s)
        eps_hat = eps_from_x(x_s, logsnr_s[None], x_hat)
        v_s = alpha(logsnr_t) * eps_hat - sigma(logsnr_t) * x_hat
        x_t = torch.cos(turn) * x_t + 0.5 * torch.sin(turn) * (v_t + v_s)
    if config.num_steps % 2:
        x_hat = answer(x_t, grid[-2])
        x_t = _ddim(x_t, x_hat, grid[-2], grid[-1], noise)
    return Sampled(x_t, x_hat)


def _dpmpp_2m(
    step: Step, answer: Answer, noise: NoiseSource, levels: Levels, config: SamplerConfig
) -> Sampled:
    """Walk with DPM-Solver++(2M), second order from one evaluation an interval.

    Lu et al. 2022, arXiv 2211.01095, Alg. 2. In half the logsnr the flow is linear but for x_hat:
    holding x_hat is DDIM; 2M draws a line through the last two and holds its middle. The first
    interval has one only. With ancestral steps it is their SDE-DPM-Solver++(2M), whose noise takes
    with it some of what earlier steps erred.
    """
    x_t = x_hat = noise()
    grid = levels(config.num_steps).to(x_t)
    slope = torch.zeros_like(x_t)  # of x_hat in logsnr
    for index, (logsnr_t, logsnr_s) in enumerate(pairwise(grid)):
        before, x_hat = x_hat, answer(x_t, logsnr_t)
        if index:
            slope = (x_hat - before) / (logsnr_t - grid[index - 1])
        middle = x_hat + 0.5 * (logsnr_s - logsnr_t) * slope
        move = step if logsnr_t < config.noise_until else _ddim
        x_t = move(x_t, middle, logsnr_t, logsnr_s, noise)
    return Sampled(x_t, x_hat)


SAMPLERS: dict[str, Method] = {
    "ddim": partial(_single_steps, _ddim),
    "ancestral": partial(_single_steps, _ancestral),
    "heun": _heun,
    "dpmpp_2m": partial(_dpmpp_2m, _ddim),
    "dpmpp_2m_sde": partial(_dpmpp_2m, _ancestral),
}
