"""Structures that find candidates without looking at every item: a graph, and compressed lists.

Each proposes candidates only; :class:`ulrec.retrieval.index.ItemIndex` scores these exactly. How
much work a structure takes is one number, its effort, which :mod:`.calibrate` sets.
On disk they are arrays of numbers, checked before faiss sees them: a hostile faiss file could
corrupt memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ulrec.errors import ArtefactError, ConfigError
from ulrec.retrieval.metric import METRICS, Array, Metric, Rows, faiss

__all__ = ["HNSW", "IVF", "IVFPQ", "STRUCTURES", "IndexConfig", "Structure", "choose", "flat_index"]

FLAT, AUTO = "flat", "auto"
FLAT_BELOW = 20_000
"""Items below which looking at all is quick enough: examples/benchmarks/retrieval.py speed."""
GRAPH_FROM = 128
"""Numbers a vector from which a graph is quicker than lists; it takes longer to build."""
WHOLE_BELOW = 2**28
"""Numbers I * Q (1 GiB) below which whole vectors are kept twice, which are found quicker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig:
    """How a catalogue is searched.

    Attributes
    ----------
    name
        "flat" looks at every item and is exact; "ivf" (lists), "ivfpq" (compressed lists) and
        "hnsw" (a graph) look at some of them. "auto" chooses by the size of the catalogue
        and of a vector (:func:`choose`), and "flat" where the other misses the recall.
    recall
        What all but "flat" have to reach of the ten nearest, measured on the vectors
        themselves when the index is built (:mod:`ulrec.retrieval.calibrate`).
    """

    name: str = AUTO
    recall: float = 0.99

    def __post_init__(self) -> None:
        known = (AUTO, FLAT, *STRUCTURES)
        if self.name not in known:
            raise ConfigError(f"'name' has to be one of {', '.join(known)}, got {self.name!r}")
        if not 0 < self.recall < 1:
            raise ConfigError(
                f"'recall' has to lie between 0 and 1, got {self.recall}; 'flat' is exact"
            )


class Structure(Protocol):
    """What proposes candidates.

    Attributes
    ----------
    flat
        faiss' index of all vectors, for what has to be exact.
    efforts
        From little work to much; more effort finds more.
    """

    flat: Any
    efforts: tuple[int, ...]

    @classmethod
    def build(cls, vectors: Array, metric: Metric) -> Self:
        """Learn the structure of prepared vectors (I, Q); the same on every run."""
        ...

    def candidates(self, queries: Array, depth: int, effort: int) -> Rows:
        """Return at least ``depth`` rows (B, W) likely to be near, -1 where there are no more.

        A query's rows do not depend on the others in the batch.
        """
        ...

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return what :meth:`restore` needs beside the vectors."""
        ...

    @classmethod
    def restore(cls, tensors: dict[str, NDArray[Any]], vectors: Array, metric: Metric) -> Self:
        """Take over what :meth:`tensors` gave.

        Raises
        ------
        ArtefactError
            If the arrays are not those of such a structure over these vectors.
        """
        ...


def choose(config: IndexConfig, num_items: int, size: int) -> str:
    """Return the name of the structure for so many items of ``size`` numbers each.

    Examples
    --------
    >>> [choose(IndexConfig(), n, 64) for n in (1_852, 100_000, 10_000_000)]
    ['flat', 'ivf', 'ivfpq']
    >>> choose(IndexConfig(), 100_000, 512)
    'hnsw'
    """
    if config.name != AUTO:
        return config.name
    if num_items < FLAT_BELOW:
        return FLAT
    if num_items * size >= WHOLE_BELOW:
        return "ivfpq"
    return "ivf" if size < GRAPH_FROM else "hnsw"


def flat_index(vectors: Array, metric: Metric) -> Any:
    """Return faiss' exact index of vectors (I, Q), which it copies."""
    flat = faiss().IndexFlat(vectors.shape[1], getattr(faiss(), METRICS[metric].faiss_name))
    flat.add(vectors)
    return flat


class HNSW:
    """A navigable graph (Malkov & Yashunin 2018); the effort is the breadth of its search."""

    LINKS = 32
    BUILD_BREADTH = 80
    efforts = tuple(n * 2**power for power in range(3, 10) for n in (2, 3))

    def __init__(self, graph: Any, flat: Any) -> None:
        self.graph = graph
        self.flat = flat

    @classmethod
    def build(cls, vectors: Array, metric: Metric) -> Self:
        """Insert the vectors one after another, on one thread: several would race."""
        flat = flat_index(vectors[:0], metric)
        graph = cls._empty(flat)
        graph.hnsw.efConstruction = cls.BUILD_BREADTH
        with _one_thread():
            graph.add(vectors)
        return cls(graph, flat)

    def candidates(self, queries: Array, depth: int, effort: int) -> Rows:
        """Search at a breadth of at least ``depth``."""
        breadth = faiss().SearchParametersHNSW(efSearch=max(effort, depth))
        return np.asarray(self.graph.search(queries, depth, params=breadth)[1])

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the graph: levels (I,), links (L,), and where a search enters."""
        hnsw = self.graph.hnsw
        return {
            "levels": faiss().vector_to_array(hnsw.levels).astype(np.int32),
            "links": faiss().vector_to_array(hnsw.neighbors).astype(np.int32),
            "entry": np.array([hnsw.entry_point, hnsw.max_level], np.int64),
        }

    @classmethod
    def restore(cls, tensors: dict[str, NDArray[Any]], vectors: Array, metric: Metric) -> Self:
        """Check that no link leads out of the graph, and put it back."""
        flat = flat_index(vectors, metric)
        graph = cls._empty(flat)
        levels, links = tensors.get("levels"), tensors.get("links")
        entry = tensors.get("entry")
        if levels is None or links is None or entry is None:
            raise ArtefactError("the graph lacks levels, links or entry; build the index again")
        _require_graph(graph.hnsw, levels, links, entry, num_items=len(vectors))
        room = _room(graph.hnsw, int(levels.max()))
        offsets = np.concatenate([[0], np.cumsum(room[levels])]).astype(np.uint64)
        faiss().copy_array_to_vector(np.ascontiguousarray(levels, np.int32), graph.hnsw.levels)
        faiss().copy_array_to_vector(offsets, graph.hnsw.offsets)
        faiss().copy_array_to_vector(np.ascontiguousarray(links, np.int32), graph.hnsw.neighbors)
        graph.hnsw.entry_point, graph.hnsw.max_level = map(int, entry)
        graph.ntotal = len(vectors)
        return cls(graph, flat)

    @classmethod
    def _empty(cls, flat: Any) -> Any:
        return faiss().IndexHNSW(flat, cls.LINKS)


class IVF:
    """Lists of vectors around centroids; the effort is how many of the lists are read."""

    REFINE = 1
    efforts = tuple(n * 2**power for power in range(13) for n in (2, 3))

    def __init__(self, lists: Any, flat: Any) -> None:
        self.lists = lists
        self.flat = flat

    @classmethod
    def build(cls, vectors: Array, metric: Metric) -> Self:
        """Learn the centroids, and what compresses, from the vectors."""
        lists = cls._empty(vectors, metric, num_lists=_num_lists(len(vectors)))
        with _one_thread():
            lists.train(vectors)
            lists.add(vectors)
        return cls(lists, flat_index(vectors, metric))

    def candidates(self, queries: Array, depth: int, effort: int) -> Rows:
        """Search one query at a time: faiss rounds otherwise in large batches."""
        width = min(self.REFINE * depth, int(self.lists.ntotal))
        probes = faiss().SearchParametersIVF(nprobe=min(effort, int(self.lists.nlist)))
        found = np.empty((len(queries), width), np.int64)
        for row in range(len(queries)):
            found[row] = self.lists.search(queries[row : row + 1], width, params=probes)[1][0]
        return found

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the centroids of the lists (L, Q)."""
        quantizer = faiss().downcast_index(self.lists.quantizer)
        centroids = faiss().vector_to_array(quantizer.codes).view(np.float32)
        return {"lists": centroids.reshape(int(self.lists.nlist), -1).copy()}

    @classmethod
    def restore(cls, tensors: dict[str, NDArray[Any]], vectors: Array, metric: Metric) -> Self:
        """Put the centroids back and sort the vectors into the lists again."""
        centroids = tensors.get("lists")
        if centroids is None or centroids.shape != (_num_lists(len(vectors)), vectors.shape[1]):
            raise ArtefactError("the lists are not those of these vectors; build the index again")
        lists = cls._empty(vectors, metric, num_lists=len(centroids))
        lists.quantizer.add(np.ascontiguousarray(centroids, np.float32))
        cls._take_codes(lists, tensors)
        lists.is_trained = True
        with _one_thread():
            lists.add(vectors)
        return cls(lists, flat_index(vectors, metric))

    @classmethod
    def _take_codes(cls, lists: Any, tensors: dict[str, NDArray[Any]]) -> None:
        """Whole vectors need none."""

    @classmethod
    def _empty(cls, vectors: Array, metric: Metric, *, num_lists: int) -> Any:
        size, kind = vectors.shape[1], getattr(faiss(), METRICS[metric].faiss_name)
        return faiss().IndexIVFFlat(faiss().IndexFlat(size, kind), size, num_lists, kind)


class IVFPQ(IVF):
    """Such lists with vectors compressed to an eighth (Jegou et al. 2011).

    Compression loses order, so that ``REFINE`` times as many candidates as are asked for come.
    """

    REFINE = 8

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the centroids of the lists and of the codes."""
        return {
            **super().tensors(),
            "codes": faiss().vector_to_array(self.lists.pq.centroids).copy(),
        }

    @classmethod
    def _take_codes(cls, lists: Any, tensors: dict[str, NDArray[Any]]) -> None:
        codes = tensors.get("codes")
        if codes is None or codes.shape != (256 * int(lists.d),):
            raise ArtefactError("the codes are not those of these vectors; build the index again")
        faiss().copy_array_to_vector(np.ascontiguousarray(codes, np.float32), lists.pq.centroids)

    @classmethod
    def _empty(cls, vectors: Array, metric: Metric, *, num_lists: int) -> Any:
        size, kind = vectors.shape[1], getattr(faiss(), METRICS[metric].faiss_name)
        codes = size // 2 if size % 2 == 0 else size
        flat = faiss().IndexFlat(size, kind)
        return faiss().IndexIVFPQ(flat, size, num_lists, codes, 8, kind)


def _num_lists(num_items: int) -> int:
    """Return 4 sqrt(I), as faiss advises, but no more than 39 vectors each can teach."""
    return max(1, min(int(4 * np.sqrt(num_items)), num_items // 39))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = faiss().omp_get_max_threads()
    faiss().omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss().omp_set_num_threads(before)


def _room(hnsw: Any, highest: int) -> Rows:
    """Return how many links an item of each level 0 .. highest has in all."""
    return np.array([hnsw.cum_nb_neighbors(n) for n in range(highest + 1)], np.int64)


def _require_graph(
    hnsw: Any, levels: NDArray[Any], links: NDArray[Any], entry: NDArray[Any], *, num_items: int
) -> None:
    """Refuse a graph with a link to an item that is not there, or not on the link's level."""
    remedy = "build the index again"
    if levels.shape != (num_items,) or levels.min() < 1 or levels.max() > 64:
        raise ArtefactError(f"the graph's levels are not those of {num_items} items; {remedy}")
    room = _room(hnsw, int(levels.max()))
    if links.shape != (int(room[levels].sum()),) or links.min() < -1 or links.max() >= num_items:
        raise ArtefactError(f"the graph's links lead out of {num_items} items; {remedy}")
    start = np.repeat(np.cumsum(room[levels]) - room[levels], room[levels])
    level = np.searchsorted(room, np.arange(len(links)) - start, side="right")
    there = links >= 0
    if np.any(levels[links[there]] < level[there]):
        raise ArtefactError(f"a link of the graph leads to an item below its level; {remedy}")
    known = entry.shape == (2,) and 0 <= entry[0] < num_items
    if not known or not 0 <= entry[1] == int(levels[entry[0]]) - 1:
        raise ArtefactError(f"the graph has no entry {entry.tolist()}; {remedy}")


STRUCTURES: dict[str, type[Structure]] = {"hnsw": HNSW, "ivf": IVF, "ivfpq": IVFPQ}
