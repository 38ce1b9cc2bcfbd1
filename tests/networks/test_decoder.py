from __future__ import annotations

import dataclasses

import pytest
import torch

from ulrec.networks.decoder import Decoder, DecoderConfig
from ulrec.networks.transformer import OuterConfig, TransformerConfig

MIDDLE = TransformerConfig(width=16, depth=1, head_width=8)
TINY = DecoderConfig(channels=(16,), num_blocks=1, middle=MIDDLE)


def randomised(config: DecoderConfig, *, seed: int = 0) -> Decoder:
    """Return a decoder whose zero-initialised layers are not zero."""
    torch.manual_seed(seed)
    decoder = Decoder(config, latent_channels=3).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


@pytest.mark.parametrize(
    ("config", "media", "latent"),
    [
        (TINY, (2, 3, 1, 16, 16), (2, 3, 1, 4, 4)),
        (TINY, (2, 3, 1, 48, 32), (2, 3, 1, 12, 8)),
        (TINY, (1, 3, 4, 16, 16), (1, 3, 4, 4, 4)),
        (TINY, (1, 3, 1, 16, 16), (1, 3, 1, 2, 2)),  # latents coarser than the tokens
        (dataclasses.replace(TINY, channels=(16, 8)), (1, 3, 1, 16, 8), (1, 3, 1, 4, 2)),
        (dataclasses.replace(TINY, channels=()), (1, 3, 1, 8, 8), (1, 3, 1, 2, 2)),
        (dataclasses.replace(TINY, patch=4), (1, 3, 1, 16, 16), (1, 3, 1, 4, 4)),
    ],
)
def test_shapes(config, media, latent):
    decoder = randomised(config)
    v = decoder(torch.randn(media), torch.zeros(media[0]), torch.randn(latent))
    assert v.shape == media
    assert v.is_contiguous()
    assert v.abs().max() > 0


def test_stride():
    assert TINY.stride == 4
    assert DecoderConfig(patch=2, channels=(128, 256, 512)).stride == 16


def test_starts_at_exactly_zero():
    decoder = Decoder(TINY, latent_channels=3)
    v = decoder(torch.randn(2, 3, 1, 16, 16), torch.zeros(2), torch.randn(2, 3, 1, 4, 4))
    assert not v.any()


def test_depends_on_media_level_and_latent_everywhere():
    decoder = randomised(TINY)
    x_t, logsnr, z_0 = torch.randn(1, 3, 1, 16, 16), torch.zeros(1), torch.randn(1, 3, 1, 4, 4)
    v = decoder(x_t, logsnr, z_0)
    for other in (
        decoder(x_t + torch.randn_like(x_t), logsnr, z_0),
        decoder(x_t, logsnr + 3, z_0),
        decoder(x_t, logsnr, z_0 + torch.randn_like(z_0)),
    ):
        assert ((v - other).abs() > 1e-6).float().mean() > 0.99


def test_independent_of_the_batch():
    decoder = randomised(TINY)
    x_t, logsnr = torch.randn(3, 3, 1, 16, 16), torch.tensor([-2.0, 0.0, 4.0])
    z_0 = torch.randn(3, 3, 1, 4, 4)
    together = decoder(x_t, logsnr, z_0)
    alone = decoder(x_t[1:2], logsnr[1:2], z_0[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_frames_see_one_another():
    """The transformer in the middle runs over the tokens of all frames."""
    decoder = randomised(TINY)
    x_t, z_0 = torch.randn(1, 3, 4, 16, 16), torch.randn(1, 3, 4, 4, 4)
    v = decoder(x_t, torch.zeros(1), z_0)
    x_t[:, :, 3] += 1
    changed = decoder(x_t, torch.zeros(1), z_0)
    assert (v[:, :, 0] - changed[:, :, 0]).abs().max() > 1e-6


def test_dropout_is_for_training_only():
    decoder = randomised(dataclasses.replace(TINY, dropout=0.5))
    inputs = torch.randn(1, 3, 1, 16, 16), torch.zeros(1), torch.randn(1, 3, 1, 4, 4)
    assert torch.equal(decoder(*inputs), decoder(*inputs))
    decoder.train()
    assert not torch.equal(decoder(*inputs), decoder(*inputs))


@pytest.mark.parametrize(
    "ignored", [{"patch": 2}, {"cond_width": 6}, {"outer": OuterConfig(width=8, depth=2)}]
)
def test_a_middle_that_would_be_ignored_in_part_is_refused(ignored):
    with pytest.raises(ValueError, match="middle takes neither patch nor cond_width"):
        DecoderConfig(middle=dataclasses.replace(MIDDLE, **ignored))


@pytest.mark.parametrize("wrong", [{"channels": (12,)}, {"patch": 0}, {"dropout": 1.5}])
def test_bad_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DecoderConfig(**wrong)
