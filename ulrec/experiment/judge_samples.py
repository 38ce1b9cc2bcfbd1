"""Judge generated pictures as pictures: how close to real ones, and whether they are copies."""

from __future__ import annotations

import numpy as np

from ulrec.data.schema import HIGH, LOW, MEAN
from ulrec.evaluation.copying import copy_rate
from ulrec.evaluation.fidelity import frechet_distance, frechet_name, kid, kid_name
from ulrec.experiment.features import media_features
from ulrec.experiment.generate import ARMS, USER_ARM
from ulrec.experiment.judge import Headline, Judge, Tables
from ulrec.features.efflite0 import EffLite0

__all__ = ["judge_samples"]


def judge_samples(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Fidelity of reconstructions and samples, beside real held-out pictures and noise."""
    catalogue, generated = judge.features["catalogue"], judge.features["generated"]
    train, heldout = catalogue[judge.train], catalogue[judge.heldout]
    noise = np.random.default_rng(judge.seed).integers(
        0, 256, (len(heldout), *judge.media.media.shape[1:]), dtype=np.uint8
    )
    sets = {
        "real held-out": heldout,
        "reconstructed held-out": judge.features["reconstructed"],
        **{f"generated ({arm})": generated[judge.arm(arm)] for arm in ARMS},
        "noise": media_features(EffLite0(), noise, name="noise")["noise"],
    }
    name = str(judge.protocol.backbone)
    fewest = min(len(found) for found in sets.values())
    rows = []
    for label, found in sets.items():
        size = min(100, len(found), len(train))
        distance = kid(found, train, subset_size=size, num_subsets=50, seed=judge.seed)
        drawn = np.random.default_rng([judge.seed, 7]).permutation(len(found))[:fewest]
        rows.append(
            {
                "set": label,
                "n": len(found),
                kid_name(name): distance.full,
                LOW: distance.low,
                HIGH: distance.high,
                frechet_name(name): frechet_distance(found[np.sort(drawn)], train).distance,
            }
        )
    copied = copy_rate(
        generated[judge.arm(USER_ARM)],
        catalogue=train,
        heldout=heldout,
        quantile=judge.run.config.evaluate.copy_quantile,
    )
    note = (
        f"Against the {len(train)} train pictures in {name} features ({train.shape[1]} numbers). "
        f"{kid_name(name)} is unbiased over all n, its intervals over subsets of up to 100. "
        f"{frechet_name(name)} is biased upwards at small numbers, so that each set gives {fewest} "
        "pictures, which makes them comparable with one another but not with figures at other "
        f"numbers: read it against real held-out pictures, and lean on {kid_name(name)}."
    )
    copying = (
        f"A picture counts as copied when it lies nearer to a training picture, relative to its "
        f"next 50, than all but {copied.quantile:.1%} of real held-out pictures do. "
        f"{copied.warning or ''}"
    )
    tables["fidelity"] = {"title": "Fidelity", "note": note, "rows": rows}
    tables["copying"] = {
        "title": "Copying",
        "note": copying,
        "rows": [
            {
                "metric": "copy rate",
                MEAN: copied.rate.mean,
                LOW: copied.rate.low,
                HIGH: copied.rate.high,
                "n": copied.num_generated,
                "tau": copied.tau,
                "quantile": copied.quantile,
            }
        ],
    }
