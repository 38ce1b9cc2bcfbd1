"""Measure clips: from files to arrays, through the encoder, and a training step of stage 1.

    python examples/benchmarks/clips.py decode
    python examples/benchmarks/clips.py decode --count 4 --seconds 2 --kinds mp4 webp
    python examples/benchmarks/clips.py networks --rounds 5

``networks`` runs the encoder and a training step (forward, backward, fused AdamW) of a clip
configuration on clips of noise, and those of a picture configuration on the same frames one by one,
in turns; medians over rounds and the ratio of each round's pair. Memory is what the process grows
by, at its peak, from one clip to a batch, for each clip more.

``decode``: clips are made on the spot: noise that moves, of a given size and length. The naive loop
decodes every frame with PyAV or Pillow, resizes the wanted ones with the same filter, and stacks
them; both run in this process on one thread, in turns, and the best of ``--repeats`` counts. Where
ulrec is faster it is because it seeks, and lets FFmpeg shrink while it converts.
"""

import argparse
import io
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from ulrec.config import load_config
from ulrec.data.clips import decode_clip
from ulrec.data.encode import FileKind, encode_frames
from ulrec.data.pictures import MediaConfig
from ulrec.experiment.config import RunConfig
from ulrec.models.unified import Unified

Bytes = np.ndarray
FPS = 25
ROOT = Path(__file__).parents[2]


def make_clip(kind: FileKind, *, height: int, width: int, num_frames: int, seed: int) -> bytes:
    """Return a clip of coarse noise that drifts: neither still nor incompressible."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + num_frames, width // 8, 3), dtype=np.uint8)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    frames = np.stack([picture[i : i + height, :width] for i in range(num_frames)])
    return encode_frames(frames, kind=kind, fps=FPS)


def ours(data: bytes, config: MediaConfig) -> Bytes:
    """Decode as ulrec does."""
    return decode_clip(data, config).media


def naive(data: bytes, kind: str, config: MediaConfig) -> Bytes:
    """Decode every frame, resize the wanted ones, stack them (C, F, H, W)."""
    if kind == "mp4":
        with av.open(io.BytesIO(data)) as file:
            frames = [frame.to_image() for frame in file.decode(video=0)]
    else:
        with Image.open(io.BytesIO(data)) as image:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    rows = ((np.arange(config.frames) + 0.5) * len(frames) / config.frames).astype(int)
    size = (config.width, config.height)
    resized = [frames[row].resize(size, Image.Resampling.HAMMING) for row in rows]
    return np.stack([np.asarray(frame) for frame in resized]).transpose(3, 0, 1, 2)


def seconds_of(work: Callable[[bytes], Bytes], clips: Sequence[bytes]) -> float:
    """Return how long the clips take one after the other."""
    start = time.perf_counter()
    for clip in clips:
        work(clip)
    return time.perf_counter() - start


def measure_decode(options: argparse.Namespace) -> list[dict[str, object]]:
    """Return clips a second of both ways for every kind and size."""
    results = []
    for kind in options.kinds:
        for height, width in options.sizes:
            config = MediaConfig(frames=options.frames, height=options.side, width=options.side)
            cropped = MediaConfig(
                frames=options.frames, height=options.side, width=options.side, fit="crop"
            )
            shape = {"height": height, "width": width, "num_frames": int(options.seconds * FPS)}
            clips = [make_clip(kind, **shape, seed=seed) for seed in range(options.count)]
            ways: dict[str, Callable[[bytes], Bytes]] = {
                "ulrec": partial(ours, config=cropped),
                "naive": partial(naive, kind=kind, config=config),
            }
            best = dict.fromkeys(ways, float("inf"))
            for _ in range(options.repeats):
                for name, work in ways.items():
                    best[name] = min(best[name], seconds_of(work, clips))
            rates = {name: round(len(clips) / taken, 2) for name, taken in best.items()}
            ratio = round(best["naive"] / best["ulrec"], 2)
            results.append({"kind": kind, **shape, "clips_per_s": rates, "ratio": ratio})
    return results


def peak_mib() -> float:
    """Return the most memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def encoder_of(model: Unified, x: Tensor) -> Callable[[], object]:
    """Return what encodes media once."""

    def encode() -> object:
        with torch.no_grad():
            return model.autoencoder.encode(x)

    return encode


def step_of(model: Unified, x: Tensor) -> Callable[[], object]:
    """Return what makes one training step."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        model.loss(x).total.backward()
        optimiser.step()

    return step


def seconds_once(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_networks(options: argparse.Namespace) -> list[dict[str, object]]:
    """Return clips a second and memory, against the same frames as pictures."""
    torch.manual_seed(options.seed)
    settings = [
        load_config(RunConfig, path).latents.model for path in (options.clips, options.pictures)
    ]
    x = torch.rand(options.batch, *settings[0].autoencoder.media_shape) * 2 - 1
    frames = x.transpose(1, 2).flatten(0, 1)[:, :, None]
    results = []
    for name, build in (("encode", encoder_of), ("training step", step_of)):
        clips, pictures = (Unified(config) for config in settings)
        seconds_once(build(clips, x[:1]))
        alone = peak_mib()
        ways = {"clips": build(clips, x), "frame by frame": build(pictures, frames)}
        seconds_once(ways["clips"])
        grown = (peak_mib() - alone) / (options.batch - 1)
        seconds_once(ways["frame by frame"])
        rounds = [{n: seconds_once(way) for n, way in ways.items()} for _ in range(options.rounds)]
        ratios = sorted(r["clips"] / r["frame by frame"] for r in rounds)
        median = {n: statistics.median(r[n] for r in rounds) for n in ways}
        results.append(
            {
                "what": name,
                "clips_per_s": {n: round(options.batch / taken, 2) for n, taken in median.items()},
                "time of clips over frame by frame": round(statistics.median(ratios), 3),
                "from": round(ratios[0], 3),
                "to": round(ratios[-1], 3),
                "mib_per_clip": round(grown, 1),
            }
        )
    return results


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of a text such as 360x640."""
    height, width = map(int, text.split("x"))
    return height, width


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    decode = commands.add_parser("decode", help="clips a second from files to arrays")
    decode.add_argument("--kinds", nargs="+", default=["mp4", "webp", "gif"])
    decode.add_argument("--sizes", nargs="+", type=parse_size, default=[(64, 64), (360, 640)])
    decode.add_argument("--seconds", type=float, default=10.0, help="length of a clip")
    decode.add_argument("--frames", type=int, default=16, help="that are wanted of it")
    decode.add_argument("--side", type=int, default=64, help="of the arrays")
    decode.add_argument("--count", type=int, default=8, help="clips of each kind and size")
    decode.add_argument("--repeats", type=int, default=3)
    decode.set_defaults(measure=measure_decode)
    networks = commands.add_parser("networks", help="encoder and training step of stage 1")
    networks.add_argument("--clips", type=Path, default=ROOT / "configs/emoji_clips32.yaml")
    networks.add_argument("--pictures", type=Path, default=ROOT / "configs/emoji32.yaml")
    networks.add_argument("--batch", type=int, default=4, help="clips, at least 2")
    networks.add_argument("--rounds", type=int, default=5)
    networks.add_argument("--seed", type=int, default=0)
    networks.set_defaults(measure=measure_networks)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print as JSON."""
    options = parse(arguments)
    versions = {name: version(name) for name in ("av", "pillow", "numpy", "torch")}
    result = {"machine": platform.processor(), "versions": versions}
    print(json.dumps({**result, "results": options.measure(options)}, indent=1))


if __name__ == "__main__":
    main()
