"""The run that is shown: read once for all visitors, whose drawing goes through one queue."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st
import yaml

from ulrec.app.pictures import Card
from ulrec.app.sharing import Kept, Queue
from ulrec.config import from_mapping
from ulrec.data.media import MediaStore
from ulrec.data.schema import ITEM_ID, NAME
from ulrec.errors import ArtefactError
from ulrec.pipeline import ARTEFACTS, Pipeline

__all__ = ["Shown", "is_simulated", "load", "stamp_of"]

DEFAULT_GUIDANCE = 2.0
FAST_STEPS = (6, 4)
KEPT = 256


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run as the page knows it.

    Attributes
    ----------
    folder
        Of the run.
    stamp
        Changes when the run is made again.
    fine, fast
        The pipeline as the run samples, and with few steps.
    media
        Of the catalogue.
    guidance
        What the run was judged at.
    queue
        Through which everything goes that draws.
    kept
        What was drawn lately.
    titles
        What each item is called.
    """

    folder: Path
    stamp: tuple[int, ...]
    fine: Pipeline
    fast: Pipeline
    media: MediaStore
    guidance: float
    queue: Queue
    kept: Kept
    titles: Mapping[Any, str] = field(repr=False)

    @property
    def noun(self) -> str:
        """What is shown, in a word: "picture", or "clip" where it moves."""
        return "picture" if self.media.media.shape[2] == 1 else "clip"

    @property
    def has_prior(self) -> bool:
        """Whether bits can be told."""
        return (self.folder / "prior" / "manifest.json").is_file()

    @property
    def has_text(self) -> bool:
        """Whether texts can steer: the run has embeddings, and their model can be loaded."""
        made = (self.folder / "text_features" / "manifest.json").is_file()
        return made and importlib.util.find_spec("open_clip") is not None

    def card(self, item_id: Any, *, captioned: bool = True) -> Card:
        """Return an item's picture with its name."""
        title = self.titles[item_id]
        picture = self.media.media[int(self.media.items.rows([item_id])[0])]
        return Card(media=picture, alt=title, caption=title if captioned else "")

    def pictured(self, item_ids: list[Any]) -> list[Any]:
        """Return those that have a picture, in order: the others were quarantined."""
        found = self.media.items.find(item_ids).tolist() if item_ids else []
        return [item_id for item_id, row in zip(item_ids, found, strict=True) if row >= 0]


def stamp_of(folder: Path) -> tuple[int, ...]:
    """Return what changes when a run is made again, so that a page left open follows."""
    manifests = [folder / name / "manifest.json" for name in (*ARTEFACTS, "media")]
    return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in manifests)


def is_simulated(folder: Path) -> bool:
    """Tell whether a run's users are simulated.

    Raises
    ------
    ArtefactError
        If its interactions are missing or damaged.
    """
    path = folder / "interactions" / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return bool(manifest.get("info", {}).get("simulated", False))
    except (OSError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{path} is missing or damaged; run `ulrec prepare` again") from error


@st.cache_resource(max_entries=1, show_spinner=False)
def load(folder: str, stamp: tuple[int, ...]) -> Shown:
    """Read a run once.

    Raises
    ------
    ArtefactError
        If a part is missing, damaged, or belongs to another run.
    """
    pipeline = Pipeline.load(folder)
    guidance = _as_configured(pipeline)
    return Shown(
        folder=Path(folder),
        stamp=stamp,
        fine=pipeline,
        fast=_with_steps(pipeline, *FAST_STEPS),
        media=MediaStore.open(Path(folder) / "media"),
        guidance=guidance,
        queue=Queue(max(1, (os.cpu_count() or 1) // 2)),
        kept=Kept(KEPT),
        titles=_titles(pipeline.items),
    )


def _as_configured(pipeline: Pipeline) -> float:
    """Sample as the run's own generation does, where it says how; return its guidance."""
    path = pipeline.folder / "config.yaml"
    if not path.is_file():
        return DEFAULT_GUIDANCE
    try:
        generate = yaml.safe_load(path.read_text(encoding="utf-8")).get("generate", {})
        kind = type(pipeline.sampler)
        pipeline.sampler = from_mapping(kind, generate.get("sampler", {}))
        pipeline.decoder = from_mapping(kind, generate.get("decoder", {}))
        return float(generate.get("guidance", DEFAULT_GUIDANCE))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged; run `ulrec generate` again") from error


def _with_steps(pipeline: Pipeline, base: int, decoder: int) -> Pipeline:
    other = copy.copy(pipeline)
    other.sampler = dataclasses.replace(pipeline.sampler, num_steps=base, levels=None)
    if pipeline.decoder.levels is None:  # whose levels are placed takes few steps already
        other.decoder = dataclasses.replace(pipeline.decoder, num_steps=decoder)
    return other


def _titles(items: pl.DataFrame) -> dict[Any, str]:
    """Return what each item is called: its id, where it has no name."""
    ids = items[ITEM_ID].cast(pl.String)
    names = items[NAME].cast(pl.String).fill_null(ids) if NAME in items.columns else ids
    return dict(zip(items[ITEM_ID].to_list(), names.to_list(), strict=True))
