from __future__ import annotations

import pytest
import torch
from torch import nn

from ulrec.networks.layers import (
    LogsnrEmbedding,
    ResBlock,
    fold_frames,
    resize_to,
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
