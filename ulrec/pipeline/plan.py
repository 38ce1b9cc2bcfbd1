"""For whom to spend on generation: where it is expected to serve better than retrieval does.

What is gained for a user is the NDCG@20, on what they liked later, of the unseen items nearest to
what is drawn for them, minus that of collaborative filtering's list. (Cosines with later likes
would not do: they favour what is like everything, and on simulated users they said that generation
gains where the truth said that it loses.) Validation users, whose later likes are known, teach a
ridge regression to foresee it; how well it does is measured on users that it has not seen, and
where that is not distinguishable from chance all users are expected to gain the mean.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from ulrec.cf.base import recommend
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ITEM_ID, USER_ID, VALUE
from ulrec.errors import DataError
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.pipeline.parts import load_interactions

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["GenerationPlan", "MarginModel", "fit_margin", "plan_generation"]

EXPECTED_GAIN, ACTION = "expected_gain", "action"
GENERATE, RETRIEVE = "generate", "retrieve"
FOLDS, RESAMPLES = 5, 1000
RIDGE = 1.0
TIMED = 4
LISTED = 20

Rows = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MarginModel:
    """What generation is expected to gain over retrieval for a user.

    Attributes
    ----------
    mean, scale, weights
        Of the regression on what :func:`signs` says of a user, (S,) each.
    mean_gain
        Of the validation users.
    rank_correlation, low, high
        Spearman's between foreseen and real gains of users that a fold has not seen, and its
        bootstrap interval.
    num_users
        Users that it was fitted on.
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    mean_gain: float
    rank_correlation: float
    low: float
    high: float
    num_users: int

    @property
    def has_skill(self) -> bool:
        """Whether it tells users apart better than chance does."""
        return self.low > 0

    def __call__(self, signs: FloatArray) -> FloatArray:
        """Return the expected gain (N,): of the mean user wherever there is no skill."""
        if not self.has_skill:
            return np.full(len(signs), self.mean_gain)
        return self.mean_gain + (signs - self.mean) / self.scale @ self.weights


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """For whom to generate.

    Attributes
    ----------
    table
        [user_id, action ("generate" | "retrieve"), expected_gain], in the order asked for.
    num_affordable
        Users that the budget pays for.
    model
        What the expectation comes from, and whether it has any skill.
    """

    table: pl.DataFrame
    num_affordable: int
    model: MarginModel


def plan_generation(
    pipeline: Pipeline,
    user_ids: Any,
    *,
    model: MarginModel,
    pictures: int | None,
    seconds: float | None,
    per_user: int,
) -> GenerationPlan:
    """Choose users within a budget; see :meth:`ulrec.Pipeline.plan_generation`."""
    if (pictures is None) == (seconds is None) or per_user < 1:
        raise DataError(
            f"a budget is pictures or seconds, one of them, for at least 1 picture a user; got "
            f"{pictures} pictures, {seconds} seconds and per_user={per_user}"
        )
    budget = pictures if seconds is None else seconds / _seconds_a_picture(pipeline)
    if budget is None or not 0 <= budget < math.inf:
        raise DataError(f"a budget has to be finite and at least 0, got {pictures or seconds}")
    rows = pipeline.factors.users.rows(IdMap(user_ids).ids)
    expected = model(signs(pipeline, rows))
    affordable = min(int(budget // per_user), len(rows))
    best = np.argsort(-expected, kind="stable")[:affordable]
    chosen = np.zeros(len(rows), bool)
    chosen[best[(expected[best] > 0) & pipeline.factors.known_users[rows[best]]]] = True
    table = pl.DataFrame(
        {
            USER_ID: pipeline.factors.users[rows],
            ACTION: np.where(chosen, GENERATE, RETRIEVE),
            EXPECTED_GAIN: expected,
        }
    )
    return GenerationPlan(table=table, num_affordable=affordable, model=model)


def signs(pipeline: Pipeline, rows: Rows) -> FloatArray:
    """Return what is known of users before anything is drawn for them, (N, S).

    The log of the history's length, the length of the factor, the best score of an unseen item and
    how far it stands above the next ten.
    """
    histories = pipeline.interactions.user_items[rows]
    ids = pipeline.factors.users[rows]
    scores = pipeline.recommender.score(histories, user_ids=ids).astype(np.float64)
    lengths = np.diff(histories.indptr)
    scores[np.repeat(np.arange(len(rows)), lengths), histories.indices] = -np.inf
    count = min(11, scores.shape[1])
    best = -np.sort(-scores, axis=1)[:, :count]
    best = np.where(np.isfinite(best), best, best[:, :1])
    norms = np.linalg.norm(pipeline.factors.user_factors[rows], axis=1)
    top = np.where(np.isfinite(best[:, 0]), best[:, 0], 0.0)
    ahead = np.where(np.isfinite(best[:, 0]), best[:, 0] - best[:, 1:].mean(axis=1), 0.0)
    return np.stack([np.log1p(lengths), norms, top, ahead], axis=1)


def fit_margin(
    pipeline: Pipeline, *, num_users: int, per_user: int, guidance: float, seed: int
) -> MarginModel:
    """Fit the expectation on validation users of the run; see :class:`MarginModel`.

    Raises
    ------
    DataError
        If fewer than 20 users have a history and validation interactions.
    """
    factors = pipeline.factors
    later = load_interactions(
        pipeline.folder / "interactions", factors.users, factors.items, part="validation"
    )
    known = factors.known_users & (np.diff(later.user_items.indptr) > 0)
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(known))[:num_users]
    if len(rows) < 4 * FOLDS:
        raise DataError(
            f"{len(rows)} users have a history and validation interactions, at least {4 * FOLDS} "
            "are needed; set data.split.k_validation or data.split.validation_share"
        )
    rows = np.sort(rows)
    gains = real_gains(pipeline, rows, later, per_user=per_user, guidance=guidance, seed=seed)
    return fit_model(signs(pipeline, rows), gains, seed=seed)


def real_gains(
    pipeline: Pipeline,
    rows: Rows,
    later: Interactions,
    *,
    per_user: int,
    guidance: float,
    seed: int,
) -> FloatArray:
    """Return the gain in NDCG@20 of generation over retrieval for users (rows)."""
    ids = pipeline.factors.users[rows]
    made = pipeline.generate(ids, per_user=per_user, guidance=guidance, seed=seed, decode=False)
    user_idx, item_idx = later.pairs()
    wanted = np.isin(user_idx, rows)
    truth = pl.DataFrame(
        {USER_ID: later.users[user_idx[wanted]], ITEM_ID: later.items[item_idx[wanted]]}
    )
    lists = (
        pipeline.recommend_near(made.user_ids, made.latents, k=LISTED),
        recommend(pipeline.recommender, pipeline.interactions, ids, k=LISTED, seed=seed),
    )
    drawn, retrieved = (
        evaluate_ranking(
            table, truth, ks=(LISTED,), metrics=("ndcg",), seed=seed, num_resamples=None
        ).per_user.select(USER_ID, VALUE)
        for table in lists
    )
    order = pl.DataFrame({USER_ID: ids}).join(drawn, on=USER_ID, maintain_order="left")
    both = order.join(retrieved, on=USER_ID, maintain_order="left", suffix="_retrieved")
    return (both[VALUE] - both[f"{VALUE}_retrieved"]).to_numpy()


def fit_model(given: FloatArray, gains: FloatArray, *, seed: int) -> MarginModel:
    """Fit ridge regression to gains (N,) by signs (N, S), its skill measured across folds."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(gains)) % FOLDS)
    foreseen = np.empty(len(gains))
    for number in range(FOLDS):
        mean, scale, weights = _ridge(given[fold != number], gains[fold != number])
        foreseen[fold == number] = (given[fold == number] - mean) / scale @ weights
    drawn = rng.integers(len(gains), size=(RESAMPLES, len(gains)))
    correlations = [_spearman(foreseen[rows], gains[rows]) for rows in drawn]
    low, high = np.quantile(correlations, [0.025, 0.975])
    mean, scale, weights = _ridge(given, gains)
    return MarginModel(
        mean=mean,
        scale=scale,
        weights=weights,
        mean_gain=float(gains.mean()),
        rank_correlation=_spearman(foreseen, gains),
        low=float(low),
        high=float(high),
        num_users=len(gains),
    )


def _ridge(given: FloatArray, gains: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean, scale = given.mean(axis=0), given.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = (given - mean) / scale
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (gains - gains.mean()))
    return mean, scale, weights


def _spearman(a: FloatArray, b: FloatArray) -> float:
    """Return the rank correlation; 0 where one side does not differ at all."""
    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm else 0.0


def _seconds_a_picture(pipeline: Pipeline) -> float:
    """Return how long a decoded picture takes here, by drawing a few."""
    rows = np.flatnonzero(pipeline.factors.known_users)[:TIMED]
    start = time.perf_counter()
    pipeline.generate(pipeline.factors.users[rows])
    return (time.perf_counter() - start) / len(rows)
