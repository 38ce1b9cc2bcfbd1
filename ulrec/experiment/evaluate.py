"""Judge a run: the latents, the generated media, and the recommendations, against controls."""

from __future__ import annotations

import polars as pl

from ulrec.checkpoint import new_artefact, write_text
from ulrec.evaluation.results import KIND, Result, write_results
from ulrec.experiment.judge import Headline, Judge, Tables
from ulrec.experiment.judge_category import judge_category, without_category
from ulrec.experiment.judge_grounding import judge_grounding
from ulrec.experiment.judge_latents import judge_latents
from ulrec.experiment.judge_motion import judge_motion
from ulrec.experiment.judge_personal import judge_history, judge_identity, judge_verifier
from ulrec.experiment.judge_ranking import judge_ranking
from ulrec.experiment.judge_samples import judge_samples
from ulrec.experiment.judge_users import judge_lifts, judge_utility
from ulrec.experiment.runner import Run

__all__ = ["evaluate"]

PARTS = (
    judge_latents,
    judge_samples,
    judge_motion,
    judge_lifts,
    judge_utility,
    judge_history,
    judge_identity,
    judge_verifier,
    judge_grounding,
    judge_ranking,
    judge_category,
)


def evaluate(run: Run) -> str:
    """Compute all metrics; writes ``metrics.json`` and the artefact ``evaluation``."""
    judge = Judge.of(run)
    tables: Tables = {}
    headline: Headline = []
    for part in PARTS:
        part(judge, tables, headline)
    without = without_category(judge)
    worded = judge.media.worded
    results = [
        Result(
            name=name,
            title=worded(table["title"]),
            notes=(worded(table["note"]),),
            protocol=judge.protocol,
            summary=pl.DataFrame(table["rows"], infer_schema_length=None),
            per_user=table.get("per_user"),
        )
        for name, table in tables.items()
    ]
    made_from = {name: run.fingerprint(name) for name in ("features", "recommendations")}
    with new_artefact(run.path("evaluation"), kind=KIND, made_from=made_from) as folder:
        text = write_results(
            folder,
            results,
            simulated=judge.world is not None,
            headline=[{**f, "note": worded(f["note"])} for f in headline],
            missing={} if without is None else {"category": without},
        )
        write_text(run.path("metrics.json"), text)
    return "; ".join(f"{figure['name']} {figure['value']}" for figure in headline[:4])
