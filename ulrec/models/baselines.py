"""What Unified Latents are compared with, on the same networks: a KL-VAE, and pixels themselves."""

from __future__ import annotations

import dataclasses

from ulrec.models.autoencoder import AutoencoderConfig
from ulrec.models.base import BaseConfig
from ulrec.models.unified import UnifiedConfig

__all__ = ["kl_vae", "pixel_base"]


def kl_vae(config: UnifiedConfig, *, loss_factor: float) -> UnifiedConfig:
    """Return stage 1 as a KL-VAE with the encoder and decoder of ``config``.

    The variance is learned, the prior is N(0, I) at weight 1 from the start, and the decoder
    answers with one picture: KL + loss_factor / 2 |x - x_hat|^2. A beta-VAE's beta is 1 over the
    loss factor, a Gaussian decoder's variance is so too. The fixed noise at ``logsnr_z0`` stays,
    the least variance a latent can have.

    Parameters
    ----------
    config
        Unified Latents.
    loss_factor
        The price of half a squared error in nats: 100 is a decoder of standard deviation 0.1.
    """
    encoder = dataclasses.replace(config.autoencoder.encoder, variance="learned")
    autoencoder = dataclasses.replace(
        config.autoencoder, encoder=encoder, decoding="mse", loss_factor=loss_factor
    )
    prior = dataclasses.replace(config.prior, name="normal")
    return UnifiedConfig(autoencoder=autoencoder, prior=prior, ramp=0.0)


def pixel_base(base: BaseConfig, media: AutoencoderConfig) -> BaseConfig:
    """Return the base for pixels instead of latents: no autoencoder, or one that changes nothing.

    Patches of the encoder's stride make as many tokens of a picture as of its latents, so that the
    transformer is the same but for its first and last layer. It learns at the decoder's noise
    levels and weighting; what it samples as ``x_hat`` is the picture.

    Raises
    ------
    ValueError
        If latents merge frames: a token of pixels is of one frame.
    """
    if media.encoder.frame_stride != 1:
        raise ValueError(
            f"a base for pixels has tokens of one frame each, the encoder merges "
            f"{media.encoder.frame_stride}; set frame_stride to 1"
        )
    patch = media.encoder.stride * base.network.patch
    return dataclasses.replace(
        base,
        latent_shape=media.media_shape,
        schedule_z=media.schedule_x,
        weighting=dataclasses.replace(base.weighting, name="sigmoid", bias=media.bias_x),
        network=dataclasses.replace(base.network, patch=patch),
    )
