"""Precision, recall, density, coverage: on a line by hand, and against plain loops."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from ulrec.errors import DataError
from ulrec.evaluation import manifold
from ulrec.evaluation.manifold import manifold_scores


def test_on_a_line_by_hand() -> None:
    # Real balls, k = 1: 0 reaches 1, 1 reaches 1, 3 reaches 2 (to 1), 10 reaches 7 (to 3).
    real = np.array([[0.0], [1], [3], [10]])
    # Generated balls: 0.5 reaches 3.5 (to 4), 4 reaches 3.5, 30 reaches 26 (to 4).
    generated = np.array([[0.5], [4], [30]])
    result = manifold_scores(real, generated, num_neighbours=1, seed=0)
    # 0.5 lies in the balls of 0 and 1 (and not of 3: 2.5 > 2), 4 in those of 3 and 10, 30 in none.
    assert result.densities.tolist() == [2, 2, 0]
    assert result.is_precise.tolist() == [True, True, False]
    assert result.density.mean == pytest.approx(4 / 3)
    assert result.precision.mean == pytest.approx(2 / 3)
    # 0, 1, 3 lie within 3.5 of 0.5; 10 within 26 of 30. All four real balls hold one.
    assert result.is_recalled.tolist() == [True] * 4
    assert result.is_covered.tolist() == [True] * 4
    assert (result.num_real, result.num_generated, result.num_neighbours) == (4, 3, 1)
    assert result.precision.low < 2 / 3 < result.precision.high
    assert result.warning is None


def _plain(real: np.ndarray, generated: np.ndarray, k: int) -> list[float]:
    def radius(rows):
        found = NearestNeighbors(n_neighbors=k + 1).fit(rows).kneighbors(rows)[0]
        return found[:, k]

    r, g = radius(real), radius(generated)
    inside = np.array(
        [[np.linalg.norm(x - y) < r[i] for i, x in enumerate(real)] for y in generated]
    )
    recalled = [any(np.linalg.norm(x - y) < g[j] for j, y in enumerate(generated)) for x in real]
    return [inside.any(1).mean(), np.mean(recalled), inside.sum(1).mean() / k, inside.any(0).mean()]


@pytest.mark.parametrize(
    ("k", "gap", "dim"), [(1, 0.0, 3), (5, 0.7, 8), (3, 6.0, 2), (5, 0.1, 300)]
)
def test_equals_plain_loops(k, gap, dim, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    # Far from the origin and of unequal spread: where careless squared distances cancel.
    real = 1e4 + rng.normal(size=(60, dim))
    generated = 1e4 + gap + rng.normal(0, 0.7, (45, dim))
    expected = _plain(real, generated, k)
    for chunk in (manifold.CHUNK_VALUES, 150):
        monkeypatch.setattr(manifold, "CHUNK_VALUES", chunk)
        found = manifold_scores(real, generated, num_neighbours=k, seed=0)
        got = [found.precision.mean, found.recall.mean, found.density.mean, found.coverage.mean]
        assert got == pytest.approx(expected, abs=1e-12)


def test_a_set_against_itself_and_against_a_far_one() -> None:
    x = np.random.default_rng(0).normal(size=(40, 5))
    same = manifold_scores(x, x[::-1], num_neighbours=3, seed=0)
    assert [same.precision.mean, same.recall.mean, same.coverage.mean] == [1, 1, 1]
    assert same.density.mean == pytest.approx(1)
    far = manifold_scores(x, x + 100, num_neighbours=3, seed=0)
    assert [far.precision.mean, far.recall.mean, far.density.mean, far.coverage.mean] == [0] * 4


def test_one_good_picture_again_and_again() -> None:
    """A collapsed generator is precise and dense, and covers next to nothing."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(80, 4))
    centre = np.zeros((40, 4)) + 1e-3 * rng.normal(size=(40, 4))
    result = manifold_scores(real, centre, seed=0)
    assert result.precision.mean == 1 and result.density.mean > 1
    assert result.recall.mean == 0


def test_equal_rows_are_told() -> None:
    real = np.repeat(np.arange(4.0), 3)[:, None]
    generated = np.random.default_rng(0).normal(size=(8, 1))
    result = manifold_scores(real, generated, num_neighbours=2, seed=0)
    assert "12 real and 0 generated rows have 2 equal rows" in str(result.warning)
    assert result.precision.mean == 0
    assert manifold_scores(real, generated, num_neighbours=4, seed=0).warning is None


def test_bad_input() -> None:
    ok = np.random.default_rng(0).normal(size=(6, 3))
    for k in (0, 6):
        with pytest.raises(DataError, match=r"has to lie in 1\.\.5"):
            manifold_scores(ok, ok, num_neighbours=k, seed=0)
    with pytest.raises(DataError, match="generated has 1 rows"):
        manifold_scores(ok, ok[:1], seed=0)
    with pytest.raises(DataError, match="one dimension"):
        manifold_scores(ok, ok[:, :2], seed=0)
    with pytest.raises(DataError, match="1 rows of real hold NaN"):
        manifold_scores(np.vstack([ok, [[np.nan] * 3]]), ok, seed=0)
