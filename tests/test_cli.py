import subprocess
import sys

import pytest

from ulrec.cli import main


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("train-latents", "doctor", "ulrec run --config", "exit codes"):
        assert word in text


def test_a_wrong_key_exits_with_1_and_says_what_was_meant(capsys, tmp_path):
    code = main(["run", f"folder={tmp_path}", "generate.guidence=1"])
    assert code == 1
    assert "did you mean 'guidance'" in capsys.readouterr().err


def test_a_missing_configuration_is_named(capsys):
    assert main(["run", "--config", "nowhere.yaml"]) == 1
    assert "nowhere.yaml" in capsys.readouterr().err


def test_a_missing_catalogue_is_named_and_nothing_is_written(capsys, tmp_path):
    code = main(["prepare", f"folder={tmp_path}", "data.catalogue=nowhere.parquet"])
    assert code == 1 and "nowhere.parquet" in capsys.readouterr().err
    assert not (tmp_path / "default" / "media").exists()


def test_no_command_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2


def test_a_stage_without_its_inputs_says_what_to_run(capsys, tmp_path):
    assert main(["encode", f"folder={tmp_path}"]) == 1
    assert "ulrec run" in capsys.readouterr().err


def test_the_module_runs_too():
    done = subprocess.run(
        [sys.executable, "-m", "ulrec", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("ulrec ")


def test_an_up_to_date_stage_is_skipped(tiny_copy, capsys):
    config = tiny_copy.path("config.yaml")
    assert main(["prepare", "--config", str(config)]) == 0
    assert "up to date" in capsys.readouterr().out
