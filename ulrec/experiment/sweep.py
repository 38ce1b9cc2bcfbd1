"""Stage 1 at several prices of its bits, over seeds: what rate buys, beside codecs."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ulrec.checkpoint import write_text
from ulrec.config import digest, to_mapping
from ulrec.data.media import MediaStore, to_uint8
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.fidelity import frechet_distance, kid, psnr
from ulrec.evaluation.protocol import METRIC_VERSION
from ulrec.evaluation.rate_curve import BITS, PSNR, rate_baselines, rate_png
from ulrec.experiment.config import RunConfig
from ulrec.experiment.features import picture_batches, reconstruct_heldout
from ulrec.experiment.prepare import train_rows
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.models.measure import gain_of_z, latent_nats
from ulrec.models.rarity import load_prior
from ulrec.pipeline import decoder_seeds, load_autoencoder, load_base

__all__ = ["BIAS", "LOSS_FACTOR", "SweepConfig", "sweep"]

logger = logging.getLogger(__name__)

LOSS_FACTOR, BIAS, SEED = "c_lf", "b_x", "seed"
JUDGED = "heldout"
AT_ONCE = 64
RATES = 8
"""Of the baselines' lines in the plot, beside the points' own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepConfig:
    """What is swept.

    Attributes
    ----------
    loss_factors, biases
        c_lf and b_x of the points, each with each.
    seeds
        Of the training, a run each.
    samples
        Pictures that a base of each run draws for gFD; 0 trains no base.
    """

    loss_factors: tuple[float, ...]
    biases: tuple[float, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    samples: int = 0

    def __post_init__(self) -> None:
        for name in ("loss_factors", "biases", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name} have to be numbers, each once, got {values}")
        if self.samples == 1 or self.samples < 0:
            raise ConfigError(f"samples have to be 0 (no base) or at least 2, got {self.samples}")


def sweep(config: RunConfig, swept: SweepConfig, out: Path, *, beside: Sequence[Path] = ()) -> str:
    """Train and judge every point; writes points.json, table.json, table.txt and sweep.png.

    What is found of a (point, seed) is kept in ``out``/points and not found again; a training that
    was broken off goes on where it stopped.

    Parameters
    ----------
    config
        Of every run, but for c_lf, b_x and the seed.
    swept
        The points.
    out
        Folder of the runs and of what is found.
    beside
        Folders of other sweeps over the same media, such as that of the MSE decoder: drawn in the
        same plot, and their PSNR at the points' bits, between their own, told in the table.

    Returns
    -------
    str
        The table over seeds, and notes.

    Raises
    ------
    ConfigError
        If the configuration takes its latents over instead of training them, or two folders beside
        have one name.
    DataError
        If a folder beside holds no sweep, or one over other pictures.
    """
    if config.latents.pretrained is not None:
        raise ConfigError(
            f"a sweep trains stage 1, the configuration takes '{config.latents.pretrained}' as it "
            "is; set latents.pretrained to null"
        )
    points = list(itertools.product(swept.loss_factors, swept.biases, swept.seeds))
    runs = [_run_of(config, out, *point) for point in points]
    others = _read_beside(beside, runs[0]) if beside else {}
    paths = [_kept_in(out, run.config, swept.samples) for run in runs]
    left = [n for n, path in enumerate(paths) if not path.is_file()]
    with tqdm(total=len(left), desc="sweep", unit="point", disable=None) as bar:
        for n in left:
            found = _measure(runs[n], swept.samples)
            named = dict(zip((LOSS_FACTOR, BIAS, SEED), points[n], strict=True))
            write_text(paths[n], json.dumps({**named, **found}, indent=1))
            bar.update(1)
    rows = pl.DataFrame([json.loads(path.read_text()) for path in paths])
    return _present(rows, runs[0], out, others)


def _read_beside(folders: Sequence[Path], run: Run) -> dict[str, pl.DataFrame]:
    """Return the points of other sweeps over the pictures that a run is judged by."""
    _run_stages(run, ["prepare"])
    heldout = _identity(_pictures(run)[0])
    found: dict[str, pl.DataFrame] = {}
    for folder in folders:
        path, name = folder / "points.json", folder.resolve().name
        if not path.is_file():
            raise DataError(
                f"expected the points of another sweep, there is no {path}; make it first"
            )
        if name in found:
            raise ConfigError(f"sweeps beside are told by their folders' names, got {name} twice")
        rows = json.loads(path.read_text())
        if {row.get(JUDGED) for row in rows} != {heldout}:
            raise DataError(
                f"expected a sweep over the same held-out pictures, that of {folder} is over "
                "others (or older than this version): sweep the same catalogue at the same size; "
                "a sweep run again trains no point anew"
            )
        found[name] = pl.DataFrame(rows)
    return found


def _run_of(config: RunConfig, out: Path, loss_factor: float, bias: float, seed: int) -> Run:
    """Return the run of a point, with its artefacts in ``out``/runs."""
    autoencoder = dataclasses.replace(
        config.latents.model.autoencoder, loss_factor=loss_factor, bias_x=bias
    )
    model = dataclasses.replace(config.latents.model, autoencoder=autoencoder)
    return Run(
        config=dataclasses.replace(
            config,
            name=f"c{loss_factor:g}_b{bias:g}_seed{seed}",
            folder=str(out / "runs"),
            seed=seed,
            latents=dataclasses.replace(config.latents, model=model),
            base=dataclasses.replace(config.base, pretrained=None),
        )
    )


def _run_stages(run: Run, names: Sequence[str]) -> None:
    stages = [STAGES[name] for name in names]
    run_stages(run, stages, report=lambda result: logger.info("%s: %s", run.folder, result.summary))


def _kept_in(out: Path, config: RunConfig, samples: int) -> Path:
    """Return where what is found of a run is kept: by all that it depends on."""
    parts: list[Any] = [to_mapping(part) for part in (config.data, config.latents, config.evaluate)]
    if samples:
        parts += [samples, *(to_mapping(part) for part in (config.base, config.generate))]
    key = digest([METRIC_VERSION, EffLite0().weight_hash, config.seed, *parts])
    return out / "points" / f"{key}.json"


def _measure(run: Run, samples: int) -> dict[str, float]:
    """Train what a point takes and judge it on the held-out pictures."""
    names = ["prepare", "train-latents", "encode", *(["train-base"] if samples else [])]
    _run_stages(run, names)
    media = MediaStore.open(run.path("media"))
    train = train_rows(run, media.items)
    heldout = np.setdiff1d(np.arange(len(media)), train)
    real, made = np.asarray(media.media[heldout]), reconstruct_heldout(run, media)
    found = {**_rate(run, media, heldout), PSNR: float(psnr(real, made, data_range=255).mean())}
    remade, wanted = _features(made), _features(real)
    found["rFD-efflite0"] = frechet_distance(remade, wanted).distance
    found["KID-efflite0"] = _kid(remade, wanted, run.config.seed)
    if samples:
        drawn, wanted = _features(_sampled(run, samples)), _features(media.media[train])
        found["gFD-efflite0"] = frechet_distance(drawn, wanted).distance
        found["gKID-efflite0"] = _kid(drawn, wanted, run.config.seed)
    return {**found, "n": len(heldout)}


def _rate(run: Run, media: MediaStore, rows: NDArray[np.int64]) -> dict[str, float]:
    """Return bits/pixel, and the gain of z in nats by which one sees that the latent is alive."""
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    settings = {"num_levels": run.config.evaluate.num_levels, "seed": run.config.seed}
    nats, gain = [], []
    # The gain takes two pictures at least, so that none is left over alone.
    for part in np.array_split(rows, max(1, len(rows) // AT_ONCE)):
        x = torch.from_numpy(media.read(part))
        with torch.no_grad():
            z = autoencoder.encode(x)
        nats.append(latent_nats(load_prior(run.path("prior")), z, **settings))
        gain.append(gain_of_z(autoencoder, x, z, **settings))
    pixels = int(np.prod(autoencoder.config.media_shape[1:]))
    bits = torch.cat(nats).mean().item() / np.log(2) / pixels
    return {BITS: float(bits), "gain of z": torch.cat(gain).mean().item()}


def _sampled(run: Run, num: int) -> NDArray[np.uint8]:
    """Return pictures of the run's base, drawn for nobody in particular."""
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    base, _ = load_base(run.path("base_unconditional"))
    config = run.config.generate
    parts = []
    for seeds in np.array_split(np.arange(num), -(-num // AT_ONCE)):
        z_0 = base.sample(seeds=seeds.tolist(), sampler=config.sampler).x_0
        x = autoencoder.decode(z_0, seeds=decoder_seeds(seeds), sampler=config.decoder)
        parts.append(to_uint8(x.numpy()))
    return np.concatenate(parts)


def _features(media: NDArray[np.uint8]) -> NDArray[np.float32]:
    return extract_features(EffLite0(), picture_batches(media))


def _kid(made: NDArray[np.float32], real: NDArray[np.float32], seed: int) -> float:
    size = min(len(made), len(real))
    return kid(made, real, subset_size=size, num_subsets=1, seed=seed).full


def _over_seeds(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the means over seeds, sorted by bits."""
    metrics = [c for c in rows.columns if c not in (LOSS_FACTOR, BIAS, SEED, JUDGED, "n")]
    return (
        rows.group_by(LOSS_FACTOR, BIAS)
        .agg(
            pl.len().alias("seeds"),
            *(pl.col(metric).mean() for metric in metrics),
            *(pl.col(metric).std().alias(f"{metric} sd") for metric in (BITS, PSNR)),
        )
        .sort(BITS)
    )


def _at_equal_bits(over_seeds: pl.DataFrame, other: pl.DataFrame) -> list[float | None]:
    """Return the PSNR of another sweep at the points' bits; none where it has no such rates."""
    there = _over_seeds(other)
    bits, psnrs = there[BITS].to_numpy(), there[PSNR].to_numpy()
    found = np.interp(over_seeds[BITS].to_numpy(), bits, psnrs, left=np.nan, right=np.nan)
    return [None if np.isnan(value) else value for value in found.tolist()]


def _present(rows: pl.DataFrame, run: Run, out: Path, beside: dict[str, pl.DataFrame]) -> str:
    """Write the points, the table over seeds and the plot; return the table and notes."""
    over_seeds = _over_seeds(rows)
    heldout, train = _pictures(run)
    for name, other in beside.items():
        equal = pl.Series(f"PSNR of {name}", _at_equal_bits(over_seeds, other), pl.Float64)
        over_seeds = over_seeds.with_columns(equal)
    rates = over_seeds[BITS].to_list()
    line = np.geomspace(min(rates), 4 * max(rates), RATES).tolist()
    others, missing = rate_baselines(heldout, train, [*rates, *line])
    for method in others["method"].unique(maintain_order=True):
        part = others.filter(pl.col("method") == method).unique("at")
        named = part.select(pl.col("at").alias(BITS), pl.col(PSNR).alias(f"PSNR of {method}"))
        over_seeds = over_seeds.join(named, on=BITS, how="left", maintain_order="left")
    notes = [
        f"{rows['n'][0]} held-out pictures; means over {rows[SEED].n_unique()} seeds; baselines at "
        "no more bits than the point's, files with their headers.",
        *_lacking([row for row in missing if row[1] in rates]),
    ]
    text = "\n".join([text_table(over_seeds), *notes])
    judged = rows.with_columns(pl.lit(_identity(heldout)).alias(JUDGED))
    write_text(out / "points.json", json.dumps(judged.to_dicts(), indent=1))
    write_text(out / "table.json", json.dumps(over_seeds.to_dicts(), indent=1))
    write_text(out / "table.txt", text + "\n")
    shown = rows.drop(SEED, "n")
    also = {name: points.drop(SEED, "n", JUDGED) for name, points in beside.items()}
    plot = rate_png(shown, others, series=BIAS, label=LOSS_FACTOR, beside=also)
    (out / "sweep.png").write_bytes(plot)
    return text


def _lacking(missing: list[tuple[str, float, str]]) -> list[str]:
    """Return a note for each method that has no baseline at some rates: why not at the highest."""
    notes = []
    for method in dict.fromkeys(method for method, _, _ in missing):
        found = sorted({(rate, reason) for name, rate, reason in missing if name == method})
        notes.append(f"{method} at {', '.join(f'{rate:.3g}' for rate, _ in found)}: {found[-1][1]}")
    return notes


def _pictures(run: Run) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the held-out and the train pictures of a run."""
    media = MediaStore.open(run.path("media"))
    train = train_rows(run, media.items)
    heldout = np.setdiff1d(np.arange(len(media)), train)
    return np.asarray(media.media[heldout]), np.asarray(media.media[train])


def _identity(media: NDArray[np.uint8]) -> str:
    return hashlib.sha256(media.tobytes()).hexdigest()[:16]
