from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ulrec.errors import DataError
from ulrec.retrieval.co_liked import co_liked_axes, embed_co_liked
from ulrec.retrieval.query import QueryConfig, fit_projection


def world(*, num_items: int = 300, num_users: int = 400, seed: int = 0):
    """Items of four kinds, liked together; four numbers of a latent show it, twelve are loud."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(4, size=num_items)
    tastes = rng.integers(4, size=num_users)
    chance = np.where(tastes[:, None] == kinds[None], 0.12, 0.01)
    likes = sparse.csr_matrix((rng.random((num_users, num_items)) < chance).astype(np.float32))
    latents = rng.normal(size=(num_items, 4, 1, 2, 2))
    latents[:, :, 0, 1:] *= 6
    latents[:, :, 0, 0, 1] *= 6
    latents[np.arange(num_items), kinds, 0, 0, 0] += 4
    return latents.astype(np.float32), likes, kinds


def same_kind(vectors: np.ndarray, kinds: np.ndarray) -> float:
    """Return how often an item's nearest other item is of its kind."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    return float(np.mean(kinds[cosines.argmax(1)] == kinds))


def test_co_liked_items_lie_near_one_another_where_plain_latents_do_not():
    latents, likes, kinds = world()
    found = {
        name: same_kind(
            fit_projection(latents, QueryConfig(name=name, dim=3), likes=likes)(latents), kinds
        )
        for name in ("flat", "whitened", "co_liked")
    }
    assert found["flat"] < 0.6
    assert found["whitened"] < 0.6
    assert found["co_liked"] > found["flat"] + 0.2


def test_items_nobody_has_liked_are_placed_by_their_latent():
    latents, likes, kinds = world()
    cold = np.arange(300) < 100
    warm_only = sparse.csr_matrix(likes.toarray() * ~cold)
    projection = fit_projection(latents, QueryConfig(name="co_liked", dim=3), likes=warm_only)
    vectors = projection(latents)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = (unit[cold] @ unit[~cold].T).argmax(1)
    assert np.mean(kinds[~cold][nearest] == kinds[cold]) > 0.7


def test_embedding_is_that_of_the_dense_matrix():
    """Products of embeddings: the best rank-Q part of the centred cosines of different items."""
    _, likes, _ = world(num_items=60)
    dense = likes.toarray().astype(np.float64)
    dense /= np.sqrt(np.maximum(dense.sum(1, keepdims=True), 1))
    dense /= np.linalg.norm(dense, axis=0)
    cosines = dense.T @ dense
    np.fill_diagonal(cosines, 0)
    centring = np.eye(60) - 1 / 60
    values, vectors = np.linalg.eigh(centring @ cosines @ centring)
    expected = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
    embedded = embed_co_liked(likes, 3)
    np.testing.assert_allclose(embedded @ embedded.T, expected, atol=1e-8)


def test_both_forms_of_the_ridge_agree():
    """Fewer items than numbers in a latent: the smaller system is solved, with the same answer."""
    rng = np.random.default_rng(0)
    _, likes, _ = world(num_items=60)
    narrow = rng.normal(size=(60, 40))
    # zeros change no prediction, but make a latent longer than the number of items
    wide = np.concatenate([narrow, np.zeros((60, 40))], axis=1)
    mean, _ = co_liked_axes(narrow, likes, 3)
    wide_mean, wide_axes = co_liked_axes(wide, likes, 3)
    assert wide_axes.shape == (80, 3)
    np.testing.assert_allclose(wide_mean[:40], mean, atol=1e-12)
    np.testing.assert_allclose(wide_axes[40:], 0, atol=1e-12)
    # the penalty is a share of the mean variance, which the zeros halve
    penalty = 0.3 * np.square(narrow - narrow.mean(0)).sum() / 80
    x = narrow - narrow.mean(0)
    target = embed_co_liked(likes, 3)
    expected = np.linalg.solve(x.T @ x + penalty * np.eye(40), x.T @ (target - target.mean(0)))
    np.testing.assert_allclose(wide_axes[:40], expected, atol=1e-8)


def test_the_same_on_every_call_and_whatever_the_weights():
    latents, likes, _ = world()
    first = co_liked_axes(latents.reshape(300, -1), likes, 3)[1]
    np.testing.assert_array_equal(co_liked_axes(latents.reshape(300, -1), likes, 3)[1], first)
    heavier = co_liked_axes(latents.reshape(300, -1), likes * 5, 3)[1]
    np.testing.assert_allclose(heavier, first, rtol=1e-8)


def test_errors_say_what_is_missing():
    latents, likes, _ = world(num_items=60)
    config = QueryConfig(name="co_liked", dim=3)
    with pytest.raises(DataError, match="needs the interactions of the 60 items, got none"):
        fit_projection(latents, config)
    with pytest.raises(DataError, match="of the 60 items, got those of 59 items"):
        fit_projection(latents, config, likes=likes[:, :59])
    with pytest.raises(DataError, match="more than zero where they are stored"):
        fit_projection(latents, config, likes=likes * -1)
    with pytest.raises(DataError, match="'dim' 60 needs more liked items than 60"):
        fit_projection(latents, QueryConfig(name="co_liked", dim=60), likes=likes)
    alone = sparse.csr_matrix(np.eye(60, dtype=np.float32))
    with pytest.raises(DataError, match="directions of taste, 'dim' is 3"):
        fit_projection(latents, config, likes=alone)
