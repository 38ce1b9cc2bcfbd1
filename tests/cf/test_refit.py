from __future__ import annotations

import numpy as np
import pytest

from ulrec.cf.als import ALS, ALSConfig
from ulrec.cf.refit import Refit, refit
from ulrec.cf.registry import CFConfig, build, config_of
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.errors import DataError


def start_from(model, **changes) -> Refit:
    old = model.factors()
    return Refit(**{"model": model, "old": old, "config": None, "max_drift": 0.5, **changes})


def test_fold_in_keeps_the_items(weighted):
    model = ALS(ALSConfig(num_factors=4, regularisation=0.1)).fit(weighted)
    later = Interactions(
        user_items=weighted.user_items[[5, 6, 28]], users=IdMap([5, 6, 99]), items=weighted.items
    )
    refitted = refit("fold_in", start_from(model), later)
    assert refitted.relation == "folded_into"
    np.testing.assert_array_equal(refitted.factors.item_factors, model.factors().item_factors)
    expected = model.fold_in(weighted.user_items[[5, 6, 28]])
    np.testing.assert_array_equal(refitted.factors.user_factors, expected)


@pytest.mark.parametrize("name", ["als", "bpr", "ease", "foreign"])
def test_align_finds_the_old_axes_again(name, tiny_config, weighted):
    """The same fit, its old axes turned: after the alignment nothing is left of the rotation."""
    config = CFConfig(
        **{f: getattr(tiny_config, f) for f in ("als", "bpr", "ease", "foreign")} | {"model": name}
    )
    model = build(config).fit(weighted)
    turned = model.rotated(np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0])
    refitted = refit("align", start_from(turned, max_drift=1e-4), weighted)
    assert refitted.relation == "aligned_to"
    old = turned.factors()
    np.testing.assert_allclose(refitted.factors.user_factors, old.user_factors, atol=1e-4)
    np.testing.assert_array_equal(
        refitted.factors.user_factors, refitted.model.factors().user_factors
    )
    assert refitted.factors.info["drift"]["users"] < 1e-4


def test_align_takes_another_configuration(weighted):
    model = ALS(ALSConfig(num_factors=4)).fit(weighted)
    other = CFConfig(als=ALSConfig(num_factors=4, regularisation=4.0))
    refitted = refit("align", start_from(model, config=other, max_drift=9.0), weighted)
    assert refitted.model.config.regularisation == 4.0
    assert 0.01 < refitted.factors.info["drift"]["items"] < 1.0


def test_what_cannot_be_refitted_is_refused(tiny_config, weighted):
    als = build(tiny_config).fit(weighted)
    with pytest.raises(DataError, match="one of fold_in, align, got 'again'"):
        refit("again", start_from(als), weighted)
    with pytest.raises(DataError, match="needs how='align'"):
        refit("fold_in", start_from(als, config=tiny_config), weighted)
    bpr = build(CFConfig(model="bpr", bpr=tiny_config.bpr)).fit(weighted)
    with pytest.raises(DataError, match="BPR does not fold users in; refit with how='align'"):
        refit("fold_in", start_from(bpr), weighted)
    popular = CFConfig(model="popularity")
    with pytest.raises(DataError, match="'popularity' has no factors to align"):
        refit("align", start_from(als, config=popular), weighted)


def test_the_configuration_of_a_model_builds_it_again(tiny_config):
    assert config_of(build(tiny_config)) == CFConfig(als=tiny_config.als)
