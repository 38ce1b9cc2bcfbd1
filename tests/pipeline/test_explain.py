"""Explanations: contributions by leaving out, strips along a factor, pictures beside nobody's."""

import numpy as np
import pytest
import torch

from ulrec import Pipeline
from ulrec.errors import DataError
from ulrec.experiment.runner import Run


@pytest.fixture(scope="module")
def pipeline(tiny_run: Run) -> Pipeline:
    return Pipeline.load(tiny_run.folder)


def users_of(pipeline: Pipeline, num: int) -> list:
    counts = np.diff(pipeline.interactions.user_items.indptr)
    return pipeline.factors.users[np.flatnonzero(counts >= 3)[:num]].tolist()


def along(pipeline: Pipeline, factor: np.ndarray, latent: np.ndarray) -> float:
    """How far the shift of a factor (R,) moves along the direction of a latent."""
    if not factor.any():
        return 0.0
    with torch.no_grad():
        shift = pipeline.conditioner["user"](torch.from_numpy(factor[None])).shift[0].numpy()
    away = latent - np.asarray(pipeline.latents.z).mean(axis=0)
    return float((shift * away).sum() / np.linalg.norm(away))


def test_a_contribution_is_what_leaving_the_item_out_changes(pipeline: Pipeline) -> None:
    liked = pipeline.interactions.items[np.argsort(-pipeline.interactions.popularity())[:4]]
    latents = np.asarray(pipeline.latents.z[:2])
    table = pipeline.explain(latents, liked=[liked.tolist(), liked[:3].tolist()], k=9)
    assert table["query"].to_list() == [0, 0, 0, 0, 1, 1, 1]
    assert table["rank"].to_list() == [1, 2, 3, 4, 1, 2, 3]
    own = along(pipeline, pipeline.fold_in(liked.tolist()), latents[0])
    for row in table.filter(table["query"] == 0).iter_rows(named=True):
        rest = [item for item in liked.tolist() if item != row["item_id"]]
        expected = own - along(pipeline, pipeline.fold_in(rest), latents[0])
        assert row["contribution"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert (np.diff(table.filter(table["query"] == 0)["contribution"]) <= 0).all()
    near = pipeline.neighbours(latents[:1], k=4, among=liked.tolist())
    scores = dict(near.select("item_id", "score").iter_rows())
    found = dict(table.filter(table["query"] == 0).select("item_id", "similarity").iter_rows())
    assert found == pytest.approx(scores)


def test_users_are_explained_by_their_histories(pipeline: Pipeline) -> None:
    users = users_of(pipeline, 2)
    made = pipeline.generate(users, per_user=2, guidance=3.0, decode=False)
    table = pipeline.explain(made.latents, user_ids=made.user_ids, k=2)
    assert table["query"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3]
    for place, user in enumerate(made.user_ids.tolist()):
        row = pipeline.factors.users.rows([user])[0]
        history = pipeline.interactions.items[pipeline.interactions.history(row)].tolist()
        assert set(table.filter(table["query"] == place)["item_id"]) <= set(history)


def test_a_single_liked_item_contributes_all_there_is(pipeline: Pipeline) -> None:
    item = pipeline.interactions.items[[int(pipeline.interactions.popularity().argmax())]].tolist()
    latent = np.asarray(pipeline.latents.z[:1])
    row = pipeline.explain(latent, liked=[item]).row(0, named=True)
    assert row["contribution"] == pytest.approx(
        along(pipeline, pipeline.fold_in(item), latent[0]), rel=1e-3
    )


def test_what_cannot_be_explained_is_refused(pipeline: Pipeline) -> None:
    latents, users = np.asarray(pipeline.latents.z[:1]), users_of(pipeline, 2)
    items = pipeline.interactions.items[:2].tolist()
    with pytest.raises(DataError, match="give one"):
        pipeline.explain(latents)
    with pytest.raises(DataError, match="give one"):
        pipeline.explain(latents, user_ids=users[:1], liked=[items])
    with pytest.raises(DataError, match="a history for each of 1 latents"):
        pipeline.explain(latents, user_ids=users)
    with pytest.raises(DataError, match="1 latents have an empty history"):
        pipeline.explain(latents, liked=[[]])
    with pytest.raises(DataError, match="unknown"):
        pipeline.explain(latents, liked=[["nothing"]])


def test_a_strip_moves_one_factor_from_one_seed(pipeline: Pipeline) -> None:
    user = users_of(pipeline, 1)[0]
    strip = pipeline.factor_strip(user, factor=1, num=3, span=2.0, guidance=3.0, seed=4)
    assert len(set(strip.seeds.tolist())) == 1 and set(strip.user_ids.tolist()) == {user}
    known = pipeline.factors.user_factors[pipeline.factors.known_users]
    factor = pipeline.factors.user_factors[pipeline.factors.users.rows([user])].copy()
    factor[0, 1] = known[:, 1].mean() + 2 * known[:, 1].std()
    _, last = pipeline.generate_for(factor, seeds=strip.seeds[:1], guidance=3.0, decode=False)
    np.testing.assert_allclose(strip.latents[2], last[0], atol=1e-5)
    assert np.abs(strip.latents[0] - strip.latents[2]).max() > 1e-4
    count = pipeline.factors.num_factors
    with pytest.raises(DataError, match=f"a factor from 0 to {count - 1}"):
        pipeline.factor_strip(user, factor=count)


def test_beside_nobody_only_the_condition_differs(pipeline: Pipeline) -> None:
    users = users_of(pipeline, 2)
    made = pipeline.beside_null(users, guidance=3.0, seed=2)
    own = pipeline.generate(users, guidance=3.0, seed=2)
    nobody = pipeline.generate(users, guidance=0.0, seed=2)
    assert made.personal.tolist() == [True, False, True, False]
    np.testing.assert_allclose(made.latents[::2], own.latents, atol=1e-5)
    np.testing.assert_allclose(made.latents[1::2], nobody.latents, atol=1e-5)
    assert np.array_equal(made.seeds[::2], made.seeds[1::2])
