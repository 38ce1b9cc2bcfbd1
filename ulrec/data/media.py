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
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from ulrec.checkpoint import Manifest, new_artefact, open_artefact
from ulrec.config import from_mapping, to_mapping
from ulrec.data.ids import IdMap
from ulrec.data.pictures import CHANNELS, Decoded, MediaConfig, decode
from ulrec.data.schema import IMAGE, ITEM_ID, MASK, PATH
from ulrec.errors import DataError

__all__ = ["MediaConfig", "MediaStore", "Quarantined", "decode", "prepare_media", "to_uint8"]

KIND = "media"
BATCH = 128

# Names of Arrow types; a column of nulls has no other.
BYTES = ("binary", "large_binary", "fixed_size_binary", "null")
TEXT = ("string", "large_string", "dictionary<values=string", "null")

Bytes = NDArray[np.uint8]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantined:
    """An item whose picture cannot be used, and why."""

    item_id: str | int
    reason: str


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
    """Decode all pictures of a catalogue into a store.

    Parameters
    ----------
    catalogue
        A parquet file or an Arrow table [item_id, image | path, (mask)] (polars: ``.to_arrow()``).
    config
        Size, background, limits.
    folder
        Where the artefact goes.
    media_root
        What ``path`` is relative to; a parquet file's own folder by default.
    progress
        Called with (pictures done, pictures in all).
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
    """
    source = _Source.of(catalogue, media_root)
    info: dict[str, Any] = {"config": to_mapping(config)}
    quarantine: list[Quarantined] = []
    load = functools.partial(_load, root=source.root, config=config)
    with new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary:
        kept = _Writer(temporary, source.num_rows, config)
        with ThreadPoolExecutor(num_threads or os.cpu_count() or 1) as pool:
            for done, (entry, result) in enumerate(_in_order(pool, load, source.entries()), 1):
                if isinstance(result, str):
                    quarantine.append(Quarantined(item_id=entry.item_id, reason=result))
                else:
                    kept.append(entry.item_id, result)
                if progress is not None and (done % BATCH == 0 or done == source.num_rows):
                    progress(done, source.num_rows)
        _judge(quarantine, source.num_rows, config)
        info.update(num_items=len(kept.ids), num_quarantined=len(quarantine))
        kept.close()
        text = json.dumps([asdict(entry) for entry in quarantine], indent=1, ensure_ascii=False)
        (temporary / "quarantine.json").write_text(text, encoding="utf-8")
    return MediaStore.open(folder)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row of the catalogue; ``image`` is encoded bytes, a file's name, or None if it has none."""

    item_id: str | int
    image: bytes | str | None
    mask: bytes | None


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A catalogue read in batches, so that encoded pictures need not fit into memory together."""

    table: pa.Table | Path
    root: Path | None
    columns: list[str]
    num_rows: int

    @classmethod
    def of(cls, catalogue: str | Path | pa.Table, media_root: str | Path | None) -> _Source:
        root = None if media_root is None else Path(media_root)
        if isinstance(catalogue, pa.Table):
            table: pa.Table | Path = catalogue
            schema, num_rows, what = catalogue.schema, catalogue.num_rows, "the catalogue"
        else:
            table = Path(catalogue)
            schema, num_rows = _parquet_shape(table)
            what, root = str(table), table.parent if root is None else root
        names = schema.names
        _check_columns(schema, what)
        if PATH in names and root is None:
            raise DataError(f"{what} names files in '{PATH}': give the media_root they lie below")
        if root is not None and PATH in names and not root.is_dir():
            raise DataError(f"media root not found: {root}; check the path")
        if not num_rows:
            raise DataError(f"{what} has no rows")
        columns = [name for name in (ITEM_ID, IMAGE, PATH, MASK) if name in names]
        source = cls(table=table, root=root, columns=columns, num_rows=num_rows)
        source.check_ids()
        return source

    def check_ids(self) -> None:
        """Refuse repeated ids before hours of decoding."""
        if isinstance(self.table, Path):
            column = pq.read_table(self.table, columns=[ITEM_ID]).column(ITEM_ID)
        else:
            column = self.table.column(ITEM_ID)
        IdMap(column.to_pylist())

    def entries(self) -> Iterator[_Entry]:
        """Yield rows in order."""
        if isinstance(self.table, Path):
            with pq.ParquetFile(self.table) as file:
                yield from _entries(file.iter_batches(BATCH, columns=self.columns))
        else:
            yield from _entries(self.table.select(self.columns).to_batches(max_chunksize=BATCH))


def _entries(batches: Iterable[pa.RecordBatch]) -> Iterator[_Entry]:
    for row in (row for batch in batches for row in batch.to_pylist()):
        yield _Entry(row[ITEM_ID], row.get(IMAGE, row.get(PATH)), row.get(MASK))


def _in_order(
    pool: ThreadPoolExecutor, load: Callable[[_Entry], Decoded | str], entries: Iterable[_Entry]
) -> Iterator[tuple[_Entry, Decoded | str]]:
    """Load ahead of what is written, so that no thread waits for the largest picture of a batch."""
    submitted = ((entry, pool.submit(load, entry)) for entry in entries)
    waiting = deque(islice(submitted, BATCH))
    while waiting:
        waiting.extend(islice(submitted, 1))
        entry, future = waiting.popleft()
        yield entry, future.result()


def _parquet_shape(path: Path) -> tuple[pa.Schema, int]:
    if not path.is_file():
        raise DataError(f"catalogue not found: {path}; check the path")
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read as parquet ({error}); read other formats with"
            " ulrec.data.tables.read_table and pass its .to_arrow()"
        ) from error


def _check_columns(schema: pa.Schema, what: str) -> None:
    names = schema.names
    if ITEM_ID not in names:
        raise DataError(f"{what} has no column '{ITEM_ID}', it has {', '.join(names)}; rename one")
    if (IMAGE in names) == (PATH in names):
        found = "both" if IMAGE in names else f"neither (it has {', '.join(names)})"
        raise DataError(f"{what} needs exactly one of '{IMAGE}' and '{PATH}', got {found}")
    for name, expected in ((IMAGE, BYTES), (MASK, BYTES), (PATH, TEXT)):
        if name in names and not str(schema.field(name).type).startswith(expected):
            kind = schema.field(name).type
            raise DataError(f"'{name}' of {what} has to be {expected[0]}, got {kind}; convert it")


class _Writer:
    """Arrays on disk that grow to at most ``num_rows`` rows and are cut to what came."""

    def __init__(self, folder: Path, num_rows: int, config: MediaConfig) -> None:
        size = (config.frames, config.height, config.width)
        self.folder = folder
        self.ids: list[str | int] = []
        self.any_mask = False
        self.media = _create(folder / "media.npy", (num_rows, CHANNELS, *size))
        self.masks = _create(folder / "masks.npy", (num_rows, *size))

    def append(self, item_id: str | int, picture: Decoded) -> None:
        """Write the next row; a picture without a mask is foreground all over."""
        row = len(self.ids)
        self.media[row] = picture.media
        self.masks[row] = 255 if picture.mask is None else picture.mask
        self.any_mask |= picture.mask is not None
        self.ids.append(item_id)

    def close(self) -> None:
        """Flush, drop the rows that never came, and the masks if no picture has one."""
        _cut(self.folder / "media.npy", self.media, len(self.ids))
        if self.any_mask:
            _cut(self.folder / "masks.npy", self.masks, len(self.ids))
        else:
            (self.folder / "masks.npy").unlink()
        IdMap(self.ids).save(self.folder / "items.parquet")


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _cut(path: Path, rows: np.memmap[Any, np.dtype[np.uint8]], count: int) -> None:
    rows.flush()
    if count == len(rows):
        return
    shorter = path.with_suffix(".cut")
    target = _create(shorter, (count, *rows.shape[1:]))
    for start in range(0, count, BATCH):
        target[start : min(start + BATCH, count)] = rows[start : min(start + BATCH, count)]
    target.flush()
    shorter.replace(path)


def _load(entry: _Entry, root: Path | None, config: MediaConfig) -> Decoded | str:
    """Decode a row, or say why that is not possible."""
    try:
        if entry.image is None:
            return "the catalogue has no picture"
        data = entry.image if isinstance(entry.image, bytes) else _read_file(root, entry.image)
        return decode(data, config, mask=entry.mask)
    except DataError as error:
        return str(error)


def _read_file(root: Path | None, name: str) -> bytes:
    """Read a file under the media root; a reason names it alike on any machine."""
    if root is None or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(f"{name} is not below the media root")
    try:
        return (root / name).read_bytes()
    except OSError as error:
        raise DataError(f"file {name} cannot be read ({error.strerror})") from error


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
    found = f"{len(quarantine)} of {num_rows} pictures cannot be used ({examples})"
    if len(quarantine) > config.max_bad_share * num_rows or len(quarantine) == num_rows:
        raise DataError(
            f"{found}; at most a share of {config.max_bad_share} may be: check the media root and"
            " the files, or raise max_bad_share"
        )
    logger.warning("%s; they are left out and listed in quarantine.json", found)
