"""How much each way of scoring says, weighed on validation interactions (``ulrec fit-hybrid``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ulrec.experiment.generate import pipeline_of, validation_users
from ulrec.experiment.runner import Run
from ulrec.pipeline import Pipeline, load_interactions
from ulrec.pipeline.hybrid import MADE_FROM, PARTS, Hybrid
from ulrec.pipeline.ranking import log_ratios, part_scores

__all__ = ["best_weights", "fit_hybrid", "ndcg_at"]

K = 10

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]


def fit_hybrid(run: Run) -> str:
    """Choose a hybrid's weights and the likelihood's beta by NDCG@10; writes ``hybrid``.

    The users have validation interactions and are not among the evaluated ones. Weights are tried
    on a grid of the simplex, whose corners are the parts alone: here, no part beats the hybrid.
    """
    config = run.config.hybrid
    pipeline = pipeline_of(run)
    users = validation_users(run, pipeline, config.num_users, stream=12)
    known = pipeline.interactions
    later = load_interactions(run.path("interactions"), known.users, known.items, part="validation")
    seen = known.user_items[users].toarray() > 0
    liked = (later.user_items[users].toarray() > 0) & ~seen
    found = Hybrid(
        weights=dict.fromkeys(PARTS, 0.0),
        popularity=0.0,
        per_user=config.per_user,
        guidance=run.config.generate.guidance,
        sampler=run.config.generate.sampler,
    )
    seed = run.config.seed
    parts = np.stack(
        [part_scores(pipeline, name, users, ~seen, found, seed=seed) for name in PARTS], axis=2
    )
    weights, reached = best_weights(parts, liked, seen, steps=config.steps)
    beta, alone = _best_beta(pipeline, users, liked, seen, config.betas)
    fitted = Hybrid(
        weights=dict(zip(PARTS, weights.tolist(), strict=True)),
        popularity=beta,
        per_user=found.per_user,
        guidance=found.guidance,
        sampler=found.sampler,
    )
    info = {
        "users": pipeline.factors.users[users].tolist(),
        "ndcg": reached,
        "ndcg_likelihood": alone,
    }
    fitted.save(
        run.path("hybrid"), made_from={name: run.fingerprint(name) for name in MADE_FROM}, info=info
    )
    named = ", ".join(f"{name} {weight:g}" for name, weight in fitted.weights.items())
    return (
        f"{named}: NDCG@{K} {reached:.4f} on {len(users)} validation users; likelihood with "
        f"popularity {beta:g}: {alone:.4f}"
    )


def best_weights(
    parts: Scores, liked: Mask, seen: Mask, *, steps: int
) -> tuple[NDArray[np.float64], float]:
    """Return the weights (P,) of the highest mean NDCG@10 on the simplex's grid, and that figure.

    Parameters
    ----------
    parts
        Standardised scores, (U, I, P).
    liked, seen
        What each user likes later and what has been seen, (U, I).
    steps
        Weights are multiples of 1 / steps. Of equal ones the first stands, with most of part one.
    """
    best, reached = None, -1.0
    for counts in _simplex(parts.shape[2], steps):
        weights = np.array(counts) / steps
        value = float(ndcg_at(parts @ weights, liked, seen).mean())
        if value > reached:
            best, reached = weights, value
    assert best is not None
    return best, reached


def ndcg_at(scores: Scores, liked: Mask, seen: Mask, *, k: int = K) -> Scores:
    """Return NDCG@k (U,) of scores (U, I), seen items left out, over min(k, number liked)."""
    open_scores = np.where(seen, -np.inf, scores)
    top = np.argpartition(-open_scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(open_scores, top, 1), axis=1, kind="stable")
    hits = np.take_along_axis(liked & ~seen, np.take_along_axis(top, order, 1), 1)
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[np.inf], np.cumsum(discount)])
    counts = np.minimum((liked & ~seen).sum(1), hits.shape[1])
    return np.asarray((hits * discount).sum(1) / ideal[counts])


def _best_beta(
    pipeline: Pipeline,
    users: NDArray[np.int64],
    liked: Mask,
    seen: Mask,
    betas: tuple[float, ...],
) -> tuple[float, float]:
    ratios = log_ratios(pipeline, users, np.arange(liked.shape[1]))
    common = np.log1p(pipeline.interactions.popularity())
    values = [float(ndcg_at(ratios + beta * common, liked, seen).mean()) for beta in betas]
    return betas[int(np.argmax(values))], max(values)


def _simplex(parts: int, steps: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to share ``steps`` among the parts, those with most of the first in front."""
    for counts in itertools.product(range(steps, -1, -1), repeat=parts - 1):
        if sum(counts) <= steps:
            yield (*counts, steps - sum(counts))
