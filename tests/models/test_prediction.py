"""Going on from given frames: what the condition may depend on, and that a base listens to it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ulrec.diffusion.process import x_around
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.models.base import Base, BaseConfig, add_condition
from ulrec.models.prediction import given_latents, held, left_open, with_given
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.transformer import Cond, TransformerConfig

SMALL = TransformerConfig(width=16, depth=2, head_width=8, temporal="axial")
CLIPS = AutoencoderConfig(
    frames=8,
    height=8,
    width=8,
    encoder=EncoderConfig(
        channels=(8, 16), num_blocks=1, num_last_blocks=1, latent_channels=3, temporal_kernel=3,
        frame_stride=4,
    ),
    decoder=DecoderConfig(channels=(8,), num_blocks=1, temporal_kernel=3, middle=SMALL),
)  # fmt: skip
BASE = BaseConfig(latent_shape=(3, 2, 2, 2), network=SMALL)


def nobody(num: int) -> Cond:
    return Cond(torch.zeros(num, 1, 4), torch.ones(num, 1, dtype=torch.bool))


def test_held_frames():
    x = torch.arange(6.0).reshape(1, 1, 6, 1, 1)
    assert held(x, 2).flatten().tolist() == [0, 1, 1, 1, 1, 1]
    assert held(x[:, :, :2], 2, num_frames=4).flatten().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("num_given", [0, 6, 7])
def test_all_or_nothing_cannot_be_given(num_given):
    with pytest.raises(ValueError, match=f"1 to 5 can be given.*got {num_given} of 6"):
        held(torch.zeros(1, 3, 6, 8, 8), num_given)


def test_the_condition_is_bit_identical_whatever_comes_later(randomised):
    """5 frames given and 4 to a latent one: the fifth stands alone in its latent frame."""
    autoencoder = randomised(Autoencoder(CLIPS))
    x = torch.randn(2, 3, 8, 8, 8)
    given = given_latents(autoencoder, x, 5)
    assert given.shape == (2, 4, 2, 2, 2) and (given[:, -1] == 1).all()
    later = x.clone()
    later[:, :, 5:] = torch.randn(2, 3, 3, 8, 8)
    assert torch.equal(given_latents(autoencoder, later, 5), given)
    assert torch.equal(given_latents(autoencoder, x[:, :, :5], 5), given)
    later[:, :, 4] += torch.randn(2, 3, 8, 8)
    assert not torch.equal(given_latents(autoencoder, later, 5), given)


def test_a_new_base_starts_from_what_is_given(randomised):
    """Its network answers as before, about the clip that stands still."""
    base, std = randomised(Base(BASE)), torch.rand(3, 2, 1, 1) + 0.1
    continued = add_condition(base, cond_width=4, given_frames=5, given_std=std).eval()
    assert continued.config.given_frames == 5 and torch.equal(continued.given_std, std)
    z, logsnr, mean = torch.randn(2, 3, 2, 2, 2), torch.zeros(2), torch.randn(2, 3, 2, 2, 2)
    given = torch.cat([mean, torch.ones(2, 1, 2, 2, 2)], dim=1)
    v = base.network(z, logsnr)
    about = x_around(z, logsnr, v, mean=mean, std=std)
    torch.testing.assert_close(continued.denoise(z, logsnr, with_given(nobody(2), given)), about)
    assert torch.equal(continued.denoise(z, logsnr, nobody(2)), base.denoise(z, logsnr))


def test_what_given_frames_leave_open():
    z = torch.zeros(4, 2, 2, 3, 3)
    z[:, 1, 1] = torch.tensor([1.0, -1.0, 3.0, -3.0])[:, None, None]
    held_still = torch.cat([torch.zeros_like(z), torch.ones(4, 1, 2, 3, 3)], dim=1)
    found = left_open(z, held_still)
    assert found.shape == (2, 2, 1, 1)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.05, 0.05, 0.05, 5**0.5]))


def test_errors_count_in_units_of_what_is_left_open():
    """A new network, which says nothing, is off by one unit, however little is left open."""
    torch.manual_seed(0)
    mean, change = torch.randn(2, 2000, 3, 2, 2, 2)
    given = torch.cat([mean, torch.ones(2000, 1, 2, 2, 2)], dim=1)
    found = []
    for std in (1.0, 0.1):
        base = add_condition(
            Base(BASE), cond_width=4, given_frames=5, given_std=torch.full((3, 2, 1, 1), std)
        )
        with torch.no_grad():
            found.append(base.loss(mean + std * change, with_given(nobody(2000), given)).item())
    assert found[1] == pytest.approx(found[0], rel=0.03)


def test_samples_that_are_given_nothing(randomised):
    base = randomised(add_condition(Base(BASE), cond_width=4, given_frames=5))
    z, logsnr = torch.randn(2, 3, 2, 2, 2), torch.zeros(2)
    given = torch.cat([torch.randn(2, 3, 2, 2, 2), torch.ones(2, 1, 2, 2, 2)], dim=1)
    half = with_given(nobody(2), given, keep=torch.tensor([True, False]))
    made = base.denoise(z, logsnr, half)
    torch.testing.assert_close(made[1], base.denoise(z, logsnr, nobody(2))[1])
    assert (made[0] - base.denoise(z, logsnr, nobody(2))[0]).abs().max() > 1e-4


def test_a_base_learns_to_go_on_from_what_is_given():
    """Latents whose second frame is the first one turned over: nothing else tells its sign."""
    torch.manual_seed(0)
    shallow = dataclasses.replace(
        BASE, network=dataclasses.replace(SMALL, depth=1, temporal="joint")
    )
    base = add_condition(Base(shallow), cond_width=4, given_frames=5)
    first = torch.randn(64, 3, 1, 2, 2)
    z = torch.cat([first, -first], dim=2)
    given = torch.cat([first.expand(-1, -1, 2, -1, -1), torch.ones(64, 1, 2, 2, 2)], dim=1)
    optimiser = torch.optim.AdamW(base.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        base.loss(z, with_given(nobody(64), given)).backward()
        optimiser.step()
    noise, logsnr = torch.randn_like(z), torch.full((64,), -9.0)
    made = base.denoise(noise, logsnr, with_given(nobody(64), given)).detach()
    blind = base.denoise(noise, logsnr, nobody(64)).detach()
    assert (made - z).square().mean() < 0.5 * (blind - z).square().mean()


def test_given_frames_need_the_network_for_them():
    with pytest.raises(ValueError, match=r"given_frames 5 and network\.given 'none'"):
        BaseConfig(latent_shape=(3, 2, 2, 2), network=SMALL, given_frames=5)
