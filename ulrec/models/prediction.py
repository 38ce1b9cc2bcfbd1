"""Going on from given frames: what a base is told of them, and clips longer than it draws.

The frames that are given are coded as a clip that stands still after the last of them: what comes
later is never looked at, so the condition cannot depend on it, wherever the given frames end within
a latent frame (5 frames given and 4 to a latent one, as with Kinetics-600: the first latent is of
four given frames, the second of one that is shown four times). The encoder may look both ways all
the same, and what it says of frames that were given in full is what it says in training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ulrec.models.autoencoder import Autoencoder
from ulrec.networks.transformer import Cond

__all__ = ["given_latents", "held", "left_open", "with_given"]

LEAST_STD = 0.05


def held(x: Tensor, num_given: int, *, num_frames: int | None = None) -> Tensor:
    """Return clips that stand still after their first ``num_given`` frames.

    Parameters
    ----------
    x
        Media (B, C, F, H, W); frames after the given ones are not looked at, and need not exist.
    num_given
        Frames that are given.
    num_frames
        Frames of the answer; F by default.

    Raises
    ------
    ValueError
        If there are not so many frames, or all of the clip is given.
    """
    length = x.shape[2] if num_frames is None else num_frames
    if not 1 <= num_given <= x.shape[2] or num_given >= length:
        raise ValueError(
            f"of a clip of {length} frames 1 to {length - 1} can be given, and those have to be "
            f"there: got {num_given} of {x.shape[2]}"
        )
    last = x[:, :, num_given - 1 : num_given]
    rest = last.expand(-1, -1, length - num_given, -1, -1)
    return torch.cat([x[:, :, :num_given], rest], dim=2)


def given_latents(autoencoder: Autoencoder, x: Tensor, num_given: int) -> Tensor:
    """Return the latents of given frames and a plane of ones, (B, D + 1, f, h, w).

    ``x`` is (B, C, F, H, W) with at least ``num_given`` frames; see :func:`held` for the errors.
    """
    frames = autoencoder.config.frames
    z = autoencoder.encode(held(x, num_given, num_frames=frames))
    return torch.cat([z, torch.ones_like(z[:, :1])], dim=1)


def left_open(z: Tensor, given: Tensor) -> Tensor:
    """Return how far latents lie from those of clips that stand still, root mean square.

    Parameters
    ----------
    z
        Latents of training clips, (N, D, f, h, w).
    given
        Of the same clips, from :func:`given_latents`, (N, D + 1, f, h, w).

    Returns
    -------
    Tensor
        (D, f, 1, 1), of each channel and latent frame; no less than 0.05, so that frames that are
        known almost exactly do not take up the training.
    """
    squares = (z - given[:, :-1]).square().mean(dim=(0, 3, 4), keepdim=True)
    return squares[0].sqrt().clamp(min=LEAST_STD)


def with_given(cond: Cond, given: Tensor, *, keep: Tensor | None = None) -> Cond:
    """Return the condition with latents to go on from.

    Parameters
    ----------
    cond
        Of B samples.
    given
        From :func:`given_latents`, (B, D + 1, f, h, w).
    keep
        (B,) bool: where False a sample is given nothing; all are by default.
    """
    if keep is not None:
        given = torch.where(keep[:, None, None, None, None], given, torch.zeros_like(given))
    return cond._replace(given=given)
