"""Stage 2 of a run: the base for nobody in particular, then for users."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from ulrec.cf.base import FactorModel
from ulrec.cf.registry import load_model
from ulrec.checkpoint import (
    copy_artefact,
    load_component,
    open_artefact,
    require_same,
)
from ulrec.conditioning.source import Source
from ulrec.conditioning.sources import USER
from ulrec.data.factors import Factors
from ulrec.data.latents import LatentStore
from ulrec.data.media import MediaStore, to_uint8
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.errors import DataError
from ulrec.evaluation.sheets import film, tile
from ulrec.experiment.fit_cf import leak
from ulrec.experiment.prepare import read_interactions, train_rows
from ulrec.experiment.runner import Run
from ulrec.experiment.train_sources import Pairs, build_sources, source_vectors
from ulrec.experiment.trainings import keep_losses, last_mean, training_folder
from ulrec.models.base import Base, BaseConfig, add_condition
from ulrec.models.components import pretrained_folder, save_model
from ulrec.models.inflate import inflate_weights
from ulrec.models.prediction import given_latents, left_open
from ulrec.pipeline import load_autoencoder, load_base
from ulrec.training.callbacks import Draw
from ulrec.training.datamodule import (
    conditioned_source,
    continued_source,
    latent_source,
    pair_source,
)
from ulrec.training.fit import fit
from ulrec.training.tasks import BaseTask

__all__ = ["condition", "train_base", "training_pairs"]

CLIPS_AT_ONCE = 4
GRID = 8
GRID_SAMPLER = SamplerConfig(num_steps=8)


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
    base = Base(settings)
    made_from = {"latents": latents.manifest.fingerprint}
    if config.start_from is not None:
        start = load_component(pretrained_folder(config.start_from) / "base", kind="base")
        inflate_weights(base, start)
        made_from["start_from"] = start.manifest.fingerprint
    task = BaseTask(
        base,
        None,
        optimiser=config.unconditional.optimiser,
        num_steps=config.unconditional.num_steps,
        seed=run.config.seed,
    )
    folder = training_folder(run, "train-base", [settings, config.unconditional, made_from])
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
        compute=run.config.compute,
    )
    losses = keep_losses(folder, run, "train-base")
    save_model(
        trained["model"],
        run.path("base_unconditional"),
        kind="base",
        config=settings,
        made_from=made_from,
        info={"seed": run.config.seed},
    )
    shutil.rmtree(folder)
    end = last_mean(losses, "loss")
    return f"{config.unconditional.num_steps} steps on {len(rows)} latents; {end}"


def condition(run: Run) -> str:
    """Teach the base what users like; writes ``base`` and ``conditioner``."""
    latents = LatentStore.open(run.path("latents"))
    base, _ = load_base(run.path("base_unconditional"))
    factors = Factors.load(run.path("factors"))
    pairs = training_pairs(run, latents)
    config = run.config.base
    torch.manual_seed(run.config.seed + 1)
    told = source_vectors(run, latents, pairs)
    conditioner = build_sources(run, latents, pairs, told)
    settings = conditioner.config
    given = _given(run, config.given_frames) if config.given_frames else None
    task = BaseTask(
        add_condition(
            base,
            cond_width=config.conditioner.width,
            weighting=config.conditional_weighting,
            given_frames=config.given_frames,
            given_std=None if given is None else _left_open(latents, given, pairs),
        ),
        conditioner,
        given_dropout=config.given_dropout,
        optimiser=config.conditional.optimiser,
        num_steps=config.conditional.num_steps,
        seed=run.config.seed + 1,
    )
    source = (
        pair_source(latents.z, pairs.item_rows, pairs.factors)
        if isinstance(conditioner, Source)
        else conditioned_source(latents.z, pairs.item_rows, told)
    )
    if given is not None:
        source = continued_source(source, given, pairs.item_rows)
    made_from = {"latents": latents.manifest.fingerprint, "factors": str(factors.fingerprint)}
    started_from = run.fingerprint("base_unconditional")
    folder = training_folder(
        run,
        "condition",
        [settings, config, made_from, started_from],
    )
    trained = fit(
        task,
        source,
        num_samples=len(pairs.item_rows),
        config=config.conditional,
        folder=folder,
        title="condition",
        draw=_draw_samples(run, pairs.factors),
        grids=run.path("grids") / "condition",
        compute=run.config.compute,
    )
    losses = keep_losses(folder, run, "condition")
    model = cast("Base", trained["model"])
    identity = dataclasses.asdict(factors.identity)
    info = {"can_fold_in": factors.can_fold_in, "factors": identity}
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
    end = last_mean(losses, "loss") + leak(factors)
    return f"{len(pairs.item_rows)} pairs of users and liked items; {end}"


def training_pairs(run: Run, latents: LatentStore) -> Pairs:
    """Return the pairs, each with the user's factor folded in without that pair.

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
    return Pairs(user_idx=user_idx[allowed], item_rows=item_rows[allowed], factors=factors[allowed])


def _given(run: Run, num_frames: int) -> NDArray[np.float32]:
    """Return the latents of every item's first frames, to go on from, (I, D + 1, f, h, w)."""
    media = MediaStore.open(run.path("media"))
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    parts = []
    for start in tqdm(range(0, len(media), CLIPS_AT_ONCE), desc="first frames", disable=None):
        rows = np.arange(start, min(start + CLIPS_AT_ONCE, len(media)))
        with torch.no_grad():
            given = given_latents(autoencoder, torch.from_numpy(media.read(rows)), num_frames)
        parts.append(given.numpy())
    return np.concatenate(parts)


def _left_open(latents: LatentStore, given: NDArray[np.float32], pairs: Pairs) -> torch.Tensor:
    """Return how much given frames leave open of the clips that are learned from."""
    rows = np.unique(pairs.item_rows)
    return left_open(torch.from_numpy(latents.z[rows]), torch.from_numpy(given[rows]))


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
            conditioner = models["conditioner"]
            factors_of = chosen.to(next(conditioner.parameters()).device)
            with torch.no_grad():
                cond = conditioner(
                    factors_of if isinstance(conditioner, Source) else {USER: factors_of}
                )
        drawn = base.sample(cond, seeds=seeds, sampler=GRID_SAMPLER)
        made = autoencoder.decode(drawn.x_0.cpu(), seeds=seeds, sampler=GRID_SAMPLER)
        return tile(film(to_uint8(made.numpy())), columns=GRID, scale=2)

    return draw
