"""What bf16, recomputed activations and compilation do to a training step: time and memory.

    python examples/benchmarks/presets.py --config configs/emoji32.yaml --batch 32 --rounds 15

Forward, backward and a fused AdamW step of stage 1 and of the unconditional stage 2 of a
configuration, on random data, with every preset in turn within each round. Prints for each preset
the median time, the median of its ratio to plain float32 in the same round (below 1 is faster), and
the peak of memory over what stands before a step: of the allocator, without weights and the
optimiser's state. On a CPU that has no bf16 units bf16 is slower.
"""

import argparse
import contextlib
import copy
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ulrec.config import load_config
from ulrec.experiment.config import RunConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.unified import Unified
from ulrec.training.compute import ComputeConfig, computed

CHECKPOINTING = "activation checkpointing"
PRESETS = {
    "float32": (False, ComputeConfig()),
    "bf16": (True, ComputeConfig()),
    CHECKPOINTING: (False, ComputeConfig(activation_checkpointing=True)),
    "compile": (False, ComputeConfig(compile=True)),
    "bf16 + compile": (True, ComputeConfig(compile=True)),
    "all": (True, ComputeConfig(compile=True, activation_checkpointing=True)),
}


@dataclasses.dataclass
class Contender:
    """A model with the loss of one batch, under one preset."""

    model: nn.Module
    loss: Callable[[nn.Module], Tensor]
    bf16: bool
    device: torch.device

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def step(self) -> float:
        """Make a step and return its seconds."""
        start = time.perf_counter()
        self.optimiser.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.loss(self.model)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def peak(self) -> float:
        """Return by how many MiB a step exceeds what stands before it."""
        self.optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.step()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            self.step()
        events = seen.profiler.kineto_results.events()
        memory = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
        peak: int = max(itertools.accumulate(e.nbytes() for e in memory))
        return peak / 2**20


def stages(
    config: RunConfig, batch: int, device: torch.device
) -> dict[str, tuple[nn.Module, Callable[[nn.Module], Tensor]]]:
    """Return both models and their losses."""
    shape = config.latents.model.autoencoder
    x = torch.rand(batch, *shape.media_shape, device=device) * 2 - 1
    z = torch.randn(batch, *shape.latent_shape, device=device)
    base = BaseConfig(
        latent_shape=shape.latent_shape,
        network=config.base.network,
        weighting=config.base.weighting,
    )

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    return {
        "stage 1": (
            Unified(config.latents.model),
            lambda model: model.loss(x, generator=seeded()).total,
        ),
        "stage 2": (Base(base), lambda model: model.loss(z, generator=seeded())),
    }


def compare(
    stage: str,
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    *,
    names: list[str],
    rounds: int,
    device: torch.device,
) -> list[dict[str, object]]:
    """Time all presets in turn, the order changing from round to round."""
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name in names:
            bf16, compute = PRESETS[name]
            own = copy.deepcopy(model).to(device).train()
            stack.enter_context(computed(own, compute))
            contenders[name] = Contender(own, loss, bf16, device)
        first = {name: one.step() for name, one in contenders.items()}  # compiles, allocates
        peaks = {name: one.peak() for name, one in contenders.items()}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names if number % 2 else reversed(names):
                seconds[name].append(contenders[name].step())
    rows: list[dict[str, object]] = []
    for name in names:
        pairs = zip(seconds[name], seconds["float32"], strict=True)
        ratios = [own / plain for own, plain in pairs]
        rows.append(
            {
                "step": stage,
                "preset": name,
                "ms": round(1000 * statistics.median(seconds[name]), 1),
                "ratio": round(statistics.median(ratios), 3),
                "lowest": round(min(ratios), 3),
                "highest": round(max(ratios), 3),
                "peak MiB": round(peaks[name], 1),
                "memory ratio": round(peaks[name] / peaks["float32"], 3),
                "first step s": round(first[name], 1),
            }
        )
    return rows


def main() -> None:
    """Compare the presets on both stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/emoji32.yaml"))
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    device = torch.device(options.device)
    names = ["float32", *(name for name in options.presets if name != "float32")]
    config = load_config(RunConfig, options.config)
    rows = []
    for stage, (model, loss) in stages(config, options.batch, device).items():
        rows += compare(stage, model, loss, names=names, rounds=options.rounds, device=device)
        for row in rows[-len(names) :]:
            print(json.dumps(row), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
