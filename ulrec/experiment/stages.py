"""The stages of a run in their order; the work is imported when a stage has to run."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ulrec.checkpoint import MANIFEST
from ulrec.experiment.runner import Run, Stage

if TYPE_CHECKING:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.shards import Batches

__all__ = ["EXTRA_STAGES", "STAGES"]


def _lazily(module: str, function: str) -> Callable[[Run], str]:
    """Return a stage's work, whose module (torch, faiss, ...) is only imported when it runs."""

    def work(run: Run) -> str:
        return str(getattr(importlib.import_module(f"ulrec.experiment.{module}"), function)(run))

    return work


def _batches(module: str, function: str) -> Callable[[Run], Batches]:
    """Return a stage's work as batches, imported as late as the work itself."""

    def batches(run: Run) -> Batches:
        found = getattr(importlib.import_module(f"ulrec.experiment.{module}"), function)
        return cast("Batches", found(run))

    return batches


def _plain(*configs: Any) -> list[Any]:
    return [dataclasses.asdict(c) if dataclasses.is_dataclass(c) else c for c in configs]  # type: ignore[arg-type]


def _data_files(config: RunConfig) -> list[Path]:
    files = [Path(config.data.catalogue)]
    return files if config.data.interactions is None else [*files, Path(config.data.interactions)]


def _pretrained(name_in: Callable[[RunConfig], str | None]) -> Callable[[RunConfig], list[Path]]:
    """Return what lists the manifests of the pretrained model that a configuration names."""

    def files(config: RunConfig) -> list[Path]:
        name = name_in(config)
        if name is None:
            return []
        from ulrec.models.components import pretrained_folder

        return sorted(pretrained_folder(name).glob(f"*/{MANIFEST}"))

    return files


def _clip_files(config: RunConfig) -> list[Path]:
    """Return what identifies the CLIP model of a run, where that is a file."""
    from ulrec.features.open_clip import weight_files

    return weight_files(config.text.pretrained) if config.text.pretrained is not None else []


def _text_features(config: RunConfig) -> list[Path]:
    """Return what identifies the run's embeddings of texts, where the base listens to them."""
    folder = Path(config.folder) / config.name / "text_features"
    return [] if config.base.sources.text is None else [folder / MANIFEST]


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
        run=_lazily("train_latents", "train_latents"),
        settings=lambda config: _plain(dataclasses.replace(config.latents, collapse=None)),
        inputs=("media", "items"),
        outputs=("autoencoder", "prior"),
        files=_pretrained(lambda c: c.latents.pretrained or c.latents.start_from),
    ),
    Stage(
        name="encode",
        help="encode the catalogue into clean latents",
        run=_lazily("train_latents", "encode"),
        settings=lambda config: [],
        inputs=("media", "autoencoder", "prior"),
        outputs=("latents",),
        batches=_batches("train_latents", "encode_batches"),
    ),
    Stage(
        name="text-features",
        help="texts and pictures of items by a CLIP model, where text.pretrained is set",
        run=_lazily("text_features", "text_features"),
        settings=lambda config: _plain(config.text),
        inputs=("media", "items"),
        outputs=("text_features",),
        files=_clip_files,
        wanted=lambda config: config.text.pretrained is not None,
    ),
    Stage(
        name="train-base",
        help="stage 2: the generator in latent space, for nobody in particular",
        run=_lazily("train_base", "train_base"),
        settings=lambda config: _plain(
            config.base.pretrained,
            config.base.network,
            config.base.weighting,
            config.base.unconditional,
            config.latents.model.prior.schedule_z,
        ),
        inputs=("autoencoder", "latents", "items"),
        outputs=("base_unconditional",),
        files=_pretrained(lambda c: c.base.pretrained),
    ),
    Stage(
        name="fit-cf",
        help="fit collaborative filtering on the train interactions",
        run=_lazily("fit_cf", "fit_cf"),
        settings=lambda config: _plain(config.cf),
        inputs=("interactions", "media"),
        outputs=("recommender", "factors"),
        files=lambda config: config.cf.foreign.files if config.cf.model == "foreign" else (),
    ),
    Stage(
        name="condition",
        help="stage 2, users: the base learns what each of them likes",
        run=_lazily("train_base", "condition"),
        settings=lambda config: _plain(
            config.base.conditioner,
            config.base.conditional,
            config.base.conditional_weighting,
            *((config.base.sources,) if config.base.sources.named() else ()),
        ),
        inputs=("base_unconditional", "latents", "items", "interactions", "recommender", "factors"),
        outputs=("base", "conditioner"),
        files=_text_features,
    ),
    Stage(
        name="index",
        help="index the latents for search",
        run=_lazily("train_latents", "build_index"),
        settings=lambda config: _plain(config.index),
        inputs=("latents", "interactions"),
        outputs=("projection", "index"),
    ),
    Stage(
        name="generate",
        help="generate for users, and for the controls they have to beat",
        run=_lazily("generate", "generate"),
        settings=lambda config: _plain(config.generate),
        inputs=("items", "interactions", "autoencoder", "factors", "base", "conditioner", "index"),
        outputs=("generated",),
        batches=_batches("generate", "generate_batches"),
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
        optional=("curve",),
    ),
)

_EXTRA: tuple[Stage, ...] = (
    Stage(
        name="curve",
        help="what guidance buys, on validation users: choose it here (not part of run)",
        run=_lazily("curve", "curve"),
        settings=lambda config: _plain(config.curve, config.generate, config.evaluate),
        inputs=(
            "media",
            "items",
            "interactions",
            "autoencoder",
            "factors",
            "base",
            "conditioner",
            "index",
        ),
        outputs=("curve",),
    ),
    Stage(
        name="prior-samples",
        help="what the stage-1 prior draws without a second stage (not part of run)",
        run=_lazily("prior_samples", "prior_samples"),
        settings=lambda config: _plain(config.prior_samples),
        inputs=("media", "items", "autoencoder", "prior"),
        outputs=("prior_samples",),
    ),
    Stage(
        name="fit-hybrid",
        help="weigh the ways to recommend on validation interactions (not part of run)",
        run=_lazily("fit_hybrid", "fit_hybrid"),
        settings=lambda config: _plain(config.hybrid, config.generate),
        inputs=(
            "interactions",
            "recommender",
            "factors",
            "latents",
            "base",
            "conditioner",
            "index",
        ),
        outputs=("hybrid",),
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ALL}
"""What ``ulrec run`` runs, in order."""

EXTRA_STAGES: dict[str, Stage] = {stage.name: stage for stage in _EXTRA}
"""What runs only when it is asked for, on a finished run."""
