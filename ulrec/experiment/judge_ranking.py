"""Judge recommendations of every method on held-out interactions, over the full catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from ulrec.data.schema import ITEM_ID, METRIC, USER_ID, VALUE, K
from ulrec.evaluation.beyond_accuracy import evaluate_beyond_accuracy
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.experiment.generate import RECOMMENDED
from ulrec.experiment.judge import Headline, Judge, Tables
from ulrec.experiment.prepare import read_split

__all__ = ["judge_ranking"]

NEAR_HISTORY = "mean latent of the history"


def judge_ranking(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Judge every method on held-out interactions, over the full catalogue."""
    table = pl.read_parquet(judge.run.path("recommendations") / "recommendations.parquet")
    drawn = judge.samples[USER_ID].unique().to_list()
    everyone = table[USER_ID].unique().to_list()
    table = pl.concat([table, _near_history(judge, everyone).select(table.columns)])
    definition = (
        "Full catalogue, seen items left out. ndcg is normalised by min(k, |T_u|); recall divides "
        "by |T_u|; intervals by bootstrap over users. generate (arm) ranks by nearness to what was "
        f"generated, {NEAR_HISTORY} by nearness to the mean latent of the user's history."
    )
    tables["ranking"] = {
        "title": "Ranking of held-out interactions",
        "note": f"The {len(drawn)} users that pictures were drawn for. {definition}",
        **_ranking(judge, table, drawn),
    }
    if len(everyone) > len(drawn):
        made = pl.col("method").str.starts_with("generate")
        tables["ranking_all"] = {
            "title": "Ranking of held-out interactions, all users",
            "note": f"All {len(everyone)} users with a history and held-out items. {definition}",
            **_ranking(judge, table.filter(~made), everyone),
        }
    chosen = table.filter(pl.col(USER_ID).is_in(drawn))
    tables["beyond_accuracy"] = {
        "title": "Recommendations beyond accuracy",
        "note": (
            f"The first 10 for the {len(drawn)} users that pictures were drawn for. coverage, gini "
            "and entropy (bits) are of the catalogue's exposure; novelty is the mean of "
            "log2(N / n_i) / log2 N over N train users, miuf the same without log2 N, popularity "
            "the mean n_i; diversity the mean of 1 - cosine of "
            f"{judge.protocol.backbone} features within a list; serendipity counts hits above "
            "their place by popularity. Intervals by bootstrap over users."
        ),
        **_beyond_accuracy(judge, chosen, drawn),
    }


def _near_history(judge: Judge, users: list[Any]) -> pl.DataFrame:
    """Rank by nearness to the mean latent of each user's history: retrieval without generation."""
    pipeline = judge.pipeline
    rows = pipeline.factors.users.rows(users)
    likes = pipeline.interactions.user_items[rows] > 0
    z = np.asarray(pipeline.latents.z)[pipeline.latents.items.rows(pipeline.interactions.items.ids)]
    means = (likes @ z.reshape(len(z), -1)) / likes.sum(axis=1)
    latents = np.asarray(means, np.float32).reshape(len(rows), *z.shape[1:])
    ranked = pipeline.recommend_near(users, latents, k=RECOMMENDED)
    return ranked.with_columns(pl.lit(NEAR_HISTORY).alias("method"))


def _beyond_accuracy(judge: Judge, table: pl.DataFrame, users: list[Any]) -> dict[str, Any]:
    """Return what the methods do to the catalogue and to these users' lists, rows and values."""
    truth = _truth(judge, users)
    interactions = judge.pipeline.interactions
    items = judge.media.items
    popularity = interactions.popularity()[interactions.items.rows(items.ids)]
    rows, values = [], []
    for method in table["method"].unique(maintain_order=True).to_list():
        result = evaluate_beyond_accuracy(
            table.filter(pl.col("method") == method).drop("method"),
            items=items,
            popularity=popularity,
            num_train_users=int((np.diff(interactions.user_items.indptr) > 0).sum()),
            features=judge.features["catalogue"],
            truth=truth,
            ks=(10,),
            seed=judge.seed,
            num_resamples=judge.run.config.evaluate.num_resamples,
        )
        rows += [{"method": method, **row} for row in result.summary.to_dicts()]
        values.append(
            result.per_user.select(USER_ID, pl.lit(method).alias("method"), METRIC, K, VALUE)
        )
    return {"rows": rows, "per_user": pl.concat(values)}


def _ranking(judge: Judge, table: pl.DataFrame, users: list[Any]) -> dict[str, Any]:
    """Return the rows of a table and the values per user behind them."""
    truth = _truth(judge, users)
    table = table.filter(pl.col(USER_ID).is_in(users))
    rows, values = [], []
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
        values.append(
            result.per_user.select(USER_ID, pl.lit(method).alias("method"), METRIC, K, VALUE)
        )
    return {"rows": rows, "per_user": pl.concat(values)}


def _truth(judge: Judge, users: list[Any]) -> pl.DataFrame:
    """Return what these users liked later."""
    return (
        read_split(judge.run, "test").select(USER_ID, ITEM_ID).filter(pl.col(USER_ID).is_in(users))
    )
