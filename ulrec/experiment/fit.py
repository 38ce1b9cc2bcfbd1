"""From pictures and interactions to a trained pipeline in one call."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from ulrec.checkpoint import write_text
from ulrec.config import load_config, to_yaml
from ulrec.errors import ConfigError
from ulrec.experiment.config import RunConfig
from ulrec.experiment.propose import Proposal, propose
from ulrec.experiment.runner import Run, StageResult, run_stages
from ulrec.experiment.stages import STAGES
from ulrec.pipeline import Pipeline

__all__ = ["fit_pipeline"]

logger = logging.getLogger(__name__)

Table = str | Path | pl.DataFrame

INPUT = "input"


def fit_pipeline(
    interactions: Table | None,
    media: Table,
    *,
    folder: str | Path,
    catalogue: Table | None = None,
    config: str | Path | RunConfig | None = None,
    overrides: Sequence[str] = (),
    until: str = "index",
    progress: Callable[[StageResult], None] | None = None,
    device: str = "cpu",
) -> Pipeline:
    """Train a pipeline; see :meth:`ulrec.Pipeline.fit`, which is this."""
    names = list(STAGES)
    last = names[names.index("index") :]
    if until not in last:
        raise ConfigError(f"until has to be one of {', '.join(last)}, got {until!r}")
    folder = Path(folder)
    out = folder / INPUT / f"{folder.name}.yaml"
    proposal = propose(media, interactions, catalogue=catalogue, out=out)
    for finding in proposal.findings:
        if finding.level == "warning":
            logger.warning("%s; %s", finding.text, finding.remedy)
    proposal.write(force=True)
    settings = _settings(out, config)
    run = Run(config=load_config(RunConfig, settings, (*_places(proposal, folder), *overrides)))
    stages = [STAGES[name] for name in names[: names.index(until) + 1]]
    run_stages(run, stages, report=progress or _log)
    return Pipeline.load(run.folder, device=device)


def _settings(proposed: Path, config: str | Path | RunConfig | None) -> Path:
    """Return the file of settings: the proposed one, unless others are given."""
    if config is None:
        return proposed
    if not isinstance(config, RunConfig):
        return Path(config)
    given = proposed.with_name("given.yaml")
    write_text(given, to_yaml(config))
    return given


def _places(proposal: Proposal, folder: Path) -> tuple[str, ...]:
    """Return where the data lie and the run goes, as overrides.

    Places are whole, so that the same call from another directory is the same run.
    """
    recipe = proposal.recipe
    if recipe is None:
        raise AssertionError("a proposal that was written has a recipe")
    places = {
        "folder": str(folder.resolve().parent),
        "name": folder.name,
        "data.catalogue": str(Path(recipe.catalogue).resolve()),
        "data.media_root": str(Path(recipe.media_root).resolve()),
        "data.interactions": recipe.interactions and str(Path(recipe.interactions).resolve()),
    }
    return tuple(f"{key}={json.dumps(place)}" for key, place in places.items())


def _log(result: StageResult) -> None:
    took = "up to date" if result.skipped else f"{result.seconds:.0f} s"
    logger.info("%s: %s, %s", result.stage, took, result.summary)
