"""Judge clips as clips: whether they move as real ones do, and hold together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ulrec.data.schema import HIGH, LOW
from ulrec.evaluation.fidelity import kid
from ulrec.evaluation.motion import (
    border_variance,
    clip_features,
    mean_ratio,
    shuffled_frames,
    temporal_energy,
)
from ulrec.experiment.generate import USER_ARM
from ulrec.experiment.judge import Headline, Judge, Tables

__all__ = ["judge_motion"]


def judge_motion(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Motion, stillness of the border, and KID in features that know the order of frames."""
    if judge.media.media.shape[2] == 1:
        return
    clips, frames = _sets(judge)
    train = clip_features(judge.features["catalogue_frames"][judge.train])
    real = clips["real held-out"]
    rows: list[dict[str, Any]] = []
    for label, media in clips.items():
        found = clip_features(frames[label])
        size = min(100, len(found), len(train))
        distance = kid(found, train, subset_size=size, num_subsets=50, seed=judge.seed)
        row: dict[str, Any] = {"set": label, "n": len(media), "kid_clip": distance.full}
        row |= {LOW: distance.low, HIGH: distance.high}
        for name, measure in (("energy", temporal_energy), ("border", border_variance)):
            ratio = mean_ratio(
                measure(media),
                measure(real),
                seed=judge.seed,
                num_resamples=judge.run.config.evaluate.num_resamples,
            )
            row |= {f"{name}_ratio": ratio.value, f"{name}_low": ratio.low}
            row |= {f"{name}_high": ratio.high}
        rows.append(row)
    backbone = judge.protocol.backbone
    note = (
        f"KID-{backbone}-clip against the {len(train)} train clips: the mean of the frames' "
        f"{backbone} features and, beside it, their rms change between frames; no FVD. "
        "energy: mean square change from frame to frame, averaged over cells of 4x4, "
        "border: variance over time of the outermost pixels; both over those of real held-out "
        "clips, with bootstrap intervals. Shuffled frames are real held-out clips out of order."
    )
    tables["motion"] = {"title": "Motion of clips", "note": note, "rows": rows}
    users = next(row for row in rows if row["set"].startswith(f"generated ({USER_ARM}"))
    value = f"{users['energy_ratio']:.3g} [{users['energy_low']:.3g}, {users['energy_high']:.3g}]"
    headline.append(
        {"name": "motion energy", "value": value, "note": "generated over real held-out clips"}
    )


def _sets(judge: Judge) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    """Return clips (N, C, F, H, W) and the features of their frames (N, F, d), by what they are."""
    real = np.asarray(judge.media.media[judge.heldout])
    generated = np.load(judge.run.path("generated") / "media.npy", mmap_mode="r")
    features = judge.features
    remade = np.asarray(features["reconstructed_media"], np.uint8)
    clips: dict[str, NDArray[np.uint8]] = {
        "real held-out": real,
        "reconstructed held-out": remade,
    }
    frames = {
        "real held-out": features["catalogue_frames"][judge.heldout],
        "reconstructed held-out": features["reconstructed_frames"],
    }
    for arm in (USER_ARM, "null"):
        label = f"generated ({arm})"
        clips[label] = np.asarray(generated[judge.arm(arm)])
        frames[label] = features["generated_frames"][judge.arm(arm)]
    label = "real held-out, shuffled frames"
    by_frame = np.moveaxis(real, 2, 1)
    clips[label] = np.moveaxis(shuffled_frames(by_frame, seed=judge.seed), 1, 2)
    frames[label] = shuffled_frames(frames["real held-out"], seed=judge.seed)
    return clips, frames
