"""Draws for a batch that several processes share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Share", "rows", "uniform"]


class Share(torch.Generator):
    """A generator for a whole batch, of whose rows a process has every ``world_size``-th.

    All processes seed it alike and draw for the whole batch, so that together they train on the
    noise of one process.
    """

    rank: int
    world_size: int

    @classmethod
    def of(cls, seed: int, *, rank: int, world_size: int) -> Share:
        """Return the generator of one process."""
        share = cls()
        share.manual_seed(seed)
        share.rank, share.world_size = rank, world_size
        return share


def rows(num: int, generator: torch.Generator, draw: Callable[[int], Tensor]) -> Tensor:
    """Return ``num`` rows of what ``draw`` makes of a number of rows.

    Of a :class:`Share` they are the process's own among those of the whole batch.
    """
    if not isinstance(generator, Share):
        return draw(num)
    return draw(num * generator.world_size)[generator.rank :: generator.world_size]


def uniform(num: int, generator: torch.Generator) -> Tensor:
    """Return numbers (num,) uniform in [0, 1), on the generator's device."""
    return rows(
        num, generator, lambda n: torch.rand(n, generator=generator, device=generator.device)
    )
