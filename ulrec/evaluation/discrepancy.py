"""Maximum mean discrepancy with a Gaussian kernel: CMMD in CLIP features, MMD in others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.features import require_same_dim, unit_rows

__all__ = ["Discrepancy", "Estimator", "gaussian_mmd", "mmd_name"]

FloatArray = NDArray[np.float64]
Estimator = Literal["biased", "unbiased"]

CHUNK_VALUES = 4_000_000
CLIP_NAMES = ("clip", "openclip", "open_clip")


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """``scale`` times the squared maximum mean discrepancy of two sets, and how it was estimated.

    Attributes
    ----------
    value
        The number to print; it has ``scale`` in it.
    estimator
        "biased" counts each row with itself, is never negative and grows as sets shrink;
        "unbiased" may fall below zero.
    sigma, scale
        Bandwidth of the kernel, and the factor.
    num_a, num_b
        Rows of each set.
    """

    value: float
    estimator: Estimator
    sigma: float
    scale: float
    num_a: int
    num_b: int


def gaussian_mmd(
    features_a: ArrayLike,
    features_b: ArrayLike,
    *,
    estimator: Estimator = "biased",
    sigma: float = 10.0,
    scale: float = 1000.0,
) -> Discrepancy:
    """Return scale * MMD^2 of unit rows with k(x, y) = exp(-|x - y|^2 / (2 sigma^2)).

    The defaults are those of CMMD as published. Between unit vectors so wide a kernel is nearly
    linear: the number is close to scale / sigma^2 times the squared distance of the mean vectors.

    Parameters
    ----------
    features_a, features_b
        (N, d) and (M, d); rows are scaled to length one.
    estimator
        "biased" (V-statistic, CMMD's) or "unbiased" (U-statistic).
    sigma
        Bandwidth.
    scale
        Factor for readable numbers; 1 gives MMD^2 itself.

    Raises
    ------
    DataError
        If the features are not comparable, have too few rows, or a setting is out of its range.
    """
    if estimator not in ("biased", "unbiased") or not (sigma > 0 and scale > 0):
        raise DataError(
            "expected estimator 'biased' or 'unbiased' and a positive sigma and scale, got "
            f"{estimator!r}, {sigma} and {scale}"
        )
    a, b = unit_rows("features_a", features_a), unit_rows("features_b", features_b)
    require_same_dim(features_a=a, features_b=b)
    fewest, least = min(len(a), len(b)), 1 if estimator == "biased" else 2
    if fewest < least:
        raise DataError(f"{estimator} needs {least} rows in each set, got {len(a)} and {len(b)}")
    # Sums of k - 1: the ones cancel in MMD^2, and taken out beforehand they cost no digits.
    own = 0 if estimator == "biased" else 1
    within = sum(_sum(x, x, sigma) / (len(x) * (len(x) - own)) for x in (a, b))
    squared = within - 2 * _sum(a, b, sigma) / (len(a) * len(b))
    return Discrepancy(
        value=scale * squared,
        estimator=estimator,
        sigma=sigma,
        scale=scale,
        num_a=len(a),
        num_b=len(b),
    )


def mmd_name(features: str) -> str:
    """Return what a Gaussian MMD is called: CMMD in CLIP features only.

    Examples
    --------
    >>> mmd_name("clip-vit-l-14-336"), mmd_name("efflite0")
    ('CMMD-clip-vit-l-14-336', 'MMD-efflite0')
    """
    is_clip = any(features == name or features.startswith(f"{name}-") for name in CLIP_NAMES)
    return f"CMMD-{features}" if is_clip else f"MMD-{features}"


def _sum(a: FloatArray, b: FloatArray, sigma: float) -> float:
    """Return the sum of k(x, y) - 1 over all pairs of unit rows."""
    step = max(1, CHUNK_VALUES // len(b))
    parts = (a[start : start + step] @ b.T for start in range(0, len(a), step))
    return sum(float(np.expm1(np.minimum(cos - 1, 0) / sigma**2).sum()) for cos in parts)
