"""Samples of the stage-1 prior, drawn and judged on the small run."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from ulrec.checkpoint import open_artefact
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import EXTRA_STAGES, STAGES

FEW = (
    "prior_samples.num=6",
    "prior_samples.sampler.num_steps=2",
    "prior_samples.decoder.num_steps=2",
)


def drawn(run: Run) -> bool:
    """Whether the stage had to run."""
    (result,) = run_stages(run, [EXTRA_STAGES["prior-samples"]], report=lambda found: None)
    return not result.skipped


def test_the_prior_s_samples_stand_beside_real_pictures(tiny_copy, make_config):
    run = Run(config=make_config(tiny_copy.folder.parent, *FEW))
    assert drawn(run) and not drawn(run)
    folder = run.path("prior_samples")
    made_from = open_artefact(folder, kind="prior_samples").made_from
    assert made_from["prior"] == run.fingerprint("prior")
    media = np.load(folder / "media.npy")
    assert media.shape == (6, 3, 1, 16, 16) and media.dtype == np.uint8
    assert not np.array_equal(media[0], media[1])
    prior, real = json.loads((folder / "metrics.json").read_text())
    assert prior["set"] == "stage-1 prior" and prior["n"] == real["n"] == 6
    assert prior["KID-efflite0"] > real["KID-efflite0"]  # twelve steps of training against pictures
    assert Image.open(folder / "samples.png").size == (212, 32)  # six beside one another
    assert "prior-samples" not in STAGES
