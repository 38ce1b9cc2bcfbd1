"""The loop over batches keeps order, ignores batch borders, and tells how far it is."""

import numpy as np
import pytest
import torch

from ulrec.errors import DataError
from ulrec.features.extract import extract_features


class ChannelMeans:
    """A real, tiny feature network: the mean of each channel."""

    name = "channel_means"
    dim = 3
    weight_hash = "none"
    preprocessing = "none"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, media: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(media))
        return media.float().flatten(2).mean(2)


def test_order_and_values_do_not_depend_on_batches() -> None:
    media = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 4), dtype=np.uint8)
    expected = media.reshape(7, 3, -1).mean(axis=2)
    for borders in ([7], [1, 6], [3, 4]):
        batches = np.split(media, np.cumsum(borders)[:-1])
        got = extract_features(ChannelMeans(), batches, batch_size=2)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_batch_size_bounds_what_the_network_sees_and_progress_counts() -> None:
    network, seen = ChannelMeans(), []
    batches = [torch.zeros(5, 3, 2, 2), torch.zeros(1, 3, 2, 2)]
    extract_features(network, batches, batch_size=2, progress=seen.append)
    assert network.sizes == [2, 2, 1, 1]
    assert seen == [2, 4, 5, 6]


def test_no_media_and_bad_batch_size() -> None:
    assert extract_features(ChannelMeans(), []).shape == (0, 3)
    with pytest.raises(DataError, match="at least 1, got 0"):
        extract_features(ChannelMeans(), [], batch_size=0)
