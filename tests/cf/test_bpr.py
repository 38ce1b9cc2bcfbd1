from __future__ import annotations

import numpy as np
import pytest

from ulrec.cf.bpr import BPR, BPRConfig
from ulrec.errors import ConfigError


def test_scores_are_those_of_implicit_on_one_thread(weighted):
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    config = BPRConfig(
        num_factors=4, learning_rate=0.05, regularisation=0.02, iterations=20, seed=3
    )
    model = BPR(config).fit(weighted)
    peer = BayesianPersonalizedRanking(
        factors=4,
        learning_rate=0.05,
        regularization=0.02,
        iterations=20,
        random_state=3,
        num_threads=1,
    )
    peer.fit(weighted.user_items, show_progress=False)
    expected = peer.user_factors @ peer.item_factors.T
    got = model.score(weighted.user_items, user_ids=weighted.users.ids)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_user_without_interactions_gets_the_bias(weighted):
    model = BPR(BPRConfig(num_factors=4)).fit(weighted)
    assert not model.user_factors_[29].any()
    got = model.score(weighted.user_items[[29]], user_ids=np.array([29]))
    np.testing.assert_array_equal(got[0], model.item_bias_)


def test_weights_are_ignored_and_the_seed_is_not(weighted):
    config = BPRConfig(num_factors=4)
    heavier = weighted.user_items.copy()
    heavier.data *= 7.0
    first = BPR(config).fit(weighted).item_factors_
    other = type(weighted)(user_items=heavier, users=weighted.users, items=weighted.items)
    np.testing.assert_array_equal(BPR(config).fit(other).item_factors_, first)
    assert (BPR(BPRConfig(num_factors=4, seed=1)).fit(weighted).item_factors_ != first).any()


@pytest.mark.parametrize("name", ["num_factors", "learning_rate", "regularisation", "iterations"])
def test_bad_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' of BPR has to be positive, got 0"):
        BPRConfig(**{name: 0})
