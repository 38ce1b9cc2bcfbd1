"""How networks are computed while they are trained: presets for speed and for memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ulrec.errors import TrainingError
from ulrec.networks.decoder import Decoder
from ulrec.networks.encoder import Encoder
from ulrec.networks.layers import ResBlock, TemporalConv
from ulrec.networks.transformer import Block, LatentTransformer

__all__ = ["ComputeConfig", "computed"]

NETWORKS = (Encoder, Decoder, LatentTransformer)
BLOCKS = (Block, ResBlock, TemporalConv)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """What costs less time or memory in all trainings of a run, and leaves what is learnt.

    No artefact depends on it: a training may go on with other presets than it began with.

    Attributes
    ----------
    compile
        Networks are compiled (`torch.compile`): sums are rounded in another order, and dropout
        draws other units. The first steps take minutes. Needs a compiler, on CPUs of C++.
    activation_checkpointing
        Blocks of networks keep their inputs only, and are computed twice, the second time for their
        gradients: less memory for about a third more time. Losses and weights are the same, bit for
        bit.
    """

    compile: bool = False
    activation_checkpointing: bool = False


@contextmanager
def computed(model: nn.Module, config: ComputeConfig) -> Iterator[None]:
    """Compute the networks within a model as configured, inside the block.

    Parameters and the names in a state dict stay as they are.

    Raises
    ------
    TrainingError
        If nothing can be compiled here.
    """
    changed: list[nn.Module] = []
    try:
        if config.activation_checkpointing:
            once = functools.partial(checkpoint, use_reentrant=False)
            changed += _wrap(model, BLOCKS, lambda forward: functools.partial(once, forward))
        if config.compile:
            _require_compiler(next(model.parameters()).device)
            changed += _wrap(model, NETWORKS, torch.compile)
        yield
    finally:
        for module in changed:
            del vars(module)["forward"]


def _wrap(
    model: nn.Module, kinds: tuple[type[nn.Module], ...], around: Callable[[Any], Any]
) -> list[nn.Module]:
    """Put something around the forward methods of all modules of some kinds, and return these."""
    modules = [module for module in model.modules() if isinstance(module, kinds)]
    for module in modules:
        vars(module)["forward"] = around(module.forward)
    return modules


def _require_compiler(device: torch.device) -> None:
    """Refuse to start where compiling one addition fails."""
    one = torch.ones(2, device=device)
    try:
        torch.compile(lambda x: x + 1)(one)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"compute.compile needs a working compiler for {device.type} ({reason}); install one "
            "(g++ for a CPU), or set compute.compile to false"
        ) from error
