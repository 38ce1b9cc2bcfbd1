"""Features of real, generated and reconstructed pictures, extracted once for all metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from ulrec.features.extract import FeatureNetwork, extract_features
from ulrec.pipeline import decoder_seeds, load_autoencoder, load_items, sample_seeds

__all__ = ["features", "media_features", "picture_batches", "reconstruct_heldout"]


def features(run: Run) -> str:
    """Extract features of all media, real and generated; writes ``features``."""
    network = EffLite0()
    media = MediaStore.open(run.path("media"))
    generated = np.load(run.path("generated") / "media.npy", mmap_mode="r")
    reconstructed = reconstruct_heldout(run, media)
    sets = {"catalogue": media.media, "generated": generated, "reconstructed": reconstructed}
    fans = Fans.load(run.path("generated"))
    if fans is not None:
        sets["fans"] = fans.media
    total = sum(len(pictures) for pictures in sets.values())
    with tqdm(total=total, desc="features", unit="picture", disable=None) as bar:
        found: dict[str, NDArray[np.float32]] = {}
        for name, pictures in sets.items():
            found |= media_features(network, pictures, name=name, progress=bar.update)
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


def reconstruct_heldout(run: Run, media: MediaStore) -> NDArray[np.uint8]:
    """Return one decoder sample of each held-out picture, in their order."""
    items = load_items(run.path("items"))
    rows = media.items.rows(items.filter(pl.col(SPLIT) == HELDOUT)[ITEM_ID].to_list())
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    latents = LatentStore.open(run.path("latents"))
    seeds = sample_seeds(run.config.seed, rows, np.zeros_like(rows))
    at_once = max(1, 64 // media.media.shape[2])
    parts = []
    with tqdm(total=len(rows), desc="reconstruct", unit="picture", disable=None) as bar:
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
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


def media_features(
    network: FeatureNetwork,
    media: NDArray[np.uint8],
    *,
    name: str,
    progress: Callable[[int], object] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return features of media (N, C, F, H, W) under their name.

    Of clips they are the mean over frames, and under ``<name>_frames`` those of every frame,
    (N, F, d).
    """
    num_frames = media.shape[2]
    parts = []
    for batch in picture_batches(media):
        if num_frames > 1:
            batch = batch.swapaxes(1, 2).reshape(-1, *batch.shape[1:2], *batch.shape[3:])
        parts.append(extract_features(network, [batch]))
        if progress is not None:
            progress(len(batch) // num_frames)
    empty = np.empty((0, network.dim), np.float32)
    frames = np.concatenate([empty, *parts]).reshape(len(media), num_frames, -1)
    if num_frames == 1:
        return {name: frames[:, 0]}
    return {name: frames.mean(axis=1), f"{name}_frames": frames}


def picture_batches(media: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield media (N, C, F, H, W) in batches: (B, C, H, W) of pictures, (B, C, F, H, W) of clips.

    A feature network gives a vector for each, of clips the mean over frames.
    """
    at_once = max(1, 64 // media.shape[2])
    for start in range(0, len(media), at_once):
        batch = np.array(media[start : start + at_once])
        yield batch[:, :, 0] if media.shape[2] == 1 else batch
