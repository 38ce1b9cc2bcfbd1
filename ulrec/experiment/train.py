"""The stages that learn: latents, collaborative filtering, and the base that draws for users."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from ulrec.cf.base import EmbeddingModel, FactorModel
from ulrec.cf.registry import MODELS, build, load_model
from ulrec.cf.registry import save_model as save_recommender
from ulrec.checkpoint import (
    copy_artefact,
    load_component,
    open_artefact,
    require_same,
)
from ulrec.conditioning.user import UserConditioner
from ulrec.config import digest, from_mapping
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.latents import LatentStore
from ulrec.data.media import MediaStore, to_uint8
from ulrec.data.schema import ITEM_ID, SPLIT, TRAIN, USER_ID
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.sheets import tile
from ulrec.experiment.config import LatentsStage
from ulrec.experiment.prepare import read_split
from ulrec.experiment.runner import Run
from ulrec.models.base import Base, BaseConfig, add_condition
from ulrec.models.components import load_weights, pretrained_folder, save_model
from ulrec.models.measure import latent_nats
from ulrec.models.prior import Prior, PriorConfig
from ulrec.models.unified import Unified
from ulrec.pipeline import load_autoencoder, load_base, load_items
from ulrec.retrieval.index import ItemIndex
from ulrec.retrieval.query import fit_projection, save_projection
from ulrec.training.callbacks import Draw
from ulrec.training.datamodule import latent_source, media_source, pair_source
from ulrec.training.fit import fit
from ulrec.training.tasks import BaseTask, UnifiedTask

__all__ = [
    "build_index",
    "condition",
    "encode",
    "fit_cf",
    "load_prior",
    "train_base",
    "train_latents",
    "train_rows",
]

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
    folder = _training_folder(run, "train-latents", [config, media.manifest.fingerprint, start])
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
    )
    model = cast("Unified", trained["model"])
    made_from = {"media": media.manifest.fingerprint}
    if start is not None:
        made_from["start_from"] = start
    losses = _keep_losses(folder, run, "train-latents")
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
    last = _last(losses, "bits_per_pixel")
    return f"{config.fit.num_steps} steps of {config.fit.batch_size}; {last}"


def encode(run: Run) -> str:
    """Encode the whole catalogue; writes ``latents``."""
    media = MediaStore.open(run.path("media"))
    autoencoder, fingerprint = load_autoencoder(run.path("autoencoder"))
    device = _device(run)
    autoencoder.to(device)

    def batches() -> Iterator[NDArray[np.float32]]:
        with (
            tqdm(total=len(media), desc="encode", unit="item", disable=None) as bar,
            torch.no_grad(),
        ):
            for start in range(0, len(media), ENCODED_AT_ONCE):
                rows = np.arange(start, min(start + ENCODED_AT_ONCE, len(media)))
                z = autoencoder.encode(torch.from_numpy(media.read(rows)).to(device))
                yield z.cpu().numpy()
                bar.update(len(rows))

    store = LatentStore.write(
        run.path("latents"),
        batches(),
        items=media.items,
        shape=autoencoder.config.latent_shape,
        made_from={"autoencoder": fingerprint, "media": media.manifest.fingerprint},
    )
    z = torch.from_numpy(np.array(store.z[:512]))
    nats = latent_nats(load_prior(run), z, num_levels=4, seed=run.config.seed).mean()
    _, frames, height, width = autoencoder.config.media_shape
    bits = nats.item() / np.log(2) / (frames * height * width)
    shape = "x".join(map(str, store.z.shape[1:]))
    spread = f"standard deviation {store.z.std():.2f}"
    return f"{len(store.z)} latents of {shape}, {spread}, about {bits:.2f} bits/pixel"


def fit_cf(run: Run) -> str:
    """Fit collaborative filtering; writes ``recommender`` and ``factors``."""
    model = build(run.config.cf)
    if not hasattr(model, "factors"):
        able = ", ".join(name for name, kind in MODELS.items() if hasattr(kind, "factors"))
        raise DataError(
            f"cf.model '{run.config.cf.model}' has no user factors to steer a generator with; "
            f"choose one that has: {able}"
        )
    interactions = read_interactions(run)
    model = model.fit(interactions)
    made_from = {"interactions": run.fingerprint("interactions")}
    save_recommender(model, run.path("recommender"), made_from=made_from)
    factors = cast("EmbeddingModel", model).factors()
    factors.save(run.path("factors"), made_from=made_from)
    return (
        f"{run.config.cf.model} with {factors.num_factors} factors on "
        f"{interactions.user_items.nnz} pairs of {interactions.num_users} users"
        f"{_without_factor('users', factors.users, factors.known_users)}"
        f"{_without_factor('items', factors.items, factors.known_items)}{_leak(factors)}"
    )


def train_base(run: Run) -> str:
    """Train stage 2 without users; writes ``base_unconditional``."""
    config = run.config.base
    if config.pretrained is not None:
        return _take_pretrained_base(run, config.pretrained)
    latents = LatentStore.open(run.path("latents"))
    settings = BaseConfig(
        latent_shape=cast("tuple[int, int, int, int]", latents.z.shape[1:]),
        schedule_z=run.config.latents.model.prior.schedule_z,
        weighting=config.weighting,
        network=config.network,
    )
    torch.manual_seed(run.config.seed)
    task = BaseTask(
        Base(settings),
        None,
        optimiser=config.unconditional.optimiser,
        num_steps=config.unconditional.num_steps,
        seed=run.config.seed,
    )
    made_from = {"latents": latents.manifest.fingerprint}
    folder = _training_folder(run, "train-base", [settings, config.unconditional, made_from])
    rows = train_rows(run, latents.items)
    trained = fit(
        task,
        latent_source(latents.z, rows),
        num_samples=len(rows),
        config=config.unconditional,
        folder=folder,
        title="train-base",
        draw=_draw_samples(run, None),
        grids=run.path("grids") / "train-base",
    )
    losses = _keep_losses(folder, run, "train-base")
    save_model(
        trained["model"],
        run.path("base_unconditional"),
        kind="base",
        config=settings,
        made_from=made_from,
        info={"seed": run.config.seed},
    )
    shutil.rmtree(folder)
    return f"{config.unconditional.num_steps} steps on {len(rows)} latents; {_last(losses, 'loss')}"


def condition(run: Run) -> str:
    """Teach the base what users like; writes ``base`` and ``conditioner``."""
    latents = LatentStore.open(run.path("latents"))
    base, _ = load_base(run.path("base_unconditional"))
    factors = Factors.load(run.path("factors"))
    item_rows, seen_without = _training_pairs(run, latents)
    config = run.config.base
    settings = dataclasses.replace(config.conditioner, num_factors=factors.num_factors)
    torch.manual_seed(run.config.seed + 1)
    conditioner = UserConditioner(settings)
    conditioner.standardise(torch.from_numpy(seen_without))
    task = BaseTask(
        add_condition(base, cond_width=settings.width),
        conditioner,
        optimiser=config.conditional.optimiser,
        num_steps=config.conditional.num_steps,
        seed=run.config.seed + 1,
    )
    made_from = {"latents": latents.manifest.fingerprint, "factors": str(factors.fingerprint)}
    started_from = run.fingerprint("base_unconditional")
    folder = _training_folder(
        run, "condition", [settings, config.conditional, made_from, started_from]
    )
    trained = fit(
        task,
        pair_source(latents.z, item_rows, seen_without),
        num_samples=len(item_rows),
        config=config.conditional,
        folder=folder,
        title="condition",
        draw=_draw_samples(run, seen_without),
        grids=run.path("grids") / "condition",
    )
    losses = _keep_losses(folder, run, "condition")
    model = cast("Base", trained["model"])
    info = {"can_fold_in": factors.can_fold_in}
    save_model(
        model, run.path("base"), kind="base", config=model.config, made_from=made_from, info=info
    )
    save_model(
        trained["conditioner"],
        run.path("conditioner"),
        kind="conditioner",
        config=settings,
        made_from={**made_from, "base": run.fingerprint("base")},
        info=info,
    )
    shutil.rmtree(folder)
    return (
        f"{len(item_rows)} pairs of users and liked items; {_last(losses, 'loss')}{_leak(factors)}"
    )


def build_index(run: Run) -> str:
    """Index the latents; writes ``projection`` and ``index``."""
    latents = LatentStore.open(run.path("latents"))
    made_from = {"latents": latents.manifest.fingerprint}
    projection = fit_projection(latents.z, run.config.index.query)
    save_projection(projection, run.path("projection"), made_from=made_from)
    made_from = {**made_from, "projection": run.fingerprint("projection")}
    vectors = projection(np.asarray(latents.z))
    index = ItemIndex.build(vectors, latents.items, metric="cosine", made_from=made_from)
    index.save(run.path("index"))
    return (
        f"{len(index)} items by {run.config.index.query.name} latents of {vectors.shape[1]} numbers"
    )


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


def load_prior(run: Run) -> Prior:
    """Return the run's prior."""
    component = load_component(run.path("prior"), kind="prior")
    channels = int(component.manifest.info["channels"])
    prior = Prior(from_mapping(PriorConfig, component.config), channels=channels)
    load_weights(prior, component)
    return prior


def _stage_one(config: LatentsStage) -> Unified:
    """Return the model that stage 1 trains, with the weights it starts from."""
    model = Unified(config.model)
    if config.start_from is not None:
        source = pretrained_folder(config.start_from)
        for part, module in (("autoencoder", model.autoencoder), ("prior", model.prior)):
            load_weights(module, load_component(source / part, kind=part))
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


def _take_pretrained_base(run: Run, name: str) -> str:
    """Copy a pretrained unconditional base, if it was trained on this autoencoder's latents."""
    source = pretrained_folder(name) / "base"
    made_from = open_artefact(source, kind="base").made_from
    require_same(
        f"base.pretrained '{name}' belongs to another autoencoder",
        expected=run.fingerprint("autoencoder"),
        got=made_from.get("autoencoder"),
        remedy="set latents.pretrained to the same model, or train with base.pretrained null",
    )
    copy_artefact(source, run.path("base_unconditional"), kind="base")
    return f"the pretrained base '{name}', nothing to train"


def _training_pairs(
    run: Run, latents: LatentStore
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the item row of each pair and the user's factor folded in without that pair.

    Held-out items are left out: the generator never sees them. Where factors do not fold in, they
    are the fitted ones, which have seen the pair (``Factors.can_fold_in`` says so), and pairs of
    users without a factor are left out.
    """
    interactions = read_interactions(run)
    model = load_model(run.path("recommender"))
    user_idx, item_idx = interactions.pairs()
    item_rows = latents.items.rows(interactions.items[item_idx])
    allowed = np.isin(item_rows, train_rows(run, latents.items))
    if isinstance(model, FactorModel):
        factors = model.leave_one_out(interactions)
    else:
        fitted = Factors.load(run.path("factors"))
        factors = fitted.user_factors[user_idx]
        allowed &= fitted.known_users[user_idx]
    if not allowed.any():
        raise DataError(
            "no train interaction of a user with a factor names an item of the train split; "
            "nothing to learn from"
        )
    return item_rows[allowed], factors[allowed]


def _without_factor(what: str, ids: IdMap, known: NDArray[np.bool_]) -> str:
    """Return how many have no factor, with examples."""
    if known.all():
        return ""
    unknown = np.flatnonzero(~known)
    examples = ", ".join(map(str, ids[unknown[:3]].tolist()))
    return f"; {len(unknown)} of {len(known)} {what} have no factor, such as {examples}"


def _leak(factors: Factors) -> str:
    """Return what has to be said of factors that do not fold in."""
    if factors.can_fold_in:
        return ""
    return f"; {factors.info['model']} does not fold in: each condition has seen its own pair"


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
        return tile(both, columns=GRID, scale=2)

    return draw


def _draw_samples(run: Run, factors: NDArray[np.float32] | None) -> Draw:
    """Return what decodes samples of a base, for some users where there is a conditioner."""
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    seeds = list(range(2 * GRID))
    chosen = None
    if factors is not None:
        chosen = torch.from_numpy(factors[np.linspace(0, len(factors) - 1, 2 * GRID).astype(int)])

    def draw(models: Mapping[str, nn.Module]) -> NDArray[np.uint8]:
        base, cond = cast("Base", models["model"]), None
        if chosen is not None:
            conditioner = cast("UserConditioner", models["conditioner"])
            with torch.no_grad():
                cond = conditioner(chosen.to(conditioner.mean.device))
        drawn = base.sample(cond, seeds=seeds, sampler=GRID_SAMPLER)
        made = autoencoder.decode(drawn.x_0.cpu(), seeds=seeds, sampler=GRID_SAMPLER)
        return tile(to_uint8(made.numpy()), columns=GRID, scale=2)

    return draw


def _training_folder(run: Run, name: str, parts: list[Any]) -> Path:
    """Return where a training keeps its state; another configuration gets another folder."""
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) else p for p in parts]  # type: ignore[arg-type]
    key = digest(json.loads(json.dumps([*plain, run.config.seed])))
    return run.path("training") / f"{name}-{key}"


def _keep_losses(folder: Path, run: Run, name: str) -> list[dict[str, float]]:
    """Copy the loss log beside the artefacts and return its lines."""
    target = run.path("losses")
    target.mkdir(exist_ok=True)
    shutil.copyfile(folder / "losses.jsonl", target / f"{name}.jsonl")
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def _last(losses: list[dict[str, float]], name: str) -> str:
    """Return the mean of a logged value over the last tenth of the training."""
    tail = [line[name] for line in losses[-max(1, len(losses) // 10) :]]
    return f"{name} {sum(tail) / len(tail):.3f} at the end"


def _device(run: Run) -> str:
    accelerator = run.config.latents.fit.accelerator
    wanted = accelerator in ("auto", "gpu", "cuda")
    return "cuda" if wanted and torch.cuda.is_available() else "cpu"
