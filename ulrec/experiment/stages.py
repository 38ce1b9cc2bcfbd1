"""The stages of a run in their order; the work is imported when a stage has to run."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulrec.experiment.runner import Run, Stage

if TYPE_CHECKING:
    from ulrec.experiment.config import RunConfig

__all__ = ["STAGES"]


def _lazily(module: str, function: str) -> Callable[[Run], str]:
    """Return a stage's work, whose module (torch, faiss, ...) is only imported when it runs."""

    def work(run: Run) -> str:
        return str(getattr(importlib.import_module(f"ulrec.experiment.{module}"), function)(run))

    return work


def _plain(*configs: Any) -> list[Any]:
    return [dataclasses.asdict(c) if dataclasses.is_dataclass(c) else c for c in configs]  # type: ignore[arg-type]


def _data_files(config: RunConfig) -> list[Path]:
    files = [Path(config.data.catalogue)]
    return files if config.data.interactions is None else [*files, Path(config.data.interactions)]


_ALL: tuple[Stage, ...] = (
    Stage(
        name="prepare",
        help="read catalogue and interactions, decode media, split; or draw simulated users",
        run=_lazily("prepare", "prepare"),
        settings=lambda config: _plain(config.data),
        outputs=("media", "items", "interactions"),
        files=_data_files,
    ),
    Stage(
        name="train-latents",
        help="stage 1 of Unified Latents: encoder, prior and decoder under one objective",
        run=_lazily("train", "train_latents"),
        settings=lambda config: _plain(config.latents),
        inputs=("media", "items"),
        outputs=("autoencoder", "prior"),
    ),
    Stage(
        name="encode",
        help="encode the catalogue into clean latents",
        run=_lazily("train", "encode"),
        settings=lambda config: [],
        inputs=("media", "autoencoder", "prior"),
        outputs=("latents",),
    ),
    Stage(
        name="fit-cf",
        help="fit collaborative filtering on the train interactions",
        run=_lazily("train", "fit_cf"),
        settings=lambda config: _plain(config.cf),
        inputs=("interactions", "media"),
        outputs=("recommender", "factors"),
    ),
    Stage(
        name="train-base",
        help="stage 2: the generator in latent space, unconditional first, then for users",
        run=_lazily("train", "train_base"),
        settings=lambda config: _plain(config.base, config.latents.model.prior.schedule_z),
        inputs=("latents", "items", "interactions", "recommender", "factors"),
        outputs=("base_unconditional", "base", "conditioner"),
    ),
    Stage(
        name="index",
        help="index the latents for search",
        run=_lazily("train", "build_index"),
        settings=lambda config: _plain(config.index),
        inputs=("latents",),
        outputs=("projection", "index"),
    ),
    Stage(
        name="generate",
        help="generate for users, and for the controls they have to beat",
        run=_lazily("generate", "generate"),
        settings=lambda config: _plain(config.generate),
        inputs=("interactions", "autoencoder", "factors", "base", "conditioner", "index"),
        outputs=("generated",),
    ),
    Stage(
        name="recommend",
        help="rank the catalogue by collaborative filtering and by what was generated",
        run=_lazily("generate", "recommend"),
        settings=lambda config: _plain(config.generate, config.cf),
        inputs=("generated", "recommender", "index", "interactions"),
        outputs=("recommendations",),
    ),
    Stage(
        name="features",
        help="extract efflite0 features of real and generated pictures",
        run=_lazily("features", "features"),
        settings=lambda config: _plain(config.evaluate.reconstruction),
        inputs=("media", "items", "generated", "autoencoder", "latents"),
        outputs=("features",),
    ),
    Stage(
        name="evaluate",
        help="metrics with intervals and controls: metrics.json",
        run=_lazily("evaluate", "evaluate"),
        settings=lambda config: _plain(config.evaluate),
        inputs=("features", "generated", "recommendations", "interactions", "prior", "index"),
        outputs=("evaluation",),
    ),
    Stage(
        name="report",
        help="picture sheets, plots and report.html",
        run=_lazily("present", "present"),
        settings=lambda config: _plain(config.evaluate),
        inputs=("evaluation", "generated", "recommendations", "media", "items"),
        outputs=("sheets",),
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
