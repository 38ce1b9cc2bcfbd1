"""A stage's work in batches that are kept: stopped it goes on, and processes may share it.

The batches are those that one process makes, whoever makes them, and so are their bytes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from ulrec import __version__
from ulrec.checkpoint import write_file
from ulrec.config import digest
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.experiment.runner import Run, Stage, StageResult, stage_key, up_to_date

__all__ = ["Arrays", "Batches", "Shard", "kept_batches", "make_shard"]

Arrays = dict[str, NDArray[Any]]
"""What a batch comes to, by name."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """A stage's work, cut as one process would do it.

    Attributes
    ----------
    sizes
        Samples of each batch.
    make
        Returns the arrays of a batch by its number, from 0; those of another depend on nothing
        that this one leaves.
    unit
        What a sample is, for the progress bar.
    """

    sizes: Sequence[int]
    make: Callable[[int], Arrays]
    unit: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` shares of a stage's batches: every ``count``-th, from ``index`` on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "0/4", the first of four.

        Raises
        ------
        ConfigError
            If it is not two whole numbers I/N with 0 <= I < N.

        Examples
        --------
        >>> Shard.parse("0/4")
        Shard(index=0, count=4)
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ConfigError(
                f"a shard reads I/N with I from 0 to N - 1, got '{text}'; the shards of four "
                "processes are 0/4, 1/4, 2/4 and 3/4"
            )
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@contextmanager
def kept_batches(run: Run, stage: Stage, batches: Batches) -> Iterator[Iterator[Arrays]]:
    """Yield all batches of a stage in order: those that are kept are read, the others made.

    They are removed when all goes well or they turn out to be unusable, and kept on any other
    exception; a process that is killed leaves them as well.

    Raises
    ------
    ArtefactError
        If one that is kept cannot be read.
    """
    folder = _folder(run, stage)
    try:
        yield _each(folder, batches, range(len(batches.sizes)), title=stage.name)
    except DataError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)  # a shard that is still at work may add to it


def make_shard(run: Run, stage: Stage, shard: Shard) -> StageResult:
    """Make and keep what is missing of a shard, for the stage itself to put together.

    What is kept does not depend on the number of shards: those of another number go on from it.

    Raises
    ------
    ConfigError
        If the stage's work is one piece.
    ArtefactError
        If what the stage reads is not there.
    """
    if stage.batches is None:
        raise ConfigError(f"{stage.name} is one piece of work; run it without a shard")
    done = up_to_date(run, stage, stage_key(run, stage))
    if done is not None:
        return done
    start = time.monotonic()
    batches, folder = stage.batches(run), _folder(run, stage)
    own = range(shard.index, len(batches.sizes), shard.count)
    missing = [number for number in own if not _path(folder, number).is_file()]
    for _ in _each(folder, batches, missing, title=f"{stage.name} {shard}"):
        pass
    there = len(list(folder.glob("[0-9]*.safetensors")))
    return StageResult(
        stage=stage.name,
        skipped=False,
        seconds=time.monotonic() - start,
        summary=f"shard {shard}: {len(missing)} of its {len(own)} batches made; {there} of all "
        f"{len(batches.sizes)} are there, `ulrec {stage.name}` makes the rest and joins them",
    )


def _folder(run: Run, stage: Stage) -> Path:
    """Return where a stage keeps its batches; of anything else that they depend on, elsewhere."""
    return run.path("parts") / f"{stage.name}-{digest([stage_key(run, stage), __version__])}"


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.safetensors"


def _each(
    folder: Path, batches: Batches, numbers: Sequence[int], *, title: str
) -> Iterator[Arrays]:
    total = sum(batches.sizes[number] for number in numbers)
    with tqdm(total=total, desc=title, unit=batches.unit, disable=None) as bar:
        for number in numbers:
            yield _batch(folder, batches, number)
            bar.update(batches.sizes[number])


def _batch(folder: Path, batches: Batches, number: int) -> Arrays:
    """Return a batch that is kept, or else make it and keep it."""
    path = _path(folder, number)
    if not path.is_file():
        made = {name: np.ascontiguousarray(x) for name, x in batches.make(number).items()}
        write_file(path, lambda temporary: save_file(made, temporary))
        return made
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); delete it to make it again") from error
