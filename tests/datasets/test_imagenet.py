"""The script that turns a copy of ImageNet into tables, on a tree of two classes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.data.factors import read_embeddings
from ulrec.data.tables import read_table, validate_catalogue, validate_interactions

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    """Import the script, which is no package."""
    path = ROOT / "datasets" / "imagenet" / "prepare.py"
    spec = importlib.util.spec_from_file_location("imagenet_prepare", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


imagenet = load()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three pictures for training, one for validation, and files that are no pictures."""
    folder = tmp_path / "source"
    for name in ("train/n01/a.JPEG", "train/n01/b.JPEG", "train/n02/a.png", "val/n02/c.JPEG"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name, format="PNG" if "png" in name else "JPEG")
    (folder / "train" / "n01" / "notes.txt").write_text("no picture")
    (folder / "train" / "readme.txt").write_text("no class")
    (folder / "words.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n\nn03 shark\n")
    return folder


def run(source: Path, out: Path, *options: str) -> int:
    return imagenet.main(["--source", str(source), "--out", str(out), *options])


def test_tables_of_a_tree(source, tmp_path):
    out = tmp_path / "out"
    assert run(source, out, "--names", str(source / "words.txt"), "--num-factors", "16") == 0
    items = validate_catalogue(read_table(out / "items.parquet"))
    assert items["item_id"].to_list() == ["train/n01/a", "train/n01/b", "train/n02/a", "val/n02/c"]
    assert items["category"].to_list() == ["n01", "n01", "n02", "n02"]
    assert items["split"].to_list() == ["train", "train", "train", "heldout"]
    assert items["name"].to_list() == [*["tench, Tinca tinca"] * 2, *["goldfish"] * 2]
    assert all((source / path).is_file() for path in items["path"])
    classes = pl.read_parquet(out / "classes.parquet")
    assert classes.rows() == [("n01", "tench, Tinca tinca", 2, 0), ("n02", "goldfish", 1, 1)]


def test_a_class_stands_in_for_a_user(source, tmp_path):
    """Its code is that of its pictures, and far from every other class's."""
    assert run(source, tmp_path / "out") == 0
    members = validate_interactions(read_table(tmp_path / "out" / "members.parquet"))
    assert members.rows()[2:] == [("n02", "train/n02/a"), ("n02", "val/n02/c")]
    classes, codes = read_embeddings(tmp_path / "out" / "class_codes.parquet")
    items, of_items = read_embeddings(tmp_path / "out" / "item_codes.parquet")
    assert codes.shape == (2, 64) and of_items.shape == (4, 64)
    assert classes.ids.tolist() == ["n01", "n02"]
    scores = codes @ of_items[items.rows(np.array(members["item_id"].to_list()))].T
    np.testing.assert_allclose(scores[[0, 0, 1, 1], [0, 1, 2, 3]], 1, rtol=1e-5)
    assert np.abs(scores[[1, 1, 0, 0], [0, 1, 2, 3]]).max() < 0.5


def test_names_are_optional_and_so_is_validation(source, tmp_path):
    (source / "val" / "n02" / "c.JPEG").unlink()
    (source / "val" / "n02").rmdir()
    assert run(source, tmp_path / "out") == 0
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    assert items["name"].to_list() == items["category"].to_list() == ["n01", "n01", "n02"]


def test_codes_follow_the_seed(source, tmp_path):
    made = []
    for index, seed in enumerate(("0", "0", "1")):
        assert run(source, tmp_path / str(index), "--seed", seed) == 0
        made.append((tmp_path / str(index) / "class_codes.parquet").read_bytes())
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda source: (source / "train").rename(source / "other"), "folder of pictures for each"),
        (lambda source: (source / "train" / "n03").mkdir(), "must hold pictures"),
        (lambda source: (source / "val" / "n02").rename(source / "val" / "n09"), "got 'n09'"),
    ],
)
def test_bad_trees_are_refused_and_nothing_is_written(source, tmp_path, caplog, damage, message):
    damage(source)
    assert run(source, tmp_path / "out") == 1
    assert message in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_missing_file_of_names_is_refused(source, tmp_path, caplog):
    assert run(source, tmp_path / "out", "--names", str(tmp_path / "nowhere.txt")) == 1
    assert "nowhere.txt" in caplog.text
