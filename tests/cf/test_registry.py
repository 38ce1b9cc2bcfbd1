"""The contract, over every model of the registry."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from ulrec.cf.base import EmbeddingModel, FactorModel, Recommender, recommend
from ulrec.cf.item_item import WEIGHTINGS, ItemItemConfig
from ulrec.cf.registry import BASELINES, MODELS, CFConfig, build, load_model, save_model
from ulrec.config import from_mapping
from ulrec.data.ids import IdMap
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ITEM_ID, RANK, SCORE, USER_ID
from ulrec.errors import ArtefactError, ConfigError, DataError, NotFittedError

LEARNERS = ["als", "bpr", "lmf", "ease", "item_item"]
EMBEDDERS = ["als", "bpr", "lmf", "ease", "foreign"]
FOLDERS = ["als", "lmf", "ease"]
every_model = pytest.mark.parametrize("name", MODELS)
every_learner = pytest.mark.parametrize("name", LEARNERS)
every_embedder = pytest.mark.parametrize("name", EMBEDDERS)
every_folder = pytest.mark.parametrize("name", FOLDERS)


def make(name: str, config: CFConfig) -> Recommender:
    return build(dataclasses.replace(config, model=name))


def scores(model: Recommender, data: Interactions, rows: list[int]) -> np.ndarray:
    return model.score(data.user_items[rows], user_ids=data.users[rows])


@every_model
def test_every_model_has_a_section_of_its_name(name):
    assert from_mapping(CFConfig, {"model": name, name: {}}).model == name


def test_unknown_model_is_refused():
    with pytest.raises(ConfigError, match=f"one of {', '.join(MODELS)}, got 'svd'"):
        CFConfig(model="svd")


@every_model
def test_fit_returns_the_model(name, tiny_config, checkerboard):
    model = make(name, tiny_config)
    assert model.fit(checkerboard) is model


@every_model
def test_early_use_is_refused(name, tiny_config, checkerboard, tmp_path):
    model = make(name, tiny_config)
    with pytest.raises(NotFittedError, match="fit"):
        scores(model, checkerboard, [0])
    with pytest.raises(NotFittedError):
        model.state()
    with pytest.raises(NotFittedError):
        recommend(model, checkerboard, ["u00"], k=1, seed=0)
    with pytest.raises(NotFittedError):
        save_model(model, tmp_path / "cf")


@every_learner
def test_learners_find_the_withheld_item(name, checkerboard, withheld):
    """With their defaults: 48 factors for 20 items, which little regularisation would not bear."""
    model = make(name, CFConfig()).fit(checkerboard)
    table = recommend(model, checkerboard, list(withheld), k=1, seed=0)
    assert dict(zip(table[USER_ID], table[ITEM_ID], strict=True)) == withheld


@every_model
def test_table_and_seen_items(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    table = recommend(model, checkerboard, ["u03", "u00"], k=5, seed=0)
    assert table.schema == {
        USER_ID: pl.String, ITEM_ID: pl.String, SCORE: pl.Float64, RANK: pl.Int64
    }  # fmt: skip
    assert table[USER_ID].to_list() == ["u03"] * 5 + ["u00"] * 5
    assert table[RANK].to_list() == [1, 2, 3, 4, 5] * 2
    for user in ("u03", "u00"):
        of_user = table.filter(pl.col(USER_ID) == user)
        assert of_user[SCORE].is_sorted(descending=True)
        row = checkerboard.users.rows([user])[0]
        seen = set(checkerboard.items[checkerboard.history(row)].tolist())
        assert not seen & set(of_user[ITEM_ID])


@every_model
def test_seen_items_come_where_asked_for(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    table = recommend(model, checkerboard, ["u00"], k=20, exclude_seen=False, seed=0)
    assert sorted(table[ITEM_ID]) == checkerboard.items.ids.tolist()


@every_model
def test_k_beyond_what_is_left_gives_what_is_left(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    table = recommend(model, checkerboard, ["u00", "cold"], k=1000, seed=0)
    assert table[USER_ID].to_list() == ["u00"] * 11 + ["cold"] * 20
    assert table[ITEM_ID].n_unique() == 20


@every_model
def test_recommendations_do_not_depend_on_the_batch(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    users = checkerboard.users.ids.tolist()
    together = recommend(model, checkerboard, users, k=4, seed=0)
    alone = pl.concat([recommend(model, checkerboard, [u], k=4, seed=0) for u in users])
    assert together.drop(SCORE).equals(alone.drop(SCORE))
    np.testing.assert_allclose(together[SCORE], alone[SCORE], atol=1e-6)


@every_model
def test_fitting_twice_gives_the_same_bits(name, tiny_config, weighted):
    first = scores(make(name, tiny_config).fit(weighted), weighted, [*range(30)])
    second = scores(make(name, tiny_config).fit(weighted), weighted, [*range(30)])
    assert first.dtype == np.float32
    assert first.shape == (30, 25)
    np.testing.assert_array_equal(first, second)


@every_model
def test_unknown_and_repeated_users_are_named(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    with pytest.raises(DataError, match="nobody"):
        recommend(model, checkerboard, ["u00", "nobody"], k=1, seed=0)
    with pytest.raises(DataError, match="u00"):
        recommend(model, checkerboard, ["u00", "u00"], k=1, seed=0)


@every_model
def test_k_below_one_is_refused(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    with pytest.raises(DataError, match="at least 1, got 0"):
        recommend(model, checkerboard, ["u00"], k=0, seed=0)


@every_model
def test_no_users_give_an_empty_table(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    table = recommend(model, checkerboard, [], k=3, seed=0)
    assert table.columns == [USER_ID, ITEM_ID, SCORE, RANK]
    assert table.is_empty()
    assert table.schema[USER_ID] == pl.String


@every_model
def test_other_items_are_refused(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    items = IdMap(checkerboard.items.ids[::-1])
    other = Interactions(user_items=checkerboard.user_items, users=checkerboard.users, items=items)
    with pytest.raises(DataError, match="20 items in their order"):
        recommend(model, other, ["u00"], k=1, seed=0)
    with pytest.raises(DataError, match="3 columns, the model knows 20"):
        model.score(sparse.csr_matrix((1, 3), dtype=np.float32), user_ids=np.array(["u00"]))


@every_model
@pytest.mark.parametrize("weight", [np.nan, np.inf, 0.0, -1.0])
def test_bad_weights_are_refused(name, weight, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    history = sparse.csr_matrix((np.array([weight], np.float32), ([0], [0])), shape=(1, 20))
    with pytest.raises(DataError, match="positive and finite"):
        model.score(history, user_ids=np.array(["u00"]))


@every_learner
def test_learners_refuse_no_interactions(name, tiny_config, checkerboard):
    nothing = Interactions(
        user_items=sparse.csr_matrix(checkerboard.user_items.shape, dtype=np.float32),
        users=checkerboard.users,
        items=checkerboard.items,
    )
    with pytest.raises(DataError, match="got none"):
        make(name, tiny_config).fit(nothing)


@pytest.mark.parametrize("name", [*FOLDERS, "item_item", "foreign"])
def test_cold_user_gets_the_popular_items_of_the_interactions(name, tiny_config, checkerboard):
    model = make(name, tiny_config).fit(checkerboard)
    assert not scores(model, checkerboard, [24]).any()
    table = recommend(model, checkerboard, ["cold"], k=20, seed=0)
    popularity = checkerboard.popularity()
    expected = popularity[checkerboard.items.rows(table[ITEM_ID].to_list())]
    assert table[SCORE].to_list() == expected.tolist()
    assert table[SCORE].to_list() == sorted(popularity.tolist(), reverse=True)


@every_model
def test_save_load_gives_the_same_bits(name, tiny_config, weighted, tmp_path):
    model = make(name, tiny_config).fit(weighted)
    fingerprint = save_model(model, tmp_path / "cf", made_from={"interactions": "abc"})
    loaded = load_model(tmp_path / "cf")
    assert len(fingerprint) == 16
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert loaded.users_ == weighted.users
    rows = [*range(30)]
    np.testing.assert_array_equal(scores(loaded, weighted, rows), scores(model, weighted, rows))


@every_model
def test_a_flipped_byte_is_found(name, tiny_config, weighted, tmp_path):
    save_model(make(name, tiny_config).fit(weighted), tmp_path / "cf")
    path = tmp_path / "cf" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="damaged"):
        load_model(tmp_path / "cf")


@every_model
def test_who_has_factors_and_who_folds_in(name, tiny_config, weighted):
    model = make(name, tiny_config).fit(weighted)
    assert isinstance(model, EmbeddingModel) == (name in EMBEDDERS)
    assert isinstance(model, FactorModel) == (name in FOLDERS)
    if isinstance(model, EmbeddingModel):
        assert model.factors().can_fold_in == (name in FOLDERS)


@every_embedder
def test_factors_stand_on_the_rows_of_the_interactions(name, tiny_config, weighted):
    factors = make(name, tiny_config).fit(weighted).factors()
    assert (factors.users, factors.items) == (weighted.users, weighted.items)
    assert factors.info["model"] == name
    assert factors.num_factors == 4
    assert factors.known_users.tolist() == [True] * 29 + [False]
    assert factors.known_items.all()


@every_embedder
def test_a_rotation_keeps_scores_and_products(name, tiny_config, weighted):
    model = make(name, tiny_config).fit(weighted)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))[0]
    turned = model.rotated(rotation)
    rows = [*range(30)]
    np.testing.assert_allclose(
        scores(turned, weighted, rows), scores(model, weighted, rows), atol=1e-4
    )
    before, after = model.factors(), turned.factors()
    np.testing.assert_allclose(after.user_factors, before.user_factors @ rotation, atol=1e-5)
    np.testing.assert_allclose(after.item_factors, before.item_factors @ rotation, atol=1e-5)
    if isinstance(turned, FactorModel):
        folded = turned.fold_in(weighted.user_items)
        np.testing.assert_allclose(folded, after.user_factors, atol=1e-5)


@every_folder
def test_fold_in_of_the_training_histories_gives_the_fitted_factors(name, tiny_config, weighted):
    model = make(name, tiny_config).fit(weighted)
    fitted = model.factors().user_factors
    np.testing.assert_array_equal(model.fold_in(weighted.user_items), fitted)
    np.testing.assert_allclose(model.fold_in(weighted.user_items[[7]])[0], fitted[7], atol=1e-6)
    np.testing.assert_array_equal(model.refolded(weighted).factors().user_factors, fitted)


@every_folder
def test_leave_one_out_is_the_shorter_history_folded_in(name, tiny_config, weighted):
    model = make(name, tiny_config).fit(weighted)
    got = model.leave_one_out(weighted)
    assert got.shape == (weighted.user_items.nnz, 4)
    for row, (user, item) in enumerate(zip(*weighted.pairs(), strict=True)):
        rest = weighted.user_items[user].tolil()
        rest[0, item] = 0.0
        np.testing.assert_allclose(got[row], model.fold_in(rest.tocsr())[0], atol=1e-5)


@every_folder
def test_refolding_takes_new_users_and_leaves_the_model(name, tiny_config, weighted):
    model = make(name, tiny_config).fit(weighted)
    fitted = model.factors()
    later = Interactions(
        user_items=weighted.user_items[[3, 0]], users=IdMap([103, 100]), items=weighted.items
    )
    again = model.refolded(later).factors()
    assert again.users.ids.tolist() == [103, 100]
    np.testing.assert_allclose(again.user_factors, fitted.user_factors[[3, 0]], atol=1e-6)
    np.testing.assert_array_equal(again.item_factors, fitted.item_factors)
    assert model.factors().users == weighted.users
    other = Interactions.from_table(pl.DataFrame({USER_ID: [1], ITEM_ID: [1]}))
    with pytest.raises(DataError, match="25 items"):
        model.refolded(other)


@pytest.mark.parametrize("name", ["bpr", "foreign"])
def test_who_cannot_fold_in_scores_by_id(name, tiny_config, weighted):
    model = make(name, tiny_config).fit(weighted)
    nobody = sparse.csr_matrix((2, 25), dtype=np.float32)
    by_id = model.score(nobody, user_ids=np.array([3, 4]))
    np.testing.assert_allclose(by_id, scores(model, weighted, [3, 4]))
    stranger = model.score(nobody, user_ids=np.array([3, 1000]))[1]
    cold = model.score(nobody, user_ids=np.array([3, 29]))[1]
    np.testing.assert_array_equal(stranger, cold)
    with pytest.raises(DataError, match="expected 2 user_ids, got none"):
        model.score(nobody)


def test_baselines_need_no_files():
    assert set(BASELINES) < set(MODELS)
    assert "foreign" not in BASELINES


def test_popularity_counts_users(tiny_config, checkerboard):
    model = make("popularity", tiny_config).fit(checkerboard)
    # Of the 12 users of a group, those with u % 10 equal to half the item's number miss it.
    i00, i02 = checkerboard.items.rows(["i00", "i02"])
    both = scores(model, checkerboard, [0, 24])
    np.testing.assert_array_equal(both[0], both[1])
    assert both[0].tolist() == checkerboard.popularity().tolist()
    assert both[0, i00] == 12 - sum(u % 10 == 0 for u in range(0, 24, 2))
    assert both[0, i02] == 12 - sum(u % 10 == 1 for u in range(0, 24, 2))


def test_random_scores_belong_to_the_user_id(tiny_config, checkerboard):
    model = make("random", tiny_config).fit(checkerboard)
    empty = sparse.csr_matrix((2, 20), dtype=np.float32)
    forth = model.score(empty, user_ids=np.array(["a", "b"]))
    back = model.score(empty, user_ids=np.array(["b", "a"]))
    np.testing.assert_array_equal(forth, back[::-1])
    assert (forth[0] != forth[1]).any()
    with pytest.raises(DataError, match="expected 2 user_ids, got none"):
        model.score(empty)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_item_item_agrees_with_implicit(weighting, weighted):
    from implicit.nearest_neighbours import CosineRecommender, TFIDFRecommender

    peer = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender}[weighting](K=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # implicit warns of a conversion of its own making
        peer.fit(weighted.user_items.astype(np.float64), show_progress=False)
    config = ItemItemConfig(num_neighbours=6, weighting=weighting)
    model = build(CFConfig(model="item_item", item_item=config)).fit(weighted)
    own = scores(model, weighted, [*range(29)])
    for user in range(29):
        history = weighted.user_items[user].astype(np.float64)
        items, expected = peer.recommend(user, history, N=25, filter_already_liked_items=False)
        np.testing.assert_allclose(own[user, items], expected, rtol=1e-5)


def test_item_item_survives_users_that_say_nothing():
    # ln(4 / (1 + 3)) = 0: by TF-IDF the only user of these items has no weight at all.
    table = pl.DataFrame({USER_ID: [0, 0, 0], ITEM_ID: [0, 1, 2]})
    data = Interactions.from_table(table, items=IdMap(range(4)))
    config = ItemItemConfig(weighting="tfidf")
    model = build(CFConfig(model="item_item", item_item=config)).fit(data)
    assert scores(model, data, [0]).tolist() == [[0.0] * 4]


def test_ties_follow_the_seed_and_not_the_row(tiny_config, checkerboard):
    even = Interactions(
        user_items=sparse.csr_matrix(np.ones((2, 20), np.float32)),
        users=IdMap([0, 1]),
        items=checkerboard.items,
    )
    model = make("popularity", tiny_config).fit(even)

    def order(seed: int) -> list[str]:
        table = recommend(model, even, [0], k=20, exclude_seen=False, seed=seed)
        return table[ITEM_ID].to_list()

    assert order(0) == order(0) != order(1)
    assert order(0) != sorted(order(0))
    table = recommend(model, even, [0, 1], k=7, exclude_seen=False, seed=0)
    assert table[ITEM_ID].to_list() == order(0)[:7] * 2


def test_a_user_with_everything_seen_gets_no_row(tiny_config, checkerboard):
    full = np.zeros((2, 20), np.float32)
    full[0] = 1.0
    data = Interactions(
        user_items=sparse.csr_matrix(full), users=IdMap([0, 1]), items=checkerboard.items
    )
    model = make("popularity", tiny_config).fit(data)
    table = recommend(model, data, [0, 1], k=2, seed=0)
    assert table[USER_ID].to_list() == [1, 1]


def test_scores_that_are_not_finite_are_refused(tiny_config, weighted):
    model = make("als", tiny_config).fit(weighted)
    model.item_factors_[3] = np.nan
    with pytest.raises(DataError, match="ALS gave scores that are NaN"):
        recommend(model, weighted, [0], k=1, seed=0)


def test_the_room_loads_neither_torch_nor_implicit():
    code = (
        "import sys, ulrec.cf.registry, ulrec.cf.base;"
        "raise SystemExit(', '.join({'torch', 'implicit', 'faiss'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
