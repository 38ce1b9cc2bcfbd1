"""Why a picture came out as it did: what of a history steered it, and what steering did at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import FactorModel
from ulrec.conditioning.sources import USER
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ITEM_ID, RANK, SCORE
from ulrec.errors import DataError
from ulrec.pipeline.draw import Steer, draw
from ulrec.pipeline.generation import Generation, sample_seeds

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["CONTRIBUTION", "beside_null", "explain_by_history", "factor_strip", "histories_of"]

CONTRIBUTION, SIMILARITY = "contribution", "similarity"

Rows = NDArray[np.int64]


def histories_of(
    pipeline: Pipeline,
    user_ids: Sequence[Any] | NDArray[Any] | None,
    liked: Sequence[Sequence[Any] | NDArray[Any]] | None,
) -> sparse.csr_matrix:
    """Return histories (N, I): those of users, who may stand several times, or lists of items.

    Raises
    ------
    DataError
        If both are given or neither, or an id is unknown.
    """
    if (user_ids is None) == (liked is None):
        raise DataError("a picture is explained by its user's history or by liked items; give one")
    if user_ids is not None:
        return pipeline.interactions.user_items[pipeline.factors.users.rows(user_ids)]
    assert liked is not None
    rows = [pipeline.interactions.items.rows(IdMap(list(items)).ids) for items in liked]
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.concatenate([*rows, np.zeros(0, np.int64)])
    shape = (len(liked), pipeline.interactions.num_items)
    return sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)


def explain_by_history(
    pipeline: Pipeline, latents: NDArray[np.float32], histories: sparse.csr_matrix, *, k: int
) -> pl.DataFrame:
    """Return by latent the liked items that explain it most; see :meth:`ulrec.Pipeline.explain`.

    With s(x) = <shift(x), z - m> / |z - m|, how far the factor x moves latents towards the picture
    z, an item contributes s(x) - s(x without it), x being folded in anew from the rest.

    Raises
    ------
    DataError
        If there is not a history for each latent, one is empty, or nothing can be folded in.
    """
    if len(latents) != histories.shape[0] or k < 1:
        raise DataError(
            f"expected a history for each of {len(latents)} latents and k of at least 1, got "
            f"{histories.shape[0]} and {k}"
        )
    lengths = np.diff(histories.indptr)
    if not lengths.all():
        raise DataError(
            f"{int((lengths == 0).sum())} latents have an empty history, which explains nothing; "
            "leave them out"
        )
    model = pipeline.recommender
    if not isinstance(model, FactorModel):
        raise DataError(
            f"contributions need factors that fold in, which {type(model).__name__} cannot; for "
            "the nearest liked items use neighbours(latents, among=...)"
        )
    users, items = IdMap(np.arange(len(latents))), pipeline.interactions.items
    likes = Interactions(users=users, items=items, user_items=histories)
    query, item_idx = likes.pairs()
    away = latents - np.asarray(pipeline.latents.z).mean(axis=0)
    own = _towards(pipeline, model.fold_in(histories), away)
    without = _towards(pipeline, model.leave_one_out(likes), away[query])
    table = pl.DataFrame(
        {"query": query, ITEM_ID: items[item_idx], CONTRIBUTION: own[query] - without}
    )
    near = [
        pipeline.neighbours(latents[[row]], k=int(length), among=items[histories[row].indices])
        for row, length in enumerate(lengths)
    ]
    similar = pl.concat(n.with_columns(pl.lit(i).alias("query")) for i, n in enumerate(near))
    order = pl.col(CONTRIBUTION).rank("ordinal", descending=True).over("query")
    return (
        table.join(
            similar.select(
                pl.col("query").cast(pl.Int64), ITEM_ID, pl.col(SCORE).alias(SIMILARITY)
            ),
            on=["query", ITEM_ID],
            how="left",
        )
        .with_columns(order.cast(pl.Int64).alias(RANK))
        .filter(pl.col(RANK) <= k)
        .sort("query", RANK)
    )


def factor_strip(
    pipeline: Pipeline,
    user_id: Any,
    *,
    factor: int,
    num: int,
    span: float,
    guidance: float,
    seed: int,
) -> Generation:
    """Draw a user with one factor moved; see :meth:`ulrec.Pipeline.factor_strip`."""
    row, count = pipeline.factors.users.rows([user_id])[0], pipeline.factors.num_factors
    if not 0 <= factor < count or num < 2:
        raise DataError(
            f"expected a factor from 0 to {count - 1} and at least 2 pictures, got {factor} and "
            f"{num}"
        )
    everyone = pipeline.factors.user_factors[pipeline.factors.known_users]
    mean, deviation = everyone[:, factor].mean(), everyone[:, factor].std()
    factors = np.tile(pipeline.factors.user_factors[row], (num, 1))
    factors[:, factor] = mean + np.linspace(-span, span, num) * deviation
    rows = np.full(num, row)
    return _drawn(pipeline, rows, factors, np.full(num, guidance), seed=seed)


def beside_null(
    pipeline: Pipeline, user_ids: Sequence[Any] | NDArray[Any], *, guidance: float, seed: int
) -> Generation:
    """Draw for each user, then for nobody; see :meth:`ulrec.Pipeline.beside_null`."""
    rows = np.repeat(pipeline.factors.users.rows(IdMap(user_ids).ids), 2)
    weights = np.tile([float(guidance), 0.0], len(rows) // 2)
    return _drawn(pipeline, rows, pipeline.factors.user_factors[rows], weights, seed=seed)


def _drawn(
    pipeline: Pipeline,
    rows: Rows,
    factors: NDArray[np.float32],
    weights: NDArray[np.float64],
    *,
    seed: int,
) -> Generation:
    """Draw for factors (N, R); all samples of a user row share a seed."""
    seeds = sample_seeds(seed, rows, np.zeros_like(rows))
    media, latents = draw(
        pipeline, [Steer(source=USER, vectors=factors, weights=weights)], seeds=seeds
    )
    return Generation(
        user_ids=pipeline.factors.users[rows],
        media=media,
        latents=latents,
        seeds=seeds,
        personal=factors.any(axis=1) & (weights != 0),
        can_fold_in=pipeline.factors.can_fold_in,
    )


@torch.no_grad()
def _towards(
    pipeline: Pipeline, factors: NDArray[np.float32], away: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how far the shift of each factor (P, R) moves along its direction (P, D, f, h, w)."""
    given = torch.from_numpy(np.ascontiguousarray(factors, np.float32)).to(pipeline.device)
    shift = pipeline.conditioner({USER: given}).shift
    if shift is None:
        raise DataError("this run's users shift no latents; run `ulrec condition` again")
    flat = away.reshape(len(away), -1).astype(np.float64)
    moved = (shift.cpu().numpy().reshape(flat.shape) * flat).sum(axis=1)
    return np.asarray(moved / np.linalg.norm(flat, axis=1))
