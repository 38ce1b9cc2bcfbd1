"""Somebody who is in no table, against hand-computed scores of one factor."""

import numpy as np
import polars as pl
import pytest

from ulrec.cf.als import ALS, ALSConfig
from ulrec.cf.popularity import Popularity, PopularityConfig
from ulrec.cf.taste import fold_in_items, recommend_for_taste
from ulrec.data.ids import IdMap
from ulrec.errors import DataError


def one_factor(*item_factors: float) -> ALS:
    """ALS of one factor with regularisation 1, alpha 1: x = sum(y_liked) / (sum(y^2) + 1)."""
    model = ALS(ALSConfig(num_factors=1, regularisation=1.0, alpha=1.0))
    model.items_ = IdMap([f"i{n}" for n in range(len(item_factors))])
    model.users_ = IdMap(["nobody"])
    model.item_factors_ = np.array(item_factors, np.float64)[:, None]
    model.user_factors_ = np.zeros((1, 1))
    return model


def test_a_fold_in_is_the_closed_form() -> None:
    model = one_factor(1.0, 2.0, 1.0)  # sum of squares 6
    np.testing.assert_allclose(fold_in_items(model, ["i0", "i1"]), [3 / 7], rtol=1e-6)
    assert fold_in_items(model, []).tolist() == [0.0]


def test_a_dislike_counts_half_a_like() -> None:
    model = one_factor(1.0, 2.0, 1.0, 3.0)  # sum of squares 15
    table = recommend_for_taste(model, ["i0"], ["i1"], k=5)
    # liked factor 1/16, disliked 2/16: score = y (1 - 1/2 2) / 16 = 0, the catalogue's order
    assert table["item_id"].to_list() == ["i2", "i3"]
    np.testing.assert_allclose(table["score"].to_numpy(), 0.0, atol=1e-7)
    liked_only = recommend_for_taste(model, ["i0"], [], k=5)
    assert liked_only["item_id"].to_list() == ["i3", "i1", "i2"]
    np.testing.assert_allclose(liked_only["score"].to_numpy(), [3 / 16, 2 / 16, 1 / 16], rtol=1e-6)
    assert liked_only["rank"].to_list() == [1, 2, 3]


def test_fewer_items_than_asked_for() -> None:
    table = recommend_for_taste(one_factor(1.0, 2.0), ["i0", "i1"], [], k=3)
    assert table.is_empty() and table.schema["rank"] == pl.Int64


def test_what_is_no_taste_is_refused() -> None:
    model = one_factor(1.0, 2.0)
    with pytest.raises(DataError, match="at least one liked"):
        recommend_for_taste(model, [], ["i0"], k=1)
    with pytest.raises(DataError, match="named twice"):
        recommend_for_taste(model, ["i0"], ["i0"], k=1)
    with pytest.raises(DataError, match="i9"):
        fold_in_items(model, ["i9"])


def test_a_model_that_cannot_fold_in_is_refused() -> None:
    with pytest.raises(DataError, match="Popularity cannot"):
        fold_in_items(Popularity(PopularityConfig()), ["i0"])
