"""Unified Latents, a KL-VAE with latent diffusion, and pixels: one backbone, equal training.

    python examples/benchmarks/generative.py --data cifar10 --steps 20000 --seeds 0 1 2

Trains every variant on CIFAR-10 by class for the same number of training FLOPs (three forward
passes a sample, convolutions included, as `ulrec describe` counts them) and judges its samples:
gFD-efflite0 and KID-efflite0 against the train pictures, and the classification accuracy score
where it is told classes. ``--data`` is a folder with train.parquet and test.parquet: label, jpeg.
The networks, optimisers and batch sizes are those of a run's configuration (latents.model,
latents.fit, base.network, base.weighting, base.unconditional), as are the samplers (generate). A
finished (variant, seed) is kept in ``--out`` and not run again; a broken off one goes on.
"""

import argparse
import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from ulrec.checkpoint import write_text
from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.config import digest, load_config, to_mapping
from ulrec.data.media import to_uint8
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.classification import choose_penalty, classification_accuracy_score
from ulrec.evaluation.fidelity import frechet_distance, kid, psnr
from ulrec.experiment.config import RunConfig
from ulrec.experiment.describe import TRAINING, count
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.models.base import Base, BaseConfig
from ulrec.models.baselines import kl_vae, pixel_base
from ulrec.models.measure import latent_nats
from ulrec.models.single_stage import SingleStage, SingleStageConfig
from ulrec.models.unified import Unified, UnifiedConfig
from ulrec.networks.transformer import Cond
from ulrec.pipeline import decoder_seeds
from ulrec.training.datamodule import AugmentConfig, media_source, pair_source
from ulrec.training.fit import FitConfig, fit
from ulrec.training.tasks import BaseTask, UnifiedTask

CLASSES = 10
AT_ONCE = 256
UL = "unified latents"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a variant trains: stage 1, a base, or both; and the FLOPs of a training sample each."""

    stage_one: UnifiedConfig | SingleStageConfig | None
    base: BaseConfig | None

    def costs(self) -> tuple[int, int, int]:
        """Return the training FLOPs of a sample in each stage, and those of encoding one."""
        first = encoding = second = 0
        with torch.device("meta"):
            if self.stage_one is not None:
                model = build(self.stage_one)
                shapes = model.config.autoencoder
                x, z = (torch.zeros(1, *s) for s in (shapes.media_shape, shapes.latent_shape))
                level = torch.zeros(1)
                told = cast("nn.Conv2d", model.autoencoder.decoder.from_z[0]).in_channels
                heard = z.new_zeros(1, told, *z.shape[2:])
                encoding = count("encoder", model.autoencoder.encoder, x).flops
                first = TRAINING * (
                    encoding
                    + count("prior", model.prior.network, z, level).flops
                    + count("decoder", model.autoencoder.decoder, x, level, heard).flops
                )
            if self.base is not None:
                z = torch.zeros(1, *self.base.latent_shape)
                tokens = UserConditionerConfig().num_tokens
                mask = torch.ones(1, tokens, dtype=torch.bool)
                cond = Cond(torch.zeros(1, tokens, cond_width(self.base)), mask)
                network = Base(self.base).network
                second = TRAINING * count("base", network, z, torch.zeros(1), cond).flops
        return first, second, encoding


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Media uint8 (N, 3, 1, 32, 32) with their classes (N,)."""

    media: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path, limit: int | None) -> "Pictures":
        """Read a table of labels and JPEG files."""
        table = pl.read_parquet(path).head(limit if limit is not None else 10**9)
        names = sorted(pl.read_parquet(path, columns=["label"])["label"].unique())
        media = np.stack(
            [np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in table["jpeg"]]
        )
        labels = np.array([names.index(label) for label in table["label"]])
        return cls(media=media.transpose(0, 3, 1, 2)[:, :, None], labels=labels)

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return media in [-1, 1]."""
        return self.media[rows].astype(np.float32) / np.float32(127.5) - 1


def build(config: UnifiedConfig | SingleStageConfig) -> Unified:
    """Return the model of a stage 1, or of the one stage."""
    return SingleStage(config) if isinstance(config, SingleStageConfig) else Unified(config)


def plans(config: RunConfig, options: argparse.Namespace) -> dict[str, Plan]:
    """Return what each variant trains."""
    unified = config.latents.model
    told = dataclasses.replace(config.base.network, cond_width=config.base.conditioner.width)
    latents = BaseConfig(
        latent_shape=unified.autoencoder.latent_shape,
        schedule_z=unified.prior.schedule_z,
        weighting=config.base.weighting,
        network=told,
    )
    vae = kl_vae(unified, loss_factor=options.kl_loss_factor)
    # One stage has the base's network for a prior.
    prior = dataclasses.replace(unified.prior, network=config.base.network)
    single = SingleStageConfig(
        unified=dataclasses.replace(unified, prior=prior), bias_z=config.base.weighting.bias
    )
    return {
        UL: Plan(stage_one=unified, base=latents),
        "KL-VAE": Plan(stage_one=vae, base=latents),
        "pixels": Plan(stage_one=None, base=pixel_base(latents, unified.autoencoder)),
        "stage-1 prior": Plan(stage_one=unified, base=None),
        "single stage": Plan(stage_one=single, base=None),
    }


def steps_of(
    plan: Plan,
    reference: Plan,
    fits: tuple[FitConfig, FitConfig],
    options: argparse.Namespace,
    *,
    num_train: int,
) -> tuple[int, int]:
    """Return the steps of both stages that the budget buys.

    Unified Latents make equal numbers of steps in both. Another variant of two stages spends what
    they spend on each, one of a single stage all of it there, and what encoding all pictures takes.
    """

    def per_step(one: Plan) -> list[int]:
        return [f.batch_size * cost for f, cost in zip(fits, one.costs(), strict=False)]

    shares = per_step(reference)
    budget = options.budget_flops or options.steps * sum(shares)
    budgets = [budget * share / sum(shares) for share in shares]
    if plan.stage_one is None or plan.base is None:
        budgets = 2 * [budget + num_train * reference.costs()[2]]
    steps = [
        round(b / cost) if cost else 0 for b, cost in zip(budgets, per_step(plan), strict=True)
    ]
    return steps[0], steps[1]


def train_stage_one(
    config: UnifiedConfig | SingleStageConfig,
    train: Pictures,
    folder: Path,
    settings: FitConfig,
    seed: int,
) -> Unified:
    """Train stage 1, or the one stage."""
    torch.manual_seed(seed)
    model = build(config)
    task = UnifiedTask(model, optimiser=settings.optimiser, num_steps=settings.num_steps, seed=seed)
    rows = np.arange(len(train.media))
    source = media_source(train.read_rows, rows, augment=AugmentConfig())
    trained = fit(
        task, source, num_samples=len(rows), config=settings, folder=folder, title=folder.name
    )
    return cast("Unified", trained["model"])


def cond_width(config: BaseConfig) -> int:
    """Return the width of the tokens that a base is told the class by."""
    width = config.network.cond_width
    if width is None:
        raise ValueError("a base that is told the class needs network.cond_width, got None")
    return width


def train_base(
    config: BaseConfig,
    z: NDArray[np.float32],
    labels: NDArray[np.int64],
    folder: Path,
    settings: FitConfig,
    seed: int,
) -> tuple[Base, UserConditioner]:
    """Train a base that is told the class: its factor is one of ten ones."""
    torch.manual_seed(seed + 1)
    told = UserConditionerConfig(num_factors=CLASSES, width=cond_width(config))
    classes = UserConditioner(told)
    task = BaseTask(
        Base(config),
        classes,
        optimiser=settings.optimiser,
        num_steps=settings.num_steps,
        seed=seed + 1,
    )
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
    source = pair_source(z, np.arange(len(z)), one_hot)
    trained = fit(
        task, source, num_samples=len(z), config=settings, folder=folder, title=folder.name
    )
    return cast("Base", trained["model"]), cast("UserConditioner", trained["conditioner"])


@torch.no_grad()
def encoded(model: Unified, pictures: Pictures) -> NDArray[np.float32]:
    """Return z_clean of all pictures, (N, D, 1, h, w)."""
    rows = np.array_split(np.arange(len(pictures.media)), -(-len(pictures.media) // AT_ONCE))
    parts = [model.autoencoder.encode(torch.from_numpy(pictures.read_rows(r))) for r in rows]
    return torch.cat(parts).numpy()


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How samples are drawn: their number, the samplers, guidance."""

    num: int
    sampler: SamplerConfig
    decoder: SamplerConfig
    guidance: float

    @torch.no_grad()
    def __call__(
        self, model: Unified | None, base: tuple[Base, UserConditioner] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return samples (N, 3, 32, 32) and the classes they were asked for."""
        labels, parts = np.arange(self.num) % CLASSES, []
        batches = np.array_split(np.arange(self.num), -(-self.num // AT_ONCE))
        for rows in tqdm(batches, desc="samples", unit="batch", disable=None):
            seeds = rows.tolist()
            if base is not None:
                z = base[0].sample(
                    base[1](torch.eye(CLASSES)[torch.from_numpy(labels[rows])]),
                    seeds=seeds,
                    null=base[1].null(len(rows)),
                    guidance=self.guidance,
                    sampler=self.sampler,
                )
            elif model is not None:
                shape = model.config.autoencoder.latent_shape
                z = model.prior.sample(shape, seeds=seeds, sampler=self.sampler)
            else:
                raise ValueError("samples are of a model or a base, got neither; give one of them")
            x = z.x_hat.clamp(-1, 1)
            if model is not None:
                x = decode(model, z.x_0, seeds, self.decoder)
            parts.append(to_uint8(x.numpy())[:, :, 0])
        return np.concatenate(parts), labels


def decode(model: Unified, z_0: Tensor, seeds: list[int], sampler: SamplerConfig) -> Tensor:
    """Return media of noisy latents, by seeds that the latents were not drawn with."""
    return model.autoencoder.decode(z_0, seeds=decoder_seeds(np.array(seeds)), sampler=sampler)


@torch.no_grad()
def reconstruction(model: Unified, test: Pictures) -> dict[str, float]:
    """Return bits/pixel and PSNR of some test pictures; no bits where the noise is drawn."""
    some = Pictures(media=test.media[:AT_ONCE], labels=test.labels[:AT_ONCE])
    seeds = list(range(len(some.media)))
    z = torch.from_numpy(encoded(model, some))
    noise = NoiseSource(seeds, z.shape[1:], device="cpu")()
    x = decode(model, model.autoencoder.noise(z, noise), seeds, SamplerConfig(num_steps=25))
    found = {"PSNR": float(psnr(some.media, to_uint8(x.numpy()), data_range=255).mean())}
    if model.config.autoencoder.encoder.variance == "fixed":
        nats = latent_nats(model.prior, z, num_levels=16, seed=0)
        found["bits/pixel"] = model.bits_per_pixel(nats).item()
    return found


def features_of(media: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return efflite0 features of pictures (N, 3, 32, 32)."""
    return extract_features(EffLite0(), np.array_split(media, -(-len(media) // AT_ONCE)))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Real pictures, that all variants learn from, and the features they are judged by.

    Of the train pictures only the first have features: as many as samples are compared with.
    """

    train: Pictures
    test: Pictures
    train_features: NDArray[np.float32]
    test_features: NDArray[np.float32]

    @classmethod
    def of(cls, train: Pictures, test: Pictures, folder: Path, *, num_reference: int) -> "Bench":
        """Extract the features, or read those that were extracted before."""
        found = []
        for media in (train.media[:num_reference], test.media):
            name = hashlib.sha256(media.tobytes()).hexdigest()[:16]
            path = folder / "features" / f"{name}.npy"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, features_of(media[:, :, 0]))
            found.append(np.load(path))
        return cls(train=train, test=test, train_features=found[0], test_features=found[1])

    def judge(
        self, features: NDArray[np.float32], labels: NDArray[np.int64] | None
    ) -> dict[str, float]:
        """Return distances to the train pictures and, of pictures with a class, CAS."""
        size, real = min(1000, len(features) // 2), slice(len(features))
        distance = kid(features, self.train_features, subset_size=size, num_subsets=20, seed=0)
        found = {
            "gFD-efflite0": frechet_distance(features, self.train_features).distance,
            "KID-efflite0": distance.full,
        }
        if labels is None:
            return found
        known = self.train_features[real], self.train.labels[real]
        penalty = choose_penalty(*known, np.arange(len(known[1])), num_classes=CLASSES, seed=0)
        score = classification_accuracy_score(
            (features, labels),
            known,
            (self.test_features, self.test.labels),
            num_classes=CLASSES,
            penalty=penalty,
        )
        return {**found, "CAS": score.score.mean, "CAS of real": score.reference.mean}


def measure(
    plan: Plan,
    fits: tuple[FitConfig, FitConfig],
    bench: Bench,
    draw: Draw,
    folder: Path,
    *,
    seed: int,
) -> dict[str, float]:
    """Train a variant and judge what it draws."""
    first, second, encoding = plan.costs()
    spent = 0
    found: dict[str, float] = {}
    model = base = None
    if plan.stage_one is not None:
        model = train_stage_one(plan.stage_one, bench.train, folder / "stage-1", fits[0], seed)
        spent += fits[0].num_steps * fits[0].batch_size * first
        found |= {"steps 1": fits[0].num_steps, **reconstruction(model, bench.test)}
    if plan.base is not None:
        rows = np.arange(len(bench.train.media))
        z = bench.train.read_rows(rows) if model is None else encoded(model, bench.train)
        base = train_base(plan.base, z, bench.train.labels, folder / "stage-2", fits[1], seed)
        spent += fits[1].num_steps * fits[1].batch_size * second + encoding * len(z)
        found |= {"steps 2": fits[1].num_steps}
    media, labels = draw(model, base)
    Image.fromarray(sheet(media)).save(folder / "samples.png")
    found |= bench.judge(features_of(media), None if base is None else labels)
    return {**found, "training FLOPs": float(spent)}


def kept(
    out: Path, key: str, named: dict[str, object], find: Callable[[Path], dict[str, float]]
) -> dict[str, object]:
    """Return the row of one training: what was found before, or what ``find`` finds; print it."""
    path, folder = out / "rows" / f"{key}.json", out / "training" / key
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**named, **find(folder)}))
    row: dict[str, object] = json.loads(path.read_text())
    print(json.dumps(row), flush=True)
    return row


def require_tables(parser: argparse.ArgumentParser, data: Path) -> None:
    """End with an error where there are no pictures."""
    for name in ("train", "test"):
        if not (data / f"{name}.parquet").is_file():
            parser.error(f"{data} has no {name}.parquet, a table of label and jpeg")


def sheet(media: NDArray[np.uint8], columns: int = 10) -> NDArray[np.uint8]:
    """Return the first hundred samples as one picture, a class a column."""
    shown = media[: columns * (min(len(media), 100) // columns)]
    rows = shown.reshape(-1, columns, *shown.shape[1:]).transpose(0, 3, 1, 4, 2)
    return rows.reshape(-1, columns * shown.shape[-1], 3)


def parsed() -> argparse.Namespace:
    """Return the options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/generative"))
    parser.add_argument("--config", type=Path, default=ROOT / "configs/emoji32.yaml")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="key.sub=value")
    parser.add_argument("--variants", nargs="+", help="all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, default=20_000, help="of each stage of UL")
    budget.add_argument("--budget-flops", type=float, help="of both stages, instead of steps")
    parser.add_argument("--kl-loss-factor", type=float, default=100.0)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=50_000, help="train pictures for gFD")
    parser.add_argument("--limit", type=int, help="pictures of each split, for a trial")
    options = parser.parse_args()
    require_tables(parser, options.data)
    if options.reference < options.samples:
        parser.error(
            f"samples are compared with as many train pictures, --reference {options.reference} "
            f"is less than --samples {options.samples}"
        )
    return options


def table_of(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Return means over seeds, with standard deviations of what is judged."""
    table = pl.DataFrame(rows, infer_schema_length=None)
    numbers = [c for c in table.columns if c not in ("variant", "seed")]
    judged = [c for c in numbers if c.startswith(("gFD", "KID", "CAS")) and c != "CAS of real"]
    return table.group_by("variant", maintain_order=True).agg(
        pl.len().alias("seeds"),
        *(pl.col(c).mean() for c in numbers),
        *(pl.col(c).std().alias(f"{c} sd") for c in judged),
    )


def main() -> None:
    """Run all variants over all seeds, then print a table over seeds."""
    options = parsed()
    config = load_config(RunConfig, options.config, options.overrides)
    known = plans(config, options)
    chosen = options.variants or list(known)
    if unknown := set(chosen) - known.keys():
        raise SystemExit(f"no variant {sorted(unknown)}; there are {list(known)}")
    train, test = (
        Pictures.read(options.data / f"{n}.parquet", options.limit) for n in ("train", "test")
    )
    bench = Bench.of(train, test, options.out, num_reference=options.reference)
    draw = Draw(
        num=options.samples,
        sampler=config.generate.sampler,
        decoder=config.generate.decoder,
        guidance=config.generate.guidance,
    )
    fits = config.latents.fit, config.base.unconditional
    real = bench.judge(bench.test_features[: options.samples], None)
    rows: list[dict[str, object]] = [{"variant": "real test pictures", "seed": None, **real}]
    for seed in options.seeds:
        for variant in chosen:
            plan = known[variant]
            steps = steps_of(plan, known[UL], fits, options, num_train=len(train.media))
            first, second = (
                dataclasses.replace(f, num_steps=max(1, n), num_grids=0)
                for f, n in zip(fits, steps, strict=True)
            )
            parts = [to_mapping(part) for part in (plan, draw, first, second)]
            key = digest([variant, seed, options.limit, options.reference, parts])
            find = functools.partial(measure, plan, (first, second), bench, draw, seed=seed)
            rows.append(kept(options.out, key, {"variant": variant, "seed": seed}, find))
    table = table_of(rows)
    print(text_table(table))
    write_text(options.out / "table.json", json.dumps(table.to_dicts(), indent=1))


if __name__ == "__main__":
    main()
