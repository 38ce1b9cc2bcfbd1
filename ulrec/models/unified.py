"""Stage 1: encoder, prior and decoder under one objective (METHOD.md section 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ulrec.diffusion.loss import standard_noise, stratified_times, variance_nats
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.models.prior import Prior, PriorConfig

__all__ = ["Unified", "UnifiedConfig", "UnifiedLoss"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnifiedConfig:
    """What stage 1 trains.

    Attributes
    ----------
    autoencoder, prior
        The two components.
    ramp
        Share of the training over which the prior's weight rises from 0 to 1. From a cold start an
        untrained prior charges some 2.5 nats a dimension at once and the encoder escapes into a
        constant latent; the weight is 1 for the rest of the training, at least its last half.
    prior_input
        What the prior is trained on: z_clean "attached" to the encoder, or "detached" from it, so
        that bits cost the encoder nothing (the paper's ablation A).
    """

    autoencoder: AutoencoderConfig = AutoencoderConfig()
    prior: PriorConfig = PriorConfig()
    ramp: float = 0.33
    prior_input: Literal["attached", "detached"] = "attached"

    def __post_init__(self) -> None:
        if not 0 <= self.ramp <= 0.5:
            raise ValueError(f"ramp has to lie in [0, 0.5], got {self.ramp}")
        height, width = self.autoencoder.latent_shape[2:]
        if height % self.prior.network.stride or width % self.prior.network.stride:
            raise ValueError(
                f"latents of {height}x{width} do not divide by the prior's patch "
                f"{self.prior.network.stride}; change the patch or the encoder's stride"
            )
        if self.prior_input == "detached" and self.autoencoder.encoder.variance == "learned":
            raise ValueError(
                "a detached prior_input charges the encoder nothing, and a learned variance would "
                "grow for free; choose one of the two"
            )
        noise, schedule = self.autoencoder.logsnr_z0, self.prior.schedule_z.logsnr_0
        if noise != schedule:
            raise ValueError(
                f"the prior's schedule has to start at the latents' noise: logsnr_0 {schedule} "
                f"against logsnr_z0 {noise}; set both to the same"
            )


@dataclass(frozen=True, slots=True)
class UnifiedLoss:
    """``total``: what the optimiser sees. ``prior``, ``decoder``: nats per sample (B,)."""

    total: Tensor
    prior: Tensor
    decoder: Tensor


class Unified(nn.Module):
    """Unified Latents: L = L_z + L_x, no stop-gradient anywhere by default."""

    def __init__(self, config: UnifiedConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = Autoencoder(config.autoencoder)
        self.prior = Prior(config.prior, channels=config.autoencoder.encoder.latent_channels)

    def prior_weight(self, progress: float) -> float:
        """Return the weight of L_z after a share of the training: rising over the ramp, then 1."""
        return 1.0 if progress >= self.config.ramp else progress / self.config.ramp

    def loss(
        self, x: Tensor, *, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> UnifiedLoss:
        """Return Algorithm 1's loss for media x (B, C, F, H, W) in [-1, 1].

        Parameters
        ----------
        x
            The batch.
        generator
            Source of times and noises; torch's default where None.
        progress
            Share of the training done, for the ramp.

        Returns
        -------
        UnifiedLoss
            The total is the mean over the batch of (weight L_z + L_x) / (C F H W).
        """
        generator = torch.default_generator if generator is None else generator
        draw = _Noise(generator, x.device)
        z_clean, variance = self.autoencoder.posterior(x)
        if variance is not None:
            z_clean = z_clean + variance.sqrt() * draw.like(z_clean)
        z_0 = self.autoencoder.noise(z_clean, draw.like(z_clean))
        z_prior = z_clean.detach() if self.config.prior_input == "detached" else z_clean
        prior = self.prior.loss(z_prior, t=draw.times(len(x)), eps=draw.like(z_clean))
        if variance is not None:
            prior = prior - variance_nats(variance, self.config.autoencoder.logsnr_z0)
        decoder = self.autoencoder.loss(x, z_0, t=draw.times(len(x)), eps=draw.like(x))
        total = (self.prior_weight(progress) * prior + decoder).mean() / x[0].numel()
        return UnifiedLoss(total, prior.detach(), decoder.detach())

    def bits_per_pixel(self, prior_nats: Tensor) -> Tensor:
        """Return mean bits per pixel (and frame) of L_z given as nats per sample (B,)."""
        _, frames, height, width = self.config.autoencoder.media_shape
        return prior_nats.mean() / (math.log(2) * frames * height * width)


class _Noise:
    """Independent draws from one generator, on the generator's device, moved to the data's."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def like(self, x: Tensor) -> Tensor:
        return standard_noise(x, self.generator)

    def times(self, num: int) -> Tensor:
        return stratified_times(num, self.generator, self.device)
