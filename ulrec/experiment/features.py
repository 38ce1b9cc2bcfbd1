"""Features of real, generated and reconstructed pictures, extracted once for all metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ulrec.checkpoint import new_artefact
from ulrec.data.latents import LatentStore
from ulrec.data.media import MediaStore, to_uint8
from ulrec.data.schema import HELDOUT, ITEM_ID, SPLIT
from ulrec.diffusion.sampler import NoiseSource
from ulrec.experiment.fans import Fans
from ulrec.experiment.runner import Run
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import decoder_seeds, load_autoencoder, load_items, sample_seeds

__all__ = ["features", "picture_batches"]


def features(run: Run) -> str:
    """Extract features of all media, real and generated; writes ``features``."""
    network = EffLite0()
    media = MediaStore.open(run.path("media"))
    generated = np.load(run.path("generated") / "media.npy", mmap_mode="r")
    reconstructed = _reconstruct(run, media)
    sets = {"catalogue": media.media, "generated": generated, "reconstructed": reconstructed}
    fans = Fans.load(run.path("generated"))
    if fans is not None:
        sets["fans"] = fans.media
    total = sum(len(pictures) for pictures in sets.values())
    with tqdm(total=total, desc="features", unit="picture", disable=None) as bar:
        found = {
            name: extract_features(network, _counted(picture_batches(pictures), bar))
            for name, pictures in sets.items()
        }
    made_from = {name: run.fingerprint(name) for name in ("media", "generated", "autoencoder")}
    info = {
        "backbone": network.name,
        "weight_hash": network.weight_hash,
        "resize": network.preprocessing,
    }
    with new_artefact(
        run.path("features"), kind="features", made_from=made_from, info=info
    ) as folder:
        for name, array in found.items():
            np.save(folder / f"{name}.npy", array)
        np.save(folder / "reconstructed_media.npy", reconstructed)
    return f"{network.name} features of {total} pictures"


def _reconstruct(run: Run, media: MediaStore) -> NDArray[np.uint8]:
    """Return one decoder sample of each held-out picture, in their order."""
    items = load_items(run.path("items"))
    rows = media.items.rows(items.filter(pl.col(SPLIT) == HELDOUT)[ITEM_ID].to_list())
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    latents = LatentStore.open(run.path("latents"))
    seeds = sample_seeds(run.config.seed, rows, np.zeros_like(rows))
    parts = []
    with tqdm(total=len(rows), desc="reconstruct", unit="picture", disable=None) as bar:
        for start in range(0, len(rows), 64):
            part = slice(start, start + 64)
            z = torch.from_numpy(np.array(latents.z[rows[part]]))
            eps = NoiseSource(seeds[part].tolist(), z.shape[1:], device="cpu")()
            x = autoencoder.decode(
                autoencoder.noise(z, eps),
                seeds=decoder_seeds(seeds[part]),
                sampler=run.config.evaluate.reconstruction,
            )
            parts.append(to_uint8(x.numpy()))
            bar.update(len(z))
    return np.concatenate(parts)


def _counted(
    batches: Sequence[NDArray[np.uint8]], bar: tqdm[NoReturn]
) -> Iterator[NDArray[np.uint8]]:
    for batch in batches:
        yield batch
        bar.update(len(batch))


def picture_batches(media: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    """Return pictures (N, C, 1, H, W) as batches (B, C, H, W)."""
    return [np.array(media[s : s + 64, :, 0]) for s in range(0, len(media), 64)]
