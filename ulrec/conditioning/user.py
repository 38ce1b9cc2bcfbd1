"""A user's factor becomes condition tokens, with a learned null for nobody in particular."""

from __future__ import annotations

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
    """

    num_factors: int = 48
    num_tokens: int = 4
    width: int = 96
    hidden: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout has to lie in [0, 1], got {self.dropout}")


class UserConditioner(nn.Module):
    """Factors (B, R) -> tokens (B, N, E) with their mask (B, N)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: UserConditionerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.num_tokens * config.width
        self.register_buffer("mean", torch.zeros(config.num_factors))
        self.register_buffer("scale", torch.ones(config.num_factors))
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
        tokens = self.net((factors - self.mean) / self.scale)
        tokens = tokens.unflatten(1, (self.config.num_tokens, self.config.width))  # (B, N, E)
        if keep is not None:
            tokens = torch.where(keep[:, None, None], tokens, self.null_tokens)
        return Cond(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))

    def null(self, num: int) -> Cond:
        """Return the condition of nobody in particular, ``num`` times."""
        tokens = self.null_tokens.expand(num, -1, -1)
        return Cond(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))

    def drop(self, num: int, generator: torch.Generator) -> Tensor:
        """Return which of ``num`` training samples keep their user, (num,) bool."""
        draw = torch.rand(num, generator=generator, device=generator.device)
        return (draw >= self.config.dropout).to(self.mean.device)
