"""Judge a run: the latents, the generated media, and the recommendations, against controls."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ulrec.checkpoint import new_artefact, write_text
from ulrec.experiment.judge import Headline, Judge, Tables
from ulrec.experiment.judge_category import judge_category, without_category
from ulrec.experiment.judge_latents import judge_latents
from ulrec.experiment.judge_ranking import judge_ranking
from ulrec.experiment.judge_samples import judge_samples
from ulrec.experiment.judge_users import judge_lifts, judge_utility
from ulrec.experiment.runner import Run

__all__ = ["Results", "evaluate"]

PARTS = (judge_latents, judge_samples, judge_lifts, judge_utility, judge_ranking, judge_category)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What evaluation finds: ``headline`` figures, ``tables`` by key with title and note.

    ``missing`` says of tables that this run cannot have why.
    """

    simulated: bool
    protocol: dict[str, Any]
    headline: list[dict[str, str]]
    tables: dict[str, dict[str, Any]]
    missing: dict[str, str]


def evaluate(run: Run) -> str:
    """Compute all metrics; writes ``metrics.json`` and the artefact ``evaluation``."""
    judge = Judge.of(run)
    tables: Tables = {}
    headline: Headline = []
    for part in PARTS:
        part(judge, tables, headline)
    without = without_category(judge)
    results = Results(
        simulated=judge.world is not None,
        protocol=dataclasses.asdict(judge.protocol),
        headline=headline,
        tables=tables,
        missing={} if without is None else {"category": without},
    )
    text = json.dumps(_plain(dataclasses.asdict(results)), indent=1, allow_nan=False)
    write_text(run.path("metrics.json"), text)
    made_from = {name: run.fingerprint(name) for name in ("features", "recommendations")}
    with new_artefact(run.path("evaluation"), kind="evaluation", made_from=made_from) as folder:
        (folder / "metrics.json").write_text(text)
    return "; ".join(f"{figure['name']} {figure['value']}" for figure in headline[:4])


def _plain(value: Any) -> Any:
    """Return plain JSON data; what is not a number is null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
