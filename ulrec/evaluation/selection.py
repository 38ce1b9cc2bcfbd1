"""The best of N candidates, and the record that it was picked: it goes into the protocol."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.protocol import Protocol

__all__ = ["Selection", "select_best"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of N candidates was picked for each user, ``chosen`` (U,), and by what.

    ``num_candidates`` and ``selected_by`` are the protocol's fields: 1 and None where there was
    nothing to pick from.
    """

    chosen: NDArray[np.int64]
    num_candidates: int
    selected_by: str | None

    def recorded_in(self, protocol: Protocol) -> Protocol:
        """Return the protocol of the picked media.

        Raises
        ------
        DataError
            If they were picked before: a protocol holds one selection.
        """
        if protocol.selected_by is not None:
            raise DataError(
                f"these media are the best of {protocol.num_candidates} by {protocol.selected_by} "
                "already; select once, by one score"
            )
        return dataclasses.replace(
            protocol, num_candidates=self.num_candidates, selected_by=self.selected_by
        )


def select_best(scores: ArrayLike, *, name: str, seed: int) -> Selection:
    """Return the candidate with the highest score for each user.

    Parameters
    ----------
    scores
        (U, N).
    name
        Of the score, which can then not be reported for what it picked.
    seed
        Of the order in which equal candidates are preferred.

    Raises
    ------
    DataError
        If the scores are no finite matrix with a user and a candidate.

    Examples
    --------
    >>> select_best([[0.1, 0.7, 0.2], [0.9, 0.3, 0.5]], name="verifier", seed=0).chosen.tolist()
    [1, 0]
    """
    matrix = np.asarray(scores, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise DataError(
            f"scores have to be a finite matrix (users, candidates), got shape {matrix.shape}; "
            "score every candidate"
        )
    num = matrix.shape[1]
    order = np.random.default_rng(seed).random(matrix.shape).argsort(axis=1)
    best = np.take_along_axis(matrix, order, axis=1).argmax(axis=1)
    return Selection(
        chosen=np.take_along_axis(order, best[:, None], axis=1)[:, 0],
        num_candidates=num,
        selected_by=None if num == 1 else name,
    )
