"""Media of a catalogue in a memory-mapped store.

What cannot be decoded is quarantined with its reason; it is never fatal alone and never silent.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from ulrec.checkpoint import Manifest, new_artefact, open_artefact
from ulrec.config import from_mapping, to_mapping
from ulrec.data.entries import BATCH, Entry, Source, decode_entry
from ulrec.data.ids import IdMap
from ulrec.data.partial import Quarantined, partial_store
from ulrec.data.pictures import Decoded, MediaConfig, decode
from ulrec.errors import DataError

__all__ = ["MediaConfig", "MediaStore", "Quarantined", "decode", "prepare_media", "to_uint8"]

KIND = "media"

# Settings that say nothing of a store of pictures.
CLIPS_ONLY = ("frame_rate", "stills", "short", "max_frames", "max_clip_pixels")

Bytes = NDArray[np.uint8]
Loaded = tuple[str, Decoded | str]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MediaStore:
    """All usable media of a catalogue, on disk.

    Attributes
    ----------
    media
        Uint8 (I, C, F, H, W), memory-mapped.
    masks
        Foreground, uint8 (I, F, H, W), 255 inside; None if no picture has any.
    items
        Names of the rows, in the order of the catalogue.
    quarantine
        What was left out.
    manifest
        Of the artefact; its fingerprint identifies the media.
    """

    media: Bytes
    masks: Bytes | None
    items: IdMap
    quarantine: tuple[Quarantined, ...]
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> MediaStore:
        """Open the store read-only; see :func:`ulrec.checkpoint.open_artefact` for the errors."""
        folder = Path(folder)
        manifest = open_artefact(folder, kind=KIND)
        masks = folder / "masks.npy"
        listed = json.loads((folder / "quarantine.json").read_text(encoding="utf-8"))
        return cls(
            media=np.load(folder / "media.npy", mmap_mode="r", allow_pickle=False),
            masks=np.load(masks, mmap_mode="r", allow_pickle=False) if masks.is_file() else None,
            items=IdMap.load(folder / "items.parquet"),
            quarantine=tuple(Quarantined(**entry) for entry in listed),
            manifest=manifest,
        )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def config(self) -> MediaConfig:
        """How the media were made."""
        return from_mapping(MediaConfig, self.manifest.info["config"])

    @property
    def shows_clips(self) -> bool:
        """Whether media have more than one frame."""
        return bool(self.media.shape[2] > 1)

    def worded(self, text: str) -> str:
        """Say "clip" where a text says "picture" and clips are what there is."""
        if not self.shows_clips:
            return text
        return text.replace("picture", "clip").replace("Picture", "Clip")

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Return media as models take them.

        Parameters
        ----------
        rows
            Rows of items, ints (B,).

        Returns
        -------
        NDArray[np.float32]
            Media in [-1, 1], shape (B, C, F, H, W).

        Raises
        ------
        DataError
            If a row does not exist (-1 marks unknown ids).
        """
        index = np.asarray(rows)
        outside = index.size and (index.min() < 0 or index.max() >= len(self))
        if index.ndim != 1 or index.dtype.kind not in "iu" or outside:
            raise DataError(
                f"rows have to be a list of ints in 0 .. {len(self) - 1}, got {index.dtype}"
                f" {index.shape}; look ids up with items.rows"
            )
        return np.asarray(self.media[index]).astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(x: NDArray[np.floating[Any]]) -> Bytes:
    """Return media in [-1, 1] of any shape as uint8; what lies outside is clipped.

    Raises
    ------
    DataError
        If a value is not finite.

    Examples
    --------
    >>> to_uint8(np.array([-1.0, 0.0, 1.0, 1.7])).tolist()
    [0, 128, 255, 255]
    """
    if not np.isfinite(x).all():
        raise DataError("media have to be finite to become pixels, got NaN or infinity")
    scaled = np.clip((np.asarray(x, np.float32) + 1) * 127.5, 0, 255)
    pixels: Bytes = np.rint(scaled).astype(np.uint8)
    return pixels


def prepare_media(
    catalogue: str | Path | pa.Table,
    *,
    config: MediaConfig,
    folder: str | Path,
    media_root: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    num_threads: int | None = None,
    made_from: Mapping[str, str] | None = None,
) -> MediaStore:
    """Decode all pictures or clips of a catalogue into a store.

    Interrupted, and called again for the same catalogue, it goes on where it stopped; the store is
    the same, byte for byte.

    Parameters
    ----------
    catalogue
        A parquet file or an Arrow table [item_id, image | clip | path, (mask)] (polars:
        ``.to_arrow()``). With ``config.frames`` above 1 a path may name a folder of frames.
    config
        Size, frames, background, limits.
    folder
        Where the artefact goes.
    media_root
        What ``path`` is relative to; a parquet file's own folder by default.
    progress
        Called with (rows done, rows in all).
    num_threads
        Threads that decode; the number of cores by default.
    made_from
        Fingerprints of the sources, kept in the manifest.

    Returns
    -------
    MediaStore
        Rows in the order of the catalogue, without the quarantined items.

    Raises
    ------
    DataError
        If a column is missing, ids repeat, nothing can be decoded, or more than
        ``config.max_bad_share`` cannot; nothing is written then.
    MissingExtraError
        If there is a video and PyAV is not installed.
    ArtefactError
        If another process is preparing this folder, or something that is no artefact stands there.
    """
    source = Source.of(catalogue, media_root)
    info: dict[str, Any] = {"config": _described(config)}
    load = functools.partial(_load, root=source.root, config=config)
    threads, step = num_threads or os.cpu_count() or 1, max(1, BATCH // config.frames)
    with (
        partial_store(Path(folder), source.num_rows, config) as partial,
        new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary,
    ):
        entries = partial.remaining(source.entries(), source.root)
        pool = ThreadPoolExecutor(threads)
        try:
            for entry, (digest, result) in _in_order(pool, load, entries, max(step, threads)):
                partial.append(entry, digest, result)
                done = partial.num_done
                if progress is not None and (done % step == 0 or done == source.num_rows):
                    progress(done, source.num_rows)
        finally:
            pool.shutdown(cancel_futures=True)
        _judge(partial.quarantine, source.num_rows, config)
        info.update(num_items=len(partial.ids), num_quarantined=len(partial.quarantine))
        partial.finish(temporary)
    return MediaStore.open(folder)


def _described(config: MediaConfig) -> dict[str, Any]:
    """Return the configuration as the manifest keeps it: of pictures, without what clips need."""
    plain = to_mapping(config)
    return {k: v for k, v in plain.items() if config.frames > 1 or k not in CLIPS_ONLY}


def _in_order(
    pool: ThreadPoolExecutor, load: Callable[[Entry], Loaded], entries: Iterable[Entry], ahead: int
) -> Iterator[tuple[Entry, Loaded]]:
    """Load ahead of what is written, so that no thread waits for the largest picture of a batch."""
    submitted = ((entry, pool.submit(load, entry)) for entry in entries)
    waiting = deque(islice(submitted, ahead))
    while waiting:
        waiting.extend(islice(submitted, 1))
        entry, future = waiting.popleft()
        yield entry, future.result()


def _load(entry: Entry, root: Path | None, config: MediaConfig) -> Loaded:
    return entry.digest(root), decode_entry(entry, root, config)


def _judge(quarantine: Sequence[Quarantined], num_rows: int, config: MediaConfig) -> None:
    """Warn of quarantined items, or fail if there are too many.

    Raises
    ------
    DataError
        If all or more than the configured share cannot be used.
    """
    if not quarantine:
        return
    examples = "; ".join(f"{entry.item_id!r}: {entry.reason}" for entry in quarantine[:5])
    what = "pictures" if config.frames == 1 else "clips"
    found = f"{len(quarantine)} of {num_rows} {what} cannot be used ({examples})"
    if len(quarantine) > config.max_bad_share * num_rows or len(quarantine) == num_rows:
        raise DataError(
            f"{found}; at most a share of {config.max_bad_share} may be: check the media root and"
            " the files, or raise max_bad_share"
        )
    logger.warning("%s; they are left out and listed in quarantine.json", found)
