"""From latents (B, D, f, h, w) to search vectors (B, Q): projections that are plain NumPy.

A projection reduces a latent (flattened or pooled) and, where it has a matrix, centres it on the
catalogue's mean and multiplies. The same projection serves the catalogue and the queries, so it is
kept beside the index. "co_liked" is learnt from interactions too: see :mod:`.co_liked`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ulrec.checkpoint import load_component, save_component
from ulrec.config import from_mapping, to_mapping
from ulrec.errors import ConfigError, DataError
from ulrec.retrieval.co_liked import co_liked_axes

__all__ = [
    "QUERIES",
    "Projection",
    "QueryConfig",
    "fit_projection",
    "flatten",
    "load_projection",
    "pooled",
    "save_projection",
]

KIND = "projection"
LATENTS_AT_ONCE = 1024

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryConfig:
    """Configuration of a projection.

    Attributes
    ----------
    name
        A name of :data:`QUERIES`.
    dim
        Q of the ones that choose it ("pca", "whitened", "co_liked").
    grid
        Cells per side of "pooled"; it has to divide h and w.
    """

    name: str = "flat"
    dim: int = 64
    grid: int = 2

    def __post_init__(self) -> None:
        if self.name not in QUERIES:
            known = ", ".join(QUERIES)
            raise ConfigError(f"'name' has to be one of {known}, got {self.name!r}")
        for name in ("dim", "grid"):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' has to be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """Turns latents of one shape into search vectors; call it.

    Attributes
    ----------
    config
        What it was fitted with.
    latent_shape
        (D, f, h, w) of the catalogue's latents.
    mean
        Of the reduced catalogue, float32 (P,), or None: not centred.
    matrix
        Float32 (P, Q), or None: the reduced latents themselves.
    """

    config: QueryConfig
    latent_shape: tuple[int, ...]
    mean: Array | None = None
    matrix: Array | None = None

    def __call__(self, latents: Array) -> Array:
        """Project latents.

        Parameters
        ----------
        latents
            Clean latents (B, D, f, h, w), or a base's estimates of them.

        Returns
        -------
        NDArray
            Float32 (B, Q).

        Raises
        ------
        DataError
            If they have another shape than the catalogue's.
        """
        if latents.ndim != 5 or tuple(latents.shape[1:]) != self.latent_shape:
            expected = ", ".join(map(str, self.latent_shape))
            raise DataError(
                f"latents have to be (B, {expected}) as in the catalogue, got {latents.shape}; "
                "encode with the autoencoder of this run"
            )
        reduced = _reduce(latents, self.config)
        if self.matrix is None:
            return reduced
        centred = reduced if self.mean is None else reduced - self.mean
        return np.asarray(centred @ self.matrix, np.float32)


def fit_projection(
    latents: Array, config: QueryConfig, *, likes: sparse.csr_matrix | None = None
) -> Projection:
    """Make the projection that ``config`` names for a catalogue.

    Parameters
    ----------
    latents
        Clean latents of the catalogue (I, D, f, h, w); a memory map is read in blocks.
    config
        Which one, and its size.
    likes
        Train interactions (U, I), columns as the latents' rows; "co_liked" needs them, the others
        do not look at them.

    Raises
    ------
    DataError
        If the latents are not five-dimensional or too few for ``dim``, or likes are needed and
        absent, of other items, or too few.
    ConfigError
        If ``dim`` or ``grid`` does not fit their shape.
    """
    if latents.ndim != 5 or len(latents) == 0:
        raise DataError(f"latents have to be (I, D, f, h, w) with I > 0, got {latents.shape}")
    return QUERIES[config.name](latents, config, likes)


def flatten(latents: Array) -> Array:
    """Return (B, D * f * h * w).

    Examples
    --------
    >>> flatten(np.zeros((3, 2, 1, 4, 4), np.float32)).shape
    (3, 32)
    """
    return np.asarray(latents, np.float32).reshape(len(latents), math.prod(latents.shape[1:]))


def pooled(latents: Array, *, grid: int = 1) -> Array:
    """Return means over frames and over cells of a grid x grid layout, (B, D * grid * grid).

    Examples
    --------
    >>> latent = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 2, 2)
    >>> pooled(latent).tolist(), pooled(latent, grid=2).tolist()
    ([[1.5]], [[0.0, 1.0, 2.0, 3.0]])
    """
    num, depth, frames, height, width = latents.shape
    if height % grid or width % grid:
        raise ConfigError(f"'grid' has to divide {height} and {width} of the latents, got {grid}")
    cells = np.asarray(latents, np.float32).reshape(
        num, depth, frames, grid, height // grid, grid, width // grid
    )
    return np.asarray(cells.mean(axis=(2, 4, 6)).reshape(num, depth * grid**2), np.float32)


def save_projection(
    projection: Projection, folder: str | Path, *, made_from: Mapping[str, str] | None = None
) -> str:
    """Write a projection as an artefact and return its fingerprint.

    ``made_from`` holds the fingerprint of the latents it was fitted on under "latents".
    """
    tensors = {"mean": projection.mean, "matrix": projection.matrix}
    config = {"query": to_mapping(projection.config), "latent_shape": [*projection.latent_shape]}
    return save_component(
        folder,
        kind=KIND,
        config=config,
        tensors={name: tensor for name, tensor in tensors.items() if tensor is not None},
        made_from=made_from,
    )


def load_projection(folder: str | Path) -> Projection:
    """Read what :func:`save_projection` wrote; it projects bit-equally.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or something else.
    """
    component = load_component(folder, kind=KIND)
    return Projection(
        config=from_mapping(QueryConfig, component.config["query"]),
        latent_shape=tuple(component.config["latent_shape"]),
        mean=component.tensors.get("mean"),
        matrix=component.tensors.get("matrix"),
    )


def _reduce(latents: Array, config: QueryConfig) -> Array:
    return pooled(latents, grid=config.grid) if config.name == "pooled" else flatten(latents)


def _fit_reduction(
    latents: Array, config: QueryConfig, likes: sparse.csr_matrix | None
) -> Projection:
    projection = Projection(config=config, latent_shape=tuple(latents.shape[1:]))
    projection(latents[:1])  # a grid that does not fit shows here, not at the first search
    return projection


def _fit_pca(latents: Array, config: QueryConfig, likes: sparse.csr_matrix | None) -> Projection:
    mean, axes, _ = _principal_axes(latents, config.dim)
    return _linear(latents, config, mean, axes)


def _fit_whitened(
    latents: Array, config: QueryConfig, likes: sparse.csr_matrix | None
) -> Projection:
    """PCA with every axis scaled to variance 1: rare directions count as much as common ones."""
    mean, axes, variance = _principal_axes(latents, config.dim)
    return _linear(latents, config, mean, axes / np.sqrt(variance))


def _fit_co_liked(
    latents: Array, config: QueryConfig, likes: sparse.csr_matrix | None
) -> Projection:
    return _linear(latents, config, *co_liked_axes(flatten(latents), likes, config.dim))


def _linear(
    latents: Array, config: QueryConfig, mean: NDArray[Any], matrix: NDArray[Any]
) -> Projection:
    return Projection(
        config=config,
        latent_shape=tuple(latents.shape[1:]),
        mean=mean.astype(np.float32),
        matrix=matrix.astype(np.float32),
    )


def _principal_axes(latents: Array, dim: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return mean (P,), axes (P, Q) and variances (Q,) of flattened latents, in float64."""
    size = math.prod(latents.shape[1:])
    mean, axes, variance = (_by_svd if size > len(latents) else _by_covariance)(latents)
    rank = int((variance > 1e-10 * variance[0]).sum())
    if dim > rank:
        raise DataError(
            f"'dim' {dim} is more than the {rank} directions in which {len(latents)} latents of "
            f"{size} numbers vary; lower it"
        )
    axes = axes[:, :dim]
    # An axis has no sign of its own: its largest entry is made positive, on every machine.
    largest = np.abs(axes).argmax(0)
    return mean, axes * np.sign(axes[largest, np.arange(dim)]), variance[:dim]


def _by_covariance(latents: Array) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Read the latents twice in blocks: only the (P, P) covariance has to fit into memory."""
    starts = range(0, len(latents), LATENTS_AT_ONCE)
    blocks = [slice(start, start + LATENTS_AT_ONCE) for start in starts]
    size = math.prod(latents.shape[1:])
    mean, covariance = np.zeros(size), np.zeros((size, size))
    for block in blocks:
        mean += flatten(latents[block]).sum(0, dtype=np.float64) / len(latents)
    for block in blocks:
        centred = flatten(latents[block]) - mean
        covariance += centred.T @ centred / max(1, len(latents) - 1)
    variance, axes = np.linalg.eigh(covariance)
    return mean, axes[:, ::-1], variance[::-1]


def _by_svd(latents: Array) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Fewer latents than numbers in one: the covariance would be the larger matrix."""
    flat = flatten(latents).astype(np.float64)
    mean = flat.mean(0)
    _, singular, rows = np.linalg.svd(flat - mean, full_matrices=False)
    return mean, rows.T, singular**2 / max(1, len(latents) - 1)


QUERIES: dict[str, Callable[[Array, QueryConfig, sparse.csr_matrix | None], Projection]] = {
    "flat": _fit_reduction,
    "pooled": _fit_reduction,
    "pca": _fit_pca,
    "whitened": _fit_whitened,
    "co_liked": _fit_co_liked,
}
