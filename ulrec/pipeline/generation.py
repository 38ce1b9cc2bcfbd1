"""Media made for users, and the seeds they are made from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Generation", "decoder_seeds", "sample_seeds"]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Media made for users, N = users x per_user, user by user.

    Attributes
    ----------
    user_ids
        For whom each was made, (N,).
    media
        Uint8 (N, C, F, H, W).
    latents
        Estimates of z_clean, float32 (N, D, f, h, w): what the index is searched with.
    seeds
        Of each sample, int64 (N,).
    personal
        False where nothing is known of the user (no history; no factor, where those are foreign)
        and nobody in particular was drawn for, (N,).
    can_fold_in
        Whether users' factors follow from their histories. If not, the condition of a training pair
        had seen that pair: how well pictures fit what was trained on says little.
    """

    user_ids: NDArray[Any]
    media: NDArray[np.uint8]
    latents: NDArray[np.float32]
    seeds: NDArray[np.int64]
    personal: NDArray[np.bool_]
    can_fold_in: bool


def sample_seeds(
    seed: int, rows: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return a seed for each (row, number), the same wherever they stand."""
    texts = (
        f"{seed}/{r}/{n}".encode() for r, n in zip(rows.tolist(), numbers.tolist(), strict=True)
    )
    digests = (hashlib.blake2b(text, digest_size=6).digest() for text in texts)
    return np.array([int.from_bytes(d, "big") for d in digests], dtype=np.int64)


def decoder_seeds(seeds: NDArray[np.int64]) -> list[int]:
    """Return seeds for the decoder's own noise: another stream than the latent's of the seed."""
    return [seed ^ 0x5DEECE66D for seed in seeds.tolist()]
