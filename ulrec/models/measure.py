"""What a trained stage 1 is judged by: bits of a latent, and what the decoder gains from it."""

from __future__ import annotations

import torch
from torch import Tensor

from ulrec.models.autoencoder import Autoencoder
from ulrec.models.prior import Prior

__all__ = ["gain_of_z", "latent_nats"]


@torch.no_grad()
def latent_nats(prior: Prior, z_clean: Tensor, *, num_levels: int, seed: int) -> Tensor:
    """Return L_z of each latent in nats (B,), an upper bound on its information (Eq. 3).

    Parameters
    ----------
    prior
        Trained at weight 1.
    z_clean
        (B, D, f, h, w).
    num_levels
        Noise levels a latent: one random time in each of that many equal pieces of [0, 1].
    seed
        Of times and noises.
    """
    generator = torch.Generator().manual_seed(seed)
    total = z_clean.new_zeros(len(z_clean))
    for level in range(num_levels):
        t = _times(level, num_levels, len(z_clean), generator, z_clean)
        total += prior.loss(z_clean, t=t, eps=_noise(z_clean, generator))
    return total / num_levels


@torch.no_grad()
def gain_of_z(
    autoencoder: Autoencoder, x: Tensor, z_clean: Tensor, *, num_levels: int, seed: int
) -> Tensor:
    """Return L_x(z of another sample) - L_x(z) in nats (B,), loss factor included.

    Near zero it says that the latent has collapsed: the decoder does as well with a wrong one.
    Times and noises are shared between the two; every sample gets its predecessor's latent.

    Raises
    ------
    ValueError
        If there is one sample only: its own latent would be taken for a wrong one.
    """
    if len(x) < 2:
        raise ValueError(f"the gain of z takes at least two samples, got {len(x)}; pass more")
    generator = torch.Generator().manual_seed(seed)
    z_0 = autoencoder.noise(z_clean, _noise(z_clean, generator))
    gain = x.new_zeros(len(x))
    for level in range(num_levels):
        t = _times(level, num_levels, len(x), generator, x)
        eps = _noise(x, generator)
        gain += autoencoder.loss(x, z_0.roll(1, 0), t=t, eps=eps)
        gain -= autoencoder.loss(x, z_0, t=t, eps=eps)
    return gain / num_levels


def _times(
    level: int, num_levels: int, num: int, generator: torch.Generator, like: Tensor
) -> Tensor:
    return ((level + torch.rand(num, generator=generator)) / num_levels).to(like)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator).to(x)
