"""Turn a user's own copy of Kinetics-600, by class or with the official lists, into a catalogue.

    python datasets/kinetics600/prepare.py --source FOLDER --out FOLDER
    python datasets/kinetics600/prepare.py --source FOLDER --csv train.csv val.csv --out FOLDER

Without ``--csv``, ``--source`` holds train/<class>/<video> and, if any, val/<class>/<video>.
README.md in this folder is the card of the data. Videos stay where they are.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ulrec.checkpoint import write_file
from ulrec.data import schema
from ulrec.data.tables import validate_catalogue, validate_interactions
from ulrec.errors import DataError, ULRecError

logger = logging.getLogger("kinetics600")

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi")
SPLITS: Mapping[str, str] = {"train": schema.TRAIN, "val": schema.HELDOUT}
NUM_FACTORS = 64
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def find_videos(source: Path) -> pl.DataFrame:
    """Return [item_id, path, category, split] of a tree of classes, by split, class and name.

    Raises
    ------
    DataError
        If there is no class, or a class holds no video.
    """
    rows = []
    for part, split in SPLITS.items():
        for folder in _class_folders(source / part, required=part == "train"):
            files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
            if not files:
                raise DataError(f"{folder} must hold videos ({', '.join(SUFFIXES)}); got none")
            names = (f"{part}/{folder.name}/{path.name}" for path in files)
            rows += [(name.rpartition(".")[0], name, folder.name, split) for name in names]
    return _table(rows)


def find_listed(source: Path, lists: Sequence[Path]) -> pl.DataFrame:
    """Return [item_id, path, category, split] of the rows of the official lists that are there.

    A video is <youtube_id>_<start>_<end>.<suffix>, the seconds of six digits, anywhere below the
    source; rows without a file are counted and left out, as videos vanish from the web.

    Raises
    ------
    DataError
        If a list is missing or has other columns, or none of its videos is there.
    """
    files = {p.stem: p for p in sorted(source.rglob("*")) if p.suffix.lower() in SUFFIXES}
    rows, missing = [], 0
    for listed in _read_lists(lists):
        name = f"{listed['youtube_id']}_{listed['time_start']:06d}_{listed['time_end']:06d}"
        path = files.get(name)
        if path is None:
            missing += 1
            continue
        place = path.relative_to(source).as_posix()
        rows.append((name, place, listed["label"], SPLITS[listed["split"]]))
    if not rows:
        raise DataError(
            f"none of the {missing} listed videos is below {source}; they have to be named "
            "<youtube_id>_<start>_<end>.mp4, the seconds of six digits"
        )
    logger.info("%s listed videos are not there and left out", missing)
    return _table(rows)


def _read_lists(lists: Sequence[Path]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for path in lists:
        if not path.is_file():
            raise DataError(f"{path} must be an official list; there is none")
        table = pl.read_csv(path)
        lost = [name for name in COLUMNS if name not in table.columns]
        if lost:
            raise DataError(f"{path} must have the columns {', '.join(COLUMNS)}; '{lost[0]}' lacks")
        odd = sorted(set(table["split"].unique()) - {*SPLITS, "validate"})
        if odd:
            raise DataError(f"{path} must hold the splits train and val; got {odd[0]!r}")
        split = pl.col("split").replace("validate", "val")
        rows += table.select(*COLUMNS[:4], split).rows(named=True)
    return rows


def _class_folders(folder: Path, *, required: bool) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if required and not found:
        raise DataError(
            f"{folder} must hold a folder of videos for each class; there is none; give --source "
            "the folder that holds train/, or the official lists with --csv"
        )
    return found


def _table(rows: Sequence[tuple[str, str, str, str]]) -> pl.DataFrame:
    names = (schema.ITEM_ID, schema.PATH, schema.CATEGORY, schema.SPLIT)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def class_tables(table: pl.DataFrame, *, seed: int) -> dict[str, pl.DataFrame]:
    """Return classes as users: their videos, and a random direction of length 1 for each."""
    classes = table[schema.CATEGORY].unique().sort().to_list()
    codes = np.random.default_rng(seed).normal(size=(len(classes), NUM_FACTORS))
    codes = (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32)
    of_class = pl.DataFrame({schema.USER_ID: classes, "code": codes.tolist()}).cast(
        {"code": pl.List(pl.Float32)}
    )
    likes = table.select(pl.col(schema.CATEGORY).alias(schema.USER_ID), schema.ITEM_ID)
    of_item = likes.join(of_class, on=schema.USER_ID, maintain_order="left")
    return {
        "members": validate_interactions(likes),
        "class_codes": of_class,
        "item_codes": of_item.drop(schema.USER_ID),
    }


def prepare(options: argparse.Namespace) -> None:
    """Read and check everything, then write the tables."""
    source, lists = options.source, options.csv
    found = find_listed(source, lists) if lists else find_videos(source)
    table = validate_catalogue(found, source=source)
    for name, part in {"items": table, **class_tables(table, seed=options.seed)}.items():
        write_file(options.out / f"{name}.parquet", part.write_parquet)
    classes = table[schema.CATEGORY].n_unique()
    logger.info("%s: %s videos of %s classes", options.out, len(table), classes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 with the reason logged."""
    parser = argparse.ArgumentParser(description="Turn videos by class, or lists, into a table.")
    parser.add_argument("--source", type=Path, required=True, help="folder of the videos")
    parser.add_argument("--csv", type=Path, nargs="+", help="official lists (train.csv, val.csv)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of the codes of classes")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(options)
    except ULRecError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
