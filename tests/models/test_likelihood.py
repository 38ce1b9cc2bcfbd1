"""Log ratios of Gaussians, which are known exactly, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from ulrec.diffusion.process import alpha, expand, sigma
from ulrec.diffusion.schedule import Schedule
from ulrec.models.base import Base, BaseConfig
from ulrec.models.likelihood import GaussianRatio, LogRatio, LogRatioConfig, fitted_proposal
from ulrec.networks.transformer import Cond, TransformerConfig

SHAPE = (2, 1, 1, 2)
SCHEDULE = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
LOGSNRS = (5.0, -10.0)
BROAD = {"centre": -0.5, "scale": 1.3}


@dataclass(frozen=True)
class Normal:
    """N(mean, scale^2) of each value of a latent."""

    mean: float
    scale: float

    def denoise(self, z_t: Tensor, logsnr: Tensor) -> Tensor:
        """Return the posterior mean of z_clean."""
        a, s = expand(alpha(logsnr), z_t), expand(sigma(logsnr), z_t)
        variance = a**2 * self.scale**2 + s**2
        return self.mean + a * self.scale**2 / variance * (z_t - a * self.mean)

    def log_density(self, z: Tensor, logsnr: float) -> Tensor:
        """Return E log p(z_t) over the noise of z_t, given z, (I,)."""
        a_2 = 1 / (1 + math.exp(-logsnr))
        variance = a_2 * self.scale**2 + 1 - a_2
        square = a_2 * (z - self.mean).square() + 1 - a_2
        return (-0.5 * (math.log(2 * math.pi * variance) + square / variance)).flatten(1).sum(1)


NULL, USER = Normal(0.2, 0.8), Normal(-0.3, 0.6)
CALLS: list[int] = []


def denoise(shift: float):
    """Return a model that is exact for both, if sigma^2 shift is added for the user as Base does.

    A token of 1 is the user, of 0 the null.
    """

    def of(z_t: Tensor, logsnr: Tensor, cond: Cond) -> Tensor:
        assert cond.shift is None
        CALLS.append(len(z_t))
        user = cond.tokens[:, 0, 0][:, None, None, None, None]
        moved = USER.denoise(z_t, logsnr) - expand(torch.sigmoid(-logsnr), z_t) * shift
        return torch.where(user > 0, moved, NULL.denoise(z_t, logsnr))

    return of


def conditions(shift: float) -> tuple[Cond, Cond]:
    one, mask = torch.ones(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    return Cond(one, mask, shift * torch.ones(1, *SHAPE).double()), Cond(0 * one, mask)


def items(num: int = 6) -> Tensor:
    z = torch.randn(num, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return 0.7 * z


def ratio_of(z: Tensor, *, shift: float, config: LogRatioConfig) -> tuple[LogRatio, Cond]:
    cond, null = conditions(shift)
    ratio = LogRatio(denoise(shift), schedule=SCHEDULE, null=null, z=z, config=config)
    return ratio, cond


def exact(z: Tensor, user: Normal = USER, null: Normal = NULL) -> Tensor:
    """What the bounds' difference comes to: E log ratio at l_0 less that at l_1."""
    ends = [user.log_density(z, end) - null.log_density(z, end) for end in LOGSNRS]
    return ends[0] - ends[1]


def estimates(*, shift: float, num_seeds: int, **settings) -> np.ndarray:
    z, found = items(), []
    for seed in range(num_seeds):
        config = LogRatioConfig(num_levels=(2, 3), keep=(6, 6), seed=seed, **settings)
        ratio, cond = ratio_of(z, shift=shift, config=config)
        found.append(ratio.full(cond, torch.arange(len(z))).numpy())
    return np.array(found)


@pytest.mark.parametrize("shift", [0.0, -0.4])
@pytest.mark.parametrize("proposal", [BROAD, {"centre": -2.0, "scale": 2.0}])
def test_it_is_unbiased_whatever_the_proposal_and_the_shift(shift, proposal) -> None:
    found = estimates(shift=shift, num_seeds=800, **proposal)
    error = found.mean(0) - exact(items()).numpy()
    deviation = found.std(0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(error) < 4 * deviation).all()
    assert deviation.max() < 0.1 * np.ptp(exact(items()).numpy())


def test_common_noise_makes_comparisons_of_items_cheaper() -> None:
    found = estimates(shift=-0.4, num_seeds=300, **BROAD)
    common = np.var(found - found[:, :1], axis=0)[1:]
    # Without common numbers each item has levels and noises of its own: those of another seed.
    own = np.var(found - np.roll(found, 1, axis=0)[:, :1], axis=0)[1:]
    assert common.mean() < 0.6 * own.mean()


def test_a_shift_of_a_normal_catalogue_needs_no_estimate() -> None:
    """N(mu, 1) against N(0, 1): A (mu.z - |mu|^2 / 2), without any noise."""
    z, mu = items(), 0.9
    cond, null = conditions(mu)
    standard = Normal(0.0, 1.0)
    ratio = LogRatio(
        lambda z_t, logsnr, cond: standard.denoise(z_t, logsnr),
        schedule=SCHEDULE,
        null=null,
        z=z,
        config=LogRatioConfig(num_levels=(1,), keep=(6,)),
    )
    found = ratio.full(cond, torch.arange(6))
    a = 1 / (1 + math.exp(-5.0)) - 1 / (1 + math.exp(10.0))
    by_hand = a * (mu * z.flatten(1).sum(1) - 0.5 * 4 * mu**2)
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found, exact(z, Normal(mu, 1.0), standard), rtol=1e-10, atol=1e-10)


def test_keeping_everybody_is_the_full_computation() -> None:
    config = LogRatioConfig(num_levels=(2, 3, 4), keep=(6, 6, 6), **BROAD)
    ratio, cond = ratio_of(items(), shift=0.3, config=config)
    rows = torch.tensor([4, 0, 2])
    raced = ratio.race(cond, rows)
    torch.testing.assert_close(raced.ratio, ratio.full(cond, rows), rtol=1e-12, atol=1e-12)
    assert raced.rounds.tolist() == [3, 3, 3] and ratio.num_evaluations == 2 * 3 * 9


def test_a_race_pays_for_those_that_are_left() -> None:
    config = LogRatioConfig(num_levels=(1, 5), keep=(4, 2), **BROAD)
    ratio, cond = ratio_of(items(), shift=0.3, config=config)
    CALLS.clear()
    standing = torch.tensor([0.0, 5.0, 4.0, 3.0, -9.0, 2.0])
    raced = ratio.race(cond, torch.arange(6), standing=standing)
    assert ratio.num_evaluations == 4 * 1 + 2 * 5
    assert ratio.num_null_evaluations == 4 * 6  # the four that raced, at all levels
    assert sum(CALLS) == ratio.num_evaluations + ratio.num_null_evaluations
    assert raced.rounds[[0, 4]].tolist() == [0, 0] and sorted(raced.rounds.tolist())[-2:] == [2, 2]
    torch.testing.assert_close(raced.ratio[[0, 4]], standing[[0, 4]].double())
    winners = torch.nonzero(raced.rounds == 2)[:, 0]
    full = ratio.full(cond, torch.arange(6))
    torch.testing.assert_close(raced.ratio[winners], full[winners], rtol=1e-12, atol=1e-12)
    again = ratio.race(cond, torch.arange(6), standing=standing)  # the null pass is kept
    assert again.ratio.equal(raced.ratio) and ratio.num_null_evaluations == 6 * 6


def test_the_offset_decides_who_races() -> None:
    config = LogRatioConfig(num_levels=(1,), keep=(1,), **BROAD)
    ratio, cond = ratio_of(items(), shift=0.3, config=config)
    offset = torch.tensor([0.0, 0.0, 0.0, 1e3, 0.0, 0.0])
    raced = ratio.race(cond, torch.arange(6), offset=offset)
    assert raced.rounds.tolist() == [0, 0, 0, 1, 0, 0]
    assert ratio.race(cond, torch.arange(6), at_least=4).rounds.sum() == 4


def test_a_catalogue_of_a_gaussian_has_its_exact_ratio() -> None:
    """G is the closed form of the bounds' integral: with variance c it is that of two normals."""
    z = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = (z - z.mean(0)).flatten(1)
    root = torch.linalg.cholesky(z.T @ z / (len(z) - 1))
    white = torch.linalg.solve_triangular(root, z.T, upper=False).T.unflatten(1, SHAPE)
    z = 0.2 + 0.5 * white  # now mean 0.2 and covariance 0.25 I, to the last digit
    cond, null = conditions(0.3)
    found = GaussianRatio(schedule=SCHEDULE, z=z)(cond, torch.arange(40))[0]
    expected = exact(z, Normal(0.5, 0.5), Normal(0.2, 0.5))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert not GaussianRatio(schedule=SCHEDULE, z=z)(null, torch.arange(3)).any()


def test_the_integrand_adds_up_to_the_estimate() -> None:
    mu, z = 0.3, items()
    ratio, cond = ratio_of(z, shift=mu, config=LogRatioConfig(num_levels=(3,), keep=(6,)))
    rows = torch.arange(6)
    added = (ratio.weight * ratio.integrand(cond, rows)).mean(1)
    a_2 = torch.sigmoid(ratio.logsnr)
    gap = 1 / (1 + math.exp(-5.0)) - 1 / (1 + math.exp(10.0))
    known = gap - (ratio.weight * a_2 * (1 - a_2)).mean()  # of the closed form, not estimated
    by_hand = added + known * (mu * z.flatten(1).sum(1) - 0.5 * 4 * mu**2)
    torch.testing.assert_close(ratio.full(cond, rows), by_hand, rtol=1e-10, atol=1e-10)


def test_the_proposal_follows_the_spread() -> None:
    logsnr = torch.linspace(-10, 5, 400, dtype=torch.float64)
    place = torch.sigmoid((logsnr + 2) / 0.6)
    centre, scale = fitted_proposal(logsnr, place * (1 - place))
    assert centre == pytest.approx(-2, abs=0.01) and scale == pytest.approx(0.6, abs=0.01)


def test_it_is_the_difference_of_the_bases_own_losses(randomised) -> None:
    network = TransformerConfig(width=16, depth=1, head_width=8, cond_width=8)
    base = randomised(Base(BaseConfig(latent_shape=(2, 1, 2, 2), network=network))).double()
    generator = torch.Generator().manual_seed(2)
    z, shift, tokens = (
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in ((3, 2, 1, 2, 2), (1, 2, 1, 2, 2), (2, 2, 8))
    )
    mask = torch.ones(1, 2, dtype=torch.bool)
    cond, null = Cond(tokens[:1], mask, shift), Cond(tokens[1:], mask)
    schedule = base.config.schedule_z
    config = LogRatioConfig(num_levels=(3,), keep=(3,))
    ratio = LogRatio(base.denoise, schedule=schedule, null=null, z=z, config=config)
    found = ratio.full(cond, torch.arange(3))
    expected = torch.zeros(3, dtype=torch.float64)
    for logsnr, weight, eps in zip(ratio.logsnr, ratio.weight, ratio._eps, strict=True):
        a, s = torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()
        z_t = a * z + s * eps
        for sign, one in ((1, null), (-1, cond)):
            given = Cond(*(None if x is None else x.expand(3, *x.shape[1:]) for x in one))
            with torch.no_grad():
                error = (z - base.denoise(z_t, logsnr.expand(3), given)).square().flatten(1).sum(1)
            expected += sign * weight * 0.5 * logsnr.exp() * error / 3
    # They differ by what has mean 0 or is known: the control variate of the shift.
    gap = 1 / (1 + math.exp(-5.0)) - 1 / (1 + math.exp(10.0))
    a_2 = torch.sigmoid(ratio.logsnr)
    noise = (ratio.weight * a_2 * (a_2 * (1 - a_2)).sqrt())[:, None] * ratio._eps.flatten(1)
    spread = gap - (ratio.weight * a_2 * (1 - a_2)).mean()
    known = z.flatten(1) * spread + noise.mean(0)
    flat = shift.flatten()
    torch.testing.assert_close(found - expected, known @ flat - 0.5 * spread * flat @ flat)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_levels": (), "keep": ()}, "num_levels"),
        ({"num_levels": (2, 0)}, "num_levels"),
        ({"keep": (3,)}, "keep has to hold a number from 1 for each of 2 rounds"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_bad_settings_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        LogRatioConfig(**settings)
