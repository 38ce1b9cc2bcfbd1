from __future__ import annotations

import math

import pytest
import torch

from ulrec.diffusion.process import expand
from ulrec.diffusion.sampler import (
    NOISY,
    SAMPLERS,
    NoiseSource,
    SamplerConfig,
    guided,
    held_to,
    moving,
    sample,
)
from ulrec.diffusion.schedule import Schedule

MEAN = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.5, 0.6], [0.6, 0.5]], dtype=torch.float64)
ALPHA_2, SIGMA_2 = torch.sigmoid(torch.tensor([5.0, -5.0], dtype=torch.float64))
MEAN_0 = ALPHA_2.sqrt() * MEAN
COVARIANCE_0 = ALPHA_2 * COVARIANCE + SIGMA_2 * torch.eye(2)
"""What a sampler has to end with: the Gaussian at logsnr(0) = 5, noise of that level included."""


def gaussian_denoiser(x_t, logsnr, cond):
    """E[x | x_t] for x ~ N(MEAN, COVARIANCE) in the last dimension."""
    alpha_2, sigma_2 = torch.sigmoid(logsnr[0].double()), torch.sigmoid(-logsnr[0].double())
    variance = alpha_2 * COVARIANCE + sigma_2 * torch.eye(2)
    gain = alpha_2.sqrt() * torch.linalg.solve(variance, COVARIANCE)  # both are symmetric
    return (MEAN + (x_t.double() - alpha_2.sqrt() * MEAN) @ gain).to(x_t)


class UnitNoise(NoiseSource):
    """Answers one unit vector for each value of noise a sampler can draw, and once none at all.

    A sampler with a linear denoiser is an affine map of its noise: from the images of these the
    mean and the covariance of its samples follow exactly.
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__([0], (2 * (num_steps + 1) + 1, 2), device="cpu")
        self.calls = 0

    def __call__(self) -> torch.Tensor:
        units = torch.zeros(1, *self.shape, dtype=torch.float64)
        for value in range(2):
            units[0, 2 * self.calls + value, value] = 1
        self.calls += 1
        return units


def exact_moments(name: str, schedule: Schedule, num_steps: int, *, noise_until: float = math.inf):
    config = SamplerConfig(name=name, num_steps=num_steps, noise_until=noise_until)
    noise = UnitNoise(num_steps)
    images = sample(gaussian_denoiser, noise, schedule=schedule, config=config).x_0[0]
    columns = images[:-1] - images[-1]
    return images[-1], columns.T @ columns


@pytest.mark.parametrize(
    ("name", "noise_until"),
    [*((name, math.inf) for name in SAMPLERS), *((name, 0.0) for name in NOISY)],
)
def test_a_gaussian_is_sampled_back(schedule_z, name, noise_until):
    """METHOD.md 6.3: the error (at least) halves with twice the steps, down to nothing.

    Walks start from N(0, I), not from the Gaussian at logsnr(1) = -10: the means stay 0.007 apart.
    """
    moments = [
        exact_moments(name, schedule_z, num_steps, noise_until=noise_until)
        for num_steps in (50, 100, 200)
    ]
    for mean, _ in moments:
        torch.testing.assert_close(mean, MEAN_0, atol=0.01, rtol=0)
    coarse, middle, fine = (covariance for _, covariance in moments)
    errors = [(covariance - COVARIANCE_0).norm() for covariance in (coarse, middle, fine)]
    assert errors[0] > 1.6 * errors[1] > 1.6 * 1.6 * errors[2]
    limit = (8 * fine - 6 * middle + coarse) / 3  # Richardson: errors in 1/N and 1/N^2 cancel
    torch.testing.assert_close(limit, COVARIANCE_0, atol=0.01, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeded_noise_gives_the_same_moments(schedule_z, name):
    num_steps = 30
    mean, covariance = exact_moments(name, schedule_z, num_steps)
    noise = NoiseSource([7], (40_000, 2), device="cpu")  # one seed, many pairs
    config = SamplerConfig(name=name, num_steps=num_steps)
    x_0 = sample(gaussian_denoiser, noise, schedule=schedule_z, config=config).x_0[0].double()
    torch.testing.assert_close(x_0.mean(0), mean, atol=0.025, rtol=0)
    torch.testing.assert_close(torch.cov(x_0.T), covariance, atol=0.04, rtol=0)


@pytest.mark.parametrize("name", ["ddim", "ancestral"])
def test_levels_run_from_noise_to_the_last_step_before_the_data(schedule_z, name):
    levels = []

    def denoise(x_t, logsnr, cond):
        assert logsnr.shape == (3,)
        levels.append(logsnr[0].item())
        return torch.zeros_like(x_t)

    noise = NoiseSource([0, 1, 2], (2, 1, 4, 4), device="cpu")
    config = SamplerConfig(name=name, num_steps=5)
    drawn = sample(denoise, noise, schedule=schedule_z, config=config)
    times = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2], dtype=torch.float64)
    assert levels == pytest.approx(schedule_z.logsnr(times).tolist(), rel=1e-5)
    assert drawn.x_0.shape == drawn.x_hat.shape == (3, 2, 1, 4, 4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_with_one_clean_sample_the_end_is_noised_to_logsnr_0(schedule_z, name):
    """All of the data is one point, so what is left at the end is sigma_0 times unit noise."""
    point = torch.linspace(-1, 1, 50_000)
    noise = NoiseSource([5], (50_000,), device="cpu")
    config = SamplerConfig(name=name, num_steps=30)
    drawn = sample(
        lambda x_t, logsnr, cond: point.expand_as(x_t), noise, schedule=schedule_z, config=config
    )
    assert torch.equal(drawn.x_hat[0], point)
    rest = drawn.x_0[0] - torch.sigmoid(torch.tensor(5.0)).sqrt() * point
    assert rest.mean().abs() < 2e-3
    sigma_0 = torch.sigmoid(torch.tensor(-5.0)).sqrt().item()
    assert rest.std().item() == pytest.approx(sigma_0, rel=0.02)


def mixing_denoiser(x_t, logsnr, cond):
    """Depends on the state within a sample, never across samples."""
    return torch.tanh(x_t + x_t.flatten(1).mean(1)[:, None, None, None, None] + expand(cond, x_t))


@pytest.mark.parametrize("name", SAMPLERS)
def test_results_do_not_depend_on_the_batch(name):
    seeds, cond = [11, 5, 8, 5], torch.tensor([0.1, -0.3, 0.7, -0.3])
    schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
    config = SamplerConfig(name=name, num_steps=6)

    def draw(rows: list[int]) -> torch.Tensor:
        noise = NoiseSource([seeds[row] for row in rows], (2, 1, 3, 3), device="cpu")
        options = {"schedule": schedule, "config": config, "cond": cond[rows]}
        return sample(mixing_denoiser, noise, **options).x_0

    together = draw([0, 1, 2, 3])
    for row in range(4):
        torch.testing.assert_close(draw([row])[0], together[row], atol=1e-5, rtol=0)
    torch.testing.assert_close(draw([2, 0]), together[[2, 0]], atol=1e-5, rtol=0)
    assert torch.equal(together[1], together[3])
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_noise_of_a_seed_goes_on_and_repeats():
    first, again = (NoiseSource([4, 9], (3,), device="cpu") for _ in range(2))
    draws = [first(), first()]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0][0], draws[0][1])
    assert torch.equal(torch.stack(draws), torch.stack([again(), again()]))
    expected = torch.randn(3, generator=torch.Generator().manual_seed(9))
    assert torch.equal(draws[0][1], expected)


@pytest.mark.parametrize(
    ("name", "noise_until", "calls"),
    [
        ("ddim", math.inf, 1),
        ("dpmpp_2m", math.inf, 1),
        ("ancestral", math.inf, 5),
        ("dpmpp_2m_sde", math.inf, 5),
        ("ancestral", 2.0, 3),  # steps from -10 and 1 on, but not from 2
        ("dpmpp_2m_sde", 2.0, 3),
        ("ancestral", -10.0, 1),
    ],
)
def test_noise_is_drawn_once_and_at_each_noisy_step(name, noise_until, calls):
    class Counting(NoiseSource):
        calls = 0

        def __call__(self) -> torch.Tensor:
            self.calls += 1
            return super().__call__()

    schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
    noise = Counting([0], (2,), device="cpu")
    levels = (1.0, 2.0, 4.5)
    config = SamplerConfig(name=name, num_steps=4, levels=levels, noise_until=noise_until)
    sample(lambda x_t, logsnr, cond: x_t, noise, schedule=schedule, config=config)
    assert noise.calls == calls


@pytest.mark.parametrize(("name", "flow"), [("ancestral", "ddim"), ("dpmpp_2m_sde", "dpmpp_2m")])
def test_noisy_samplers_without_noise_follow_the_flow(schedule_z, name, flow):
    def drawn(config):
        noise = NoiseSource([3, 4], (2,), device="cpu")
        return sample(gaussian_denoiser, noise, schedule=schedule_z, config=config).x_0

    silent = drawn(SamplerConfig(name=name, num_steps=6, noise_until=-10.0))
    assert torch.equal(silent, drawn(SamplerConfig(name=flow, num_steps=6)))


def test_a_clip_moves_as_much_more_as_it_is_told_to():
    x_hat = torch.tensor([1.0, 3.0, 8.0]).reshape(1, 1, 3, 1, 1)
    for scale, expected in (
        (0.0, [4.0, 4.0, 4.0]),
        (1.0, [1.0, 3.0, 8.0]),
        (2.0, [-2.0, 2.0, 12.0]),
    ):
        assert moving(x_hat, scale=scale).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_motion_moves_samples_and_leaves_their_mean(schedule_z, name):
    """With an estimate that is one clip, samples are that clip, moved so much, and noise."""
    clip = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1, 1).expand(1, 400, 3, 4, 4)

    def drawn(motion):
        noise = NoiseSource([2], (400, 3, 4, 4), device="cpu")
        config = SamplerConfig(name=name, num_steps=8, motion=motion)
        return sample(lambda x_t, logsnr, cond: clip, noise, schedule=schedule_z, config=config)

    plain, more = drawn(1.0), drawn(1.5)
    means = more.x_0.mean((0, 1, 3, 4)) - plain.x_0.mean((0, 1, 3, 4))
    alphas = torch.sigmoid(torch.tensor([-10.0, 5.0])).sqrt()
    # the noise that a walk starts from counts as that of another clip
    start = torch.sigmoid(torch.tensor([10.0, -5.0])).sqrt()
    gained = alphas[1] - (alphas[0] * start[1] / start[0] if "sde" not in name else 0)
    torch.testing.assert_close(means, gained * torch.tensor([-0.25, 0.0, 0.25]), atol=2e-3, rtol=0)
    assert torch.equal(more.x_hat, clip + 0.5 * (clip - 0.5))


def test_what_does_not_move_cannot_move_more(schedule_z):
    noise = NoiseSource([0], (2, 1, 4, 4), device="cpu")
    config = SamplerConfig(num_steps=2, motion=1.2)
    with pytest.raises(ValueError, match="leave motion out for pictures"):
        sample(lambda x_t, logsnr, cond: x_t, noise, schedule=schedule_z, config=config)
    with pytest.raises(ValueError, match="motion has to be at least 0 and finite, got -1"):
        SamplerConfig(motion=-1.0)


def test_an_end_of_noise_that_is_none_is_refused():
    with pytest.raises(ValueError, match="is for ancestral and dpmpp_2m_sde, ddim adds no noise"):
        SamplerConfig(noise_until=0.0)


class Recorder:
    """A denoiser whose answer is its condition; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, x_t: torch.Tensor, logsnr: torch.Tensor, cond: float) -> torch.Tensor:
        self.asked.append(cond)
        return torch.full_like(x_t, cond)


@pytest.mark.parametrize(
    ("scale", "expected", "asked"),
    [
        (0.0, 2.0, [2.0]),  # the null alone
        (1.0, 5.0, [5.0]),  # the condition alone
        (2.0, 8.0, [2.0, 5.0]),  # 2 + 2 (5 - 2)
        (-0.5, 0.5, [2.0, 5.0]),  # 2 - 0.5 (5 - 2)
    ],
)
def test_guidance(scale, expected, asked):
    denoise = Recorder()
    x_t = torch.zeros(2, 3)
    answer = guided(denoise, 2.0, scale=scale)(x_t, torch.zeros(2), 5.0)
    assert torch.equal(answer, torch.full_like(x_t, expected))
    assert denoise.asked == asked


def test_guidance_ends_where_it_is_told_to():
    """Up to logsnr -1 two evaluations, above it the condition alone."""
    denoise = Recorder()
    guide = guided(denoise, 2.0, scale=3.0, until=-1.0)
    x_t = torch.zeros(2, 3)
    assert torch.equal(guide(x_t, torch.full((2,), -1.0), 5.0), torch.full_like(x_t, 11.0))
    assert torch.equal(guide(x_t, torch.full((2,), -0.9), 5.0), torch.full_like(x_t, 5.0))
    assert denoise.asked == [2.0, 5.0, 5.0]
    ignoring = guided(denoise, 2.0, scale=0.0, until=-1.0)
    assert torch.equal(ignoring(x_t, torch.zeros(2), 5.0), torch.full_like(x_t, 2.0))


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps has to be at least 1, got 0"):
        SamplerConfig(num_steps=0)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "heun"])
def test_placed_levels_are_where_a_sampler_looks(schedule_z, name):
    """An even grid's own levels change nothing; others are asked for as they stand."""
    even = schedule_z.logsnr(torch.linspace(1, 0, 5, dtype=torch.float64))[1:-1].tolist()
    asked: list[float] = []

    def denoise(x_t, logsnr, cond):
        asked.append(logsnr[0].item())
        return gaussian_denoiser(x_t, logsnr, cond)

    def drawn(levels):
        config = SamplerConfig(name=name, num_steps=4, levels=levels)
        noise = NoiseSource([3, 4], (2,), device="cpu")
        return sample(denoise, noise, schedule=schedule_z, config=config)

    expected, placed = drawn(None), drawn(tuple(even))
    torch.testing.assert_close(placed.x_0, expected.x_0)
    torch.testing.assert_close(placed.x_hat, expected.x_hat)
    asked.clear()
    assert not torch.allclose(drawn((1.0, 2.0, 4.5)).x_hat, expected.x_hat, atol=1e-3)
    assert asked == [-10.0, 1.0, 2.0, 4.5]


def test_levels_that_cannot_be_are_refused():
    for settings, message in (
        ({"num_steps": 4, "levels": (1.0, 2.0)}, "levels are of the 3 evaluations after the first"),
        ({"name": "heun", "num_steps": 3, "levels": (1.0, 2.0)}, "of another method than heun"),
        ({"num_steps": 3, "levels": (2.0, 1.0)}, "levels have to rise"),
    ):
        with pytest.raises(ValueError, match=message):
            SamplerConfig(**settings)
    schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
    beyond = SamplerConfig(num_steps=3, levels=(1.0, 6.0))
    with pytest.raises(ValueError, match=r"between the schedule's ends -10\.0 and 5\.0"):
        noise = NoiseSource([0], (2,), device="cpu")
        sample(gaussian_denoiser, noise, schedule=schedule, config=beyond)


def test_a_guided_estimate_is_held_to_the_size_of_the_conditional_one():
    x_cond = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    x_guided = torch.tensor([[4.0, -4.0], [1.0, -1.0]])
    assert held_to(x_cond, x_guided, rescale=0.0) is x_guided
    assert held_to(x_cond, x_guided, rescale=1.0).tolist() == x_cond.tolist()
    half = held_to(x_cond, x_guided, rescale=0.5)
    assert half.tolist() == [[2.5, -2.5], [1.5, -1.5]]


def test_guidance_is_rescaled_while_it_is_at_work():
    pattern = torch.tensor([[1.0, -1.0]])

    def denoise(x_t, logsnr, cond):
        return pattern * cond

    guide = guided(denoise, 1.0, scale=5.0, until=0.0, rescale=1.0)
    x_t = torch.zeros(1, 2)
    torch.testing.assert_close(guide(x_t, torch.tensor([-1.0]), 2.0), 2 * pattern)
    assert torch.equal(guide(x_t, torch.tensor([1.0]), 2.0), 2 * pattern)
    plain = guided(denoise, 1.0, scale=5.0)
    assert torch.equal(plain(x_t, torch.tensor([-1.0]), 2.0), 6 * pattern)
    with pytest.raises(ValueError, match="guidance_rescale has to be in"):
        SamplerConfig(guidance_rescale=1.5)
