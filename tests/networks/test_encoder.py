from __future__ import annotations

import pytest
import torch

from ulrec.networks.encoder import Encoder, EncoderConfig

TINY = EncoderConfig(channels=(16, 16), num_blocks=1, num_last_blocks=1, latent_channels=3)


@pytest.mark.parametrize(
    ("config", "media", "latent"),
    [
        (TINY, (2, 3, 1, 16, 16), (2, 3, 1, 4, 4)),
        (TINY, (2, 3, 1, 48, 32), (2, 3, 1, 12, 8)),
        (TINY, (1, 3, 4, 8, 8), (1, 3, 4, 2, 2)),
        (EncoderConfig(patch=4, channels=(8, 8, 16)), (1, 3, 1, 32, 16), (1, 8, 1, 2, 1)),
        (EncoderConfig(patch=1, channels=(8,)), (1, 3, 1, 4, 4), (1, 8, 1, 4, 4)),
    ],
)
def test_shapes(config, media, latent):
    z = Encoder(config)(torch.randn(media))
    assert z.shape == latent
    assert z.is_contiguous()
    assert config.stride == media[3] // latent[3] == media[4] // latent[4]


def test_other_media_channels():
    assert Encoder(TINY, media_channels=1)(torch.randn(1, 1, 1, 8, 8)).shape == (1, 3, 1, 2, 2)


def test_deterministic_and_independent_of_the_batch():
    torch.manual_seed(0)
    encoder, x = Encoder(TINY), torch.randn(3, 3, 1, 16, 16)
    assert torch.equal(encoder(x), encoder(x))
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), atol=1e-5, rtol=0)


def test_each_frame_is_encoded_as_a_picture():
    torch.manual_seed(0)
    encoder, x = Encoder(TINY), torch.randn(2, 3, 4, 16, 16)
    z = encoder(x)
    for frame in range(4):
        alone = encoder(x[:, :, frame : frame + 1])
        torch.testing.assert_close(z[:, :, frame : frame + 1], alone, atol=1e-5, rtol=0)


def test_number_of_blocks():
    counts = [
        sum("conv_in.weight" in name for name in Encoder(config).state_dict())
        for config in (TINY, EncoderConfig(channels=(8, 8, 8), num_blocks=2, num_last_blocks=3))
    ]
    assert counts == [2, 7]


@pytest.mark.parametrize(
    "wrong", [{"channels": (12, 16)}, {"channels": ()}, {"patch": 0}, {"latent_channels": 0}]
)
def test_bad_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EncoderConfig(**wrong)
