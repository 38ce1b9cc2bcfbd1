"""Stage 1 of a run: train or take over the latents, encode the catalogue, index it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ulrec.checkpoint import (
    copy_artefact,
    load_component,
    open_artefact,
)
from ulrec.data.interactions import Interactions
from ulrec.data.latents import LatentStore
from ulrec.data.media import MediaStore, to_uint8
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.errors import ConfigError
from ulrec.evaluation.sheets import film, tile
from ulrec.experiment.config import LatentsStage
from ulrec.experiment.prepare import read_split, train_rows
from ulrec.experiment.runner import Run
from ulrec.experiment.shards import Arrays, Batches, kept_batches
from ulrec.experiment.stages import STAGES
from ulrec.experiment.trainings import device_of, keep_losses, last_mean, training_folder
from ulrec.models.autoencoder import Autoencoder
from ulrec.models.components import pretrained_folder, save_model
from ulrec.models.inflate import inflate_weights
from ulrec.models.measure import latent_nats
from ulrec.models.rarity import load_prior
from ulrec.models.unified import Unified
from ulrec.pipeline import load_autoencoder
from ulrec.retrieval.index import ItemIndex
from ulrec.retrieval.query import fit_projection, save_projection
from ulrec.training.callbacks import Draw
from ulrec.training.datamodule import media_source
from ulrec.training.fit import fit
from ulrec.training.stability import CollapseGuard
from ulrec.training.tasks import UnifiedTask

__all__ = ["build_index", "encode", "encode_batches", "train_latents"]

ENCODED_AT_ONCE = 128
GRID = 8
GRID_SAMPLER = SamplerConfig(num_steps=8)


def train_latents(run: Run) -> str:
    """Train stage 1; writes ``autoencoder`` and ``prior``."""
    config = run.config.latents
    media = MediaStore.open(run.path("media"))
    if config.pretrained is not None:
        return _take_pretrained_latents(run, config.pretrained, media)
    rows = train_rows(run, media.items)
    torch.manual_seed(run.config.seed)
    task = UnifiedTask(
        _stage_one(config),
        optimiser=config.fit.optimiser,
        num_steps=config.fit.num_steps,
        seed=run.config.seed,
    )
    start = None if config.start_from is None else _autoencoder_of(config.start_from)
    lasting = dataclasses.replace(config, collapse=None)  # one that was stopped may go on without
    folder = training_folder(run, "train-latents", [lasting, media.manifest.fingerprint, start])
    source = media_source(media.read, rows, augment=config.augment)
    trained = fit(
        task,
        source,
        num_samples=len(rows),
        config=config.fit,
        folder=folder,
        title="train-latents",
        draw=_draw_reconstructions(media, rows),
        grids=run.path("grids") / "train-latents",
        guards=[] if config.collapse is None else [CollapseGuard(config.collapse)],
        compute=run.config.compute,
    )
    model = cast("Unified", trained["model"])
    made_from = {"media": media.manifest.fingerprint}
    if start is not None:
        made_from["start_from"] = start
    losses = keep_losses(folder, run, "train-latents")
    save_model(
        model.autoencoder,
        run.path("autoencoder"),
        kind="autoencoder",
        config=config.model.autoencoder,
        made_from=made_from,
        info={"seed": run.config.seed, "last_losses": losses[-1]},
    )
    channels = config.model.autoencoder.encoder.latent_channels
    save_model(
        model.prior,
        run.path("prior"),
        kind="prior",
        config=config.model.prior,
        made_from={"autoencoder": run.fingerprint("autoencoder")},
        info={"channels": channels},
    )
    shutil.rmtree(folder)
    last = last_mean(losses, "bits_per_pixel")
    return f"{config.fit.num_steps} steps of {config.fit.batch_size}; {last}"


def encode(run: Run) -> str:
    """Encode the whole catalogue; writes ``latents``."""
    media = MediaStore.open(run.path("media"))
    autoencoder, fingerprint = load_autoencoder(run.path("autoencoder"))
    work = _encoding(media, autoencoder.to(device_of(run)))
    with kept_batches(run, STAGES["encode"], work) as batches:
        store = LatentStore.write(
            run.path("latents"),
            (batch["z"] for batch in batches),
            items=media.items,
            shape=autoencoder.config.latent_shape,
            made_from={"autoencoder": fingerprint, "media": media.manifest.fingerprint},
        )
    z = torch.from_numpy(np.array(store.z[:512]))
    nats = latent_nats(load_prior(run.path("prior")), z, num_levels=4, seed=run.config.seed).mean()
    _, frames, height, width = autoencoder.config.media_shape
    bits = nats.item() / np.log(2) / (frames * height * width)
    shape = "x".join(map(str, store.z.shape[1:]))
    spread = f"standard deviation {store.z.std():.2f}"
    return f"{len(store.z)} latents of {shape}, {spread}, about {bits:.2f} bits/pixel"


def encode_batches(run: Run) -> Batches:
    """Return what :func:`encode` does, as batches."""
    media = MediaStore.open(run.path("media"))
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    return _encoding(media, autoencoder.to(device_of(run)))


def build_index(run: Run) -> str:
    """Index the latents; writes ``projection`` and ``index``."""
    latents = LatentStore.open(run.path("latents"))
    made_from = {"latents": latents.manifest.fingerprint}
    train = Interactions.from_table(read_split(run, "train"), items=latents.items)
    projection = fit_projection(latents.z, run.config.index.query, likes=train.user_items)
    save_projection(projection, run.path("projection"), made_from=made_from)
    made_from = {**made_from, "projection": run.fingerprint("projection")}
    vectors = projection(np.asarray(latents.z))
    index = ItemIndex.build(
        vectors,
        latents.items,
        metric="cosine",
        made_from=made_from,
        config=run.config.index.structure,
    )
    index.save(run.path("index"))
    return (
        f"{len(index)} items by {run.config.index.query.name} latents of {vectors.shape[1]} numbers"
        f"; {index.about}"
    )


def _encoding(media: MediaStore, autoencoder: Autoencoder) -> Batches:
    device = next(autoencoder.parameters()).device
    at_once = max(1, ENCODED_AT_ONCE // autoencoder.config.frames)
    parts = np.split(np.arange(len(media)), range(at_once, len(media), at_once))

    @torch.no_grad()
    def make(number: int) -> Arrays:
        z = autoencoder.encode(torch.from_numpy(media.read(parts[number])).to(device))
        return {"z": z.cpu().numpy()}

    return Batches(sizes=[len(rows) for rows in parts], make=make, unit="item")


def _stage_one(config: LatentsStage) -> Unified:
    """Return the model that stage 1 trains, with the weights it starts from."""
    model = Unified(config.model)
    if config.start_from is not None:
        source = pretrained_folder(config.start_from)
        for part, module in (("autoencoder", model.autoencoder), ("prior", model.prior)):
            inflate_weights(module, load_component(source / part, kind=part))
    return model.train()


def _autoencoder_of(name: str) -> str:
    """Return the fingerprint of a pretrained model's autoencoder."""
    return open_artefact(pretrained_folder(name) / "autoencoder", kind="autoencoder").fingerprint


def _take_pretrained_latents(run: Run, name: str, media: MediaStore) -> str:
    """Copy a pretrained autoencoder with its prior, if it takes media as they were prepared."""
    source = pretrained_folder(name)
    shape = load_autoencoder(source / "autoencoder")[0].config.media_shape
    if tuple(media.media.shape[1:]) != shape:
        raise ConfigError(
            f"the pretrained model '{name}' takes media (C, F, H, W) = {shape}, the run prepares "
            f"{tuple(media.media.shape[1:])}; set data.media, or train with latents.pretrained null"
        )
    for part in ("autoencoder", "prior"):
        copy_artefact(source / part, run.path(part), kind=part)
    return f"the pretrained model '{name}', nothing to train"


def _draw_reconstructions(media: MediaStore, rows: NDArray[np.int64]) -> Draw:
    """Return what shows pictures above their reconstructions."""
    real = media.read(rows[np.linspace(0, len(rows) - 1, GRID).astype(int)])
    x = torch.from_numpy(real)
    eps_seeds = list(range(GRID))

    def draw(models: Mapping[str, nn.Module]) -> NDArray[np.uint8]:
        autoencoder = cast("Unified", models["model"]).autoencoder
        device = next(autoencoder.parameters()).device
        with torch.no_grad():
            z = autoencoder.encode(x.to(device))
        z_0 = autoencoder.noise(z, NoiseSource(eps_seeds, z.shape[1:], device=device)())
        made = autoencoder.decode(z_0, seeds=eps_seeds, sampler=GRID_SAMPLER)
        both = np.concatenate([to_uint8(real), to_uint8(made.cpu().numpy())])
        return tile(film(both), columns=GRID, scale=2)

    return draw
