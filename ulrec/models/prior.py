"""The stage-1 prior: a diffusion model that charges the encoder for its bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ulrec.diffusion.loss import diffusion_loss, terminal_kl
from ulrec.diffusion.process import x_from_v
from ulrec.diffusion.sampler import NoiseSource, Sampled, SamplerConfig, sample
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting
from ulrec.networks.transformer import LatentTransformer, TransformerConfig

__all__ = ["Prior", "PriorConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorConfig:
    """What a prior is.

    Attributes
    ----------
    name
        "diffusion", or "normal": N(0, I) without a network, for comparison (the paper's table of
        variants).
    schedule_z
        The noise levels of latents.
    network
        Of the diffusion prior.
    """

    name: Literal["diffusion", "normal"] = "diffusion"
    schedule_z: Schedule = Schedule(logsnr_0=5.0, logsnr_1=-10.0)
    network: TransformerConfig = TransformerConfig(width=128, depth=4)


class _StandardNormal(nn.Module):
    """v of the optimal denoiser of N(0, I), whose mean given z_t is alpha z_t: zero."""

    def forward(self, z_t: Tensor, logsnr: Tensor) -> Tensor:
        return torch.zeros_like(z_t)


class Prior(nn.Module):
    """p(z), trained with the unweighted bound so that its nats are nats."""

    def __init__(self, config: PriorConfig, *, channels: int) -> None:
        super().__init__()
        self.config = config
        self.weighting = Weighting(name="elbo")
        self.network: nn.Module = _StandardNormal()
        if config.name == "diffusion":
            self.network = LatentTransformer(config.network, channels=channels)

    def denoise(self, z_t: Tensor, logsnr: Tensor, cond: None = None) -> Tensor:
        """Return z_hat for z_t (B, D, f, h, w) at logsnr (B,)."""
        return x_from_v(z_t, logsnr, self.network(z_t, logsnr).float())

    def loss(self, z_clean: Tensor, *, t: Tensor, eps: Tensor) -> Tensor:
        """Return the prior term L_z in nats per sample (B,), Eq. 3: a bound on z_0's bits.

        Of the normal prior it is the KL of z_0 itself, exactly.
        """
        schedule = self.config.schedule_z
        if self.config.name == "normal":
            return terminal_kl(z_clean, schedule.logsnr_0)
        nats = diffusion_loss(
            self.denoise, z_clean, t, eps, schedule=schedule, weighting=self.weighting
        )
        return nats + terminal_kl(z_clean, schedule.logsnr_1)

    @torch.no_grad()
    def sample(
        self, shape: tuple[int, ...], *, seeds: Sequence[int], sampler: SamplerConfig | None = None
    ) -> Sampled:
        """Draw noisy latents z_0 (B, D, f, h, w); they are poor, hence the base (section 3)."""
        device = next(self.parameters(), torch.empty(0)).device
        noise = NoiseSource(seeds, shape, device=device)
        config = sampler or SamplerConfig()
        return sample(self.denoise, noise, schedule=self.config.schedule_z, config=config)
