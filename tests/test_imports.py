"""What an import costs and what it drags in, each looked at in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "polars",
    "numpy",
    "scipy",
    "pytorch_lightning",
    "implicit",
    "faiss",
    "matplotlib",
)
RECOMMENDER_SIDE = ("polars", "implicit", "faiss", "open_clip", "streamlit")
TRAINING_PATH = (
    "ulrec.training.fit",
    "ulrec.training.tasks",
    "ulrec.training.callbacks",
    "ulrec.training.datamodule",
    "ulrec.models.unified",
    "ulrec.models.autoencoder",
    "ulrec.models.prior",
    "ulrec.models.base",
    "ulrec.models.components",
    "ulrec.models.measure",
    "ulrec.conditioning.user",
    "ulrec.networks.encoder",
    "ulrec.networks.decoder",
    "ulrec.networks.transformer",
    "ulrec.diffusion.sampler",
    "ulrec.data.media",
    "ulrec.data.latents",
    "ulrec.data.factors",
    "ulrec.data.ids",
    "ulrec.data.schema",
)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(*modules: str) -> set[str]:
    """Return the top-level packages that are loaded after importing ``modules``."""
    imports = "; ".join(f"import {module}" for module in modules)
    return set(
        run(f"{imports}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})").split()
    )


def test_importing_ulrec_is_light():
    assert not loaded_by("ulrec") & set(HEAVY)


def test_importing_ulrec_is_quick():
    code = "import time; t = time.perf_counter(); import ulrec; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


def test_top_level_names_are_loaded_on_first_use():
    printed = run(
        "import sys, ulrec; assert set(ulrec.__all__) <= set(dir(ulrec)); "
        "from ulrec import ULRecError; assert 'torch' not in sys.modules; "
        "from ulrec import Pipeline; print(Pipeline.__module__, ULRecError.__module__)"
    )
    assert printed == "ulrec.pipeline.pipeline ulrec.errors"


def test_unknown_names_are_missing():
    import ulrec

    with pytest.raises(AttributeError, match="module 'ulrec' has no attribute 'Pipelines'"):
        _ = ulrec.Pipelines


@pytest.mark.parametrize(
    "module",
    [
        "ulrec.cf",
        "ulrec.cf.registry",
        "ulrec.retrieval.index",
        "ulrec.retrieval.query",
        "ulrec.checkpoint",
        "ulrec.config",
        "ulrec.data.interactions",
        "ulrec.data.splits",
        "ulrec.data.simulate",
    ],
)
def test_the_recommender_side_needs_no_torch(module):
    assert "torch" not in loaded_by(module)


@pytest.mark.parametrize(
    "module", ["ulrec.data.schema", "ulrec.data.ids", "ulrec.data.factors", "ulrec.data.latents"]
)
def test_stores_need_no_tables(module):
    assert not loaded_by(module) & {"torch", "polars", "scipy"}


def test_faiss_is_loaded_on_first_use():
    assert "faiss" not in loaded_by("ulrec.retrieval.index")


def test_the_training_path_imports_without_the_recommender_side():
    code = f"""
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {RECOMMENDER_SIDE}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
for name in {TRAINING_PATH}:
    importlib.import_module(name)
try:
    import polars
except ImportError as error:
    print(error)
"""
    assert run(code) == "polars is blocked"


def test_models_know_neither_lightning_nor_tables():
    models = [module for module in TRAINING_PATH if module.startswith("ulrec.models")]
    assert not loaded_by(*models) & {"pytorch_lightning", "polars", "scipy", "implicit", "faiss"}
