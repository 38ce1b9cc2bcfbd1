"""How much work a structure needs to find the nearest items: measured on the vectors themselves.

Half of the queries are items, half are means of five: generated latents and means of histories lie
between items, where less is found. The least effort counts at which both kinds reach the recall,
less a standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import DataError
from ulrec.retrieval.metric import Array

__all__ = ["NEAREST", "Calibration", "calibrate", "probes"]

NEAREST = 10
NUM_PROBES = 200
MEANS_OF = (1, 5)
# Scores of float32 that differ by less are one score.
EQUAL = 1e-6

Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was measured when an index was built.

    Attributes
    ----------
    effort
        Of the structure, for the ten nearest.
    recall
        Of the ten nearest at that effort, the lower of both kinds of queries.
    target
        What it had to reach.
    num_queries
        Behind it, both kinds.
    """

    effort: int
    recall: float
    target: float
    num_queries: int


def probes(vectors: Array) -> Array:
    """Return queries (2 P, Q): P means of each number of random items; the same each time."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(vectors), size=(NUM_PROBES, count)) for count in MEANS_OF]
    return np.concatenate([vectors[rows].mean(axis=1) for rows in drawn])


def calibrate(
    find: Callable[[int], Scores], exact: Scores, *, efforts: tuple[int, ...], target: float
) -> Calibration:
    """Return the least effort that reaches the recall.

    Parameters
    ----------
    find
        Scores (2 P, 10) of what an effort finds for :func:`probes`, the nearest first.
    exact
        Those of the ten nearest: an item as near as the tenth counts as found, ties alike.
    efforts
        From little work to much.
    target
        The recall to reach.

    Raises
    ------
    DataError
        If no effort reaches it.
    """
    best = 0.0
    for effort in efforts:
        hits = (find(effort) >= exact[:, -1:] - EQUAL).mean(axis=1)
        kinds = hits.reshape(len(MEANS_OF), -1)
        recall = round(float(kinds.mean(axis=1).min()), 6)
        error = kinds.std(axis=1) / np.sqrt(kinds.shape[1])
        if (kinds.mean(axis=1) - error >= target).all():
            return Calibration(effort=effort, recall=recall, target=target, num_queries=len(exact))
        best = max(best, recall)
    raise DataError(
        f"the index finds {best:.4f} of the {NEAREST} nearest at most, 'recall' asks for {target:g}"
        "; lower it, or choose the index 'flat'"
    )
