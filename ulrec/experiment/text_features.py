"""What the items of a run say and show, by a CLIP model."""

from __future__ import annotations

import string

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import new_artefact
from ulrec.data.ids import IdMap
from ulrec.data.media import MediaStore
from ulrec.data.schema import ITEM_ID
from ulrec.errors import ConfigError
from ulrec.experiment.runner import Run
from ulrec.features.open_clip import ClipModel
from ulrec.pipeline import load_items

__all__ = ["PHRASINGS", "item_texts", "text_features"]

PHRASINGS = "phrasings.npy"
"""Other embeddings of the items' texts, (T, I, E), where the configuration has phrasings."""


def text_features(run: Run) -> str:
    """Embed texts and pictures of all items; writes ``text_features``."""
    config = run.config.text
    if config.pretrained is None:
        raise ConfigError("text.pretrained is not set; set it, such as text.pretrained=emoji_clip")
    model = ClipModel.load(config.pretrained, model=config.model)
    media = MediaStore.open(run.path("media"))
    items = load_items(run.path("items"))
    texts, *others = (
        model.encode_text(item_texts(items, media.items, template))
        for template in (config.template, *config.phrasings)
    )
    images = _frames_averaged(model, media.media)
    info = {
        "pretrained": config.pretrained,
        "model": config.model,
        "weight_hash": model.weight_hash,
        "template": config.template,
        "phrasings": list(config.phrasings),
    }
    made_from = {name: run.fingerprint(name) for name in ("media", "items")}
    with new_artefact(
        run.path("text_features"), kind="text_features", made_from=made_from, info=info
    ) as folder:
        np.save(folder / "features.npy", texts)
        np.save(folder / "images.npy", images)
        if others:
            np.save(folder / PHRASINGS, np.stack(others))
        media.items.save(folder / "items.parquet")
    return f"{model.name}: {len(texts)} texts and pictures in {model.dim} dimensions"


def item_texts(items: pl.DataFrame, ids: IdMap, template: str) -> list[str]:
    """Return what is said of each item of ``ids``: the template with its columns filled in.

    Raises
    ------
    ConfigError
        If the template names no column, or one that the catalogue lacks.
    """
    columns = [field for _, field, _, _ in string.Formatter().parse(template) if field]
    missing = [name for name in columns if name not in items.columns]
    if missing or not columns:
        raise ConfigError(
            f"text.template '{template}' has to name columns of the catalogue in braces: "
            f"{', '.join(items.columns)}"
        )
    rows = {row[ITEM_ID]: row for row in items.iter_rows(named=True)}
    empty = dict.fromkeys(items.columns, "")
    said = ({k: "" if v is None else v for k, v in rows.get(i, empty).items()} for i in ids.ids)
    return [template.format_map(row) for row in said]


def _frames_averaged(model: ClipModel, media: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return unit embeddings (I, E) of media (I, C, F, H, W): the mean direction of the frames."""
    frames = [model.encode_image(np.array(media[:, :, f])) for f in range(media.shape[2])]
    mean = np.mean(frames, axis=0)
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit
