"""Fans: made-up users that liked one category only, to see whether what is drawn belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ulrec.cf.base import FactorModel
from ulrec.data.schema import CATEGORY, ITEM_ID, SPLIT, TRAIN
from ulrec.experiment.config import GenerateStage
from ulrec.pipeline import Pipeline, sample_seeds

__all__ = ["Fans", "make_fans", "no_fans"]

Rows = NDArray[np.int64]

MEDIA, TABLE = "fans_media.npy", "fans.parquet"


@dataclass(frozen=True, kw_only=True)
class Fans:
    """A picture each: ``table`` is [category, seed, history (item ids)], ``media`` as generated."""

    table: pl.DataFrame
    media: NDArray[np.uint8]

    def save(self, folder: Path) -> None:
        """Write the two files into an artefact's folder."""
        self.table.write_parquet(folder / TABLE)
        np.save(folder / MEDIA, self.media)

    @classmethod
    def load(cls, folder: Path) -> Fans | None:
        """Read what :meth:`save` wrote; None where nobody was drawn for."""
        if not (folder / TABLE).is_file():
            return None
        return cls(table=pl.read_parquet(folder / TABLE), media=np.load(folder / MEDIA))


def no_fans(pipeline: Pipeline, config: GenerateStage) -> str | None:
    """Return why fans cannot be drawn for, or None where they can."""
    if config.fans_per_category < 1:
        return "generate.fans_per_category is 0"
    if CATEGORY not in pipeline.items.columns:
        return f"the catalogue has no column '{CATEGORY}'"
    if not (pipeline.factors.can_fold_in and isinstance(pipeline.recommender, FactorModel)):
        return "the collaborative-filtering model cannot fold in the history of a made-up user"
    if len(_pools(pipeline, config)) < 2:
        return "fewer than two categories have train items with interactions"
    return None


def make_fans(
    pipeline: Pipeline, config: GenerateStage, *, seed: int
) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    """Return the table of :class:`Fans` and what to draw for them, their factors (N, R).

    A fan's history is a random choice among the category's train items that have interactions:
    items without any fold into nothing.
    """
    assert no_fans(pipeline, config) is None
    assert isinstance(pipeline.recommender, FactorModel)
    names, histories = _histories(pipeline, config, seed)
    numbers = np.tile(np.arange(config.fans_per_category), len(names) // config.fans_per_category)
    categories = np.unique(names, return_inverse=True)[1]
    # Rows of users count from 0; those below are nobody's.
    seeds = sample_seeds(seed, -1 - categories.astype(np.int64), numbers)
    lengths = [len(history) for history in histories]
    matrix = sparse.csr_matrix(
        (
            np.ones(sum(lengths), np.float32),
            np.concatenate(histories),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=(len(names), pipeline.interactions.num_items),
    )
    ids = [pipeline.interactions.items[history].tolist() for history in histories]
    table = pl.DataFrame({CATEGORY: names, "seed": seeds, "history": ids})
    return table, pipeline.recommender.fold_in(matrix)


def _histories(
    pipeline: Pipeline, config: GenerateStage, seed: int
) -> tuple[list[str], list[Rows]]:
    """Return the category of each fan and the sorted rows of the items they liked."""
    rng = np.random.default_rng([seed, 5])
    names, histories = [], []
    for category, pool in _pools(pipeline, config).items():
        size = min(config.fan_history, len(pool))
        for _ in range(config.fans_per_category):
            names.append(category)
            histories.append(np.sort(rng.choice(pool, size=size, replace=False)))
    return names, histories


def _pools(pipeline: Pipeline, config: GenerateStage) -> dict[str, Rows]:
    """Return by category the rows of its train items with interactions, where it has some."""
    known = pipeline.items.filter(
        (pl.col(SPLIT) == TRAIN) & pl.col(CATEGORY).is_not_null()
    ).with_columns(pl.col(CATEGORY).cast(pl.String))
    rows = pipeline.interactions.items.rows(known[ITEM_ID].to_list())
    liked = pipeline.interactions.popularity()[rows] > 0
    names = known[CATEGORY].to_numpy()
    found, counts = np.unique(names[liked], return_counts=True)
    largest = found[np.argsort(-counts, kind="stable")[: config.fan_categories]]
    return {str(name): np.sort(rows[liked & (names == name)]) for name in np.sort(largest)}
