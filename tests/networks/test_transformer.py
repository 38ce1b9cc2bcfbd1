from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from ulrec.networks.transformer import (
    Attention,
    Block,
    Cond,
    LatentTransformer,
    OuterConfig,
    TransformerConfig,
    place_features,
    positions_of,
    rotary_angles,
    turns_of,
)

TINY = TransformerConfig(width=16, depth=2, head_width=8)
CONDITIONED = TransformerConfig(width=16, depth=2, head_width=8, cond_width=6)
TWO_LEVELS = dataclasses.replace(CONDITIONED, width=24, outer=OuterConfig(width=16, depth=2))


def randomise(module):
    """Move all weights, so that nothing is zero any more."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def condition(num: int, *, num_tokens: int = 3) -> Cond:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(num, num_tokens, 6, generator=generator)
    return Cond(tokens, torch.ones(num, num_tokens, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(2, 4, 1, 4, 4), (1, 4, 1, 12, 8), (2, 4, 4, 6, 2)])
@pytest.mark.parametrize("config", [TINY, CONDITIONED, TWO_LEVELS])
def test_shapes(config, shape):
    network = randomise(LatentTransformer(config, channels=4))
    cond = condition(shape[0]) if config.cond_width else None
    v = network(torch.randn(shape), torch.zeros(shape[0]), cond)
    assert v.shape == shape
    assert v.abs().max() > 0


@pytest.mark.parametrize("config", [CONDITIONED, TWO_LEVELS])
def test_starts_at_exactly_zero(config):
    network = LatentTransformer(config, channels=4)
    assert not network(torch.randn(2, 4, 1, 4, 4), torch.zeros(2), condition(2)).any()


@pytest.mark.parametrize("shape", [(2, 4, 1, 4, 4), (1, 4, 1, 12, 8), (1, 4, 4, 2, 6)])
def test_patches(shape):
    """Two by two latents a token: a change in one reaches the whole grid and comes out in place."""
    config = dataclasses.replace(TINY, patch=2)
    network = randomise(LatentTransformer(config, channels=4))
    z, logsnr = torch.randn(shape), torch.zeros(shape[0])
    v = network(z, logsnr)
    assert v.shape == shape
    z[:, :, 0, 1, 1] += 1
    changed = (network(z, logsnr) - v).abs().flatten(3).amax((0, 1))
    assert (changed > 0).all()
    alone = LatentTransformer(dataclasses.replace(config, depth=0), channels=4)
    with torch.no_grad():  # without blocks a token answers for its own patch only
        randomise(alone)
    z = torch.randn(shape)
    v = alone(z, logsnr)
    z[:, :, 0, 1, 1] += 1
    changed = (alone(z, logsnr) - v).abs().amax((0, 1)) > 1e-6
    expected = torch.zeros(shape[2:], dtype=torch.bool)
    expected[0, :2, :2] = True
    assert torch.equal(changed, expected)


def test_two_levels():
    """Outer blocks see the whole grid, inner ones a quarter of the tokens, all the same level."""
    network = randomise(LatentTransformer(TWO_LEVELS, channels=4))
    seen = {}
    for name in ("outer.before.0", "blocks.0", "blocks.1", "outer.after.0"):
        block = network.get_submodule(name)
        block.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].shape})
        )
    z, logsnr, cond = torch.randn(1, 4, 1, 4, 6), torch.zeros(1), condition(1)
    v = network(z, logsnr, cond)
    assert seen == {
        "outer.before.0": (1, 24, 16),
        "blocks.0": (1, 6, 24),
        "blocks.1": (1, 6, 24),
        "outer.after.0": (1, 24, 16),
    }
    assert not torch.allclose(v, network(z, logsnr + 1, cond))
    assert not torch.allclose(v, network(z, logsnr, condition(1, num_tokens=2)))
    assert TWO_LEVELS.stride == 2
    assert dataclasses.replace(TWO_LEVELS, patch=2).stride == 4
    assert CONDITIONED.stride == 1


def test_the_inner_level_sees_and_answers_its_own_two_by_two():
    """Without blocks a change in one latent stays in the 2x2 tokens that the levels share."""
    network = LatentTransformer(dataclasses.replace(TWO_LEVELS, depth=0), channels=4)
    network.outer.before, network.outer.after = torch.nn.ModuleList(), torch.nn.ModuleList()
    randomise(network)
    z, logsnr = torch.randn(1, 4, 2, 4, 6), torch.zeros(1)
    v = network(z, logsnr)
    z[:, :, 1, 3, 2] += 1
    changed = (network(z, logsnr) - v).abs().amax((0, 1)) > 1e-6
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    expected[1, 2:, 2:4] = True
    assert torch.equal(changed, expected)


def test_a_block_starts_as_the_identity():
    block = Block(CONDITIONED)
    x, embedding = torch.randn(2, 4, 16), torch.randn(2, 16)
    positions = positions_of((1, 2, 2), CONDITIONED, num_frames=1, device=x.device)
    assert torch.equal(block(x, embedding, condition(2), positions), x)


def test_independent_of_the_batch():
    network = randomise(LatentTransformer(CONDITIONED, channels=4))
    z, logsnr, cond = torch.randn(3, 4, 1, 4, 4), torch.tensor([-5.0, 0.0, 5.0]), condition(3)
    together = network(z, logsnr, cond)
    alone = network(z[1:2], logsnr[1:2], Cond(cond.tokens[1:2], cond.mask[1:2]))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_depends_on_level_and_condition():
    network = randomise(LatentTransformer(CONDITIONED, channels=4))
    z, cond = torch.randn(1, 4, 1, 4, 4), condition(1)
    v = network(z, torch.zeros(1), cond)
    assert not torch.allclose(v, network(z, torch.ones(1), cond))
    assert not torch.allclose(v, network(z, torch.zeros(1), Cond(-cond.tokens, cond.mask)))
    assert not torch.allclose(v, network(z, torch.zeros(1)))


def test_masked_tokens_say_nothing():
    network = randomise(LatentTransformer(CONDITIONED, channels=4))
    z, logsnr, cond = torch.randn(2, 4, 1, 4, 4), torch.zeros(2), condition(2, num_tokens=5)
    mask = torch.tensor([[True, False, True, False, False], [True, True, True, False, True]])
    v = network(z, logsnr, Cond(cond.tokens, mask))
    replaced = torch.where(mask[..., None], cond.tokens, torch.full_like(cond.tokens, 50.0))
    torch.testing.assert_close(network(z, logsnr, Cond(replaced, mask)), v, atol=1e-6, rtol=0)
    few = Cond(cond.tokens[:1, [0, 2]], torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(network(z[:1], logsnr[:1], few), v[:1], atol=1e-5, rtol=0)
    shown = Cond(cond.tokens, torch.ones_like(mask))
    assert not torch.allclose(network(z, logsnr, shown), v, atol=1e-3)


def test_an_unconditional_network_refuses_a_condition():
    network = LatentTransformer(TINY, channels=4)
    with pytest.raises(ValueError, match=r"unconditional.*cond_width"):
        network(torch.randn(2, 4, 1, 4, 4), torch.zeros(2), condition(2))


def test_queries_and_keys_are_normalised():
    """QK-norm: the scale of queries and keys before it does not matter, that of values does."""
    torch.manual_seed(0)
    attention = Attention(16, 8)
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(2, 5, 16)
    before = attention(x)
    with torch.no_grad():
        attention.to_q.weight *= 7
        attention.to_kv.weight[:16] *= 0.5
    torch.testing.assert_close(attention(x), before, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        attention.to_kv.weight[16:] *= 2
    bias = attention.out.bias
    torch.testing.assert_close(attention(x) - bias, 2 * (before - bias), atol=1e-5, rtol=1e-5)


def test_angles_of_a_single_frame_turn_nothing_in_time():
    head_width = 32
    angles = rotary_angles((1, 3, 5), head_width)
    assert angles.shape == (15, 16)
    assert not angles[:, :4].any()  # the pairs of the frame come first
    clip = rotary_angles((4, 3, 5), head_width)
    assert torch.equal(clip[:15], angles)
    assert torch.equal(clip[15:30, 4:], angles[:, 4:])
    assert (clip[15:30, :4] > 0).all()


@pytest.mark.parametrize("head_width", [8, 16, 32, 64, 128])
def test_angles_tell_all_positions_apart(head_width):
    angles = rotary_angles((3, 4, 5), head_width)
    assert angles.shape == (60, head_width // 2)
    distance = torch.cdist(angles, angles) + torch.eye(60)
    assert distance.min() > 1e-3


def test_places_tell_tokens_apart_at_any_size():
    picture = place_features((1, 6, 4))
    assert picture.shape == (24, 16)
    assert torch.cdist(picture, picture).fill_diagonal_(1).min() > 0.1
    torch.testing.assert_close(place_features((2, 6, 4)), torch.cat([picture, picture]))
    finer = place_features((1, 18, 12)).reshape(18, 12, 16)[1::3, 1::3].reshape(24, 16)
    torch.testing.assert_close(finer, picture)


def turned_by_hand(attention: Attention, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Attention with its steps spelt out: pairs (i, i + half) of a head turn together."""
    width, half = x.shape[-1], attention.head_width // 2
    k, v = attention.to_kv(x).split(width, dim=-1)
    q, k, v = (a.unflatten(-1, (-1, 2 * half)).transpose(1, 2) for a in (attention.to_q(x), k, v))
    q, k = attention.norm_q(q), attention.norm_k(k)
    cos, sin = angles.cos(), angles.sin()

    def turn(a: torch.Tensor) -> torch.Tensor:
        one, two = a.split(half, dim=-1)
        return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)

    weights = (turn(q) @ turn(k).mT / math.sqrt(2 * half)).softmax(-1)
    return attention.out((weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("num_heads", [1, 3])
def test_attention_and_its_gradients_are_those_of_the_steps_spelt_out(num_heads):
    torch.manual_seed(0)
    attention = Attention(16 * num_heads, 16).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 6, 16 * num_heads, dtype=torch.float64, requires_grad=True)
    angles = rotary_angles((1, 2, 3), 16).double()
    wanted = [x, *attention.parameters()]
    into = torch.randn(x.shape, dtype=torch.float64)
    found = [attention(x, rotary=turns_of(angles)), turned_by_hand(attention, x, angles)]
    torch.testing.assert_close(*found)
    gradients = [torch.autograd.grad(out, wanted, into) for out in found]
    torch.testing.assert_close(*gradients)


def test_turned_attention_in_bfloat16_is_close_to_that_in_float32():
    torch.manual_seed(0)
    attention = Attention(32, 16)
    torch.nn.init.normal_(attention.out.weight)
    x, turns = torch.randn(2, 6, 32), turns_of(rotary_angles((1, 2, 3), 16))
    exact = attention(x, rotary=turns)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = attention(x, rotary=turns)
    whole = attention.bfloat16()(x.bfloat16(), rotary=turns)
    for rough in (under_autocast, whole):
        assert rough.dtype == torch.bfloat16
        assert (rough - exact).norm() < 0.02 * exact.norm()


def test_rotary_dot_products_depend_on_the_offset_only():
    """The same content at shifted positions attends in the same way, in each axis."""
    torch.manual_seed(0)
    attention = Attention(32, 32).double()
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 8, 32, dtype=torch.float64)
    grid = rotary_angles((6, 7, 8), 32).double().reshape(6, 7, 8, 16)

    def attend(frame: int, row: int, column: int) -> torch.Tensor:
        box = grid[frame : frame + 2, row : row + 2, column : column + 2].reshape(8, 16)
        return attention(x, rotary=turns_of(box))

    reference = attend(0, 0, 0)
    for corner in [(3, 0, 0), (0, 4, 0), (0, 0, 5), (4, 5, 6)]:
        torch.testing.assert_close(attend(*corner), reference, atol=1e-6, rtol=0)
    stretched = grid[::3, :2, :2].reshape(8, 16)
    other = attention(x, rotary=turns_of(stretched))
    assert not torch.allclose(other, reference, atol=1e-3)


def test_rotary_rotation_keeps_lengths():
    """Values that all agree are not changed by any rotation of queries and keys."""
    torch.manual_seed(0)
    attention = Attention(16, 16)
    torch.nn.init.eye_(attention.out.weight)
    x = torch.randn(1, 1, 16).expand(1, 6, 16)
    angles = rotary_angles((1, 2, 3), 16)
    rotated = attention(x, rotary=turns_of(angles))
    torch.testing.assert_close(rotated, attention(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 40, "head_width": 16}, "head_width 16 has to divide width 40"),
        ({"width": 24, "head_width": 12}, "multiple of 8"),
        ({"width": 0}, "width"),
        ({"head_width": 0}, "head_width"),
        ({"dropout": -0.1}, "dropout"),
        ({"patch": 0}, "patch"),
        ({"outer": OuterConfig(width=48)}, "head_width 32 has to divide the outer width 48"),
    ],
)
def test_bad_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**wrong)


@pytest.mark.parametrize("depth", [0, 3])
def test_an_outer_level_has_two_halves(depth):
    with pytest.raises(ValueError, match=f"even depth.*got {depth}"):
        OuterConfig(depth=depth)
