from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ulrec.cf.ease import EASE, EASEConfig, item_weights
from ulrec.errors import ConfigError, DataError


def loss(x: np.ndarray, b: np.ndarray, regularisation: float) -> float:
    return float(((x - x @ b) ** 2).sum() + regularisation * (b**2).sum())


def test_columns_are_ridge_regressions_on_the_other_items(weighted):
    """The diagonal is zero: column j regresses item j on all the others."""
    x = weighted.user_items.toarray().astype(np.float64)
    b = item_weights(weighted.user_items, regularisation=2.0)
    for j in (0, 7, 24):
        others = np.delete(x, j, axis=1)
        ridge = np.linalg.solve(others.T @ others + 2.0 * np.eye(24), others.T @ x[:, j])
        np.testing.assert_allclose(np.delete(b[:, j], j), ridge, rtol=1e-9, atol=1e-12)
        assert b[j, j] == 0.0


def test_no_step_lowers_the_loss(weighted):
    x = weighted.user_items.toarray().astype(np.float64)
    b = item_weights(weighted.user_items, regularisation=2.0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = 1e-3 * rng.standard_normal(b.shape)
        np.fill_diagonal(step, 0.0)
        assert loss(x, b + step, 2.0) > loss(x, b, 2.0)


def test_ranking_uses_all_of_b(weighted):
    model = EASE(EASEConfig(num_factors=2, regularisation=2.0)).fit(weighted)
    expected = weighted.user_items @ item_weights(weighted.user_items, regularisation=2.0)
    np.testing.assert_allclose(model.score(weighted.user_items), expected, rtol=1e-5, atol=1e-6)


def test_factors_are_the_best_of_their_rank(weighted):
    """Eckart-Young: what a truncated decomposition leaves is the tail of the singular values."""
    b = item_weights(weighted.user_items, regularisation=2.0)
    s = np.linalg.svd(b, compute_uv=False)
    model = EASE(EASEConfig(num_factors=5, regularisation=2.0)).fit(weighted)
    left = b - model.encoder_ @ model.item_factors_.T
    np.testing.assert_allclose(np.linalg.norm(left), np.sqrt((s[5:] ** 2).sum()), rtol=1e-9)
    np.testing.assert_allclose(model.user_factors_, weighted.user_items @ model.encoder_)


def test_all_factors_give_the_scores(weighted):
    model = EASE(EASEConfig(num_factors=48, regularisation=2.0)).fit(weighted)
    factors = model.factors()
    assert factors.num_factors == 25  # the catalogue has no more
    products = factors.user_factors @ factors.item_factors.T
    np.testing.assert_allclose(products, model.score(weighted.user_items), atol=1e-5)


def test_large_catalogues_are_decomposed_by_iteration(weighted, monkeypatch):
    whole = EASE(EASEConfig(num_factors=5)).fit(weighted)
    monkeypatch.setattr("ulrec.cf.ease.DENSE_ITEMS", 1)
    one, two = (EASE(EASEConfig(num_factors=5)).fit(weighted) for _ in range(2))
    np.testing.assert_array_equal(one.encoder_, two.encoder_)
    np.testing.assert_allclose(
        one.encoder_ @ one.item_factors_.T, whole.encoder_ @ whole.item_factors_.T, atol=1e-9
    )


def test_leave_one_out_subtracts_the_item(weighted):
    model = EASE(EASEConfig(num_factors=3)).fit(weighted)
    left_out = model.leave_one_out(weighted)
    user_idx, item_idx = weighted.pairs()
    counts = np.diff(weighted.user_items.indptr)[user_idx]
    assert (left_out[counts == 1] == 0.0).all() and (counts == 1).sum() == 3
    row = int(np.flatnonzero(counts == 5)[2])
    weight = weighted.user_items[user_idx[row], item_idx[row]]
    expected = model.user_factors_[user_idx[row]] - weight * model.encoder_[item_idx[row]]
    np.testing.assert_allclose(left_out[row], expected, atol=1e-6)


def test_a_catalogue_beyond_the_limit_is_refused_with_its_memory():
    config = EASEConfig(max_items=1000)
    data = sparse.csr_matrix(([1.0], ([0], [0])), shape=(1, 40_000), dtype=np.float32)
    from ulrec.data.ids import IdMap
    from ulrec.data.interactions import Interactions

    big = Interactions(user_items=data, users=IdMap([0]), items=IdMap(range(40_000)))
    # 3 x 8 x 40,000^2 bytes
    with pytest.raises(
        DataError, match=r"40000 items need about 35\.8 GiB, 'max_items' allows 1000"
    ):
        EASE(config).fit(big)


@pytest.mark.parametrize("name", ["num_factors", "regularisation", "max_items"])
def test_bad_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' of EASE has to be positive, got 0"):
        EASEConfig(**{name: 0})
