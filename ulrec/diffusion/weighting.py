"""Weights on the squared error of eps, as functions of logsnr.

The paper's text prints the decoder's weight as sigmoid(logsnr - b) beside an explicit
exp(logsnr)/2, which contradicts its Figure 3: on the eps error the weight is
sigmoid(b - logsnr) (METHOD.md section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["WEIGHTINGS", "Weighting", "truncated_logistic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighting:
    """A weight w(logsnr) on |eps - eps_hat|^2.

    Parameters
    ----------
    name
        "elbo": 1, the likelihood bound. "sigmoid": sigmoid(bias - logsnr).
    bias
        b: the logsnr at which the sigmoid has fallen to one half.
    """

    name: Literal["elbo", "sigmoid"] = "elbo"
    bias: float = 0.0

    def __call__(self, logsnr: Tensor) -> Tensor:
        """Return the weight at each logsnr."""
        return WEIGHTINGS[self.name](logsnr, self.bias)


def truncated_logistic(u: Tensor, *, bias: float, low: float, high: float) -> Tensor:
    """Return draws of a logistic (bias, 1) between two ends, of uniform ``u`` in [0, 1].

    As the largest logsnr of an unweighted loss they amount to the sigmoid weight: a level l counts
    where l < L, and without the ends P(L > l) = sigmoid(bias - l) (the paper's App. B(b)).
    """
    ends = torch.sigmoid(torch.tensor([low - bias, high - bias], dtype=torch.float64)).to(u)
    draws = bias + torch.logit(ends[0] + (ends[1] - ends[0]) * u)
    return draws.clamp(low, high)  # rounding may leave them


def _elbo(logsnr: Tensor, bias: float) -> Tensor:
    return torch.ones_like(logsnr)


def _sigmoid(logsnr: Tensor, bias: float) -> Tensor:
    return torch.sigmoid(bias - logsnr)


WEIGHTINGS: dict[str, Callable[[Tensor, float], Tensor]] = {"elbo": _elbo, "sigmoid": _sigmoid}
