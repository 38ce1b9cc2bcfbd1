from __future__ import annotations

import pytest
import torch

from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.networks.transformer import TransformerConfig
from ulrec.training.tasks import BaseTask, OptimiserConfig, learning_rate_factor, step_seed


def factors(num_steps, warmup, final):
    return [
        learning_rate_factor(step, num_steps=num_steps, warmup=warmup, final=final)
        for step in range(num_steps)
    ]


def test_learning_rate_rises_then_falls():
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert factors(8, 0.5, 0.0) == pytest.approx(expected)


def test_learning_rate_stays_above_its_final_value():
    assert factors(10, 0.2, 0.3) == pytest.approx(
        [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.3, 0.3]
    )


@pytest.mark.parametrize("num_steps", [1, 2, 5, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_learning_rate_never_starts_or_ends_at_nothing(num_steps, warmup):
    values = factors(num_steps, warmup, 0.02)
    assert all(0 < value <= 1 for value in values)
    assert max(values) == pytest.approx(1.0)


def test_steps_and_ranks_have_seeds_of_their_own():
    seeds = {
        step_seed(seed, step, rank)
        for seed in (0, 1, 2, 999_999)
        for step in range(2000)
        for rank in range(8)
    }
    assert len(seeds) == 4 * 2000 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def base_task(seed=0, dropout=0.0):
    torch.manual_seed(0)
    network = TransformerConfig(width=16, depth=1, head_width=8, cond_width=6)
    users = UserConditioner(
        UserConditionerConfig(num_factors=5, width=6, hidden=8, dropout=dropout)
    )
    base = Base(BaseConfig(latent_shape=(4, 1, 2, 2), network=network))
    return BaseTask(base, users, optimiser=OptimiserConfig(), num_steps=10, seed=seed)


def test_optimiser_is_adamw_with_the_schedule():
    task = base_task()
    (adamw,), (schedule,) = task.configure_optimizers()
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.9, 0.99)
    assert adamw.defaults["weight_decay"] == 0.01
    assert schedule["interval"] == "step"
    num_parameters = sum(len(group["params"]) for group in adamw.param_groups)
    assert num_parameters == len(list(task.parameters()))
    rates = []
    for _ in range(10):
        rates.append(adamw.param_groups[0]["lr"])
        adamw.step()
        schedule["scheduler"].step()
    assert rates == pytest.approx([1e-3 * factor for factor in factors(10, 0.1, 0.02)])


def test_random_numbers_of_a_step_follow_its_seed():
    first, again, other = (base_task(seed).generator() for seed in (0, 0, 1))
    draws = [torch.randn(3, generator=generator) for generator in (first, again, other)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_dropout_does_not_repeat_the_noise_of_the_loss():
    """The global generator is seeded too, but not with the numbers that the loss draws."""
    noise = torch.rand(5, generator=base_task().generator())
    assert not torch.equal(torch.rand(5), noise)
    base_task().generator()
    first = torch.rand(5)
    base_task().generator()
    assert torch.equal(torch.rand(5), first)


def test_a_dropped_user_learns_the_null():
    z, factors = torch.randn(4, 4, 1, 2, 2), torch.randn(4, 5)

    def loss(task, factors):
        task.log = lambda *_, **__: None  # no trainer is attached
        return task.training_step((z, factors), 0)

    dropped = base_task(dropout=1.0)
    torch.nn.init.ones_(dropped.model.network.out.weight)
    torch.nn.init.normal_(dropped.model.network.pooled.weight)
    torch.nn.init.normal_(dropped.model.network.modulation.weight)
    value = loss(dropped, factors)
    assert torch.equal(value, loss(dropped, -factors))
    value.backward()
    assert dropped.conditioner.null_tokens.grad.any()
    assert not any(p.grad.any() for p in dropped.conditioner.net.parameters())
    kept = base_task(dropout=0.0)
    kept.model.load_state_dict(dropped.model.state_dict())
    assert not torch.equal(loss(kept, factors), loss(kept, -factors))
