"""Runs stages, and skips those whose configuration, inputs and outputs have not changed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ulrec import __version__
from ulrec.checkpoint import MANIFEST, hash_file, write_text
from ulrec.config import digest, to_yaml
from ulrec.errors import ArtefactError

if TYPE_CHECKING:  # the configuration imports torch and Lightning, which --help can do without
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.shards import Batches

__all__ = ["Run", "Stage", "StageResult", "run_stages", "stage_key", "up_to_date"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration and where its artefacts lie."""

    config: RunConfig

    @property
    def folder(self) -> Path:
        """Where everything of the run goes."""
        return Path(self.config.folder) / self.config.name

    def path(self, name: str) -> Path:
        """Return where an artefact of the run lies."""
        return self.folder / name

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint of an artefact of the run.

        Raises
        ------
        ArtefactError
            If it is not there; the message says what to run.
        """
        path = self.path(name) / MANIFEST
        if not path.is_file():
            raise ArtefactError(
                f"{self.path(name)} is missing; run `ulrec run`, or the stage that makes it, first"
            )
        return str(json.loads(path.read_text())["fingerprint"])


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run.

    Attributes
    ----------
    name, help
        For the command line.
    run
        Does the work and returns a line about it.
    settings
        The part of the configuration that its result depends on.
    inputs, outputs
        Names of the artefacts it reads and of those it writes.
    optional
        Names of artefacts that it reads where they are there.
    files
        Files from outside that it reads.
    wanted
        Whether a configuration asks for it; it is left out of a run otherwise.
    batches
        The work as batches that several processes may share; None where it is one piece.
    """

    name: str
    help: str
    run: Callable[[Run], str]
    settings: Callable[[RunConfig], Any]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    files: Callable[[RunConfig], Sequence[Path]] = lambda config: ()
    wanted: Callable[[RunConfig], bool] = lambda config: True
    batches: Callable[[Run], Batches] | None = None


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What came of a stage: ``skipped`` if it was up to date; ``summary`` is a readable line."""

    stage: str
    skipped: bool
    seconds: float
    summary: str


def run_stages(
    run: Run, stages: Sequence[Stage], *, report: Callable[[StageResult], None]
) -> list[StageResult]:
    """Run the stages that are wanted in order, skipping what is up to date; report each.

    Raises
    ------
    ArtefactError
        If another process runs stages of this run; or as a stage does.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with _alone(run):
        write_text(run.path("config.yaml"), to_yaml(run.config))
        results = []
        for stage in (stage for stage in stages if stage.wanted(run.config)):
            result = _run_stage(run, stage)
            report(result)
            results.append(result)
    return results


def up_to_date(run: Run, stage: Stage, key: str) -> StageResult | None:
    """Return what came of a stage if it was of this key and still stands, or None."""
    stamp = _read_stamp(_stamp(run, stage))
    if stamp is None or stamp["key"] != key or _outputs(run, stage) != stamp["outputs"]:
        return None
    return StageResult(stage=stage.name, skipped=True, seconds=0.0, summary=str(stamp["summary"]))


def stage_key(run: Run, stage: Stage) -> str:
    """Return a digest of all that the stage's result depends on."""
    there = [name for name in stage.optional if (run.path(name) / MANIFEST).is_file()]
    inputs = {name: run.fingerprint(name) for name in (*stage.inputs, *there)}
    files = {str(path): _file_key(path) for path in stage.files(run.config)}
    settings = json.loads(json.dumps(stage.settings(run.config)))
    return digest([stage.name, settings, run.config.seed, inputs, files])


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Keep other processes from the run's stages: they would replace what this one reads.

    The lock goes with the process, however that ends. Those that a training of several processes
    has started run the same stages, in its first one's name.
    """
    from ulrec.training.fit import is_first_process

    if not is_first_process():
        yield
        return
    lock = FileLock(run.path(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ArtefactError(
            f"another process is at work on {run.folder}; wait for it or stop it, or give this run "
            "another name with name=NAME (shards, which may run side by side, take --shard I/N)"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _run_stage(run: Run, stage: Stage) -> StageResult:
    key = stage_key(run, stage)
    done = up_to_date(run, stage, key)
    if done is not None:
        return done
    start = time.monotonic()
    summary = stage.run(run)
    seconds = time.monotonic() - start
    content = {
        "key": key,
        "outputs": _outputs(run, stage),
        "seconds": round(seconds, 2),
        "summary": summary,
        "version": __version__,
    }
    write_text(_stamp(run, stage), json.dumps(content, indent=1))
    return StageResult(stage=stage.name, skipped=False, seconds=seconds, summary=summary)


def _stamp(run: Run, stage: Stage) -> Path:
    return run.path("stages") / f"{stage.name}.json"


def _file_key(path: Path) -> str:
    return hash_file(path) if path.is_file() else "absent"


def _outputs(run: Run, stage: Stage) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in stage.outputs:
        manifest = run.path(name) / MANIFEST
        found[name] = (
            json.loads(manifest.read_text())["fingerprint"] if manifest.is_file() else None
        )
    return found


def _read_stamp(path: Path) -> dict[str, Any] | None:
    """Return a stage's stamp; one that cannot be read only costs the stage another run."""
    if not path.is_file():
        return None
    try:
        stamp = json.loads(path.read_text())
    except ValueError:
        logger.warning("%s is damaged; the stage runs again", path)
        return None
    return (
        stamp if isinstance(stamp, dict) and {"key", "outputs", "summary"} <= stamp.keys() else None
    )
