"""Judge the latents: rate and distortion of held-out pictures, beside a baseline at equal bits."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ulrec.data.schema import ITEM_ID, METRIC, VALUE
from ulrec.evaluation.fidelity import foreground_psnr, psnr
from ulrec.evaluation.rate import downsampling_psnr
from ulrec.experiment.judge import Headline, Judge, Tables, figure
from ulrec.models.measure import gain_of_z, latent_nats
from ulrec.models.rarity import load_prior
from ulrec.pipeline import load_autoencoder

__all__ = ["judge_latents"]


def judge_latents(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Rate and distortion of held-out pictures, beside a baseline at equal bits."""
    run, rows = judge.run, judge.heldout
    config = run.config.evaluate
    autoencoder, _ = load_autoencoder(run.path("autoencoder"))
    x = torch.from_numpy(judge.media.read(rows))
    with torch.no_grad():
        z = autoencoder.encode(x)
    nats = latent_nats(
        load_prior(run.path("prior")), z, num_levels=config.num_levels, seed=judge.seed
    ).numpy()
    pixels = int(np.prod(autoencoder.config.media_shape[1:]))
    bits = nats / np.log(2) / pixels
    gain = gain_of_z(autoencoder, x, z, num_levels=config.num_levels, seed=judge.seed).numpy()
    real = np.asarray(judge.media.media[rows])
    made = judge.features["reconstructed_media"].astype(np.uint8)
    everyone = np.arange(len(rows))
    values = {
        "bits/pixel (upper bound, L_z)": (everyone, bits),
        "PSNR, dB (one decoder sample)": (everyone, psnr(real, made, data_range=255)),
        "gain of z, nats (wrong latent - own)": (everyone, gain),
    }
    note = f"{len(rows)} held-out pictures, {config.reconstruction.num_steps} decoder steps"
    masks = None
    if judge.media.masks is not None:
        masks = np.asarray(judge.media.masks[rows]) > 127
        values["foreground PSNR, dB"] = _foreground(real, made, masks)
    if bits.mean() > 0.2:
        baseline = downsampling_psnr(real, bits_per_pixel=float(bits.mean()))
        values["downsampling at equal bits: PSNR, dB"] = (everyone, baseline.psnr)
        size = f"{baseline.size[0]}x{baseline.size[1]}, {baseline.bits_per_value} bits a value"
        note += f"; the baseline keeps {size}, {baseline.bits_per_pixel:.2f} bits/pixel"
        if masks is not None:
            values["downsampling at equal bits: foreground PSNR, dB"] = _foreground(
                real, baseline.reconstructions, masks
            )
    rows_out = [{"metric": name, **judge.mean(found)} for name, (_, found) in values.items()]
    ids = np.asarray(judge.media.items[rows])
    tables["latents"] = {
        "title": "Latents: rate and distortion",
        "note": note,
        "rows": rows_out,
        "per_user": pl.concat(
            pl.DataFrame({ITEM_ID: ids[at].tolist(), VALUE: np.asarray(found, np.float64)}).select(
                ITEM_ID, pl.lit(name).alias(METRIC), VALUE
            )
            for name, (at, found) in values.items()
        ),
    }
    headline.append(figure("PSNR", rows_out[1], "dB, held-out pictures"))
    headline.append(figure("bits/pixel", rows_out[0], "upper bound"))


def _foreground(
    real: NDArray[np.uint8], made: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which pictures have a foreground, and its PSNR."""
    kept = np.flatnonzero(masks.any(axis=(1, 2, 3)))
    return kept, foreground_psnr(real[kept], made[kept], masks[kept], data_range=255)
