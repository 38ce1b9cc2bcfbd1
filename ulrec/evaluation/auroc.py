"""Area under the ROC curve: over any rows, and per user over the full catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ulrec.errors import DataError
from ulrec.evaluation.personalization import Taste
from ulrec.evaluation.statistics import Interval, bootstrap_mean

__all__ = ["HeldoutAuroc", "auroc", "heldout_auroc"]

FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HeldoutAuroc:
    """How well scores tell what users liked later from what they have not seen.

    ``values`` (U,) are those of ``user_idx``, ``interval`` is over users. ``shuffled`` is the same
    under scores for another user each: what exceeds 0.5 there is the items' appeal to anyone.
    ``num_without_history`` users have nothing to score by, ``num_undefined`` no item of one kind.
    """

    user_idx: Rows
    values: FloatArray
    interval: Interval
    shuffled: Interval
    num_without_history: int
    num_undefined: int


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the chance that a positive scores above a negative, ties counted half.

    Parameters
    ----------
    scores
        (N,), finite.
    labels
        True for positives, (N,); both kinds have to be there.

    Raises
    ------
    DataError
        If shapes differ, a score is not finite, or there are labels of one kind only.

    Examples
    --------
    >>> auroc([0.1, 0.5, 0.5, 0.9], [False, True, False, True])
    0.875
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if values.ndim != 1 or values.shape != positive.shape or not np.isfinite(values).all():
        raise DataError(
            f"expected a finite score and a label for each row, got {values.shape} and "
            f"{positive.shape}"
        )
    num = int(positive.sum())
    if num in (0, len(values)):
        raise DataError(
            f"{num} of {len(values)} rows are positive: an AUROC needs both kinds; leave such "
            "users out and state how many"
        )
    above = rankdata(values)[positive].sum() - num * (num + 1) / 2
    return float(above / (num * (len(values) - num)))


def heldout_auroc(
    score: Callable[[int], FloatArray],
    heldout: Taste,
    *,
    history: Taste,
    among: Rows | None = None,
    seed: int,
    num_resamples: int = 1000,
) -> HeldoutAuroc:
    """Return the AUROC of each user's held-out items against all that they have not seen.

    Parameters
    ----------
    score
        Takes a user's row and returns the score of every item, (I,).
    heldout
        What users liked later.
    history
        What they liked before: no candidate of theirs.
    among
        Rows of the items that take part; all by default. No negatives are sampled.
    seed
        Of the bootstrap, and of whose scores each user gets in ``shuffled``.
    num_resamples
        Bootstrap resamples over users.

    Raises
    ------
    DataError
        If fewer than two users have a history and items of both kinds.
    """
    num_items = len(heldout.features)
    takes_part = np.zeros(num_items, np.bool_)
    takes_part[slice(None) if among is None else among] = True
    named = np.unique(heldout.user_idx)
    users, masks = named[np.isin(named, history.user_idx)], {}
    for user in users.tolist():
        positive = np.zeros(num_items, np.bool_)
        positive[heldout.item_idx[heldout.user_idx == user]] = True
        candidates = takes_part.copy()
        candidates[history.item_idx[history.user_idx == user]] = False
        if 0 < positive[candidates].sum() < candidates.sum():
            masks[user] = candidates, positive[candidates]
    covered = np.array(sorted(masks), np.int64)
    if len(covered) < 2:
        raise DataError(
            f"{len(covered)} users have a history, held-out items and others among "
            f"{int(takes_part.sum())} items, at least 2 are needed"
        )
    others = _others(covered, seed)
    scores = {user: score(user) for user in covered.tolist()}
    own, shuffled = (
        np.array([auroc(scores[by][masks[u][0]], masks[u][1]) for u, by in pairs])
        for pairs in (zip(covered, covered, strict=True), zip(covered, others, strict=True))
    )
    return HeldoutAuroc(
        user_idx=covered,
        values=own,
        interval=bootstrap_mean(own, seed=seed, num_resamples=num_resamples),
        shuffled=bootstrap_mean(shuffled, seed=seed, num_resamples=num_resamples),
        num_without_history=len(named) - len(users),
        num_undefined=len(users) - len(covered),
    )


def _others(users: Rows, seed: int) -> Rows:
    """Return another user for each, every one once."""
    order = np.random.default_rng(seed).permutation(len(users))
    others = np.empty_like(users)
    others[order] = users[np.roll(order, 1)]
    return others
