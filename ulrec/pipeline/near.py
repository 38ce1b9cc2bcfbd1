"""Real items near latents: within a category, away from others, without near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.cf.taste import DISLIKES_COUNT
from ulrec.data.schema import CATEGORY, ITEM_ID, RANK, SCORE, USER_ID
from ulrec.errors import DataError
from ulrec.retrieval.distinct import Duplicates, rocchio, search_distinct
from ulrec.retrieval.index import Neighbours
from ulrec.retrieval.metric import METRICS

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["Wanted", "nearest", "nearest_for_users", "wanted"]

QUERY = "query"

Rows = NDArray[np.int64]
Ids = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is searched for, and where.

    Attributes
    ----------
    vectors
        Queries (N, Q).
    among
        Which items may come back, (I,), or None for all.
    duplicates
        What counts as one item, or None for every item.
    """

    vectors: NDArray[np.float32]
    among: NDArray[np.bool_] | None
    duplicates: Duplicates | None


def wanted(
    pipeline: Pipeline,
    latents: NDArray[np.float32],
    *,
    among: Ids | None = None,
    category: str | Sequence[str] | None = None,
    negatives: NDArray[np.float32] | None = None,
    distinct: float | None = None,
) -> Wanted:
    """Return what :meth:`Pipeline.neighbours` is asked for, as the index takes it.

    Raises
    ------
    DataError
        If an item or a category is unknown, or the catalogue has no categories.
    """
    vectors = pipeline.projection(latents)
    if negatives is not None and len(negatives):
        prepare = METRICS[pipeline.index.metric].prepare
        away = prepare(pipeline.projection(negatives), "negatives")
        towards = prepare(vectors, "queries")
        queries = [rocchio(row[None], away, weight=DISLIKES_COUNT) for row in towards]
        vectors = np.concatenate([vectors[:0], *queries])
    allowed = None
    if among is not None:
        allowed = np.zeros(len(pipeline.index), bool)
        allowed[pipeline.index.items.rows(list(among))] = True
    if category is not None:
        of_category = _of_category(pipeline, [category] if isinstance(category, str) else category)
        allowed = of_category if allowed is None else allowed & of_category
    return Wanted(
        vectors=vectors,
        among=allowed,
        duplicates=None if distinct is None else Duplicates.of(pipeline.index, quantile=distinct),
    )


def nearest(
    pipeline: Pipeline, want: Wanted, *, k: int, exclude: list[Rows] | None
) -> pl.DataFrame:
    """Return [query, item_id, score, rank from 1]."""
    found = _found(pipeline, want, k, exclude)
    query, place = np.nonzero(found.item_idx >= 0)
    return pl.DataFrame(
        {
            QUERY: query.astype(np.int64),
            ITEM_ID: pipeline.index.items[found.item_idx[query, place]],
            SCORE: found.scores[query, place].astype(np.float64),
            RANK: place.astype(np.int64) + 1,
        }
    )


def nearest_for_users(
    pipeline: Pipeline, rows: Rows, want: Wanted, *, k: int, exclude: list[Rows]
) -> pl.DataFrame:
    """Return [user_id, item_id, score, rank from 1]; a user's best latent counts for an item.

    Without near-duplicates it looks further until every user has k, or there are no more items.
    """
    width = min(k, len(pipeline.index))
    if want.duplicates is None:
        return _merged(pipeline, rows, want, width, exclude)
    while True:
        width = min(2 * width, len(pipeline.index))
        table = _merged(pipeline, rows, want, width, exclude)
        parts, enough = [], True
        for part in table.partition_by(USER_ID, maintain_order=True):
            item_rows = pipeline.index.items.rows(part[ITEM_ID].to_list())
            kept = part.filter(pl.Series(want.duplicates.keep(item_rows))).head(k)
            ranks = pl.Series(RANK, np.arange(1, len(kept) + 1, dtype=np.int64))
            parts.append(kept.with_columns(ranks))
            enough &= len(kept) == k or len(part) < width
        if enough or width == len(pipeline.index):
            return pl.concat(parts) if parts else table


def _merged(
    pipeline: Pipeline, rows: Rows, want: Wanted, k: int, exclude: list[Rows]
) -> pl.DataFrame:
    found = pipeline.index.search(want.vectors, k=k, exclude=exclude, among=want.among)
    users = pipeline.factors.users
    user_of, place = np.nonzero(found.item_idx >= 0)
    table = pl.DataFrame(
        {
            USER_ID: users[rows[user_of]],
            ITEM_ID: pipeline.index.items[found.item_idx[user_of, place]],
            SCORE: found.scores[user_of, place].astype(np.float64),
        }
    )
    best = table.group_by(USER_ID, ITEM_ID, maintain_order=True).agg(pl.col(SCORE).max())
    ranked = best.with_columns(
        pl.col(SCORE).rank("ordinal", descending=True).over(USER_ID).cast(pl.Int64).alias(RANK)
    )
    order = pl.DataFrame({USER_ID: users[rows]}).unique(maintain_order=True)
    joined = order.join(
        ranked.filter(pl.col(RANK) <= k).sort(RANK),
        on=USER_ID,
        how="inner",
        maintain_order="left_right",
    )
    return joined.select(USER_ID, ITEM_ID, SCORE, RANK)


def _found(pipeline: Pipeline, want: Wanted, k: int, exclude: list[Rows] | None) -> Neighbours:
    if want.duplicates is None:
        return pipeline.index.search(want.vectors, k=k, exclude=exclude, among=want.among)
    return search_distinct(want.duplicates, want.vectors, k=k, exclude=exclude, among=want.among)


def _of_category(pipeline: Pipeline, names: Sequence[str]) -> NDArray[np.bool_]:
    if CATEGORY not in pipeline.items.columns:
        raise DataError("the catalogue has no column 'category'; name items with among=")
    known = pipeline.items[CATEGORY].drop_nulls().unique().sort().to_list()
    strangers = [name for name in names if name not in known]
    if strangers:
        raise DataError(f"no item is of category {strangers[0]!r}; there are {', '.join(known)}")
    chosen = pipeline.items.filter(pl.col(CATEGORY).is_in(list(names)))[ITEM_ID].to_list()
    rows = pipeline.index.items.find(chosen)
    mask = np.zeros(len(pipeline.index), bool)
    mask[rows[rows >= 0]] = True
    return mask
