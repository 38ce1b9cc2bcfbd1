"""The benchmark of text steering runs on any run with text features."""

import runpy
import shutil
from pathlib import Path

from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES

SCRIPT = Path(__file__).parents[2] / "examples/benchmarks/text.py"


def test_every_arm_is_judged_and_shown(
    open_clip_installed, tiny_run, make_config, tmp_path, monkeypatch, capsys
):
    run = Run(config=make_config(tmp_path, "text.pretrained=emoji_clip"))
    shutil.copytree(tiny_run.folder, run.folder)
    run_stages(run, [STAGES["text-features"]], report=lambda result: None)
    sheet = tmp_path / "sheet.png"
    arguments = ["--run", run.folder, "--num", 3, "--steps", 2, "--out", sheet]
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    arms = [line.split("|")[1].strip() for line in lines]
    assert arms[1:5] == ["nobody", "nobody + text", "user", "user + text"]
    assert arms[5:] == ["nobody: with text - without", "user: with text - without"]
    assert sheet.stat().st_size > 0
