"""What is drawn for evaluation: for users, and for the controls that users have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import FactorModel, Recommender
from ulrec.cf.base import recommend as rank
from ulrec.cf.registry import BASELINES, CFConfig, build
from ulrec.checkpoint import new_artefact
from ulrec.data.factors import Factors
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ARM, USER_ID
from ulrec.errors import DataError
from ulrec.experiment.fans import Fans, make_fans, no_fans
from ulrec.experiment.prepare import read_split
from ulrec.experiment.runner import Run
from ulrec.experiment.shards import Arrays, Batches, kept_batches
from ulrec.experiment.stages import STAGES
from ulrec.experiment.trainings import device_of
from ulrec.pipeline import Pipeline, sample_seeds
from ulrec.pipeline.draw import at_once

__all__ = [
    "ARMS",
    "USER_ARM",
    "eligible_users",
    "evaluated_users",
    "generate",
    "generate_batches",
    "pipeline_of",
    "recommend",
    "validation_users",
]

USER_ARM = "user"
ARMS = (USER_ARM, "null", "shuffled", "popular", "mean")
"""Who is generated for: the user; nobody; another user; the most popular items; the mean user."""

RECOMMENDED = 20


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is drawn: all arms, one after the other, and fans.

    ``samples`` is [arm, user_id, seed]; ``fans`` the table of :class:`Fans`, None without any.
    ``draws`` holds factors (N, R), seeds (N,) and guidance of each arm, and of the fans.
    """

    pipeline: Pipeline
    samples: pl.DataFrame
    fans: pl.DataFrame | None
    draws: Sequence[tuple[NDArray[np.float32], NDArray[np.int64], float]]
    num_users: int
    without_fans: str | None

    @classmethod
    def of(cls, run: Run) -> _Plan:
        config, seed = run.config.generate, run.config.seed
        pipeline = pipeline_of(run)
        users = evaluated_users(run, pipeline)
        rows = np.repeat(users, config.per_user)
        seeds = sample_seeds(seed, rows, np.tile(np.arange(config.per_user), len(users)))
        factors = _arm_factors(pipeline, rows, popular=config.popular_items, seed=seed)
        ids = {USER_ID: pipeline.factors.users[rows], "seed": seeds}
        draws = [(factors[a], seeds, 0.0 if a == "null" else config.guidance) for a in ARMS]
        without, fans = no_fans(pipeline, config), None
        if without is None:
            fans, liked = make_fans(pipeline, config, seed=seed)
            draws.append((liked, fans["seed"].to_numpy(), config.guidance))
        return cls(
            pipeline=pipeline,
            samples=pl.concat([pl.DataFrame({ARM: [arm] * len(rows), **ids}) for arm in ARMS]),
            fans=fans,
            draws=draws,
            num_users=len(users),
            without_fans=without,
        )

    def batches(self) -> Batches:
        size = at_once(self.pipeline)
        parts = [
            (number, slice(start, start + size))
            for number, (_, seeds, _) in enumerate(self.draws)
            for start in range(0, len(seeds), size)
        ]

        def make(number: int) -> Arrays:
            which, part = parts[number]
            factors, seeds, guidance = self.draws[which]
            media, latents = self.pipeline.generate_for(
                factors[part], seeds=seeds[part], guidance=guidance
            )
            return {"media": media, "latents": latents}

        sizes = [len(self.draws[number][1][part]) for number, part in parts]
        return Batches(sizes=sizes, make=make, unit="picture")


def generate(run: Run) -> str:
    """Draw every arm for the evaluated users; writes ``generated``.

    All arms of a user share their seeds, so that a difference is the condition's.
    """
    config = run.config.generate
    plan = _Plan.of(run)
    num = len(plan.samples)
    made_from = {name: run.fingerprint(name) for name in ("autoencoder", "base", "conditioner")}
    info = {
        "guidance": config.guidance,
        "per_user": config.per_user,
        "num_users": plan.num_users,
        "without_fans": plan.without_fans,
        "can_fold_in": plan.pipeline.factors.can_fold_in,
    }
    with (
        kept_batches(run, STAGES["generate"], plan.batches()) as batches,
        new_artefact(
            run.path("generated"), kind="generated", made_from=made_from, info=info
        ) as folder,
    ):
        drawn = list(batches)
        media, latents = (np.concatenate([b[name] for b in drawn]) for name in ("media", "latents"))
        plan.samples.write_parquet(folder / "samples.parquet")
        np.save(folder / "media.npy", media[:num])
        np.save(folder / "latents.npy", latents[:num])
        if plan.fans is not None:
            Fans(table=plan.fans, media=media[num:]).save(folder)
    return (
        f"{config.per_user} x {plan.num_users} users x {len(ARMS)} arms and "
        f"{len(media) - num} fans at guidance {config.guidance:g}, "
        f"{config.sampler.num_steps} + {config.decoder.num_steps} steps"
    )


def generate_batches(run: Run) -> Batches:
    """Return what :func:`generate` draws, as batches."""
    return _Plan.of(run).batches()


def recommend(run: Run) -> str:
    """Rank the catalogue by every method; writes ``recommendations``.

    Collaborative filtering ranks for all users that have test interactions, the generator for
    those it has drawn for.
    """
    pipeline = pipeline_of(run)
    users = pipeline.factors.users[eligible_users(run, pipeline)]
    seed = run.config.seed
    tables = {run.config.cf.model: pipeline.recommend(users, k=RECOMMENDED, by="cf", seed=seed)}
    for name in BASELINES:
        if name not in tables:
            model = build(CFConfig(model=name)).fit(pipeline.interactions)
            tables[name] = rank(model, pipeline.interactions, users, k=RECOMMENDED, seed=seed)
    samples = pl.read_parquet(run.path("generated") / "samples.parquet")
    latents = np.load(run.path("generated") / "latents.npy")
    for arm in ARMS:
        chosen = samples[ARM].to_numpy() == arm
        tables[f"generate ({arm})"] = pipeline.recommend_near(
            samples.filter(pl.Series(chosen))[USER_ID].to_list(), latents[chosen], k=RECOMMENDED
        )
    made_from = {name: run.fingerprint(name) for name in ("generated", "recommender", "index")}
    info = {"can_fold_in": pipeline.factors.can_fold_in}
    with new_artefact(
        run.path("recommendations"), kind="recommendations", made_from=made_from, info=info
    ) as folder:
        named = [table.with_columns(pl.lit(name).alias("method")) for name, table in tables.items()]
        pl.concat(named).write_parquet(folder / "recommendations.parquet")
    return f"{len(tables)} methods, {RECOMMENDED} items each for {len(users)} users"


def evaluated_users(run: Run, pipeline: Pipeline) -> NDArray[np.int64]:
    """Return the rows of the judged users: history, factor, held-out items; drawn by the seed."""
    eligible = eligible_users(run, pipeline)
    eligible = eligible[pipeline.factors.known_users[eligible]]
    if len(eligible) < 2:
        raise DataError(
            f"{len(eligible)} users have a history, a factor and test interactions, at least 2 are "
            "needed; change data.split, or bring factors of more users"
        )
    rng = np.random.default_rng(run.config.seed)
    num = min(run.config.generate.num_users, len(eligible))
    return np.sort(rng.permutation(eligible)[:num])


def validation_users(run: Run, pipeline: Pipeline, num: int, *, stream: int) -> NDArray[np.int64]:
    """Return the rows of ``num`` validation users with a history who are not evaluated, sorted.

    Choices made on them owe nothing to the users that are judged. They are drawn by the run's seed;
    each purpose has its own ``stream``.

    Raises
    ------
    DataError
        If there are fewer than two.
    """
    ids = read_split(run, "validation")[USER_ID].unique().sort().to_list()
    rows = pipeline.factors.users.rows(ids)
    counts = np.diff(pipeline.interactions.user_items.indptr)
    free = np.setdiff1d(rows[counts[rows] > 0], evaluated_users(run, pipeline))
    if len(free) < 2:
        raise DataError(
            f"{len(free)} users have a history and validation interactions and are not among the "
            "evaluated ones, at least 2 are needed; set data.split.k_validation (leave_last) or "
            "data.split.validation_share (global_time), or lower generate.num_users"
        )
    order = np.random.default_rng([run.config.seed, stream]).permutation(free)
    return np.asarray(np.sort(order[:num]), np.int64)


def eligible_users(run: Run, pipeline: Pipeline) -> NDArray[np.int64]:
    """Return the rows of all users with a history and held-out interactions."""
    test = read_split(run, "test")
    with_test = pipeline.factors.users.rows(test[USER_ID].unique().sort().to_list())
    counts = np.diff(pipeline.interactions.user_items.indptr)
    return np.asarray(with_test[counts[with_test] > 0], dtype=np.int64)


def pipeline_of(run: Run) -> Pipeline:
    """Load the run's pipeline with the samplers that it is judged by, where stage 1 was trained."""
    pipeline = Pipeline.load(run.folder, device=device_of(run))
    pipeline.sampler = run.config.generate.sampler
    pipeline.decoder = run.config.generate.decoder
    return pipeline


def _arm_factors(
    pipeline: Pipeline, rows: NDArray[np.int64], *, popular: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Return the factors (N, R) that each arm draws for in the place of users ``rows`` (N,)."""
    factors, users = pipeline.factors, pipeline.factors.user_factors
    favourite = _popular_factor(pipeline.recommender, factors, pipeline.interactions, popular)
    ones = np.ones((len(rows), 1), np.float32)
    return {
        USER_ARM: users[rows],
        "null": users[rows],
        "shuffled": users[_derangement(rows, seed)],
        "popular": ones * favourite,
        "mean": ones * users[factors.known_users].mean(axis=0, keepdims=True),
    }


def _popular_factor(
    model: Recommender, factors: Factors, interactions: Interactions, num_items: int
) -> NDArray[np.float32]:
    """Return the factor (R,) of one who likes the most popular items.

    Their history is folded in. Where factors do not fold in, it is the direction that scores these
    items highest, the mean of their factors, at the mean length of a user's factor.
    """
    order = np.argsort(-interactions.popularity(), kind="stable")
    if isinstance(model, FactorModel):
        history = np.zeros((1, interactions.num_items), np.float32)
        history[0, order[:num_items]] = 1.0
        folded = model.fold_in(sparse.csr_matrix(history))
        return np.asarray(folded[0], np.float32)
    top = order[factors.known_items[order]][:num_items]
    direction = factors.item_factors[top].mean(axis=0)
    length = np.linalg.norm(factors.user_factors[factors.known_users], axis=1).mean()
    scaled = direction * (length / np.linalg.norm(direction))
    return np.asarray(scaled, np.float32)


def _derangement(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return for each sample the row of another evaluated user."""
    unique = np.unique(rows)
    order = np.random.default_rng([seed, 3]).permutation(unique)
    following = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return np.array([following[row] for row in rows.tolist()], dtype=np.int64)
