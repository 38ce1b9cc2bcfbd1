"""The detector of posterior collapse (METHOD.md 6.7)."""

from __future__ import annotations

import pytest
import torch

from ulrec.models.measure import gain_of_z


def gain(model, x, seed=0):
    with torch.no_grad():
        z = model.autoencoder.encode(x)
    return gain_of_z(model.autoencoder, x, z, num_levels=16, seed=seed)


def test_a_latent_that_is_used_gains(overfitted, pictures):
    """A wrong latent costs hundreds of nats, for every picture."""
    model, _ = overfitted
    values = gain(model, pictures)
    assert values.shape == (8,)
    assert values.min() > 100


def test_a_collapsed_latent_gains_nothing(overfitted, collapsed, pictures):
    used = gain(overfitted[0], pictures).mean()
    unused = gain(collapsed, pictures).mean()
    assert unused.abs() < 0.02 * used


def test_the_same_seed_gives_the_same_gain(overfitted, pictures):
    model, _ = overfitted
    assert torch.equal(gain(model, pictures), gain(model, pictures))
    assert not torch.equal(gain(model, pictures), gain(model, pictures, seed=1))


def test_one_sample_has_no_other_latent_to_compare_with(overfitted, pictures):
    with pytest.raises(ValueError, match="at least two"):
        gain(overfitted[0], pictures[:1])
