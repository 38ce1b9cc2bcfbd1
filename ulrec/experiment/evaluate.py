"""Judge a run: the latents, the generated media, and the recommendations, against controls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ulrec import __version__
from ulrec.checkpoint import new_artefact, open_artefact, write_text
from ulrec.config import digest
from ulrec.data.interactions import Interactions
from ulrec.data.media import MediaStore
from ulrec.data.schema import (
    ARM,
    HELDOUT,
    HIGH,
    ITEM_ID,
    LOW,
    MEAN,
    SPLIT,
    TRAIN,
    USER_ID,
)
from ulrec.data.simulate import SimulatedWorld
from ulrec.evaluation.copying import copy_rate
from ulrec.evaluation.fidelity import (
    foreground_psnr,
    frechet_distance,
    frechet_name,
    kid,
    kid_name,
    psnr,
)
from ulrec.evaluation.personalization import (
    Generated,
    Lift,
    Taste,
    control_lift,
    heldout_lift,
    history_lift,
    lift_table,
    shuffled_lift,
)
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.evaluation.rate import downsampling_psnr
from ulrec.evaluation.statistics import bootstrap_mean
from ulrec.evaluation.utility import utility_comparison
from ulrec.experiment.features import picture_batches
from ulrec.experiment.generate import ARMS, USER_ARM
from ulrec.experiment.prepare import read_split
from ulrec.experiment.runner import Run
from ulrec.experiment.train import load_prior
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.models.measure import gain_of_z, latent_nats
from ulrec.pipeline import Pipeline, load_autoencoder, load_items

__all__ = ["Results", "evaluate"]

MIN_ROWS = 10
CONTROLS = tuple(arm for arm in ARMS if arm != USER_ARM)

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What evaluation finds: ``headline`` figures, and ``tables`` by key with title and note."""

    simulated: bool
    protocol: dict[str, Any]
    headline: list[dict[str, str]]
    tables: dict[str, dict[str, Any]]


def evaluate(run: Run) -> str:
    """Compute all metrics; writes ``metrics.json`` and the artefact ``evaluation``."""
    judge = _Judge.of(run)
    tables: dict[str, dict[str, Any]] = {}
    headline: list[dict[str, str]] = []
    for part in (_latents, _samples, _personal, _utility, _ranking):
        part(judge, tables, headline)
    results = Results(
        simulated=judge.world is not None,
        protocol=dataclasses.asdict(judge.protocol),
        headline=headline,
        tables=tables,
    )
    text = json.dumps(_plain(dataclasses.asdict(results)), indent=1, allow_nan=False)
    write_text(run.path("metrics.json"), text)
    made_from = {name: run.fingerprint(name) for name in ("features", "recommendations")}
    with new_artefact(run.path("evaluation"), kind="evaluation", made_from=made_from) as folder:
        (folder / "metrics.json").write_text(text)
    return "; ".join(f"{figure['name']} {figure['value']}" for figure in headline[:4])


@dataclass(frozen=True, kw_only=True)
class _Judge:
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
    def of(cls, run: Run) -> _Judge:
        media = MediaStore.open(run.path("media"))
        items = load_items(run.path("items"))
        info = open_artefact(run.path("features"), kind="features").info
        generated = run.path("generated")
        config = run.config.generate
        folder = run.path("features")
        names = ("catalogue", "generated", "reconstructed", "reconstructed_media")
        samples = pl.read_parquet(generated / "samples.parquet")
        simulated = open_artefact(run.path("interactions"), kind="interactions").info["simulated"]
        return cls(
            run=run,
            pipeline=Pipeline.load(run.folder),
            media=media,
            samples=samples,
            latents=np.load(generated / "latents.npy"),
            features={name: np.load(folder / f"{name}.npy") for name in names},
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
                sampler=config.sampler.name,
                steps=config.sampler.num_steps,
                guidance=config.guidance,
            ),
        )

    @property
    def seed(self) -> int:
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


def _latents(judge: _Judge, tables: dict[str, Any], headline: list[dict[str, str]]) -> None:
    """Rate and distortion of held-out pictures, beside a baseline at equal bits."""
    run, rows = judge.run, judge.heldout
    config = run.config.evaluate
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    x = torch.from_numpy(judge.media.read(rows))
    with torch.no_grad():
        z = autoencoder.encode(x)
    nats = latent_nats(load_prior(run), z, num_levels=config.num_levels, seed=judge.seed).numpy()
    pixels = int(np.prod(autoencoder.config.media_shape[1:]))
    bits = judge.mean(nats / np.log(2) / pixels)
    gain = gain_of_z(autoencoder, x, z, num_levels=config.num_levels, seed=judge.seed).numpy()
    real = np.asarray(judge.media.media[rows])
    made = judge.features["reconstructed_media"].astype(np.uint8)
    baseline = downsampling_psnr(real, bits_per_pixel=bits[MEAN]) if bits[MEAN] > 0.2 else None
    rows_out = [
        {"metric": "bits/pixel (upper bound, L_z)", **bits},
        {"metric": "PSNR, dB (one decoder sample)", **judge.mean(psnr(real, made, data_range=255))},
        {"metric": "gain of z, nats (wrong latent - own)", **judge.mean(gain)},
    ]
    note = f"{len(rows)} held-out pictures, {config.reconstruction.num_steps} decoder steps"
    if judge.media.masks is not None:
        masks = np.asarray(judge.media.masks[rows]) > 127
        rows_out.append({"metric": "foreground PSNR, dB", **_foreground(judge, real, made, masks)})
    if baseline is not None:
        rows_out.append(
            {"metric": "downsampling at equal bits: PSNR, dB", **judge.mean(baseline.psnr)}
        )
        size = f"{baseline.size[0]}x{baseline.size[1]}, {baseline.bits_per_value} bits a value"
        note += f"; the baseline keeps {size}, {baseline.bits_per_pixel:.2f} bits/pixel"
        if judge.media.masks is not None:
            cells = _foreground(judge, real, baseline.reconstructions, masks)
            rows_out.append({"metric": "downsampling at equal bits: foreground PSNR, dB", **cells})
    tables["latents"] = {"title": "Latents: rate and distortion", "note": note, "rows": rows_out}
    headline.append(_figure("PSNR", rows_out[1], "dB, held-out pictures"))
    headline.append(_figure("bits/pixel", rows_out[0], "upper bound"))


def _foreground(
    judge: _Judge, real: NDArray[np.uint8], made: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> dict[str, Any]:
    kept = masks.any(axis=(1, 2, 3))
    return judge.mean(foreground_psnr(real[kept], made[kept], masks[kept], data_range=255))


def _samples(judge: _Judge, tables: dict[str, Any], headline: list[dict[str, str]]) -> None:
    """Fidelity of reconstructions and samples, beside real held-out pictures and noise."""
    catalogue, generated = judge.features["catalogue"], judge.features["generated"]
    train, heldout = catalogue[judge.train], catalogue[judge.heldout]
    noise = np.random.default_rng(judge.seed).integers(
        0, 256, (len(heldout), *judge.media.media.shape[1:]), dtype=np.uint8
    )
    sets = {
        "real held-out": heldout,
        "reconstructed held-out": judge.features["reconstructed"],
        **{f"generated ({arm})": generated[judge.arm(arm)] for arm in ARMS},
        "noise": extract_features(EffLite0(), picture_batches(noise)),
    }
    name = str(judge.protocol.backbone)
    rows = []
    for label, found in sets.items():
        size = min(100, len(found), len(train))
        distance = kid(found, train, subset_size=size, num_subsets=50, seed=judge.seed)
        rows.append(
            {
                "set": label,
                "n": len(found),
                kid_name(name): distance.full,
                LOW: distance.low,
                HIGH: distance.high,
                frechet_name(name): frechet_distance(found, train).distance,
            }
        )
    copied = copy_rate(
        generated[judge.arm(USER_ARM)],
        catalogue=train,
        heldout=heldout,
        quantile=judge.run.config.evaluate.copy_quantile,
    )
    note = (
        f"Against the {len(train)} training pictures in {name} features; intervals over subsets "
        f"of 100 for {kid_name(name)}. {frechet_name(name)} is far from its limit at such numbers: "
        f"read {kid_name(name)}."
    )
    copying = (
        f"A picture counts as copied when it lies nearer to a training picture, relative to its "
        f"next 50, than all but {copied.quantile:.1%} of real held-out pictures do. "
        f"{copied.warning or ''}"
    )
    tables["fidelity"] = {"title": "Fidelity", "note": note, "rows": rows}
    tables["copying"] = {
        "title": "Copying",
        "note": copying,
        "rows": [
            {
                "metric": "copy rate",
                MEAN: copied.rate.mean,
                LOW: copied.rate.low,
                HIGH: copied.rate.high,
                "n": copied.num_generated,
                "tau": copied.tau,
                "quantile": copied.quantile,
            }
        ],
    }


def _personal(judge: _Judge, tables: dict[str, Any], headline: list[dict[str, str]]) -> None:
    """Lifts: whether a picture made for a user is more like what that user liked."""
    arms = {
        arm: Generated(
            features=judge.features["generated"][judge.arm(arm)], user_idx=judge.sample_users(arm)
        )
        for arm in ARMS
    }
    own = arms[USER_ARM]
    users = np.unique(own.user_idx if own.user_idx is not None else [])
    settings = {
        "seed": judge.seed,
        "num_resamples": judge.run.config.evaluate.num_resamples,
        "num_permutations": judge.run.config.evaluate.num_permutations,
    }
    later = _taste(judge, _part(judge, "test"), users)
    before = _taste(judge, judge.pipeline.interactions, users)
    lifts: list[Lift] = [
        heldout_lift(own, later, **settings),
        *(control_lift(own, arms[arm], later, arm=arm, **settings) for arm in CONTROLS),
        dataclasses.replace(shuffled_lift(own, later, **settings), arm="all shuffles"),
        history_lift(own, before, **settings),
    ]
    tables["lifts"] = {
        "title": "Personalization: lifts of similarity to what the user liked",
        "note": (
            "Cosine of efflite0 features. heldout_lift compares with what the user liked later, "
            "against what others liked later; control_lift compares with pictures made for others "
            "(one shuffle of the users' conditions, and the mean over all shuffles of pictures); "
            "history_lift rewards copying and stands beside the copy rate. p by permutation, Holm "
            "over this table."
        ),
        "rows": lift_table(lifts).to_dicts(),
    }
    note = "cosine of efflite0 features, over what other users liked"
    headline.append(_figure("held-out lift", tables["lifts"]["rows"][0], note))


def _utility(judge: _Judge, tables: dict[str, Any], headline: list[dict[str, str]]) -> None:
    """Judge simulated users by the true utility of the nearest unseen item to each picture."""
    world = judge.world
    if world is None:
        return
    pipeline = judge.pipeline
    users = np.unique(judge.sample_users(USER_ARM))
    ids = pipeline.factors.users[users]
    truth = world.utility(
        world.user_ids.rows(ids)[:, None], world.item_ids.rows(judge.media.items.ids)
    )
    seen = np.asarray(pipeline.interactions.user_items[users].todense()) > 0
    utilities: dict[str, NDArray[Any]] = {
        arm: _nearest_utility(judge, arm, users, truth) for arm in ARMS
    }
    top = pipeline.recommend(ids, k=1, by="cf", seed=judge.seed)
    chosen = judge.media.items.rows(top[ITEM_ID].to_list())
    unseen = np.where(seen, np.nan, truth)
    utilities["CF's own top item"] = truth[np.arange(len(users)), chosen]
    utilities["random unseen item"] = np.nanmean(unseen, axis=1)
    utilities["oracle"] = np.nanmax(unseen, axis=1)
    table = utility_comparison(
        utilities,
        reference=USER_ARM,
        controls=list(CONTROLS),
        seed=judge.seed,
        num_resamples=judge.run.config.evaluate.num_resamples,
        num_permutations=judge.run.config.evaluate.num_permutations,
        alternative="greater",
    )
    rows = table.to_dicts()
    tables["utility"] = {
        "title": "Simulated users: true utility of the nearest unseen item to each picture",
        "note": (
            "Utility in standard deviations above the catalogue's mean, for users drawn by "
            "ulrec.data.simulate. Controls share seeds and guidance with the user's pictures. "
            "One-sided paired permutation tests, Holm over the four controls. gap_closed is the "
            "share of the way from null to oracle."
        ),
        "rows": rows,
    }
    own = next(row for row in rows if row[ARM] == USER_ARM)
    gap = {MEAN: own["gap_closed"], LOW: own["gap_low"], HIGH: own["gap_high"]}
    headline.append(_figure("gap closed", gap, "null to oracle, simulated users"))


def _nearest_utility(
    judge: _Judge, arm: str, users: Rows, truth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return per user the mean utility of the nearest unseen items of an arm's pictures (U,)."""
    pipeline = judge.pipeline
    sample_users = judge.sample_users(arm)
    seen = [pipeline.factors.items[pipeline.interactions.history(u)] for u in sample_users]
    near = pipeline.neighbours(judge.latents[judge.arm(arm)], k=1, exclude=seen)
    item_rows = judge.media.items.rows(near[ITEM_ID].to_list())
    place = np.searchsorted(users, sample_users)
    total = np.bincount(place, weights=truth[place, item_rows], minlength=len(users))
    return total / np.bincount(place, minlength=len(users))


def _ranking(judge: _Judge, tables: dict[str, Any], headline: list[dict[str, str]]) -> None:
    """Judge every method on held-out interactions, over the full catalogue."""
    table = pl.read_parquet(judge.run.path("recommendations") / "recommendations.parquet")
    drawn = judge.samples[USER_ID].unique().to_list()
    everyone = table[USER_ID].unique().to_list()
    definition = (
        "Full catalogue, seen items left out. ndcg is normalised by min(k, |T_u|); recall divides "
        "by |T_u|; intervals by bootstrap over users."
    )
    tables["ranking"] = {
        "title": "Ranking of held-out interactions",
        "note": f"The {len(drawn)} users that pictures were drawn for. {definition}",
        "rows": _ranking_rows(judge, table, drawn),
    }
    if len(everyone) > len(drawn):
        made = pl.col("method").str.starts_with("generate")
        tables["ranking_all"] = {
            "title": "Ranking of held-out interactions, all users",
            "note": f"All {len(everyone)} users with a history and held-out items. {definition}",
            "rows": _ranking_rows(judge, table.filter(~made), everyone),
        }


def _ranking_rows(judge: _Judge, table: pl.DataFrame, users: list[Any]) -> list[dict[str, Any]]:
    truth = read_split(judge.run, "test").select(USER_ID, ITEM_ID)
    truth = truth.filter(pl.col(USER_ID).is_in(users))
    table = table.filter(pl.col(USER_ID).is_in(users))
    rows = []
    for method in table["method"].unique(maintain_order=True).to_list():
        result = evaluate_ranking(
            table.filter(pl.col("method") == method).drop("method"),
            truth,
            ks=(10, 20),
            metrics=("hit_rate", "recall", "ndcg", "mrr"),
            seed=judge.seed,
            num_resamples=judge.run.config.evaluate.num_resamples,
        )
        rows += [{"method": method, **row} for row in result.summary.to_dicts()]
    return rows


def _taste(judge: _Judge, interactions: Interactions, users: Rows) -> Taste:
    user_idx, item_idx = interactions.pairs()
    wanted = np.isin(user_idx, users)
    item_rows = judge.media.items.rows(interactions.items[item_idx[wanted]])
    return Taste(
        features=judge.features["catalogue"], user_idx=user_idx[wanted], item_idx=item_rows
    )


def _part(judge: _Judge, part: str) -> Interactions:
    factors = judge.pipeline.factors
    return Interactions.from_table(
        read_split(judge.run, part), users=factors.users, items=factors.items
    )


def _figure(name: str, cells: Mapping[str, Any], note: str) -> dict[str, str]:
    value = f"{cells[MEAN]:.3g} [{cells[LOW]:.3g}, {cells[HIGH]:.3g}]"
    return {"name": name, "value": value, "note": note}


def _plain(value: Any) -> Any:
    """Return plain JSON data; what is not a number is null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
