from __future__ import annotations

import numpy as np
import pytest
import yaml

from ulrec.data.ids import IdMap
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.retrieval.calibrate import MEANS_OF, NUM_PROBES, calibrate, probes
from ulrec.retrieval.index import ItemIndex
from ulrec.retrieval.structures import HNSW, IVF, IVFPQ, STRUCTURES, IndexConfig, choose

NUM_ITEMS, SIZE = 1500, 8
every_structure = pytest.mark.parametrize("name", STRUCTURES)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """60 clusters, as drawings of a concept are."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, SIZE)) * 2
    return (centres[rng.integers(60, size=NUM_ITEMS)] + rng.normal(size=(NUM_ITEMS, SIZE))).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def built(vectors) -> dict[str, ItemIndex]:
    return {name: build(vectors, name) for name in STRUCTURES}


def build(vectors, name: str, *, recall: float = 0.95, metric: str = "cosine") -> ItemIndex:
    items = IdMap(range(len(vectors)))
    config = IndexConfig(name=name, recall=recall)
    return ItemIndex.build(vectors, items, metric=metric, made_from={"latents": "a"}, config=config)


def recall_of(index: ItemIndex, exact: ItemIndex, queries: np.ndarray) -> float:
    found, right = (i.search(queries, k=10).item_idx for i in (index, exact))
    pairs = zip(found.tolist(), right.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]))


@every_structure
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_recall_holds_for_other_queries_and_scores_are_exact(name, metric, vectors, built):
    index = built[name] if metric == "cosine" else build(vectors, name, metric=metric)
    exact = build(vectors, "flat", metric=metric)
    assert index.calibration is not None
    assert index.calibration.recall >= index.calibration.target == 0.95
    assert index.calibration.num_queries == NUM_PROBES * len(MEANS_OF)
    between = probes(vectors[::-1])
    assert recall_of(index, exact, between) > 0.92
    found, right = (i.search(between, k=1) for i in (index, exact))
    same = found.item_idx == right.item_idx
    np.testing.assert_array_equal(found.scores[same], right.scores[same])
    assert same.mean() > 0.92


@every_structure
def test_a_query_does_not_depend_on_its_batch(name, vectors, built):
    queries = probes(vectors)[:40]
    exclude = [np.arange(row) for row in range(40)]
    together = built[name].search(queries, k=5, exclude=exclude)
    for row in (0, 7, 39):
        alone = built[name].search(queries[[row]], k=5, exclude=[exclude[row]])
        np.testing.assert_array_equal(together.item_idx[row], alone.item_idx[0])
        np.testing.assert_array_equal(together.scores[row], alone.scores[0])


@every_structure
def test_building_twice_gives_the_same(name, vectors, built):
    first, second = (index.structure.tensors() for index in (built[name], build(vectors, name)))
    assert first.keys() == second.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(array, second[key])


@every_structure
def test_k_distinct_items_come_back_whatever_is_excluded(name, vectors, built):
    exact = build(vectors, "flat")
    nearest = exact.search(vectors[:3], k=NUM_ITEMS).item_idx
    for count in (1, 100, 1000, NUM_ITEMS - 4):
        exclude = [row[:count] for row in nearest]
        found = built[name].search(vectors[:3], k=4, exclude=exclude)
        assert (found.item_idx >= 0).all()
        for row, rows in enumerate(found.item_idx):
            assert len(set(rows.tolist())) == 4
            assert not set(rows.tolist()) & set(exclude[row].tolist())
    np.testing.assert_array_equal(np.sort(found.item_idx), np.sort(nearest[:, -4:]))
    everything = built[name].search(vectors[:1], k=NUM_ITEMS + 2).item_idx[0]
    np.testing.assert_array_equal(np.sort(everything), [-1, -1, *range(NUM_ITEMS)])


@every_structure
def test_what_is_allowed_is_searched_exactly(name, vectors, built):
    mask = np.random.default_rng(1).random(NUM_ITEMS) < 0.02
    expected = build(vectors, "flat").search(vectors[:20], k=5, among=mask)
    for among in (mask, np.flatnonzero(mask)[::-1]):
        found = built[name].search(vectors[:20], k=5, among=among)
        np.testing.assert_array_equal(found.item_idx, expected.item_idx)
    assert mask[expected.item_idx].all()


@every_structure
def test_save_load_finds_the_same(name, vectors, built, tmp_path):
    built[name].save(tmp_path / "index")
    loaded = ItemIndex.load(tmp_path / "index", made_from={"latents": "a"})
    assert loaded.calibration == built[name].calibration
    assert type(loaded.structure) is STRUCTURES[name]
    assert f"by {name}, " in loaded.about
    queries = probes(vectors)
    for one, other in zip(
        (loaded.search(queries, k=9).item_idx, loaded.search(queries, k=9).scores),
        (built[name].search(queries, k=9).item_idx, built[name].search(queries, k=9).scores),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_flat_index_is_written_as_before(vectors, tmp_path):
    build(vectors[:50], "auto").save(tmp_path / "index")
    config = yaml.safe_load((tmp_path / "index" / "config.yaml").read_text())
    assert config == {"index": "flat", "metric": "cosine"}


def test_a_graph_that_leads_out_of_itself_is_refused(vectors, built):
    good = built["hnsw"].structure.tensors()
    prepared = built["hnsw"].vectors
    base = np.flatnonzero(good["levels"] == 1)[0]
    start = int(np.flatnonzero(good["levels"] == good["levels"].max())[0])

    def changed(name, place, value):
        array = good[name].copy()
        array[place] = value
        return {**good, name: array}

    last = len(good["links"]) - 1
    cases = [
        (changed("links", 5, NUM_ITEMS), "lead out of 1500 items"),
        (changed("links", 5, -2), "lead out of 1500 items"),
        ({**good, "links": good["links"][:last]}, "lead out of 1500 items"),
        (changed("levels", 3, 0), "levels are not those"),
        ({**good, "levels": good["levels"][1:]}, "levels are not those"),
        (changed("entry", 0, NUM_ITEMS), "no entry"),
        (changed("entry", 0, base), "no entry"),
        ({name: array for name, array in good.items() if name != "entry"}, "lacks"),
    ]
    for tensors, message in cases:
        with pytest.raises(ArtefactError, match=message):
            HNSW.restore(tensors, prepared, "cosine")
    before = (64 + 32 * (good["levels"][:start].astype(int) - 1)).sum()
    upper = int(before) + 64  # the first link of the highest item above the base level
    with pytest.raises(ArtefactError, match="below its level"):
        HNSW.restore(changed("links", upper, base), prepared, "cosine")


def test_lists_of_other_vectors_are_refused(vectors, built):
    with pytest.raises(ArtefactError, match="the lists are not those"):
        IVF.restore(built["ivf"].structure.tensors(), built["ivf"].vectors[:100], "cosine")
    tensors = built["ivfpq"].structure.tensors()
    with pytest.raises(ArtefactError, match="the codes are not those"):
        IVFPQ.restore({**tensors, "codes": tensors["codes"][1:]}, built["ivf"].vectors, "cosine")


def test_the_size_chooses():
    auto = IndexConfig()
    assert [choose(auto, n, 64) for n in (1852, 19_999, 20_000, 2**22 - 1, 2**22)] == [
        "flat",
        "flat",
        "ivf",
        "ivf",
        "ivfpq",
    ]
    assert choose(IndexConfig(name="hnsw"), 10, 4) == "hnsw"


def test_what_misses_the_recall_is_refused_or_flat(vectors, monkeypatch):
    monkeypatch.setattr(IVF, "efforts", (1,))
    with pytest.raises(
        DataError, match=r"finds 0\.\d+ of the 10 nearest .* 'recall' asks for 0.999"
    ):
        build(vectors, "ivf", recall=0.999)
    monkeypatch.setattr("ulrec.retrieval.structures.FLAT_BELOW", 1000)
    index = build(vectors, "auto", recall=0.999)
    assert index.structure is None and index.about == "searched exactly"


def test_the_least_effort_that_reaches_the_recall_counts():
    exact = np.tile(np.arange(10, 0, -1, dtype=np.float32), (4, 1))  # the tenth scores 1

    def find(effort):  # misses 10 - effort of the nearest
        return np.where(np.arange(10) < effort, exact, 0)

    found = calibrate(find, exact, efforts=(7, 8, 9, 10), target=0.85)
    assert (found.effort, found.recall, found.num_queries) == (9, 0.9, 4)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="auto, flat, hnsw, ivf, ivfpq, got 'annoy'"):
        IndexConfig(name="annoy")
    with pytest.raises(ConfigError, match=r"'recall' has to lie between 0 and 1, got 1\.0"):
        IndexConfig(recall=1.0)


def test_without_a_gpu_that_is_said(built):
    with pytest.raises(DataError, match="faiss sees no GPU"):
        built["ivf"].on_gpu()


def test_what_is_allowed_has_to_name_items(built):
    index = built["ivf"]
    with pytest.raises(DataError, match=r"a mask has to be \(1500,\), got \(2,\)"):
        index.search(index.vectors[:1], k=1, among=np.array([True, False]))
    with pytest.raises(DataError, match="among has to hold rows 0 to 1499"):
        index.search(index.vectors[:1], k=1, among=np.array([1500]))
    nothing = index.search(index.vectors[:1], k=2, among=np.zeros(NUM_ITEMS, bool))
    assert nothing.item_idx.tolist() == [[-1, -1]]
