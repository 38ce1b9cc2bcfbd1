"""User and item embeddings of a collaborative-filtering model, with the maps of their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ulrec.checkpoint import new_artefact, open_artefact
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

__all__ = ["Factors"]

KIND = "factors"


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Embeddings that any collaborative-filtering model may bring.

    Attributes
    ----------
    user_factors
        Float32 (num_users, R).
    item_factors
        Float32 (num_items, R).
    users, items
        Maps of the rows.
    can_fold_in
        Whether a user's factor can be recomputed from a history. Where it cannot, the condition of
        a training pair has seen that pair: results carry the flag.
    info
        Plain data on where they come from (model, its configuration).
    fingerprint
        Identifies them on disk; None before they are saved.
    """

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    users: IdMap
    items: IdMap
    can_fold_in: bool
    info: dict[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        for name, matrix, ids in (
            ("user_factors", self.user_factors, self.users),
            ("item_factors", self.item_factors, self.items),
        ):
            if matrix.ndim != 2 or matrix.dtype != np.float32:
                raise DataError(
                    f"{name} has to be a float32 matrix, got {matrix.dtype} {matrix.shape}"
                )
            if len(matrix) != len(ids):
                raise DataError(f"{name} has {len(matrix)} rows, its id map {len(ids)}")
            if not np.isfinite(matrix).all():
                bad = int((~np.isfinite(matrix)).any(axis=1).sum())
                raise DataError(f"{bad} rows of {name} hold NaN or infinity; mend or drop them")
        if self.user_factors.shape[1] != self.item_factors.shape[1]:
            raise DataError(
                f"users have {self.user_factors.shape[1]} factors, items"
                f" {self.item_factors.shape[1]}; they have to agree"
            )

    @property
    def num_factors(self) -> int:
        """The dimension R."""
        return int(self.user_factors.shape[1])

    def save(self, folder: str | Path, *, made_from: dict[str, str] | None = None) -> str:
        """Write the artefact and return its fingerprint."""
        info = {**self.info, "can_fold_in": self.can_fold_in, "num_factors": self.num_factors}
        with new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary:
            tensors = {
                "user_factors": np.ascontiguousarray(self.user_factors),
                "item_factors": np.ascontiguousarray(self.item_factors),
            }
            save_file(tensors, temporary / "factors.safetensors")
            self.users.save(temporary / "users.parquet")
            self.items.save(temporary / "items.parquet")
        return open_artefact(folder, kind=KIND, verify=False).fingerprint

    @classmethod
    def load(cls, folder: str | Path) -> Factors:
        """Read and check the artefact; :func:`ulrec.checkpoint.open_artefact` names the errors."""
        folder = Path(folder)
        manifest = open_artefact(folder, kind=KIND)
        tensors = load_file(folder / "factors.safetensors")
        return cls(
            user_factors=tensors["user_factors"],
            item_factors=tensors["item_factors"],
            users=IdMap.load(folder / "users.parquet"),
            items=IdMap.load(folder / "items.parquet"),
            can_fold_in=bool(manifest.info["can_fold_in"]),
            info=manifest.info,
            fingerprint=manifest.fingerprint,
        )
