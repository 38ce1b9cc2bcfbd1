"""Several sources of conditions: tokens side by side, nulls, the mean shift, dropout."""

from __future__ import annotations

import pytest
import torch

from ulrec.conditioning.source import Source, SourceConfig
from ulrec.conditioning.sources import Sources, SourcesConfig

SHAPE = (2, 1, 2, 2)


def config(num_factors, num_tokens, **more):
    return SourceConfig(
        num_factors=num_factors, num_tokens=num_tokens, width=6, latent_shape=SHAPE, **more
    )


@pytest.fixture
def sources():
    torch.manual_seed(0)
    made = Sources(SourcesConfig(user=config(5, 2), category=config(3, 1, ridge=1e-6)))
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(30, *SHAPE, generator=generator)
    rows = torch.randint(30, (400,), generator=generator)
    vectors = {
        "user": torch.randn(400, 5, generator=generator),
        "category": torch.nn.functional.one_hot(rows % 3, 3).float(),
    }
    made.fit(vectors, z, rows)
    made.z, made.rows = z, rows
    return made


def given(num=4):
    generator = torch.Generator().manual_seed(2)
    category = torch.eye(3)[torch.arange(num) % 3]
    return {"user": torch.randn(num, 5, generator=generator), "category": category}


def test_tokens_stand_side_by_side_in_a_fixed_order(sources):
    vectors = given()
    cond = sources(dict(reversed(vectors.items())))
    assert cond.tokens.shape == (4, 3, 6) and cond.mask.all() and cond.mask.shape == (4, 3)
    assert torch.equal(cond.tokens[:, :2], sources["user"](vectors["user"]).tokens)
    assert torch.equal(cond.tokens[:, 2:], sources["category"](vectors["category"]).tokens)


def test_one_source_alone_leaves_the_others_at_their_nulls(sources):
    vectors, null = given(), sources.null(4)
    cond = sources({"category": vectors["category"]})
    assert torch.equal(cond.tokens[:, :2], null.tokens[:, :2])
    assert not torch.equal(cond.tokens[:, 2:], null.tokens[:, 2:])
    assert torch.equal(cond.shift, sources["category"](vectors["category"]).shift)
    assert null.shift is None and null.mask.all()


def test_shifts_are_averaged_over_the_sources_in_use(sources):
    vectors = given()
    alone = [sources({name: vector}).shift for name, vector in vectors.items()]
    keep = {"user": torch.tensor([True, True, False, False])}
    keep["category"] = torch.tensor([True, False, True, False])
    shift = sources(vectors, keep=keep).shift
    torch.testing.assert_close(shift[0], (alone[0][0] + alone[1][0]) / 2)
    assert torch.equal(shift[1], alone[0][1])
    assert torch.equal(shift[2], alone[1][2])
    assert torch.equal(shift[3], torch.zeros(SHAPE))


def test_zeros_say_nothing(sources):
    vectors = given()
    vectors["user"][1] = 0
    cond, null = sources({"user": vectors["user"]}), sources.null(4)
    assert torch.equal(cond.tokens[1], null.tokens[1])
    assert not cond.shift[1].any() and cond.shift[0].any()


def test_the_shift_of_a_category_is_where_its_latents_lie(sources):
    """With next to no ridge one-hot regression is the difference of means, exactly."""
    z = sources.z[sources.rows]
    found = sources({"category": torch.eye(3)}).shift
    for name in range(3):
        wanted = z[sources.rows % 3 == name].mean(0) - z.mean(0)
        torch.testing.assert_close(found[name], wanted, atol=1e-3, rtol=0)


def test_pairs_of_which_a_source_says_nothing_do_not_count_for_it():
    torch.manual_seed(0)
    made = Sources(SourcesConfig(user=config(2, 1)))
    factors = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]])
    made.fit({"user": factors}, torch.randn(3, *SHAPE), torch.arange(3))
    assert made["user"].mean.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="'user' says nothing about any pair"):
        made.fit({"user": 0 * factors}, torch.randn(3, *SHAPE), torch.arange(3))


def test_users_alone_are_what_they_were():
    torch.manual_seed(0)
    user = Source(config(5, 2))
    user.to_shift.normal_()
    vectors = given()["user"]
    cond, before = Sources.of_users(user)({"user": vectors}), user(vectors)
    assert all(torch.equal(a, b) for a, b in zip(cond[:3], before[:3], strict=True))


def test_dropout_leaves_one_source_alone_in_half_of_the_samples():
    made = Sources(SourcesConfig(user=config(2, 1, dropout=0.0), text=config(2, 1, dropout=0.0)))
    keep = made.drop(100_000, torch.Generator().manual_seed(0))
    num = keep["user"].int() + keep["text"].int()
    assert (num == 1).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert (num == 2).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert keep["user"].float().mean().item() == pytest.approx(0.75, abs=0.01)
    always = Sources(SourcesConfig(user=config(2, 1, dropout=0.5), alone=0.0))
    kept = always.drop(100_000, torch.Generator().manual_seed(0))["user"]
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_what_is_not_there_is_refused(sources):
    with pytest.raises(ValueError, match=r"no source 'text' here, only user, category; set base"):
        sources({"text": torch.zeros(1, 4)})
    with pytest.raises(ValueError, match="needs vectors of one of user, category"):
        sources({})
    with pytest.raises(ValueError, match="there has to be a source"):
        Sources(SourcesConfig())
    with pytest.raises(ValueError, match="one width"):
        SourcesConfig(user=config(2, 1), text=SourceConfig(width=8))
    with pytest.raises(ValueError, match="alone"):
        SourcesConfig(alone=1.5)
    with pytest.raises(ValueError, match="grid and max_examples"):
        SourcesConfig(grid=0)


def test_a_source_that_always_says_the_same_shifts_nothing():
    made = Sources(SourcesConfig(category=config(2, 1)))
    same = torch.tensor([[0.0, 1.0]]).repeat(5, 1)
    made.fit({"category": same}, torch.randn(5, *SHAPE), torch.arange(5))
    assert not made({"category": same[:1]}).shift.any()
