from __future__ import annotations

import dataclasses

import pytest
import torch

from ulrec.checkpoint import load_component
from ulrec.conditioning.user import UserConditioner, UserConditionerConfig
from ulrec.config import from_mapping
from ulrec.errors import ArtefactError
from ulrec.models.autoencoder import Autoencoder, AutoencoderConfig
from ulrec.models.base import Base, BaseConfig
from ulrec.models.components import load_weights, save_model
from ulrec.models.prior import Prior, PriorConfig


@pytest.fixture
def autoencoder(tiny, randomised):
    return randomised(Autoencoder(tiny.autoencoder))


def reload(folder, kind, config_class, build):
    component = load_component(folder, kind=kind)
    config = from_mapping(config_class, component.config)
    module = build(config)
    load_weights(module, component)
    return module, component


def assert_same_state(module, other):
    state = other.state_dict()
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert not module.training


def test_autoencoder_comes_back_bit_equal(tmp_path, autoencoder, pictures):
    made_from = {"media": "abc"}
    fingerprint = save_model(
        autoencoder,
        tmp_path / "a",
        kind="autoencoder",
        config=autoencoder.config,
        made_from=made_from,
    )
    module, component = reload(tmp_path / "a", "autoencoder", AutoencoderConfig, Autoencoder)
    assert component.manifest.fingerprint == fingerprint
    assert component.manifest.made_from == made_from
    assert module.config == autoencoder.config
    assert_same_state(module, autoencoder)
    assert torch.equal(module.encode(pictures), autoencoder.encode(pictures))
    z_0 = torch.randn(8, 4, 1, 2, 2)
    drawn = [model.decode(z_0, seeds=range(8)) for model in (module, autoencoder)]
    assert torch.equal(*drawn)


def test_prior_base_and_conditioner_come_back_bit_equal(tmp_path, network, randomised):
    prior = randomised(Prior(PriorConfig(network=network), channels=4))
    save_model(prior, tmp_path / "p", kind="prior", config=prior.config)
    module, _ = reload(tmp_path / "p", "prior", PriorConfig, lambda c: Prior(c, channels=4))
    assert_same_state(module, prior)

    conditioned = dataclasses.replace(network, cond_width=6)
    base = randomised(Base(BaseConfig(latent_shape=(4, 1, 2, 2), network=conditioned)))
    save_model(base, tmp_path / "b", kind="base", config=base.config)
    module, _ = reload(tmp_path / "b", "base", BaseConfig, Base)
    assert module.config == base.config
    assert_same_state(module, base)

    users = randomised(UserConditioner(UserConditionerConfig(num_factors=5, width=6, hidden=8)))
    users.standardise(torch.randn(20, 5) * 3 + 1)
    save_model(users, tmp_path / "u", kind="conditioner", config=users.config)
    module, _ = reload(tmp_path / "u", "conditioner", UserConditionerConfig, UserConditioner)
    assert_same_state(module, users)
    factors = torch.randn(3, 5)
    assert torch.equal(module(factors).tokens, users(factors).tokens)


def test_the_same_weights_have_the_same_fingerprint(tmp_path, autoencoder):
    kind, config = "autoencoder", autoencoder.config
    first, again = (
        save_model(autoencoder, tmp_path / name, kind=kind, config=config) for name in ("a", "b")
    )
    assert first == again
    with torch.no_grad():
        autoencoder.encoder.out.bias[0] += 1e-3
    assert save_model(autoencoder, tmp_path / "c", kind=kind, config=config) != first


def test_weights_of_another_shape_are_refused_by_name(tmp_path, autoencoder, tiny):
    save_model(autoencoder, tmp_path / "a", kind="autoencoder", config=autoencoder.config)
    encoder = dataclasses.replace(tiny.autoencoder.encoder, latent_channels=5)
    other = Autoencoder(dataclasses.replace(tiny.autoencoder, encoder=encoder))
    component = load_component(tmp_path / "a", kind="autoencoder")
    before = other.encoder.out.weight.clone()
    with pytest.raises(ArtefactError, match=r"weight '.*' has shape \(.*4.*\), .* asks for \(.*5"):
        load_weights(other, component)
    assert torch.equal(other.encoder.out.weight, before)


@pytest.mark.parametrize(
    ("saved_depth", "message"),
    [
        (1, r"weight 'network\.blocks\.1\..*' is missing in the file"),
        (3, r"weight 'network\.blocks\.2\..*' is missing in this version's model"),
    ],
)
def test_weights_of_other_names_are_refused_by_name(tmp_path, network, saved_depth, message):
    def prior(depth: int) -> Prior:
        return Prior(PriorConfig(network=dataclasses.replace(network, depth=depth)), channels=4)

    saved = prior(saved_depth)
    save_model(saved, tmp_path / "p", kind="prior", config=saved.config)
    with pytest.raises(ArtefactError, match=message):
        load_weights(prior(2), load_component(tmp_path / "p", kind="prior"))


def test_a_vector_that_half_precision_cannot_hold_is_refused_in_8_bits(tmp_path, autoencoder):
    with torch.no_grad():
        autoencoder.encoder.out.bias[0] = 1e6
    with pytest.raises(ArtefactError, match=r"weight 'encoder\.out\.bias' is NaN or infinite"):
        save_model(
            autoencoder,
            tmp_path / "a",
            kind="autoencoder",
            config=autoencoder.config,
            dtype=torch.int8,
        )
    assert not (tmp_path / "a").exists()
