"""What the sources of conditions are told while the base learns to listen to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ulrec.conditioning.examples import ExampleDraws
from ulrec.conditioning.source import Source, SourceConfig
from ulrec.conditioning.sources import CATEGORY, EXAMPLES, TEXT, USER, Sources
from ulrec.data import schema
from ulrec.data.latents import LatentStore
from ulrec.errors import DataError
from ulrec.experiment.runner import Run
from ulrec.experiment.text_features import PHRASINGS
from ulrec.pipeline import load_items
from ulrec.pipeline.vectors import ItemFeatures, category_vectors, example_embeddings
from ulrec.training.datamodule import Vectors

__all__ = ["TEXT_FEATURES", "Pairs", "build_sources", "source_vectors"]

TEXT_FEATURES = "text_features"


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Training pairs: user and item of each (P,), and factors (P, R) that have not seen it."""

    user_idx: NDArray[np.int64]
    item_rows: NDArray[np.int64]
    factors: NDArray[np.float32]


def source_vectors(run: Run, latents: LatentStore, pairs: Pairs) -> dict[str, Vectors]:
    """Return by name what each configured source says of a batch of pairs, users always."""
    told: dict[str, Vectors] = {USER: lambda batch, rng: pairs.factors[batch]}
    config = run.config.base.sources
    if config.examples is not None:
        told[EXAMPLES] = ExampleDraws(
            example_embeddings(latents.z, grid=config.grid),
            pairs.user_idx,
            pairs.item_rows,
            max_examples=config.max_examples,
        )
    if config.category is not None:
        categories = _categories(run, latents)
        vectors = category_vectors(categories, category_names(categories))
        told[CATEGORY] = _of_items(vectors[None], pairs.item_rows)
    if config.text is not None:
        told[TEXT] = _of_items(_phrasings(run.path(TEXT_FEATURES), latents), pairs.item_rows)
    return told


def build_sources(
    run: Run, latents: LatentStore, pairs: Pairs, told: Mapping[str, Vectors]
) -> Source | Sources:
    """Return the sources with scales and shifts fitted to the pairs; users alone as they are."""
    shape = cast("tuple[int, int, int, int]", tuple(latents.z.shape[1:]))
    rng = np.random.default_rng([run.config.seed, 7])
    everyone = np.arange(len(pairs.item_rows))
    vectors = {name: torch.from_numpy(say(everyone, rng)) for name, say in told.items()}
    z, rows = torch.from_numpy(np.array(latents.z)), torch.from_numpy(pairs.item_rows)

    def sized(name: str, config: SourceConfig) -> SourceConfig:
        length = vectors[name].shape[1]
        return dataclasses.replace(config, num_factors=length, latent_shape=shape)

    user, config = sized(USER, run.config.base.conditioner), run.config.base.sources
    if not config.named():
        source = Source(user)
        source.standardise(vectors[USER])
        source.fit_shift(vectors[USER], z, rows)
        return source
    names = () if config.category is None else category_names(_categories(run, latents))
    found: dict[str, Any] = {name: sized(name, source) for name, source in config.named().items()}
    sources = Sources(dataclasses.replace(config, user=user, categories=names, **found))
    sources.fit(vectors, z, rows)
    return sources


def category_names(categories: list[str | None]) -> tuple[str, ...]:
    """Return the names of the categories there are, sorted."""
    return tuple(sorted({name for name in categories if name is not None}))


def _categories(run: Run, latents: LatentStore) -> list[str | None]:
    """Return the category of each latent's item.

    Raises
    ------
    DataError
        If the catalogue has none.
    """
    items = load_items(run.path("items"))
    if schema.CATEGORY not in items.columns or items[schema.CATEGORY].null_count() == len(items):
        raise DataError(
            f"base.sources.category needs a column '{schema.CATEGORY}' in the catalogue; add one, "
            "or leave the source out"
        )
    by_id = dict(items.select(schema.ITEM_ID, pl.col(schema.CATEGORY).cast(pl.String)).iter_rows())
    return [by_id.get(item) for item in latents.items.ids.tolist()]


def _phrasings(folder: Path, latents: LatentStore) -> NDArray[np.float32]:
    """Return the embeddings of all that is said of each latent's item, (T, I, E)."""
    features = ItemFeatures.open(folder, kind=TEXT_FEATURES)
    own = features.of(latents.items.ids)[None]
    if not (folder / PHRASINGS).is_file():
        return own
    others = np.load(folder / PHRASINGS, mmap_mode="r", allow_pickle=False)
    rows = features.items.find(latents.items.ids)
    said = np.where(rows[:, None] >= 0, others[:, rows], np.float32(0))
    return np.concatenate([own, said])


def _of_items(vectors: NDArray[np.float32], item_rows: NDArray[np.int64]) -> Vectors:
    """Return what says of each pair one of the T vectors (T, I, R) of its item, at random."""

    def say(batch: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
        chosen = rng.integers(len(vectors), size=len(batch)) if len(vectors) > 1 else 0
        said: NDArray[np.float32] = vectors[chosen, item_rows[batch]]
        return said

    return say
