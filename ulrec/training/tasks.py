"""Lightning modules: they call a model's loss, log, and set the optimiser. No mathematics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ulrec.conditioning.source import Source
from ulrec.conditioning.sources import Sources
from ulrec.diffusion.draws import Share
from ulrec.models.base import Base
from ulrec.models.prediction import with_given
from ulrec.models.unified import Unified
from ulrec.training.datamodule import Batch
from ulrec.training.split import split_weights

__all__ = [
    "BaseTask",
    "OptimiserConfig",
    "Task",
    "UnifiedTask",
    "learning_rate_factor",
    "step_seed",
]

DROPOUT = 2048
"""The rank that seeds dropout on rank 0: with the loss's own seed it would repeat its noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """AdamW with a linear warm-up over a share ``warmup`` and a linear decay to ``final``."""

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: float = 0.1
    final: float = 0.02


def learning_rate_factor(step: int, *, num_steps: int, warmup: float, final: float) -> float:
    """Return the factor on the learning rate at a step.

    Examples
    --------
    >>> [learning_rate_factor(s, num_steps=10, warmup=0.2, final=0.0) for s in (0, 1, 6)]
    [0.5, 1.0, 0.5]
    """
    rising = max(1, round(warmup * num_steps))
    if step < rising:
        return (step + 1) / rising
    return max(final, 1 - (step - rising) / max(1, num_steps - rising))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of one step on one rank (below 4099)."""
    return ((seed * 1_000_003 + step) * 4_099 + rank) % (2**63)


class Task(pl.LightningModule):
    """What both stages share: per-step randomness, the optimiser and its schedule."""

    def __init__(self, *, optimiser: OptimiserConfig, num_steps: int, seed: int) -> None:
        super().__init__()
        self.optimiser = optimiser
        self.num_steps = num_steps
        self.seed = seed
        self.draws: Literal["rank", "batch"] = "rank"

    def generator(self) -> torch.Generator:
        """Return this step's generator; the global one (dropout) gets a seed of its own."""
        step, rank = self.global_step, self.global_rank
        torch.manual_seed(step_seed(self.seed, step, DROPOUT + rank))
        if self.draws == "batch":
            seed = step_seed(self.seed, step, 0)
            return Share.of(seed, rank=rank, world_size=self.trainer.world_size)
        return torch.Generator().manual_seed(step_seed(self.seed, step, rank))

    def configure_model(self) -> None:
        """Split the weights, where the strategy is to."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy):
            split_weights(self, self.trainer.strategy.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        """Build AdamW and its schedule."""
        config = self.optimiser
        adamw = torch.optim.AdamW(
            self.parameters(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

        def factor(step: int) -> float:
            return learning_rate_factor(
                step, num_steps=self.num_steps, warmup=config.warmup, final=config.final
            )

        return [adamw], [{"scheduler": LambdaLR(adamw, factor), "interval": "step"}]


class UnifiedTask(Task):
    """Stage 1 on batches (media,)."""

    def __init__(self, model: Unified, **settings: Any) -> None:
        super().__init__(**settings)
        self.model = model

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss; log nats of both terms and bits per pixel."""
        (x,) = batch
        progress = self.global_step / self.num_steps
        loss = self.model.loss(x, generator=self.generator(), progress=progress)
        bits = self.model.bits_per_pixel(loss.prior)
        self.log("prior_nats", loss.prior.mean(), sync_dist=True)
        self.log("decoder_nats", loss.decoder.mean(), sync_dist=True)
        self.log("bits_per_pixel", bits, prog_bar=True, sync_dist=True)
        self.log("loss", loss.total, prog_bar=True, sync_dist=True)
        return loss.total


class BaseTask(Task):
    """Stage 2 on batches (latents,), (latents, vectors) or, of several sources, by their names.

    A third part holds latents to go on from, which a share ``given_dropout`` of samples is without.
    """

    def __init__(
        self,
        model: Base,
        conditioner: Source | Sources | None,
        *,
        given_dropout: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.given_dropout = given_dropout
        self.model = model
        self.conditioner = conditioner

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss under the condition, dropped for some samples."""
        generator = self.generator()
        z, cond = batch[0], None
        if self.conditioner is not None:
            keep = self.conditioner.drop(len(z), generator)
            cond = self.conditioner(batch[1], keep=keep)
            if len(batch) > 2:
                draw = torch.rand(len(z), generator=generator, device=generator.device)
                keep_given = (draw >= self.given_dropout).to(z.device)
                cond = with_given(cond, batch[2], keep=keep_given)
        loss = self.model.loss(z, cond, generator=generator)
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss
