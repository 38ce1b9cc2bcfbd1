from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ulrec.cf.align import align, rotation_onto
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap
from ulrec.errors import DataError


@pytest.fixture
def old() -> Factors:
    rng = np.random.default_rng(0)
    return Factors(
        user_factors=rng.standard_normal((300, 6)).astype(np.float32),
        item_factors=rng.standard_normal((200, 6)).astype(np.float32),
        users=IdMap(range(300)),
        items=IdMap(range(200)),
        can_fold_in=True,
        info={"model": "als"},
    )


def turned(factors: Factors, *, noise: float = 0.0, seed: int = 1) -> Factors:
    """The factors in other axes, their rows in another order, with noise."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    users, items = rng.permutation(300), rng.permutation(200)

    def move(matrix: np.ndarray, rows: np.ndarray) -> np.ndarray:
        moved = (matrix @ rotation)[rows] + noise * rng.standard_normal(matrix.shape)
        return np.asarray(moved, np.float32)

    return dataclasses.replace(
        factors,
        user_factors=move(factors.user_factors, users),
        item_factors=move(factors.item_factors, items),
        users=IdMap(users),
        items=IdMap(items),
    )


def test_a_rotated_copy_comes_back(old):
    aligned = align(turned(old), old, max_drift=1e-5)
    assert max(aligned.drift.users, aligned.drift.items) < 1e-6
    assert (aligned.drift.num_users, aligned.drift.num_items) == (300, 200)
    back = aligned.factors
    rows = back.users.rows(old.users.ids)
    np.testing.assert_allclose(back.user_factors[rows], old.user_factors, atol=1e-5)
    np.testing.assert_allclose(aligned.rotation @ aligned.rotation.T, np.eye(6), atol=1e-12)
    assert back.info["drift"]["num_items"] == 200
    assert back.info["model"] == "als"


def test_products_are_kept(old):
    new = turned(old, noise=0.3)
    back = align(new, old, max_drift=1.0).factors
    np.testing.assert_allclose(
        back.user_factors @ back.item_factors.T, new.user_factors @ new.item_factors.T, atol=1e-4
    )


def test_noise_gives_the_drift_that_it_is(old):
    """Noise of 0.2 on factors of unit variance: 0.2, less what six angles of 200 x 6 explain."""
    drift = align(turned(old, noise=0.2), old, max_drift=1.0).drift
    assert drift.users == pytest.approx(0.2, rel=0.05)
    assert drift.items == pytest.approx(0.2, rel=0.05)


def test_a_new_user_does_not_move_the_rotation(old):
    new = turned(old)
    more = dataclasses.replace(
        new,
        user_factors=np.concatenate([new.user_factors, np.full((1, 6), 9, np.float32)]),
        users=IdMap([*new.users.ids.tolist(), 1000]),
    )
    aligned = align(more, old, max_drift=1e-5)
    np.testing.assert_array_equal(aligned.rotation, align(new, old, max_drift=1e-5).rotation)
    assert len(aligned.factors.users) == 301
    assert aligned.drift.num_users == 300


def test_rows_of_zeros_are_not_in_common(old):
    new = turned(old)
    new.item_factors[:50] = 0.0
    assert align(new, old, max_drift=1e-5).drift.num_items == 150


def test_drift_beyond_the_limit_is_refused_with_both_numbers(old):
    other = turned(old)
    other.user_factors[:] = np.random.default_rng(3).standard_normal((300, 6))
    with pytest.raises(
        DataError, match=r"items drift by 0\.000 and users by 1\.\d{3}, at most 0\.5"
    ):
        align(other, old, max_drift=0.5)


def test_another_dimension_is_refused(old):
    narrow = dataclasses.replace(
        old, user_factors=old.user_factors[:, :4], item_factors=old.item_factors[:, :4]
    )
    with pytest.raises(DataError, match="the new factors have 4 dimensions, the old 6"):
        align(narrow, old, max_drift=1.0)


def test_too_little_in_common_is_refused(old):
    strangers = dataclasses.replace(old, items=IdMap(range(195, 395)))
    with pytest.raises(DataError, match="5 items and 300 users have a factor in both"):
        align(strangers, old, max_drift=1.0)


def test_no_rotation_does_better():
    rng = np.random.default_rng(4)
    new, old = rng.standard_normal((2, 20, 3))
    best = np.linalg.norm(new @ rotation_onto(new, old) - old)
    for _ in range(200):
        other = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        assert np.linalg.norm(new @ other - old) >= best
