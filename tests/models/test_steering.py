"""Towards one condition and away from another: the formula, and that a base follows it."""

import pytest
import torch

from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.steering import sample_away, towards_and_away
from ulrec.networks.transformer import TransformerConfig

SHAPE = (4, 1, 4, 4)


def constant(x_t: torch.Tensor, logsnr: torch.Tensor, cond: float) -> torch.Tensor:
    return torch.full_like(x_t, cond)


@pytest.mark.parametrize(
    ("scale", "weight", "expected"),
    [
        (0.0, 0.5, 1.0),  # null alone
        (2.0, 0.0, 5.0),  # 1 + 2 (3 - 1)
        (2.0, 0.5, -4.0),  # 1 + 2 ((3 - 1) - 0.5 (10 - 1))
        (1.0, 1.0, -6.0),  # 1 + (3 - 10)
    ],
)
def test_the_formula(scale: float, weight: float, expected: float) -> None:
    steered = towards_and_away(constant, 1.0, 10.0, scale=scale, weight=weight)
    answer = steered(torch.zeros(2, 3), torch.zeros(2), 3.0)
    torch.testing.assert_close(answer, torch.full((2, 3), expected))


def test_above_the_end_of_guidance_the_condition_stands_alone() -> None:
    steered = towards_and_away(constant, 1.0, 10.0, scale=2.0, weight=0.5, until=0.0)
    assert steered(torch.zeros(1, 1), torch.ones(1), 3.0).item() == 3.0
    assert steered(torch.zeros(1, 1), -torch.ones(1), 3.0).item() == -4.0


@pytest.fixture
def model() -> tuple[Base, UserConditioner]:
    torch.manual_seed(0)
    network = TransformerConfig(width=32, depth=1, head_width=16, cond_width=16)
    base = Base(BaseConfig(latent_shape=SHAPE, network=network))
    for parameter in base.parameters():  # past the zeros of new layers
        torch.nn.init.normal_(parameter, std=0.05)
    config = UserConditionerConfig(num_factors=3, num_tokens=2, width=16, hidden=8)
    return base, UserConditioner(config)


def test_nothing_to_keep_away_from_is_plain_guidance(model: tuple[Base, UserConditioner]) -> None:
    base, conditioner = model
    cond, null = conditioner(torch.randn(2, 3)), conditioner.null(2)
    sampler = SamplerConfig(num_steps=3)
    plain = base.sample(cond, null=null, guidance=2.0, seeds=[1, 2], sampler=sampler)
    away = sample_away(
        base,
        cond,
        null=null,
        away=null,
        guidance=2.0,
        weight=0.5,
        seeds=[1, 2],
        sampler=sampler,
    )
    torch.testing.assert_close(away.x_0, plain.x_0)
    torch.testing.assert_close(away.x_hat, plain.x_hat)


def test_a_dislike_moves_the_draw_and_seeds_are_counted(
    model: tuple[Base, UserConditioner],
) -> None:
    base, conditioner = model
    cond, away = conditioner(torch.randn(2, 3)), conditioner(torch.randn(2, 3))
    null, sampler = conditioner.null(2), SamplerConfig(num_steps=3)
    drawn = [
        sample_away(
            base,
            cond,
            null=null,
            away=away,
            guidance=2.0,
            weight=weight,
            seeds=[1, 2],
            sampler=sampler,
        ).x_hat
        for weight in (0.0, 1.0)
    ]
    assert (drawn[0] - drawn[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="one seed for each of 2"):
        sample_away(
            base, cond, null=null, away=away, guidance=2.0, weight=1.0, seeds=[1], sampler=sampler
        )
