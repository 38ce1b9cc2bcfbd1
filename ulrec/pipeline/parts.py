"""The parts of a run on disk, and whether they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import load_component, open_artefact, require_same
from ulrec.conditioning.source import Source, SourceConfig
from ulrec.conditioning.sources import USER, Sources, SourcesConfig
from ulrec.config import from_mapping
from ulrec.data.factors import Factors
from ulrec.data.identity import FactorsIdentity
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.tables import read_table
from ulrec.errors import DataError
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.components import load_weights

__all__ = [
    "ARTEFACTS",
    "OPTIONAL",
    "as_media",
    "load_autoencoder",
    "load_base",
    "load_conditioner",
    "load_interactions",
    "load_items",
    "require_made_from",
    "require_trained_on",
    "space_of",
]

ARTEFACTS = (
    "items",
    "interactions",
    "autoencoder",
    "latents",
    "factors",
    "recommender",
    "base",
    "conditioner",
    "projection",
    "index",
)
"""The folders of a run that a pipeline consists of."""

OPTIONAL = ("text_features", "hybrid", "guidance")
"""Those that it may have beside them."""


def load_autoencoder(folder: Path) -> tuple[Autoencoder, str]:
    """Return an autoencoder and its fingerprint."""
    component = load_component(folder, kind="autoencoder")
    model = Autoencoder(from_mapping(AutoencoderConfig, component.config))
    load_weights(model, component)
    return model, component.manifest.fingerprint


def load_base(folder: Path) -> tuple[Base, dict[str, str]]:
    """Return a base and the fingerprints of what it was made from."""
    component = load_component(folder, kind="base")
    model = Base(from_mapping(BaseConfig, component.config))
    load_weights(model, component)
    return model, component.manifest.made_from


def load_conditioner(folder: Path) -> tuple[Sources, dict[str, str]]:
    """Return the sources of conditions and the fingerprints of what they were made from.

    A folder with users alone holds that source itself.
    """
    component = load_component(folder, kind="conditioner")
    made_from = component.manifest.made_from
    if USER in component.config:
        sources = Sources(from_mapping(SourcesConfig, component.config))
        load_weights(sources, component)
        return sources, made_from
    user = Source(from_mapping(SourceConfig, component.config))
    load_weights(user, component)
    return Sources.of_users(user).eval(), made_from


def load_items(folder: Path) -> pl.DataFrame:
    """Return the catalogue's table of a run, without its media."""
    open_artefact(folder, kind="items")
    return read_table(folder / "items.parquet")


def load_interactions(
    folder: Path, users: IdMap, items: IdMap, *, part: str = "train"
) -> Interactions:
    """Return one part of a run's split interactions on given id maps."""
    open_artefact(folder, kind="interactions")
    return Interactions.from_table(read_table(folder / f"{part}.parquet"), users=users, items=items)


def space_of(folder: Path, fingerprint: str) -> str:
    """Return the fingerprint of the factors in whose axes those of a folder lie: mostly their own.

    Refitted ones lie in the axes of those that they were folded into or aligned to.
    """
    made_from = open_artefact(folder / "factors", kind="factors", verify=False).made_from
    return made_from.get("folded_into") or made_from.get("aligned_to") or fingerprint


def require_made_from(made_from: dict[str, str], name: str, fingerprint: str, *, of: str) -> None:
    """Refuse an artefact that was made from another one than stands beside it."""
    require_same(
        f"the {of} were made from another {name}",
        expected=fingerprint,
        got=made_from.get(name),
        remedy="run the stages after it again",
    )


def require_trained_on(folder: Path, name: str, factors: Factors) -> None:
    """Refuse the part ``name`` of a folder if it was trained on other factors, saying which.

    Raises
    ------
    ArtefactError
        With every difference in model, id maps, dimension and norms.
    """
    manifest = open_artefact(folder / name, kind=name, verify=False)
    space, got = space_of(folder, str(factors.fingerprint)), manifest.made_from.get("factors")
    told = manifest.info.get("factors")
    differ = ""
    if told is not None and got != space:
        differ = f" ({from_mapping(FactorsIdentity, told).told_apart(factors.identity)})"
    require_same(
        f"the factors are not those that the {name} was trained on{differ}",
        expected=str(got),
        got=space,
        remedy="bring those back, or run the stages from `ulrec condition` on again",
    )


def as_media(media: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return media (N, C, (F,) H, W), uint8 or float in [-1, 1], as networks take them.

    Raises
    ------
    DataError
        If they are of another shape or range.
    """
    x = media[:, :, None] if media.ndim == 4 else media
    if x.ndim != 5 or x.shape[1:] != shape:
        raise DataError(
            f"media have to be (N, {', '.join(map(str, shape))}), got {media.shape}; resize them"
        )
    if x.dtype == np.uint8:
        return x.astype(np.float32) / 127.5 - 1
    if x.dtype.kind != "f" or not np.isfinite(x).all() or np.abs(x).max(initial=0) > 1.001:
        raise DataError(f"media have to be uint8 or float in [-1, 1], got {x.dtype}; scale them")
    return x.astype(np.float32)
