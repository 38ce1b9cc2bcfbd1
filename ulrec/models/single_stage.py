"""One stage instead of two: the prior is the generator (the paper's App. B(b))."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ulrec.diffusion.loss import diffusion_loss, standard_noise, stratified_times, terminal_kl
from ulrec.diffusion.process import noised
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.diffusion.weighting import truncated_logistic
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.models.unified import Unified, UnifiedConfig, UnifiedLoss
from ulrec.networks.decoder import Decoder

__all__ = ["SingleStage", "SingleStageConfig", "Told", "ToldAutoencoder"]

LEVEL_SCALE = 10.0
"""What the logsnr is divided by where it stands among latents: they are about as large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleStageConfig:
    """What the single stage trains.

    Attributes
    ----------
    unified
        Autoencoder, and prior with the network of a generator; ``logsnr_z0`` is the least noise.
    bias_z
        b: where the largest logsnr of a sample lies, drawn from a logistic (b, 1) between the ends
        of the prior's schedule. It is the sigmoid weight's b of two stages.
    """

    unified: UnifiedConfig = UnifiedConfig()
    bias_z: float = 0.0

    def __post_init__(self) -> None:
        if self.unified.prior.name != "diffusion":
            raise ValueError("a single stage samples from its prior; set prior.name to diffusion")
        if self.unified.autoencoder.decoding != "diffusion":
            raise ValueError("the decoder is told the latent's noise; set decoding to diffusion")
        if self.unified.autoencoder.encoder.variance != "fixed":
            raise ValueError("the latent's noise is drawn; set encoder.variance to fixed")


class Told(NamedTuple):
    """Noisy latents (B, D, f, h, w) and the logsnr of their noise (B,)."""

    z: Tensor
    level: Tensor


class ToldAutoencoder(Autoencoder):
    """An autoencoder whose decoder is told how noisy its latents are, as one more channel.

    Where nothing is told, latents are at ``logsnr_z0``.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        self.decoder = Decoder(
            config.decoder,
            latent_channels=config.encoder.latent_channels + 1,
            media_channels=config.media_channels,
            frame_stride=config.encoder.frame_stride,
        )

    def denoise(self, x_t: Tensor, logsnr: Tensor, z_0: Tensor | Told) -> Tensor:
        """Return x_hat for noised media x_t (B, C, F, H, W) at logsnr (B,), given z_0."""
        if not isinstance(z_0, Told):
            z_0 = Told(z_0, z_0.new_full((len(z_0),), self.config.logsnr_z0))
        z, level = z_0
        plane = (level / LEVEL_SCALE).reshape(-1, 1, 1, 1, 1).expand(-1, 1, *z.shape[2:])
        return super().denoise(x_t, logsnr, torch.cat([z, plane.to(z)], dim=1))


class SingleStage(Unified):
    """L_z + L_x with the latent's noise drawn for each sample; it trains as stage 1 does.

    The prior pays the plain bound up to the sample's own logsnr, the decoder is given the latent at
    that logsnr and told it. Over the draws the prior's loss is the sigmoid-weighted one.
    """

    def __init__(self, config: SingleStageConfig) -> None:
        super().__init__(config.unified)
        self.single = config
        self.autoencoder = ToldAutoencoder(config.unified.autoencoder)

    def levels(self, u: Tensor) -> Tensor:
        """Return the largest logsnr of each sample (B,), of uniform ``u`` in [0, 1]."""
        schedule = self.config.prior.schedule_z
        low, high = schedule.logsnr_1, schedule.logsnr_0
        return truncated_logistic(u, bias=self.single.bias_z, low=low, high=high)

    def prior_nats(self, z_clean: Tensor, level: Tensor, *, t: Tensor, eps: Tensor) -> Tensor:
        """Return L_z up to each sample's logsnr ``level`` (B,), in nats (B,)."""
        schedule = self.config.prior.schedule_z
        nats = diffusion_loss(
            self.prior.denoise,
            z_clean,
            t,
            eps,
            schedule=schedule,
            weighting=lambda logsnr: (logsnr < level).to(logsnr),
        )
        return nats + terminal_kl(z_clean, schedule.logsnr_1)

    def loss(
        self, x: Tensor, *, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> UnifiedLoss:
        """Return the loss for media x (B, C, F, H, W) in [-1, 1]; see :meth:`Unified.loss`."""
        generator = torch.default_generator if generator is None else generator

        def times() -> Tensor:
            return stratified_times(len(x), generator, x.device)

        z_clean = self.autoencoder.encode(x)
        level = self.levels(times())
        z_0 = Told(noised(z_clean, level, standard_noise(z_clean, generator)), level)
        eps_z, eps_x = (standard_noise(like, generator) for like in (z_clean, x))
        prior = self.prior_nats(z_clean, level, t=times(), eps=eps_z)
        decoder = self.autoencoder.loss(x, z_0, t=times(), eps=eps_x)  # type: ignore[arg-type]
        total = (self.prior_weight(progress) * prior + decoder).mean() / x[0].numel()
        return UnifiedLoss(total, prior.detach(), decoder.detach())

    @torch.no_grad()
    def sample(
        self,
        *,
        seeds: Sequence[int],
        sampler: SamplerConfig | None = None,
        decoder: SamplerConfig | None = None,
    ) -> Tensor:
        """Draw media (B, C, F, H, W) in [-1, 1], one for each seed."""
        shape = self.config.autoencoder.latent_shape
        z_0 = self.prior.sample(shape, seeds=seeds, sampler=sampler).x_0
        return self.autoencoder.decode(z_0, seeds=seeds, sampler=decoder)
