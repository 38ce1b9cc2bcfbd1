"""Batches that depend on (seed, step) alone, so that a run resumes where it stopped, exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

__all__ = [
    "AugmentConfig",
    "Batch",
    "StepBatches",
    "StepData",
    "Vectors",
    "batch_rows",
    "conditioned_source",
    "continued_source",
    "latent_source",
    "media_source",
    "pair_source",
]

Batch = tuple[Any, ...]
"""Tensors, or tensors by name, whose first axis is the samples."""

Source = Callable[[NDArray[np.int64], np.random.Generator], Batch]
"""Fetches the samples of some rows; the generator serves augmentation."""

Vectors = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.float32]]
"""Gives what a source says of some pairs, (B, R)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How pictures vary while stage 1 is trained; small catalogues need it most.

    Attributes
    ----------
    flip
        Share of samples mirrored left to right.
    shift
        Most pixels a sample is moved by, either way along both sides; borders are repeated.
    swap_colours
        Share of samples whose colour channels are put in another order.
    """

    flip: float = 0.5
    shift: int = 0
    swap_colours: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "swap_colours"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} has to lie in [0, 1], got {getattr(self, name)}")
        if self.shift < 0:
            raise ValueError(f"shift has to be at least 0, got {self.shift}")


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
    """The batches of steps ``start`` to ``stop``, the share of one rank of ``world_size``.

    With ``draws`` "rank" every rank fetches its own rows with randomness of its own; with "batch"
    it fetches the whole batch as one process would and keeps its rows.
    """

    source: Source
    num_samples: int
    batch_size: int
    seed: int
    start: int
    stop: int
    rank: int = 0
    world_size: int = 1
    draws: Literal["rank", "batch"] = "rank"

    def __iter__(self) -> Iterator[Batch]:
        own = slice(self.rank, None, self.world_size)
        for step in range(self.start, self.stop):
            rows = batch_rows(self.num_samples, self.batch_size, seed=self.seed, step=step)
            if self.draws == "batch":
                whole = self.source(rows, np.random.default_rng([self.seed, 2, step, 0]))
                yield tuple(_kept(part, own) for part in whole)
            else:
                rng = np.random.default_rng([self.seed, 2, step, self.rank])
                yield self.source(rows[own], rng)


def _kept(part: Any, own: slice) -> Any:
    """Return the own rows of a tensor, or of tensors by name."""
    if isinstance(part, Mapping):
        return {name: tensor[own] for name, tensor in part.items()}
    return part[own]


class StepData(pl.LightningDataModule):
    """Feeds a trainer from ``source``, starting at the step the trainer has reached."""

    def __init__(
        self,
        source: Source,
        *,
        num_samples: int,
        batch_size: int,
        num_steps: int,
        seed: int,
        draws: Literal["rank", "batch"] = "rank",
    ) -> None:
        super().__init__()
        self.source = source
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.draws = draws

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
            draws=self.draws,
        )
        return DataLoader(batches, batch_size=None)


def media_source(
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    rows: NDArray[np.int64],
    *,
    augment: AugmentConfig | None = None,
) -> Source:
    """Return a source of media (B, C, F, H, W) in [-1, 1].

    Parameters
    ----------
    read
        Reads media by row, such as ``MediaStore.read``.
    rows
        The rows to train on.
    augment
        How the media vary; as they are by default.
    """
    config = augment or AugmentConfig(flip=0.0)

    def fetch(batch: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        return (torch.from_numpy(augmented(read(rows[batch]), config, rng)),)

    return fetch


def augmented(
    x: NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return media (B, C, F, H, W), each varied by itself; all frames of one vary alike."""
    mirrored = rng.random(len(x)) < config.flip
    x = np.where(mirrored[:, None, None, None, None], x[..., ::-1], x)
    if config.swap_colours:
        swapped = np.flatnonzero(rng.random(len(x)) < config.swap_colours)
        for row in swapped:
            x[row] = x[row, rng.permutation(x.shape[1])]
    if config.shift:
        x = _shifted(x, rng.integers(-config.shift, config.shift + 1, (len(x), 2)))
    return x


def _shifted(x: NDArray[np.float32], by: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move each sample of media (B, C, F, H, W) by (rows, columns), repeating the border."""
    height, width = x.shape[-2:]
    row = np.clip(np.arange(height) - by[:, :1], 0, height - 1)  # (B, H)
    column = np.clip(np.arange(width) - by[:, 1:], 0, width - 1)  # (B, W)
    moved = np.take_along_axis(x, row[:, None, None, :, None], axis=-2)
    return np.take_along_axis(moved, column[:, None, None, None, :], axis=-1)


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


def conditioned_source(
    z: NDArray[np.float32], item_rows: NDArray[np.int64], vectors: Mapping[str, Vectors]
) -> Source:
    """Return a source of (latents of a liked item, {source of the condition: its vectors}).

    Parameters
    ----------
    z
        The latents, (I, D, f, h, w).
    item_rows
        Row of the item of each pair, (P,).
    vectors
        What each source says of some of the P pairs.
    """

    def fetch(batch: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        given = {name: torch.from_numpy(say(batch, rng)) for name, say in vectors.items()}
        return torch.from_numpy(np.array(z[item_rows[batch]])), given

    return fetch


def continued_source(
    source: Source, given: NDArray[np.float32], item_rows: NDArray[np.int64]
) -> Source:
    """Return a source of what another gives of pairs and, last, the latents to go on from.

    Parameters
    ----------
    source
        Such as of :func:`conditioned_source`.
    given
        Of all items, (I, D + 1, f, h, w); see :func:`ulrec.models.prediction.given_latents`.
    item_rows
        Row of the item of each pair, (P,).
    """

    def fetch(batch: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        return (*source(batch, rng), torch.from_numpy(given[item_rows[batch]]))

    return fetch
