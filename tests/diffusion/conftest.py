from __future__ import annotations

import itertools

import pytest

from ulrec.diffusion.schedule import SCHEDULES, Schedule

SHAPES = [*itertools.product(SCHEDULES, [0.0]), ("cosine", 2.0), ("cosine", -3.0)]


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}{shape[1]:+g}")
def schedule_z(request) -> Schedule:
    """Noise levels of latents in every shape, between the same ends."""
    name, shift = request.param
    return Schedule(logsnr_0=5.0, logsnr_1=-10.0, name=name, shift=shift)
