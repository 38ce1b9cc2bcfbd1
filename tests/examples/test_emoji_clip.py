"""The recipe of the shipped CLIP model trains and judges; what ships is as good as it says."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ulrec.features.open_clip import ClipModel

pytestmark = pytest.mark.slow  # trains several models

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples/benchmarks/emoji_clip.py"
SHIPPED = ROOT / "ulrec/pretrained/emoji_clip"
SMALL = (
    f"catalogue={ROOT / 'datasets/fluent_emoji/stills.parquet'}",
    "model.vision.width=32",
    "model.vision.layers=1",
    "model.text.width=16",
    "model.text.layers=1",
    "fit.batch_size=8",
)


@pytest.fixture
def script(open_clip_installed, monkeypatch):
    def run(*arguments):
        config = str(ROOT / "configs/emoji_clip.yaml")
        monkeypatch.setattr("sys.argv", [str(SCRIPT), "--config", config, *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run


def figures(text: str) -> dict[str, tuple[float, float]]:
    """Return value and chance by the first words of each line of the table."""
    cells = [line.split("|")[1:4] for line in text.splitlines()[2:]]
    return {
        what.split(",")[0].strip(): (float(value.split()[0]), float(chance))
        for what, value, chance in cells
    }


def test_the_shipped_model_knows_held_out_emoji(script, capsys):
    script("--judge", "--out", SHIPPED, SMALL[0])
    found = figures(capsys.readouterr().out)
    assert found["category of 9"][0] > 0.45 > 2 * found["category of 9"][1]
    assert found["colour of 11"][0] > 0.7 > 3 * found["colour of 11"][1]
    first = found['first picture found by "colour kind"']
    assert first[0] > 0.2 > 10 * first[1]


def test_the_shipped_model_is_small_and_has_a_card():
    sizes = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert sum(sizes.values()) < 3e6 and sizes["README.md"] > 0


def test_a_seed_trains_one_model(script, tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        script(
            "--out", folder, "--work", tmp_path / f"{folder.name}-work", *SMALL, "fit.num_steps=2"
        )
    one, other = (ClipModel.load(str(folder)).encode_text(["red flag"]) for folder in folders)
    assert np.array_equal(one, other)
