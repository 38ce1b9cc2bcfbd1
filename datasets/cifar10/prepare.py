"""Turn a user's own copy of CIFAR-10 into a catalogue.

    python datasets/cifar10/prepare.py --source FOLDER --out runs/data/cifar10

``--source`` holds the binary version as its authors distribute it (data_batch_1.bin to
data_batch_5.bin, test_batch.bin, batches.meta.txt), or train.parquet and test.parquet with columns
label and jpeg. README.md in this folder is the card of the data and says what comes out.
"""

import argparse
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from ulrec.checkpoint import write_file
from ulrec.data import schema
from ulrec.data.tables import validate_catalogue
from ulrec.errors import DataError, ULRecError

logger = logging.getLogger("cifar10")

SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
BATCHES = {
    schema.TRAIN: tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
    schema.HELDOUT: ("test_batch.bin",),
}
TABLES = {schema.TRAIN: "train.parquet", schema.HELDOUT: "test.parquet"}
NAMES = "batches.meta.txt"


def read_batches(source: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Yield the class and the file of every picture of a split, from the binary version."""
    names = (source / NAMES).read_text(encoding="utf-8").split()
    for batch in BATCHES[split]:
        data = np.frombuffer((source / batch).read_bytes(), np.uint8)
        if data.size == 0 or data.size % RECORD:
            raise DataError(
                f"{source / batch} has {data.size} bytes, not a multiple of {RECORD}: it is cut "
                "off, or not the binary version; fetch it again"
            )
        for record in data.reshape(-1, RECORD):
            if record[0] >= len(names):
                raise DataError(
                    f"{source / batch} has label {record[0]}, {NAMES} names {len(names)} classes; "
                    "use the files of one distribution"
                )
            yield names[record[0]], png(record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0))


def read_table(source: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """Yield the same from a table of label and jpeg."""
    path = source / TABLES[split]
    table = pl.read_parquet(path)
    if missing := {"label", "jpeg"} - set(table.columns):
        raise DataError(f"{path} has no {sorted(missing)}, only {table.columns}; name them so")
    yield from zip(table["label"].cast(pl.String), table["jpeg"], strict=True)


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 3) as a file."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def read_split(source: Path, split: str, limit: int | None) -> list[dict[str, object]]:
    """Return the rows of a split, its first ones where there is a limit."""
    wanted = {read_batches: (NAMES, *BATCHES[split]), read_table: (TABLES[split],)}
    there = [
        read for read, files in wanted.items() if all((source / name).is_file() for name in files)
    ]
    if not there:
        raise DataError(
            f"{source} has neither {', '.join(wanted[read_batches])} nor {TABLES[split]}; give "
            "--source the folder of the binary version, unpacked"
        )
    rows = []
    for number, (label, picture) in enumerate(there[0](source, split)):
        if number == limit:
            break
        rows.append(
            {
                schema.ITEM_ID: f"{split}-{number:05d}",
                schema.NAME: label,
                schema.CATEGORY: label,
                schema.SUBCATEGORY: label,
                schema.SPLIT: split,
                schema.IMAGE: picture,
            }
        )
    return rows


def prepare(options: argparse.Namespace) -> None:
    """Read and check everything, then write the catalogue."""
    limits = {schema.TRAIN: options.train, schema.HELDOUT: options.heldout}
    parts = [read_split(options.source, split, limit) for split, limit in limits.items()]
    table = validate_catalogue(pl.DataFrame([*parts[0], *parts[1]]), source=options.source)
    write_file(options.out / "catalogue.parquet", table.write_parquet)
    heldout = int((table[schema.SPLIT] == schema.HELDOUT).sum())
    logger.info("%s: %s pictures (%s held out)", options.out, len(table), heldout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 with the reason logged."""
    parser = argparse.ArgumentParser(description="Turn CIFAR-10 into catalogue.parquet.")
    parser.add_argument("--source", type=Path, required=True, help="folder of the unpacked files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--train", type=int, help="only the first so many train pictures")
    parser.add_argument("--heldout", type=int, help="only the first so many test pictures")
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
