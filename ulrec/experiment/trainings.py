"""What the trainings of a run share: where they keep their state, and their loss logs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from ulrec.config import digest
from ulrec.experiment.runner import Run

__all__ = ["device_of", "keep_losses", "last_mean", "training_folder"]


def training_folder(run: Run, name: str, parts: list[Any]) -> Path:
    """Return where a training keeps its state; another configuration gets another folder."""
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) else p for p in parts]  # type: ignore[arg-type]
    key = digest(json.loads(json.dumps([*plain, run.config.seed])))
    return run.path("training") / f"{name}-{key}"


def keep_losses(folder: Path, run: Run, name: str) -> list[dict[str, float]]:
    """Copy the loss log beside the artefacts and return its lines."""
    target = run.path("losses")
    target.mkdir(exist_ok=True)
    shutil.copyfile(folder / "losses.jsonl", target / f"{name}.jsonl")
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def last_mean(losses: list[dict[str, float]], name: str) -> str:
    """Return the mean of a logged value over the last tenth of the training."""
    tail = [line[name] for line in losses[-max(1, len(losses) // 10) :]]
    return f"{name} {sum(tail) / len(tail):.3f} at the end"


def device_of(run: Run) -> str:
    """Return where a run's networks go outside of their training: "cuda" where there is one.

    ``latents.fit.accelerator: cpu`` keeps them off it.
    """
    wanted = run.config.latents.fit.accelerator in ("auto", "gpu", "cuda")
    return "cuda" if wanted and torch.cuda.is_available() else "cpu"
