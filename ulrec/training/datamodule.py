"""Batches that depend on (seed, step) alone, so that a run resumes where it stopped, exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

__all__ = [
    "Batch",
    "StepBatches",
    "StepData",
    "batch_rows",
    "latent_source",
    "media_source",
    "pair_source",
]

Batch = tuple[Tensor, ...]
Source = Callable[[NDArray[np.int64], np.random.Generator], Batch]
"""Fetches the samples of some rows; the generator serves augmentation."""


def batch_rows(num_samples: int, batch_size: int, *, seed: int, step: int) -> NDArray[np.int64]:
    """Return the rows of one global batch, (batch_size,): every epoch is a seeded permutation.

    Raises
    ------
    ValueError
        If there is nothing to choose from.
    """
    if num_samples < 1:
        raise ValueError(f"training takes at least one sample, got {num_samples}; check the split")
    start = step * batch_size
    rows = np.empty(batch_size, np.int64)
    filled = 0
    while filled < batch_size:
        epoch, offset = divmod(start + filled, num_samples)
        piece = _order(num_samples, seed, epoch)[offset : offset + batch_size - filled]
        rows[filled : filled + len(piece)] = piece
        filled += len(piece)
    return rows


@functools.lru_cache(maxsize=2)
def _order(num_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 1, epoch]).permutation(num_samples)


@dataclass(frozen=True, kw_only=True)
class StepBatches(IterableDataset[Batch]):
    """The batches of steps ``start`` to ``stop``, the share of one rank of ``world_size``."""

    source: Source
    num_samples: int
    batch_size: int
    seed: int
    start: int
    stop: int
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, self.stop):
            rows = batch_rows(self.num_samples, self.batch_size, seed=self.seed, step=step)
            yield self.source(
                rows[self.rank :: self.world_size],
                np.random.default_rng([self.seed, 2, step, self.rank]),
            )


class StepData(pl.LightningDataModule):
    """Feeds a trainer from ``source``, starting at the step the trainer has reached."""

    def __init__(
        self, source: Source, *, num_samples: int, batch_size: int, num_steps: int, seed: int
    ) -> None:
        super().__init__()
        self.source = source
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the batches that are left."""
        trainer = self.trainer
        assert trainer is not None
        batches = StepBatches(
            source=self.source,
            num_samples=self.num_samples,
            batch_size=self.batch_size,
            seed=self.seed,
            start=trainer.global_step,
            stop=self.num_steps,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return DataLoader(batches, batch_size=None)


def media_source(
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    rows: NDArray[np.int64],
    *,
    flip: float = 0.0,
) -> Source:
    """Return a source of media (B, C, F, H, W) in [-1, 1].

    Parameters
    ----------
    read
        Reads media by row, such as ``MediaStore.read``.
    rows
        The rows to train on.
    flip
        Share of samples mirrored left to right.
    """

    def fetch(batch: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        x = torch.from_numpy(read(rows[batch]))
        mirrored = torch.from_numpy(rng.random(len(batch)) < flip)
        return (torch.where(mirrored[:, None, None, None, None], x.flip(-1), x),)

    return fetch


def latent_source(z: NDArray[np.float32], rows: NDArray[np.int64]) -> Source:
    """Return a source of clean latents (B, D, f, h, w) of some rows of the store."""

    def fetch(batch: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        return (torch.from_numpy(np.array(z[rows[batch]])),)

    return fetch


def pair_source(
    z: NDArray[np.float32], item_rows: NDArray[np.int64], factors: NDArray[np.float32]
) -> Source:
    """Return a source of (latents of a liked item, the factor that has not seen the pair).

    Parameters
    ----------
    z
        The latents, (I, D, f, h, w).
    item_rows
        Row of the item of each pair, (P,).
    factors
        Factor of the user of each pair, folded in without that pair, (P, R).
    """

    def fetch(batch: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        latents = torch.from_numpy(np.array(z[item_rows[batch]]))
        return latents, torch.from_numpy(factors[batch])

    return fetch
