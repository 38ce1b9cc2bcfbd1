"""Lets torchvision be imported where its compiled operators do not load.

A torchvision that was built for CUDA does not find its libraries beside a torch built for CPUs: its
import then fails with "operator torchvision::nms does not exist", and with it those of timm,
open_clip and, through torchmetrics, Lightning. It only asks that the operators' schemas exist.
Nothing here computes with them: calling one fails as clearly as before.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

__all__ = ["declare_schemas"]

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")
"""Those that torchvision registers something for at import, loaded or not."""

# What is declared is gone with the library that declared it.
_libraries: list[Any] = []


def declare_schemas() -> None:
    """Declare what torchvision's import misses, if it is installed and its operators do not load.

    Call it before whatever may import torchvision; the second call does nothing.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _are_there(Path(spec.origin).parent):
        return
    untyped: Any = torch.library
    library = untyped.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(f"{name}{SCHEMA}")
    _libraries.append(library)


def _are_there(package: Path) -> bool:
    """Return whether the operators exist, which loading their library sees to where it can."""
    operators: Any = torch.ops
    if hasattr(operators.torchvision, "nms"):
        return True
    for compiled in sorted([*package.glob("_C*.so"), *package.glob("_C*.pyd")]):
        try:
            operators.load_library(compiled)
        except OSError:
            continue
    return hasattr(operators.torchvision, "nms")
