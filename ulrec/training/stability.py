"""Stops a stage 1 whose latent carries nothing: a longer training does not bring it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from ulrec.errors import TrainingError
from ulrec.models.measure import gain_of_z
from ulrec.models.unified import Unified

__all__ = ["CollapseConfig", "CollapseGuard"]

NUM_LEVELS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class CollapseConfig:
    """When a latent counts as collapsed.

    Attributes
    ----------
    floor
        Bits per pixel under which a batch is suspect; the paper's cheapest latents take 0.035.
    patience
        So many steps in a row have to be, all of them after the ramp, before the gain of z is
        looked at.
    """

    floor: float = 0.03
    patience: int = 50

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError(f"floor has to be above 0 bits/pixel, got {self.floor}")
        if self.patience < 1:
            raise ValueError(f"patience has to be at least 1 step, got {self.patience}")


class CollapseGuard(pl.Callback):
    """Stops where bits stay under the floor and the decoder gains less from z than z is charged.

    A latent that is cheap and useful goes on: its gain, L_x(z of another picture) - L_x(z), exceeds
    L_z. Only the batch at hand is looked at, with noise of its own: with or without the guard the
    training is the same.
    """

    def __init__(self, config: CollapseConfig) -> None:
        self.config = config
        self.steps_below = 0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count steps under the floor, and judge when there are enough."""
        model, metrics = pl_module.model, trainer.callback_metrics
        assert isinstance(model, Unified)
        bits = self._mean(trainer, metrics["bits_per_pixel"])
        after_ramp = trainer.global_step > model.config.ramp * (trainer.max_steps or 0)
        self.steps_below = self.steps_below + 1 if after_ramp and bits < self.config.floor else 0
        if self.steps_below < self.config.patience:
            return
        self.steps_below = 0
        gain = self._mean(trainer, _gain(model, batch[0]))
        charge = self._mean(trainer, metrics["prior_nats"])
        if gain < charge:
            raise TrainingError(
                f"the latent has collapsed at step {trainer.global_step}: for "
                f"{self.config.patience} steps it took under {self.config.floor:g} bits/pixel "
                f"(now {bits:.2g}), and the decoder gains {gain:.3g} nats from it, which is less "
                f"than the {charge:.3g} it is charged. Raise loss_factor or bias_x, or lengthen "
                "the ramp; where so few bits are meant, lower latents.collapse.floor, or set "
                "latents.collapse to null"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        return {"steps_below": self.steps_below}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from a resume point."""
        self.steps_below = state_dict["steps_below"]

    @staticmethod
    def _mean(trainer: pl.Trainer, value: Tensor) -> float:
        """Return the mean over all processes, which then decide alike."""
        return float(trainer.strategy.reduce(value, reduce_op="mean"))


def _gain(model: Unified, x: Tensor) -> Tensor:
    """Return the mean gain of z on a batch, without dropout; 0 for a batch of one."""
    if len(x) < 2:
        return x.new_zeros(())
    model.eval()
    with torch.no_grad():
        z = model.autoencoder.encode(x)
        gain = gain_of_z(model.autoencoder, x, z, num_levels=NUM_LEVELS, seed=0).mean()
    model.train()
    return gain
