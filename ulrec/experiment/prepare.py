"""From a catalogue and a table of interactions to media, items and splits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ulrec.checkpoint import new_artefact
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.media import MediaStore, prepare_media
from ulrec.data.schema import (
    CLIP,
    CONCEPT,
    HELDOUT,
    IMAGE,
    ITEM_ID,
    MASK,
    SPLIT,
    TRAIN,
    USER_ID,
)
from ulrec.data.simulate import simulate
from ulrec.data.splits import Split, SplitConfig, split
from ulrec.data.tables import read_table, threshold, validate_catalogue, validate_interactions
from ulrec.errors import DataError
from ulrec.experiment.config import DataStage
from ulrec.experiment.runner import Run
from ulrec.pipeline import load_items

__all__ = ["advance", "prepare", "read_interactions", "read_split", "split_items", "train_rows"]


def prepare(run: Run) -> str:
    """Write ``media``, ``items``, ``interactions`` and, for drawn users, ``simulation``."""
    config = run.config.data
    catalogue = validate_catalogue(read_table(config.catalogue), source=config.catalogue)
    if config.max_items is not None:
        catalogue = catalogue.head(config.max_items)
    media = _prepare_media(run, catalogue)
    usable = catalogue.filter(pl.col(ITEM_ID).is_in(media.items.ids.tolist()))
    items = split_items(usable, share=config.heldout_share, seed=run.config.seed)
    made_from = {"media": media.manifest.fingerprint}
    with new_artefact(run.path("items"), kind="items", made_from=made_from) as folder:
        items.drop(IMAGE, CLIP, MASK, strict=False).write_parquet(folder / "items.parquet")
    table, simulated = _interactions(run, items, media)
    known = table.filter(pl.col(ITEM_ID).is_in(media.items.ids.tolist()))
    if known.is_empty():
        raise DataError(
            "no interaction names an item with media; check that both tables use one id"
        )
    parts = split(_split_config(config, simulated), known)
    info = {
        **parts.info,
        "simulated": simulated is not None,
        "dropped_without_media": len(table) - len(known),
    }
    with new_artefact(
        run.path("interactions"), kind="interactions", made_from=made_from, info=info
    ) as folder:
        parts.train.write_parquet(folder / "train.parquet")
        parts.validation.write_parquet(folder / "validation.parquet")
        parts.test.write_parquet(folder / "test.parquet")
    return _summary(media, items, parts, info)


def split_items(catalogue: pl.DataFrame, *, share: float, seed: int) -> pl.DataFrame:
    """Return the catalogue with a column ``split``, "train" or "heldout".

    A catalogue that has one keeps it. Otherwise a share of the concepts (of the items, where no
    concepts are named) is held out, drawn by the seed.
    """
    if SPLIT in catalogue.columns:
        return catalogue
    group = CONCEPT if CONCEPT in catalogue.columns else ITEM_ID
    groups = catalogue[group].unique(maintain_order=True)
    drawn = np.random.default_rng(seed).random(len(groups)) < share
    heldout = pl.Series(groups.to_list()).filter(pl.Series(drawn))
    label = (
        pl.when(pl.col(group).is_in(heldout.to_list()))
        .then(pl.lit(HELDOUT))
        .otherwise(pl.lit(TRAIN))
    )
    return catalogue.with_columns(label.alias(SPLIT))


def read_split(run: Run, part: str) -> pl.DataFrame:
    """Return one part, "train", "validation" or "test", of the split interactions."""
    return read_table(run.path("interactions") / f"{part}.parquet")


def train_rows(run: Run, items: IdMap) -> NDArray[np.int64]:
    """Return the rows of the items that the generator may learn from."""
    table = load_items(run.path("items"))
    return items.rows(table.filter(pl.col(SPLIT) == TRAIN)[ITEM_ID].to_list())


def read_interactions(run: Run) -> Interactions:
    """Return the train interactions over all users of the run and all items with media."""
    parts = [read_split(run, part) for part in ("train", "validation", "test")]
    users = IdMap(pl.concat([p.select(USER_ID) for p in parts])[USER_ID].unique().sort().to_list())
    items = MediaStore.open(run.path("media")).items
    return Interactions.from_table(parts[0], users=users, items=items)


def advance(bar: tqdm[Any], count: int) -> None:
    """Move a progress bar on."""
    bar.update(count)


def _prepare_media(run: Run, catalogue: pl.DataFrame) -> MediaStore:
    config = run.config.data
    root = config.media_root or Path(config.catalogue).parent
    with tqdm(total=len(catalogue), desc="decoding", unit="picture", disable=None) as bar:
        store = prepare_media(
            catalogue.to_arrow(),
            config=config.media,
            folder=run.path("media"),
            media_root=root,
            progress=lambda done, total: advance(bar, done - int(bar.n)),
        )
    return store


def _interactions(
    run: Run, items: pl.DataFrame, media: MediaStore
) -> tuple[pl.DataFrame, int | None]:
    """Return the interactions, and for simulated users the second at which items turn cold."""
    config = run.config.data
    if config.interactions is not None:
        table = validate_interactions(read_table(config.interactions), source=config.interactions)
        if config.min_weight > 0:
            table = threshold(table, config.min_weight)
        return table, None
    settings = dataclasses.replace(config.simulation, seed=config.simulation.seed + run.config.seed)
    # What moves is seen best halfway; a picture has one frame.
    shown = media.media.shape[2] // 2
    masks = None if media.masks is None else media.masks[:, shown]
    world = simulate(items, np.asarray(media.media[:, :, shown]), masks, settings)
    world.save(run.path("simulation"), made_from={"media": media.manifest.fingerprint})
    return world.interactions, settings.cut


def _split_config(config: DataStage, cut: int | None) -> SplitConfig:
    if cut is None or config.split.name != "global_time" or config.split.test_from is not None:
        return config.split
    return dataclasses.replace(config.split, test_from=cut)


def _summary(media: MediaStore, items: pl.DataFrame, parts: Split, info: dict[str, object]) -> str:
    heldout = int((items[SPLIT] == HELDOUT).sum())
    users = pl.concat([p.select(USER_ID) for p in (parts.train, parts.validation, parts.test)])
    kind = "simulated interactions" if info["simulated"] else "interactions"
    text = (
        f"{len(items)} items ({heldout} held out), {len(media.quarantine)} quarantined; "
        f"{len(parts.train)} train / {len(parts.validation)} validation / {len(parts.test)} test "
        f"{kind} of {users[USER_ID].n_unique()} users"
    )
    if media.quarantine:
        listed = json.dumps([q.item_id for q in media.quarantine[:5]])
        text += f"; quarantined: {listed}, all with reasons in media/quarantine.json"
    return text
