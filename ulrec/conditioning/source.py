"""A vector becomes condition tokens, with a learned null for nothing in particular."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ulrec.diffusion.draws import uniform
from ulrec.networks.transformer import Cond

__all__ = ["Source", "SourceConfig"]

PAIRS_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """What a source of conditions is.

    Attributes
    ----------
    num_factors
        R, the length of its vectors: of users, the factors of collaborative filtering.
    num_tokens, width
        N tokens of width E.
    hidden
        Width of the network between.
    dropout
        Share of the training samples that get the null instead, for guidance.
    latent_shape
        (D, f, h, w) of the latents whose mean is predicted; None predicts none.
    waves
        M random waves of the vectors that the prediction may use beside the vectors themselves:
        tastes are not linear in factors. 0 keeps it linear.
    ridge
        Of that prediction, relative to the mean variance of what it predicts from.
    """

    num_factors: int = 48
    num_tokens: int = 4
    width: int = 96
    hidden: int = 256
    dropout: float = 0.1
    latent_shape: tuple[int, int, int, int] | None = None
    waves: int = 0
    ridge: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout has to lie in [0, 1], got {self.dropout}")
        if not self.ridge > 0:
            raise ValueError(f"ridge has to be above 0, got {self.ridge}")
        if self.waves < 0:
            raise ValueError(f"waves have to be 0 or more, got {self.waves}")


class Source(nn.Module):
    """Vectors (B, R) -> tokens (B, N, E) with their mask (B, N), and a shift (B, D, f, h, w).

    The tokens are learnt with the base. The shift is known in closed form: where the latents of
    what goes with a vector lie on average (of a user: what they like), from a ridge regression on
    the training pairs. It steers from the first step, so that training is left with what a mean
    cannot say. With random waves cos(Wx + b) beside the vectors x it is kernel ridge regression
    (random Fourier features of a Gaussian kernel, Rahimi & Recht 2007), and needs no catalogue
    where it is used.
    """

    mean: Tensor
    scale: Tensor
    frequencies: Tensor
    phases: Tensor
    feature_mean: Tensor
    to_shift: Tensor

    def __init__(self, config: SourceConfig) -> None:
        super().__init__()
        self.config = config
        size = config.num_tokens * config.width
        self.register_buffer("mean", torch.zeros(config.num_factors))
        self.register_buffer("scale", torch.ones(config.num_factors))
        if config.latent_shape is not None:
            num_features = config.num_factors + config.waves
            shift = torch.zeros(num_features, math.prod(config.latent_shape))
            self.register_buffer("to_shift", shift)
            if config.waves:
                self._add_waves(num_features)
        self.net = nn.Sequential(
            nn.Linear(config.num_factors, config.hidden), nn.SiLU(), nn.Linear(config.hidden, size)
        )
        self.null_tokens = nn.Parameter(torch.randn(config.num_tokens, config.width) * 0.02)

    def _add_waves(self, num_features: int) -> None:
        """Draw the waves from a generator of their own: they are no matter of the run's seed."""
        generator = torch.Generator().manual_seed(0)
        num_factors, waves = self.config.num_factors, self.config.waves
        normal = torch.randn(num_factors, waves, generator=generator)
        self.register_buffer("frequencies", normal / math.sqrt(num_factors))
        self.register_buffer("phases", 2 * math.pi * torch.rand(waves, generator=generator))
        self.register_buffer("feature_mean", torch.zeros(num_features))

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
        size = self.to_shift.shape[0]
        gram, total = z.new_zeros(size, size).double(), z.new_zeros(size).double()
        by_item = z.new_zeros(len(z), size).double()
        # Sums over pairs in parts, and by item: never P x (R + M) numbers at once.
        for start in range(0, len(factors), PAIRS_AT_ONCE):
            part, items = (x[start : start + PAIRS_AT_ONCE] for x in (factors, rows))
            features = self._features((part.double() - self.mean) / self.scale)
            gram += features.T @ features
            total += features.sum(0)
            by_item.index_add_(0, items, features)
        mean = total / len(factors)
        by_item -= torch.bincount(rows, minlength=len(z))[:, None] * mean
        gram -= len(factors) * torch.outer(mean, mean)
        if self.config.waves:
            self.feature_mean.copy_(mean)
        if gram.trace() == 0:  # all pairs say the same: there is nothing to predict from
            self.to_shift.zero_()
            return
        ridge = self.config.ridge * gram.trace() / size * torch.eye(size).to(gram)
        self.to_shift.copy_(torch.linalg.solve(gram + ridge, by_item.T @ z.flatten(1).double()))

    def _features(self, x: Tensor) -> Tensor:
        """Return what the shift is predicted from, (B, R + M), of standardised factors (B, R)."""
        if not self.config.waves:
            return x
        waves = torch.cos(x @ self.frequencies.to(x) + self.phases.to(x))
        return torch.cat([x, waves], dim=1)

    def forward(self, factors: Tensor, *, keep: Tensor | None = None) -> Cond:
        """Return the condition of each sample.

        Parameters
        ----------
        factors
            The vectors, (B, R).
        keep
            (B,) bool: where False the learned null takes a vector's place; all stay by default.

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
            features = self._features(x)
            if self.config.waves:
                features = features - self.feature_mean
            shift = (features @ self.to_shift).reshape(len(x), *self.config.latent_shape)
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
        """Return which of ``num`` training samples keep their vector, (num,) bool."""
        draw = uniform(num, generator)
        return (draw >= self.config.dropout).to(self.mean.device)
