"""Run a task to its last step, resuming exactly where an earlier run stopped."""

from __future__ import annotations

import logging
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from ulrec.errors import ArtefactError
from ulrec.training.callbacks import (
    Draw,
    LossLog,
    NonFiniteGuard,
    Progress,
    ResumePoint,
    SampleGrid,
    WeightAverage,
)
from ulrec.training.compute import ComputeConfig, computed
from ulrec.training.datamodule import Source, StepData
from ulrec.training.tasks import OptimiserConfig, Task

__all__ = ["FitConfig", "fit", "is_first_process"]

LAUNCHED = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What Lightning sets where it has started processes, and takes for a start from outside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """How a model is trained.

    Attributes
    ----------
    num_steps, batch_size
        Optimiser steps, and samples of one step over all devices.
    optimiser
        AdamW and its schedule.
    average
        Horizon of the moving average of the weights, as a share of the steps.
    clip
        Largest norm of the gradient.
    precision
        "32-true", or "bf16-mixed" where the device is fast at it.
    accelerator, devices, strategy
        Lightning's: "auto", or "ddp" for several devices or processes. "fsdp" splits weights,
        their average and the optimiser's state over them as well (FSDP2), for models that one
        device cannot hold; each process still builds the model whole, and keeps a whole copy on its
        host for what is saved.
    draws
        Of several processes: with "rank" each has randomness of its own. With "batch" they
        reproduce the losses of one process at the same batch, dropout apart; each then reads and
        draws noise for the whole batch.
    save_every_s
        Seconds between resume points.
    log_every
        Steps between lines of the loss log.
    num_grids
        Grids of sample pictures over the training; 0 draws none.
    """

    num_steps: int = 1000
    batch_size: int = 32
    optimiser: OptimiserConfig = OptimiserConfig()
    average: float = 0.05
    clip: float = 1.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    draws: Literal["rank", "batch"] = "rank"
    save_every_s: float = 60.0
    log_every: int = 10
    num_grids: int = 4

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "devices", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} has to be at least 1, got {getattr(self, name)}")
        if not 0 <= self.average <= 1:
            raise ValueError(f"average has to lie in [0, 1], got {self.average}")
        if not self.clip > 0:
            raise ValueError(f"clip has to be above 0, got {self.clip}")
        if self.strategy != "fsdp" and ("fsdp" in self.strategy or "deepspeed" in self.strategy):
            raise ValueError(
                f"strategy {self.strategy!r} splits weights in a way that the moving average of "
                "the weights does not follow; use fsdp or ddp"
            )
        if self.batch_size % self.devices:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by {self.devices} devices"
            )


def fit(
    task: Task,
    source: Source,
    *,
    num_samples: int,
    config: FitConfig,
    folder: Path,
    title: str,
    draw: Draw | None = None,
    grids: Path | None = None,
    guards: Sequence[pl.Callback] = (),
    compute: ComputeConfig | None = None,
) -> dict[str, nn.Module]:
    """Train and return the averaged models by name, in evaluation mode.

    Parameters
    ----------
    task
        A task with its models as direct children.
    source
        Fetches the samples of rows 0 .. num_samples - 1.
    num_samples
        Their number.
    config
        Steps, batch size, optimiser.
    folder
        Keeps ``resume.ckpt`` and ``losses.jsonl``; what is found there is resumed.
    title
        Names the progress bar.
    draw, grids
        Makes pictures of what the averaged models can do, and the folder they go to.
    guards
        What else may stop the training, such as :class:`ulrec.training.stability.CollapseGuard`.
    compute
        Presets for speed and memory; none by default.

    Of several processes, which it starts by running the same command again, only the first returns;
    the others end. What comes before a training has to be done already when the command runs again.

    Raises
    ------
    TrainingError
        If a loss or a gradient is not finite, or a guard says so.
    Interrupted
        If a signal asked to stop; the state is saved.
    ArtefactError
        If the resume point cannot be read or is another model's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)  # zero-initialised layers make denormals, slow on CPUs
    models = {name: child for name, child in task.named_children() if child is not None}
    average = WeightAverage(models, decay=1 - 1 / max(1.0, config.average * config.num_steps))
    resume = ResumePoint(folder, every_s=config.save_every_s)
    data = StepData(
        source,
        num_samples=num_samples,
        batch_size=config.batch_size,
        num_steps=config.num_steps,
        seed=task.seed,
        draws=config.draws,
    )
    task.draws = config.draws
    callbacks: list[pl.Callback] = [
        average,
        NonFiniteGuard(),
        *guards,
        LossLog(folder, every=config.log_every),
        Progress(title),
    ]
    if draw is not None and grids is not None and config.num_grids > 0:
        callbacks.append(SampleGrid(average, draw, grids, num=config.num_grids))
    trainer = _trainer(config, [*callbacks, resume])
    checkpoint = resume.path if resume.path.exists() else None
    if checkpoint is not None and not zipfile.is_zipfile(checkpoint):
        raise ArtefactError(f"{checkpoint} is damaged; delete it to start over")
    try:
        with warnings.catch_warnings(), computed(task, compute or ComputeConfig()):
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            warnings.filterwarnings("ignore", module="torch.utils.data")
            # Of networks that return a view, where nothing is done to it in place.
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except (RuntimeError, KeyError) as error:
        if checkpoint is None or trainer.global_step > 0:
            raise
        raise ArtefactError(
            f"{checkpoint} does not fit this model ({error}); delete it to start over"
        ) from error
    average.gather()
    _leave_to_the_first(trainer)
    return {name: model.cpu().eval() for name, model in average.averages.items()}


def is_first_process() -> bool:
    """Return whether this process is the first of those that train together, or the only one."""
    answer = rank_zero_only(lambda: True, default=False)
    return bool(answer())


def _leave_to_the_first(trainer: pl.Trainer) -> None:
    """End all processes but the first: what follows a training is that one's work alone.

    It forgets that it had any, so that its next training starts new ones.
    """
    if trainer.world_size == 1:
        return
    torch.distributed.destroy_process_group()
    if not trainer.is_global_zero:
        raise SystemExit(0)
    for name in LAUNCHED:
        os.environ.pop(name, None)


def _strategy(config: FitConfig) -> str | Strategy:
    """Return Lightning's name of a strategy, or FSDP2, for which it has none."""
    if config.strategy != "fsdp":
        return config.strategy
    return ModelParallelStrategy(
        data_parallel_size=config.devices, tensor_parallel_size=1, save_distributed_checkpoint=False
    )


def _trainer(config: FitConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return pl.Trainer(
        max_steps=config.num_steps,
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=_strategy(config),
        precision=config.precision,
        gradient_clip_val=config.clip,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
