"""Models to folders and back: ``config.yaml`` + ``model.safetensors`` + ``manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ulrec.checkpoint import Component, save_component, to_eight_bits
from ulrec.config import to_mapping
from ulrec.errors import ArtefactError, ConfigError

__all__ = ["load_weights", "pretrained_folder", "save_model"]

PRETRAINED = Path(__file__).parent.parent / "pretrained"


def save_model(
    module: nn.Module,
    folder: str | Path,
    *,
    kind: str,
    config: Any,
    made_from: dict[str, str] | None = None,
    info: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write a model as a component folder and return its fingerprint.

    ``dtype`` torch.int8 rounds matrices to 8 bits a value, the rest to half precision.

    Raises
    ------
    ArtefactError
        If a weight is NaN or infinite in ``dtype``; nothing is written then.
    """
    is_rounded = dtype == torch.int8
    kept = torch.float32 if is_rounded else dtype
    tensors = {name: t.detach().cpu().to(kept).numpy() for name, t in module.state_dict().items()}
    _require_finite(tensors, dtype)
    if is_rounded:
        tensors = to_eight_bits(tensors)
        _require_finite(tensors, dtype)
    return save_component(
        folder,
        kind=kind,
        config=to_mapping(config),
        tensors=tensors,
        made_from=made_from,
        info=info,
    )


def pretrained_folder(name: str) -> Path:
    """Return the folder of a model that ships with the package, or of one given by its path.

    It holds the components ``autoencoder``, ``prior`` and, mostly, ``base``.

    Raises
    ------
    ConfigError
        If there is neither such a shipped model nor such a folder.
    """
    for folder in (PRETRAINED / name, Path(name)):
        if (folder / "autoencoder").is_dir():
            return folder
    shipped = sorted(p.parent.name for p in PRETRAINED.glob("*/autoencoder"))
    raise ConfigError(
        f"no pretrained model '{name}': shipped are {', '.join(shipped) or 'none'}; give one of "
        "them, or the path of a folder written by `ulrec export`"
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


def _require_finite(tensors: Mapping[str, NDArray[Any]], dtype: torch.dtype) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ArtefactError(
                f"weight '{name}' is NaN or infinite in {dtype}; train it again, or choose a dtype "
                "that holds it"
            )
