"""What the parts of an evaluation look at, and the shape in which they say what they found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec import __version__
from ulrec.checkpoint import open_artefact
from ulrec.config import digest
from ulrec.data.ids import Ids
from ulrec.data.media import MediaStore
from ulrec.data.schema import ARM, HELDOUT, HIGH, ITEM_ID, LOW, MEAN, SPLIT, TRAIN, USER_ID, VALUE
from ulrec.data.simulate import SimulatedWorld
from ulrec.diffusion.sampler import SamplerConfig
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.statistics import bootstrap_mean
from ulrec.experiment.generate import USER_ARM
from ulrec.experiment.runner import Run
from ulrec.pipeline import Pipeline, load_items

__all__ = ["Headline", "Judge", "Rows", "Tables", "figure", "user_values"]

Rows: TypeAlias = NDArray[np.int64]
Tables: TypeAlias = dict[str, dict[str, Any]]
"""By name: "title", "note", "rows" and, where there are such, "per_user" values for comparisons."""
Headline: TypeAlias = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """All that the parts of the evaluation look at."""

    run: Run
    pipeline: Pipeline
    media: MediaStore
    samples: pl.DataFrame
    latents: NDArray[np.float32]
    features: Mapping[str, NDArray[np.float32]]
    heldout: Rows
    train: Rows
    world: SimulatedWorld | None
    protocol: Protocol

    @classmethod
    def of(cls, run: Run) -> Judge:
        """Load all that is judged of a run."""
        media = MediaStore.open(run.path("media"))
        items = load_items(run.path("items"))
        info = open_artefact(run.path("features"), kind="features").info
        generated = run.path("generated")
        config = run.config.generate
        folder = run.path("features")
        samples = pl.read_parquet(generated / "samples.parquet")
        pipeline = Pipeline.load(run.folder)
        simulated = open_artefact(run.path("interactions"), kind="interactions").info["simulated"]
        return cls(
            run=run,
            pipeline=pipeline,
            media=media,
            samples=samples,
            latents=np.load(generated / "latents.npy"),
            features={path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))},
            heldout=media.items.rows(items.filter(pl.col(SPLIT) == HELDOUT)[ITEM_ID].to_list()),
            train=media.items.rows(items.filter(pl.col(SPLIT) == TRAIN)[ITEM_ID].to_list()),
            world=SimulatedWorld.load(run.path("simulation")) if simulated else None,
            protocol=Protocol(
                data_fingerprint=run.fingerprint("interactions"),
                config_hash=digest(run.config),
                code_version=__version__,
                seed=run.config.seed,
                n=samples.filter(pl.col(ARM) == USER_ARM).height,
                backbone=info["backbone"],
                weight_hash=info["weight_hash"],
                resize=info["resize"],
                dtype="float32",
                sampler=_named(config.sampler),
                steps=config.sampler.num_steps,
                guidance=config.guidance,
                can_fold_in=pipeline.factors.can_fold_in,
            ),
        )

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.config.seed

    def arm(self, name: str) -> NDArray[np.bool_]:
        """Return which samples belong to an arm."""
        return (self.samples[ARM] == name).to_numpy()

    def sample_users(self, name: str) -> Rows:
        """Return the user row of each sample of an arm."""
        ids = self.samples.filter(pl.col(ARM) == name)[USER_ID].to_list()
        return self.pipeline.factors.users.rows(ids)

    def mean(self, values: NDArray[Any]) -> dict[str, Any]:
        """Return mean and interval of per-sample values as table cells."""
        interval = bootstrap_mean(
            values, seed=self.seed, num_resamples=self.run.config.evaluate.num_resamples
        )
        return {MEAN: interval.mean, LOW: interval.low, HIGH: interval.high, "n": len(values)}


def user_values(ids: Ids, values: NDArray[Any], **keys: str) -> pl.DataFrame:
    """Return values per user with the columns that say which figure they belong to."""
    frame = pl.DataFrame({USER_ID: ids, VALUE: np.asarray(values, np.float64)})
    return frame.select(USER_ID, *(pl.lit(text).alias(name) for name, text in keys.items()), VALUE)


def figure(name: str, cells: Mapping[str, Any], note: str) -> dict[str, str]:
    """Return a figure of the headline from table cells with mean and interval."""
    value = f"{cells[MEAN]:.3g} [{cells[LOW]:.3g}, {cells[HIGH]:.3g}]"
    return {"name": name, "value": value, "note": note}


def _named(sampler: SamplerConfig) -> str:
    """Return the method and, where they are not as usual, what its steps are like."""
    parts: list[str] = [sampler.name]
    if math.isfinite(sampler.guidance_until):
        parts.append(f"guidance up to logsnr {sampler.guidance_until:g}")
    if sampler.guidance_rescale:
        parts.append(f"rescaled by {sampler.guidance_rescale:g}")
    if math.isfinite(sampler.noise_until):
        parts.append(f"noise up to logsnr {sampler.noise_until:g}")
    if sampler.motion != 1:
        parts.append(f"{sampler.motion:g} times the motion")
    if sampler.levels is not None:
        parts.append(f"at logsnr {', '.join(f'{level:g}' for level in sampler.levels)}")
    return ", ".join(parts)
