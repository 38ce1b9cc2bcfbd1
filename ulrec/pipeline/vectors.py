"""What the sources of a run are told of an item: the same in training as in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ulrec.checkpoint import Manifest, open_artefact
from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.retrieval.query import pooled

__all__ = ["ItemFeatures", "category_vectors", "example_embeddings"]


def example_embeddings(z: NDArray[np.float32], *, grid: int) -> NDArray[np.float32]:
    """Return the embeddings (I, D * grid * grid) that examples are averaged of."""
    return pooled(z, grid=grid)


def category_vectors(categories: Sequence[str | None], names: Sequence[str]) -> NDArray[np.float32]:
    """Return a one for the category of each item, (I, C); zeros where it is none of the names."""
    place = {name: i for i, name in enumerate(names)}
    vectors = np.zeros((len(categories), len(names)), np.float32)
    for row, category in enumerate(categories):
        if category in place:
            vectors[row, place[category]] = 1
    return vectors


@dataclass(frozen=True, kw_only=True)
class ItemFeatures:
    """A stored array of features: ``values`` float32 (I, E), rows named by ``items``."""

    values: NDArray[np.float32]
    items: IdMap
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, *, kind: str) -> ItemFeatures:
        """Open an artefact of ``features.npy`` and ``items.parquet``.

        Raises
        ------
        ArtefactError
            If it is missing, damaged or of another kind.
        DataError
            If the array is no matrix with a finite row an item.
        """
        manifest = open_artefact(folder, kind=kind)
        values: NDArray[Any] = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
        items = IdMap.load(folder / "items.parquet")
        if values.ndim != 2 or len(values) != len(items) or not np.isfinite(values).all():
            raise DataError(
                f"{folder} has to hold a matrix of finite numbers with {len(items)} rows, got "
                f"{values.dtype} {values.shape}; make the {kind} again"
            )
        return cls(values=values, items=items, manifest=manifest)

    def of(self, item_ids: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
        """Return the features of items, (N, E); zeros for those without."""
        rows = self.items.find(item_ids)
        return np.where(rows[:, None] >= 0, self.values[rows], np.float32(0))
