import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.grounding import Ground, nearest_distances

# nearest others at 1, 1, 2, 5
LINE = np.array([[0.0, 0], [1, 0], [3, 0], [8, 0]])


def test_distances_and_share_by_hand():
    ground = Ground(LINE, quantile=0.5)
    assert ground.radius == 2.0  # the third of 1, 1, 2, 5: half lie within it, and one more
    found = ground.judge(np.array([[0.0, 2], [1, 0], [3, 3], [11, 0]]), seed=0)
    assert found.distances.tolist() == [2, 0, 3, 3]
    assert found.distance.mean == 2.0
    assert found.share.mean == 2 / 4 and found.share.low < 0.5 < found.share.high


def test_the_catalogue_lies_within_its_own_radius_by_the_quantile():
    items = np.random.default_rng(0).normal(size=(400, 6))
    ground = Ground(items, quantile=0.9)
    own = nearest_distances(items, items, leave_out=np.arange(400))
    assert (own <= ground.radius).mean() == pytest.approx(0.9, abs=0.005)
    assert ground.judge(items, seed=0).share.mean == 1  # items themselves are at zero
    assert ground.judge(items + 50, seed=0).share.mean == 0


def test_nearest_is_that_of_plain_loops_also_far_from_the_origin():
    rng = np.random.default_rng(1)
    items, queries = rng.normal(size=(30, 4)) + 1000, rng.normal(size=(2000, 4)) + 1000
    expected = np.linalg.norm(queries[:, None] - items[None], axis=2).min(axis=1)
    np.testing.assert_allclose(nearest_distances(queries, items), expected, rtol=1e-6)
    assert nearest_distances(items, items).tolist() == [0.0] * 30


def test_an_item_that_stands_twice_is_its_own_neighbour():
    twice = np.vstack([LINE, LINE])
    assert Ground(twice).radius == 0


@pytest.mark.parametrize(
    ("catalogue", "vectors", "quantile", "message"),
    [
        (LINE, LINE, 1.0, "between 0 and 1"),
        (LINE[:1], LINE, 0.5, "at least 2"),
        (LINE * np.nan, LINE, 0.5, "hold NaN"),
        (LINE, LINE * np.nan, 0.5, "hold NaN"),
        (LINE, np.ones((2, 3)), 0.5, "one dimension"),
    ],
)
def test_bad_input_is_refused(catalogue, vectors, quantile, message):
    with pytest.raises(DataError, match=message):
        Ground(catalogue, quantile=quantile).judge(vectors, seed=0)
