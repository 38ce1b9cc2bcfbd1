"""Rows of a catalogue with their encoded pictures or clips, in batches, and how one is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from ulrec.data.clips import decode_clip
from ulrec.data.ids import IdMap
from ulrec.data.pictures import Decoded, MediaConfig, decode
from ulrec.data.schema import CLIP, IMAGE, ITEM_ID, MASK, MEDIA_COLUMNS, PATH
from ulrec.errors import DataError

__all__ = ["BATCH", "Entry", "Source", "decode_entry"]

BATCH = 128

# Names of Arrow types; a column of nulls has no other.
BYTES = ("binary", "large_binary", "fixed_size_binary", "null")
TEXT = ("string", "large_string", "dictionary<values=string", "null")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the catalogue; ``media`` is encoded bytes, a file's name, or None if it has none."""

    item_id: str | int
    media: bytes | str | None
    mask: bytes | None

    def digest(self, root: Path | None) -> str:
        """Return what changes when the row's bytes do, or its file's size or time."""
        found = hashlib.blake2b(self.mask or b"", digest_size=12)
        if isinstance(self.media, bytes):
            found.update(self.media)
        elif self.media is not None:
            found.update(_state(root, self.media).encode())
        return found.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Source:
    """A catalogue read in batches, so that encoded pictures need not fit into memory together."""

    table: pa.Table | Path
    root: Path | None
    columns: list[str]
    num_rows: int

    @classmethod
    def of(cls, catalogue: str | Path | pa.Table, media_root: str | Path | None) -> Source:
        """Return a catalogue whose columns and ids are checked.

        Raises
        ------
        DataError
            If a column is missing or of another type, ids repeat, there are no rows, or no root.
        """
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
        columns = [name for name in (ITEM_ID, *MEDIA_COLUMNS, MASK) if name in names]
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

    def entries(self) -> Iterator[Entry]:
        """Yield rows in order."""
        if isinstance(self.table, Path):
            with pq.ParquetFile(self.table) as file:
                yield from _entries(file.iter_batches(BATCH, columns=self.columns))
        else:
            yield from _entries(self.table.select(self.columns).to_batches(max_chunksize=BATCH))


def decode_entry(entry: Entry, root: Path | None, config: MediaConfig) -> Decoded | str:
    """Decode a row, or say why that is not possible.

    Raises
    ------
    MissingExtraError
        If it is a video and PyAV is not installed.
    """
    try:
        if entry.media is None:
            return f"the catalogue has no {'picture' if config.frames == 1 else 'clip'}"
        if config.frames == 1:
            data = entry.media if isinstance(entry.media, bytes) else _read_file(root, entry.media)
            return decode(data, config, mask=entry.mask)
        clip = entry.media if isinstance(entry.media, bytes) else _existing(root, entry.media)
        return decode_clip(clip, config, mask=entry.mask)
    except DataError as error:
        return str(error)


def _entries(batches: Iterable[pa.RecordBatch]) -> Iterator[Entry]:
    for row in (row for batch in batches for row in batch.to_pylist()):
        media = next(row[name] for name in MEDIA_COLUMNS if name in row)
        yield Entry(row[ITEM_ID], media, row.get(MASK))


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
    found = [name for name in MEDIA_COLUMNS if name in names]
    if len(found) != 1:
        told = " and ".join(found) or f"none (it has {', '.join(names)})"
        raise DataError(f"{what} needs exactly one of '{IMAGE}', '{CLIP}' and '{PATH}', got {told}")
    for name, expected in ((IMAGE, BYTES), (CLIP, BYTES), (MASK, BYTES), (PATH, TEXT)):
        if name in names and not str(schema.field(name).type).startswith(expected):
            kind = schema.field(name).type
            raise DataError(f"'{name}' of {what} has to be {expected[0]}, got {kind}; convert it")


def _below(root: Path | None, name: str) -> Path:
    if root is None or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise DataError(f"{name} is not below the media root")
    return root / name


def _existing(root: Path | None, name: str) -> Path:
    """Return a clip's file or folder; a reason names it alike on any machine."""
    path = _below(root, name)
    try:
        path.stat()
    except OSError as error:
        raise DataError(f"file {name} cannot be read ({error.strerror})") from error
    return path


def _read_file(root: Path | None, name: str) -> bytes:
    """Read a file under the media root; a reason names it alike on any machine."""
    path = _below(root, name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"file {name} cannot be read ({error.strerror})") from error


def _state(root: Path | None, name: str) -> str:
    """Return name, size and time of a file, or of each in a folder; of none, its name alone."""
    try:
        path = _below(root, name)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        states = [(file.name, file.stat()) for file in files]
    except (DataError, OSError):
        states = []
    return repr((name, [(file, s.st_size, s.st_mtime_ns) for file, s in states]))
