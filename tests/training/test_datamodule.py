from __future__ import annotations

import numpy as np
import pytest
import torch

from ulrec.training.datamodule import (
    AugmentConfig,
    StepBatches,
    augmented,
    batch_rows,
    latent_source,
    media_source,
    pair_source,
)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 25])
def test_every_epoch_is_a_permutation(batch_size):
    """Batches may straddle epochs, or hold more than one."""
    num_batches = -(-30 // batch_size)
    rows = [batch_rows(10, batch_size, seed=3, step=step) for step in range(num_batches)]
    assert all(len(batch) == batch_size for batch in rows)
    epochs = np.concatenate(rows)[:30].reshape(3, 10)
    assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10), (3, 1)))
    assert not np.array_equal(epochs[0], epochs[1])


def test_rows_follow_the_seed_and_do_not_depend_on_the_start():
    later = batch_rows(10, 4, seed=0, step=17)
    for step in range(17):
        batch_rows(10, 4, seed=0, step=step)
    assert np.array_equal(batch_rows(10, 4, seed=0, step=17), later)
    assert not np.array_equal(batch_rows(10, 4, seed=1, step=17), later)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        batch_rows(0, 4, seed=0, step=0)


def numbered(batch, rng):
    """A source that tells its rows and the first number of its generator."""
    return torch.from_numpy(batch), torch.tensor(rng.random())


def batches(**settings):
    defaults = {"num_samples": 10, "batch_size": 4, "seed": 0, "start": 0, "stop": 6}
    return list(StepBatches(source=numbered, **{**defaults, **settings}))


def test_a_late_start_gives_the_same_batches():
    whole, rest = batches(), batches(start=2)
    assert len(rest) == 4
    for (rows, number), (same_rows, same_number) in zip(whole[2:], rest, strict=True):
        assert torch.equal(rows, same_rows)
        assert torch.equal(number, same_number)
    assert len({float(number) for _, number in whole}) == 6  # augmentation differs by step


def test_ranks_share_a_batch_out():
    whole = batches()
    ranks = [batches(rank=rank, world_size=2) for rank in range(2)]
    for step in range(6):
        parts = torch.cat([ranks[rank][step][0] for rank in range(2)])
        assert torch.equal(parts.sort().values, whole[step][0].sort().values)
        assert ranks[0][step][1] != ranks[1][step][1]


def test_media_source_reads_its_rows_and_mirrors_a_share():
    x = np.random.default_rng(0).normal(size=(6, 3, 1, 2, 4)).astype(np.float32)
    rows = np.array([5, 3, 1])

    def fetch(flip, seed=0):
        source = media_source(lambda wanted: x[wanted], rows, augment=AugmentConfig(flip=flip))
        return source(np.array([2, 0, 0, 1] * 50), np.random.default_rng(seed))[0]

    expected = torch.from_numpy(x[[1, 5, 5, 3] * 50])
    assert torch.equal(fetch(0.0), expected)
    assert torch.equal(fetch(1.0), expected.flip(-1))
    some = fetch(0.3)
    mirrored = (some != expected).flatten(1).any(1)
    assert torch.equal(
        some, torch.where(mirrored[:, None, None, None, None], expected.flip(-1), expected)
    )
    assert 0.2 < mirrored.float().mean() < 0.4
    assert torch.equal(fetch(0.3), some)
    assert not torch.equal(fetch(0.3, seed=1), some)


def test_latent_source_copies_rows_of_a_read_only_store():
    z = np.random.default_rng(0).normal(size=(6, 2, 1, 2, 2)).astype(np.float32)
    z.flags.writeable = False
    (batch,) = latent_source(z, np.array([4, 0]))(np.array([1, 0, 1]), np.random.default_rng(0))
    assert torch.equal(batch, torch.from_numpy(z[[0, 4, 0]]))
    batch.zero_()
    assert z.any()


def test_pair_source_joins_the_item_of_a_pair_with_the_factor_of_its_user():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 2, 1, 2, 2)).astype(np.float32)
    factors = rng.normal(size=(3, 5)).astype(np.float32)
    source = pair_source(z, np.array([3, 0, 3]), factors)
    latents, users = source(np.array([2, 1]), rng)
    assert torch.equal(latents, torch.from_numpy(z[[3, 0]]))
    assert torch.equal(users, torch.from_numpy(factors[[2, 1]]))


def test_colours_are_swapped_picture_by_picture_and_nothing_else():
    x = np.random.default_rng(0).random((200, 3, 1, 4, 4), dtype=np.float32)
    varied = augmented(x, AugmentConfig(flip=0.0, swap_colours=0.5), np.random.default_rng(1))
    assert np.array_equal(np.sort(varied, axis=1), np.sort(x, axis=1))
    changed = (varied != x).any(axis=(1, 2, 3, 4)).mean()
    assert pytest.approx(changed, abs=0.1) == 0.5 * 5 / 6  # one order of six is the old one


def test_pictures_move_by_whole_pixels_and_repeat_their_border():
    x = np.random.default_rng(0).random((200, 2, 3, 5, 6), dtype=np.float32)
    varied = augmented(x, AugmentConfig(flip=0.0, shift=1), np.random.default_rng(1))
    padded = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    found = set()
    for row in range(len(x)):
        places = [
            (down, right)
            for down in range(3)
            for right in range(3)
            if np.array_equal(varied[row], padded[row, ..., down : down + 5, right : right + 6])
        ]
        assert len(places) == 1  # all channels and frames alike
        found.add(places[0])
    assert len(found) == 9


def test_augmentation_leaves_the_source_alone_and_follows_its_generator():
    x = np.random.default_rng(0).random((8, 3, 1, 4, 4), dtype=np.float32)
    before = x.copy()
    config = AugmentConfig(flip=0.5, shift=2, swap_colours=0.5)
    first, again, other = (augmented(x, config, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(x, before)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"flip": 1.5}, "flip"), ({"swap_colours": -0.1}, "swap_colours"), ({"shift": -1}, "shift")],
)
def test_senseless_augmentation_is_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        AugmentConfig(**settings)
