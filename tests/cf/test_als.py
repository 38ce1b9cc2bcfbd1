from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from ulrec.cf.als import ALS, ALSConfig
from ulrec.cf.least_squares import fold_in, leave_one_out
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ITEM_ID, USER_ID
from ulrec.errors import ConfigError, DataError, NotFittedError

SETTINGS = [(0.1, 1.0), (0.01, 40.0), (5.0, 0.3)]


@pytest.fixture
def item_factors() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(25, 6))


def brute_force(
    history: sparse.csr_matrix, y: np.ndarray, regularisation: float, alpha: float
) -> np.ndarray:
    """Solve the equation as the paper prints it, with the full diagonal of confidences."""
    weight = history.toarray()[0].astype(np.float64)
    if not weight.any():
        return np.zeros(y.shape[1])
    confidence = np.where(weight > 0, alpha * weight, 1.0)
    a = y.T @ np.diag(confidence) @ y + regularisation * np.eye(y.shape[1])
    return np.linalg.solve(a, y.T @ (confidence * (weight > 0)))


@pytest.mark.parametrize(("regularisation", "alpha"), SETTINGS)
def test_fold_in_solves_the_normal_equations(weighted, item_factors, regularisation, alpha):
    rows = weighted.user_items
    got = fold_in(rows, item_factors, regularisation=regularisation, alpha=alpha)
    for user in range(30):
        expected = brute_force(rows[user], item_factors, regularisation, alpha)
        np.testing.assert_allclose(got[user], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("regularisation", "alpha"), SETTINGS)
def test_leave_one_out_equals_folding_in_again(weighted, item_factors, regularisation, alpha):
    got = leave_one_out(
        weighted.user_items, item_factors, regularisation=regularisation, alpha=alpha
    )
    user_idx, item_idx = weighted.pairs()
    for row, (user, item) in enumerate(zip(user_idx, item_idx, strict=True)):
        rest = weighted.user_items[user].tolil()
        rest[0, item] = 0.0
        expected = brute_force(rest.tocsr(), item_factors, regularisation, alpha)
        np.testing.assert_allclose(got[row], expected, rtol=1e-7, atol=1e-9)


def test_nothing_is_left_of_a_history_of_one(weighted, item_factors):
    got = leave_one_out(weighted.user_items, item_factors, regularisation=0.1, alpha=7.0)
    lonely = np.diff(weighted.user_items.indptr)[weighted.pairs()[0]] == 1
    assert lonely.sum() == 3
    assert (got[lonely] == 0.0).all()
    assert (got[~lonely] != 0.0).any(axis=1).all()


def test_chunks_change_nothing(weighted, item_factors, monkeypatch):
    settings = {"regularisation": 0.1, "alpha": 2.0}
    whole = fold_in(weighted.user_items, item_factors, **settings)
    left_out = leave_one_out(weighted.user_items, item_factors, **settings)
    monkeypatch.setattr("ulrec.cf.least_squares.CHUNK_NUMBERS", 1)
    rows = weighted.user_items
    np.testing.assert_allclose(fold_in(rows, item_factors, **settings), whole, rtol=1e-10)
    np.testing.assert_allclose(
        leave_one_out(rows, item_factors, **settings), left_out, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(("regularisation", "alpha"), SETTINGS)
def test_fold_in_agrees_with_implicit(weighted, regularisation, alpha):
    from implicit.cpu.als import AlternatingLeastSquares

    config = ALSConfig(num_factors=6, regularisation=regularisation, alpha=alpha, seed=3)
    model = ALS(config).fit(weighted)
    peer = AlternatingLeastSquares(
        factors=6, regularization=regularisation, alpha=alpha, dtype=np.float64, random_state=3
    )
    peer.fit(weighted.user_items, show_progress=False)
    np.testing.assert_allclose(peer.item_factors, model.item_factors_, rtol=1e-9, atol=1e-12)
    expected = peer.recalculate_user(np.arange(30), weighted.user_items)
    np.testing.assert_allclose(model.user_factors_, expected, rtol=1e-5, atol=1e-6)


def test_fold_in_of_the_training_histories_gives_the_fitted_factors(weighted):
    model = ALS(ALSConfig(num_factors=5)).fit(weighted)
    factors = model.factors()
    np.testing.assert_array_equal(model.fold_in(weighted.user_items), factors.user_factors)
    one = model.fold_in(weighted.user_items[[7]])
    np.testing.assert_allclose(one[0], factors.user_factors[7], rtol=1e-6)
    assert factors.can_fold_in
    assert factors.num_factors == 5
    assert factors.info["config"]["num_factors"] == 5
    assert factors.users == weighted.users
    assert not factors.user_factors[29].any()


def test_scores_are_products_of_factors(weighted):
    model = ALS(ALSConfig(num_factors=5)).fit(weighted)
    expected = model.user_factors_ @ model.item_factors_.T
    np.testing.assert_allclose(model.score(weighted.user_items), expected, rtol=1e-5, atol=1e-7)


def test_leave_one_out_of_the_model_is_the_shorter_history_folded_in(weighted):
    model = ALS(ALSConfig(num_factors=5, alpha=4.0)).fit(weighted)
    got = model.leave_one_out(weighted)
    assert got.dtype == np.float32
    assert got.shape == (weighted.user_items.nnz, 5)
    user_idx, item_idx = weighted.pairs()
    for row in (0, 17, 100):
        rest = weighted.user_items[user_idx[row]].tolil()
        rest[0, item_idx[row]] = 0.0
        np.testing.assert_allclose(got[row], model.fold_in(rest.tocsr())[0], atol=1e-6)


def test_a_fitted_factor_leaks_its_pairs():
    """On random data nothing can be foretold, and yet a fitted factor knows its own pairs."""
    rows, columns = np.nonzero(np.random.default_rng(0).random((200, 60)) < 0.15)
    data = Interactions.from_table(pl.DataFrame({USER_ID: rows, ITEM_ID: columns}))
    model = ALS(ALSConfig(num_factors=8, regularisation=0.01, alpha=1.0)).fit(data)
    user_idx, item_idx = data.pairs()
    items = model.item_factors_[item_idx]
    seen = (model.user_factors_[user_idx] * items).sum(1)
    unseen = (model.leave_one_out(data) * items).sum(1)
    assert (unseen < seen).mean() > 0.99
    assert unseen.mean() < 0.7 * seen.mean()


def test_threads_do_not_change_a_bit(weighted):
    """What lets ``fit`` use all cores: each row is solved by itself, in a fixed order."""
    from implicit.cpu.als import AlternatingLeastSquares

    def items(num_threads: int) -> np.ndarray:
        peer = AlternatingLeastSquares(
            factors=4, dtype=np.float64, random_state=0, num_threads=num_threads
        )
        peer.fit(weighted.user_items, show_progress=False)
        return np.asarray(peer.item_factors)

    np.testing.assert_array_equal(items(1), items(2))


def test_the_seed_is_the_only_chance(weighted):
    first, second = (ALS(ALSConfig(num_factors=4, seed=s)).fit(weighted) for s in (0, 1))
    assert (first.item_factors_ != second.item_factors_).any()


def test_fit_is_silent(weighted, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ALS(ALSConfig(num_factors=4)).fit(weighted)
    assert capfd.readouterr() == ("", "")


def test_early_use_is_refused(weighted):
    model = ALS(ALSConfig())
    for use in (model.factors, lambda: model.fold_in(weighted.user_items)):
        with pytest.raises(NotFittedError):
            use()
    with pytest.raises(NotFittedError):
        model.leave_one_out(weighted)


def test_leave_one_out_of_other_items_is_refused(weighted):
    model = ALS(ALSConfig(num_factors=4)).fit(weighted)
    table = pl.DataFrame({USER_ID: [1, 2], ITEM_ID: [1, 2]})
    with pytest.raises(DataError, match="25 items"):
        model.leave_one_out(Interactions.from_table(table))


@pytest.mark.parametrize(
    "bad",
    [{"num_factors": 0}, {"regularisation": 0.0}, {"alpha": -1.0}, {"iterations": 0}],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ConfigError, match=f"'{next(iter(bad))}' of ALS has to be positive"):
        ALSConfig(**bad)
