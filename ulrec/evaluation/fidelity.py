"""How close media are to media: PSNR sample by sample, KID and Frechet distance set by set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.features import FeatureStatistics, as_features, require_same_dim

__all__ = [
    "FrechetDistance",
    "KernelDistance",
    "foreground_psnr",
    "frechet_distance",
    "frechet_distance_of_statistics",
    "frechet_name",
    "in_chunks",
    "kid",
    "kid_name",
    "psnr",
    "require_media",
]

FloatArray = NDArray[np.float64]
Media = NDArray[Any]

# What values a data range stands for; any other pairing inflates or deflates every PSNR silently.
RANGES = {1.0: (0.0, 1.0), 2.0: (-1.0, 1.0), 255.0: (0.0, 255.0)}
CHUNK = 64
MAX_KERNEL_ROWS = 2048


def psnr(x: Media, y: Media, *, data_range: float) -> FloatArray:
    """Return 10 log10(data_range^2 / MSE) of each sample; infinite where they are equal.

    Parameters
    ----------
    x, y
        Media (N, ...) of one shape and type.
    data_range
        255 for uint8 (or floats in [0, 255]), 2 for floats in [-1, 1], 1 for floats in [0, 1].

    Returns
    -------
    FloatArray
        (N,), in dB.

    Raises
    ------
    DataError
        If shapes or types differ, or the values are not those that the data range stands for.

    Examples
    --------
    >>> x = np.zeros((1, 3, 2, 2), np.uint8)
    >>> psnr(x, x + 51, data_range=255).round(4).tolist()
    [13.9794]
    """
    require_media(x, y, data_range)
    errors = in_chunks(lambda part: _squared_error(x[part], y[part]).mean(axis=1), len(x))
    return _decibel(errors, data_range)


def foreground_psnr(x: Media, y: Media, mask: NDArray[Any], *, data_range: float) -> FloatArray:
    """Return the PSNR of each sample over its foreground only.

    A small object on white scores high by its background; this number cannot.

    Parameters
    ----------
    x, y
        Media (N, C, ...) of one shape and type.
    mask
        True at the foreground; the shape of the media with one channel or without that axis.
    data_range
        As in :func:`psnr`.

    Returns
    -------
    FloatArray
        (N,), in dB.

    Raises
    ------
    DataError
        As :func:`psnr`, or if the mask has another shape, is not boolean, or is empty for a sample.
    """
    require_media(x, y, data_range)
    inside = _mask_like(mask, x)
    areas = inside.reshape(len(x), -1).sum(axis=1)
    empty = int(np.count_nonzero(areas == 0))
    if empty:
        raise DataError(
            f"{empty} of {len(x)} masks are empty; leave those samples out and state how many"
        )

    def masked_sums(part: slice) -> FloatArray:
        spread = np.broadcast_to(inside[part], x[part].shape).reshape(len(x[part]), -1)
        return np.asarray(_squared_error(x[part], y[part]).sum(axis=1, where=spread), np.float64)

    errors = in_chunks(masked_sums, len(x)) / (areas * x.shape[1])
    return _decibel(errors, data_range)


def require_media(x: Media, y: Media, data_range: float) -> None:
    """Refuse media (N, ...) that cannot be compared, or whose values are not their range's.

    Raises
    ------
    DataError
        As :func:`psnr`.
    """
    if x.shape != y.shape or x.dtype != y.dtype or x.ndim < 2 or x.size == 0:
        raise DataError(
            f"expected two arrays (N, ...) of one shape and type, got {x.dtype} {x.shape} and "
            f"{y.dtype} {y.shape}"
        )
    if data_range not in RANGES or (x.dtype == np.uint8 and data_range != 255):
        raise DataError(
            f"data_range {data_range} does not go with {x.dtype}: 255 for uint8 or floats in "
            "[0, 255], 2 for floats in [-1, 1], 1 for floats in [0, 1]"
        )
    if x.dtype == np.uint8:
        return
    if x.dtype.kind != "f":
        raise DataError(f"media have to be uint8 or float, got {x.dtype}; cast them")
    _check_range(float(min(x.min(), y.min())), float(max(x.max(), y.max())), data_range)


def _check_range(low: float, high: float, data_range: float) -> None:
    least, most = RANGES[data_range]
    slack = 1e-4 * data_range
    if not (low >= least - slack and high <= most + slack):
        raise DataError(
            f"data_range {data_range} stands for values in [{least:g}, {most:g}], got {low:.4g} to "
            f"{high:.4g}; clamp samples or name the range they have"
        )
    # A narrower range fits inside a wider one; the flattering 6 dB (or 48) are refused as well.
    if (data_range == 2 and low >= 0) or (data_range == 255 and high <= 1):
        raise DataError(
            f"values from {low:.4g} to {high:.4g} look like [0, 1], data_range is {data_range}; "
            "pass data_range=1, or uint8 media with 255"
        )


def _mask_like(mask: NDArray[Any], x: Media) -> NDArray[np.bool_]:
    """Return the mask as (N, 1, ...)."""
    expected = (len(x), 1, *x.shape[2:])
    if mask.dtype != np.bool_:
        raise DataError(
            f"the mask has to be boolean, got {mask.dtype}; compare it with a threshold"
        )
    if mask.shape not in (expected, (len(x), *x.shape[2:])):
        raise DataError(f"the mask has to be {expected} or without axis 1, got {mask.shape}")
    return mask.reshape(expected)


def _squared_error(x: Media, y: Media) -> FloatArray:
    """Return (N, values of a sample) in float64, where uint8 cannot wrap."""
    difference: FloatArray = x.astype(np.float64) - y
    return np.square(difference).reshape(len(x), -1)


def _decibel(errors: FloatArray, data_range: float) -> FloatArray:
    with np.errstate(divide="ignore"):
        decibel: FloatArray = 20 * np.log10(data_range) - 10 * np.log10(errors)
    return decibel


def in_chunks(function: Callable[[slice], FloatArray], num: int) -> FloatArray:
    """Return what a function gives for parts of ``num`` samples, joined: memory stays bounded."""
    return np.concatenate([function(slice(s, s + CHUNK)) for s in range(0, num, CHUNK)])


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """KID of two sets.

    ``mean``, ``std``, ``low`` and ``high`` (2.5 % and 97.5 %) describe the values over random
    subsets; ``full`` is the unbiased U-statistic over all rows. Both may fall below zero, as an
    unbiased estimate of a small number does.
    """

    mean: float
    std: float
    low: float
    high: float
    full: float
    num_a: int
    num_b: int
    subset_size: int
    num_subsets: int


def kid(
    features_a: ArrayLike,
    features_b: ArrayLike,
    *,
    subset_size: int,
    num_subsets: int = 100,
    seed: int | np.random.Generator,
) -> KernelDistance:
    """Return the kernel distance: unbiased MMD^2 with k(x, y) = (x.y / d + 1)^3.

    Parameters
    ----------
    features_a, features_b
        (N, d) and (M, d).
    subset_size
        Rows drawn from each set without replacement for one value.
    num_subsets
        How many values are drawn.
    seed
        Seed or generator.

    Raises
    ------
    DataError
        If a subset is larger than a set or smaller than 2, or the features are not comparable.
    """
    a = as_features("features_a", features_a, min_rows=2)
    b = as_features("features_b", features_b, min_rows=2)
    require_same_dim(features_a=a, features_b=b)
    if not 2 <= subset_size <= min(len(a), len(b)) or num_subsets < 1:
        raise DataError(
            f"expected 2 <= subset_size <= {min(len(a), len(b))} and num_subsets >= 1, got "
            f"{subset_size} and {num_subsets}"
        )
    rng = np.random.default_rng(seed)
    values = np.empty(num_subsets)
    for i in range(num_subsets):
        rows_a = rng.choice(len(a), subset_size, replace=False)
        rows_b = rng.choice(len(b), subset_size, replace=False)
        values[i] = _unbiased_mmd2(a[rows_a], b[rows_b])
    low, high = np.quantile(values, [0.025, 0.975])
    return KernelDistance(
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if num_subsets > 1 else float("nan"),
        low=float(low),
        high=float(high),
        full=_unbiased_mmd2(a, b),
        num_a=len(a),
        num_b=len(b),
        subset_size=subset_size,
        num_subsets=num_subsets,
    )


def kid_name(features: str) -> str:
    """Return the name of a kernel distance: "KID" belongs to Inception-v3, others say theirs."""
    return "KID" if features == "inception-v3" else f"KID-{features}"


def _unbiased_mmd2(a: FloatArray, b: FloatArray) -> float:
    m, n = len(a), len(b)
    within_a = (_kernel_sum(a, a) - _self_kernel_sum(a)) / (m * (m - 1))
    within_b = (_kernel_sum(b, b) - _self_kernel_sum(b)) / (n * (n - 1))
    return within_a + within_b - 2 * _kernel_sum(a, b) / (m * n)


def _kernel_sum(a: FloatArray, b: FloatArray) -> float:
    step = MAX_KERNEL_ROWS
    return sum(
        float(((a[i : i + step] @ b.T / a.shape[1] + 1) ** 3).sum()) for i in range(0, len(a), step)
    )


def _self_kernel_sum(a: FloatArray) -> float:
    return float(((np.einsum("nd,nd->n", a, a) / a.shape[1] + 1) ** 3).sum())


@dataclass(frozen=True, kw_only=True)
class FrechetDistance:
    """Frechet distance of two sets, and what limits it.

    ``warning`` is None, or says why the number should not be leaned on. Distances are comparable
    only at equal numbers of rows: the estimate is biased upwards, the more the fewer they are.
    """

    distance: float
    mean_term: float
    covariance_term: float
    num_a: int
    num_b: int
    dim: int
    warning: str | None


def frechet_name(features: str) -> str:
    """Return what a Frechet distance is called: FID in Inception-v3 features only.

    Examples
    --------
    >>> frechet_name("efflite0")
    'FD-efflite0'
    """
    return "FID" if features == "inception-v3" else f"FD-{features}"


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> FrechetDistance:
    """Return |mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)), in float64.

    The cross term comes from symmetric eigenvalues where both covariances can have full rank. With
    fewer rows than that it is the nuclear norm of the cross product of the centred rows, which
    is exact too; the result then carries a warning, since the estimate is far from its limit.

    Parameters
    ----------
    features_a, features_b
        (N, d) and (M, d), at least two rows each.

    Raises
    ------
    DataError
        If the features are not comparable, too few, or not finite.
    """
    a = as_features("features_a", features_a, min_rows=2)
    b = as_features("features_b", features_b, min_rows=2)
    require_same_dim(features_a=a, features_b=b)
    if min(len(a), len(b)) > a.shape[1]:
        return frechet_distance_of_statistics(FeatureStatistics.of(a), FeatureStatistics.of(b))
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    root_a = (a - mean_a) / np.sqrt(len(a) - 1)
    root_b = (b - mean_b) / np.sqrt(len(b) - 1)
    traces = float(np.square(root_a).sum() + np.square(root_b).sum())
    cross = float(np.linalg.svd(_short(root_a) @ _short(root_b).T, compute_uv=False).sum())
    return _frechet(mean_a, mean_b, traces - 2 * cross, len(a), len(b))


def frechet_distance_of_statistics(a: FeatureStatistics, b: FeatureStatistics) -> FrechetDistance:
    """Return the Frechet distance from counts, means and scatters (streamed, or of another run).

    Raises
    ------
    DataError
        If the dimensions differ or a set has fewer than two rows.
    """
    if a.mean.shape != b.mean.shape:
        raise DataError(f"features have to be of one dimension, got {len(a.mean)}, {len(b.mean)}")
    covariance_a, covariance_b = a.covariance, b.covariance
    root = _root(covariance_a)
    # Tr (S_a S_b)^(1/2) = Tr (R' S_b R)^(1/2) for any R R' = S_a, and that matrix is symmetric.
    squares = np.linalg.eigvalsh(root.T @ covariance_b @ root)
    cross = float(np.sqrt(np.maximum(squares, 0)).sum())
    traces = float(np.trace(covariance_a) + np.trace(covariance_b))
    return _frechet(a.mean, b.mean, traces - 2 * cross, a.num, b.num)


def _frechet(
    mean_a: FloatArray, mean_b: FloatArray, covariance_term: float, num_a: int, num_b: int
) -> FrechetDistance:
    mean_term = float(np.square(mean_a - mean_b).sum())
    dim, fewest = len(mean_a), min(num_a, num_b)
    warning = None
    if fewest <= dim:
        warning = (
            f"{fewest} rows are too few for {dim} dimensions: the covariance is singular and the "
            "distance mostly bias; lean on KID, whose estimate is unbiased at any number"
        )
    return FrechetDistance(
        distance=mean_term + covariance_term,
        mean_term=mean_term,
        covariance_term=covariance_term,
        num_a=num_a,
        num_b=num_b,
        dim=dim,
        warning=warning,
    )


def _root(covariance: FloatArray) -> FloatArray:
    """Return R with R R' = covariance: Cholesky's, or that of the eigenvectors when singular."""
    try:
        return np.asarray(np.linalg.cholesky(covariance), np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0)), np.float64)


def _short(root: FloatArray) -> FloatArray:
    """Return a matrix of at most d rows with the same Gram matrix root' root."""
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root
