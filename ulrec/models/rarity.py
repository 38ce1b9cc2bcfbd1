"""How many bits the stage-1 prior charges for a latent: few for a typical one, many for a novel."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ulrec.checkpoint import load_component
from ulrec.config import from_mapping
from ulrec.models.components import load_weights
from ulrec.models.prior import Prior, PriorConfig

__all__ = ["bits_per_pixel", "load_prior"]


def load_prior(folder: str | Path) -> Prior:
    """Return the prior in a folder.

    Raises
    ------
    ArtefactError
        If there is none or it is damaged.
    """
    component = load_component(Path(folder), kind="prior")
    channels = int(component.manifest.info["channels"])
    prior = Prior(from_mapping(PriorConfig, component.config), channels=channels)
    load_weights(prior, component)
    return prior


@torch.no_grad()
def bits_per_pixel(
    prior: Prior, z_clean: Tensor, *, num_pixels: int, num_levels: int
) -> NDArray[np.float32]:
    """Return an upper bound on the bits of each latent, per pixel of its media, (B,).

    All latents are given the same times and noises, in any batch: what they are charged compares
    with less noise than :func:`ulrec.models.measure.latent_nats`, whose mean is as good a bound.

    Parameters
    ----------
    prior
        Trained at weight 1.
    z_clean
        (B, D, f, h, w).
    num_pixels
        F H W of the media.
    num_levels
        Noise levels: one random time in each of that many equal pieces of [0, 1].
    """
    generator = torch.Generator().manual_seed(0)
    nats = z_clean.new_zeros(len(z_clean))
    for level in range(num_levels):
        t = (level + torch.rand(1, generator=generator)) / num_levels
        eps = torch.randn((1, *z_clean.shape[1:]), generator=generator).to(z_clean)
        nats += prior.loss(z_clean, t=t.to(z_clean).expand(len(nats)), eps=eps.expand_as(z_clean))
    bits: NDArray[np.float32] = (nats / (num_levels * math.log(2) * num_pixels)).cpu().numpy()
    return bits
