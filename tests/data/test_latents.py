from __future__ import annotations

import numpy as np
import pytest

from ulrec.data.ids import IdMap
from ulrec.data.latents import LatentStore
from ulrec.errors import DataError

SHAPE = (2, 1, 3, 3)
ITEMS = IdMap(["a", "b", "c"])


def write(folder, batches):
    made_from = {"autoencoder": "abc", "media": "def"}
    return LatentStore.write(folder, batches, items=ITEMS, shape=SHAPE, made_from=made_from)


def latents(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32)


def test_round_trip_in_any_batches(tmp_path):
    z = latents(3)
    store = write(tmp_path / "z", [z[:2], z[2:]])
    np.testing.assert_array_equal(store.z, z)
    assert isinstance(store.z, np.memmap)
    assert store.items == ITEMS
    assert store.manifest.made_from["autoencoder"] == "abc"
    assert write(tmp_path / "y", [z]).manifest.fingerprint == store.manifest.fingerprint
    with pytest.raises(ValueError, match="read-only"):
        store.z[0] = 0


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([latents(2)], "got 2 latents for 3 items"),
        ([latents(4)], "got more than the 3 latents"),
        ([np.full((3, *SHAPE), np.nan, np.float32)], "hold NaN or infinity"),
        ([np.zeros((3, 1, 1, 1, 1), np.float32)], r"of shape \(2, 1, 3, 3\), got \(1, 1, 1, 1\)"),
    ],
)
def test_bad_latents_write_nothing(tmp_path, batches, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "z", batches)
    assert list(tmp_path.iterdir()) == []
