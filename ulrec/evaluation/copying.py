"""Whether generations are copies: how much closer their nearest training item is than its peers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.features import require_same_dim, unit_rows
from ulrec.evaluation.statistics import Interval, wilson_interval

__all__ = ["CopyRate", "copy_rate", "neighbour_ratios"]

FloatArray = NDArray[np.float64]

CHUNK = 1024
# Unit vectors that are equal come out this close, not at zero: d^2 = 2 - 2 cos cancels.
EQUAL = 1e-6


@dataclass(frozen=True, kw_only=True)
class CopyRate:
    """Share of generations whose ratio lies below tau, with Wilson's interval.

    ``tau`` is the ``quantile`` of the same ratio over real held-out items; ``warning`` is None, or
    says why tau is not to be leaned on. ``ratios`` (M,) are those of the generations.
    """

    rate: Interval
    tau: float
    quantile: float
    num_neighbours: int
    num_generated: int
    num_heldout: int
    num_catalogue: int
    ratios: FloatArray
    warning: str | None


def copy_rate(
    generated: ArrayLike,
    *,
    catalogue: ArrayLike,
    heldout: ArrayLike,
    quantile: float = 0.001,
    num_neighbours: int = 50,
) -> CopyRate:
    """Return the share of generations that sit on a training item, as hardly a real item does.

    Parameters
    ----------
    generated
        Features of generated media (M, d).
    catalogue
        Features of the training items (N, d).
    heldout
        Features of real items outside the catalogue (R, d), of other concepts.
    quantile
        How rare the closeness is among real items. The value below which no more than this share
        of them lies is tau, so that a small R gives their minimum.
    num_neighbours
        Size of the neighbourhood, at most the catalogue.

    Raises
    ------
    DataError
        If features are not comparable, the quantile is not in (0, 1), or the neighbourhood < 2.
    """
    if not 0 < quantile < 1:
        raise DataError(f"quantile has to lie between 0 and 1, got {quantile}")
    real = neighbour_ratios(heldout, catalogue=catalogue, num_neighbours=num_neighbours)
    ratios = neighbour_ratios(generated, catalogue=catalogue, num_neighbours=num_neighbours)
    tau = float(np.quantile(real, quantile, method="lower"))
    num_catalogue = len(np.asarray(catalogue))
    return CopyRate(
        rate=wilson_interval(int(np.count_nonzero(ratios < tau)), len(ratios)),
        tau=tau,
        quantile=quantile,
        num_neighbours=min(num_neighbours, num_catalogue),
        num_generated=len(ratios),
        num_heldout=len(real),
        num_catalogue=num_catalogue,
        ratios=ratios,
        warning=_warning(tau, quantile, len(real)),
    )


def neighbour_ratios(
    features: ArrayLike, *, catalogue: ArrayLike, num_neighbours: int = 50
) -> FloatArray:
    """Return d(g, NN_1) / mean d(g, NN_1..NN_k) of each row, between unit vectors.

    Parameters
    ----------
    features
        (M, d).
    catalogue
        (N, d).
    num_neighbours
        k, at most N.

    Returns
    -------
    FloatArray
        (M,) in [0, 1]: 0 on a catalogue item, 1 where all k neighbours are equally far.

    Raises
    ------
    DataError
        If features are not comparable, or fewer than two neighbours are asked for or exist.
    """
    queries, items = unit_rows("features", features), unit_rows("catalogue", catalogue)
    require_same_dim(features=queries, catalogue=items)
    k = min(num_neighbours, len(items))
    if k < 2:
        raise DataError(
            f"a neighbourhood needs 2 items, got {num_neighbours} of a catalogue of {len(items)}"
        )
    ratios = np.empty(len(queries))
    for start in range(0, len(queries), CHUNK):
        part = slice(start, start + CHUNK)
        squared = np.maximum(2 - 2 * (queries[part] @ items.T), 0)
        nearest = np.sqrt(np.partition(squared, k - 1, axis=1)[:, :k])
        first = nearest.min(axis=1)
        # On an item the ratio is exactly 0, also where all k neighbours are that one drawing.
        ratios[part] = np.where(first < EQUAL, 0, first / np.maximum(nearest.mean(axis=1), EQUAL))
    return ratios


def _warning(tau: float, quantile: float, num_heldout: int) -> str | None:
    if tau == 0:
        return (
            "held-out items equal training items, so that tau is 0 and no copy can lie below it; "
            "mend the split"
        )
    if num_heldout * quantile < 1:
        return (
            f"{num_heldout} held-out items cannot resolve a quantile of {quantile:g}: tau is their "
            "minimum"
        )
    return None
