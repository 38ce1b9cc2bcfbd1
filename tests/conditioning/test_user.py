from __future__ import annotations

import pytest
import torch

from ulrec.conditioning.user import UserConditioner, UserConditionerConfig

CONFIG = UserConditionerConfig(num_factors=5, num_tokens=3, width=6, hidden=8)


@pytest.fixture
def users():
    torch.manual_seed(0)
    return UserConditioner(CONFIG)


def test_tokens_and_mask(users):
    cond = users(torch.randn(4, 5))
    assert cond.tokens.shape == (4, 3, 6)
    assert cond.mask.shape == (4, 3)
    assert cond.mask.dtype == torch.bool
    assert cond.mask.all()


def test_users_differ_and_do_not_depend_on_the_batch(users):
    factors = torch.randn(4, 5)
    tokens = users(factors).tokens
    assert (torch.cdist(tokens.flatten(1), tokens.flatten(1)) + torch.eye(4)).min() > 1e-3
    torch.testing.assert_close(users(factors[2:3]).tokens, tokens[2:3], atol=1e-6, rtol=0)


def test_null_is_one_learned_condition(users):
    null = users.null(3)
    assert null.tokens.shape == (3, 3, 6)
    assert null.mask.all()
    assert torch.equal(null.tokens[0], null.tokens[2])
    assert torch.equal(null.tokens[0], users.null_tokens)
    null.tokens.sum().backward()
    assert users.null_tokens.grad.tolist() == torch.full((3, 6), 3.0).tolist()


def test_keep_puts_the_null_in_the_place_of_users(users):
    factors, keep = torch.randn(4, 5), torch.tensor([True, False, True, False])
    tokens, everyone = users(factors, keep=keep).tokens, users(factors).tokens
    assert torch.equal(tokens[keep], everyone[keep])
    assert torch.equal(tokens[~keep], users.null(2).tokens)
    assert torch.equal(users(factors, keep=torch.ones(4, dtype=torch.bool)).tokens, everyone)


def test_gradient_reaches_users_and_null(users):
    tokens = users(torch.randn(4, 5), keep=torch.tensor([True, False, True, False])).tokens
    tokens.square().sum().backward()
    assert all(parameter.grad.any() for parameter in users.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5])
def test_share_of_dropped_users(dropout):
    users = UserConditioner(UserConditionerConfig(dropout=dropout))
    keep = users.drop(100_000, torch.Generator().manual_seed(0))
    assert keep.shape == (100_000,)
    assert keep.dtype == torch.bool
    assert 1 - keep.float().mean().item() == pytest.approx(dropout, abs=0.005)


def test_dropped_users_follow_the_generator(users):
    draws = [users.drop(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_standardised_factors_have_no_scale(users):
    factors = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    users.standardise(factors)
    torch.testing.assert_close(users.mean, factors.mean(0))
    torch.testing.assert_close(users.scale, factors.std(0, correction=0))
    before = users(factors).tokens
    stretch, shift = torch.tensor([1e-3, 1.0, 5.0, 40.0, 0.1]), torch.arange(5.0)
    users.standardise(factors * stretch + shift)
    torch.testing.assert_close(users(factors * stretch + shift).tokens, before, atol=2e-3, rtol=0)


def test_standardisation_is_kept_with_the_weights(users):
    users.standardise(torch.randn(20, 5) * 4 + 2)
    other = UserConditioner(CONFIG)
    other.load_state_dict(users.state_dict())
    factors = torch.randn(2, 5)
    assert torch.equal(other(factors).tokens, users(factors).tokens)


def test_a_constant_factor_does_not_blow_up(users):
    """A column of ones, as some factorisations have, and a user in whom it is zero."""
    factors = torch.cat([torch.randn(50, 4), torch.ones(50, 1)], dim=1)
    users.standardise(factors)
    tokens = users(torch.zeros(1, 5)).tokens
    assert tokens.abs().max() < 10


def test_a_single_pair_standardises_to_something_finite(users):
    users.standardise(torch.randn(1, 5))
    assert users(torch.randn(2, 5)).tokens.isfinite().all()


def test_factors_of_another_width_are_refused(users):
    with pytest.raises(ValueError, match=r"5 factors, got 4; use the factors it was trained"):
        users(torch.randn(2, 4))


@pytest.mark.parametrize("dropout", [-0.1, 1.5])
def test_a_dropout_that_is_no_share_is_refused(dropout):
    with pytest.raises(ValueError, match=r"dropout has to lie in \[0, 1\]"):
        UserConditionerConfig(dropout=dropout)


SHAPE = (2, 1, 3, 2)


@pytest.fixture
def shifting():
    torch.manual_seed(0)
    return UserConditioner(UserConditionerConfig(num_factors=5, latent_shape=SHAPE, ridge=0.01))


def pairs(num=400):
    generator = torch.Generator().manual_seed(1)
    factors = 3 * torch.randn(num, 5, generator=generator) + 1
    z = torch.randn(30, *SHAPE, generator=generator)
    return factors, z, torch.randint(30, (num,), generator=generator)


def test_the_shift_is_the_ridge_regression_of_the_latents(shifting):
    factors, z, rows = pairs()
    shifting.standardise(factors)
    shifting.fit_shift(factors, z, rows)
    x = ((factors - factors.mean(0)) / factors.std(0, correction=0)).double()
    y = z[rows].flatten(1).double()  # one row a pair
    eye = torch.eye(5, dtype=torch.float64)
    wanted = torch.linalg.solve(x.T @ x / 400 + 0.01 * eye, x.T @ (y - y.mean(0)) / 400)
    torch.testing.assert_close(shifting.to_shift.double(), wanted, rtol=1e-4, atol=1e-6)
    shift = shifting(factors[:3]).shift
    assert shift.shape == (3, *SHAPE)
    torch.testing.assert_close(shift.flatten(1).double(), x[:3] @ wanted, rtol=1e-4, atol=1e-5)


def test_a_linear_taste_is_found(shifting):
    """Latents that are a linear map of the factors come back, shrunk by 1 / (1 + ridge)."""
    generator = torch.Generator().manual_seed(2)
    factors = torch.randn(1000, 5, generator=generator)
    taste = torch.randn(5, 12, generator=generator)
    z = (factors @ taste).unflatten(1, SHAPE)
    shifting.standardise(factors)
    shifting.fit_shift(factors, z, torch.arange(1000))
    found = shifting(factors).shift
    torch.testing.assert_close(1.01 * found, z - z.mean(0), rtol=0.02, atol=0.02)


def test_nobody_and_the_mean_user_are_not_shifted(shifting):
    factors, z, rows = pairs()
    shifting.standardise(factors)
    shifting.fit_shift(factors, z, rows)
    assert shifting.null(2).shift is None
    keep = torch.tensor([True, False])
    shift = shifting(factors[:2], keep=keep).shift
    assert shift[0].abs().max() > 0.01
    assert torch.equal(shift[1], torch.zeros(SHAPE))
    assert shifting(factors.mean(0, keepdim=True)).shift.abs().max() < 1e-5


def test_waves_make_it_kernel_ridge_regression():
    """With many waves the shift is that of the linear plus the Gaussian kernel, in dual form."""
    waves = 2000
    users = UserConditioner(
        UserConditionerConfig(num_factors=2, latent_shape=SHAPE, ridge=0.1, waves=waves)
    )
    generator = torch.Generator().manual_seed(1)
    factors = torch.randn(40, 2, generator=generator)
    z = torch.randn(12, *SHAPE, generator=generator)
    rows = torch.randint(12, (40,), generator=generator)
    users.standardise(factors)
    users.fit_shift(factors, z, rows)
    x = ((factors - users.mean) / users.scale).double()
    # cos(w x + b) cos(w y + b) is on average exp(-|x - y|^2 / 2 R) / 2, here with R = 2 factors
    kernel = x @ x.T + waves / 2 * torch.exp(-torch.cdist(x, x).square() / 4)
    eye = torch.eye(40, dtype=torch.float64)
    kernel = (eye - 1 / 40) @ kernel @ (eye - 1 / 40)
    y = z[rows].flatten(1).double()
    ridge = 0.1 * kernel.trace() / (2 + waves)
    wanted = kernel @ torch.linalg.solve(kernel + ridge * eye, y - y.mean(0))
    found = users(factors).shift.flatten(1).double()
    assert (found - wanted).norm() < 0.1 * wanted.norm()


def test_waves_find_a_taste_that_no_line_can():
    generator = torch.Generator().manual_seed(2)
    factors = torch.randn(3000, 5, generator=generator)
    z = factors[:, :1].square().expand(-1, 12).unflatten(1, SHAPE).contiguous()
    errors = {}
    for waves in (0, 500):
        config = UserConditionerConfig(num_factors=5, latent_shape=SHAPE, ridge=0.01, waves=waves)
        users = UserConditioner(config)
        users.standardise(factors)
        users.fit_shift(factors, z, torch.arange(3000))
        errors[waves] = float((users(factors).shift - (z - z.mean(0))).square().mean())
    assert errors[0] > 0.9 * float(z.var())
    assert errors[500] < 0.2 * float(z.var())


def test_waves_average_to_nothing_and_do_not_depend_on_the_seed():
    factors, z, rows = pairs()
    config = UserConditionerConfig(num_factors=5, latent_shape=SHAPE, waves=50)
    shifts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        users = UserConditioner(config)
        users.standardise(factors)
        users.fit_shift(factors, z, rows)
        shifts.append(users(factors).shift)
    assert torch.equal(*shifts)
    assert shifts[0].mean(0).abs().max() < 1e-5 < shifts[0].abs().max()


def test_fewer_waves_than_none_are_refused():
    with pytest.raises(ValueError, match="waves"):
        UserConditionerConfig(waves=-1)


def test_no_latents_no_shift(users):
    assert users(torch.randn(2, 5)).shift is None


def test_a_ridge_of_nothing_is_refused():
    with pytest.raises(ValueError, match="ridge"):
        UserConditionerConfig(ridge=0.0)
