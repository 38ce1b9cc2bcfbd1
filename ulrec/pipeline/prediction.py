"""Clips that go on from given frames, for users or for nobody in particular, as long as asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ulrec.conditioning.sources import USER
from ulrec.data.media import to_uint8
from ulrec.errors import DataError
from ulrec.models.prediction import given_latents, with_given
from ulrec.models.steering import Pull, sample_pulled
from ulrec.pipeline.generation import decoder_seeds, sample_seeds

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["continued"]

CLIPS_AT_ONCE = 4

STAYS = 0.12
"""How far a pixel changes, in [-1, 1], until what is there is another thing."""


@torch.no_grad()
def continued(
    pipeline: Pipeline,
    clips: NDArray[np.uint8],
    *,
    num_frames: int,
    factors: NDArray[np.float32] | None,
    guidance: float,
    frames_guidance: float,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Return clips with what follows their frames; see :meth:`Pipeline.continue_clips`.

    A window of the model's length at a time: its first frames are the last ones there are. Of a
    window it draws null + w_f (frames - null) + w_u (frames and user - frames): both guidances act
    beside each other, and each at 1 is the plain condition.
    """
    _check(pipeline, clips, num_frames)
    length, given = pipeline.autoencoder.config.frames, pipeline.base.config.given_frames
    made = []
    for start in range(0, len(clips), CLIPS_AT_ONCE):
        rows = np.arange(start, min(start + CLIPS_AT_ONCE, len(clips)))
        clip, window = clips[rows], 0
        while clip.shape[2] < num_frames:
            seeds = sample_seeds(seed, rows, np.full_like(rows, window))
            following = _window(
                pipeline,
                clip[:, :, -given:],
                factors=None if factors is None else factors[rows],
                weights=(frames_guidance, guidance),
                seeds=seeds,
            )
            clip = np.concatenate([clip, following[:, :, given:length]], axis=2)
            window += 1
        made.append(clip[:, :, :num_frames])
        if progress is not None:
            progress(len(rows))
    return np.concatenate(made)


def _window(
    pipeline: Pipeline,
    last: NDArray[np.uint8],
    *,
    factors: NDArray[np.float32] | None,
    weights: tuple[float, float],
    seeds: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return one window (B, C, F, H, W) that starts with the given frames (B, C, K, H, W)."""
    device, num = pipeline.device, len(last)
    x = torch.from_numpy(last.astype(np.float32) / 127.5 - 1).to(device)
    given = given_latents(pipeline.autoencoder, x, last.shape[2])
    null = pipeline.conditioner.null(num)
    alone = with_given(null, given)
    frames, user = (torch.full((num,), weight, device=device) for weight in weights)
    pulls = [Pull(alone, frames)]
    if factors is not None:
        both = with_given(pipeline.conditioner({USER: torch.from_numpy(factors).to(device)}), given)
        pulls = [Pull(alone, frames - user), Pull(both, user)]
    # What follows moves as the frames do that it follows, whatever else is drawn may do.
    sampler = dataclasses.replace(pipeline.sampler, motion=1.0)
    drawn = sample_pulled(pipeline.base, pulls, null=null, seeds=seeds.tolist(), sampler=sampler)
    decoded = pipeline.autoencoder.decode(
        drawn.x_0, seeds=decoder_seeds(seeds), sampler=pipeline.decoder
    )
    return to_uint8(_anchored(decoded, x).cpu().numpy())


def _anchored(decoded: Tensor, given: Tensor) -> Tensor:
    """Return decoded clips with what decoding lost of the last given frame, (B, C, F, H, W).

    What a frame keeps of the last one given is exact then: no autoencoder has touched it. Where a
    pixel changes by much more than ``STAYS``, what was lost there belonged to what has gone, and
    is not added. Frames before the last given one are the decoded ones.
    """
    last = given.shape[2] - 1
    lost = given[:, :, last:] - decoded[:, :, last : last + 1]
    change = decoded[:, :, last:] - decoded[:, :, last : last + 1]
    stays = torch.exp(-0.5 * (change / STAYS).square().mean(dim=1, keepdim=True))
    following = (decoded[:, :, last:] + stays * lost).clamp(-1, 1)
    return torch.cat([decoded[:, :, :last], following], dim=2)


def _check(pipeline: Pipeline, clips: NDArray[Any], num_frames: int) -> None:
    given = pipeline.base.config.given_frames
    if not given:
        raise DataError(
            "this run's base goes on from no frames; set base.given_frames (5, say) and run "
            "`ulrec condition` again"
        )
    channels, _, height, width = pipeline.autoencoder.config.media_shape
    sides = (clips.shape[1], *clips.shape[3:]) if clips.ndim == 5 else ()
    if sides != (channels, height, width) or clips.shape[2] < given:
        raise DataError(
            f"clips to go on from have to be (N, {channels}, at least {given}, {height}, {width}),"
            f" got {clips.shape}; resize them, or give more frames"
        )
    if clips.dtype != np.uint8:
        raise DataError(f"clips to go on from have to be uint8, got {clips.dtype}; scale them")
    if num_frames <= clips.shape[2]:
        raise DataError(
            f"num_frames counts the given ones too: it has to be above {clips.shape[2]}, got "
            f"{num_frames}"
        )
