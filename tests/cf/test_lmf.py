from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from ulrec.cf.lmf import LMF, LMFConfig, optimal_users
from ulrec.errors import ConfigError, DataError

CONFIG = LMFConfig(num_factors=4, alpha=2.0, negatives=3)


def loss(point: np.ndarray, model: LMF, history: np.ndarray) -> float:
    """The equation of the module, term by term."""
    x, beta = point[:-1], point[-1]
    config = model.config
    total = 0.5 * config.regularisation * float(point @ point)
    num_negatives = min(config.num_factors + 2, config.negatives * int((history > 0).sum()))
    for item, weight in enumerate(history):
        s = float(x @ model.item_factors_[item] + model.item_bias_[item] + beta)
        total += config.alpha * weight * (np.logaddexp(0.0, s) - s)
        total += num_negatives * model.item_share_[item] * np.logaddexp(0.0, s)
    return total


def test_users_are_the_minimum_of_the_loss(weighted):
    model = LMF(CONFIG).fit(weighted)
    for user in (0, 1, 5, 28):
        history = weighted.user_items[user].toarray()[0].astype(np.float64)
        best = minimize(loss, np.zeros(5), args=(model, history), method="BFGS", tol=1e-9)
        np.testing.assert_allclose(model.user_factors_[user], best.x[:-1], atol=1e-4)
        score = model.score(weighted.user_items[[user]])[0]
        expected = model.item_factors_ @ best.x[:-1] + model.item_bias_ + best.x[-1]
        np.testing.assert_allclose(score, expected, atol=1e-3)


def test_the_start_does_not_matter():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((30, 5))
    positives = rng.random((8, 30)) * (rng.random((8, 30)) < 0.3)
    negatives = rng.random((8, 30))
    settings = {"offset": rng.standard_normal(30), "regularisation": 0.1}
    here = optimal_users(positives, negatives, y, **settings)
    far = optimal_users(positives, negatives, y, **settings, start=50 * rng.standard_normal((8, 5)))
    np.testing.assert_allclose(here, far, atol=1e-7)
    chance = 1 / (1 + np.exp(-(here @ y.T + settings["offset"])))
    gradient = ((positives + negatives) * chance - positives) @ y + 0.1 * here
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)


def test_factors_without_an_optimum_are_refused():
    one = np.ones((2, 1))
    y = np.full((1, 1), np.nan)
    with pytest.raises(DataError, match="2 users of LMF found no optimum in 100 steps"):
        optimal_users(one, one, y, offset=np.zeros(1), regularisation=1.0)


def test_items_are_those_of_implicit_on_one_thread(weighted):
    from implicit.cpu.lmf import LogisticMatrixFactorization

    model = LMF(CONFIG).fit(weighted)
    peer = LogisticMatrixFactorization(
        factors=4, regularization=0.6, iterations=30, neg_prop=3, num_threads=1, random_state=0
    )
    peer.fit(weighted.user_items * np.float32(2.0), show_progress=False)
    np.testing.assert_allclose(model.item_factors_, peer.item_factors[:, :4], atol=1e-6)
    np.testing.assert_allclose(model.item_bias_, peer.item_factors[:, 4], atol=1e-6)
    assert (peer.item_factors[:, 5] == 1.0).all()


def test_shares_sum_to_one(weighted):
    share = LMF(CONFIG).fit(weighted).item_share_
    np.testing.assert_allclose(share, weighted.popularity() / weighted.user_items.nnz)


def test_chunks_change_nothing(weighted, monkeypatch):
    model = LMF(CONFIG).fit(weighted)
    whole = model.leave_one_out(weighted)
    monkeypatch.setattr("ulrec.cf.lmf.CHUNK_NUMBERS", 1)
    monkeypatch.setattr("ulrec.cf.lmf.MIN_CHUNK", 7)
    monkeypatch.setattr("ulrec.cf.lmf.ITEMS_AT_ONCE", 4)
    np.testing.assert_allclose(model.leave_one_out(weighted), whole, atol=1e-6)


def test_nothing_is_left_of_a_history_of_one(weighted):
    left_out = LMF(CONFIG).fit(weighted).leave_one_out(weighted)
    lonely = np.diff(weighted.user_items.indptr)[weighted.pairs()[0]] == 1
    assert lonely.sum() == 3
    assert (left_out[lonely] == 0.0).all()
    assert (left_out[~lonely] != 0.0).any(axis=1).all()


@pytest.mark.parametrize("name", ["num_factors", "regularisation", "alpha", "negatives"])
def test_bad_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' of LMF has to be positive, got 0"):
        LMFConfig(**{name: 0})
