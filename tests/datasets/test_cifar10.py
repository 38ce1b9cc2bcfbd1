"""CIFAR-10 from either form of a user's copy; the pictures here are made up."""

from __future__ import annotations

import importlib.util
import io
import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.data.tables import read_table, validate_catalogue

SCRIPT = Path(__file__).parents[2] / "datasets/cifar10/prepare.py"


def load() -> ModuleType:
    """Import the script, which is no package."""
    spec = importlib.util.spec_from_file_location("cifar10_prepare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


cifar10 = load()


def record(label: int, picture: np.ndarray) -> bytes:
    """Return a record of the binary version: the label, then the planes red, green, blue."""
    return bytes([label]) + picture.transpose(2, 0, 1).tobytes()


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def binary(tmp_path, pictures) -> Path:
    (tmp_path / "batches.meta.txt").write_text("airplane\nfrog\n\n")
    for number in range(1, 6):
        data = record(number % 2, pictures[number - 1])
        (tmp_path / f"data_batch_{number}.bin").write_bytes(data)
    (tmp_path / "test_batch.bin").write_bytes(record(0, pictures[5]) + record(1, pictures[0]))
    return tmp_path


def test_the_binary_version(binary, pictures, tmp_path):
    out = tmp_path / "out"
    assert cifar10.main(["--source", str(binary), "--out", str(out)]) == 0
    table = validate_catalogue(read_table(out / "catalogue.parquet"))
    assert table["split"].to_list() == ["train"] * 5 + ["heldout"] * 2
    assert table["category"].to_list() == ["frog", "airplane"] * 2 + ["frog", "airplane", "frog"]
    assert table["item_id"].to_list()[4:6] == ["train-00004", "heldout-00000"]
    decoded = [np.asarray(Image.open(io.BytesIO(data))) for data in table["image"]]
    assert (np.stack(decoded) == pictures[[0, 1, 2, 3, 4, 5, 0]]).all()


def test_tables_and_limits(tmp_path, pictures):
    files = []
    for picture in pictures:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format="JPEG")
        files.append(stream.getvalue())
    table = pl.DataFrame({"label": ["cat", "dog"] * 3, "jpeg": files})
    for name in ("train", "test"):
        table.write_parquet(tmp_path / f"{name}.parquet")
    few = ["--train", "4", "--heldout", "1"]
    assert cifar10.main(["--source", str(tmp_path), "--out", str(tmp_path / "out"), *few]) == 0
    found = read_table(tmp_path / "out" / "catalogue.parquet")
    assert found["image"].to_list() == [*files[:4], files[0]]
    assert found["category"].to_list() == ["cat", "dog", "cat", "dog", "cat"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "data_batch_2.bin").write_bytes(b"\0" * 100), "100 bytes, not a multiple"),
        (lambda p: (p / "data_batch_2.bin").unlink(), "has neither batches.meta.txt"),
        (lambda p: (p / "batches.meta.txt").write_text("airplane"), "label 1, .* names 1 classes"),
    ],
)
def test_a_damaged_copy_leaves_nothing(binary, tmp_path, caplog, damage, message):
    damage(binary)
    out = tmp_path / "out"
    with caplog.at_level(logging.ERROR):
        assert cifar10.main(["--source", str(binary), "--out", str(out)]) == 1
    assert caplog.messages and re.search(message, caplog.text)
    assert not out.exists()
