"""Rankings that see more than collaborative filtering: likelihood, and a hybrid of all there is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ulrec.conditioning.sources import USER
from ulrec.data.schema import ITEM_ID, RANK, SCORE, USER_ID
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.models.likelihood import GaussianRatio, LogRatio, LogRatioConfig
from ulrec.networks.transformer import Cond
from ulrec.pipeline.hybrid import Hybrid

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = [
    "RANKINGS",
    "LikelihoodConfig",
    "Ratios",
    "Wish",
    "conditions",
    "log_ratio_of",
    "log_ratios",
    "part_scores",
    "rank",
    "standardised",
    "surprise",
]


Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LikelihoodConfig:
    """By what law log p(z | u) - log p(z) is judged.

    Attributes
    ----------
    law
        "gaussian": in closed form, latents being Gaussian with the user's mean
        (:class:`ulrec.models.likelihood.GaussianRatio`). "base": by the conditional base, raced
        from where the Gaussian law puts the items.
    estimate
        How the base's ratio is estimated.
    """

    law: Literal["gaussian", "base"] = "gaussian"
    estimate: LogRatioConfig = LogRatioConfig()

    def __post_init__(self) -> None:
        if self.law not in ("gaussian", "base"):
            raise ConfigError(f"'law' has to be 'gaussian' or 'base', got {self.law!r}")


@dataclass(kw_only=True, slots=True)
class Ratios:
    """What ratios keep of a catalogue from call to call; empty at first.

    ``gaussian`` is D f h w squared numbers and one latent an item, ``base`` a latent for each item
    that was asked for and each level.
    """

    gaussian: GaussianRatio | None = None
    base: LogRatio | None = None


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a ranking is asked for.

    Attributes
    ----------
    by
        A key of :data:`RANKINGS`.
    k
        How many items.
    candidates
        Item ids of which alone some may come; None allows the catalogue.
    popularity
        beta of the likelihood; None takes the fitted one.
    per_user, guidance
        Of what is generated, outside a hybrid.
    seed
        Of generation and of the key that breaks ties.
    """

    by: str
    k: int
    candidates: Any = None
    popularity: float | None = None
    per_user: int = 4
    guidance: float = 2.0
    seed: int = 0


def rank(pipeline: Pipeline, user_rows: Rows, wish: Wish) -> pl.DataFrame:
    """Return the best unseen candidates of users, [user_id, item_id, score, rank from 1].

    Raises
    ------
    DataError
        If k is below 1, ``by`` is unknown, or a candidate is unknown or named twice.
    ArtefactError
        If the ranking needs weights that were never fitted.
    """
    if wish.k < 1:
        raise DataError(f"k has to be at least 1, got {wish.k}")
    if wish.by not in RANKINGS:
        raise DataError(f"by has to be one of {', '.join(RANKINGS)}, got {wish.by!r}")
    items = pipeline.interactions.items
    allowed = np.ones(len(items), bool)
    if wish.candidates is not None:
        rows = items.rows(list(wish.candidates))
        if len(np.unique(rows)) != len(rows):
            raise DataError("a candidate is named twice; name each once")
        allowed = np.isin(np.arange(len(items)), rows)
    unseen = (pipeline.interactions.user_items[user_rows].toarray() == 0) & allowed
    scores = np.where(unseen, RANKINGS[wish.by](pipeline, user_rows, unseen, wish), -np.inf)
    key = np.random.default_rng(wish.seed).permutation(len(items))
    best = [np.lexsort((key, -row))[: min(wish.k, int((row > -np.inf).sum()))] for row in scores]
    item_rows = np.concatenate([*best, np.empty(0, np.int64)]).astype(np.int64)
    user = np.repeat(np.arange(len(user_rows)), [len(rows) for rows in best])
    ranks = [np.arange(1, len(rows) + 1, dtype=np.int64) for rows in best]
    return pl.DataFrame(
        {
            USER_ID: pipeline.factors.users[user_rows[user]],
            ITEM_ID: items[item_rows],
            SCORE: scores[user, item_rows],
            RANK: np.concatenate([*ranks, np.empty(0, np.int64)]),
        }
    )


def surprise(pipeline: Pipeline, user_row: int, item_ids: Any) -> Scores:
    """Return log p(z) - log p(z | u) of items for a user, nats (N,)."""
    rows = pipeline.interactions.items.rows(list(item_ids))
    return np.asarray(-log_ratios(pipeline, np.array([user_row]), rows)[0])


def log_ratios(pipeline: Pipeline, user_rows: Rows, item_rows: Rows) -> Scores:
    """Return r (U, C) of items (C,) under the pipeline's law, by the base at every level."""
    cond, rows = conditions(pipeline, user_rows), _latent_rows(pipeline, item_rows)
    if pipeline.likelihood.law == "gaussian":
        return _by_gaussian(pipeline, cond, rows)
    ratio = log_ratio_of(pipeline)
    return np.stack([ratio.full(one, rows).double().cpu().numpy() for one in _each(cond)])


def standardised(scores: Scores, unseen: NDArray[np.bool_]) -> Scores:
    """Return scores (U, I) with mean 0 and variance 1 over what each user has not seen.

    Where all are equal they are 0: they say nothing.
    """
    count = np.maximum(unseen.sum(1, keepdims=True), 1)
    mean = np.where(unseen, scores, 0.0).sum(1, keepdims=True) / count
    centred = np.where(unseen, scores - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    told = deviation > 1e-9 * np.maximum(1.0, np.abs(mean))
    return np.asarray(np.where(told, centred / np.where(told, deviation, 1.0), 0.0))


@torch.no_grad()
def conditions(pipeline: Pipeline, user_rows: Rows) -> Cond:
    """Return what the base is told of users."""
    factors = torch.from_numpy(pipeline.factors.user_factors[user_rows]).to(pipeline.device)
    cond: Cond = pipeline.conditioner({USER: factors})
    return cond


def log_ratio_of(pipeline: Pipeline) -> LogRatio:
    """Return the base's ratio, with its null pass, made once for a pipeline and its settings."""
    known, config = pipeline.ratios.base, pipeline.likelihood.estimate
    if known is None or known.config != config:
        known = LogRatio(
            pipeline.base.denoise,
            schedule=pipeline.base.config.schedule_z,
            null=pipeline.conditioner.null(1),
            z=_latents(pipeline).to(pipeline.device),
            config=config,
        )
        pipeline.ratios.base = known
    return known


def _by_gaussian(pipeline: Pipeline, cond: Cond, rows: torch.Tensor) -> Scores:
    if pipeline.ratios.gaussian is None:
        schedule = pipeline.base.config.schedule_z
        pipeline.ratios.gaussian = GaussianRatio(schedule=schedule, z=_latents(pipeline))
    shift = None if cond.shift is None else cond.shift.cpu()
    return np.asarray(pipeline.ratios.gaussian(cond._replace(shift=shift), rows.cpu()))


def _latents(pipeline: Pipeline) -> torch.Tensor:
    return torch.from_numpy(np.array(pipeline.latents.z))


def _latent_rows(pipeline: Pipeline, item_rows: Rows) -> torch.Tensor:
    ids = pipeline.interactions.items[item_rows]
    return torch.from_numpy(pipeline.latents.items.rows(ids)).to(pipeline.device)


def _each(cond: Cond) -> list[Cond]:
    """Return the conditions of a batch one by one."""
    return [
        cond._replace(
            tokens=cond.tokens[i : i + 1],
            mask=cond.mask[i : i + 1],
            shift=None if cond.shift is None else cond.shift[i : i + 1],
        )
        for i in range(len(cond.tokens))
    ]


def _fitted(pipeline: Pipeline, remedy: str) -> Hybrid:
    if pipeline.hybrid is None:
        raise ArtefactError(
            f"the run at {pipeline.folder} has no fitted hybrid; run `ulrec fit-hybrid`{remedy}"
        )
    return pipeline.hybrid


def _by_cf(pipeline: Pipeline, rows: Rows, unseen: NDArray[np.bool_], wish: Wish) -> Scores:
    known = pipeline.interactions
    found = pipeline.recommender.score(known.user_items[rows], user_ids=known.users[rows])
    scores: Scores = found.astype(np.float64)
    scores[~scores.any(axis=1)] = known.popularity()
    return scores


def _by_popularity(pipeline: Pipeline, rows: Rows, unseen: NDArray[np.bool_], wish: Wish) -> Scores:
    return np.tile(np.log1p(pipeline.interactions.popularity()), (len(rows), 1))


def _by_generation(pipeline: Pipeline, rows: Rows, unseen: NDArray[np.bool_], wish: Wish) -> Scores:
    """Score every item by its nearest generation."""
    made = pipeline.generate(
        pipeline.factors.users[rows],
        per_user=wish.per_user,
        guidance=wish.guidance,
        seed=wish.seed,
        decode=False,
    )
    found = pipeline.index.search(pipeline.projection(made.latents), k=len(pipeline.index))
    order = np.argsort(found.item_idx, axis=1)
    nearest = np.take_along_axis(found.scores, order, axis=1)
    best = nearest.reshape(len(rows), wish.per_user, -1).max(axis=1)
    place = pipeline.index.items.rows(pipeline.interactions.items.ids)
    return np.asarray(best[:, place], np.float64)


def _by_likelihood(pipeline: Pipeline, rows: Rows, unseen: NDArray[np.bool_], wish: Wish) -> Scores:
    """Score by r + beta log(1 + n_i), which for items without interactions is r alone.

    Under the base's law only items that reached the last round have such a score. The others stand
    below them, at -1 - their place, as the rounds before left them.
    """
    beta = wish.popularity
    if beta is None:
        beta = _fitted(pipeline, ", or pass popularity=0.0 for the ratio alone").popularity
    offset = beta * _by_popularity(pipeline, rows, unseen, wish)
    cond = conditions(pipeline, rows)
    everything = _latent_rows(pipeline, np.arange(unseen.shape[1]))
    scores = _by_gaussian(pipeline, cond, everything) + offset
    if pipeline.likelihood.law == "gaussian":
        return scores
    for i, one in enumerate(_each(cond)):
        some = np.flatnonzero(unseen[i])
        if len(some):
            scores[i, some] = _raced(pipeline, one, some, scores[i, some], offset[i, some], wish.k)
    return scores


def _raced(
    pipeline: Pipeline, cond: Cond, items: Rows, standing: Scores, offset: Scores, k: int
) -> Scores:
    raced = log_ratio_of(pipeline).race(
        cond,
        _latent_rows(pipeline, items),
        standing=torch.from_numpy(standing - offset),
        offset=torch.from_numpy(offset),
        at_least=k,
    )
    scores = raced.ratio.double().cpu().numpy() + offset
    rounds = raced.rounds.cpu().numpy()
    out = np.flatnonzero(rounds < rounds.max())
    order = out[np.lexsort((-scores[out], -rounds[out]))]
    lowest = min(0.0, float(scores[rounds == rounds.max()].min()))
    scores[order] = lowest - 1 - np.arange(len(order))
    return np.asarray(scores)


def _by_hybrid(pipeline: Pipeline, rows: Rows, unseen: NDArray[np.bool_], wish: Wish) -> Scores:
    hybrid = _fitted(pipeline, "")
    mixed = np.zeros(unseen.shape)
    for name, weight in hybrid.weights.items():
        if weight:
            mixed += weight * part_scores(pipeline, name, rows, unseen, hybrid, seed=wish.seed)
    return mixed


def part_scores(
    pipeline: Pipeline,
    name: str,
    rows: Rows,
    unseen: NDArray[np.bool_],
    hybrid: Hybrid,
    *,
    seed: int,
) -> Scores:
    """Return the standardised scores (U, I) of one of :data:`PARTS`, as a hybrid mixes them.

    The likelihood is that of the Gaussian law.
    """
    wish = Wish(
        by=name, k=1, popularity=0.0, per_user=hybrid.per_user, guidance=hybrid.guidance, seed=seed
    )
    other = copy.copy(pipeline)
    other.sampler, other.likelihood = hybrid.sampler, LikelihoodConfig()
    return standardised(RANKINGS[name](other, rows, unseen, wish), unseen)


RANKINGS: dict[str, Callable[[Pipeline, Rows, NDArray[np.bool_], Wish], Scores]] = {
    "cf": _by_cf,
    "generate": _by_generation,
    "likelihood": _by_likelihood,
    "popularity": _by_popularity,
    "hybrid": _by_hybrid,
}
