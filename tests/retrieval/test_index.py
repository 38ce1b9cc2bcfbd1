from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ulrec.data.ids import IdMap
from ulrec.errors import ArtefactError, DataError
from ulrec.retrieval.index import ItemIndex, Neighbours
from ulrec.retrieval.metric import METRICS

every_metric = pytest.mark.parametrize("metric", METRICS)
NUM_ITEMS, SIZE = 200, 12


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(NUM_ITEMS, SIZE)).astype(np.float32)


@pytest.fixture
def queries() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(30, SIZE)).astype(np.float32)


def build(vectors: np.ndarray, metric: str) -> ItemIndex:
    items = IdMap([f"i{row}" for row in range(len(vectors))])
    return ItemIndex.build(vectors, items, metric=metric, made_from={"latents": "abc"})


def brute_force(vectors: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """Return all scores (B, I) in float64."""
    vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return -np.linalg.norm(queries[:, None] - vectors[None], axis=-1)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    return queries @ vectors.T / lengths


def assert_same(first: Neighbours, second: Neighbours) -> None:
    np.testing.assert_array_equal(first.item_idx, second.item_idx)
    np.testing.assert_array_equal(first.scores, second.scores)


@every_metric
@pytest.mark.parametrize("k", [1, 10, NUM_ITEMS])
def test_search_agrees_with_brute_force(metric, k, vectors, queries):
    found = build(vectors, metric).search(queries, k=k)
    scores = brute_force(vectors, queries, metric)
    expected = np.argsort(-scores, axis=1)[:, :k]
    assert found.item_idx.dtype == np.int64
    assert found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.item_idx, expected)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, expected, 1), atol=1e-5)


def test_values_by_hand():
    index = build(np.array([[3.0, 0.0], [0.0, 2.0]], np.float32), "l2")
    found = index.search(np.array([[0.0, 0.0]], np.float32), k=2)
    assert found.item_idx.tolist() == [[1, 0]]
    assert found.scores.tolist() == [[-2.0, -3.0]]
    index = build(np.array([[3.0, 0.0], [0.0, 2.0]], np.float32), "cosine")
    found = index.search(np.array([[4.0, 3.0]], np.float32), k=2)
    assert found.item_idx.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.scores, [[0.8, 0.6]], rtol=1e-6)


@every_metric
def test_excluded_items_never_come_back(metric, vectors, queries):
    rng = np.random.default_rng(2)
    exclude = [rng.choice(NUM_ITEMS, size=7 * row % 195, replace=False) for row in range(30)]
    found = build(vectors, metric).search(queries, k=10, exclude=exclude)
    scores = brute_force(vectors, queries, metric)
    for row, rows in enumerate(exclude):
        scores[row, rows] = -np.inf
        left = min(10, NUM_ITEMS - len(rows))
        expected = np.argsort(-scores[row])[:left]
        assert found.item_idx[row].tolist() == [*expected.tolist(), *[-1] * (10 - left)]
        assert np.isneginf(found.scores[row, left:]).all()


@every_metric
def test_k_beyond_the_catalogue_is_filled_up(metric, vectors, queries):
    found = build(vectors, metric).search(queries, k=NUM_ITEMS + 5)
    assert (np.sort(found.item_idx, axis=1)[:, 5:] == np.arange(NUM_ITEMS)).all()
    assert (found.item_idx[:, -5:] == -1).all()
    assert np.isneginf(found.scores[:, -5:]).all()


@every_metric
def test_everything_excluded(metric, vectors, queries):
    exclude = [np.arange(NUM_ITEMS)] * 2
    found = build(vectors, metric).search(queries[:2], k=3, exclude=exclude)
    assert (found.item_idx == -1).all()


@every_metric
def test_no_queries(metric, vectors):
    found = build(vectors, metric).search(np.empty((0, SIZE), np.float32), k=3)
    assert found.item_idx.shape == found.scores.shape == (0, 3)


@every_metric
def test_a_query_does_not_depend_on_its_batch(metric, vectors, queries):
    """Also where faiss changes its way of computing distances: from 20 queries on."""
    index = build(vectors, metric)
    together = index.search(queries, k=5)
    alone = [index.search(queries[[row]], k=5) for row in range(len(queries))]
    assert_same(
        together,
        Neighbours(
            item_idx=np.concatenate([n.item_idx for n in alone]),
            scores=np.concatenate([n.scores for n in alone]),
        ),
    )


@every_metric
def test_many_blocks(metric, vectors, queries, monkeypatch):
    index = build(vectors, metric)
    exclude = [np.arange(row) for row in range(30)]
    whole = index.search(queries, k=5, exclude=exclude)
    monkeypatch.setattr("ulrec.retrieval.index.QUERIES_AT_ONCE", 7)
    monkeypatch.setattr("ulrec.retrieval.metric.NUMBERS_AT_ONCE", 1)
    assert_same(index.search(queries, k=5, exclude=exclude), whole)


@every_metric
def test_ties_are_the_same_for_every_k_and_do_not_follow_the_row(metric, vectors, queries):
    """150 copies of one vector: more than the first look of the search takes in."""
    copies = vectors.copy()
    copies[:150] = vectors[0]
    index = build(copies, metric)
    near = (vectors[:1] + 0.01 * queries[:1]).astype(np.float32)
    everything = index.search(near, k=150)
    order = everything.item_idx[0].tolist()
    assert sorted(order) == [*range(150)]
    assert order != sorted(order)
    assert len(set(everything.scores[0].tolist())) == 1
    for k in (1, 5, 40):
        assert index.search(near, k=k).item_idx[0].tolist() == order[:k]
    without = index.search(near, k=3, exclude=[np.array(order[:2])])
    assert without.item_idx[0].tolist() == order[2:5]


def test_near_duplicates_far_from_the_origin_are_told_apart():
    """faiss' |q|^2 + |v|^2 - 2 q.v has no digits left here; the scores count with differences."""
    rng = np.random.default_rng(3)
    step = rng.permutation(500).astype(np.float32)
    vectors = np.full((500, 8), 4096.0, np.float32)
    vectors[:, 0] += step / 16
    found = build(vectors, "l2").search(np.full((40, 8), 4096.0, np.float32), k=6)
    expected = np.argsort(step)[:6]
    assert (found.item_idx == expected).all()
    assert found.scores[0].tolist() == [-rank / 16 for rank in range(6)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value, vectors, queries):
    queries[3, 2] = value
    with pytest.raises(DataError, match="1 queries hold NaN or infinity, such as rows 3"):
        build(vectors, "l2").search(queries, k=1)
    vectors[7, 0] = value
    with pytest.raises(DataError, match="1 vectors hold NaN or infinity, such as rows 7"):
        build(vectors, "l2")


def test_zero_has_no_direction(vectors, queries):
    queries[3] = 0.0
    with pytest.raises(DataError, match="1 queries are zero, such as rows 3"):
        build(vectors, "cosine").search(queries, k=1)
    assert build(vectors, "l2").search(queries, k=1).item_idx.shape == (30, 1)
    vectors[7] = 0.0
    with pytest.raises(DataError, match="1 vectors are zero, such as rows 7"):
        build(vectors, "cosine")


def test_wrong_shapes_and_arguments_are_refused(vectors, queries):
    index = build(vectors, "l2")
    with pytest.raises(DataError, match=r"queries have to be \(B, 12\) .* got \(30, 11\)"):
        index.search(queries[:, 1:], k=1)
    with pytest.raises(DataError, match="k has to be at least 1, got 0"):
        index.search(queries, k=0)
    with pytest.raises(DataError, match="1 entries for 30 queries"):
        index.search(queries, k=1, exclude=[np.array([1])])
    with pytest.raises(DataError, match="rows 0 to 199"):
        index.search(queries[:1], k=1, exclude=[np.array([3, 200])])
    with pytest.raises(DataError, match="rows 0 to 199"):
        index.search(queries[:1], k=1, exclude=[np.array([-1])])
    items = IdMap([1, 2, 3])
    with pytest.raises(DataError, match=r"\(3, Q\), a row for each item, got \(200, 12\)"):
        ItemIndex.build(vectors, items, metric="l2", made_from={})
    with pytest.raises(DataError, match="cosine, l2, got 'dot'"):
        ItemIndex.build(vectors[:3], items, metric="dot", made_from={})
    with pytest.raises(DataError, match="a row for each item"):
        ItemIndex.build(vectors[:0], IdMap([]), metric="l2", made_from={})


@every_metric
def test_save_load_finds_the_same(metric, vectors, queries, tmp_path):
    index = build(vectors, metric)
    fingerprint = index.save(tmp_path / "index")
    loaded = ItemIndex.load(tmp_path / "index", made_from={"latents": "abc"})
    assert len(fingerprint) == 16
    assert loaded.items == index.items
    assert loaded.metric == metric
    assert loaded.made_from == {"latents": "abc"}
    assert len(loaded) == NUM_ITEMS
    assert_same(loaded.search(queries, k=9), index.search(queries, k=9))


def test_an_index_of_other_latents_is_refused(vectors, tmp_path):
    build(vectors, "l2").save(tmp_path / "index")
    with pytest.raises(ArtefactError, match="expected fingerprint xyz, got abc; build the index"):
        ItemIndex.load(tmp_path / "index", made_from={"latents": "xyz"})
    with pytest.raises(ArtefactError, match="projection of the index"):
        ItemIndex.load(tmp_path / "index", made_from={"projection": "xyz"})


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "items.parquet"])
def test_one_flipped_bit_is_found(name, vectors, tmp_path):
    build(vectors, "l2").save(tmp_path / "index")
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=f"{name} is damaged"):
        ItemIndex.load(tmp_path / "index")


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(ArtefactError, match="no index at"):
        ItemIndex.load(tmp_path / "nothing")


def test_the_room_loads_neither_torch_nor_faiss():
    code = (
        "import sys, ulrec.retrieval.index, ulrec.retrieval.query, ulrec.retrieval.faiss_build;"
        "raise SystemExit(', '.join({'torch', 'polars', 'faiss'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
