"""What is drawn for evaluation: for users, and for the controls that users have to beat."""

from __future__ import annotations

import functools

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from ulrec.cf.base import FactorModel, Recommender
from ulrec.cf.base import recommend as rank
from ulrec.cf.registry import BASELINES, CFConfig, build
from ulrec.checkpoint import new_artefact
from ulrec.data.factors import Factors
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ARM, USER_ID
from ulrec.errors import DataError
from ulrec.experiment.fans import draw_fans, no_fans
from ulrec.experiment.prepare import advance, read_split
from ulrec.experiment.runner import Run
from ulrec.pipeline import Pipeline, sample_seeds

__all__ = [
    "ARMS",
    "USER_ARM",
    "eligible_users",
    "evaluated_users",
    "generate",
    "pipeline_of",
    "recommend",
    "validation_users",
]

USER_ARM = "user"
ARMS = (USER_ARM, "null", "shuffled", "popular", "mean")
"""Who is generated for: the user; nobody; another user; the most popular items; the mean user."""

RECOMMENDED = 20


def generate(run: Run) -> str:
    """Draw every arm for the evaluated users; writes ``generated``.

    All arms of a user share their seeds, so that a difference is the condition's.
    """
    config = run.config.generate
    pipeline = pipeline_of(run)
    users = evaluated_users(run, pipeline)
    rows = np.repeat(users, config.per_user)
    seeds = sample_seeds(run.config.seed, rows, np.tile(np.arange(config.per_user), len(users)))
    factors = _arm_factors(pipeline, rows, popular=config.popular_items, seed=run.config.seed)
    tables, media, latents = [], [], []
    with tqdm(total=len(ARMS) * len(rows), desc="generate", unit="picture", disable=None) as bar:
        for arm in ARMS:
            made, z = pipeline.generate_for(
                factors[arm],
                seeds=seeds,
                guidance=0.0 if arm == "null" else config.guidance,
                progress=functools.partial(advance, bar),
            )
            media.append(made)
            latents.append(z)
            names = {ARM: [arm] * len(rows), USER_ID: pipeline.factors.users[rows], "seed": seeds}
            tables.append(pl.DataFrame(names))
        without = no_fans(pipeline, config)
        fans = None
        if without is None:
            progress = functools.partial(advance, bar)
            fans = draw_fans(pipeline, config, seed=run.config.seed, progress=progress)
    made_from = {name: run.fingerprint(name) for name in ("autoencoder", "base", "conditioner")}
    info = {
        "guidance": config.guidance,
        "per_user": config.per_user,
        "num_users": len(users),
        "without_fans": without,
    }
    with new_artefact(
        run.path("generated"), kind="generated", made_from=made_from, info=info
    ) as folder:
        pl.concat(tables).write_parquet(folder / "samples.parquet")
        np.save(folder / "media.npy", np.concatenate(media))
        np.save(folder / "latents.npy", np.concatenate(latents))
        if fans is not None:
            fans.save(folder)
    return (
        f"{config.per_user} x {len(users)} users x {len(ARMS)} arms and "
        f"{0 if fans is None else len(fans.media)} fans at guidance {config.guidance:g}, "
        f"{config.sampler.num_steps} + {config.decoder.num_steps} steps"
    )


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
    with new_artefact(
        run.path("recommendations"), kind="recommendations", made_from=made_from
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
    """Load the run's pipeline with the samplers that it is judged by."""
    pipeline = Pipeline.load(run.folder)
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
