"""How far samplers are from the probability flow, and from diffusers' samplers."""

from __future__ import annotations

import importlib.util
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from ulrec.diffusion.sampler import NOISY, SAMPLERS, SamplerConfig, sample
from ulrec.diffusion.schedule import Schedule

ORDERS = {"ddim": 1, "heun": 2, "dpmpp_2m": 2}
"""Of every deterministic sampler; the mean of noisy ones' draws is nobody's path."""


def load():
    path = Path(__file__).parent / "golden" / "make.py"
    spec = importlib.util.spec_from_file_location("diffusers_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = load()
ANSWERS = json.loads(golden.VALUES.read_text())["x_0"]


def end(name: str, num_steps: int, schedule: Schedule, *, num: int = 3) -> torch.Tensor:
    config = SamplerConfig(name=name, num_steps=num_steps)
    denoise, noise = golden.mixture_denoiser, golden.DoubleNoise(num)
    return sample(denoise, noise, schedule=schedule, config=config).x_0


def test_every_sampler_is_compared():
    assert ANSWERS.keys() == SAMPLERS.keys()
    assert {*ORDERS, *NOISY} == SAMPLERS.keys()


@pytest.mark.parametrize("name", SAMPLERS)
def test_agrees_with_diffusers(name):
    """In float64, at equal levels and noises; golden/make.py says how they were made.

    Heun's rule is in another variable there: the two meet where the flow ends.
    """
    num_steps = 2048 if name == "heun" else golden.NUM_STEPS[name]
    expected = torch.tensor(ANSWERS[name], dtype=torch.float64)
    made = end(name, num_steps, golden.SCHEDULE)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


SCHEDULES = [
    Schedule(logsnr_0=5.0, logsnr_1=-10.0, name="linear"),
    Schedule(logsnr_0=5.0, logsnr_1=-10.0),
]


@pytest.fixture(scope="module", params=SCHEDULES, ids=["linear", "cosine"])
def flow(request) -> tuple[Schedule, torch.Tensor]:
    """A schedule, and where its flow of 64 draws ends (Richardson: the h^2 of Heun cancels)."""
    coarse, fine = (end("heun", num_steps, request.param, num=64) for num_steps in (700, 1400))
    return request.param, (4 * fine - coarse) / 3


@pytest.mark.parametrize("name", ORDERS)
def test_error_falls_with_the_order(flow, name):
    """Slope of log2 of the error against log2 of the evaluations: minus the order, within 0.2."""
    schedule, exact = flow
    errors = [
        (end(name, count, schedule, num=64) - exact).square().mean().sqrt().item()
        for count in (128, 256, 512)
    ]
    slope = math.log2(errors[2] / errors[0]) / 2
    assert slope == pytest.approx(-ORDERS[name], abs=0.2)
    assert errors[2] < {1: 5e-3, 2: 2e-4}[ORDERS[name]]


@pytest.mark.parametrize("num_steps", [8, 16, 32])
def test_second_order_pays_from_eight_evaluations_on(flow, num_steps):
    schedule, exact = flow
    first, second = (
        (end(name, num_steps, schedule, num=64) - exact).norm() for name in ("ddim", "dpmpp_2m")
    )
    assert second < 0.6 * first


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7])
def test_heun_spends_what_it_is_given(num_steps):
    """Two evaluations an interval, the second at its end; an odd one is a DDIM step at the end."""
    asked = []

    def denoise(x_t, logsnr, cond):
        asked.append(logsnr[0].item())
        return golden.mixture_denoiser(x_t, logsnr)

    config = SamplerConfig(name="heun", num_steps=num_steps)
    sample(denoise, golden.DoubleNoise(), schedule=golden.SCHEDULE, config=config)
    grid = golden.levels(math.ceil(num_steps / 2)).tolist()
    pairs = [level for pair in pairwise(grid) for level in pair]
    assert asked == pytest.approx(pairs[:num_steps])


@pytest.mark.parametrize("name", ORDERS)
def test_steps_are_exact_for_one_point(name):
    """Where x_hat holds still so does eps_hat, and no step errs."""
    point, noise = torch.tensor([0.3, -2.0], dtype=torch.float64), golden.DoubleNoise()
    config = SamplerConfig(name=name, num_steps=4)
    drawn = sample(lambda x_t, logsnr, cond: point, noise, schedule=SCHEDULES[0], config=config)
    x_1 = golden.DoubleNoise()()
    alphas = torch.sigmoid(torch.tensor([-10.0, 5.0], dtype=torch.float64)).sqrt()
    sigmas = torch.sigmoid(torch.tensor([10.0, -5.0], dtype=torch.float64)).sqrt()
    eps = (x_1 - alphas[0] * point) / sigmas[0]
    torch.testing.assert_close(drawn.x_0, alphas[1] * point + sigmas[1] * eps)
