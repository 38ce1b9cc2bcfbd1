"""Two prices, one seed, a few steps: what is found, kept and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from ulrec.cli import main
from ulrec.errors import ConfigError
from ulrec.evaluation.rate_curve import BITS
from ulrec.experiment.sweep import SweepConfig, _at_equal_bits, sweep

ROOT = Path(__file__).parents[2]
FEW = (
    f"data.catalogue={ROOT / 'datasets/fluent_emoji/stills.parquet'}",
    "data.max_items=60",
    "data.simulation.num_users=20",
    "latents.fit.num_steps=4",
    "latents.fit.num_grids=0",
    "base.unconditional.num_steps=2",
    "base.unconditional.num_grids=0",
    "evaluate.reconstruction.num_steps=2",
)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep")
    places = ["--config", str(ROOT / "configs/tiny.yaml"), "--out", str(out)]
    swept = ["--loss-factors", "30", "4", "--seeds", "1", "--samples", "4"]
    return ["sweep", *places, *FEW, *swept], out


def test_a_sweep_leaves_its_points_a_table_and_a_plot(arguments, capsys):
    command, out = arguments
    assert main(command) == 0
    printed = capsys.readouterr().out
    rows = json.loads((out / "points.json").read_text())
    assert [(row["c_lf"], row["b_x"], row["seed"]) for row in rows] == [(30, 0, 1), (4, 0, 1)]
    for row in rows:
        assert row["bits/pixel"] > 0 and 0 < row["PSNR"] < 40
        assert row["rFD-efflite0"] > 0 and row["gFD-efflite0"] > 0
        assert {"KID-efflite0", "gKID-efflite0", "gain of z", "n"} < row.keys()
    table = json.loads((out / "table.json").read_text())
    assert [row["bits/pixel"] for row in table] == sorted(row["bits/pixel"] for row in rows)
    assert all(row["PSNR of Gaussian R(D)"] > 0 and row["PSNR of shrinking"] > 0 for row in table)
    bits = ", ".join(f"{row['bits/pixel']:.3g}" for row in table)
    assert [line.split(" takes ")[0] for line in printed.splitlines() if " takes " in line] == [
        f"{codec} at {bits}: {codec}" for codec in ("jpeg", "webp")
    ]
    with Image.open(out / "sweep.png") as plot:
        assert plot.width > 400


def test_what_is_found_is_kept(arguments, capsys):
    """A second sweep reads its points: the runs' models are gone, and nothing is trained."""
    command, out = arguments
    points = {path: path.stat().st_mtime_ns for path in (out / "points").iterdir()}
    table = (out / "table.json").read_text()
    models = list(out.glob("runs/*/autoencoder/model.safetensors"))
    assert len(points) == len(models) == 2
    for path in models:
        path.unlink()
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "points").iterdir()} == points
    assert (out / "table.json").read_text() == table


def test_another_sweep_stands_beside(arguments, capsys):
    """Its PSNR at the same bits is the points' own, halfway between them the mean."""
    command, out = arguments
    assert main([*command, "--beside", str(out)]) == 0
    assert f"PSNR of {out.name}" in capsys.readouterr().out
    table = json.loads((out / "table.json").read_text())
    assert [row[f"PSNR of {out.name}"] for row in table] == [row["PSNR"] for row in table]
    bits, psnr = zip(*((row["bits/pixel"], row["PSNR"]) for row in table), strict=True)
    between = pl.DataFrame({BITS: [sum(bits) / 2, bits[1] * 1.01]})
    points = pl.DataFrame(json.loads((out / "points.json").read_text()))
    assert _at_equal_bits(between, points) == [pytest.approx(sum(psnr) / 2), None]


def test_only_a_sweep_of_the_same_pictures_stands_beside(arguments, tmp_path, capsys):
    command, out = arguments
    assert main([*command, "--beside", str(tmp_path)]) == 1
    assert "expected the points of another sweep, there is no" in capsys.readouterr().err
    assert main([*command, "--beside", str(out), str(out)]) == 1
    assert "told by their folders' names" in capsys.readouterr().err
    points = json.loads((out / "points.json").read_text())
    for other in ({"heldout": "0" * 16}, {}):
        kept = [{key: row[key] for key in row if key != "heldout"} | other for row in points]
        (tmp_path / "points.json").write_text(json.dumps(kept))
        assert main([*command, "--beside", str(tmp_path)]) == 1
        assert "sweep the same catalogue at the same size" in capsys.readouterr().err


def test_other_pictures_are_noticed_before_any_training(arguments, tmp_path, capsys):
    command, out = arguments
    changes = {str(out): str(tmp_path / "new"), "data.max_items=60": "data.max_items=50"}
    anew = [changes.get(part, part) for part in command]
    assert main([*anew, "--beside", str(out)]) == 1
    assert "sweep the same catalogue at the same size" in capsys.readouterr().err
    assert not list((tmp_path / "new").glob("**/autoencoder"))


def test_what_cannot_be_swept_is_refused(make_config, tmp_path):
    swept = SweepConfig(loss_factors=(4.0,), biases=(0.0,))
    taken = make_config(tmp_path, "latents.pretrained=emoji32")
    with pytest.raises(ConfigError, match=r"set latents\.pretrained to null"):
        sweep(taken, swept, tmp_path)
    with pytest.raises(ConfigError, match="loss_factors have to be numbers, each once"):
        SweepConfig(loss_factors=(4.0, 4.0), biases=(0.0,))
    with pytest.raises(ConfigError, match="samples have to be 0"):
        SweepConfig(loss_factors=(4.0,), biases=(0.0,), samples=1)
