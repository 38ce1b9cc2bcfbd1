"""Towards some conditions and away from others: the formula, and that a base follows it."""

import pytest
import torch

from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.steering import Pull, pulled, sample_pulled
from ulrec.networks.transformer import TransformerConfig

SHAPE = (4, 1, 4, 4)
NULL, TO, OTHER, AWAY = 1.0, 3.0, 5.0, 10.0


def constant(x_t: torch.Tensor, logsnr: torch.Tensor, cond: float) -> torch.Tensor:
    return torch.full_like(x_t, cond)


def answer(pulls, *, logsnr: float = 0.0, until: float = float("inf"), num: int = 2):
    pulls = [Pull(cond, torch.tensor(weight).expand(num)) for cond, weight in pulls]
    steered = pulled(constant, NULL, pulls, until=until)
    return steered(torch.zeros(num, 3), torch.full((num,), logsnr), None)


@pytest.mark.parametrize(
    ("pulls", "expected"),
    [
        ([(TO, 0.0)], 1.0),  # null alone
        ([(TO, 1.0)], 3.0),  # the condition alone
        ([(TO, 2.0)], 5.0),  # 1 + 2 (3 - 1)
        ([(TO, 2.0), (AWAY, -1.0)], -4.0),  # 1 + 2 (3 - 1) - (10 - 1)
        ([(TO, 2.0), (OTHER, 0.5)], 7.0),  # 1 + 2 (3 - 1) + (5 - 1) / 2
        ([(AWAY, -1.0)], -8.0),  # 1 - (10 - 1)
    ],
)
def test_the_formula(pulls: list[tuple[float, float]], expected: float) -> None:
    torch.testing.assert_close(answer(pulls), torch.full((2, 3), expected))


@pytest.mark.parametrize(
    ("pulls", "expected"),
    [
        ([(TO, 2.0)], 3.0),
        ([(TO, 2.0), (AWAY, -1.0)], 3.0),
        ([(TO, 6.0), (OTHER, 2.0)], 3.5),  # (6 x 3 + 2 x 5) / 8
        ([(AWAY, -1.0)], 1.0),
        ([(TO, 0.0)], 1.0),
    ],
)
def test_above_the_end_of_guidance_what_pulls_stands_alone(
    pulls: list[tuple[float, float]], expected: float
) -> None:
    above = answer(pulls, logsnr=1.0, until=0.0)
    torch.testing.assert_close(above, torch.full((2, 3), expected))
    assert torch.equal(answer(pulls, logsnr=-1.0, until=0.0), answer(pulls))


def test_each_sample_has_a_weight_of_its_own() -> None:
    steered = pulled(constant, NULL, [Pull(TO, torch.tensor([0.0, 1.0, 4.0]))])
    found = steered(torch.zeros(3, 2), torch.zeros(3), None)
    assert found[:, 0].tolist() == [1.0, 3.0, 9.0]


@pytest.fixture
def model() -> tuple[Base, UserConditioner]:
    torch.manual_seed(0)
    network = TransformerConfig(width=32, depth=1, head_width=16, cond_width=16)
    base = Base(BaseConfig(latent_shape=SHAPE, network=network))
    for parameter in base.parameters():  # past the zeros of new layers
        torch.nn.init.normal_(parameter, std=0.05)
    config = UserConditionerConfig(num_factors=3, num_tokens=2, width=16, hidden=8)
    return base.eval(), UserConditioner(config)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
def test_one_condition_is_plain_guidance_to_the_bit(
    model: tuple[Base, UserConditioner], guidance: float
) -> None:
    base, conditioner = model
    cond, null = conditioner(torch.randn(2, 3)), conditioner.null(2)
    sampler = SamplerConfig(num_steps=3, guidance_until=2.0)
    plain = base.sample(cond, null=null, guidance=guidance, seeds=[1, 2], sampler=sampler)
    pulls = [Pull(cond, torch.full((2,), guidance))]
    found = sample_pulled(base, pulls, null=null, seeds=[1, 2], sampler=sampler)
    assert torch.equal(found.x_0, plain.x_0)
    assert torch.equal(found.x_hat, plain.x_hat)


def test_what_says_nothing_neither_pulls_nor_pushes(model: tuple[Base, UserConditioner]) -> None:
    base, conditioner = model
    cond, null, weight = conditioner(torch.randn(2, 3)), conditioner.null(2), torch.ones(2)
    sampler = SamplerConfig(num_steps=3)
    draw = {"null": null, "seeds": [1, 2], "sampler": sampler}
    alone = sample_pulled(base, [Pull(cond, 2 * weight)], **draw)
    both = sample_pulled(base, [Pull(cond, 2 * weight), Pull(null, -weight)], **draw)
    torch.testing.assert_close(both.x_0, alone.x_0)


def test_a_dislike_moves_the_draw_and_seeds_are_counted(
    model: tuple[Base, UserConditioner],
) -> None:
    base, conditioner = model
    cond, away = conditioner(torch.randn(2, 3)), conditioner(torch.randn(2, 3))
    draw = {"null": conditioner.null(2), "sampler": SamplerConfig(num_steps=3)}
    drawn = [
        sample_pulled(
            base,
            [Pull(cond, torch.full((2,), 2.0)), Pull(away, torch.full((2,), weight))],
            seeds=[1, 2],
            **draw,
        ).x_hat
        for weight in (0.0, -2.0)
    ]
    assert (drawn[0] - drawn[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="one seed for each of 2"):
        sample_pulled(base, [Pull(cond, torch.ones(2))], seeds=[1], **draw)
    with pytest.raises(ValueError, match="at least one condition"):
        sample_pulled(base, [], seeds=[1], **draw)


def test_pulls_are_held_to_the_size_of_what_they_pull_to():
    """Two conditions of weights 6 and 2, a push of -1: the mean of the first two has the size."""
    pattern = torch.tensor([[1.0, -1.0]])

    def denoise(x_t, logsnr, cond):
        return pattern * cond

    pulls = [Pull(4.0, torch.tensor([6.0])), Pull(2.0, torch.tensor([2.0]))]
    pulls.append(Pull(3.0, torch.tensor([-1.0])))
    x_t, logsnr = torch.zeros(1, 2), torch.zeros(1)
    plain = pulled(denoise, 1.0, pulls)(x_t, logsnr, None)
    torch.testing.assert_close(plain, (1 + 6 * 3 + 2 * 1 - 2) * pattern)
    held = pulled(denoise, 1.0, pulls, rescale=1.0)(x_t, logsnr, None)
    torch.testing.assert_close(held, (1 + 0.75 * 3 + 0.25 * 1) * pattern)
