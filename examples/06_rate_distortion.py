"""Set rate against distortion, beside JPEG, WebP and plain shrinking of the same pictures.

python examples/06_rate_distortion.py               # a demonstration without any run, a minute
python examples/06_rate_distortion.py --runs runs/coarse runs/fine --out runs/rate_distortion
python examples/06_rate_distortion.py --table points.csv --pictures held_out --size 64

A run gives its bits/pixel (an upper bound on what its latents take, without the decoder's part) and
the PSNR of its held-out reconstructions; a table has the columns name, bits_per_pixel and psnr.
Baselines never use more bits than the point that they stand beside; files count with their headers.
"""

import argparse
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from ulrec import __version__
from ulrec.data.media import MediaStore
from ulrec.data.pictures import MediaConfig, decode
from ulrec.errors import DataError
from ulrec.evaluation.canvas import BLUE, GREEN, ORANGE, STYLE, VIOLET, panels, png
from ulrec.evaluation.cells import text_table
from ulrec.evaluation.protocol import Protocol, require_comparable
from ulrec.evaluation.rate import CODECS, codec_psnr, downsampling_psnr
from ulrec.evaluation.results import Result, load_results, save_results

STILLS = Path(__file__).parents[1] / "datasets" / "fluent_emoji" / "stills.parquet"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
COLUMNS = ("name", "bits_per_pixel", "psnr")
LINES = {"shrinking": (ORANGE, "s"), "jpeg": (GREEN, "D"), "webp": (VIOLET, "^")}
DEMONSTRATION = (0.5, 1.0, 2.0, 4.0)

Pictures = NDArray[np.uint8]


def point_of(run: Path) -> tuple[dict[str, object], Protocol]:
    """Return a run's name, rate and distortion, and how they came about."""
    latents = [result for result in load_results(run) if result.name == "latents"]
    if not latents:
        raise DataError(f"{run} has no table of its latents; evaluate the run")
    means = dict(latents[0].summary.select("metric", "mean").iter_rows())
    rate, quality = (
        next((mean for metric, mean in means.items() if metric.startswith(start)), None)
        for start in ("bits/pixel", "PSNR")
    )
    if rate is None or quality is None:
        raise DataError(f"the table of latents of {run} lacks bits/pixel or PSNR: {list(means)}")
    point = {"name": run.name, "bits_per_pixel": rate, "psnr": quality}
    return point, latents[0].protocol


def held_out(run: Path) -> Pictures:
    """Return the pictures that a run's PSNR is of."""
    store = MediaStore.open(run / "media")
    items = pl.read_parquet(run / "items" / "items.parquet").filter(split="heldout")
    return np.asarray(store.media[store.items.rows(items["item_id"].to_list())])[:, :, 0]


def read_pictures(source: Path, size: int) -> Pictures:
    """Return the pictures of a folder, or of a table with a column of images, squared."""
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        files = [path.read_bytes() for path in paths]
    else:
        files = pl.read_parquet(source).filter(split="heldout")["image"].to_list()
    if not files:
        raise DataError(f"{source} has no pictures")
    config = MediaConfig(height=size, width=size)
    return np.stack([decode(data, config).media[:, 0] for data in files])


def baselines(pictures: Pictures, rates: Sequence[float]) -> tuple[pl.DataFrame, list[str]]:
    """Return each baseline's PSNR and bits at no more than each rate, and where there is none."""
    methods = {"shrinking": downsampling_psnr} | dict.fromkeys(CODECS, codec_psnr)
    rows, missing = [], []
    for method, measure in methods.items():
        extra = {"codec": method} if method in CODECS else {}
        for rate in rates:
            try:
                found = measure(pictures, bits_per_pixel=rate, **extra)
            except DataError as error:
                missing.append(f"{method} at {rate:.3g}: {error}.")
                continue
            rows.append((method, rate, found.bits_per_pixel, float(found.psnr.mean())))
    schema = {"name": pl.String, "at": pl.Float64, "bits_per_pixel": pl.Float64, "psnr": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row"), missing


def plot(points: pl.DataFrame, others: pl.DataFrame) -> bytes:
    """Draw points with their names, and a line for each baseline."""
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white"}):
        figure, (axis,) = panels([3.2])
        for method, (colour, marker) in LINES.items():
            part = others.filter(name=method).sort("bits_per_pixel")
            if part.height:
                xy = part["bits_per_pixel"].to_numpy(), part["psnr"].to_numpy()
                axis.plot(*xy, color=colour, marker=marker, markersize=4, label=method)
        xs, ys = (points[column].to_list() for column in COLUMNS[1:])
        axis.plot(xs, ys, color=BLUE, marker="o", linestyle="none", label="points", zorder=3)
        for name, x, y in points.select(COLUMNS).iter_rows():
            axis.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
        axis.set_xlabel("bits per pixel")
        axis.set_ylabel("PSNR, dB")
        axis.set_title("Rate and distortion")
        axis.margins(x=0.15, y=0.12)
        axis.legend(loc="upper left")
        return png(figure)


def read_table(path: Path) -> pl.DataFrame:
    """Return points of a CSV or parquet file, checked."""
    table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    if table.is_empty() or not set(COLUMNS) <= set(table.columns):
        raise DataError(f"{path} needs rows and the columns {COLUMNS}, it has {table.columns}")
    points = table.select(COLUMNS).cast(dict.fromkeys(COLUMNS[1:], pl.Float64))
    fine = points.select(pl.all_horizontal(pl.col(COLUMNS[1:]).is_finite().fill_null(False)))
    if not fine.to_series().all() or (points["bits_per_pixel"] <= 0).any():
        raise DataError(f"{path} has rates that are not positive, or numbers that are not finite")
    return points


def main() -> None:
    """From runs or a table to a table with baselines and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--runs", type=Path, nargs="+", help="folders of evaluated runs")
    source.add_argument("--table", type=Path, help="CSV or parquet: name, bits_per_pixel, psnr")
    parser.add_argument("--pictures", type=Path, help="what the table's PSNR is of, for baselines")
    parser.add_argument("--size", type=int, default=64, help="side of those pictures, in pixels")
    parser.add_argument("--num", type=int, default=100, help="pictures of the demonstration")
    parser.add_argument("--out", type=Path, default=Path("runs/rate_distortion"))
    options = parser.parse_args()

    # 1. Points, and the pictures that their PSNR is of.
    protocol, pictures = None, None
    if options.runs:
        found = [point_of(run) for run in options.runs]
        protocol = found[0][1]
        for _, other in found[1:]:
            require_comparable(protocol, other, varying=("config_hash",))
        points, pictures = pl.DataFrame([point for point, _ in found]), held_out(options.runs[0])
    elif options.table:
        points = read_table(options.table)
        if options.pictures:
            pictures = read_pictures(options.pictures, options.size)
    else:
        pictures = read_pictures(options.pictures or STILLS, options.size)[: options.num]
        shrunk = [downsampling_psnr(pictures, bits_per_pixel=rate) for rate in DEMONSTRATION]
        rows = [
            (f"{b.size[0]}x{b.size[1]}, {b.bits_per_value} bits", b.bits_per_pixel, b.psnr.mean())
            for b in shrunk
        ]
        points = pl.DataFrame(rows, list(COLUMNS), orient="row")

    # 2. Baselines at no more bits than each point.
    others, missing = baselines(
        np.empty((0, 3, 1, 1), np.uint8) if pictures is None else pictures,
        [] if pictures is None else points["bits_per_pixel"].to_list(),
    )
    for method in LINES:
        part = others.filter(name=method).unique("at").select("at", pl.col("psnr").alias(method))
        points = points.join(part, left_on="bits_per_pixel", right_on="at", how="left")

    # 3. Written down.
    if protocol is None:
        text = points.write_csv().encode() + (b"" if pictures is None else pictures.tobytes())
        protocol = Protocol(
            data_fingerprint=hashlib.sha256(text).hexdigest()[:16],
            config_hash="none",
            code_version=__version__,
            seed=0,
            n=0 if pictures is None else len(pictures),
        )
    notes = ["Baselines: mean PSNR at no more bits than the point's, files with headers.", *missing]
    if pictures is not None and not (options.runs or options.table or options.pictures):
        notes.append("The catalogue's pictures are kept as WebP, which favours that codec.")
    result = Result(name="rate_distortion", protocol=protocol, summary=points, notes=tuple(notes))
    save_results(options.out / "results", [result], title="Rate and distortion")
    Image.open(io.BytesIO(plot(points, others))).save(options.out / "rate_distortion.png")
    print(text_table(points), *notes, f"plot: {options.out / 'rate_distortion.png'}", sep="\n")


if __name__ == "__main__":
    main()
