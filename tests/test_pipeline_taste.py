"""What the demo asks of a pipeline: tastes, decoding, bits, a plane, and neighbours among some."""

from pathlib import Path

import numpy as np
import pytest

from ulrec import Pipeline
from ulrec.errors import ArtefactError, DataError
from ulrec.experiment.runner import Run


@pytest.fixture(scope="module")
def pipeline(tiny_run: Run) -> Pipeline:
    return Pipeline.load(tiny_run.folder)


def test_a_history_folds_in_to_its_users_factor(pipeline: Pipeline) -> None:
    row = int(np.flatnonzero(np.diff(pipeline.interactions.user_items.indptr))[0])
    history = pipeline.interactions.items[pipeline.interactions.history(row)]
    expected = pipeline.factors.user_factors[row]
    np.testing.assert_allclose(pipeline.fold_in(history.tolist()), expected, atol=1e-5)
    user = pipeline.factors.users[[row]].tolist()
    by_taste = pipeline.recommend_for(history.tolist(), k=5)
    by_user = pipeline.recommend(user, k=5, by="cf")
    np.testing.assert_allclose(by_taste["score"], by_user["score"], atol=1e-5)


def test_away_steers_and_by_itself_does_nothing_at_guidance_zero(pipeline: Pipeline) -> None:
    factors, seeds = pipeline.factors.user_factors[:2], np.array([1, 2])
    away = pipeline.factors.user_factors[2:4]
    draw = {"seeds": seeds, "decode": False}
    _, plain = pipeline.generate_for(factors, guidance=3.0, **draw)
    _, steered = pipeline.generate_for(factors, guidance=3.0, away=away, **draw)
    assert np.abs(plain - steered).max() > 1e-5
    _, nobody = pipeline.generate_for(factors, guidance=0.0, **draw)
    _, still = pipeline.generate_for(factors, guidance=0.0, away=away, **draw)
    np.testing.assert_allclose(nobody, still, atol=1e-6)


def test_decoding_follows_latent_and_seed(pipeline: Pipeline) -> None:
    latents = np.asarray(pipeline.latents.z[:2])
    media = pipeline.decode(latents, seeds=np.array([5, 5]))
    assert media.shape == (2, 3, 1, 16, 16) and media.dtype == np.uint8
    alone = pipeline.decode(latents[1:], seeds=np.array([5]))
    assert np.abs(media[1:].astype(int) - alone).max() <= 1
    assert (pipeline.decode(latents[1:], seeds=np.array([6])) != alone).any()


def test_bits_are_of_the_runs_prior(pipeline: Pipeline, tmp_path: Path) -> None:
    latents = np.asarray(pipeline.latents.z[:3])
    bits = pipeline.bits(latents, num_levels=2)
    assert bits.shape == (3,) and (bits > 0).all()
    np.testing.assert_allclose(pipeline.bits(latents[2:], num_levels=2), bits[2:], rtol=1e-4)
    pipeline.save(tmp_path / "saved")
    with pytest.raises(ArtefactError, match="prior"):
        Pipeline.load(tmp_path / "saved").bits(latents)


def test_the_plane_is_the_main_axes(pipeline: Pipeline) -> None:
    flat = np.asarray(pipeline.latents.z).reshape(len(pipeline.latents.z), -1).astype(np.float64)
    at = pipeline.plane(np.asarray(pipeline.latents.z))
    values = np.linalg.eigvalsh(np.cov(flat.T))[::-1][:2]
    np.testing.assert_allclose(at.var(axis=0, ddof=1), values, rtol=1e-2)


def test_neighbours_among_some(pipeline: Pipeline) -> None:
    some = pipeline.index.items[[3, 8, 11]].tolist()
    latents = np.asarray(pipeline.latents.z[:2])
    found = pipeline.neighbours(latents, k=5, among=some)
    assert found["query"].to_list() == [0, 0, 0, 1, 1, 1]
    assert set(found["item_id"]) == set(some)
    fewer = pipeline.neighbours(latents, k=5, among=some, exclude=[[some[0]], []])
    assert fewer["query"].to_list() == [0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="unknown"):
        pipeline.neighbours(latents, k=1, among=["unknown"])
