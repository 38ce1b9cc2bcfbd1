"""What a run knows of texts: search by them, and steering towards them without training for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import open_artefact, require_same
from ulrec.conditioning.sources import TEXT
from ulrec.data.ids import IdMap
from ulrec.data.latents import LatentStore
from ulrec.data.schema import ITEM_ID, RANK, SCORE
from ulrec.errors import DataError
from ulrec.features.open_clip import ClipModel
from ulrec.pipeline.draw import Steer

if TYPE_CHECKING:
    from ulrec.pipeline.pipeline import Pipeline

__all__ = ["SHIFTED", "Texts", "expected_shift", "heard_text", "hears_text"]

KIND = "text_features"
HEARD, SHIFTED = 4.0, 1.0
"""Guidance of a text that the base hears, and of one that it does not and is moved by: chosen on
the emoji (examples/benchmarks/RESULTS.md)."""
FILES = {"image": "images.npy", "text": "features.npy"}


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The text side of a run: its CLIP model, and what it makes of the items.

    Attributes
    ----------
    model
        Encodes texts.
    embeddings
        By "image" and "text": unit vectors of how items look and of what is said of them, (I, E).
    items
        Their ids.
    """

    model: ClipModel
    embeddings: dict[str, NDArray[np.float32]]
    items: IdMap

    @classmethod
    def load(cls, folder: Path) -> Texts:
        """Load them from a run's folder.

        Raises
        ------
        ArtefactError
            If the run has none, it is damaged, or the CLIP model is another by now.
        MissingExtraError
            If open_clip is not installed.
        """
        manifest = open_artefact(folder / KIND, kind=KIND)
        model = ClipModel.load(manifest.info["pretrained"], model=manifest.info["model"])
        require_same(
            f"the {KIND} were made with other weights of {model.name}",
            expected=manifest.info["weight_hash"],
            got=model.weight_hash,
            remedy="run `ulrec text-features` again",
        )
        return cls(
            model=model,
            embeddings={
                by: np.load(folder / KIND / file, allow_pickle=False) for by, file in FILES.items()
            },
            items=IdMap.load(folder / KIND / "items.parquet"),
        )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors (N, E) of texts."""
        return self.model.encode_text(list_of(texts))

    def search(self, text: str, *, k: int, by: Literal["image", "text"]) -> pl.DataFrame:
        """Return the items nearest to a text; see :meth:`ulrec.Pipeline.search_text`."""
        if k < 1 or by not in self.embeddings:
            raise DataError(
                f"expected k of at least 1 and by one of {', '.join(FILES)}, got k={k}, by={by!r}"
            )
        scores = self.embeddings[by] @ self.encode([text])[0]
        best = np.argsort(-scores, kind="stable")[:k]
        return pl.DataFrame(
            {
                ITEM_ID: self.items[best],
                SCORE: scores[best].astype(np.float64),
                RANK: np.arange(1, len(best) + 1),
            }
        )

    def shifts(self, texts: Sequence[str], latents: LatentStore) -> NDArray[np.float32]:
        """Return the shifts (N, D, f, h, w) of texts; see :meth:`ulrec.Pipeline.text_shift`."""
        images = self.embeddings["image"][self.items.rows(latents.items.ids)]
        cosines = self.encode(texts) @ images.T
        return expected_shift(cosines, np.asarray(latents.z), scale=self.model.logit_scale)


def expected_shift(
    cosines: NDArray[np.float32], z: NDArray[np.float32], *, scale: float
) -> NDArray[np.float32]:
    """Return E[z | text] - E[z] over a catalogue, (N, D, f, h, w).

    A CLIP model is trained to tell which picture a text belongs to: p(item | text) is the softmax
    of ``scale`` times their cosine. Under it the expected latent of a text is known in closed form.

    Parameters
    ----------
    cosines
        Of texts and the pictures of items, (N, I).
    z
        Clean latents of the items, (I, D, f, h, w).
    scale
        The model's logit scale.

    Examples
    --------
    >>> z = np.array([1.0, 3.0], np.float32).reshape(2, 1, 1, 1, 1)
    >>> cosines = np.array([[1.0, 1.0], [1.0, -1.0]], np.float32)
    >>> expected_shift(cosines, z, scale=100.0).ravel().tolist()
    [0.0, -1.0]
    """
    logits = scale * cosines.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    away: NDArray[np.float32] = np.tensordot(weights - 1 / len(z), z, axes=1).astype(np.float32)
    return away


def list_of(texts: Sequence[str]) -> list[str]:
    """Return texts as a list, none of them empty.

    Raises
    ------
    DataError
        If it is one text alone, or one of them says nothing.
    """
    if isinstance(texts, str) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise DataError(f"texts have to be a list of texts that say something, got {texts!r}")
    return list(texts)


def hears_text(pipeline: Pipeline) -> bool:
    """Return whether the base was trained to hear texts."""
    return TEXT in pipeline.conditioner.names


def heard_text(pipeline: Pipeline, text: str, *, num: int) -> Steer:
    """Return what a text says of ``num`` samples to a base that hears it."""
    vectors = np.repeat(pipeline.encode_text([text]), num, axis=0)
    return Steer(source=TEXT, vectors=vectors, weights=np.full(num, HEARD))
