import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from ulrec import Pipeline
from ulrec.cf.als import ALSConfig
from ulrec.cf.registry import CFConfig
from ulrec.checkpoint import open_artefact
from ulrec.data.factors import Factors
from ulrec.data.latents import LatentStore
from ulrec.data.media import MediaStore
from ulrec.errors import ArtefactError, DataError


@pytest.fixture(scope="module")
def pipeline(tiny_run):
    return Pipeline.load(tiny_run.folder)


def test_generate_has_shapes_and_names(pipeline):
    users = pipeline.factors.users[:3].tolist()
    made = pipeline.generate(users, per_user=2, guidance=2.0, seed=0)
    assert made.media.shape == (6, 3, 1, 16, 16) and made.media.dtype == np.uint8
    assert made.latents.shape == (6, 4, 1, 4, 4)
    assert made.user_ids.tolist() == [u for u in users for _ in range(2)]
    assert len(set(made.seeds.tolist())) == 6 and made.can_fold_in is True


def test_generate_does_not_depend_on_the_company(pipeline):
    users = pipeline.factors.users[:4].tolist()
    together = pipeline.generate(users, guidance=2.0, seed=3)
    alone = pipeline.generate(users[2:3], guidance=2.0, seed=3)
    np.testing.assert_allclose(together.latents[2:3], alone.latents, atol=1e-5)
    other_seed = pipeline.generate(users[2:3], guidance=2.0, seed=4)
    assert np.abs(other_seed.latents - alone.latents).max() > 1e-3


def test_guidance_zero_ignores_the_user(pipeline):
    rows = np.array([0, 1])
    seeds = np.array([5, 5])
    factors = pipeline.factors.user_factors[rows]
    _, latents = pipeline.generate_for(factors, seeds=seeds, guidance=0.0, decode=False)
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-6)


def test_a_user_without_history_gets_nobody_in_particular(pipeline):
    counts = np.diff(pipeline.interactions.user_items.indptr)
    cold = np.flatnonzero(counts == 0)
    assert len(cold), "the simulation has cold users"
    made = pipeline.generate(pipeline.factors.users[cold[:1]].tolist(), seed=0)
    assert not made.personal.any()
    table = pipeline.recommend(pipeline.factors.users[cold[:1]].tolist(), k=5, by="generate")
    assert len(table) == 5


def test_unknown_and_repeated_users_are_refused(pipeline):
    with pytest.raises(DataError, match="nobody"):
        pipeline.generate(["nobody"])
    user = pipeline.factors.users[:1].tolist()
    with pytest.raises(DataError, match="unique"):
        pipeline.generate(user * 2)
    with pytest.raises(DataError, match="per_user"):
        pipeline.generate(user, per_user=0)


@pytest.mark.parametrize("by", ["cf", "generate"])
def test_recommend_leaves_out_seen_items_and_ranks_from_one(pipeline, by):
    users = pipeline.factors.users[:5].tolist()
    table = pipeline.recommend(users, k=7, by=by, seed=1)
    assert table.columns == ["user_id", "item_id", "score", "rank"]
    assert table["user_id"].unique(maintain_order=True).to_list() == users
    for user, part in table.group_by("user_id", maintain_order=True):
        row = pipeline.factors.users.rows([user[0]])[0]
        seen = set(pipeline.factors.items[pipeline.interactions.history(row)].tolist())
        assert part["rank"].to_list() == list(range(1, 8))
        assert part["score"].to_list() == sorted(part["score"].to_list(), reverse=True)
        assert not seen & set(part["item_id"].to_list())
    assert table.equals(pipeline.recommend(users, k=7, by=by, seed=1))


@pytest.mark.parametrize("by", ["cf", "generate"])
def test_k_beyond_the_catalogue_gives_what_is_left(pipeline, by):
    user = pipeline.factors.users[:1].tolist()
    table = pipeline.recommend(user, k=10_000, by=by)
    history = pipeline.interactions.history(0)
    assert len(table) == len(pipeline.index) - len(history)
    with pytest.raises(DataError, match="k"):
        pipeline.recommend(user, k=0, by=by)


def test_recommend_by_something_else_is_refused(pipeline):
    with pytest.raises(DataError, match="magic"):
        pipeline.recommend(pipeline.factors.users[:1].tolist(), by="magic")  # type: ignore[arg-type]


def test_encode_and_neighbours_find_the_item_itself(pipeline, tiny_run):
    media = MediaStore.open(tiny_run.path("media"))
    latents = pipeline.encode(np.asarray(media.media[:6]))
    np.testing.assert_allclose(latents, pipeline.latents.z[:6], atol=1e-5)
    four = pipeline.encode(np.asarray(media.media[:6, :, 0]))
    np.testing.assert_array_equal(four, latents)
    near = pipeline.neighbours(latents, k=1)
    assert near.filter(pl.col("rank") == 1)["item_id"].to_list() == media.items[:6].tolist()
    excluded = pipeline.neighbours(latents, k=1, exclude=[[i] for i in media.items[:6]])
    pairs = zip(excluded["item_id"].to_list(), near["item_id"].to_list(), strict=True)
    assert all(other != own for other, own in pairs)


def test_encode_refuses_other_media(pipeline):
    with pytest.raises(DataError, match="resize"):
        pipeline.encode(np.zeros((1, 3, 8, 8), np.uint8))
    with pytest.raises(DataError, match="scale"):
        pipeline.encode(np.full((1, 3, 16, 16), 255.0, np.float32))


def test_save_and_load_are_equal(pipeline, tmp_path):
    pipeline.save(tmp_path / "copy")
    again = Pipeline.load(tmp_path / "copy")
    users = pipeline.factors.users[:2].tolist()
    made, remade = (p.generate(users, seed=0) for p in (pipeline, again))
    np.testing.assert_array_equal(made.media, remade.media)
    with pytest.raises(ArtefactError, match="exists"):
        pipeline.save(tmp_path / "copy")


def test_a_damaged_component_is_refused(tiny_copy):
    weights = tiny_copy.path("base") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match="damaged"):
        Pipeline.load(tiny_copy.folder)


def test_latents_of_another_encoder_are_refused(tiny_copy):
    store = LatentStore.open(tiny_copy.path("latents"))
    LatentStore.write(
        tiny_copy.path("latents"),
        [np.asarray(store.z)],
        items=store.items,
        shape=store.z.shape[1:],
        made_from={"autoencoder": "another", "media": "x"},
    )
    with pytest.raises(ArtefactError, match="another autoencoder"):
        Pipeline.load(tiny_copy.folder)


def test_a_missing_component_is_named(tiny_copy):
    (tiny_copy.path("factors") / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match="factors"):
        Pipeline.load(tiny_copy.folder)
    assert json.loads((tiny_copy.path("base") / "manifest.json").read_text())["kind"] == "base"


def history_of(pipeline, rows):
    """The train interactions of some users as a table."""
    parts = [
        pl.DataFrame(
            {
                "user_id": pipeline.factors.users[[row] * len(pipeline.interactions.history(row))],
                "item_id": pipeline.factors.items[pipeline.interactions.history(row)],
            }
        )
        for row in rows
    ]
    return pl.concat(parts)


@pytest.fixture(scope="module")
def everything(pipeline):
    return history_of(pipeline, range(len(pipeline.factors.users)))


@pytest.fixture(scope="module")
def refolded(pipeline, everything):
    """A user who likes what user 0 does comes, and the first user leaves."""
    twin = history_of(pipeline, [0]).with_columns(pl.lit("newcomer").alias("user_id"))
    first = pipeline.factors.users[0].item()
    return pipeline.refit_cf(pl.concat([everything.filter(pl.col("user_id") != first), twin]))


def test_folding_in_the_same_interactions_changes_nothing(pipeline, everything):
    again = pipeline.refit_cf(everything)
    np.testing.assert_array_equal(again.factors.user_factors, pipeline.factors.user_factors)
    users = pipeline.factors.users[:2].tolist()
    made, remade = (p.generate(users, seed=0, decode=False) for p in (pipeline, again))
    np.testing.assert_array_equal(made.latents, remade.latents)


def test_folding_in_takes_newcomers_and_leaves_the_pipeline(pipeline, refolded):
    factors = refolded.factors
    assert factors.users.ids.tolist() == [*pipeline.factors.users.ids.tolist(), "newcomer"]
    np.testing.assert_array_equal(factors.item_factors, pipeline.factors.item_factors)
    np.testing.assert_allclose(
        factors.user_factors[-1], pipeline.factors.user_factors[0], atol=1e-6
    )
    first = pipeline.factors.users[0].item()
    made = refolded.generate(["newcomer", first], seed=0, decode=False)
    assert made.personal.tolist() == [True, False]
    for by in ("cf", "generate"):
        table = refolded.recommend(["newcomer"], k=4, by=by)
        seen = pipeline.factors.items[pipeline.interactions.history(0)].tolist()
        assert len(table) == 4 and not set(table["item_id"]) & set(seen)
    with pytest.raises(DataError, match="newcomer"):
        pipeline.generate(["newcomer"])


def test_what_was_refolded_is_saved_and_loaded(pipeline, refolded, tmp_path):
    refolded.save(tmp_path / "copy")
    again = Pipeline.load(tmp_path / "copy")
    made, remade = (p.generate(["newcomer"], seed=0) for p in (refolded, again))
    np.testing.assert_array_equal(made.media, remade.media)
    table, other = (p.recommend(["newcomer"], k=5) for p in (refolded, again))
    assert table.equals(other)
    made_from = open_artefact(tmp_path / "copy" / "factors", kind="factors").made_from
    assert made_from["folded_into"] == pipeline.factors.fingerprint
    # and what was loaded can be refitted and saved in its turn
    once_more = again.refit_cf(history_of(again, [3, 4]))
    once_more.save(tmp_path / "second")
    third = Pipeline.load(tmp_path / "second")
    np.testing.assert_array_equal(third.factors.user_factors, once_more.factors.user_factors)
    assert third.factors.known_users.sum() == 2


def test_aligning_finds_the_old_factors_again(pipeline, everything, tmp_path):
    again = pipeline.refit_cf(everything, how="align", max_drift=1e-3)
    drift = again.factors.info["drift"]
    assert max(drift["users"], drift["items"]) < 1e-4
    np.testing.assert_allclose(again.factors.user_factors, pipeline.factors.user_factors, atol=1e-4)
    again.save(tmp_path / "copy")
    loaded = Pipeline.load(tmp_path / "copy")
    assert loaded.factors.info["drift"] == drift
    made_from = open_artefact(tmp_path / "copy" / "factors", kind="factors").made_from
    assert made_from["aligned_to"] == pipeline.factors.fingerprint


def test_drift_of_an_alignment_is_refused_and_reported(pipeline, everything):
    other = CFConfig(als=ALSConfig(num_factors=8, seed=5))
    less = everything.filter(pl.Series(np.random.default_rng(0).random(len(everything)) < 0.8))
    with pytest.raises(DataError, match=r"items drift by .* and users by .*, at most 0.01"):
        pipeline.refit_cf(less, how="align", max_drift=0.01, cf=other)
    drift = pipeline.refit_cf(less, how="align", max_drift=9.0, cf=other).factors.info["drift"]
    assert 0.01 < drift["items"] < 1.5 and drift["num_users"] > 10
    wide = CFConfig(als=ALSConfig(num_factors=5))
    with pytest.raises(DataError, match="the new factors have 5 dimensions, the old 8"):
        pipeline.refit_cf(less, how="align", cf=wide)


def test_interactions_with_other_items_are_refused(pipeline, everything):
    strange = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["unheard", "of"]})
    message = "2 items are not in the catalogue of 150, such as 'unheard', 'of'; drop"
    with pytest.raises(DataError, match=message):
        pipeline.refit_cf(pl.concat([everything, strange]))
    with pytest.raises(DataError, match="how has to be one of fold_in, align"):
        pipeline.refit_cf(everything, how="magic")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="more than once"):
        pipeline.refit_cf(pl.concat([everything, everything]))


def test_factors_of_another_fit_are_refused(tiny_copy):
    folder = tiny_copy.path("factors")
    factors = Factors.load(folder)
    numbers = Factors(
        user_factors=np.roll(factors.user_factors, 1, axis=1),
        item_factors=factors.item_factors,
        users=factors.users,
        items=factors.items,
        can_fold_in=True,
        info=factors.info,
    )
    numbers.save(folder, made_from={"interactions": "x"})
    with pytest.raises(ArtefactError, match=r"trained on \(the same model.*other numb"):
        Pipeline.load(tiny_copy.folder)
    narrow = dataclasses.replace(
        numbers,
        user_factors=factors.user_factors[:, :5].copy(),
        item_factors=factors.item_factors[:, :5].copy(),
    )
    narrow.save(folder, made_from={"interactions": "x"})
    with pytest.raises(ArtefactError, match=r"num_factors 5, expected 8; .*user_norm .*condition"):
        Pipeline.load(tiny_copy.folder)
    factors.save(folder, made_from={"interactions": "x", "aligned_to": "another"})
    with pytest.raises(ArtefactError, match="got another; bring those back"):
        Pipeline.load(tiny_copy.folder)
    factors.save(folder, made_from={"aligned_to": str(factors.fingerprint)})
    assert Pipeline.load(tiny_copy.folder).factors.users == factors.users
