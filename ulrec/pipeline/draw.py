"""Samples steered by vectors of a run's sources: what all generation comes down to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ulrec.data.media import to_uint8
from ulrec.errors import DataError
from ulrec.models.steering import Pull, sample_pulled
from ulrec.networks.transformer import Cond
from ulrec.pipeline.generation import decoder_seeds

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["SAMPLES_AT_ONCE", "Steer", "at_once", "draw"]

SAMPLES_AT_ONCE = 64
"""Pictures, or frames of clips: larger batches leave a CPU's cache and are slower."""


@dataclass(frozen=True, kw_only=True)
class Steer:
    """What a source says of each sample: ``vectors`` (N, R), and its guidance ``weights`` (N,).

    A weight below zero keeps away from the vector.
    """

    source: str
    vectors: NDArray[np.float32]
    weights: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        bad = int((~np.isfinite(self.vectors)).any(axis=1).sum())
        if bad or not np.isfinite(self.weights).all():
            what = f"{bad} vectors" if bad else "weights"
            raise DataError(
                f"{what} of the source '{self.source}' hold NaN or infinity; mend or drop them"
            )


@torch.no_grad()
def draw(
    pipeline: Pipeline,
    steers: Sequence[Steer],
    *,
    seeds: NDArray[np.int64],
    shift: NDArray[np.float32] | None = None,
    decode: bool = True,
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw null + sum_i w_i (cond_i - null), each source alone with the others at their nulls.

    Parameters
    ----------
    pipeline
        Whose models, sampler and decoder are used.
    steers
        At least one, of N samples each.
    seeds
        One a sample, (N,).
    shift
        What all conditions and the null are shifted by, (N, D, f, h, w): a source whose condition
        is the null and this shift, with a weight of 1 (in the formula it stands for itself).
    decode
        Without it the media are empty.
    progress
        Called with the number of samples just made.

    Returns
    -------
    media, latents
        Uint8 (N, C, F, H, W) and float32 (N, D, f, h, w).
    """
    device, sources = pipeline.device, pipeline.conditioner
    media = [np.zeros((0, *pipeline.autoencoder.config.media_shape), np.uint8)]
    latents = [np.zeros((0, *pipeline.base.config.latent_shape), np.float32)]
    size = at_once(pipeline)
    for start in range(0, len(seeds), size):
        part = slice(start, start + size)
        by = None if shift is None else _tensor(shift[part], device)
        pulls = [
            Pull(
                _shifted(sources({steer.source: _tensor(steer.vectors[part], device)}), by),
                _tensor(steer.weights[part], device),
            )
            for steer in steers
        ]
        drawn = sample_pulled(
            pipeline.base,
            pulls,
            null=_shifted(sources.null(len(seeds[part])), by),
            seeds=seeds[part].tolist(),
            sampler=pipeline.sampler,
        )
        latents.append(drawn.x_hat.cpu().numpy())
        if decode:
            x = pipeline.autoencoder.decode(
                drawn.x_0, seeds=decoder_seeds(seeds[part]), sampler=pipeline.decoder
            )
            media.append(to_uint8(x.cpu().numpy()))
        if progress is not None:
            progress(len(seeds[part]))
    return np.concatenate(media), np.concatenate(latents)


def at_once(pipeline: Pipeline) -> int:
    """Return how many samples :func:`draw` puts into a batch."""
    return max(1, SAMPLES_AT_ONCE // pipeline.autoencoder.config.frames)


def _shifted(cond: Cond, by: torch.Tensor | None) -> Cond:
    if by is None:
        return cond
    return cond._replace(shift=by if cond.shift is None else cond.shift + by)


def _tensor(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)
