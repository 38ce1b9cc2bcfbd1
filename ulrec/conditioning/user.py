"""A user's factor becomes condition tokens, with a learned null for nobody in particular."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ulrec.networks.transformer import Cond

__all__ = ["UserConditioner", "UserConditionerConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UserConditionerConfig:
    """What a user conditioner is.

    Attributes
    ----------
    num_factors
        R of the collaborative-filtering model.
    num_tokens, width
        N tokens of width E.
    hidden
        Width of the network between.
    dropout
        Share of the training samples that get the null instead, for guidance.
    latent_shape
        (D, f, h, w) of the latents that a user's mean is predicted of; None predicts none.
    ridge
        Of that prediction, as a share of the training pairs.
    """

    num_factors: int = 48
    num_tokens: int = 4
    width: int = 96
    hidden: int = 256
    dropout: float = 0.1
    latent_shape: tuple[int, int, int, int] | None = None
    ridge: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout has to lie in [0, 1], got {self.dropout}")
        if not self.ridge > 0:
            raise ValueError(f"ridge has to be above 0, got {self.ridge}")


class UserConditioner(nn.Module):
    """Factors (B, R) -> tokens (B, N, E) with their mask (B, N), and a shift (B, D, f, h, w).

    The tokens are learnt with the base. The shift is the linear part in closed form: where the
    latents of what a user likes lie on average, from a ridge regression on the training pairs. It
    steers from the first step, so that training is left with what is not linear.
    """

    mean: Tensor
    scale: Tensor
    to_shift: Tensor

    def __init__(self, config: UserConditionerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.num_tokens * config.width
        self.register_buffer("mean", torch.zeros(config.num_factors))
        self.register_buffer("scale", torch.ones(config.num_factors))
        if config.latent_shape is not None:
            shift = torch.zeros(config.num_factors, math.prod(config.latent_shape))
            self.register_buffer("to_shift", shift)
        self.net = nn.Sequential(
            nn.Linear(config.num_factors, config.hidden), nn.SiLU(), nn.Linear(config.hidden, size)
        )
        self.null_tokens = nn.Parameter(torch.randn(config.num_tokens, config.width) * 0.02)

    def standardise(self, factors: Tensor) -> None:
        """Take mean and scale from the factors (P, R) it will be trained with.

        A factor that is constant there keeps its scale, or another user's would be blown up.
        """
        scale = factors.std(0, correction=0)
        self.mean.copy_(factors.mean(0))
        self.scale.copy_(torch.where(scale > 1e-6, scale, torch.ones_like(scale)))

    def fit_shift(self, factors: Tensor, z: Tensor, rows: Tensor) -> None:
        """Fit the shift to pairs: ridge regression of the latents on the standardised factors.

        Parameters
        ----------
        factors
            Of the user of each pair, (P, R), after :meth:`standardise`.
        z
            All latents, (I, D, f, h, w).
        rows
            Row of the item of each pair in ``z``, (P,).
        """
        x = (factors.double() - self.mean) / self.scale
        x = x - x.mean(0)
        flat = z.flatten(1).double()
        # X^T Z over pairs, summed by item first: never P x D f h w numbers at once.
        by_item = x.new_zeros(len(flat), x.shape[1]).index_add_(0, rows, x)
        ridge = self.config.ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self.to_shift.copy_(torch.linalg.solve(x.T @ x + ridge, by_item.T @ flat))

    def forward(self, factors: Tensor, *, keep: Tensor | None = None) -> Cond:
        """Return the condition of each user.

        Parameters
        ----------
        factors
            (B, R).
        keep
            (B,) bool: where False the learned null takes the user's place; all keep it by default.

        Raises
        ------
        ValueError
            If the factors are not R wide.
        """
        if factors.shape[1] != self.config.num_factors:
            raise ValueError(
                f"expected {self.config.num_factors} factors, got {factors.shape[1]}; "
                "use the factors it was trained with"
            )
        x = (factors - self.mean) / self.scale
        tokens = self.net(x).unflatten(1, (self.config.num_tokens, self.config.width))  # (B, N, E)
        shift = None
        if self.config.latent_shape is not None:
            shift = (x @ self.to_shift).reshape(len(x), *self.config.latent_shape)
        if keep is not None:
            tokens = torch.where(keep[:, None, None], tokens, self.null_tokens)
            if shift is not None:
                shift = torch.where(keep[:, None, None, None, None], shift, 0.0)
        return Cond(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), shift)

    def null(self, num: int) -> Cond:
        """Return the condition of nobody in particular, ``num`` times."""
        tokens = self.null_tokens.expand(num, -1, -1)
        return Cond(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))

    def drop(self, num: int, generator: torch.Generator) -> Tensor:
        """Return which of ``num`` training samples keep their user, (num,) bool."""
        draw = torch.rand(num, generator=generator, device=generator.device)
        return (draw >= self.config.dropout).to(self.mean.device)
