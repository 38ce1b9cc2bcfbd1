"""Clips coded as clips, against every frame coded as a picture, at equal distortion.

    python examples/benchmarks/clip_rate.py --run runs/emoji_clips --pictures emoji32

Held-out clips of a run. The clip model is measured as it is. The picture model codes frame by frame
at several rates: the latent is noised to a lower logsnr, which the prior charges fewer bits for
(the part of its bound above that level of noise), and the decoder is given the mean estimate by the
prior of the latent at the level it knows. Bits at the clip model's PSNR are read off between the
two nearest rates. PSNR is of one decoder sample, the same sampler for both. Prints Markdown.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from ulrec.data.media import MediaStore
from ulrec.data.schema import HELDOUT, ITEM_ID, SPLIT
from ulrec.diffusion.process import noised
from ulrec.diffusion.sampler import NoiseSource, SamplerConfig
from ulrec.evaluation.statistics import bootstrap_mean
from ulrec.models.autoencoder import Autoencoder
from ulrec.models.components import pretrained_folder
from ulrec.models.measure import latent_nats
from ulrec.models.prior import Prior
from ulrec.models.rarity import load_prior
from ulrec.pipeline import load_autoencoder, load_items

AT_ONCE = 64
PLACED = (3.0, 5.5, 8.0)
"""As the shipped models are decoded: examples/benchmarks/decoding.py."""


@torch.no_grad()
def coded(
    autoencoder: Autoencoder,
    prior: Prior,
    x: np.ndarray,
    *,
    logsnr: float,
    options: argparse.Namespace,
) -> tuple[np.ndarray, np.ndarray]:
    """Return bits per pixel and mean square error of media in [-1, 1], coded at a noise level."""
    exact = autoencoder.config.logsnr_z0
    schedule = dataclasses.replace(prior.config.schedule_z, logsnr_0=logsnr)
    charged = Prior(
        dataclasses.replace(prior.config, schedule_z=schedule),
        channels=autoencoder.config.encoder.latent_channels,
    )
    charged.load_state_dict(prior.state_dict())
    bits, errors = [], []
    pixels = np.prod(x.shape[2:])
    at_once = max(1, AT_ONCE // x.shape[2])
    for start in tqdm(range(0, len(x), at_once), desc=f"logsnr {logsnr:g}", disable=None):
        some = torch.from_numpy(x[start : start + at_once])
        seeds = list(range(start, start + len(some)))
        z = autoencoder.encode(some)
        nats = latent_nats(charged, z, num_levels=options.levels, seed=options.seed + start)
        z_0 = autoencoder.noise(z, NoiseSource(seeds, z.shape[1:], device="cpu")())
        if logsnr < exact:
            level = torch.full((len(z),), logsnr)
            eps = NoiseSource([seed + 1_000_003 for seed in seeds], z.shape[1:], device="cpu")()
            z_hat = prior.denoise(noised(z, level, eps), level)
            z_0 = autoencoder.noise(z_hat, NoiseSource(seeds, z.shape[1:], device="cpu")())
        sampler = SamplerConfig(num_steps=4, levels=PLACED)
        made = autoencoder.decode(z_0, seeds=seeds, sampler=sampler)
        bits.append((nats / np.log(2) / pixels).numpy())
        errors.append((made - some).square().flatten(1).mean(1).numpy())
    return np.concatenate(bits), np.concatenate(errors)


def main() -> None:
    """Code, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pictures", default="emoji32", help="a picture model of the same size")
    parser.add_argument("--logsnrs", type=float, nargs="+", default=[5, 4, 3, 2, 1, 0])
    parser.add_argument("--clips", type=int, default=72, help="held-out clips at most")
    parser.add_argument("--frames", type=int, default=4, help="of each clip, for the picture model")
    parser.add_argument("--levels", type=int, default=16, help="noise levels for the bits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    media = MediaStore.open(options.run / "media")
    items = load_items(options.run / "items")
    ids = items.filter(pl.col(SPLIT) == HELDOUT)[ITEM_ID].to_list()
    x = media.read(media.items.rows(ids)[: options.clips])
    clips, _ = load_autoencoder(options.run / "autoencoder")
    prior = load_prior(options.run / "prior")
    bits, errors = coded(clips, prior, x, logsnr=clips.config.logsnr_z0, options=options)
    ours = (bits.mean(), decibel(errors))
    print(f"{len(x)} held-out clips of {x.shape[2]} frames, seed {options.seed}\n")
    print("| coded | logsnr | bits/pixel | PSNR dB |")
    print("|---|---|---|---|")
    print(line("as clips", clips.config.logsnr_z0, bits, errors))
    chosen = np.linspace(0, x.shape[2] - 1, options.frames).round().astype(int)
    frames = x[:, :, chosen].swapaxes(1, 2).reshape(-1, x.shape[1], 1, *x.shape[3:])
    folder = pretrained_folder(options.pictures)
    pictures, _ = load_autoencoder(folder / "autoencoder")
    points = []
    for logsnr in options.logsnrs:
        bits, errors = coded(
            pictures, load_prior(folder / "prior"), frames, logsnr=logsnr, options=options
        )
        points.append((decibel(errors), bits.mean()))
        print(line(f"frame by frame ({options.pictures})", logsnr, bits, errors))
    points.sort()
    distortion, rate = np.array(points).T
    if not distortion[0] <= ours[1] <= distortion[-1]:
        print(f"\nno rate of the picture model brackets {ours[1]:.2f} dB; widen --logsnrs")
        return
    needed = float(np.interp(ours[1], distortion, rate))
    print(
        f"\nFrame by frame needs {needed:.3f} bits/pixel for {ours[1]:.2f} dB; clips need "
        f"{ours[0]:.3f}: {ours[0] / needed:.2f} of it."
    )


def decibel(errors: np.ndarray) -> float:
    """Return the mean PSNR of media in [-1, 1]."""
    return float((10 * np.log10(4 / errors)).mean())


def line(name: str, logsnr: float, bits: np.ndarray, errors: np.ndarray) -> str:
    """Return a row of the table with intervals over samples."""
    cells = [bootstrap_mean(values, seed=0) for values in (bits, 10 * np.log10(4 / errors))]
    texts = [f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in cells]
    return f"| {name} | {logsnr:g} | {texts[0]} | {texts[1]} |"


if __name__ == "__main__":
    main()
