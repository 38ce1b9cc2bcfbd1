"""Scores of what was made for users, which never part from the protocol that they came about by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError
from ulrec.evaluation.features import unit_rows
from ulrec.evaluation.personalization import Generated
from ulrec.evaluation.protocol import Protocol, require_not_selected_by

__all__ = ["UserScores", "score_arms"]

FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class UserScores:
    """A score of every user under every arm: who was generated for.

    There are none without a protocol, and none of media that this score has picked.

    Attributes
    ----------
    name
        Of the score; what ``Protocol.selected_by`` would call it.
    user_idx
        The covered users (U,).
    arms
        Per arm the score of each of them (U,).
    protocol
        How the scored media came about.
    num_without_media, num_without_history
        Users who are left out: made for under some arms but not all, or nothing to score by.

    Raises
    ------
    DataError
        If the score picked the media, or an arm does not have one finite number a user.
    """

    name: str
    user_idx: Rows
    arms: Mapping[str, FloatArray]
    protocol: Protocol
    num_without_media: int = 0
    num_without_history: int = 0

    def __post_init__(self) -> None:
        require_not_selected_by(self.protocol, self.name)
        if len(self.user_idx) == 0 or not self.arms:
            raise DataError(
                f"{self.name} covers {len(self.user_idx)} users and {len(self.arms)} arms; at "
                "least one of each is needed: check the user rows"
            )
        for arm, values in self.arms.items():
            if np.shape(values) != np.shape(self.user_idx) or not np.isfinite(values).all():
                raise DataError(
                    f"{self.name} of {arm!r} has to be a finite number for each of "
                    f"{len(self.user_idx)} users, got shape {np.shape(values)}; leave users out "
                    "under every arm and state how many"
                )


def score_arms(
    arms: Mapping[str, Generated],
    users: Rows,
    score: Callable[[int, FloatArray], FloatArray],
    *,
    name: str,
    protocol: Protocol,
) -> UserScores:
    """Score what every arm made, averaged over each user's media.

    Parameters
    ----------
    arms
        Media by arm; one set for everyone counts for each user.
    users
        Rows of the users with something to score by, each once.
    score
        Takes a user's row and unit features (m, d), returns a score of each (m,).
    name
        Of the score.
    protocol
        How the media came about.

    Raises
    ------
    DataError
        If features are not usable, no user is covered by all arms, or the score picked the media.
    """
    require_not_selected_by(protocol, name)
    units = {arm: unit_rows(f"features of {arm!r}", made.features) for arm, made in arms.items()}
    owners = {arm: made.user_idx for arm, made in arms.items() if made.user_idx is not None}
    named = np.unique(np.concatenate([np.empty(0, np.int64), *owners.values()]))
    covered = np.unique(users) if not owners else named[np.isin(named, users)]
    for owner in owners.values():
        covered = covered[np.isin(covered, owner)]
    scored = {
        arm: np.array([score(user, _of(unit, owners.get(arm), user)).mean() for user in covered])
        for arm, unit in units.items()
    }
    return UserScores(
        name=name,
        user_idx=covered,
        arms=scored,
        protocol=protocol,
        num_without_media=int(np.isin(named, users).sum()) - len(covered) if owners else 0,
        num_without_history=int(np.isin(named, users, invert=True).sum()),
    )


def _of(unit: FloatArray, owner: Rows | None, user: int) -> FloatArray:
    return unit if owner is None else unit[owner == user]
