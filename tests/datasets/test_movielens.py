"""The script that turns GroupLens files into tables, on a hand-made folder and on the real one."""

import doctest
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from PIL import Image

from ulrec.data.tables import read_table, validate_catalogue, validate_interactions

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("ULREC_SHARED_DATA", ROOT.parent / "shared" / "data"))
REAL = SHARED / "movielens-100k"

GENRES = "unknown|0\nAction|1\nComedy|2\nDrama|3\n\n"
RATINGS = "7\t1\t5\t881250949\n7\t2\t1\t881250950\n9\t3\t3\t881250951\n9\t4\t4\t881250952\n"
FILMS = (
    '1|"Heat" (1995)|01-Jan-1995||http://x|0|1|0|1\n'
    "2|Misérables, Les (1995)|01-Jan-1996||http://x|0|0|0|1\n"
    "3|Land Before Time III (1995) (V)|01-Jan-1996||http://x|0|0|1|0\n"
    "4|unknown||||1|0|0|0\n"
)


def load() -> ModuleType:
    """Import the script, which is no package."""
    path = ROOT / "datasets" / "movielens" / "prepare.py"
    spec = importlib.util.spec_from_file_location("movielens_prepare", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


movielens = load()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four films, three posters: the film 3 has none."""
    folder = tmp_path / "source"
    (folder / "posters").mkdir(parents=True)
    (folder / "u.data").write_text(RATINGS)
    (folder / "u.genre").write_text(GENRES)
    (folder / "u.item").write_text(FILMS, encoding="latin-1")
    for number, suffix in ((1, "jpg"), (2, "png"), (4, "jpg")):
        poster = Image.new("RGB", (20, 30), (60 * number, 90, 30))
        poster.save(folder / "posters" / f"{number}.{suffix}")
    return folder


def run(source: Path, out: Path, *options: str) -> int:
    return movielens.main(["--source", str(source), "--out", str(out), *options])


def test_tables_of_a_hand_made_folder(source, tmp_path):
    out = tmp_path / "out"
    assert run(source, out) == 0
    items = validate_catalogue(read_table(out / "items.parquet"))
    assert items["item_id"].to_list() == ["1", "2", "3", "4"]
    assert items["name"].to_list() == [
        *('"Heat" (1995)', "Misérables, Les (1995)", "Land Before Time III (1995) (V)", "unknown")
    ]
    assert items["path"].to_list() == ["posters/1.jpg", "posters/2.png", None, "posters/4.jpg"]
    assert items["category"].to_list() == ["Action", "Drama", "Comedy", "unknown"]
    assert items["subcategory"].to_list() == ["Action|Drama", "Drama", "Comedy", "unknown"]
    films = read_table(out / "films.parquet")
    assert films["year"].to_list() == [1995, 1995, 1995, None]
    assert films["genres"].to_list() == [["Action", "Drama"], ["Drama"], ["Comedy"], ["unknown"]]
    interactions = validate_interactions(read_table(out / "interactions.parquet"))
    assert interactions.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "weight": pl.Float64,
        "timestamp": pl.Int64,
    }
    assert interactions.row(0) == ("7", "1", 5.0, 881250949)
    assert interactions["weight"].to_list() == [5, 1, 3, 4]


def test_posters_are_copied_and_missing_ones_reported(source, tmp_path, caplog):
    out = tmp_path / "out"
    assert run(source, out) == 0
    assert sorted(path.name for path in (out / "posters").iterdir()) == ["1.jpg", "2.png", "4.jpg"]
    for path in (out / "posters").iterdir():
        assert not path.is_symlink()
        assert path.read_bytes() == (source / "posters" / path.name).read_bytes()
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["num_missing_posters"] == 1
    assert report["missing_posters"] == {"3": "Land Before Time III (1995) (V)"}
    assert report["ratings_of_items_without_poster"] == 1
    assert (report["num_items"], report["num_users"], report["num_ratings"]) == (4, 2, 4)
    assert "1 items have no poster (1 ratings)" in caplog.text


def test_linking_and_running_again(source, tmp_path):
    out = tmp_path / "out"
    assert run(source, out, "--link") == 0
    assert (out / "posters" / "1.jpg").is_symlink()
    assert (out / "posters" / "1.jpg").resolve() == source / "posters" / "1.jpg"
    before = (out / "items.parquet").read_bytes()
    assert run(source, out) == 0
    assert not (out / "posters" / "1.jpg").is_symlink()
    assert (source / "posters" / "1.jpg").is_file()
    assert (out / "items.parquet").read_bytes() == before
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_a_poster_of_no_item_is_reported(source, tmp_path):
    shutil.copy(source / "posters" / "1.jpg", source / "posters" / "99.jpg")
    assert run(source, tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["posters_of_no_item"] == ["99"]
    assert not (tmp_path / "out" / "posters" / "99.jpg").exists()


def test_one_title_or_one_poster_is_one_concept(source, tmp_path):
    shutil.copy(source / "posters" / "1.jpg", source / "posters" / "3.jpg")
    text = FILMS + '5|"Heat" (1995)|01-Jan-1995||http://x|0|1|0|1\n'
    (source / "u.item").write_text(text, encoding="latin-1")
    assert run(source, tmp_path / "out", "--heldout-share", "0.6") == 0
    items = read_table(tmp_path / "out" / "items.parquet")
    same = items.filter(pl.col("item_id").is_in(["1", "3", "5"]))
    assert same["concept"].to_list() == ['"Heat" (1995)'] * 3
    assert same["split"].n_unique() == 1
    assert items["concept"].n_unique() == 3


def test_examples_in_docstrings():
    result = doctest.testmod(movielens)
    assert (result.attempted, result.failed) == (1, 0)


def test_chained_concepts():
    names = {"1": "a", "2": "b", "3": "b", "4": "c", "5": "d"}
    posters = {"1": "x", "3": "x", "4": "y", "2": "y"}
    assert movielens.concepts_of(names, posters) == dict.fromkeys("1234", "a") | {"5": "d"}


def test_the_seed_chooses_the_heldout_films():
    concepts = [f"film {i}" for i in range(1000)]
    chosen = [movielens.heldout_concepts(concepts, share=0.1, seed=seed) for seed in (0, 0, 1)]
    assert [len(one) for one in chosen] == [100, 100, 100]
    assert chosen[0] == chosen[1] != chosen[2]
    assert movielens.heldout_concepts(["a", "a", "b"], share=0.0, seed=0) == set()


@pytest.mark.parametrize("name", ["u.data", "u.item", "u.genre", "posters"])
def test_what_is_missing_is_named(source, tmp_path, caplog, name):
    path = source / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run(source, tmp_path / "out") == 1
    assert str(path) in caplog.text
    assert "there is none" in caplog.text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.data", "7\t1\t5\n", "must have 4 fields"),
        ("u.data", "7\t1\t5\t1\t2\n", "got 5"),
        ("u.data", "7::1::5::881250949\n", "got 1"),
        ("u.data", "", "cannot be read"),
        ("u.data", "7\t1\tfive\t881250949\n", "must be numbers"),
        ("u.data", "7\t1\t0\t881250949\n", "'weight' of .*u.data has to be positive"),
        ("u.data", "7\t1\t\t881250949\n", "'weight' of .*u.data is null"),
        ("u.data", RATINGS + "7\t1\t4\t881250949\n", "occur more than once"),
        ("u.data", RATINGS + "7\t8\t4\t881250949\n", "must stand in u.item; 1 do not, such as '8'"),
        ("u.item", "1|Heat (1995)|01-Jan-1995||http://x|0|1\n", "must have 9 fields"),
        ("u.item", FILMS + FILMS, "u.item must list every item once; got '1' twice"),
        ("u.genre", "unknown\n", "must have 2 fields"),
    ],
)
def test_wrong_files_are_refused(source, tmp_path, caplog, name, content, message):
    (source / name).write_text(content, encoding="latin-1")
    assert run(source, tmp_path / "out") == 1
    assert re.search(message, caplog.text)
    assert not (tmp_path / "out").exists()


def test_an_item_with_two_posters_is_refused(source, tmp_path, caplog):
    shutil.copy(source / "posters" / "1.jpg", source / "posters" / "1.jpeg")
    assert run(source, tmp_path / "out") == 1
    assert "1 has 1.jpeg and 1.jpg" in caplog.text


def test_a_folder_without_posters_is_refused(source, tmp_path, caplog):
    (tmp_path / "empty").mkdir()
    assert run(source, tmp_path / "out", "--posters", str(tmp_path / "empty")) == 1
    assert "must hold posters" in caplog.text


def test_a_share_of_one_is_refused(source, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(source, tmp_path / "out", "--heldout-share", "1")
    assert "a share lies in [0, 1), got 1" in capsys.readouterr().err


@pytest.mark.skipif(
    not (REAL / "u.data").is_file(),
    reason=f"no MovieLens-100K at {REAL}; set ULREC_SHARED_DATA to the folder above it",
)
def test_the_real_copy(tmp_path):
    assert run(REAL, tmp_path, "--link") == 0
    items = validate_catalogue(read_table(tmp_path / "items.parquet"))
    assert len(items) == 1682
    assert items["path"].null_count() == 19
    assert (items["split"] == "heldout").sum() == 168
    assert items.filter(pl.col("item_id") == "543")["name"].item() == "Misérables, Les (1995)"
    interactions = validate_interactions(read_table(tmp_path / "interactions.parquet"))
    assert len(interactions) == 100_000
    assert interactions["user_id"].n_unique() == 943
    assert (interactions["weight"] >= 4).sum() == 55_375
    years = read_table(tmp_path / "films.parquet")["year"]
    assert (years.min(), years.max(), years.null_count()) == (1922, 1998, 1)
    assert len(list((tmp_path / "posters").iterdir())) == 1663
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["num_missing_posters"] == 19
    assert len(report["items_of_one_concept"]) == 26
