"""Judge how generated pictures lie among real ones: how near, and how far from one another."""

from __future__ import annotations

import numpy as np

from ulrec.data.schema import HIGH, LOW, MEAN
from ulrec.evaluation.beyond_accuracy import across_diversity
from ulrec.evaluation.grounding import Ground
from ulrec.experiment.generate import ARMS
from ulrec.experiment.judge import Headline, Judge, Tables

__all__ = ["judge_grounding"]


def judge_grounding(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Distance to the nearest train item in the space that is searched, and diversity of arms."""
    pipeline = judge.pipeline
    searched = pipeline.projection(np.asarray(pipeline.latents.z))
    ground = Ground(searched[judge.train])
    sets = {"real held-out": searched[judge.heldout]} | {
        f"generated ({arm})": pipeline.projection(judge.latents[judge.arm(arm)]) for arm in ARMS
    }
    rows = []
    num = judge.run.config.evaluate.num_resamples
    for name, vectors in sets.items():
        found = ground.judge(vectors, seed=judge.seed, num_resamples=num)
        rows.append(
            {
                "set": name,
                "n": len(vectors),
                "distance": found.distance.mean,
                "distance_low": found.distance.low,
                "distance_high": found.distance.high,
                "within": found.share.mean,
                "within_low": found.share.low,
                "within_high": found.share.high,
            }
        )
    tables["grounding"] = {
        "title": "Grounding: how near to the catalogue",
        "note": (
            "Euclidean distance to the nearest train item among the vectors that the index "
            f"searches. Within: share no farther than {ground.radius:.3g}, the "
            f"{ground.quantile:.0%} quantile of the distance of train items to their nearest other "
            "one; Wilson's interval."
        ),
        "rows": rows,
    }
    tables["diversity"] = _diversity(judge)


def _diversity(judge: Judge) -> dict[str, object]:
    """Return the table of how unlike one another the pictures of an arm are."""
    features = judge.features
    sets = {"real held-out": features["catalogue"][judge.heldout]} | {
        f"generated ({arm})": features["generated"][judge.arm(arm)] for arm in ARMS
    }
    rows = [{"set": name, **judge.mean(across_diversity(found))} for name, found in sets.items()]
    return {
        "title": "Diversity across users",
        "note": (
            f"Mean of 1 - cosine of {judge.protocol.backbone} features over pairs of pictures of a "
            "set: near 0 where everyone gets one picture."
        ),
        "rows": [{k: row[k] for k in ("set", "n", MEAN, LOW, HIGH)} for row in rows],
    }
