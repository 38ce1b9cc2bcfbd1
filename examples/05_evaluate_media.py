"""Evaluate pictures made elsewhere: fidelity, coverage, diversity and copying, with their protocol.

python examples/05_evaluate_media.py                # a demonstration on emoji, a minute or two
python examples/05_evaluate_media.py --real held_out --generated mine theirs --train train --out out
python examples/05_evaluate_media.py --real held_out --generated mine --out out \
    --inception pt_inception-2015-12-05-6726825d.pth

Only with the published Inception-v3 weights are the distances FID and KID; in other features their
names say which. Every set is cut to the size of the smallest, so that its numbers compare.
"""

import argparse
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from tqdm import tqdm

from ulrec import __version__
from ulrec.errors import DataError
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.copying import copy_rate
from ulrec.evaluation.discrepancy import gaussian_mmd, mmd_name
from ulrec.evaluation.fidelity import frechet_distance, frechet_name, kid, kid_name
from ulrec.evaluation.manifold import manifold_scores
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result, save_results
from ulrec.evaluation.sheets import compared_sheet, save_png
from ulrec.evaluation.vendi import vendi_score
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import FeatureNetwork, extract_features
from ulrec.features.inception import InceptionV3

NETWORKS = {"efflite0": EffLite0}
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}
STILLS = Path(__file__).parents[1] / "datasets" / "fluent_emoji" / "stills.parquet"
NEIGHBOURS = 5
SHOWN, THUMB = 8, 96

Picture = NDArray[np.uint8]
Pictures = list[Picture]
Features = NDArray[np.float32]
Row = tuple[str, float, float | None, float | None]


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture upright, on white where it is transparent."""
    upright = ImageOps.exif_transpose(image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")


def read_folder(folder: Path) -> Pictures:
    """Return all pictures of a folder, (H, W, 3) each, by name; any that is broken stops it."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))})")
    pictures = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pictures.append(np.asarray(to_rgb(image)))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}); mend or remove it") from error
    return pictures


def demonstration(num: int) -> tuple[dict[str, Pictures], Pictures, Pictures]:
    """Return sets to judge, real held-out pictures, and train pictures of the shipped catalogue."""
    table = pl.read_parquet(STILLS, columns=["split", "image"]).sample(
        fraction=1, shuffle=True, seed=0
    )
    held_out, known = (table.filter(split=name)["image"].to_list() for name in ("heldout", "train"))
    real, other, train = (
        [np.asarray(to_rgb(Image.open(io.BytesIO(data)))) for data in images]
        for images in (held_out[:num], known[:num], known[num : 4 * num])
    )
    noise = np.random.default_rng(0).normal(0, 40, (len(real), *real[0].shape))
    blur = ImageFilter.GaussianBlur(2)
    sets = {
        "other real": other,
        "noisy": list(np.clip(np.stack(real) + noise, 0, 255).astype(np.uint8)),
        "blurred": [np.asarray(Image.fromarray(picture).filter(blur)) for picture in real],
        "copies of train": train[: len(real)],
    }
    return sets, real, train


def features_of(network: FeatureNetwork, pictures: Pictures, label: str) -> Features:
    """Return features (N, d); each picture goes to the network in the size that it has."""
    bar = tqdm(pictures, desc=label, disable=None)
    return extract_features(network, (p.transpose(2, 0, 1)[None].copy() for p in bar))


def judge(made: Features, real: Features, *, name: str, seed: int) -> tuple[list[Row], list[str]]:
    """Return each metric's (name, mean, low, high), and what hampers them."""
    size = max(2, min(1000, len(real) // 2))
    kernel = kid(made, real, subset_size=size, seed=seed)
    frechet = frechet_distance(made, real)
    mmd = gaussian_mmd(made, real)
    balls = manifold_scores(real, made, num_neighbours=min(NEIGHBOURS, len(real) - 1), seed=seed)
    rows: list[Row] = [
        (kid_name(name), kernel.full, kernel.low, kernel.high),
        (frechet_name(name), frechet.distance, None, None),
        (f"{mmd_name(name)} ({mmd.estimator}, x {mmd.scale:g})", mmd.value, None, None),
    ]
    for metric in ("precision", "recall", "density", "coverage"):
        found = getattr(balls, metric)
        rows.append((metric, found.mean, found.low, found.high))
    rows.append(("Vendi score", vendi_score(made), None, None))
    warnings = [f"{frechet_name(name)}: {frechet.warning}." if frechet.warning else ""]
    return rows, [*warnings, f"Balls: {balls.warning}." if balls.warning else ""]


def results(
    sets: Mapping[str, Features],
    real: Features,
    train: Features | None,
    *,
    protocol: Protocol,
) -> list[Result]:
    """Return the tables of fidelity and, with train pictures, of copying."""
    name, seed, n = str(protocol.backbone), protocol.seed, protocol.n
    rng = np.random.default_rng(seed)
    drawn = {label: rng.permutation(found)[:n] for label, found in sets.items()}
    real_drawn = rng.permutation(real)[:n]
    rows, warnings = [("real", "Vendi score", vendi_score(real_drawn), None, None)], []
    for label, found in drawn.items():
        judged, said = judge(found, real_drawn, name=name, seed=seed)
        rows += [(label, *row) for row in judged]
        warnings += said
    notes = [
        f"Each set gives {n} pictures, and so do the real ones.",
        f"{kid_name(name)} is unbiased over all of them, its interval spans random subsets.",
        f"Precision to coverage use {NEIGHBOURS} neighbours; their intervals hold the balls fixed.",
    ]
    schema = ["set", "metric", "mean", "low", "high"]
    found = [
        Result(
            name="fidelity",
            protocol=protocol,
            summary=pl.DataFrame(rows, schema, orient="row"),
            notes=(*notes, *dict.fromkeys(filter(None, warnings))),
        )
    ]
    if train is not None:
        rates = {
            label: copy_rate(made, catalogue=train, heldout=real) for label, made in sets.items()
        }
        copied = [
            (label, "copy rate", c.rate.mean, c.rate.low, c.rate.high) for label, c in rates.items()
        ]
        one = next(iter(rates.values()))
        share = f"{1 - one.quantile:.1%}"
        note = f"Nearer to one of {len(train)} train pictures than {share} of real ones are."
        notes = (note, f"{one.warning}." if one.warning else "")
        summary = pl.DataFrame(copied, schema, orient="row")
        found.append(
            Result(
                name="copying", protocol=protocol, summary=summary, notes=tuple(filter(None, notes))
            )
        )
    return found


def thumbnails(pictures: Pictures) -> Picture:
    """Return the first pictures, fitted to a square: (N, 3, H, W)."""
    squares = [
        np.asarray(ImageOps.pad(Image.fromarray(p), (THUMB, THUMB), color="white"))
        for p in pictures
    ]
    return np.stack(squares).transpose(0, 3, 1, 2)


def fingerprint(pictures: Pictures) -> str:
    """Return a digest of the pixels."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(str(picture.shape).encode() + picture.tobytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """From folders of pictures to a page of figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder of real pictures, held out from training")
    parser.add_argument("--generated", type=Path, nargs="+", help="folders of pictures to judge")
    parser.add_argument("--train", type=Path, help="folder of train pictures, for the copy rate")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluated_media"))
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--features", choices=NETWORKS, default="efflite0")
    which.add_argument("--inception", type=Path, help="Inception-v3 weights, for FID and KID")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num", type=int, default=100, help="pictures of the demonstration's sets")
    options = parser.parse_args()
    if (options.real is None) != (options.generated is None):
        parser.error("--real and --generated go together; leave out both for a demonstration")

    # 1. Pictures: nothing is dropped, a broken file stops it.
    if options.real is None:
        sets, real, train = demonstration(options.num)
    else:
        names = [folder.name for folder in options.generated]
        if len(set(names)) < len(names):
            parser.error(f"the folders need different names, got {names}")
        sets = {folder.name: read_folder(folder) for folder in options.generated}
        real = read_folder(options.real)
        train = read_folder(options.train) if options.train else None

    # 2. Features, by one network for all.
    network = InceptionV3(options.inception) if options.inception else NETWORKS[options.features]()
    found = {label: features_of(network, pictures, label) for label, pictures in sets.items()}
    real_features = features_of(network, real, "real")
    train_features = features_of(network, train, "train") if train else None

    # 3. Figures, and how they came about.
    settings = f"neighbours {NEIGHBOURS}, train {fingerprint(train or [])}"
    protocol = Protocol(
        data_fingerprint=fingerprint(real),
        config_hash=hashlib.sha256(settings.encode()).hexdigest()[:16],
        code_version=__version__,
        seed=options.seed,
        n=min(map(len, [real, *sets.values()])),
        backbone=network.name,
        weight_hash=network.weight_hash,
        resize=network.preprocessing,
        dtype="float32",
    )
    tables = results(found, real_features, train_features, protocol=protocol)
    place = options.out / "results"
    save_results(place, tables, title="Pictures made elsewhere")
    shown = min(SHOWN, protocol.n)
    rows = {
        label: thumbnails(pictures[:shown]) for label, pictures in {"real": real, **sets}.items()
    }
    save_png(compared_sheet(rows, title="The first of each set"), options.out / "sheet.png")
    with pl.Config(tbl_rows=-1, fmt_str_lengths=60, tbl_hide_dataframe_shape=True):
        for table in tables:
            print(text_table(table.summary), *table.notes, sep="\n")
    print(f"page: {place / 'report.html'}\nsheet: {options.out / 'sheet.png'}")


if __name__ == "__main__":
    main()
