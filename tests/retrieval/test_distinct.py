from __future__ import annotations

import numpy as np
import pytest

from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.retrieval.distinct import Duplicates, rocchio, search_distinct
from ulrec.retrieval.index import ItemIndex


def build(vectors: np.ndarray, metric: str = "l2") -> ItemIndex:
    items = IdMap(range(len(vectors)))
    return ItemIndex.build(vectors.astype(np.float32), items, metric=metric, made_from={})


@pytest.fixture
def twins() -> ItemIndex:
    """100 points, and beside each of the first 20 a twin 1e-5 away (rows 100 to 119)."""
    points = np.random.default_rng(0).normal(size=(100, 6))
    return build(np.concatenate([points, points[:20] + 1e-5]))


def test_of_twins_one_comes_back_and_k_are_distinct(twins):
    duplicates = Duplicates.of(twins, quantile=0.3)
    queries = twins.vectors[:5] + 0.01
    found = search_distinct(duplicates, queries, k=60)
    everything = twins.search(queries, k=120).item_idx
    for row, rows in enumerate(found.item_idx):
        assert (rows >= 0).all()
        assert len(set((rows % 100).tolist())) == 60
        # what thinning out the whole ranking gives
        expected, seen = [], set()
        for item in everything[row].tolist():
            if item % 100 not in seen:
                expected.append(item)
                seen.add(item % 100)
        assert rows.tolist() == expected[:60]
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_tau_by_hand():
    """On a line at 0, 1, 3: nearest 1, 1, 2, mean of both others 2, 1.5, 2.5."""
    duplicates = Duplicates.of(build(np.array([[0.0], [1.0], [3.0]])), quantile=0.01)
    assert duplicates.tau == pytest.approx(0.5)
    assert Duplicates.of(duplicates.index, quantile=0.5).tau == pytest.approx(1 / 1.5)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_equal_items_are_one_even_where_nothing_else_is_near(metric):
    vectors = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0], [0.6, 0.8]])
    duplicates = Duplicates.of(build(vectors, metric), quantile=0.01)
    found = search_distinct(duplicates, np.array([[1.0, 0.1]], np.float32), k=4)
    assert len(set(found.item_idx[0][:1]) & {0, 1, 2, 3}) == 1
    assert set(found.item_idx[0][1:].tolist()) == {5, 4, -1}  # three different ones and no more


def test_filters_hold(twins):
    duplicates = Duplicates.of(twins, quantile=0.3)
    among = np.arange(120) >= 10
    found = search_distinct(
        duplicates, twins.vectors[:2], k=8, exclude=[np.array([100]), np.array([101])], among=among
    )
    assert found.item_idx.min() >= 10
    assert 100 not in found.item_idx[0] and 101 not in found.item_idx[1]
    none = search_distinct(duplicates, twins.vectors[:1], k=2, among=np.zeros(120, bool))
    assert none.item_idx.tolist() == [[-1, -1]]


def test_rocchio_by_hand():
    likes = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    dislikes = np.array([[0.0, 1.0], [0.0, 3.0]], np.float32)
    assert rocchio(likes, dislikes, weight=0.25).tolist() == [[0.5, 0.0]]
    assert rocchio(likes, dislikes[:0]).tolist() == [[0.5, 0.5]]
    with pytest.raises(DataError, match="needs something liked"):
        rocchio(likes[:0], dislikes)
    with pytest.raises(DataError, match=r"got \(2, 2\) and \(2, 1\)"):
        rocchio(likes, dislikes[:, :1])


def test_bad_settings_are_refused(twins):
    with pytest.raises(DataError, match="between 0 and 1, got 0"):
        Duplicates.of(twins, quantile=0)
    with pytest.raises(DataError, match=r"need 3 items .* got 2"):
        Duplicates.of(build(np.eye(2)))
