"""The script that draws clips of bouncing shapes."""

import doctest
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from ulrec.data.media import MediaConfig, prepare_media
from ulrec.data.tables import read_table, validate_catalogue

FOLDER = Path(__file__).parents[2] / "datasets" / "moving_shapes"


def load() -> ModuleType:
    """Import the script, which is no package."""
    spec = importlib.util.spec_from_file_location("moving_shapes_prepare", FOLDER / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


shapes = load()


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "out"
    assert shapes.main(["--out", str(folder), "--per-concept", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def table(out) -> pl.DataFrame:
    return validate_catalogue(read_table(out / "clips.parquet"))


def test_every_combination_is_a_concept(table):
    assert len(table) == table["concept"].n_unique() == 54
    assert sorted(table["category"].unique()) == ["disc", "square", "triangle"]
    heldout = table.filter(pl.col("split") == "heldout")
    assert len(heldout) == 6
    train = table.filter(pl.col("split") == "train")
    for name in ("category", "subcategory"):
        assert set(heldout[name]) <= set(train[name])


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return shapes.build(1, 0)[1]


def test_clips_come_back_as_they_were_drawn(table, clips, tmp_path):
    store = prepare_media(
        table.to_arrow(), config=MediaConfig(frames=16), folder=tmp_path / "media"
    )
    assert store.media.shape == (54, 3, 16, 32, 32)
    assert store.quarantine == ()
    np.testing.assert_array_equal(store.media, np.moveaxis(clips, -1, 1))


def test_shapes_move_as_fast_as_they_say_and_keep_their_area():
    areas = {"disc": np.pi, "square": 4 * 0.886**2, "triangle": 1.8 * 0.8}
    for shape in shapes.SHAPES:
        for speed, sides in shapes.SPEEDS.items():
            clip = shapes.draw(shape, "black", speed, np.random.default_rng(1))
            ink = (255 - clip[..., 0].astype(float)) / (255 - 30)  # (F, H, W)
            area = ink.sum(axis=(1, 2)) / 32**2
            assert np.ptp(area) < 0.005
            assert area.mean() == pytest.approx(areas[shape] * shapes.RADIUS**2, rel=0.05)
            y, x = (np.arange(32) + 0.5)[:, None] / 32, (np.arange(32) + 0.5)[None] / 32
            centres = np.stack([(ink * p).sum(axis=(1, 2)) for p in (x, y)], 1)
            centres /= ink.sum(axis=(1, 2))[:, None]
            steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
            # A wall on the way shortens a step, most are whole.
            assert np.median(steps) == pytest.approx(sides / shapes.FPS, rel=0.1)


def test_the_seed_decides(table, clips):
    other, moved = shapes.build(1, 1)
    assert (moved != clips).any()
    assert other["item_id"].equals(table["item_id"])
    assert not other["split"].equals(table["split"])


def test_a_number_that_is_none(tmp_path, caplog):
    assert shapes.main(["--out", str(tmp_path / "no"), "--per-concept", "0"]) == 1
    assert "--per-concept has to be at least 1" in caplog.text
    assert not (tmp_path / "no").exists()


def test_examples_in_docstrings():
    result = doctest.testmod(shapes)
    assert (result.attempted, result.failed) == (2, 0)
