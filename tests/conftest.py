"""A whole run at tiny size, made once and shared by the tests that look at runs."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ulrec.config import load_config
from ulrec.experiment.config import RunConfig
from ulrec.experiment.runner import Run, StageResult, run_stages
from ulrec.experiment.stages import STAGES

# What makes golden values runs where the peers are installed, not here.
collect_ignore_glob = ["*/golden/*.py"]

ROOT = Path(__file__).parents[1]

SMALLER = (
    "name=smallest",
    "data.max_items=150",
    "data.simulation.num_users=60",
    "latents.fit.num_steps=12",
    "base.unconditional.num_steps=6",
    "base.conditional.num_steps=6",
    "generate.num_users=8",
    "evaluate.reconstruction.num_steps=3",
    "evaluate.num_resamples=50",
    "evaluate.num_permutations=99",
)


def tiny_config(folder: Path, *overrides: str) -> RunConfig:
    catalogue = ROOT / "datasets/fluent_emoji/stills.parquet"
    places = (f"folder={folder}", f"data.catalogue={catalogue}")
    return load_config(RunConfig, ROOT / "configs/tiny.yaml", (*SMALLER, *places, *overrides))


def run_all(run: Run) -> list[StageResult]:
    return run_stages(run, list(STAGES.values()), report=lambda result: None)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All stages, run once; tests that change something work on ``tiny_copy``."""
    run = Run(config=tiny_config(tmp_path_factory.mktemp("runs")))
    run_all(run)
    return run


@pytest.fixture(scope="session")
def make_config() -> Callable[..., RunConfig]:
    """The configuration of the tiny run with overrides."""
    return tiny_config


@pytest.fixture
def tiny_copy(tiny_run: Run, tmp_path: Path) -> Run:
    """A copy of the tiny run that a test may damage."""
    run = Run(config=tiny_config(tmp_path))
    shutil.copytree(tiny_run.folder, run.folder)
    return run


@pytest.fixture(scope="session")
def open_clip_installed() -> None:
    """Skip what needs open_clip where it is not: ``pip install 'ulrec[clip]'`` (``dev`` has it)."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed: pip install 'ulrec[clip]'")
