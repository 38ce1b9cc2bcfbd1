"""The comparison of generators runs on made-up pictures of ten classes, and keeps what it found."""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # trains several models

SCRIPT = Path(__file__).parents[2] / "examples/benchmarks/generative.py"
VARIANTS = ["unified latents", "KL-VAE", "pixels", "stage-1 prior", "single stage"]
NETWORK = "{width: 32, depth: 1, head_width: 16}"
SMALLER = (
    "latents.model.autoencoder.encoder.channels=[8, 8]",
    "latents.model.autoencoder.encoder.num_last_blocks=1",
    "latents.model.autoencoder.decoder.channels=[8]",
    f"latents.model.autoencoder.decoder.middle={NETWORK}",
    f"latents.model.prior.network={NETWORK}",
    f"base.network={NETWORK}",
    "latents.fit.batch_size=4",
    "base.unconditional.batch_size=4",
    "generate.sampler.num_steps=2",
    "generate.decoder.num_steps=2",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten classes of one colour each, twice in both splits."""
    folder = tmp_path_factory.mktemp("cifar10")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        rows = []
        for label in 2 * list(range(10)):
            noise = rng.integers(0, 60, (32, 32, 3)) + 19 * label
            file = io.BytesIO()
            Image.fromarray(noise.astype(np.uint8)).save(file, format="JPEG")
            rows.append({"label": f"class {label}", "jpeg": file.getvalue()})
        pl.DataFrame(rows).write_parquet(folder / f"{split}.parquet")
    return folder


def run(monkeypatch, data, out):
    arguments = ["--data", data, "--out", out, "--steps", 3, "--seeds", 0, "--samples", 20]
    command = [str(SCRIPT), *map(str, arguments), "--overrides", *SMALLER]
    monkeypatch.setattr("sys.argv", command)
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_all_variants_at_one_budget(monkeypatch, capsys, data, tmp_path):
    run(monkeypatch, data, tmp_path)
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines() if x.startswith("{")]
    rows = {row["variant"]: row for row in lines}
    assert list(rows) == VARIANTS
    spent = [row["training FLOPs"] for row in rows.values()]
    assert max(spent) < 1.25 * min(spent)  # three steps do not divide finely
    assert rows["unified latents"]["steps 1"] == rows["unified latents"]["steps 2"] == 3
    assert rows["KL-VAE"]["steps 1"] > 3 and rows["stage-1 prior"]["steps 1"] > 3
    for name, row in rows.items():
        assert row["gFD-efflite0"] > 0 and np.isfinite(row["KID-efflite0"])
        assert ("CAS" in row) == (name in VARIANTS[:3])
        assert ("PSNR" in row) == (name != "pixels")
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["variant"] for row in table] == ["real test pictures", *VARIANTS]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*")}
    assert len(kept) == 5
    run(monkeypatch, data, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("rows/*")} == kept


def test_data_that_is_not_there_is_named(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, tmp_path)
    assert "has no train.parquet, a table of label and jpeg" in capsys.readouterr().err
