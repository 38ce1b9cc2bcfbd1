"""Encoder and diffusion decoder: media to latents and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ulrec.diffusion.loss import diffusion_loss
from ulrec.diffusion.process import noised, x_from_v
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig, sample
from ulrec.diffusion.schedule import Schedule
from ulrec.diffusion.weighting import Weighting
from ulrec.networks.decoder import Decoder, DecoderConfig
from ulrec.networks.encoder import Encoder, EncoderConfig

__all__ = ["Autoencoder", "AutoencoderConfig", "Posterior"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """What an autoencoder is; the defaults are tiny and suit small pictures and few steps.

    The paper's c_lf of 1.3 to 1.7 with b about -3 belongs to 512 x 512 pictures and long training;
    at that price the latent of a short one collapses (examples/benchmarks/RESULTS.md).

    Attributes
    ----------
    media_channels, frames, height, width
        The media it takes, (C, F, H, W).
    logsnr_z0
        logsnr_z(0), the fixed noise of the latents the decoder is given (the paper: 5).
    schedule_x
        Noise levels of the decoder.
    loss_factor
        c_lf > 1: the price of decoder nats in latent nats; more of it buys more bits.
    bias_x
        b_x: above this logsnr the decoder's loss fades.
    decoding
        "diffusion", or "mse": the decoder answers with one picture, for comparison (the paper's
        table of variants).
    encoder, decoder
        The networks.
    """

    media_channels: int = 3
    frames: int = 1
    height: int = 32
    width: int = 32
    logsnr_z0: float = 5.0
    schedule_x: Schedule = Schedule(logsnr_0=10.0, logsnr_1=-10.0, shift=2.0)
    loss_factor: float = 15.0
    bias_x: float = 0.0
    decoding: Literal["diffusion", "mse"] = "diffusion"
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()

    def __post_init__(self) -> None:
        if not self.loss_factor > 1:
            raise ValueError(
                "loss_factor has to be above 1, or the latent never pays for its bits; got "
                f"{self.loss_factor}"
            )
        if self.frames % self.encoder.frame_stride:
            raise ValueError(
                f"{self.frames} frames do not divide by the encoder's frame_stride "
                f"{self.encoder.frame_stride}; change one of them"
            )
        for name, stride in (("encoder", self.encoder.stride), ("decoder", self.decoder.stride)):
            if self.height % stride or self.width % stride:
                raise ValueError(
                    f"media of {self.height}x{self.width} do not divide by the {name}'s stride "
                    f"{stride}; change the size, the patch or the number of stages"
                )

    @property
    def media_shape(self) -> tuple[int, int, int, int]:
        """(C, F, H, W)."""
        return self.media_channels, self.frames, self.height, self.width

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(D, f, h, w)."""
        stride = self.encoder.stride
        frames = self.frames // self.encoder.frame_stride
        grid = (frames, self.height // stride, self.width // stride)
        return self.encoder.latent_channels, *grid


class Posterior(NamedTuple):
    """Mean and variance of z_clean, (B, D, f, h, w); no variance where E is deterministic."""

    mean: Tensor
    variance: Tensor | None


class Autoencoder(nn.Module):
    """E and D of Unified Latents; trained by :class:`ulrec.models.unified.Unified`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.weighting = Weighting(name="sigmoid", bias=config.bias_x)
        self.encoder = Encoder(config.encoder, media_channels=config.media_channels)
        self.decoder = Decoder(
            config.decoder,
            latent_channels=config.encoder.latent_channels,
            media_channels=config.media_channels,
            frame_stride=config.encoder.frame_stride,
        )

    def encode(self, x: Tensor) -> Tensor:
        """Return z_clean (B, D, f, h, w) of media x (B, C, F, H, W) in [-1, 1], or its mean.

        Raises
        ------
        ValueError
            If the media are not of the configured shape.
        """
        return self.posterior(x).mean

    def posterior(self, x: Tensor) -> Posterior:
        """Return what the encoder says of z_clean; raises as :meth:`encode` does."""
        if tuple(x.shape[1:]) != self.config.media_shape:
            raise ValueError(
                f"this autoencoder takes media (B, *{self.config.media_shape}), got "
                f"{tuple(x.shape)}; prepare the media at its size"
            )
        z = self.encoder(x).float()
        if self.config.encoder.variance == "fixed":
            return Posterior(z, None)
        mean, log_variance = z.chunk(2, dim=1)
        return Posterior(mean, log_variance.exp())

    def noise(self, z_clean: Tensor, eps: Tensor) -> Tensor:
        """Return z_0 = alpha_0 z_clean + sigma_0 eps, what the decoder is given."""
        return noised(z_clean, z_clean.new_full((len(z_clean),), self.config.logsnr_z0), eps)

    def denoise(self, x_t: Tensor, logsnr: Tensor, z_0: Tensor) -> Tensor:
        """Return x_hat for noised media x_t (B, C, F, H, W) at logsnr (B,), given z_0."""
        return x_from_v(x_t, logsnr, self.decoder(x_t, logsnr, z_0).float())

    def estimate(self, z_0: Tensor) -> Tensor:
        """Return x_hat from z_0 alone: of media without signal, at the noisiest level."""
        x_t = z_0.new_zeros((len(z_0), *self.config.media_shape))
        return self.denoise(x_t, z_0.new_full((len(z_0),), self.config.schedule_x.logsnr_1), z_0)

    def loss(self, x: Tensor, z_0: Tensor, *, t: Tensor, eps: Tensor) -> Tensor:
        """Return the decoder term L_x in nats per sample (B,): Eq. 4 with the sign of Figure 3.

        Of the "mse" decoder it is c_lf 1/2 |x - x_hat|^2, that of a Gaussian of variance 1 / c_lf,
        whatever ``t`` and ``eps``.
        """
        if self.config.decoding == "mse":
            error = (x - self.estimate(z_0)).square().flatten(1).sum(1)
            return self.config.loss_factor * 0.5 * error
        nats = diffusion_loss(
            self.denoise,
            x,
            t,
            eps,
            schedule=self.config.schedule_x,
            weighting=self.weighting,
            cond=z_0,
        )
        return self.config.loss_factor * nats

    @torch.no_grad()
    def decode(
        self, z_0: Tensor, *, seeds: Sequence[int], sampler: SamplerConfig | None = None
    ) -> Tensor:
        """Draw one sample of the media for each latent.

        Parameters
        ----------
        z_0
            Noisy latents (B, D, f, h, w) at ``logsnr_z0``; noise clean ones with :meth:`noise`.
        seeds
            One a sample; the same seed and latent give the same media in any batch. The "mse"
            decoder draws nothing.
        sampler
            Method and steps; DDIM with 25 by default.

        Returns
        -------
        Tensor
            Media (B, C, F, H, W) in [-1, 1].

        Raises
        ------
        ValueError
            If there is not one seed for each latent, or the latents are of another grid.
        """
        if tuple(z_0.shape[1:]) != self.config.latent_shape:
            raise ValueError(
                f"this autoencoder decodes latents (B, *{self.config.latent_shape}), got "
                f"{tuple(z_0.shape)}; use latents that it has encoded, or a base trained on them"
            )
        if len(seeds) != len(z_0):
            raise ValueError(
                f"decoding takes one seed for each of {len(z_0)} latents, got {len(seeds)}"
            )
        if self.config.decoding == "mse":
            return self.estimate(z_0).clamp(-1, 1)

        def denoise(x_t: Tensor, logsnr: Tensor, cond: Tensor) -> Tensor:
            return self.denoise(x_t, logsnr, cond).clamp(-1, 1)

        noise = NoiseSource(seeds, self.config.media_shape, device=z_0.device)
        drawn = sample(
            denoise,
            noise,
            schedule=self.config.schedule_x,
            config=sampler or SamplerConfig(),
            cond=z_0,
        )
        return drawn.x_hat
