"""The decoder: a UViT that denoises media given latents (METHOD.md section 4)."""

from __future__ import annotations

from dataclasses import dataclass

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

    @property
    def stride(self) -> int:
        """Pixels along the side of one token of the transformer."""
        return int(self.patch * 2 ** len(self.channels))


class Decoder(nn.Module):
    """Predicts v for noised media from x_t, logsnr and z_0.

    z_0 enters every stage on the way down by a 1x1 convolution at that stage's grid, so it reaches
    pixels and transformer alike. Its convolutions do not depend on the noise level.
    """

    def __init__(
        self, config: DecoderConfig, *, latent_channels: int, media_channels: int = 3
    ) -> None:
        super().__init__()
        self.config = config
        width, embedding = config.middle.width, config.middle.width
        widths = [*config.channels, width]
        block = lambda c: ResBlock(c, embedding=embedding, dropout=config.dropout)  # noqa: E731
        self.time = LogsnrEmbedding(embedding)
        self.embed = nn.Conv2d(media_channels, widths[0], config.patch, config.patch)
        self.from_z = nn.ModuleList(nn.Conv2d(latent_channels, c, 1) for c in widths)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for c, following in zip(widths[:-1], widths[1:], strict=True):
            blocks = nn.ModuleList(block(c) for _ in range(config.num_blocks))
            self.down.append(nn.ModuleList([blocks, nn.Conv2d(c, following, 2, 2)]))
            merge = nn.Conv2d(2 * c, c, 1)
            blocks = nn.ModuleList(block(c) for _ in range(config.num_blocks))
            self.up.append(nn.ModuleList([nn.Conv2d(following, c, 1), merge, blocks]))
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
        for from_z, (blocks, halve) in zip(self.from_z, self.down, strict=False):
            h = h + resize_to(from_z(z), h)
            for block in blocks:
                h = block(h, embedding)
            skips.append(h)
            h = halve(h)
        h = h + resize_to(self.from_z[-1](z), h)
        h = self._transform(h, per_sample, num_frames)
        for widen, merge, blocks in reversed(self.up):
            skip = skips.pop()
            h = resize_to(widen(h), skip)
            h = merge(torch.cat([h, skip], dim=1))
            for block in blocks:
                h = block(h, embedding)
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
