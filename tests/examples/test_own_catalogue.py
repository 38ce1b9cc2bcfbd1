import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples/02_own_catalogue.py"
MIDDLE = "{width: 32, depth: 1, head_width: 16}"
SHORT = "{num_steps: 2, batch_size: 8, num_grids: 0}"
TINY = (
    "latents.model.autoencoder.encoder={channels: [16, 32], num_blocks: 1, latent_channels: 4}",
    f"latents.model.autoencoder.decoder={{channels: [16], num_blocks: 1, middle: {MIDDLE}}}",
    f"latents.model.prior.network={MIDDLE}",
    f"latents.fit={SHORT}",
    f"base.network={MIDDLE}",
    "base.conditioner={num_tokens: 2, width: 16, hidden: 32}",
    f"base.unconditional={SHORT}",
    f"base.conditional={SHORT}",
)


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_from_a_folder_to_recommendations(tmp_path, monkeypatch, capsys):
    run(monkeypatch, "--out", tmp_path, "--items", 36, *TINY)
    told = capsys.readouterr().out
    assert "user_id = userId" in told and "leading zeros (0 is 0000.png)" in told
    assert (tmp_path / "drawn.png").stat().st_size > 0
    assert (tmp_path / "run" / "base" / "manifest.json").is_file()


def test_unusable_data_stop_it_with_the_reason(tmp_path, monkeypatch, capsys):
    (tmp_path / "media").mkdir()
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "--media", tmp_path / "media", "--out", tmp_path / "out")
    assert stop.value.code == 1
    assert "no picture can be opened" in capsys.readouterr().out
