"""Noise schedules: logsnr as a function of time, falling from t = 0 (data) to t = 1 (noise).

A schedule's two ends are exact whatever its shape and shift: by METHOD.md section 6.5 only the ends
change the expected re-weighted loss, the shape changes its variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["SCHEDULES", "Schedule"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A variance-preserving noise schedule.

    Parameters
    ----------
    logsnr_0, logsnr_1
        The ends: log(alpha^2 / sigma^2) at t = 0 and at t = 1.
    name
        The shape between the ends, a key of ``SCHEDULES``.
    shift
        Moves the cosine shape towards less noise (> 0) or more (< 0), in logsnr, ends fixed.

    Raises
    ------
    ValueError
        If the ends are swapped or equal.
    """

    logsnr_0: float
    logsnr_1: float
    name: Literal["cosine", "linear"] = "cosine"
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not self.logsnr_0 > self.logsnr_1:
            raise ValueError(
                f"logsnr_0 (t = 0, data) has to be above logsnr_1 (t = 1, noise), got "
                f"logsnr_0={self.logsnr_0}, logsnr_1={self.logsnr_1}; swap them"
            )

    def logsnr(self, t: Tensor) -> Tensor:
        """Return logsnr at times t in [0, 1], any shape."""
        return SCHEDULES[self.name](self, t)[0]

    def slope(self, t: Tensor) -> Tensor:
        """Return -d logsnr / dt > 0 at times t (the sign that Eq. 4 and Algorithm 1 drop)."""
        return SCHEDULES[self.name](self, t)[1]


def _cosine(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine schedule, truncated to its ends: logsnr = -2 log tan(u) + shift, u linear in t."""
    u_0 = math.atan(math.exp(-0.5 * (schedule.logsnr_0 - schedule.shift)))
    u_1 = math.atan(math.exp(-0.5 * (schedule.logsnr_1 - schedule.shift)))
    u = u_0 + (u_1 - u_0) * t
    return -2 * torch.log(torch.tan(u)) + schedule.shift, 4 * (u_1 - u_0) / torch.sin(2 * u)


def _linear(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Linear in logsnr: every noise level is visited equally often."""
    length = schedule.logsnr_0 - schedule.logsnr_1
    return schedule.logsnr_0 - length * t, torch.full_like(t, length)


SCHEDULES: dict[str, Callable[[Schedule, Tensor], tuple[Tensor, Tensor]]] = {
    "cosine": _cosine,
    "linear": _linear,
}
