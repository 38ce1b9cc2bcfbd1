"""Bits of a latent under N(0, I), whose prior term is known in closed form."""

import math

import numpy as np
import pytest
import torch

from ulrec.errors import ArtefactError
from ulrec.models.components import save_model
from ulrec.models.prior import Prior, PriorConfig
from ulrec.models.rarity import bits_per_pixel, load_prior
from ulrec.networks.transformer import TransformerConfig

SHAPE = (2, 1, 2, 2)
TINY = PriorConfig(network=TransformerConfig(width=16, depth=1, head_width=8))


def test_the_normal_prior_charges_its_kl() -> None:
    prior = Prior(PriorConfig(name="normal"), channels=2)
    z = torch.stack([torch.zeros(SHAPE), torch.full(SHAPE, 3.0)])
    alpha_2 = 1 / (1 + math.exp(-5.0))  # logsnr_0 = 5
    sigma_2 = 1 - alpha_2
    # KL(N(alpha z, sigma^2) || N(0, 1)) summed over 8 values, in bits over 4 pixels
    kl = [8 * 0.5 * (sigma_2 + alpha_2 * v**2 - 1 - math.log(sigma_2)) for v in (0.0, 3.0)]
    bits = bits_per_pixel(prior, z, num_pixels=4, num_levels=2)
    np.testing.assert_allclose(bits, np.array(kl) / math.log(2) / 4, rtol=1e-4)


def test_bits_do_not_depend_on_the_company() -> None:
    torch.manual_seed(0)
    prior, z = Prior(TINY, channels=2), torch.randn(5, *SHAPE)
    together = bits_per_pixel(prior, z, num_pixels=16, num_levels=3)
    alone = bits_per_pixel(prior, z[3:4], num_pixels=16, num_levels=3)
    np.testing.assert_allclose(together[3:4], alone, rtol=1e-4)
    assert bits_per_pixel(prior, z[:0], num_pixels=16, num_levels=3).shape == (0,)


def test_a_saved_prior_comes_back(tmp_path) -> None:
    torch.manual_seed(0)
    prior = Prior(TINY, channels=2)
    save_model(prior, tmp_path / "prior", kind="prior", config=TINY, info={"channels": 2})
    z = torch.randn(2, *SHAPE)
    again = load_prior(tmp_path / "prior")
    expected = bits_per_pixel(prior, z, num_pixels=4, num_levels=2)
    np.testing.assert_array_equal(bits_per_pixel(again, z, num_pixels=4, num_levels=2), expected)
    with pytest.raises(ArtefactError):
        load_prior(tmp_path / "none")
