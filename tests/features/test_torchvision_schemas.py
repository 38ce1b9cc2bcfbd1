"""Each import is looked at in a process of its own: what is declared stays declared."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from ulrec.features.torchvision_schemas import declare_schemas

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="torchvision is not installed: pip install 'ulrec[clip]'",
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_torchvision
def test_training_and_open_clip_import_beside_torchvision():
    code = """
import ulrec.training.fit
from ulrec.features.open_clip import import_open_clip
import torchvision.transforms
print(import_open_clip().__name__)
"""
    assert run(code) == "open_clip"


@needs_torchvision
def test_twice_is_once():
    declare_schemas()
    before = torch.ops.torchvision.nms
    declare_schemas()
    assert torch.ops.torchvision.nms is before


@needs_torchvision
def test_operators_that_load_are_left_alone():
    """A declared operator has no kernel and says so; one that was loaded computes."""
    declare_schemas()
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]), torch.tensor([0.5, 0.9])
    try:
        assert torch.ops.torchvision.nms(boxes, scores, 0.5).tolist() == [1]
    except NotImplementedError as error:
        assert "torchvision::nms" in str(error)


def test_without_torchvision_nothing_is_declared():
    code = """
import importlib.util
importlib.util.find_spec = lambda name: None
import torch
from ulrec.features.torchvision_schemas import declare_schemas
declare_schemas()
print(hasattr(torch.ops.torchvision, "nms"))
"""
    assert run(code) == "False"
