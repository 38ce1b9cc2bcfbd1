"""What hyper-parameters of collaborative filtering are worth trying, and ways to go about it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SEARCHES", "SPACES", "Candidate", "Choice", "LogRange", "Space"]

Candidate = Any
"""The configuration of one model, such as :class:`ulrec.cf.als.ALSConfig`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one of them."""
        return self.values[int(rng.integers(len(self.values)))]

    def grid(self) -> tuple[Any, ...]:
        """Return the first, the middle and the last."""
        last = len(self.values) - 1
        return tuple(self.values[i] for i in sorted({0, last // 2, last}))


@dataclass(frozen=True, slots=True)
class LogRange:
    """A number between two ends, uniform in its logarithm."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number of three digits."""
        return float(f"{np.exp(rng.uniform(np.log(self.low), np.log(self.high))):.3g}")

    def grid(self) -> tuple[float, ...]:
        """Return both ends and their geometric mean."""
        return (self.low, float(f"{np.sqrt(self.low * self.high):.3g}"), self.high)


@dataclass(frozen=True, slots=True)
class Space:
    """The parameters of a model that are searched, by name."""

    parameters: dict[str, Choice | LogRange]
    iterates: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(self.parameters)

    def describe(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {name: dataclasses.asdict(p) for name, p in self.parameters.items()}


def draw_at_random(space: Space, first: Candidate, num: int, seed: int) -> list[Candidate]:
    """Return the first candidate and others drawn from the space."""
    rng = np.random.default_rng(seed)
    found = [first]
    for _ in range(num - 1):
        drawn = {name: p.draw(rng) for name, p in space.parameters.items()}
        found.append(dataclasses.replace(first, **drawn))
    return list(dict.fromkeys(found))


def draw_from_grid(space: Space, first: Candidate, num: int, seed: int) -> list[Candidate]:
    """Return the first candidate and points of the grid, in an order drawn by the seed."""
    points = list(itertools.product(*(p.grid() for p in space.parameters.values())))
    order = np.random.default_rng(seed).permutation(len(points))[: num - 1]
    chosen = [dict(zip(space.names, points[i], strict=True)) for i in order]
    return list(dict.fromkeys([first, *(dataclasses.replace(first, **point) for point in chosen)]))


FACTORS = Choice((16, 24, 32, 48, 64, 96))

SPACES: dict[str, Space] = {
    "als": Space(
        {
            "num_factors": FACTORS,
            "regularisation": LogRange(0.1, 50.0),
            "alpha": LogRange(0.5, 40.0),
        },
        iterates=True,
    ),
    "bpr": Space(
        {
            "num_factors": FACTORS,
            "learning_rate": LogRange(0.005, 0.1),
            "regularisation": LogRange(0.002, 0.1),
        },
        iterates=True,
    ),
    "lmf": Space(
        {
            "num_factors": FACTORS,
            "learning_rate": LogRange(0.1, 2.0),
            "regularisation": LogRange(0.05, 5.0),
            "alpha": LogRange(0.3, 10.0),
        },
        iterates=True,
    ),
    "ease": Space(
        {"num_factors": FACTORS, "regularisation": LogRange(10.0, 2000.0)}, iterates=False
    ),
    "item_item": Space(
        {
            "num_neighbours": Choice((20, 50, 100, 200, 400)),
            "weighting": Choice(("cosine", "tfidf")),
        },
        iterates=False,
    ),
}
"""Of models that learn; "item_item" has no factors to steer with: it shows what those are worth."""

SEARCHES: dict[str, Callable[[Space, Candidate, int, int], list[Candidate]]] = {
    "random": draw_at_random,
    "grid": draw_from_grid,
}
