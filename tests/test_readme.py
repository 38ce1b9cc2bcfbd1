"""The README's Python runs as it stands, on the tiny run in the place of the quickstart's."""

import re
from pathlib import Path

import pytest

from ulrec.cli import _parser
from ulrec.experiment.runner import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_of_the_readme_runs(tiny_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(blocks("python"))
    assert '"runs/quickstart"' in code
    names: dict[str, object] = {}
    exec(code.replace('"runs/quickstart"', repr(str(tiny_run.folder))), names)
    assert "user_id" in capsys.readouterr().out
    assert len(names["table"]) == 30  # type: ignore[arg-type]


def test_the_commands_of_the_readme_are_known() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [line.split("#")[0].split()[1:] for line in lines if line.startswith("ulrec ")]
    assert len(commands) >= 3
    for command in commands:
        _parser().parse_args(command)
        if "--config" in command:
            assert (ROOT / command[command.index("--config") + 1]).is_file()


def test_the_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {t for block in blocks("sh") for t in re.findall(r"^make ([a-z-]+)", block, re.M)}
    assert {"quickstart", "test", "movielens"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_links_and_pictures_of_the_readme_exist() -> None:
    places = re.findall(r"\]\(([^)#]+)\)", README)
    local = [place for place in places if not place.startswith("http")]
    assert local and all((ROOT / place).exists() for place in local)
