"""Models to folders and back: ``config.yaml`` + ``model.safetensors`` + ``manifest.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ulrec.checkpoint import Component, save_component
from ulrec.config import to_mapping
from ulrec.errors import ArtefactError

__all__ = ["load_weights", "save_model"]


def save_model(
    module: nn.Module,
    folder: str | Path,
    *,
    kind: str,
    config: Any,
    made_from: dict[str, str] | None = None,
    info: dict[str, Any] | None = None,
) -> str:
    """Write a model as a component folder and return its fingerprint."""
    tensors = {name: t.detach().cpu().numpy() for name, t in module.state_dict().items()}
    return save_component(
        folder,
        kind=kind,
        config=to_mapping(config),
        tensors=tensors,
        made_from=made_from,
        info=info,
    )


def load_weights(module: nn.Module, component: Component) -> None:
    """Give a freshly built module the component's weights, in evaluation mode.

    Raises
    ------
    ArtefactError
        If names or shapes differ from the module's; the first difference is named.
    """
    state = module.state_dict()
    for name in sorted(state.keys() ^ component.tensors.keys()):
        where = "the file" if name in state else "this version's model"
        raise ArtefactError(f"weight '{name}' is missing in {where}; make the component again")
    for name, tensor in component.tensors.items():
        if tensor.shape != tuple(state[name].shape):
            raise ArtefactError(
                f"weight '{name}' has shape {tensor.shape}, the configuration asks for "
                f"{tuple(state[name].shape)}; make the component again"
            )
    tensors = {n: torch.from_numpy(np.asarray(t)) for n, t in component.tensors.items()}
    module.load_state_dict(tensors)
    module.eval()
