from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl

from ulrec import Pipeline

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "03_foreign_factors.py"

SMALLER = (
    "data.max_items=100",
    "data.simulation.num_users=40",
    "latents.fit.num_steps=4",
    "base.unconditional.num_steps=2",
    "base.conditional.num_steps=2",
    "generate.num_users=4",
    "generate.fans_per_category=0",
    "evaluate.reconstruction.num_steps=2",
    "evaluate.num_resamples=50",
    "evaluate.num_permutations=99",
)


def test_factors_of_another_model_steer_a_run(tmp_path):
    place = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--out", str(place), "--factors", "3", *SMALLER]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "foreign does not fold in: each condition has seen its own pair" in done.stdout
    folder = place / "tiny"
    assert f"report: {folder / 'report.html'}" in done.stdout
    assert (folder / "report.html").stat().st_size > 0
    assert {path.name for path in place.iterdir()} == {
        "tiny",
        "users.parquet",
        "items.npy",
        "items.txt",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    pipeline = Pipeline.load(folder)
    assert (pipeline.factors.num_factors, pipeline.factors.can_fold_in) == (3, False)
    for part in ("base", "conditioner"):
        manifest = json.loads((folder / part / "manifest.json").read_text())
        assert manifest["info"]["can_fold_in"] is False
    methods = pl.read_parquet(folder / "recommendations/recommendations.parquet")["method"]
    assert {"foreign", "als", "generate (user)"} <= set(methods)
