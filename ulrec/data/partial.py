"""A media store that is being written: an interruption costs seconds of work, not hours.

It lies beside its destination, with a journal of the rows that are safely on disk. Preparing the
same catalogue again goes on after the last of them whose source has not changed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ulrec.config import to_mapping
from ulrec.data.entries import BATCH, Entry
from ulrec.data.ids import IdMap
from ulrec.data.pictures import CHANNELS, Decoded, MediaConfig
from ulrec.errors import ArtefactError, DataError

if sys.platform != "win32":
    import fcntl

__all__ = ["PartialStore", "Quarantined", "partial_store"]

SETTINGS, JOURNAL, LOCK = "settings.json", "journal.jsonl", "lock"
MEDIA, MASKS = "media.npy", "masks.npy"
FORMAT = 1

# What is written more often costs more than it can save.
SYNC_S = 10.0

Array = np.memmap[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantined:
    """An item whose picture or clip cannot be used, and why."""

    item_id: str | int
    reason: str


@contextmanager
def partial_store(folder: Path, num_rows: int, config: MediaConfig) -> Iterator[PartialStore]:
    """Yield the partial store of ``folder``, with the rows of an earlier attempt if there was one.

    It is removed when all goes well or the catalogue turns out to be unusable, and kept on any
    other exception; a process that is killed leaves it as well.

    Raises
    ------
    ArtefactError
        If another process is writing it.
    """
    place = folder.with_name(f".{folder.name}.partial")
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOCK).open("w") as lock:
        _acquire(lock, place)
        store = PartialStore(place, num_rows, config)
        try:
            yield store
        except DataError:
            store.discard()
            raise
        except BaseException:
            store.sync()
            if not store.num_done:
                store.discard()
            raise
        store.discard()


class PartialStore:
    """Arrays on disk for all rows of a catalogue, of which the first ``num_done`` are done.

    Attributes
    ----------
    ids
        Of the rows that can be used.
    quarantine
        The others.
    """

    def __init__(self, folder: Path, num_rows: int, config: MediaConfig) -> None:
        self.folder = folder
        self.ids: list[str | int] = []
        self.quarantine: list[Quarantined] = []
        self._any_mask = False
        self._pending: list[str] = []
        self._synced = time.monotonic()
        size = (config.frames, config.height, config.width)
        shapes = {MEDIA: (num_rows, CHANNELS, *size), MASKS: (num_rows, *size)}
        settings = _settings(num_rows, config)
        if _can_go_on(folder, settings, shapes):
            self.media, self.masks = (
                np.lib.format.open_memmap(folder / name, mode="r+") for name in shapes
            )
        else:
            for name in (SETTINGS, JOURNAL, *shapes):
                (folder / name).unlink(missing_ok=True)
            self.media, self.masks = (_create(folder / n, shape) for n, shape in shapes.items())
            (folder / JOURNAL).touch()
            (folder / SETTINGS).write_text(settings, encoding="utf-8")

    @property
    def num_done(self) -> int:
        """How many rows of the catalogue need no more work."""
        return len(self.ids) + len(self.quarantine)

    def remaining(self, entries: Iterable[Entry], root: Path | None) -> Iterator[Entry]:
        """Return the entries after those that the journal holds unchanged; call it once, first."""
        coming, kept = iter(entries), 0
        with (self.folder / JOURNAL).open("rb+") as journal:
            for line in journal:
                entry, done = next(coming, None), _parse(line)
                if entry is None or done is None or done[:2] != [entry.item_id, entry.digest(root)]:
                    coming = coming if entry is None else itertools.chain([entry], coming)
                    break
                self._count(entry.item_id, reason=done[2], masked=done[3])
                kept += len(line)
            journal.truncate(kept)
        return coming

    def append(self, entry: Entry, digest: str, result: Decoded | str) -> None:
        """Write the next row, or the reason why there is none; no mask is foreground all over."""
        reason = result if isinstance(result, str) else None
        masked = not isinstance(result, str) and result.mask is not None
        if not isinstance(result, str):
            row = len(self.ids)
            self.media[row] = result.media
            self.masks[row] = 255 if result.mask is None else result.mask
        self._count(entry.item_id, reason=reason, masked=masked)
        self._pending.append(json.dumps([entry.item_id, digest, reason, masked]) + "\n")
        if time.monotonic() - self._synced >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Bring all rows to disk, and only then the journal that vouches for them."""
        self.media.flush()
        self.masks.flush()
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.writelines(self._pending)
            journal.flush()
            os.fsync(journal.fileno())
        self._pending.clear()
        self._synced = time.monotonic()

    def finish(self, folder: Path) -> None:
        """Put what an artefact holds into a folder: no rows that never came, no masks of none."""
        self.sync()
        _put(self.folder / MEDIA, self.media, len(self.ids), folder)
        if self._any_mask:
            _put(self.folder / MASKS, self.masks, len(self.ids), folder)
        IdMap(self.ids).save(folder / "items.parquet")
        listed = [asdict(entry) for entry in self.quarantine]
        text = json.dumps(listed, indent=1, ensure_ascii=False)
        (folder / "quarantine.json").write_text(text, encoding="utf-8")

    def discard(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder)

    def _count(self, item_id: str | int, *, reason: str | None, masked: bool) -> None:
        if reason is None:
            self.ids.append(item_id)
            self._any_mask |= masked
        else:
            self.quarantine.append(Quarantined(item_id=item_id, reason=reason))


def _settings(num_rows: int, config: MediaConfig) -> str:
    """Return what decides on the rows, the share of bad ones aside."""
    decisive = {key: v for key, v in to_mapping(config).items() if key != "max_bad_share"}
    return json.dumps({"format": FORMAT, "num_rows": num_rows, "config": decisive})


def _can_go_on(folder: Path, settings: str, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Judge an earlier attempt; arrays that a finished store shares are not written to."""
    try:
        if (folder / SETTINGS).read_text(encoding="utf-8") != settings:
            return False
        found = {n: np.load(folder / n, mmap_mode="r", allow_pickle=False).shape for n in shapes}
        linked = any((folder / name).stat().st_nlink > 1 for name in shapes)
    except (OSError, ValueError):
        return False
    return found == shapes and not linked and (folder / JOURNAL).is_file()


def _parse(line: bytes) -> list[Any] | None:
    """Return a line of the journal; None if it was cut off."""
    try:
        done = json.loads(line)
    except ValueError:
        return None
    return done if isinstance(done, list) and len(done) == 4 and line.endswith(b"\n") else None


def _create(path: Path, shape: tuple[int, ...]) -> Array:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _put(source: Path, rows: Array, count: int, folder: Path) -> None:
    """Place the first rows of an array in a folder, as a link where that is all of them."""
    target = folder / source.name
    if count == len(rows):
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            source.rename(target)
        return
    shorter = _create(target, (count, *rows.shape[1:]))
    for start in range(0, count, BATCH):
        shorter[start : start + BATCH] = rows[start : min(start + BATCH, count)]
    shorter.flush()


def _acquire(lock: Any, place: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ArtefactError(
            f"{place} is being written by another process; wait for it, or choose another folder"
        ) from error
