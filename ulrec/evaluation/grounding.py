"""How far generated media are from the real catalogue, beside how far its items are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.features import as_features, require_same_dim
from ulrec.evaluation.statistics import Interval, bootstrap_mean, wilson_interval

__all__ = ["Ground", "Grounding", "nearest_distances"]

FloatArray = NDArray[np.float64]

CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """Distances (M,) to the nearest catalogue item, and the share within the catalogue's radius."""

    distances: FloatArray
    distance: Interval
    share: Interval


class Ground:
    """A catalogue (N, d) and its radius: a quantile of each item's distance to its nearest other.

    Parameters
    ----------
    catalogue
        Vectors in the space that is searched, (N, d); at least 2.
    quantile
        So many of the catalogue's own items lie within ``radius`` of another one.

    Raises
    ------
    DataError
        If the vectors are not usable or the quantile is not in (0, 1).
    """

    def __init__(self, catalogue: ArrayLike, *, quantile: float = 0.95) -> None:
        if not 0 < quantile < 1:
            raise DataError(f"quantile has to lie between 0 and 1, got {quantile}")
        self.catalogue = as_features("catalogue", catalogue, min_rows=2)
        self.quantile = quantile
        own = nearest_distances(self.catalogue, self.catalogue, leave_out=np.arange(len(self)))
        self.radius = float(np.quantile(own, quantile, method="higher"))

    def __len__(self) -> int:
        return len(self.catalogue)

    def judge(self, vectors: ArrayLike, *, seed: int, num_resamples: int = 1000) -> Grounding:
        """Return how far vectors (M, d) are from the catalogue.

        Raises
        ------
        DataError
            If they are not usable or of another width.
        """
        distances = nearest_distances(vectors, self.catalogue)
        within = int(np.count_nonzero(distances <= self.radius))
        return Grounding(
            distances=distances,
            distance=bootstrap_mean(distances, seed=seed, num_resamples=num_resamples),
            share=wilson_interval(within, len(distances)),
        )


def nearest_distances(
    vectors: ArrayLike, catalogue: ArrayLike, *, leave_out: ArrayLike | None = None
) -> FloatArray:
    """Return the Euclidean distance of each vector (M, d) to the nearest of a catalogue (N, d).

    Parameters
    ----------
    vectors, catalogue
        In one space.
    leave_out
        For each vector a row of the catalogue that does not count, (M,).

    Examples
    --------
    >>> nearest_distances([[0.0, 0.0], [3.0, 5.0]], [[0.0, 1.0], [3.0, 1.0]]).tolist()
    [1.0, 4.0]
    """
    queries, items = as_features("vectors", vectors), as_features("catalogue", catalogue)
    require_same_dim(vectors=queries, catalogue=items)
    distances = np.empty(len(queries))
    lengths = np.square(items).sum(axis=1)
    for start in range(0, len(queries), CHUNK):
        part = slice(start, start + CHUNK)
        # |q|^2 is the same for all items: the nearest is found without it, then measured exactly.
        relative = lengths - 2 * queries[part] @ items.T
        if leave_out is not None:
            out = np.asarray(leave_out)[part]
            relative[np.arange(len(out)), out] = np.inf
        nearest = items[relative.argmin(axis=1)]
        distances[part] = np.linalg.norm(queries[part] - nearest, axis=1)
    return distances
