"""What happens around the steps: averages of weights, guards, resume points, logs, progress."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from tqdm import tqdm

from ulrec.checkpoint import write_text
from ulrec.errors import Interrupted, TrainingError
from ulrec.training.split import gathered, own_share, whole

__all__ = [
    "Draw",
    "LossLog",
    "NonFiniteGuard",
    "Progress",
    "ResumePoint",
    "SampleGrid",
    "WeightAverage",
]

Draw = Callable[[Mapping[str, nn.Module]], NDArray[np.uint8]]
"""Draws a grid (H, W, 3) from the averaged models of a task."""


class WeightAverage(pl.Callback):
    """Exponential moving average of the weights of a task's models.

    The rate follows the step early on, (1 + n) / (10 + n), so that the average forgets the start.
    Where weights are split over processes, so is the average, and ``averages`` is only right after
    :meth:`gather`.

    Parameters
    ----------
    models
        The task's models by name; ``averages`` holds their averaged copies.
    decay
        The share of the average that one step keeps.
    """

    def __init__(self, models: dict[str, nn.Module], *, decay: float) -> None:
        self.models = models
        self.decay = decay
        self.averages = {name: copy.deepcopy(model) for name, model in models.items()}
        self._shares: dict[str, list[Tensor]] = {}
        self._cut()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow the models to their device, or to the shares of it that they are split into."""
        if not isinstance(trainer.strategy, ModelParallelStrategy):
            for average in self.averages.values():
                average.to(pl_module.device)
        self._cut()

    def _cut(self) -> None:
        """Take this process's shares of the averages, which are theirs where nothing is split."""
        for name, model in self.models.items():
            pairs = zip(self.averages[name].parameters(), model.parameters(), strict=True)
            self._shares[name] = [own_share(mean.data, like=p.data) for mean, p in pairs]

    def gather(self) -> None:
        """Bring ``averages`` up to date; all processes have to call."""
        for name, model in self.models.items():
            means = self.averages[name].parameters()
            for mean, share, p in zip(means, self._shares[name], model.parameters(), strict=True):
                together = gathered(share, like=p.data)
                if together is not share:  # the share is all of it, and of the average itself
                    mean.data.copy_(together)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the averages towards the weights."""
        step = trainer.global_step
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, model in self.models.items():
                weights = [own_share(p.data) for p in model.parameters()]
                torch._foreach_lerp_(self._shares[name], weights, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        self.gather()
        return {name: average.state_dict() for name, average in self.averages.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the averages of a resume point."""
        for name, average in self.averages.items():
            average.load_state_dict(state_dict[name])
        self._cut()


class NonFiniteGuard(pl.Callback):
    """Stops before one NaN or infinite loss or gradient has ended all weights as NaN."""

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Refuse a loss that is not finite."""
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of step {trainer.global_step} is {loss.item()}, not a finite number. "
                "Lower the learning rate or check the media; the last resume point is unharmed"
            )

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Refuse a gradient that is not finite, which a finite loss may have."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = whole(nn.utils.get_total_norm(gradients))
        if not torch.isfinite(norm):
            raise TrainingError(
                f"the gradient of step {trainer.global_step} has norm {norm.item()}, not a finite "
                "number. Lower the learning rate or check the media; the last resume point is "
                "unharmed"
            )


class ResumePoint(pl.Callback):
    """Keeps ``resume.ckpt`` every few seconds and when a signal asks to stop.

    The file is written beside its place and moved, so that a crash never costs the previous one.
    """

    def __init__(self, folder: Path, *, every_s: float) -> None:
        self.path = folder / "resume.ckpt"
        self.every_s = every_s
        self._last = time.monotonic()
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to SIGINT and SIGTERM."""
        self._last = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time to, and stop when asked to."""
        # All processes have to save at the same step: one that is asked or due speaks for all.
        decide = trainer.strategy.reduce_boolean_decision
        if decide(self._signal is not None, all=False):
            self._save(trainer)
            cause = "another process" if self._signal is None else signal.Signals(self._signal).name
            raise Interrupted(
                f"stopped at step {trainer.global_step} after {cause}; run the same command to go "
                "on from here"
            )
        if decide(time.monotonic() - self._last > self.every_s, all=False):
            self._save(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self.teardown(trainer, pl_module, "fit")

    def _save(self, trainer: pl.Trainer) -> None:
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.path)
        self._last = time.monotonic()


class LossLog(pl.Callback):
    """Appends what the task logs to ``losses.jsonl``, one line every few steps.

    A resumed run first drops the lines it is about to write again.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        self.path = folder / "losses.jsonl"
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the steps after the resume point."""
        if not trainer.is_global_zero:
            return
        lines: list[str] = []
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # a crash may tear the last one
        kept = [line for line in whole if json.loads(line)["step"] <= trainer.global_step]
        write_text(self.path, "".join(kept))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write one line."""
        step = trainer.global_step
        due = step % self.every == 0 or step == trainer.max_steps
        if not due or not trainer.is_global_zero:
            return
        values = {name: value.item() for name, value in trainer.callback_metrics.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


class SampleGrid(pl.Callback):
    """Draws what the averaged models can do, at even shares of the training.

    Drawing has generators of its own: with or without it the training is the same.

    Parameters
    ----------
    average
        Holds the averaged models.
    draw
        Makes the grid.
    folder
        Gets ``<step>.png``.
    num
        How many grids, the last at the end.
    """

    def __init__(self, average: WeightAverage, draw: Draw, folder: Path, *, num: int) -> None:
        self.average = average
        self.draw = draw
        self.folder = folder
        self.num = num

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Draw when it is time to."""
        step, every = trainer.global_step, max(1, trainer.max_steps // self.num)
        if step % every and step != trainer.max_steps:
            return
        self.average.gather()
        if not trainer.is_global_zero:
            return
        for model in self.average.averages.values():
            model.eval()
        self.folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.draw(self.average.averages)).save(self.folder / f"{step:06d}.png")


class Progress(pl.Callback):
    """One bar with the time left and the loss; without a terminal, a line every 15 seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the step reached."""
        if trainer.is_global_zero:
            self.bar = tqdm(
                desc=self.title,
                total=trainer.max_steps,
                initial=trainer.global_step,
                unit="step",
                mininterval=0.5 if sys.stderr.isatty() else 15,
                dynamic_ncols=True,
            )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        if self.bar is None:
            return
        if trainer.global_step % 10 == 0:
            metrics = {k: v for k, v in trainer.progress_bar_metrics.items() if k != "v_num"}
            self.bar.set_postfix({k: f"{v:.3f}" for k, v in metrics.items()}, refresh=False)
        self.bar.update(1)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self.teardown(trainer, pl_module, "fit")
