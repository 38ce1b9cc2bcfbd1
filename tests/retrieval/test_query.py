from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ulrec.config import from_mapping
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.retrieval.query import (
    QUERIES,
    QueryConfig,
    fit_projection,
    flatten,
    load_projection,
    pooled,
    save_projection,
)

SHAPE = (3, 1, 4, 4)
SIZES = {"flat": 48, "pooled": 12, "pca": 5, "whitened": 5, "co_liked": 5}
every_query = pytest.mark.parametrize("name", QUERIES)


@pytest.fixture
def latents() -> np.ndarray:
    """200 latents with a mean and with unequal variances."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(48, 48)) * np.linspace(0.1, 2.0, 48)
    flat = rng.normal(size=(200, 48)) @ mixing + 3.0
    return flat.reshape(200, *SHAPE).astype(np.float32)


@pytest.fixture
def likes() -> sparse.csr_matrix:
    rng = np.random.default_rng(1)
    return sparse.csr_matrix((rng.random((100, 200)) < 0.1).astype(np.float32))


def config(name: str) -> QueryConfig:
    return QueryConfig(name=name, dim=5, grid=2)


@every_query
def test_shapes_and_batches(name, latents, likes):
    projection = fit_projection(latents, config(name), likes=likes)
    vectors = projection(latents)
    assert vectors.dtype == np.float32
    assert vectors.shape == (200, SIZES[name])
    np.testing.assert_allclose(projection(latents[3:4]), vectors[3:4], rtol=1e-4, atol=1e-5)
    assert projection(latents[:0]).shape == (0, SIZES[name])


@every_query
def test_other_latents_are_refused(name, latents, likes):
    projection = fit_projection(latents, config(name), likes=likes)
    with pytest.raises(DataError, match=r"\(B, 3, 1, 4, 4\) .* got \(200, 3, 1, 4, 2\)"):
        projection(latents[..., :2])
    with pytest.raises(DataError, match="got"):
        projection(latents[0])


@every_query
def test_save_load_projects_the_same(name, latents, likes, tmp_path):
    projection = fit_projection(latents, config(name), likes=likes)
    fingerprint = save_projection(projection, tmp_path / "query", made_from={"latents": "abc"})
    loaded = load_projection(tmp_path / "query")
    assert len(fingerprint) == 16
    assert loaded.config == projection.config
    np.testing.assert_array_equal(loaded(latents), projection(latents))


@every_query
def test_one_flipped_bit_is_found(name, latents, likes, tmp_path):
    save_projection(fit_projection(latents, config(name), likes=likes), tmp_path / "query")
    path = tmp_path / "query" / "config.yaml"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="damaged"):
        load_projection(tmp_path / "query")


def test_flatten_keeps_the_order():
    latents = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 2, 2)
    assert flatten(latents).tolist() == [[*range(12)], [*range(12, 24)]]


def test_pooled_by_hand():
    latents = np.arange(16, dtype=np.float32).reshape(1, 1, 1, 4, 4)
    assert pooled(latents, grid=2).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    clip = np.concatenate([latents, latents + 10.0], axis=2)
    assert pooled(clip, grid=1).tolist() == [[12.5]]


def test_pca_agrees_with_a_singular_value_decomposition(latents):
    projection = fit_projection(latents, config("pca"))
    flat = flatten(latents).astype(np.float64)
    _, _, axes = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    assert projection.matrix is not None
    cosines = np.abs((axes[:5] * projection.matrix.T).sum(1))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-6)
    expected = (flat - flat.mean(0)) @ projection.matrix
    np.testing.assert_allclose(projection(latents), expected, atol=1e-4)


def test_all_axes_keep_all_distances(latents):
    vectors = fit_projection(latents, QueryConfig(name="pca", dim=48))(latents)
    flat = flatten(latents)
    expected = np.linalg.norm(flat[:1] - flat, axis=1)
    np.testing.assert_allclose(np.linalg.norm(vectors[:1] - vectors, axis=1), expected, rtol=1e-4)


def test_whitened_axes_have_variance_one(latents):
    vectors = fit_projection(latents, config("whitened"))(latents)
    np.testing.assert_allclose(np.cov(vectors.T), np.eye(5), atol=1e-4)


def test_few_latents_give_the_same_axes_as_many(latents):
    """Below 48 latents the axes come from another decomposition; copies change no axis."""
    few = latents[:20]
    many = np.tile(few, (3, 1, 1, 1, 1))
    first = fit_projection(few, config("pca"))(few)
    np.testing.assert_allclose(first, fit_projection(many, config("pca"))(few), atol=1e-3)


def test_latents_are_read_in_blocks(latents, monkeypatch):
    whole = fit_projection(latents, config("whitened"))
    monkeypatch.setattr("ulrec.retrieval.query.LATENTS_AT_ONCE", 33)
    blocks = fit_projection(latents, config("whitened"))
    np.testing.assert_allclose(blocks.matrix, whole.matrix, rtol=1e-4, atol=1e-6)


def test_more_axes_than_directions_are_refused(latents):
    with pytest.raises(DataError, match="'dim' 20 is more than the 19 directions in which 20"):
        fit_projection(latents[:20], QueryConfig(name="pca", dim=20))
    with pytest.raises(DataError, match="the 0 directions"):
        fit_projection(np.ones((60, *SHAPE), np.float32), QueryConfig(name="whitened", dim=1))


def test_bad_settings_are_refused(latents):
    with pytest.raises(ConfigError, match="flat, pooled, pca, whitened, co_liked, got 'ica'"):
        from_mapping(QueryConfig, {"name": "ica"})
    with pytest.raises(ConfigError, match="'dim' has to be at least 1, got 0"):
        QueryConfig(dim=0)
    with pytest.raises(ConfigError, match="'grid' has to divide 4 and 4 of the latents, got 3"):
        fit_projection(latents, QueryConfig(name="pooled", grid=3))
    with pytest.raises(DataError, match=r"\(I, D, f, h, w\) with I > 0, got \(0, 3, 1, 4, 4\)"):
        fit_projection(latents[:0], QueryConfig())
