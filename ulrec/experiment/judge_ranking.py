"""Judge recommendations of every method on held-out interactions, over the full catalogue."""

from __future__ import annotations

from typing import Any

import polars as pl

from ulrec.data.schema import ITEM_ID, USER_ID
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.experiment.judge import Headline, Judge, Tables
from ulrec.experiment.prepare import read_split

__all__ = ["judge_ranking"]


def judge_ranking(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Judge every method on held-out interactions, over the full catalogue."""
    table = pl.read_parquet(judge.run.path("recommendations") / "recommendations.parquet")
    drawn = judge.samples[USER_ID].unique().to_list()
    everyone = table[USER_ID].unique().to_list()
    definition = (
        "Full catalogue, seen items left out. ndcg is normalised by min(k, |T_u|); recall divides "
        "by |T_u|; intervals by bootstrap over users."
    )
    tables["ranking"] = {
        "title": "Ranking of held-out interactions",
        "note": f"The {len(drawn)} users that pictures were drawn for. {definition}",
        "rows": _ranking_rows(judge, table, drawn),
    }
    if len(everyone) > len(drawn):
        made = pl.col("method").str.starts_with("generate")
        tables["ranking_all"] = {
            "title": "Ranking of held-out interactions, all users",
            "note": f"All {len(everyone)} users with a history and held-out items. {definition}",
            "rows": _ranking_rows(judge, table.filter(~made), everyone),
        }


def _ranking_rows(judge: Judge, table: pl.DataFrame, users: list[Any]) -> list[dict[str, Any]]:
    truth = read_split(judge.run, "test").select(USER_ID, ITEM_ID)
    truth = truth.filter(pl.col(USER_ID).is_in(users))
    table = table.filter(pl.col(USER_ID).is_in(users))
    rows = []
    for method in table["method"].unique(maintain_order=True).to_list():
        result = evaluate_ranking(
            table.filter(pl.col("method") == method).drop("method"),
            truth,
            ks=(10, 20),
            metrics=("hit_rate", "recall", "ndcg", "mrr"),
            seed=judge.seed,
            num_resamples=judge.run.config.evaluate.num_resamples,
        )
        rows += [{"method": method, **row} for row in result.summary.to_dicts()]
    return rows
