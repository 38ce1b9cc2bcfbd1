"""ulrec: a generative recommender toolkit on Unified Latents.

Names are loaded on first use, so that ``import ulrec`` is light and the training core does not need
the packages of the recommender side.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ulrec.errors import ULRecError
    from ulrec.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Pipeline", "ULRecError", "__version__"]

_HOME = {"Pipeline": "ulrec.pipeline", "ULRecError": "ulrec.errors"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ulrec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
