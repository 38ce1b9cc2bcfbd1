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
    fold_frames,
    resize_to,
    unfold_frames,
    zero_init,
)
from ulrec.networks.transformer import Block, TransformerConfig, rotary_angles

__all__ = ["Decoder", "DecoderConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """Size of the decoder; the defaults are tiny.

    Convolutional stages of ``channels`` on the way down and up, each of ``num_blocks`` residual
    blocks, the grid halving after each; a transformer in the middle.
    """

    patch: int = 2
    channels: tuple[int, ...] = (48,)
    num_blocks: int = 2
    middle: TransformerConfig = TransformerConfig(width=128, depth=3)
    dropout: float = 0.0

    def __post_init__(self) -> None:
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


class _Down(nn.Module):
    """Residual blocks at one grid, then half the grid; returns both."""

    def __init__(self, blocks: nn.ModuleList, width: int, following: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.halve = nn.Conv2d(width, following, 2, 2)

    def forward(self, h: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            h = block(h, embedding)
        return h, self.halve(h)


class _Up(nn.Module):
    """Twice the grid, merged with what the way down left there, then residual blocks."""

    def __init__(self, blocks: nn.ModuleList, width: int, following: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(following, width, 1)
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.blocks = blocks

    def forward(self, h: Tensor, skip: Tensor, embedding: Tensor) -> Tensor:
        h = self.merge(torch.cat([resize_to(self.widen(h), skip), skip], dim=1))
        for block in self.blocks:
            h = block(h, embedding)
        return h


class Decoder(nn.Module):
    """Predicts v for noised media from x_t, logsnr and z_0.

    z_0 enters every stage on the way down by a 1x1 convolution at that stage's grid, so it reaches
    pixels and transformer alike.
    """

    def __init__(
        self, config: DecoderConfig, *, latent_channels: int, media_channels: int = 3
    ) -> None:
        super().__init__()
        self.config = config
        width = config.middle.width
        widths = [*config.channels, width]

        def blocks(channels: int) -> nn.ModuleList:
            return nn.ModuleList(
                ResBlock(channels, embedding=width, dropout=config.dropout)
                for _ in range(config.num_blocks)
            )

        steps = list(pairwise(widths))
        self.time = LogsnrEmbedding(width)
        self.embed = nn.Conv2d(media_channels, widths[0], config.patch, config.patch)
        self.from_z = nn.ModuleList(nn.Conv2d(latent_channels, c, 1) for c in widths)
        self.down = nn.ModuleList(_Down(blocks(c), c, following) for c, following in steps)
        self.up = nn.ModuleList(_Up(blocks(c), c, following) for c, following in steps)
        self.middle = nn.ModuleList(Block(config.middle) for _ in range(config.middle.depth))
        self.norm = nn.GroupNorm(8, widths[0])
        self.out = zero_init(nn.Conv2d(widths[0], media_channels * config.patch**2, 1))

    def forward(self, x_t: Tensor, logsnr: Tensor, z_0: Tensor) -> Tensor:
        """Return v (B, C, F, H, W) for x_t (B, C, F, H, W), logsnr (B,), z_0 (B, D, f, h, w)."""
        num_frames = x_t.shape[2]
        z = fold_frames(z_0)
        per_sample = functional.silu(self.time(logsnr))
        embedding = per_sample.repeat_interleave(num_frames, dim=0)  # (B F, width)
        h = self.embed(fold_frames(x_t))
        skips = []
        for from_z, down in zip(self.from_z, self.down, strict=False):
            skip, h = down(h + resize_to(from_z(z), h), embedding)
            skips.append(skip)
        h = h + resize_to(self.from_z[-1](z), h)
        h = self._transform(h, per_sample, num_frames)
        for up in reversed(self.up):
            h = up(h, skips.pop(), embedding)
        h = self.out(functional.silu(self.norm(h)))
        h = functional.pixel_shuffle(h, self.config.patch)
        return unfold_frames(h, num_frames).contiguous()

    def _transform(self, h: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
        """Run the transformer over all frames' tokens; h (B F, width, h, w)."""
        grid = (num_frames, h.shape[2], h.shape[3])
        angles = rotary_angles(grid, self.config.middle.head_width).to(h.device)
        rotary = (angles.cos(), angles.sin())
        tokens = rearrange(h, "(b f) c h w -> b (f h w) c", f=num_frames)
        for block in self.middle:
            tokens = block(tokens, embedding, None, rotary)
        return rearrange(tokens, "b (f h w) c -> (b f) c h w", f=num_frames, h=grid[1])
