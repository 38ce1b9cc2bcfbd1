"""Search with filters, dislikes and without near-duplicates, on the tiny run."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec import Pipeline
from ulrec.errors import DataError
from ulrec.retrieval.distinct import Duplicates


@pytest.fixture(scope="module")
def pipeline(tiny_run) -> Pipeline:
    return Pipeline.load(tiny_run.folder)


@pytest.fixture(scope="module")
def latents(pipeline) -> np.ndarray:
    return np.array(pipeline.latents.z[:3])


def categories_of(pipeline, items: list[str]) -> set[str]:
    return set(pipeline.items.filter(pl.col("item_id").is_in(items))["category"].to_list())


def test_a_category_alone_comes_back_nearest_first(pipeline, latents):
    names = pipeline.items["category"].unique().sort().to_list()
    found = pipeline.neighbours(latents, k=4, category=names[0])
    assert categories_of(pipeline, found["item_id"].to_list()) == {names[0]}
    whole = pipeline.neighbours(latents, k=len(pipeline.index))
    of_name = pipeline.items.filter(pl.col("category") == names[0])["item_id"].to_list()
    expected = whole.filter(pl.col("item_id").is_in(of_name))
    for query in range(3):
        part = expected.filter(pl.col("query") == query)["item_id"].head(4).to_list()
        assert found.filter(pl.col("query") == query)["item_id"].to_list() == part
    both = pipeline.neighbours(latents, k=5, category=names[:2], among=of_name)
    assert categories_of(pipeline, both["item_id"].to_list()) == {names[0]}
    with pytest.raises(
        DataError, match=f"no item is of category 'spaceship'; there are {names[0]}"
    ):
        pipeline.neighbours(latents, category="spaceship")


def test_dislikes_move_the_query_away(pipeline, latents):
    z = pipeline.projection(latents).astype(np.float64)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    query = unit[:1] - 0.5 * unit[1:].mean(axis=0, keepdims=True)
    scores = query @ pipeline.index.vectors.T.astype(np.float64) / np.linalg.norm(query)
    found = pipeline.neighbours(latents[:1], k=5, negatives=latents[1:])
    expected = pipeline.index.items[np.argsort(-scores[0])[:5]].tolist()
    assert found["item_id"].to_list() == expected
    np.testing.assert_allclose(found["score"].to_list(), np.sort(scores[0])[::-1][:5], atol=1e-5)
    same = pipeline.neighbours(latents[:1], k=5, negatives=latents[:0])
    assert same.equals(pipeline.neighbours(latents[:1], k=5))


def test_distinct_items_come_back_k_of_them(pipeline, latents):
    duplicates = Duplicates.of(pipeline.index, quantile=0.3)
    found = pipeline.neighbours(latents, k=6, distinct=0.3)
    assert found.group_by("query").len()["len"].to_list() == [6, 6, 6]
    for _, part in found.group_by("query", maintain_order=True):
        assert duplicates.keep(pipeline.index.items.rows(part["item_id"].to_list())).all()
    plain = pipeline.neighbours(latents, k=40)
    assert not duplicates.keep(
        pipeline.index.items.rows(plain.filter(pl.col("query") == 0)["item_id"].to_list())
    ).all()


def test_recommendations_take_the_same_filters(pipeline, latents):
    users = pipeline.factors.users[[0, 0, 1]].tolist()
    name = pipeline.items["category"][0]
    plain = pipeline.recommend_near(users, latents, k=5)
    first = plain["item_id"][0]
    without = pipeline.recommend_near(users, latents, k=5, exclude=[first])
    assert first not in without["item_id"].to_list()
    table = pipeline.recommend_near(users, latents, k=3, category=name)
    assert categories_of(pipeline, table["item_id"].to_list()) == {name}
    away = pipeline.recommend_near(users, latents, k=5, negatives=latents)
    assert not away.equals(plain)


def test_recommendations_of_several_latents_are_distinct(pipeline, latents):
    users = pipeline.factors.users[[0, 0, 1]].tolist()
    duplicates = Duplicates.of(pipeline.index, quantile=0.3)
    table = pipeline.recommend_near(users, latents, k=7, distinct=0.3)
    everything = pipeline.recommend_near(users, latents, k=len(pipeline.index))
    for (user,), part in table.group_by("user_id", maintain_order=True):
        rows = pipeline.index.items.rows(
            everything.filter(pl.col("user_id") == user)["item_id"].to_list()
        )
        expected = pipeline.index.items[rows[duplicates.keep(rows)][:7]].tolist()
        assert part["item_id"].to_list() == expected
        assert part["rank"].to_list() == [*range(1, 8)]
