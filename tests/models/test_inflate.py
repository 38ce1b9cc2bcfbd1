"""Clip networks from picture networks: what they do to each frame, and what time adds."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ulrec.checkpoint import load_component
from ulrec.errors import ArtefactError
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.components import save_model
from ulrec.models.inflate import inflate_weights
from ulrec.models.prior import Prior, PriorConfig
from ulrec.networks.decoder import DecoderConfig
from ulrec.networks.encoder import EncoderConfig
from ulrec.networks.layers import fold_frames, unfold_frames
from ulrec.networks.transformer import Cond, OuterConfig, TransformerConfig

SMALL = TransformerConfig(width=16, depth=2, head_width=8)
PICTURE = AutoencoderConfig(
    height=8,
    width=8,
    encoder=EncoderConfig(channels=(8, 16), num_blocks=1, num_last_blocks=1, latent_channels=3),
    decoder=DecoderConfig(channels=(8,), num_blocks=1, middle=SMALL),
)


def clip_config(frames: int, *, frame_stride: int = 1) -> AutoencoderConfig:
    axial = dataclasses.replace(SMALL, temporal="axial")
    return dataclasses.replace(
        PICTURE,
        frames=frames,
        encoder=dataclasses.replace(PICTURE.encoder, temporal_kernel=3, frame_stride=frame_stride),
        decoder=dataclasses.replace(PICTURE.decoder, temporal_kernel=3, middle=axial),
    )


@pytest.fixture
def picture(randomised, tmp_path):
    model = randomised(Autoencoder(PICTURE))
    save_model(model, tmp_path / "picture", kind="autoencoder", config=PICTURE)
    return model, load_component(tmp_path / "picture", kind="autoencoder")


def inflated(config: AutoencoderConfig, component) -> Autoencoder:
    model = Autoencoder(config).eval()
    inflate_weights(model, component)
    return model


def test_each_frame_is_coded_bit_for_bit_as_a_picture(picture):
    model, component = picture
    clip = inflated(clip_config(4), component)
    x = torch.randn(2, 3, 4, 8, 8)
    by_frame = model.encode(fold_frames(x)[:, :, None])  # (B F, D, 1, h, w)
    z = clip.encode(x)
    assert torch.equal(z, unfold_frames(by_frame[:, :, 0], 4))
    logsnr = torch.tensor([-1.0, 2.0])
    by_frame = model.denoise(
        fold_frames(x)[:, :, None], logsnr.repeat_interleave(4), fold_frames(z)[:, :, None]
    )
    assert torch.equal(clip.denoise(x, logsnr, z), unfold_frames(by_frame[:, :, 0], 4))


@pytest.mark.parametrize("frame_stride", [1, 2])
def test_further_channels_of_the_latent_change_nothing_at_first(picture, frame_stride):
    _, component = picture
    same = clip_config(4, frame_stride=frame_stride)
    wide = dataclasses.replace(same, encoder=dataclasses.replace(same.encoder, latent_channels=5))
    clip, wider = inflated(same, component), inflated(wide, component)
    x, logsnr = torch.randn(2, 3, 4, 8, 8), torch.tensor([-1.0, 2.0])
    z, more = clip.encode(x), wider.encode(x)
    torch.testing.assert_close(more[:, :3], z)
    assert more[:, 3:].std() > 0.01  # they say something that can be learnt to listen to
    torch.testing.assert_close(wider.denoise(x, logsnr, more), clip.denoise(x, logsnr, z))
    wider.denoise(x, logsnr, more).square().mean().backward()
    assert wider.decoder.from_z[0].weight.grad[:, 3:].abs().max() > 0


def test_a_prior_of_further_channels_denoises_those_it_knew_alike(randomised, tmp_path):
    before = randomised(Prior(PriorConfig(network=SMALL), channels=3))
    save_model(before, tmp_path / "prior", kind="prior", config=before.config)
    after = Prior(PriorConfig(network=SMALL), channels=5).eval()
    inflate_weights(after, load_component(tmp_path / "prior", kind="prior"))
    z, logsnr = torch.randn(2, 5, 1, 4, 4), torch.tensor([-1.0, 2.0])
    v = after.network(z, logsnr)
    torch.testing.assert_close(v[:, :3], before.network(z[:, :3], logsnr))
    assert not v[:, 3:].any()


def test_a_learned_variance_takes_no_further_channels(randomised, tmp_path):
    def learned(channels):
        encoder = dataclasses.replace(PICTURE.encoder, variance="learned", latent_channels=channels)
        return dataclasses.replace(PICTURE, encoder=encoder)

    model = randomised(Autoencoder(learned(3)))
    save_model(model, tmp_path / "learned", kind="autoencoder", config=model.config)
    with pytest.raises(ArtefactError, match="further channels of the latent"):
        inflated(learned(5), load_component(tmp_path / "learned", kind="autoencoder"))


@pytest.mark.parametrize("outer", [None, OuterConfig(width=8, depth=2)])
def test_each_frame_of_latents_is_denoised_bit_for_bit_as_a_picture(outer, randomised, tmp_path):
    network = dataclasses.replace(SMALL, cond_width=6, outer=outer)
    picture = randomised(Base(BaseConfig(latent_shape=(3, 1, 4, 4), network=network)))
    save_model(picture, tmp_path / "base", kind="base", config=picture.config)
    axial = dataclasses.replace(network, temporal="axial", given="channels")
    config = BaseConfig(latent_shape=(3, 4, 4, 4), network=axial, given_frames=5)
    clip = Base(config).eval()
    inflate_weights(clip, load_component(tmp_path / "base", kind="base"))
    z, logsnr = torch.randn(2, 3, 4, 4, 4), torch.tensor([-1.0, 2.0])
    cond = Cond(torch.randn(2, 3, 6), torch.ones(2, 3, dtype=torch.bool))
    frames = Cond(*(x.repeat_interleave(4, 0) for x in (cond.tokens, cond.mask)))
    by_frame = picture.denoise(fold_frames(z)[:, :, None], logsnr.repeat_interleave(4), frames)
    made = clip.denoise(z, logsnr, cond)
    assert torch.equal(made, unfold_frames(by_frame[:, :, 0], 4))
    with_given = cond._replace(given=torch.randn(2, 4, 4, 4, 4))
    assert torch.equal(clip.network(z, logsnr, with_given), clip.network(z, logsnr, cond))


def test_frames_that_share_a_latent_start_from_their_mean(picture):
    model, component = picture
    clip = inflated(clip_config(4, frame_stride=2), component)
    x = torch.randn(2, 3, 4, 8, 8)
    by_frame = unfold_frames(model.encode(fold_frames(x)[:, :, None])[:, :, 0], 4)
    z = clip.encode(x)
    assert z.shape == (2, 3, 2, 2, 2)
    pairs = by_frame.unflatten(2, (2, 2)).mean(3)
    torch.testing.assert_close(z, pairs, atol=1e-6, rtol=0)
    still = x[:, :, :1].expand(-1, -1, 4, -1, -1)
    logsnr = torch.zeros(2)
    made = clip.denoise(still, logsnr, clip.encode(still))
    alone = model.denoise(still[:, :, :1], logsnr, model.encode(still[:, :, :1]))
    torch.testing.assert_close(made, alone.expand_as(made), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("moved", "reached"), [(0, 2), (3, 1)])  # two stages of kernel 3
def test_trained_layers_in_time_look_both_ways(picture, randomised, moved, reached):
    _, component = picture
    clip = randomised(inflated(clip_config(4), component))
    x = torch.randn(1, 3, 4, 8, 8)
    other = x.clone()
    other[:, :, moved] = torch.randn(1, 3, 8, 8)
    z, logsnr = clip.encode(x), torch.zeros(1)
    assert (clip.encode(other) - z)[:, :, reached].abs().max() > 1e-6
    changed = clip.denoise(other, logsnr, z) - clip.denoise(x, logsnr, z)
    assert changed[:, :, 3 - moved].abs().max() > 1e-6


def test_a_clip_that_stands_still_is_coded_alike_in_all_frames(picture, randomised):
    """Borders are repeated: the first and the last frame see nothing that the others do not."""
    _, component = picture
    clip = randomised(inflated(clip_config(4), component))
    z = clip.encode(torch.randn(1, 3, 1, 8, 8).expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(z, z[:, :, :1].expand_as(z), atol=1e-5, rtol=0)


def test_frames_that_share_a_latent_are_decoded_apart_once_trained(picture, randomised):
    _, component = picture
    clip = randomised(inflated(clip_config(4, frame_stride=4), component))
    still = torch.zeros(1, 3, 4, 8, 8)
    made = clip.denoise(still, torch.zeros(1), torch.randn(1, 3, 1, 2, 2))
    assert (made[:, :, 1] - made[:, :, 0]).abs().max() > 1e-3


def test_gradients_reach_every_layer_in_time(randomised):
    config = clip_config(4, frame_stride=2)
    model = randomised(Autoencoder(config)).train()
    prior = randomised(
        Prior(PriorConfig(network=dataclasses.replace(SMALL, temporal="axial")), channels=3)
    )
    x = torch.randn(2, 3, 4, 8, 8)
    z, t = model.encode(x), torch.tensor([0.3, 0.7])
    nats = model.loss(x, z, t=t, eps=torch.randn_like(x))
    (nats + prior.loss(z, t=t, eps=torch.randn_like(z))).sum().backward()
    for module in (model, prior):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_another_width_is_refused_by_name(picture):
    _, component = picture
    other = dataclasses.replace(PICTURE, encoder=EncoderConfig(channels=(8, 24), num_blocks=1))
    with pytest.raises(ArtefactError, match="the same networks, but for layers in time"):
        inflate_weights(Autoencoder(other), component)


def test_a_clip_model_is_no_picture_model(picture, tmp_path):
    _, component = picture
    clip = inflated(clip_config(4), component)
    save_model(clip, tmp_path / "clip", kind="autoencoder", config=clip.config)
    with pytest.raises(ArtefactError, match=r"temporal.* is missing in the configured model"):
        inflate_weights(Autoencoder(PICTURE), load_component(tmp_path / "clip", kind="autoencoder"))


def test_frames_have_to_divide_by_the_stride():
    with pytest.raises(ValueError, match="6 frames do not divide by the encoder's frame_stride 4"):
        clip_config(6, frame_stride=4)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="temporal_kernel has to be odd"):
        EncoderConfig(temporal_kernel=2)
