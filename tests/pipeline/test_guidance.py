"""Guidance by history length: its form, its fit, its artefact, and that users get theirs."""

import shutil

import numpy as np
import pytest

from ulrec import Pipeline
from ulrec.errors import ArtefactError, DataError
from ulrec.experiment.runner import Run
from ulrec.pipeline import Taste
from ulrec.pipeline.guidance import CalibratedGuidance, fit_guidance, load_guidance

SCALE = CalibratedGuidance(lengths=(3, 15), scales=(2.0, 8.0))


def test_it_is_linear_in_the_log_and_never_falls() -> None:
    assert SCALE([0, 1, 3, 7, 15, 1000]).tolist() == [0.0, 1.0, 2.0, 5.0, 8.0, 8.0]
    assert (np.diff(SCALE(np.arange(50))) >= 0).all()


@pytest.mark.parametrize(
    ("lengths", "scales"),
    [((), ()), ((0, 2), (1.0, 2.0)), ((2, 1), (1.0, 2.0)), ((1, 2), (2.0, 1.0)), ((1,), (-1.0,))],
)
def test_what_falls_or_starts_at_nothing_is_refused(lengths: tuple, scales: tuple) -> None:
    with pytest.raises(DataError, match="rising lengths above 0"):
        CalibratedGuidance(lengths=lengths, scales=scales)


GAIN = [[0.5, 0.6, 0.1], [1.0, 2.0, 2.5]]
DISTANCE = [[0.1, 0.5, 0.9], [0.1, 0.2, 0.7]]


@pytest.mark.parametrize(
    ("most", "scales"),
    [
        (0.1, (1.0, 1.0)),  # all that a mean of 0.1 allows
        (0.16, (1.0, 2.0)),  # (0.1 + 0.2) / 2
        (0.4, (1.0, 4.0)),  # 0.5 + 2.5 at 0.4, before 0.6 + 2.0 at 0.35
        (9.0, (2.0, 4.0)),  # 0.6 + 2.5
    ],
)
def test_the_fit_takes_the_most_within_what_it_may_cost(most: float, scales: tuple) -> None:
    found = fit_guidance([2, 20], [1.0, 2.0, 4.0], GAIN, DISTANCE, most=most)
    assert (found.lengths, found.scales) == ((2, 20), scales)


def test_the_fit_never_falls_even_where_that_would_bring_more() -> None:
    found = fit_guidance([2, 20], [1.0, 4.0], [[0.0, 3.0], [2.0, 0.0]], np.zeros((2, 2)), most=1.0)
    assert found.scales == (4.0, 4.0)  # 3.0 + 0.0, before 0.0 + 2.0; (4, 1) would fall


def test_bad_measurements_are_refused() -> None:
    with pytest.raises(DataError, match=r"within 0\.01; allow more"):
        fit_guidance([2, 20], [1.0, 2.0, 4.0], GAIN, DISTANCE, most=0.01)
    with pytest.raises(DataError, match="have to be finite"):
        fit_guidance([2, 20], [1.0, 2.0, 4.0], np.full((2, 3), np.nan), DISTANCE, most=1.0)
    with pytest.raises(DataError, match=r"\(2, 2\), got \(2, 3\)"):
        fit_guidance([2, 20], [1.0, 2.0], GAIN, DISTANCE, most=1.0)


def test_a_run_keeps_it_and_users_get_theirs(tiny_copy: Run) -> None:
    run, pipeline = tiny_copy, Pipeline.load(tiny_copy.folder)
    rows = np.flatnonzero(pipeline.factors.known_users)[:3]
    users = pipeline.factors.users[rows].tolist()
    with pytest.raises(ArtefactError, match="no calibrated guidance; fit it with"):
        pipeline.generate(users, guidance="calibrated")
    made_from = {name: run.fingerprint(name) for name in ("base", "conditioner")}
    SCALE.save(run.path("guidance"), made_from=made_from)
    assert load_guidance(run.folder) == SCALE
    made = pipeline.generate(users, guidance="calibrated", decode=False)
    lengths = [len(pipeline.interactions.history(row)) for row in rows]
    for place, length in enumerate(lengths):
        alone = pipeline.generate([users[place]], guidance=float(SCALE([length])[0]), decode=False)
        np.testing.assert_allclose(made.latents[place], alone.latents[0], atol=1e-5)
    items = pipeline.interactions.items[:3].tolist()
    few = pipeline.generate_taste([Taste(liked=items)], guidance="calibrated", decode=False)
    same = pipeline.generate_taste([Taste(liked=items)], guidance=2.0, decode=False)
    np.testing.assert_allclose(few.latents, same.latents, atol=1e-5)
    with pytest.raises(DataError, match="numbers or 'calibrated', got 'strong'"):
        pipeline.generate_taste([Taste(liked=items)], guidance="strong")
    pipeline.save(run.folder.parent / "saved")
    assert load_guidance(run.folder.parent / "saved") == SCALE


def test_that_of_other_models_is_refused(tiny_copy: Run) -> None:
    folder = tiny_copy.path("guidance")
    SCALE.save(folder, made_from={"base": "another", "conditioner": "another"})
    with pytest.raises(ArtefactError, match="the guidance were made from another base"):
        load_guidance(tiny_copy.folder)
    shutil.rmtree(folder)
