"""Latents of a catalogue, memory-mapped: z_clean, without the noise that is drawn at use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ulrec.checkpoint import Manifest, new_artefact, open_artefact
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

__all__ = ["LatentStore"]

KIND = "latents"


@dataclass(frozen=True, kw_only=True)
class LatentStore:
    """The clean latents of all items: ``z`` float32 (I, D, f, h, w), rows named by ``items``."""

    z: NDArray[np.float32]
    items: IdMap
    manifest: Manifest

    @classmethod
    def write(
        cls,
        folder: str | Path,
        batches: Iterable[NDArray[np.float32]],
        *,
        items: IdMap,
        shape: tuple[int, ...],
        made_from: dict[str, str],
        info: dict[str, Any] | None = None,
    ) -> LatentStore:
        """Write batches (B, D, f, h, w) in the order of ``items``.

        Parameters
        ----------
        folder
            Where the artefact goes.
        batches
            Latents in order, any batch sizes.
        items
            Their ids.
        shape
            (D, f, h, w).
        made_from
            The fingerprint of the autoencoder under "autoencoder" and of the media under "media".
        info
            Plain data to keep.

        Raises
        ------
        DataError
            If a latent is not finite or of another shape, or their number is not that of the items.
        """
        with new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary:
            z = np.lib.format.open_memmap(
                temporary / "latents.npy", mode="w+", dtype=np.float32, shape=(len(items), *shape)
            )
            start = 0
            for batch in batches:
                stop = start + len(batch)
                if batch.shape[1:] != shape:  # an assignment would broadcast
                    raise DataError(f"latents have to be of shape {shape}, got {batch.shape[1:]}")
                if stop > len(items):
                    raise DataError(f"got more than the {len(items)} latents that the id map names")
                if not np.isfinite(batch).all():
                    raise DataError(
                        f"latents {start} to {stop} hold NaN or infinity; check the encoder"
                    )
                z[start:stop] = batch
                start = stop
            if start != len(items):
                raise DataError(f"got {start} latents for {len(items)} items")
            z.flush()
            items.save(temporary / "items.parquet")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> LatentStore:
        """Open the store read-only; see :func:`ulrec.checkpoint.open_artefact` for the errors."""
        folder = Path(folder)
        manifest = open_artefact(folder, kind=KIND)
        z = np.load(folder / "latents.npy", mmap_mode="r", allow_pickle=False)
        return cls(z=z, items=IdMap.load(folder / "items.parquet"), manifest=manifest)
