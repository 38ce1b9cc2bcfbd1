"""The script that turns a copy of Kinetics-600 into a catalogue, on trees of a few empty files."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from ulrec.data.tables import read_table, validate_catalogue

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    """Import the script, which is no package."""
    path = ROOT / "datasets" / "kinetics600" / "prepare.py"
    spec = importlib.util.spec_from_file_location("kinetics600_prepare", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


kinetics = load()

TABLES = ("members", "class_codes", "item_codes")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in (
        *("train/abseiling/b.mp4", "train/abseiling/a.mp4", "train/zumba/c.webm"),
        *("val/zumba/d.mp4", "train/zumba/notes.txt"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"video")
    return folder


def run(source: Path, out: Path, *options: str) -> int:
    return kinetics.main(["--source", str(source), "--out", str(out), *options])


def test_a_tree_of_classes(source, tmp_path):
    assert run(source, tmp_path / "out") == 0
    items = validate_catalogue(read_table(tmp_path / "out" / "items.parquet"))
    assert items.rows() == [
        ("train/abseiling/a", "train/abseiling/a.mp4", "abseiling", "train"),
        ("train/abseiling/b", "train/abseiling/b.mp4", "abseiling", "train"),
        ("train/zumba/c", "train/zumba/c.webm", "zumba", "train"),
        ("val/zumba/d", "val/zumba/d.mp4", "zumba", "heldout"),
    ]
    read = {n: pl.read_parquet(tmp_path / "out" / f"{n}.parquet") for n in TABLES}
    assert read["members"].rows()[0] == ("abseiling", "train/abseiling/a")
    codes = dict(read["class_codes"].rows())
    assert list(codes) == ["abseiling", "zumba"] and len(codes["zumba"]) == 64
    assert sum(x * x for x in codes["zumba"]) == pytest.approx(1)
    assert [code for _, code in read["item_codes"].rows()] == [codes[c] for c in items["category"]]


def test_official_lists(tmp_path, caplog):
    caplog.set_level("INFO")
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "-0Xy_000003_000013.mp4").write_bytes(b"video")
    (source / "q7_000100_000110.mkv").write_bytes(b"video")
    head = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "train.csv").write_text(f"{head}abseiling,-0Xy,3,13,train\nzumba,gone,0,10,train\n")
    (tmp_path / "val.csv").write_text(f"{head}zumba,q7,100,110,validate\n")
    lists = [str(tmp_path / "train.csv"), str(tmp_path / "val.csv")]
    assert run(source, tmp_path / "out", "--csv", *lists) == 0
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").rows() == [
        ("-0Xy_000003_000013", "deep/-0Xy_000003_000013.mp4", "abseiling", "train"),
        ("q7_000100_000110", "q7_000100_000110.mkv", "zumba", "heldout"),
    ]
    assert "1 listed videos are not there" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,youtube_id,time_start,time_end\nzumba,q7,1,2\n", "'split' lacks"),
        ("label,youtube_id,time_start,time_end,split\nz,q7,1,2,test\n", "got 'test'"),
        ("label,youtube_id,time_start,time_end,split\nz,q7,1,2,train\n", "none of the 1 listed"),
    ],
)
def test_bad_lists(source, tmp_path, caplog, text, message):
    (tmp_path / "list.csv").write_text(text)
    assert run(source, tmp_path / "out", "--csv", str(tmp_path / "list.csv")) == 1
    assert message in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda source: (source / "train").rename(source / "other"), "a folder of videos for each"),
        (lambda source: (source / "train" / "empty").mkdir(), "must hold videos"),
    ],
)
def test_bad_trees(source, tmp_path, caplog, damage, message):
    damage(source)
    assert run(source, tmp_path / "out") == 1
    assert message in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_missing(source, tmp_path, caplog):
    assert run(source, tmp_path / "out", "--csv", str(tmp_path / "nowhere.csv")) == 1
    assert "nowhere.csv must be an official list" in caplog.text
