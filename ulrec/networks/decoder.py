"""The decoder: a UViT that denoises media given latents (METHOD.md section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ulrec.networks.layers import (
    LogsnrEmbedding,
    ResBlock,
    TemporalConv,
    check_temporal_kernel,
    fold_frames,
    resize_to,
    split_frames,
    unfold_frames,
    zero_init,
)
from ulrec.networks.transformer import Block, TransformerConfig, positions_of

__all__ = ["Decoder", "DecoderConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """Size of the decoder; the defaults are tiny.

    Convolutional stages of ``channels`` on the way down and up, each of ``num_blocks`` residual
    blocks, the grid halving after each; a transformer in the middle. A ``temporal_kernel`` puts a
    convolution over so many frames after every stage, on both ways.
    """

    patch: int = 2
    channels: tuple[int, ...] = (48,)
    num_blocks: int = 2
    middle: TransformerConfig = TransformerConfig(width=128, depth=3)
    dropout: float = 0.0
    temporal_kernel: int | None = None

    def __post_init__(self) -> None:
        check_temporal_kernel(self.temporal_kernel)
        if any(width < 8 or width % 8 for width in self.channels):
            raise ValueError(
                "channels have to be multiples of 8 (group normalisation), got "
                f"{list(self.channels)}"
            )
        if self.patch < 1:
            raise ValueError(f"patch has to be at least 1, got {self.patch}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout has to lie in [0, 1), got {self.dropout}")
        if self.middle.stride != 1 or self.middle.cond_width is not None:
            raise ValueError(
                "middle takes neither patch nor cond_width nor outer: its tokens are the last "
                "stage's, and the decoder's condition is z_0"
            )

    @property
    def stride(self) -> int:
        """Pixels along the side of one token of the transformer."""
        return int(self.patch * 2 ** len(self.channels))


class _Stage(nn.Module):
    """Residual blocks at one grid, and a convolution over frames where there is one."""

    blocks: nn.ModuleList
    temporal: TemporalConv | None

    def run(self, h: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
        for block in self.blocks:
            h = block(h, embedding)
        return h if self.temporal is None else self.temporal(h, num_frames)


class _Down(_Stage):
    """A stage, then half the grid; returns both."""

    def __init__(
        self, blocks: nn.ModuleList, temporal: TemporalConv | None, width: int, following: int
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.halve = nn.Conv2d(width, following, 2, 2)
        self.temporal = temporal

    def forward(self, h: Tensor, embedding: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        h = self.run(h, embedding, num_frames)
        return h, self.halve(h)


class _Up(_Stage):
    """Twice the grid, merged with what the way down left there, then a stage."""

    def __init__(
        self, blocks: nn.ModuleList, temporal: TemporalConv | None, width: int, following: int
    ) -> None:
        super().__init__()
        self.widen = nn.Conv2d(following, width, 1)
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.blocks = blocks
        self.temporal = temporal

    def forward(self, h: Tensor, skip: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
        h = self.merge(torch.cat([resize_to(self.widen(h), skip), skip], dim=1))
        return self.run(h, embedding, num_frames)


class Decoder(nn.Module):
    """Predicts v for noised media from x_t, logsnr and z_0.

    z_0 enters every stage on the way down by a 1x1 convolution at that stage's grid, so it reaches
    pixels and transformer alike. Where a latent frame stands for ``frame_stride`` frames, each of
    them has a convolution of its own.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        latent_channels: int,
        media_channels: int = 3,
        frame_stride: int = 1,
    ) -> None:
        super().__init__()
        self.config = config
        self.frame_stride = frame_stride
        width = config.middle.width
        widths = [*config.channels, width]

        def blocks(channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                ResBlock(channels, embedding=width, dropout=config.dropout)
                for _ in range(config.num_blocks)
            )

        def temporal(channels: int) -> TemporalConv | None:
            kernel = config.temporal_kernel
            return None if kernel is None else TemporalConv(channels, kernel=kernel)

        steps = list(pairwise(widths))
        self.time = LogsnrEmbedding(width)
        self.embed = nn.Conv2d(media_channels, widths[0], config.patch, config.patch)
        self.from_z = nn.ModuleList(nn.Conv2d(latent_channels, c * frame_stride, 1) for c in widths)
        self.down = nn.ModuleList(_Down(blocks(c), temporal(c), c, after) for c, after in steps)
        self.up = nn.ModuleList(_Up(blocks(c), temporal(c), c, after) for c, after in steps)
        self.middle = nn.ModuleList(Block(config.middle) for _ in range(config.middle.depth))
        self.norm = nn.GroupNorm(8, widths[0])
        self.out = zero_init(nn.Conv2d(widths[0], media_channels * config.patch**2, 1))

    def forward(self, x_t: Tensor, logsnr: Tensor, z_0: Tensor) -> Tensor:
        """Return v (B, C, F, H, W) for x_t (B, C, F, H, W), logsnr (B,), z_0 (B, D, f, h, w)."""
        num_frames = x_t.shape[2]
        z = fold_frames(z_0)
        per_frame = functional.silu(self.time(logsnr.repeat_interleave(num_frames)))
        h = self.embed(fold_frames(x_t))
        skips = []
        for from_z, down in zip(self.from_z, self.down, strict=False):
            h = h + resize_to(split_frames(from_z(z), self.frame_stride), h)
            skip, h = down(h, per_frame, num_frames)
            skips.append(skip)
        h = h + resize_to(split_frames(self.from_z[-1](z), self.frame_stride), h)
        h = self._transform(h, per_frame, num_frames)
        for up in reversed(self.up):
            h = up(h, skips.pop(), per_frame, num_frames)
        h = self.out(functional.silu(self.norm(h)))
        h = functional.pixel_shuffle(h, self.config.patch)
        return unfold_frames(h, num_frames).contiguous()

    def _transform(self, h: Tensor, per_frame: Tensor, num_frames: int) -> Tensor:
        """Run the transformer over all frames' tokens; h (B F, width, h, w)."""
        config = self.config.middle
        together = num_frames if config.temporal == "joint" else 1
        grid = (together, h.shape[2], h.shape[3])
        positions = positions_of(grid, config, num_frames=num_frames, device=h.device)
        tokens = rearrange(h, "(b f) c h w -> b (f h w) c", f=together)
        for block in self.middle:
            tokens = block(tokens, per_frame[::together], None, positions)
        return rearrange(tokens, "b (f h w) c -> (b f) c h w", f=together, h=grid[1])
