"""Judge the latents: rate and distortion of held-out pictures, beside a baseline at equal bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ulrec.data.schema import MEAN
from ulrec.evaluation.fidelity import foreground_psnr, psnr
from ulrec.evaluation.rate import downsampling_psnr
from ulrec.experiment.judge import Headline, Judge, Tables, figure
from ulrec.experiment.train_latents import load_prior
from ulrec.models.measure import gain_of_z, latent_nats
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
    nats = latent_nats(load_prior(run), z, num_levels=config.num_levels, seed=judge.seed).numpy()
    pixels = int(np.prod(autoencoder.config.media_shape[1:]))
    bits = judge.mean(nats / np.log(2) / pixels)
    gain = gain_of_z(autoencoder, x, z, num_levels=config.num_levels, seed=judge.seed).numpy()
    real = np.asarray(judge.media.media[rows])
    made = judge.features["reconstructed_media"].astype(np.uint8)
    baseline = downsampling_psnr(real, bits_per_pixel=bits[MEAN]) if bits[MEAN] > 0.2 else None
    rows_out = [
        {"metric": "bits/pixel (upper bound, L_z)", **bits},
        {"metric": "PSNR, dB (one decoder sample)", **judge.mean(psnr(real, made, data_range=255))},
        {"metric": "gain of z, nats (wrong latent - own)", **judge.mean(gain)},
    ]
    note = f"{len(rows)} held-out pictures, {config.reconstruction.num_steps} decoder steps"
    if judge.media.masks is not None:
        masks = np.asarray(judge.media.masks[rows]) > 127
        rows_out.append({"metric": "foreground PSNR, dB", **_foreground(judge, real, made, masks)})
    if baseline is not None:
        rows_out.append(
            {"metric": "downsampling at equal bits: PSNR, dB", **judge.mean(baseline.psnr)}
        )
        size = f"{baseline.size[0]}x{baseline.size[1]}, {baseline.bits_per_value} bits a value"
        note += f"; the baseline keeps {size}, {baseline.bits_per_pixel:.2f} bits/pixel"
        if judge.media.masks is not None:
            cells = _foreground(judge, real, baseline.reconstructions, masks)
            rows_out.append({"metric": "downsampling at equal bits: foreground PSNR, dB", **cells})
    tables["latents"] = {"title": "Latents: rate and distortion", "note": note, "rows": rows_out}
    headline.append(figure("PSNR", rows_out[1], "dB, held-out pictures"))
    headline.append(figure("bits/pixel", rows_out[0], "upper bound"))


def _foreground(
    judge: Judge, real: NDArray[np.uint8], made: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> dict[str, Any]:
    kept = masks.any(axis=(1, 2, 3))
    return judge.mean(foreground_psnr(real[kept], made[kept], masks[kept], data_range=255))
