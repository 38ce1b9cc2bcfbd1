"""Make what diffusers' samplers answer on the inputs below, for test_accuracy.py.

    pip install diffusers==0.35.2 torch; PYTHONPATH=. python tests/diffusion/golden/make.py

Inputs and denoiser are made anew from seeds by script and test alike; the file beside this one
keeps answers only. diffusers knows noise as sqrt(1 - alpha^2) or as sigma / alpha: its schedulers
are handed our levels in its own terms, and our denoiser's eps, all in float64.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ulrec.diffusion.process import alpha, eps_from_x
from ulrec.diffusion.sampler import NoiseSource
from ulrec.diffusion.schedule import Schedule

VALUES = Path(__file__).parent / "diffusers.json"
SCHEDULE = Schedule(logsnr_0=5.0, logsnr_1=-10.0, name="linear")
NUM_STEPS = {"ddim": 12, "ancestral": 12, "dpmpp_2m": 12, "dpmpp_2m_sde": 12, "heun": 4096}
"""Heun's rule is in another variable there: the two meet at the end of the flow alone."""

MEANS = torch.tensor([[1.2, -0.5], [-0.8, 0.9], [0.1, -1.4]], dtype=torch.float64)
DEVIATIONS = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64)
SHARES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


class DoubleNoise(NoiseSource):
    """Standard normal pairs of the seeds 0, 1, .., in float64."""

    def __init__(self, num: int = 3) -> None:
        super().__init__(range(num), (2,), device="cpu")

    def __call__(self) -> Tensor:
        return super().__call__().double()


def mixture_denoiser(x_t: Tensor, logsnr: Tensor, cond: None = None) -> Tensor:
    """E[x | x_t] for x from the mixture of three round Gaussians; x_t (B, 2), logsnr (B,)."""
    scale, variance = alpha(logsnr)[:, None], torch.sigmoid(logsnr)[:, None] * DEVIATIONS**2
    variance = variance + torch.sigmoid(-logsnr)[:, None]  # (B, 3) of x_t given its component
    away = x_t[:, None] - scale[..., None] * MEANS  # (B, 3, 2)
    density = SHARES.log() - variance.log() - 0.5 * away.square().sum(-1) / variance
    means = MEANS + (scale * DEVIATIONS**2 / variance)[..., None] * away
    return (density.softmax(1)[..., None] * means).sum(1)


def levels(num_intervals: int) -> Tensor:
    return SCHEDULE.logsnr(torch.linspace(1, 0, num_intervals + 1, dtype=torch.float64))


def eps_hat(x_t: Tensor, logsnr: Tensor) -> Tensor:
    each = logsnr.expand(len(x_t))
    return eps_from_x(x_t, each, mixture_denoiser(x_t, each))


def discrete(eta: float, num_steps: int) -> Tensor:
    """DDIMScheduler over a table of exactly our levels, from much noise to little."""
    from diffusers import DDIMScheduler

    grid, noise = levels(num_steps), DoubleNoise()
    scheduler = DDIMScheduler(num_steps + 1, set_alpha_to_one=False, clip_sample=False)
    scheduler.alphas_cumprod = torch.sigmoid(grid).flip(0)
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(num_steps)
    x_t = noise()
    for index, logsnr in enumerate(grid[:-1]):
        own = noise() if eta else None
        timestep = num_steps - index
        answer = eps_hat(x_t, logsnr)
        x_t = scheduler.step(answer, timestep, x_t, eta=eta, variance_noise=own).prev_sample
    return x_t


def dpmpp_2m(algorithm: str, num_steps: int) -> Tensor:
    from diffusers import DPMSolverMultistepScheduler

    grid, noise = levels(num_steps), DoubleNoise()
    scheduler = DPMSolverMultistepScheduler(
        solver_order=2,
        algorithm_type=algorithm,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(num_steps)
    scheduler.sigmas = torch.exp(-0.5 * grid)
    scheduler.timesteps = torch.arange(num_steps)
    x_t = noise()
    for index, logsnr in enumerate(grid[:-1]):
        own = noise() if algorithm.startswith("sde") else None
        answer = eps_hat(x_t, logsnr)
        x_t = scheduler.step(answer, index, x_t, variance_noise=own).prev_sample
    return x_t


def heun(num_steps: int) -> Tensor:
    """Walk x_t / alpha, as HeunDiscreteScheduler does; its sigmas hold each inner level twice."""
    from diffusers import HeunDiscreteScheduler

    grid = levels(num_steps // 2)
    each = torch.cat([grid[:1], grid[1:].repeat_interleave(2)])
    scheduler = HeunDiscreteScheduler()
    scheduler.set_timesteps(num_steps // 2)
    scheduler.sigmas = torch.exp(-0.5 * each)
    scheduler.timesteps = torch.arange(num_steps)
    y_t = DoubleNoise()() / alpha(grid[0])
    for index, logsnr in enumerate(each[:-1]):
        answer = eps_hat(y_t * alpha(logsnr), logsnr)
        y_t = scheduler.step(answer, index, y_t).prev_sample
    return y_t * alpha(grid[-1])


MAKERS = {
    "ddim": lambda num_steps: discrete(0.0, num_steps),
    "ancestral": lambda num_steps: discrete(1.0, num_steps),
    "dpmpp_2m": partial(dpmpp_2m, "dpmsolver++"),
    "dpmpp_2m_sde": partial(dpmpp_2m, "sde-dpmsolver++"),
    "heun": heun,
}


if __name__ == "__main__":
    import diffusers

    made = {name: MAKERS[name](num_steps).tolist() for name, num_steps in NUM_STEPS.items()}
    content = {"diffusers": diffusers.__version__, "torch": torch.__version__, "x_0": made}
    VALUES.write_text(json.dumps(content, indent=1) + "\n")
