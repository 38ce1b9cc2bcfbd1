"""From media to stored feature arrays: the one loop that every feature network shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ulrec.errors import DataError

__all__ = ["FeatureNetwork", "extract_features"]


class FeatureNetwork(Protocol):
    """A frozen network from media to feature vectors.

    ``name``, ``weight_hash`` and ``preprocessing`` travel with every result that uses its features.
    """

    @property
    def name(self) -> str:
        """Short name; a Frechet distance in these features is called ``FD-<name>``."""
        ...

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        ...

    @property
    def weight_hash(self) -> str:
        """Digest of the weights."""
        ...

    @property
    def preprocessing(self) -> str:
        """What happens to media before the network, resize filter included."""
        ...

    def __call__(self, media: torch.Tensor) -> torch.Tensor:
        """Return features (B, dim) float32 of media (B, 3, H, W) or (B, 3, F, H, W)."""
        ...


def extract_features(
    network: FeatureNetwork,
    batches: Iterable[torch.Tensor | NDArray[Any]],
    *,
    batch_size: int = 8,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the features of all media, in order.

    Parameters
    ----------
    network
        The feature network; it runs where the media lie.
    batches
        Media (B, 3, H, W) or (B, 3, F, H, W), uint8 or float in [-1, 1]; any batch sizes.
    batch_size
        The most media the network sees at once. The result does not depend on it; small batches
        stay in a CPU's cache and are the faster ones there.
    progress
        Called with the number of media done so far.

    Returns
    -------
    NDArray[np.float32]
        (N, dim); (0, dim) where there are no media.

    Raises
    ------
    DataError
        If the batch size is below 1 or the network refuses the media.
    """
    if batch_size < 1:
        raise DataError(f"batch_size has to be at least 1, got {batch_size}")
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in batches:
        for media in torch.split(torch.as_tensor(batch), batch_size):
            parts.append(network(media).cpu().numpy())
            done += len(media)
            if progress is not None:
                progress(done)
    return np.concatenate(parts) if parts else np.empty((0, network.dim), np.float32)
