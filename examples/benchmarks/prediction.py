"""Going on from given frames: against the last frame held and a straight line, on held-out clips.

    python examples/benchmarks/prediction.py --run runs/emoji_clips
    python examples/benchmarks/prediction.py --run runs/moving_shapes --samples 8

PSNR is of the frames after the given ones; of the model that of the mean of --samples samples and
that of a single one. KID is between single samples and the real clips themselves, in efflite0
features of the frames and of their change (ulrec/evaluation/motion.py), the given frames left out.
Differences are paired by clip, with bootstrap intervals. Writes ``prediction.webp``: real clips
above what was drawn from their first frames. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from ulrec import Pipeline
from ulrec.data.media import MediaStore
from ulrec.data.schema import HELDOUT, ITEM_ID, SPLIT
from ulrec.diffusion.sampler import SAMPLERS, SamplerConfig
from ulrec.evaluation.animation import animated_compared_sheet, encode_sheet
from ulrec.evaluation.fidelity import kid, psnr
from ulrec.evaluation.motion import clip_features
from ulrec.evaluation.statistics import bootstrap_mean
from ulrec.experiment.features import media_features
from ulrec.features.efflite0 import EffLite0

ON_SHEET = 12


def straight_line(clips: np.ndarray, given: int) -> np.ndarray:
    """Return clips whose pixels go on as they went from the last given frame but one."""
    known = clips[:, :, :given].astype(np.float64)
    steps = np.arange(1, clips.shape[2] - given + 1)[:, None, None]
    step = (known[:, :, -1:] - known[:, :, -2:-1]) * steps
    following = np.clip(known[:, :, -1:] + step, 0, 255).round().astype(np.uint8)
    return np.concatenate([clips[:, :, :given], following], axis=2)


def held(clips: np.ndarray, given: int) -> np.ndarray:
    """Return clips that stand still after the given frames."""
    last = np.repeat(clips[:, :, given - 1 : given], clips.shape[2] - given, axis=2)
    return np.concatenate([clips[:, :, :given], last], axis=2)


def main() -> None:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=8, help="of each clip, for their mean")
    parser.add_argument("--clips", type=int, default=72, help="held-out clips at most")
    parser.add_argument("--guidance", type=float, default=1.0, help="of the given frames")
    parser.add_argument("--sampler", choices=SAMPLERS, default="ddim")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of prediction.webp; the run's by default")
    options = parser.parse_args()
    pipeline = Pipeline.load(options.run)
    pipeline.sampler = SamplerConfig(name=options.sampler, num_steps=options.steps)
    pipeline.decoder = SamplerConfig(num_steps=4, levels=(3.0, 5.5, 8.0))
    media = MediaStore.open(options.run / "media")
    ids = pipeline.items.filter(pl.col(SPLIT) == HELDOUT)[ITEM_ID].to_list()
    real = np.asarray(media.media[media.items.rows(ids)[: options.clips]])
    given = pipeline.base.config.given_frames
    drawn = []
    with tqdm(total=options.samples * len(real), desc="predict", unit="clip", disable=None) as bar:

        def advance(num: int) -> None:
            bar.update(num)

        for number in range(options.samples):
            drawn.append(
                pipeline.continue_clips(
                    real[:, :, :given],
                    frames_guidance=options.guidance,
                    seed=options.seed + number,
                    progress=advance,
                )
            )
    mean = np.mean(drawn, axis=0).round().astype(np.uint8)
    ways = {
        "last frame held": held(real, given),
        "straight line": straight_line(real, given),
        "one sample": drawn[0],
        f"mean of {options.samples} samples": mean,
    }
    report(real, ways, given=given, seed=options.seed)
    out = options.out or options.run
    shown = {"real": real[:ON_SHEET], "drawn": drawn[0][:ON_SHEET]}
    sheet = animated_compared_sheet(shown, title=f"{given} frames given, the rest drawn")
    (out / "prediction.webp").write_bytes(encode_sheet(sheet))


def report(real: np.ndarray, ways: dict[str, np.ndarray], *, given: int, seed: int) -> None:
    """Print PSNR with differences to the mean of samples, and KID."""
    network = EffLite0()

    def features(clips: np.ndarray) -> np.ndarray:
        return clip_features(
            media_features(network, clips[:, :, given:], name="clips")["clips_frames"]
        )

    values = {
        name: psnr(real[:, :, given:], clips[:, :, given:], data_range=255)
        for name, clips in ways.items()
    }
    best = values[list(ways)[-1]]
    truth, size = features(real), max(2, len(real) * 2 // 3)
    print(f"{len(real)} held-out clips, {given} frames given of {real.shape[2]}, seed {seed}\n")
    print("| | PSNR dB | mean of samples is better by | KID-efflite0-clip against the real ones |")
    print("|---|---|---|---|")
    for name, clips in ways.items():
        own = bootstrap_mean(values[name], seed=seed)
        gain = bootstrap_mean(best - values[name], seed=seed)
        distance = kid(features(clips), truth, subset_size=size, num_subsets=50, seed=seed)
        print(
            f"| {name} | {own.mean:.2f} [{own.low:.2f}, {own.high:.2f}] "
            f"| {gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] "
            f"| {distance.full:.4f} [{distance.low:.4f}, {distance.high:.4f}] |"
        )


if __name__ == "__main__":
    main()
