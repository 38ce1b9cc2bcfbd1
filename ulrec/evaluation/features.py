"""Arrays of features: what they have to be, unit rows, and statistics that merge across shards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError

__all__ = ["FeatureStatistics", "as_features", "require_same_dim", "unit_rows"]

FloatArray = NDArray[np.float64]


def as_features(name: str, features: ArrayLike, *, min_rows: int = 1) -> FloatArray:
    """Return features as a float64 matrix (N, d), checked.

    Raises
    ------
    DataError
        If they are no matrix, have too few rows, or hold NaN or infinity; ``name`` says which.
    """
    matrix = np.asarray(features)
    if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.dtype.kind not in "fiu":
        raise DataError(
            f"{name} has to be a matrix (N, d) of numbers, got {matrix.dtype} {matrix.shape}"
        )
    if len(matrix) < min_rows:
        raise DataError(f"{name} has {len(matrix)} rows, at least {min_rows} are needed")
    result = matrix.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(result).all(axis=1)))
    if bad:
        raise DataError(f"{bad} rows of {name} hold NaN or infinity; drop them and state how many")
    return result


def require_same_dim(**features: FloatArray) -> None:
    """Refuse matrices of different width.

    Raises
    ------
    DataError
        If the number of columns differs; all are named.
    """
    if len({matrix.shape[1] for matrix in features.values()}) > 1:
        widths = ", ".join(f"{name} {matrix.shape[1]}" for name, matrix in features.items())
        raise DataError(f"features have to be of one dimension, got {widths}; use one backbone")


def unit_rows(name: str, features: ArrayLike) -> FloatArray:
    """Return the rows of features (N, d) scaled to length one.

    Raises
    ------
    DataError
        As :func:`as_features`, or if a row is zero and has no direction.
    """
    matrix = as_features(name, features)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    zero = int(np.count_nonzero(norms == 0))
    if zero:
        raise DataError(f"{zero} rows of {name} are zero and have no direction; drop them")
    unit: FloatArray = matrix / norms
    return unit


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """Count, mean (d,) and scatter (d, d): the sum of centred outer products.

    Merging shards gives what one pass over all rows gives, to rounding.
    """

    num: int
    mean: FloatArray
    scatter: FloatArray

    @classmethod
    def of(cls, features: ArrayLike, *, name: str = "features") -> FeatureStatistics:
        """Return the statistics of features (N, d); see :func:`as_features` for the errors."""
        matrix = as_features(name, features)
        mean = matrix.mean(axis=0)
        matrix -= mean
        return cls(num=len(matrix), mean=mean, scatter=matrix.T @ matrix)

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Return the statistics of both sets together.

        Raises
        ------
        DataError
            If the dimensions differ.
        """
        if self.mean.shape != other.mean.shape:
            raise DataError(f"cannot merge dimensions {len(self.mean)} and {len(other.mean)}")
        num = self.num + other.num
        gap = other.mean - self.mean
        between = np.outer(gap, gap) * (self.num * other.num / num)
        return FeatureStatistics(
            num=num,
            mean=self.mean + gap * (other.num / num),
            scatter=self.scatter + other.scatter + between,
        )

    @property
    def covariance(self) -> FloatArray:
        """The unbiased covariance (d, d).

        Raises
        ------
        DataError
            If there are fewer than two rows.
        """
        if self.num < 2:
            raise DataError(f"a covariance needs at least 2 rows, got {self.num}")
        return self.scatter / (self.num - 1)
