"""The rate-distortion example: its demonstration, runs, and tables."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ulrec.data.media import prepare_media
from ulrec.data.pictures import MediaConfig
from ulrec.errors import DataError
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result, load_results, save_results

SCRIPT = Path(__file__).parents[2] / "examples/06_rate_distortion.py"
PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="v", seed=0, n=3)


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def written(place: Path) -> pl.DataFrame:
    assert (place / "rate_distortion.png").stat().st_size > 0
    return load_results(place / "results")[0].summary


def make_run(folder: Path, *, rate: float, quality: float, protocol: Protocol = PROTOCOL) -> Path:
    """Write of an evaluated run what the example reads: latents' table, media, items."""
    pictures = folder.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    for item in range(6):
        pixels = np.random.default_rng(item).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{item}.png")
    items = pl.DataFrame({"item_id": list(range(6)), "split": ["train", "heldout"] * 3})
    table = items.select("item_id", path=pl.format("{}.png", "item_id"))
    prepare_media(
        table.to_arrow(),
        config=MediaConfig(height=16, width=16),
        folder=folder / "media",
        media_root=pictures,
        num_threads=1,
    )
    (folder / "items").mkdir()
    items.write_parquet(folder / "items" / "items.parquet")
    metrics = ["bits/pixel (upper bound, L_z)", "PSNR, dB (one decoder sample)"]
    summary = pl.DataFrame({"metric": metrics, "mean": [rate, quality]})
    result = Result(name="latents", protocol=protocol, summary=summary)
    save_results(folder / "evaluation", [result], title="run")
    return folder


def test_the_demonstration(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "--out", tmp_path, "--num", 4, "--size", 32)
    table = written(tmp_path)
    assert table["bits_per_pixel"].is_sorted() and table["psnr"].is_sorted()
    np.testing.assert_allclose(table["shrinking"], table["psnr"])
    assert table["jpeg"][0] is None and table["webp"][-1] > table["shrinking"][-1]
    assert "jpeg at 0.4" in capsys.readouterr().out


def test_runs_beside_baselines_of_their_own_pictures(tmp_path, monkeypatch):
    runs = [
        make_run(tmp_path / name, rate=rate, quality=quality)
        for name, rate, quality in (("coarse", 2.0, 12.0), ("fine", 9.0, 21.0))
    ]
    run(monkeypatch, "--runs", *runs, "--out", tmp_path / "out")
    table = written(tmp_path / "out")
    assert table["name"].to_list() == ["coarse", "fine"]
    assert table["psnr"].to_list() == [12.0, 21.0]
    assert table["shrinking"][0] < table["shrinking"][1] and table["webp"][1] is not None
    assert load_results(tmp_path / "out" / "results")[0].protocol == PROTOCOL


def test_runs_of_other_data_are_not_compared(tmp_path, monkeypatch):
    other = dataclasses.replace(PROTOCOL, data_fingerprint="e")
    runs = [
        make_run(tmp_path / "a", rate=2.0, quality=12.0),
        make_run(tmp_path / "b", rate=3.0, quality=13.0, protocol=other),
    ]
    with pytest.raises(DataError, match="data_fingerprint: 'd' against 'e'"):
        run(monkeypatch, "--runs", *runs, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables(tmp_path, monkeypatch):
    path = tmp_path / "points.csv"
    path.write_text("name,bits_per_pixel,psnr\nmine,1,30\ntheirs,2,33\n")
    run(monkeypatch, "--table", path, "--out", tmp_path / "out")
    table = written(tmp_path / "out")
    assert table["psnr"].to_list() == [30, 33]
    assert table["webp"].null_count() == 2
    path.write_text("name,bits_per_pixel,psnr\nmine,0,30\n")
    with pytest.raises(DataError, match="not positive"):
        run(monkeypatch, "--table", path, "--out", tmp_path / "other")
    path.write_text("name,psnr\nmine,30\n")
    with pytest.raises(DataError, match="needs rows and the columns"):
        run(monkeypatch, "--table", path, "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()
