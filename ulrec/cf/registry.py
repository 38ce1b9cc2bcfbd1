"""All recommenders by name: choose one by configuration, keep it on disk, get it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file

from ulrec.cf.als import ALS, ALSConfig
from ulrec.cf.base import Recommender, require_fitted
from ulrec.cf.bpr import BPR, BPRConfig
from ulrec.cf.ease import EASE, EASEConfig
from ulrec.cf.foreign import Foreign, ForeignConfig
from ulrec.cf.item_item import ItemItem, ItemItemConfig
from ulrec.cf.lmf import LMF, LMFConfig
from ulrec.cf.popularity import Popularity, PopularityConfig
from ulrec.cf.random import Random, RandomConfig
from ulrec.checkpoint import load_component, new_artefact, open_artefact
from ulrec.config import from_mapping, to_mapping
from ulrec.data.ids import IdMap
from ulrec.errors import ConfigError

__all__ = ["BASELINES", "MODELS", "CFConfig", "build", "config_of", "load_model", "save_model"]

KIND = "recommender"


@dataclass(frozen=True, kw_only=True, slots=True)
class CFConfig:
    """Which recommender, and the configuration of each: ``model`` names one of the other fields.

    Examples
    --------
    >>> from_mapping(CFConfig, {"model": "als", "als": {"num_factors": 8}}).als.num_factors
    8
    """

    model: str = "als"
    als: ALSConfig = field(default_factory=ALSConfig)
    bpr: BPRConfig = field(default_factory=BPRConfig)
    lmf: LMFConfig = field(default_factory=LMFConfig)
    ease: EASEConfig = field(default_factory=EASEConfig)
    foreign: ForeignConfig = field(default_factory=ForeignConfig)
    item_item: ItemItemConfig = field(default_factory=ItemItemConfig)
    popularity: PopularityConfig = field(default_factory=PopularityConfig)
    random: RandomConfig = field(default_factory=RandomConfig)

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            known = ", ".join(MODELS)
            raise ConfigError(f"'model' has to be one of {known}, got {self.model!r}")


def build(config: CFConfig) -> Recommender:
    """Return the model that ``config`` names, not yet fitted."""
    return MODELS[config.model](getattr(config, config.model))


def config_of(model: Recommender) -> CFConfig:
    """Return the configuration that builds such a model."""
    name = next(name for name, factory in MODELS.items() if factory is type(model))
    return CFConfig(model=name, **{name: model.config})


def save_model(
    model: Recommender, folder: str | Path, *, made_from: Mapping[str, str] | None = None
) -> str:
    """Write a fitted model as one artefact and return its fingerprint.

    Parameters
    ----------
    model
        One of :data:`MODELS`, fitted.
    folder
        Where the artefact goes.
    made_from
        Fingerprints of what it was fitted on ("interactions").

    Raises
    ------
    NotFittedError
        If it is not fitted.
    """
    require_fitted(model)
    name = config_of(model).model
    config = {"model": name, name: to_mapping(model.config)}
    text = yaml.safe_dump(config, sort_keys=False)
    with new_artefact(folder, kind=KIND, made_from=made_from) as temporary:
        (temporary / "config.yaml").write_text(text, encoding="utf-8")
        tensors = {key: np.ascontiguousarray(array) for key, array in model.state().items()}
        save_file(tensors, temporary / "model.safetensors")
        model.users_.save(temporary / "users.parquet")
        model.items_.save(temporary / "items.parquet")
    return open_artefact(folder, kind=KIND, verify=False).fingerprint


def load_model(folder: str | Path) -> Recommender:
    """Read what :func:`save_model` wrote; its scores are bit-equal.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or something else.
    """
    folder = Path(folder)
    component = load_component(folder, kind=KIND)
    model = build(from_mapping(CFConfig, component.config))
    users, items = IdMap.load(folder / "users.parquet"), IdMap.load(folder / "items.parquet")
    return model.restore(component.tensors, users=users, items=items)


MODELS: dict[str, Callable[[Any], Recommender]] = {
    "als": ALS,
    "bpr": BPR,
    "lmf": LMF,
    "ease": EASE,
    "foreign": Foreign,
    "item_item": ItemItem,
    "popularity": Popularity,
    "random": Random,
}

BASELINES = ("als", "item_item", "popularity", "random")
"""What a run is compared with: these need nothing but interactions, and bear any catalogue."""
