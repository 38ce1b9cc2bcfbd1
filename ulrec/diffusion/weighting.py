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

__all__ = ["WEIGHTINGS", "Weighting"]


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


def _elbo(logsnr: Tensor, bias: float) -> Tensor:
    return torch.ones_like(logsnr)


def _sigmoid(logsnr: Tensor, bias: float) -> Tensor:
    return torch.sigmoid(bias - logsnr)


WEIGHTINGS: dict[str, Callable[[Tensor, float], Tensor]] = {"elbo": _elbo, "sigmoid": _sigmoid}
