"""Layers shared by the networks."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "LogsnrEmbedding",
    "ResBlock",
    "TemporalConv",
    "check_temporal_kernel",
    "fold_frames",
    "merge_frames",
    "resize_to",
    "split_frames",
    "unfold_frames",
    "zero_init",
]

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def zero_init(layer: Layer) -> Layer:
    """Zero a layer's weights, so that the branch it ends adds nothing before training."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def fold_frames(x: Tensor) -> Tensor:
    """Put frames into the batch: (B, C, F, H, W) -> (B F, C, H, W), channels last in memory."""
    folded = x.transpose(1, 2).flatten(0, 1)
    return folded.contiguous(memory_format=torch.channels_last)


def unfold_frames(x: Tensor, num_frames: int) -> Tensor:
    """Undo :func:`fold_frames`: (B F, C, H, W) -> (B, C, F, H, W)."""
    return x.reshape(-1, num_frames, *x.shape[1:]).transpose(1, 2)


def merge_frames(x: Tensor, stride: int) -> Tensor:
    """Put the channels of ``stride`` neighbouring frames beside each other.

    (B F, C, H, W) -> (B F / stride, stride C, H, W), the first frame's channels first.
    """
    if stride == 1:
        return x
    merged = x.reshape(-1, stride * x.shape[1], *x.shape[2:])
    return merged.contiguous(memory_format=torch.channels_last)


def split_frames(x: Tensor, stride: int) -> Tensor:
    """Undo :func:`merge_frames`: (B f, stride C, H, W) -> (B f stride, C, H, W)."""
    if stride == 1:
        return x
    split = x.reshape(-1, x.shape[1] // stride, *x.shape[2:])
    return split.contiguous(memory_format=torch.channels_last)


def resize_to(z: Tensor, x: Tensor) -> Tensor:
    """Bring a grid z (N, D, h, w) to the spatial size of x (N, C, H, W), nearest neighbour."""
    if z.shape[-2:] == x.shape[-2:]:
        return z
    return functional.interpolate(z, size=x.shape[-2:], mode="nearest")


class LogsnrEmbedding(nn.Module):
    """Sinusoids of logsnr and a small network: (B,) -> (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int, *, num_frequencies: int = 32) -> None:
        super().__init__()
        # logsnr moves on a scale of about 0.1 to 20 nats
        frequencies = torch.logspace(math.log10(0.1), math.log10(10), num_frequencies)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.net = nn.Sequential(
            nn.Linear(2 * num_frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, logsnr: Tensor) -> Tensor:
        """Embed logsnr (B,)."""
        angles = logsnr[:, None].float() * self.frequencies
        embedding: Tensor = self.net(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedding


class ResBlock(nn.Module):
    """Two 3x3 convolutions beside a skip; an embedding, where given, scales and shifts between."""

    def __init__(
        self, width: int, *, embedding: int | None = None, dropout: float = 0.0, groups: int = 8
    ) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, width)
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.norm_out = nn.GroupNorm(groups, width)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zero_init(nn.Conv2d(width, width, 3, padding=1))
        self.modulation = None if embedding is None else zero_init(nn.Linear(embedding, 2 * width))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map x (N, width, H, W); ``embedding`` (N, embedding)."""
        h = self.conv_in(functional.silu(self.norm_in(x)))
        h = self.norm_out(h)
        if self.modulation is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        out: Tensor = x + self.conv_out(self.dropout(functional.silu(h)))
        return out


class TemporalConv(nn.Module):
    """A convolution over the frames at each place, beside a skip; it starts at zero.

    It sees as many frames before as after (the first and the last are repeated at the ends): a clip
    is coded as a whole, so nothing is gained by looking back only. Prediction from given frames
    does without causal layers (:func:`ulrec.models.prediction.held`).
    """

    def __init__(self, width: int, *, kernel: int, groups: int = 8) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm = nn.GroupNorm(groups, width)
        # One GEMM over neighbouring frames side by side: faster than a (k, 1, 1) convolution.
        self.conv = zero_init(nn.Conv2d(kernel * width, width, 1))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Map x (B F, width, H, W)."""
        h = functional.silu(self.norm(x))
        h = h.reshape(-1, num_frames, *h.shape[1:])  # (B, F, width, H, W)
        reach = self.kernel // 2
        h = torch.cat([h[:, :1]] * reach + [h] + [h[:, -1:]] * reach, dim=1)
        h = torch.cat([h[:, i : i + num_frames] for i in range(self.kernel)], dim=2).flatten(0, 1)
        out: Tensor = x + self.conv(h.contiguous(memory_format=torch.channels_last))
        return out


def check_temporal_kernel(kernel: int | None) -> None:
    """Refuse a kernel that is even: it would not look as far forward as back.

    Raises
    ------
    ValueError
        If it is even or below 1.
    """
    if kernel is not None and (kernel < 1 or kernel % 2 == 0):
        raise ValueError(f"temporal_kernel has to be odd (or null, for none), got {kernel}")
