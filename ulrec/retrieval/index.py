"""Nearest items of a catalogue: FAISS behind one class, the same in every batch.

Small catalogues are searched exactly. In large ones a structure (:mod:`.structures`) proposes
candidates, as many as reach a recall that was measured when the index was built; these are scored
exactly. faiss is imported at first use. Where torch is used in the same process, import torch
before that (two OpenMP runtimes otherwise); nothing here imports torch.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ulrec.checkpoint import load_component, new_artefact, open_artefact, require_same
from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.retrieval.calibrate import NEAREST, Calibration, calibrate, probes
from ulrec.retrieval.metric import METRICS, Array, Metric, Rows, faiss, finite
from ulrec.retrieval.scan import MARGIN, Allowed, Scan, kept
from ulrec.retrieval.structures import (
    AUTO,
    FLAT,
    STRUCTURES,
    IndexConfig,
    Structure,
    choose,
    flat_index,
)

__all__ = ["EXACT", "ItemIndex", "Neighbours"]

KIND = "index"
QUERIES_AT_ONCE = 256
# A structure that is asked for more than this share of the catalogue is no quicker than a scan.
SHARE_OF_SCAN = 0.05

EXACT = IndexConfig(name=FLAT)
"""Looks at every item."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The nearest items of B queries, the nearest first.

    Attributes
    ----------
    item_idx
        Rows of the index, int64 (B, k); -1 where fewer than k items were left.
    scores
        Float32 (B, k), the higher the nearer: the cosine, or minus the Euclidean distance; -inf
        where ``item_idx`` is -1.
    """

    item_idx: Rows
    scores: Array


class ItemIndex:
    """All items of a catalogue by their vectors; :meth:`build` or :meth:`load` makes one.

    Attributes
    ----------
    vectors
        Float32 (I, Q), of length 1 for the cosine.
    items
        Map of the rows.
    metric
        "cosine" or "l2".
    made_from
        Fingerprints of what the vectors come from ("latents", "projection").
    structure
        What proposes candidates; None where every item is looked at.
    calibration
        What was measured of the structure; None without one.
    """

    def __init__(
        self,
        vectors: Array,
        items: IdMap,
        *,
        metric: Metric,
        made_from: Mapping[str, str],
        structure: Structure | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.vectors = vectors
        self.items = items
        self.metric: Metric = metric
        self.made_from = dict(made_from)
        self.structure = structure
        self.calibration = calibration
        flat = flat_index(vectors, metric) if structure is None else structure.flat
        self._scan = Scan(vectors, flat, metric)

    @classmethod
    def build(
        cls,
        vectors: Array,
        items: IdMap,
        *,
        metric: Metric,
        made_from: Mapping[str, str],
        config: IndexConfig = EXACT,
    ) -> Self:
        """Index a catalogue.

        Parameters
        ----------
        vectors
            Float (I, Q), in the order of ``items``.
        items
            Their ids.
        metric
            "cosine" (vectors are scaled to length 1) or "l2".
        made_from
            Fingerprints of what the vectors come from: at least that of the latents, "latents".
        config
            Whether every item is looked at (by default), or what is to be reached without.

        Raises
        ------
        DataError
            If there is no item, the map has another length, a vector is not finite, one is zero
            where the cosine is asked for, or the structure that ``config`` names misses its recall.
        """
        if metric not in METRICS:
            raise DataError(f"metric has to be one of {', '.join(METRICS)}, got {metric!r}")
        if vectors.ndim != 2 or 0 in vectors.shape or len(vectors) != len(items):
            raise DataError(
                f"vectors have to be ({len(items)}, Q), a row for each item, got {vectors.shape}"
            )
        prepared = METRICS[metric].prepare(finite(vectors, "vectors"), "vectors")
        name = choose(config, *prepared.shape)
        if name == FLAT:
            return cls(prepared, items, metric=metric, made_from=made_from)
        structure = STRUCTURES[name].build(prepared, metric)
        index = cls(prepared, items, metric=metric, made_from=made_from, structure=structure)
        try:
            index.calibration = index._calibrated(config.recall)
        except DataError:
            if config.name != AUTO:
                raise
            return cls(prepared, items, metric=metric, made_from=made_from)
        return index

    def __len__(self) -> int:
        return len(self.items)

    @property
    def about(self) -> str:
        """How it is searched, in a few words."""
        if self.structure is None or self.calibration is None:
            return "searched exactly"
        return (
            f"searched by {_name_of(self.structure)}, {self.calibration.recall:.4f} of the "
            f"{NEAREST} nearest found"
        )

    def search(
        self,
        queries: Array,
        *,
        k: int,
        exclude: Sequence[Rows] | None = None,
        among: Rows | Mask | None = None,
    ) -> Neighbours:
        """Find the k nearest items of each query.

        Exactly, but where the index has a structure: then with the recall of its calibration.
        ``among`` is always searched exactly, and so is what excludes much of the catalogue.

        Parameters
        ----------
        queries
            Float (B, Q).
        k
            How many; where fewer items are left, the rest is -1.
        exclude
            For each query the rows that must not come back (seen items), in any order.
        among
            The rows of which alone some may come back (a category), or a mask (I,), for all
            queries.

        Returns
        -------
        Neighbours
            The result of a query does not depend on the others in its batch; equal scores come in
            a fixed random order.

        Raises
        ------
        DataError
            If ``k`` is below 1, the queries have another dimension, are not finite, or are zero
            where the cosine is asked for, or ``exclude`` or ``among`` do not name rows.
        """
        if k < 1:
            raise DataError(f"k has to be at least 1, got {k}")
        size = self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != size:
            raise DataError(
                f"queries have to be (B, {size}) as the index, got {queries.shape}; project them "
                "as the catalogue was"
            )
        prepared = METRICS[self.metric].prepare(finite(queries, "queries"), "queries")
        excluded = self._checked(exclude, len(queries))
        allowed = None if among is None else Allowed.of(among, len(self))
        item_idx = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        width = min(k, len(self) if allowed is None else allowed.count)
        for start in range(0, len(queries) if width else 0, QUERIES_AT_ONCE):
            rows = slice(start, min(start + QUERIES_AT_ONCE, len(queries)))
            item_idx[rows, :width], scores[rows, :width] = self._search_block(
                prepared[rows], width, excluded[rows], allowed
            )
        return Neighbours(item_idx=item_idx, scores=scores)

    def on_gpu(self) -> Self:
        """Return an index of the same items that searches exactly on the first GPU.

        Its structure is left out: a GPU looks at every item quicker. Results are those of the
        exact search on the CPU, where what the GPU proposes is scored again.

        Raises
        ------
        DataError
            If faiss is not a GPU build or sees no GPU.
        """
        if not hasattr(faiss(), "StandardGpuResources") or faiss().get_num_gpus() < 1:
            raise DataError(
                "faiss sees no GPU; `ulrec doctor` says why, pip install 'ulrec[gpu]' is needed"
            )
        other = copy.copy(self)
        other.structure = other.calibration = None
        other._scan = copy.copy(self._scan)
        other._scan.gpu = faiss().index_cpu_to_gpu(
            faiss().StandardGpuResources(), 0, self._scan.flat
        )
        return other

    def save(self, folder: str | Path) -> str:
        """Write the vectors, not faiss' own format, as one artefact; returns its fingerprint.

        Reading a damaged or hostile faiss file can corrupt memory; vectors are only numbers, and
        so is what is kept of a structure.
        """
        config: dict[str, Any] = {"index": FLAT, "metric": self.metric}
        tensors: dict[str, NDArray[Any]] = {"vectors": self.vectors}
        if self.structure is not None and self.calibration is not None:
            config["index"] = _name_of(self.structure)
            config["calibration"] = dataclasses.asdict(self.calibration)
            tensors |= self.structure.tensors()
        with new_artefact(folder, kind=KIND, made_from=self.made_from) as temporary:
            (temporary / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
            save_file(tensors, temporary / "model.safetensors")
            self.items.save(temporary / "items.parquet")
        return open_artefact(folder, kind=KIND, verify=False).fingerprint

    @classmethod
    def load(cls, folder: str | Path, *, made_from: Mapping[str, str] | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        folder
            Where it lies.
        made_from
            What it has to have been made from: each fingerprint given here has to agree.

        Raises
        ------
        ArtefactError
            If it is missing, damaged, something else, or made from other latents.
        """
        component = load_component(folder, kind=KIND)
        known = component.manifest.made_from
        for name, fingerprint in (made_from or {}).items():
            require_same(
                f"{name} of the index at {folder}",
                expected=fingerprint,
                got=known.get(name),
                remedy="build the index again from these",
            )
        config, vectors = component.config, component.tensors["vectors"]
        structure, calibration = None, None
        if config["index"] != FLAT:
            kind = STRUCTURES[config["index"]]
            structure = kind.restore(component.tensors, vectors, config["metric"])
            calibration = Calibration(**config["calibration"])
        return cls(
            vectors,
            IdMap.load(Path(folder) / "items.parquet"),
            metric=config["metric"],
            made_from=known,
            structure=structure,
            calibration=calibration,
        )

    def _checked(self, exclude: Sequence[Rows] | None, num_queries: int) -> list[Rows]:
        if exclude is None:
            return [np.empty(0, np.int64)] * num_queries
        if len(exclude) != num_queries:
            raise DataError(f"exclude has {len(exclude)} entries for {num_queries} queries")
        unique = [np.unique(np.asarray(rows, np.int64)) for rows in exclude]
        if any(len(rows) and (rows[0] < 0 or rows[-1] >= len(self)) for rows in unique):
            raise DataError(f"exclude has to hold rows 0 to {len(self) - 1} of the index")
        return unique

    def _calibrated(self, recall: float) -> Calibration:
        assert self.structure is not None
        queries = METRICS[self.metric].prepare(probes(self.vectors), "points between items")
        nothing = [np.empty(0, np.int64)] * len(queries)
        k = min(NEAREST, len(self))
        return calibrate(
            lambda effort: self._proposed(queries, k, nothing, effort)[1],
            self._scan.nearest(queries, k, nothing)[1],
            efforts=self.structure.efforts,
            target=recall,
        )

    def _search_block(
        self, queries: Array, k: int, excluded: list[Rows], allowed: Allowed | None
    ) -> tuple[Rows, Array]:
        """Return rows and scores (B, k)."""
        if self.calibration is None or allowed is not None:
            return self._scan.nearest(queries, k, excluded, allowed)
        item_idx, scores = self._proposed(queries, k, excluded, self.calibration.effort)
        left = np.array([min(k, len(self) - len(rows)) for rows in excluded])
        short = np.flatnonzero((item_idx >= 0).sum(axis=1) < left)
        if len(short):
            some = [excluded[row] for row in short]
            item_idx[short], scores[short] = self._scan.nearest(queries[short], k, some)
        return item_idx, scores

    def _proposed(
        self, queries: Array, k: int, excluded: list[Rows], effort: int
    ) -> tuple[Rows, Array]:
        """Return what the structure finds at an effort, (B, k); -1 where it finds too little."""
        assert self.structure is not None
        if not any(map(len, excluded)):
            return self._nearest_of(queries, k, excluded, k + MARGIN, effort)
        item_idx = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        depths = k + MARGIN + _powers_of_two([len(rows) for rows in excluded])
        for depth in np.unique(depths):  # its own: a query must not depend on the others
            some = np.flatnonzero(depths == depth)
            if depth <= max(SHARE_OF_SCAN * len(self), NEAREST + MARGIN):
                item_idx[some], scores[some] = self._nearest_of(
                    queries[some], k, [excluded[row] for row in some], int(depth), effort
                )
        return item_idx, scores

    def _nearest_of(
        self, queries: Array, k: int, excluded: list[Rows], depth: int, effort: int
    ) -> tuple[Rows, Array]:
        """Return the best (B, k) of ``depth`` candidates each."""
        assert self.structure is not None
        more = max(1.0, depth / (NEAREST + MARGIN))
        found = self.structure.candidates(queries, min(depth, len(self)), int(more * effort))
        rows, scores = self._scan.ranked(queries, found, kept(found, excluded))
        return rows[:, :k], scores[:, :k]


def _name_of(structure: Structure) -> str:
    return next(name for name, kind in STRUCTURES.items() if kind is type(structure))


def _powers_of_two(counts: list[int]) -> Rows:
    """Round up to 0, 1, 2, 4, 8, ...: few sizes occur."""
    array = np.array(counts, np.int64)
    return np.where(array > 0, 2 ** np.ceil(np.log2(np.maximum(array, 1))).astype(np.int64), 0)
