"""Source bias: whether an index of real and generated items favours one kind at equal relevance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from ulrec.errors import DataError
from ulrec.evaluation.statistics import Interval, bootstrap_mean

__all__ = ["SourceBias", "source_bias"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SourceBias:
    """Mean differences between real and generated items of equal relevance, over queries.

    Attributes
    ----------
    delta_rank
        Mean rank of the real items minus that of the generated ones: positive where generated items
        stand higher.
    delta_score
        Mean score of the generated items minus that of the real ones: positive likewise.
    rank_differences, score_differences
        Of each query (Q,); NaN where it has no grade with both kinds.
    num_queries, num_unmatched, num_items
        Q, the queries that are NaN and not in the means, and the items of the index.
    """

    delta_rank: Interval
    delta_score: Interval
    rank_differences: FloatArray
    score_differences: FloatArray
    num_queries: int
    num_unmatched: int
    num_items: int


def source_bias(
    scores: ArrayLike,
    *,
    is_generated: ArrayLike,
    relevance: ArrayLike,
    seed: int | np.random.Generator,
    num_resamples: int = 1000,
) -> SourceBias:
    """Return how much higher generated items rank than real ones that are as relevant.

    Each query ranks the whole mixed index, 1 on top, equal scores sharing their mean rank. Within
    every positive grade of relevance that has items of both kinds the kinds' means are subtracted;
    a query's value is the mean over its grades, and the result the mean over queries.

    Parameters
    ----------
    scores
        Of each query and item of the index (Q, N), higher is better.
    is_generated
        Which items are generated, boolean (N,).
    relevance
        Grades (Q, N), whole numbers: 0 is not relevant, equal grades of a query are matched.
    seed
        Of the bootstrap over queries.
    num_resamples
        Its resamples.

    Raises
    ------
    DataError
        If shapes or types do not fit, a score is not finite, the index has one kind only, or no
        query has a grade with both kinds.
    """
    values, generated, grades = _checked(scores, is_generated, relevance)
    differences = np.array(
        [_differences(*row, generated) for row in zip(values, grades, strict=True)]
    )
    ranks, points = differences.T
    matched = ~np.isnan(ranks)
    if not matched.any():
        raise DataError(
            f"none of {len(values)} queries has real and generated items of one grade; grade items "
            "of both kinds, such as a picture and one generated for the same text"
        )
    return SourceBias(
        delta_rank=bootstrap_mean(ranks[matched], seed=seed, num_resamples=num_resamples),
        delta_score=bootstrap_mean(points[matched], seed=seed, num_resamples=num_resamples),
        rank_differences=ranks,
        score_differences=points,
        num_queries=len(values),
        num_unmatched=int(np.count_nonzero(~matched)),
        num_items=values.shape[1],
    )


def _differences(
    scores: FloatArray, grades: NDArray[np.int64], generated: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the rank and the score difference of one query, NaN without a matched grade."""
    found = []
    ranks = rankdata(-scores)
    for grade in np.unique(grades[grades > 0]):
        made, real = (grades == grade) & generated, (grades == grade) & ~generated
        if made.any() and real.any():
            found.append(
                (
                    ranks[real].mean() - ranks[made].mean(),
                    scores[made].mean() - scores[real].mean(),
                )
            )
    if not found:
        return float("nan"), float("nan")
    rank, score = np.mean(found, axis=0)
    return float(rank), float(score)


def _checked(
    scores: ArrayLike, is_generated: ArrayLike, relevance: ArrayLike
) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.int64]]:
    values, generated, grades = map(np.asarray, (scores, is_generated, relevance))
    fits = values.ndim == 2 and values.size and grades.shape == values.shape
    if not fits or generated.shape != values.shape[1:]:
        raise DataError(
            "expected scores (Q, N), is_generated (N,) and relevance (Q, N), got "
            f"{values.shape}, {generated.shape} and {grades.shape}"
        )
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise DataError(
            "scores have to be finite numbers; leave out of the index what a query may not see"
        )
    if generated.dtype != np.bool_ or grades.dtype.kind not in "iu" or grades.min() < 0:
        raise DataError(
            "is_generated has to be boolean and relevance whole numbers from 0, got "
            f"{generated.dtype} and {grades.dtype}"
        )
    if generated.all() or not generated.any():
        raise DataError(
            f"{np.count_nonzero(generated)} of {len(generated)} items are generated: an index of "
            "one kind has no source bias; mix both"
        )
    return values.astype(np.float64), generated, grades.astype(np.int64)
