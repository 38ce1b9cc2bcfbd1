"""Judge likelihood and hybrid on held-out interactions, and count what a race saves.

    ulrec fit-hybrid --config configs/quickstart.yaml
    python examples/benchmarks/likelihood.py --run runs/quickstart --users 400 --cost-users 50

Weights were chosen on validation users; here the test interactions of others are judged. Intervals
are of 95 %, by bootstrap over users; differences are paired.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch

from ulrec import Pipeline
from ulrec.cf.base import recommend
from ulrec.cf.registry import CFConfig, build
from ulrec.checkpoint import open_artefact
from ulrec.diffusion.weighting import Weighting
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.evaluation.slices import history_slices, summarize_slices
from ulrec.evaluation.statistics import Interval, bootstrap_mean, paired_bootstrap
from ulrec.models.likelihood import LogRatio, LogRatioConfig, fitted_proposal
from ulrec.pipeline.ranking import LikelihoodConfig, conditions, log_ratio_of

Id = str | int
MODELS = ("als", "bpr", "ease", "item_item", "popularity", "random")
FIGURES = (("recall", 20), ("ndcg", 10))
TOP = 20


def interval(found: Interval) -> str:
    """Return a mean with its interval."""
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def judged(table: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Return [user_id, metric, k, value] of every user of the truth."""
    found = evaluate_ranking(
        table,
        truth,
        ks=(10, 20),
        metrics=("recall", "ndcg"),
        seed=0,
        num_resamples=None,
    )
    return found.per_user


def values(per_user: pl.DataFrame, metric: str, k: int) -> np.ndarray:
    """Return one figure of all users, in one order."""
    return per_user.filter(metric=metric, k=k).sort("user_id")["value"].to_numpy()


def say(tables: dict[str, pl.DataFrame], *, against: str, seed: int) -> None:
    """Print every method with its interval and its paired difference from one of them."""
    print(f"{'method':<22} {'Recall@20':<25} {'NDCG@10':<25} NDCG@10 - {against}")
    for name, table in tables.items():
        cells = [
            interval(bootstrap_mean(values(table, metric, k), seed=seed)) for metric, k in FIGURES
        ]
        a, b = (values(t, "ndcg", 10) for t in (table, tables[against]))
        gap = "" if name == against else interval(paired_bootstrap(a, b, seed=seed))
        print(f"{name:<22} {cells[0]:<25} {cells[1]:<25} {gap}")


def quality(pipeline: Pipeline, truth: pl.DataFrame, *, seed: int) -> None:
    """Compare all methods on the full catalogue, and by the length of the history."""
    users = truth["user_id"].unique().sort().to_list()
    ranked = {
        "hybrid": pipeline.recommend(users, k=TOP, by="hybrid", seed=seed),
        "likelihood": pipeline.recommend(users, k=TOP, by="likelihood", seed=seed),
        "likelihood, r alone": pipeline.recommend(
            users, k=TOP, by="likelihood", popularity=0.0, seed=seed
        ),
        "run's cf": pipeline.recommend(users, k=TOP, by="cf", seed=seed),
    }
    for name in MODELS:
        model = build(CFConfig(model=name)).fit(pipeline.interactions)
        ranked[name] = recommend(model, pipeline.interactions, users, k=TOP, seed=seed)
    per_user = {name: judged(table, truth) for name, table in ranked.items()}
    print(f"\nall items, {len(users)} test users, {len(truth)} pairs")
    say(per_user, against="als", seed=seed)
    gap = paired_bootstrap(
        values(per_user["hybrid"], "ndcg", 10),
        values(per_user["run's cf"], "ndcg", 10),
        seed=seed,
    )
    print(f"hybrid - the run's cf, its best part alone: {interval(gap)}")
    history = pl.DataFrame(
        {
            "user_id": pipeline.interactions.users[pipeline.interactions.pairs()[0]],
            "item_id": pipeline.interactions.items[pipeline.interactions.pairs()[1]],
        }
    )
    slices = history_slices(history, pl.Series(users))
    print("\nNDCG@10 by length of the history")
    for name in ("hybrid", "likelihood", "als", "popularity"):
        found = summarize_slices(per_user[name], slices, seed=seed).summary
        rows = found.filter(metric="ndcg", k=10).sort("slice").iter_rows(named=True)
        print(f"  {name:<12} " + "; ".join(_slice(row) for row in rows))


def _slice(row: dict[str, object]) -> str:
    ends = "" if row["low"] is None else f" [{row['low']:.4f}, {row['high']:.4f}]"
    return f"{row['slice']}: {row['mean']:.4f}{ends} n={row['num_users']}"


def cold(pipeline: Pipeline, truth: pl.DataFrame, *, seed: int, law_users: int) -> None:
    """Compare on items that no train interaction names, ranked among themselves."""
    items = pipeline.interactions.items.ids[pipeline.interactions.popularity() == 0].tolist()
    own = truth.filter(pl.col("item_id").is_in(items))
    if own.is_empty():
        print("\nno test interaction is with a cold item")
        return
    users = own["user_id"].unique().sort().to_list()
    ask = {"k": TOP, "candidates": items, "seed": seed}
    key = np.random.default_rng(seed)
    ranked = {
        "likelihood": pipeline.recommend(users, by="likelihood", popularity=0.0, **ask),
        "hybrid": pipeline.recommend(users, by="hybrid", **ask),
        # Nobody chose any of them: popularity is one order by chance, the same for all.
        "popularity": _shuffled(users, items, lambda: np.arange(len(items))),
        "random": _shuffled(users, items, lambda: key.permutation(len(items))),
    }
    print(f"\n{len(items)} cold items, {len(users)} test users, {len(own)} pairs")
    say({name: judged(t, own) for name, t in ranked.items()}, against="random", seed=seed)
    a, b = (values(judged(ranked[name], own), "ndcg", 10) for name in ("likelihood", "popularity"))
    print(f"likelihood - popularity: {interval(paired_bootstrap(a, b, seed=seed))}")
    some = users[:law_users]
    own = own.filter(pl.col("user_id").is_in(some))
    pipeline.likelihood = LikelihoodConfig(law="base")
    by_base = pipeline.recommend(some, by="likelihood", popularity=0.0, **ask)
    pipeline.likelihood = LikelihoodConfig()
    tables = {name: table.filter(pl.col("user_id").is_in(some)) for name, table in ranked.items()}
    print(f"the base's law beside them, the first {len(some)} of these users")
    every = {"likelihood, base": by_base, **tables}
    say({name: judged(t, own) for name, t in every.items()}, against="random", seed=seed)


def _shuffled(
    users: Sequence[Id], items: Sequence[Id], order: Callable[[], np.ndarray]
) -> pl.DataFrame:
    parts = []
    for user in users:
        chosen = [items[i] for i in order()[:TOP]]
        ranks = np.arange(1, len(chosen) + 1)
        parts.append(
            pl.DataFrame(
                {"user_id": [user] * len(chosen), "item_id": chosen, "score": -ranks, "rank": ranks}
            )
        )
    return pl.concat(parts).with_columns(pl.col("score").cast(pl.Float64))


def cost(pipeline: Pipeline, truth: pl.DataFrame, *, users: int, size: int, seed: int) -> None:
    """Rank shortlists by the base's law, in full and in a race, and by the Gaussian one; time one.

    The Gaussian law evaluates no network: the default of the likelihood recommender.
    """
    rng = np.random.default_rng([seed, 1])
    chosen = rng.permutation(truth["user_id"].unique().sort().to_list())[:users].tolist()
    config = LogRatioConfig()
    everybody = tuple(size for _ in config.num_levels)
    full = LogRatioConfig(num_levels=config.num_levels, keep=everybody)
    shortlists = [_shortlist(pipeline, truth, user, size=size, rng=rng) for user in chosen]
    found, evaluations = {}, {}
    for name, law in (
        ("full", LikelihoodConfig(law="base", estimate=full)),
        ("race", LikelihoodConfig(law="base", estimate=config)),
        ("gaussian", LikelihoodConfig()),
    ):
        pipeline.likelihood = law
        null, cond, tables = [], [], []
        for user, items in zip(chosen, shortlists, strict=True):
            pipeline.ratios.base = None  # count each user's null pass
            tables.append(
                pipeline.recommend([user], k=10, by="likelihood", candidates=items, seed=seed)
            )
            ratio = pipeline.ratios.base
            null.append(0 if ratio is None else ratio.num_null_evaluations)
            cond.append(0 if ratio is None else ratio.num_evaluations)
        found[name] = judged(pl.concat(tables), truth.filter(pl.col("user_id").is_in(chosen)))
        evaluations[name] = (np.mean(cond), np.mean(null))
        print(f"  {name}: {np.mean(cond):.0f} + {np.mean(null):.0f} of the null, a user")
    fewer = [sum(evaluations["full"]) / sum(evaluations["race"])]
    fewer.append(evaluations["full"][0] / evaluations["race"][0])
    print(f"fewer evaluations: {fewer[0]:.1f} times, {fewer[1]:.1f} times with the null cached")
    whole = values(found["full"], "ndcg", 10)
    for name in ("race", "gaussian"):
        gap = paired_bootstrap(values(found[name], "ndcg", 10), whole, seed=seed)
        relative = "undefined"
        if whole.mean() > 0:
            share = [value / whole.mean() for value in (gap.mean, gap.low, gap.high)]
            relative = f"{share[0]:+.1%} [{share[1]:+.1%}, {share[2]:+.1%}]"
        print(
            f"NDCG@10 full {whole.mean():.4f}, {name} - full {interval(gap)}, "
            f"relative {relative}, {len(whole)} users"
        )
    timing(pipeline, chosen[0], shortlists[0], config=config, full=full, seed=seed)
    pipeline.likelihood = LikelihoodConfig()


def proposal(pipeline: Pipeline, *, users: int, items: int, seed: int) -> None:
    """Print the proposal that follows the spread of the integrand, for users it was fitted on."""
    rng = np.random.default_rng([seed, 2])
    fitted_on = open_artefact(pipeline.folder / "hybrid", kind="hybrid").info["users"]
    chosen = rng.permutation(fitted_on)[:users].tolist()
    pipeline.likelihood = LikelihoodConfig(
        law="base", estimate=LogRatioConfig(num_levels=(12,), keep=(1,), centre=0.0, scale=2.0)
    )
    ratio = log_ratio_of(pipeline)
    rows = torch.from_numpy(np.sort(rng.permutation(len(pipeline.latents.z))[:items]))
    spreads = []
    for user in chosen:
        cond = conditions(pipeline, pipeline.factors.users.rows([user]))
        spreads.append(ratio.integrand(cond, rows).var(0))
    spread = torch.stack(spreads).mean(0).sqrt()
    order = torch.argsort(ratio.logsnr)
    centre, scale = fitted_proposal(ratio.logsnr[order], spread[order])
    print(f"proposal for {users} validation users: centre {centre:.2f}, scale {scale:.2f}")
    pipeline.likelihood = LikelihoodConfig()


def _shortlist(
    pipeline: Pipeline, truth: pl.DataFrame, user: Id, *, size: int, rng: np.random.Generator
) -> list[Id]:
    """Return what the user liked later and other unseen items, ``size`` in all."""
    known = pipeline.interactions
    liked = known.items.rows(truth.filter(pl.col("user_id") == user)["item_id"].to_list())
    seen = known.history(int(known.users.rows([user])[0]))
    others = np.setdiff1d(np.arange(known.num_items), np.concatenate([seen, liked]))
    rows = np.concatenate([liked, rng.permutation(others)])[:size]
    items: list[Id] = known.items[np.sort(rows)].tolist()
    return items


def timing(
    pipeline: Pipeline,
    user: Id,
    items: Sequence[Id],
    *,
    config: LogRatioConfig,
    full: LogRatioConfig,
    seed: int,
) -> None:
    """Time one shortlist three ways; the naive loop evaluates one item at one level at a time."""
    seconds = {}
    for name, likelihood in (
        ("gaussian law", LikelihoodConfig()),
        ("base, race", LikelihoodConfig(law="base", estimate=config)),
        ("base, full", LikelihoodConfig(law="base", estimate=full)),
    ):
        pipeline.likelihood, pipeline.ratios.base = likelihood, None
        start, busy = time.perf_counter(), time.process_time()
        pipeline.recommend([user], k=10, by="likelihood", candidates=items, seed=seed)
        seconds[name] = (time.perf_counter() - start, time.process_time() - busy)
    ratio = log_ratio_of(pipeline)
    start, busy = time.perf_counter(), time.process_time()
    naive(pipeline, ratio, user, items)
    seconds["naive loop"] = (time.perf_counter() - start, time.process_time() - busy)
    for name, (wall, cpu) in seconds.items():
        print(f"  {len(items)} items for one user, {name}: {wall:.2f} s ({cpu:.2f} CPU s)")


@torch.no_grad()
def naive(pipeline: Pipeline, ratio: LogRatio, user: Id, items: Sequence[Id]) -> list[float]:
    """Return r of each item from the base's own loss, drawing noises anew for each of them."""
    cond = conditions(pipeline, pipeline.factors.users.rows([user]))
    null = pipeline.conditioner.null(1)
    generator, elbo = torch.Generator().manual_seed(0), Weighting()
    answers = []
    for row in pipeline.latents.items.rows(items):
        z, total = torch.from_numpy(np.array(pipeline.latents.z[row]))[None], 0.0
        for level in range(len(ratio.logsnr)):
            t = (level + torch.rand(1, generator=generator)) / len(ratio.logsnr)
            eps = torch.randn(z.shape, generator=generator)
            nats = [
                pipeline.base.nats(z, t=t, eps=eps, cond=c, weighting=elbo) for c in (null, cond)
            ]
            total += float(nats[0] - nats[1]) / len(ratio.logsnr)
        answers.append(total)
    return answers


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--users", type=int, default=400, help="test users, drawn by the seed")
    parser.add_argument("--cost-users", type=int, default=50)
    parser.add_argument("--proposal-users", type=int, default=12)
    parser.add_argument("--shortlist", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pipeline = Pipeline.load(options.run)
    if pipeline.hybrid is None:
        parser.error(f"{options.run} has no hybrid; run `ulrec fit-hybrid` first")
    truth = pl.read_parquet(options.run / "interactions" / "test.parquet")
    fitted_on = open_artefact(options.run / "hybrid", kind="hybrid").info["users"]
    truth = truth.select("user_id", "item_id").filter(~pl.col("user_id").is_in(fitted_on))
    everyone = truth["user_id"].unique().sort().to_list()
    drawn = np.random.default_rng(options.seed).permutation(everyone)[: options.users].tolist()
    truth = truth.filter(pl.col("user_id").is_in(drawn))
    weights = ", ".join(f"{name} {w:g}" for name, w in pipeline.hybrid.weights.items())
    print(f"hybrid: {weights}; likelihood with popularity {pipeline.hybrid.popularity:g}")
    proposal(pipeline, users=options.proposal_users, items=40, seed=options.seed)
    quality(pipeline, truth, seed=options.seed)
    cold(pipeline, truth, seed=options.seed, law_users=options.cost_users)
    print(
        f"\nshortlists of {options.shortlist} items by the base's law, {options.cost_users} users"
    )
    cost(pipeline, truth, users=options.cost_users, size=options.shortlist, seed=options.seed)


if __name__ == "__main__":
    main()
