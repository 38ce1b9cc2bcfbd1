"""Examples of a pair are other items of its user, never its own."""

import numpy as np
import pytest

from ulrec.conditioning.examples import ExampleDraws

USERS = np.array([1, 0, 1, 3, 1, 0])
ITEMS = np.array([4, 2, 0, 1, 3, 5])
LIKED = {0: {2, 5}, 1: {4, 0, 3}, 3: {1}}


@pytest.fixture
def draws() -> ExampleDraws:
    return ExampleDraws(np.eye(6, dtype=np.float32), USERS, ITEMS, max_examples=2)


def test_others_of_the_same_user_each_as_often(draws: ExampleDraws) -> None:
    rng = np.random.default_rng(0)
    for pair, (user, item) in enumerate(zip(USERS, ITEMS, strict=True)):
        drawn = [draws.rows(pair, rng).tolist() for _ in range(300)]
        others = LIKED[user] - {item}
        assert set().union(*drawn) == others
        assert all(len(set(rows)) == len(rows) for rows in drawn)
        assert {len(rows) for rows in drawn} == ({1, 2} if len(others) == 2 else {len(others)})
    counts = np.bincount(np.concatenate([draws.rows(0, rng) for _ in range(4000)]), minlength=6)
    assert counts[0] / counts[3] == pytest.approx(1, abs=0.1)


def test_the_mean_of_their_embeddings_and_zeros_where_there_are_none(draws: ExampleDraws) -> None:
    means = draws(np.array([1, 3, 0]), np.random.default_rng(1))
    assert means[0].tolist() == [0, 0, 0, 0, 0, 1]  # the only other item of user 0
    assert not means[1].any()
    assert means[2].sum() == pytest.approx(1)
    assert means[2, 4] == 0
