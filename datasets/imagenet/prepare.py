"""Turn a user's own copy of ImageNet, folders of classes, into ulrec's tables.

    python datasets/imagenet/prepare.py --source FOLDER --out FOLDER

``--source`` holds train/<class>/<picture> and, where there is one, val/<class>/<picture>. README.md
in this folder is the card of the data and says what comes out. Pictures stay where they are.
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

logger = logging.getLogger("imagenet")

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
FOLDERS: Mapping[str, str] = {schema.TRAIN: "train", schema.HELDOUT: "val"}
CODE = "code"


def find_items(source: Path) -> pl.DataFrame:
    """Return [item_id, path, category, split], by split, class and name of the file.

    Raises
    ------
    DataError
        If there is no class, a class holds no picture, or val has a class that train lacks.
    """
    rows = [
        (f"{part}/{folder.name}/{path.name}", folder.name, split)
        for split, part in FOLDERS.items()
        for folder in _class_folders(source / part, required=split == schema.TRAIN)
        for path in _pictures(folder)
    ]
    names = {schema.PATH: pl.String, schema.CATEGORY: pl.String, schema.SPLIT: pl.String}
    table = pl.DataFrame(rows, schema=names, orient="row")
    known = table.filter(pl.col(schema.SPLIT) == schema.TRAIN).select(schema.CATEGORY).unique()
    strangers = table.join(known, on=schema.CATEGORY, how="anti")
    if len(strangers):
        raise DataError(
            f"every class of {source / 'val'} has to stand in train too; got "
            f"'{strangers[schema.CATEGORY][0]}'; sort the validation pictures into the folders of "
            "their classes"
        )
    item_id = pl.col(schema.PATH).str.replace(r"\.[^.]+$", "").alias(schema.ITEM_ID)
    return table.select(item_id, schema.PATH, schema.CATEGORY, schema.SPLIT)


def _class_folders(folder: Path, *, required: bool) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if required and not found:
        raise DataError(
            f"{folder} must hold a folder of pictures for each class; there is none; give --source "
            "the folder that holds train/"
        )
    return found


def _pictures(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(
            f"{folder} must hold pictures ({', '.join(SUFFIXES)}); got none; add them or remove it"
        )
    return found


def read_names(path: Path | None) -> dict[str, str]:
    """Return class -> name of a file with ``<class> <name>`` on each line, such as synset_words."""
    if path is None:
        return {}
    if not path.is_file():
        raise DataError(f"{path} must be a file of names, '<class> <name>' a line; there is none")
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split(maxsplit=1)[0]: line.partition(" ")[2].strip() for line in lines if line}


def codes_of(classes: Sequence[str], *, num_factors: int, seed: int) -> pl.DataFrame:
    """Return [user_id, code]: a random direction of length 1 for each class.

    Two of them are nearly at right angles, and any network tells them apart; a column a class would
    take gigabytes.
    """
    codes = np.random.default_rng(seed).normal(size=(len(classes), num_factors))
    codes = (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32)
    return pl.DataFrame({schema.USER_ID: list(classes), CODE: codes.tolist()}).cast(
        {CODE: pl.List(pl.Float32)}
    )


def prepare(options: argparse.Namespace) -> None:
    """Read and check everything, then write the tables."""
    names = read_names(options.names)
    items = find_items(options.source)
    title = pl.col(schema.CATEGORY).replace_strict(names, default=pl.col(schema.CATEGORY))
    items = validate_catalogue(items.with_columns(title.alias(schema.NAME)), source=options.source)
    classes = items.group_by(schema.CATEGORY, schema.NAME).agg(
        (pl.col(schema.SPLIT) == split).sum().alias(f"num_{split}") for split in FOLDERS
    )
    classes = classes.sort(schema.CATEGORY)
    codes = codes_of(
        classes[schema.CATEGORY].to_list(), num_factors=options.num_factors, seed=options.seed
    )
    likes = items.select(pl.col(schema.CATEGORY).alias(schema.USER_ID), schema.ITEM_ID)
    tables = {
        "items": items,
        "classes": classes,
        "members": validate_interactions(likes, source=options.source),
        "class_codes": codes,
        "item_codes": likes.join(codes, on=schema.USER_ID, maintain_order="left").drop(
            schema.USER_ID
        ),
    }
    for name, table in tables.items():
        write_file(options.out / f"{name}.parquet", table.write_parquet)
    logger.info("%s: %s pictures of %s classes", options.out, len(items), len(classes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 with the reason logged."""
    parser = argparse.ArgumentParser(
        description="Turn folders of classes into items.parquet, classes.parquet, and the tables "
        "by which a class becomes a condition."
    )
    parser.add_argument("--source", type=Path, required=True, help="folder with train/ (and val/)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--names", type=Path, help="file of '<class> <name>' lines")
    parser.add_argument("--num-factors", type=int, default=64, help="length of a class's code")
    parser.add_argument("--seed", type=int, default=0, help="of the codes")
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
