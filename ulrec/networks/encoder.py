"""The encoder: 2x2 patches, then residual stages that halve the grid (METHOD.md section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from ulrec.networks.layers import (
    ResBlock,
    TemporalConv,
    check_temporal_kernel,
    fold_frames,
    merge_frames,
    unfold_frames,
)

__all__ = ["Encoder", "EncoderConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Size of the encoder; the defaults are tiny.

    The grid shrinks by ``patch`` and by 2 between stages: patch * 2^(len(channels) - 1) in all.
    ``num_blocks`` residual blocks stand in every stage but the last, which has ``num_last_blocks``.
    A ``temporal_kernel`` puts a convolution over so many frames at the end of every stage; without
    one frames are coded one by one. ``frame_stride`` neighbouring frames share one latent frame,
    merged after the last stage.
    With a "learned" ``variance`` the network answers its logarithm as well, in D more channels (the
    paper's ablation D).
    """

    patch: int = 2
    channels: tuple[int, ...] = (48, 96)
    num_blocks: int = 2
    num_last_blocks: int = 3
    latent_channels: int = 8
    temporal_kernel: int | None = None
    frame_stride: int = 1
    variance: Literal["fixed", "learned"] = "fixed"

    def __post_init__(self) -> None:
        if not self.channels or any(width < 8 or width % 8 for width in self.channels):
            raise ValueError(
                "channels have to be multiples of 8 (group normalisation), one a stage, got "
                f"{list(self.channels)}"
            )
        if self.patch < 1 or self.latent_channels < 1 or self.frame_stride < 1:
            raise ValueError(
                "patch, latent_channels and frame_stride have to be at least 1, got "
                f"{self.patch}, {self.latent_channels} and {self.frame_stride}"
            )
        check_temporal_kernel(self.temporal_kernel)

    @property
    def stride(self) -> int:
        """Pixels along the side of one latent."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


class Encoder(nn.Module):
    """E(x) = z_clean, deterministic, or mean and log variance of it beside each other."""

    def __init__(self, config: EncoderConfig, *, media_channels: int = 3) -> None:
        super().__init__()
        first, *rest = config.channels
        self.config = config
        layers: list[nn.Module] = [nn.Conv2d(media_channels, first, config.patch, config.patch)]
        width = first
        for following in rest:
            layers += [ResBlock(width) for _ in range(config.num_blocks)]
            layers += [nn.Conv2d(width, following, 2, 2)]
            width = following
        layers += [ResBlock(width) for _ in range(config.num_last_blocks)]
        self.layers = nn.ModuleList(layers)
        # Beside the layers rather than among them: their names are those of a picture's encoder.
        self.temporal = nn.ModuleDict()
        if config.temporal_kernel is not None:
            for at in self._ends_of_stages():
                wide = config.channels[len(self.temporal)]
                self.temporal[str(at)] = TemporalConv(wide, kernel=config.temporal_kernel)
        self.norm = nn.GroupNorm(8, width)
        answers = config.latent_channels * (1 if config.variance == "fixed" else 2)
        self.out = nn.Conv2d(width * config.frame_stride, answers, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map media x (B, C, F, H, W) to z_clean (B, D, f, h, w), or (B, 2 D, f, h, w)."""
        num_frames, stride = x.shape[2], self.config.frame_stride
        h = fold_frames(x)
        for number, layer in enumerate(self.layers):
            h = layer(h)
            if str(number) in self.temporal:
                h = self.temporal[str(number)](h, num_frames)
        h = merge_frames(functional.silu(self.norm(h)), stride)  # (B f, stride width, h, w)
        return unfold_frames(self.out(h), num_frames // stride).contiguous()

    def _ends_of_stages(self) -> list[int]:
        """Return the numbers of the layers that end a stage: before each halving, and the last."""
        halvings = [n for n, layer in enumerate(self.layers) if isinstance(layer, nn.Conv2d)][1:]
        return [*(n - 1 for n in halvings), len(self.layers) - 1]
