from __future__ import annotations

import pytest
import torch
from torch import nn

from ulrec.networks.layers import (
    LogsnrEmbedding,
    ResBlock,
    TemporalConv,
    fold_frames,
    merge_frames,
    resize_to,
    split_frames,
    unfold_frames,
    zero_init,
)


def test_zero_init():
    for layer in (nn.Linear(3, 2), nn.Linear(3, 2, bias=False), nn.Conv2d(3, 2, 1)):
        assert zero_init(layer) is layer
        assert not any(parameter.any() for parameter in layer.parameters())


@pytest.mark.parametrize("num_frames", [1, 4])
def test_frames_fold_into_the_batch_and_back(num_frames):
    x = torch.randn(2, 3, num_frames, 6, 4)
    folded = fold_frames(x)
    assert folded.shape == (2 * num_frames, 3, 6, 4)
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(folded[num_frames], x[1, :, 0])  # the second sample's first frame
    assert torch.equal(unfold_frames(folded, num_frames), x)


def test_resize_repeats_the_nearest():
    z = torch.arange(4.0).reshape(1, 1, 2, 2)
    x = torch.zeros(1, 5, 4, 4)
    expected = z.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(resize_to(z, x), expected)
    assert resize_to(x, x) is x


def test_logsnr_embedding_tells_levels_apart():
    torch.manual_seed(0)
    embed = LogsnrEmbedding(16)
    levels = torch.linspace(-10, 10, 41)
    embedding = embed(levels)
    assert embedding.shape == (41, 16)
    distance = torch.cdist(embedding, embedding) + 10 * torch.eye(41)
    assert distance.min() > 0.01
    assert torch.equal(embed(levels[:3]), embed(levels[:3].double()))
    assert "frequencies" not in embed.state_dict()


def test_res_block_starts_as_the_identity():
    torch.manual_seed(0)
    x, embedding = torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    assert torch.equal(ResBlock(16)(x), x)
    assert torch.equal(ResBlock(16, embedding=8)(x, embedding), x)


def test_res_block_scales_and_shifts_by_the_embedding():
    torch.manual_seed(0)
    block = ResBlock(16, embedding=8)
    x, embedding = torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    nn.init.normal_(block.conv_out.weight, std=0.1)
    before = block(x, embedding)
    assert torch.equal(before, block(x, -embedding))
    nn.init.normal_(block.modulation.weight, std=0.1)
    assert not torch.allclose(block(x, embedding), block(x, -embedding))
    assert not torch.allclose(block(x, embedding), before)


def test_neighbouring_frames_merge_and_split():
    x = torch.arange(8.0).reshape(4, 2, 1, 1)  # four frames of two channels
    merged = merge_frames(x, 2)
    assert merged.flatten(1).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert torch.equal(split_frames(merged, 2), x)
    assert merge_frames(x, 1) is x and split_frames(x, 1) is x


def test_a_temporal_convolution_is_torchs_over_repeated_ends():
    layer = TemporalConv(8, kernel=3, groups=2)
    x = torch.randn(2 * 5, 8, 4, 3)
    assert torch.equal(layer(x, 5), x)
    nn.init.normal_(layer.conv.weight)
    h = nn.functional.silu(layer.norm(x)).reshape(2, 5, 8, 4, 3).transpose(1, 2)
    h = nn.functional.pad(h, (0, 0, 0, 0, 1, 1), mode="replicate")
    weight = layer.conv.weight.reshape(8, 3, 8).transpose(1, 2)[..., None, None]
    expected = nn.functional.conv3d(h, weight, layer.conv.bias).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(layer(x, 5) - x, expected, atol=1e-5, rtol=1e-4)
