"""Whether generated media give away whom they were made for, among all users with a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.schema import HIGH, LOW, MEAN, METRIC, NUM_USERS
from ulrec.errors import DataError
from ulrec.evaluation.features import require_same_dim, unit_rows
from ulrec.evaluation.personalization import (
    Generated,
    Taste,
    liked_profiles,
    made_profiles,
    relabelled_means,
)
from ulrec.evaluation.protocol import Protocol, require_not_selected_by
from ulrec.evaluation.statistics import Interval, bootstrap_mean, holm, permutation_p_value

__all__ = ["Identification", "Identified", "chance_mrr", "identify", "user_ranks"]

FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]

# Similarities that are equal by arithmetic differ by rounding.
DECIMALS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """One metric: its mean with interval over users, what chance gives, and a permutation's p."""

    metric: str
    interval: Interval
    chance: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Identification:
    """Where the true user stands among ``num_candidates``: ``ranks`` (U,) from 1 of ``user_idx``.

    ``num_without_history`` users have media but no history to be known by.
    """

    user_idx: Rows
    ranks: Rows
    num_candidates: int
    metrics: tuple[Identified, ...]
    num_without_history: int
    protocol: Protocol

    def table(self) -> pl.DataFrame:
        """Return a row a metric with chance beside it; ``p_holm`` is over these metrics."""
        adjusted = holm([found.p_value for found in self.metrics]).tolist()
        rows = [
            {
                METRIC: found.metric,
                MEAN: found.interval.mean,
                LOW: found.interval.low,
                HIGH: found.interval.high,
                "chance": found.chance,
                "p": found.p_value,
                "p_holm": p_holm,
                NUM_USERS: len(self.ranks),
                "num_candidates": self.num_candidates,
                "num_without_history": self.num_without_history,
            }
            for found, p_holm in zip(self.metrics, adjusted, strict=True)
        ]
        return pl.DataFrame(rows)


def identify(
    generated: Generated,
    history: Taste,
    *,
    protocol: Protocol,
    ks: Sequence[int] = (1, 5, 16),
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> Identification:
    """Rank all users by the cosine of a user's media with the mean of each one's history.

    Several media of a user are averaged. A user's own history is one of the candidates: whoever
    copies from it is found.

    Parameters
    ----------
    generated
        Media made for users.
    history
        Train items of every user who may be named; these are the candidates.
    protocol
        How the media came about.
    ks
        The true user is found at k if among the first k.
    seed
        Of bootstrap, permutations and the key that breaks ties.
    num_resamples
        Bootstrap resamples over users.
    num_permutations
        Shuffles of whom the media were made for, among the users with media.

    Raises
    ------
    DataError
        If fewer than two users have media and a history, features are not usable, k < 1, or the
        media were picked by identifiability.
    """
    require_not_selected_by(protocol, "identifiability")
    if generated.user_idx is None:
        raise DataError("one set for everyone was made for nobody to be found; pass user_idx")
    if not ks or min(ks) < 1 or len(set(ks)) != len(ks):
        raise DataError(f"ks have to be different whole numbers from 1, got {list(ks)}")
    named, made = made_profiles(generated)
    candidates, liked = liked_profiles(history)
    require_same_dim(generated=made, items=liked)
    users = np.intersect1d(named, candidates)
    if len(users) < 2:
        raise DataError(f"{len(users)} users have media and a history, at least 2 are needed")
    made = made[np.searchsorted(named, users)]
    similarity = made @ unit_rows("means of histories", liked).T
    ranks = user_ranks(similarity, seed=seed)[:, np.searchsorted(candidates, users)]
    num = len(candidates)
    gains = {f"top {k}": ((ranks <= k).astype(np.float64), min(k / num, 1.0)) for k in ks}
    gains["MRR"] = (1 / ranks, chance_mrr(num))
    metrics = [
        _identified(name, gain, chance, seed, num_resamples, num_permutations)
        for name, (gain, chance) in gains.items()
    ]
    return Identification(
        user_idx=users,
        ranks=np.diag(ranks).copy(),
        num_candidates=num,
        metrics=tuple(metrics),
        num_without_history=len(named) - len(users),
        protocol=protocol,
    )


def user_ranks(similarity: ArrayLike, *, seed: int) -> Rows:
    """Return the rank from 1 of every candidate in each row of (U, V), the most similar first.

    Ties are broken by a random key of the candidates that is fixed by the seed.

    Examples
    --------
    >>> user_ranks([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]], seed=0).tolist()
    [[3, 1, 2], [1, 2, 3]]
    """
    matrix = np.asarray(similarity, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise DataError(f"similarities have to be a finite matrix, got shape {matrix.shape}")
    key = np.random.default_rng(seed).permutation(matrix.shape[1])
    order = np.lexsort((np.broadcast_to(key, matrix.shape), -matrix.round(DECIMALS)), axis=1)
    ranks = np.empty(matrix.shape, np.int64)
    np.put_along_axis(ranks, order, np.arange(1, matrix.shape[1] + 1)[None], axis=1)
    return ranks


def chance_mrr(num_candidates: int) -> float:
    """Return the mean of 1 / rank where all ranks are equally likely.

    Examples
    --------
    >>> chance_mrr(4) == (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
    True
    """
    return float((1 / np.arange(1, num_candidates + 1)).mean())


def _identified(
    metric: str,
    gain: FloatArray,
    chance: float,
    seed: int,
    num_resamples: int,
    num_permutations: int,
) -> Identified:
    """Judge gains (U, U) of naming each user for each one's media, the true on the diagonal."""
    own = np.diag(gain)
    drawn = relabelled_means(gain, np.random.default_rng(seed), num_permutations)
    return Identified(
        metric=metric,
        interval=bootstrap_mean(own, seed=seed, num_resamples=num_resamples),
        chance=chance,
        p_value=permutation_p_value(float(own.mean()), drawn),
    )
