"""Tastes on a run with users alone, and on one that has learnt all sources."""

import numpy as np
import polars as pl
import pytest

from ulrec import Pipeline
from ulrec.checkpoint import new_artefact
from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.experiment.runner import Run, run_stages
from ulrec.experiment.stages import STAGES
from ulrec.pipeline import Taste, load_items

SOURCE = "{num_tokens: 2, width: 16, hidden: 8}"


@pytest.fixture(scope="module")
def pipeline(tiny_run: Run) -> Pipeline:
    return Pipeline.load(tiny_run.folder)


@pytest.fixture(scope="module")
def everything(tiny_run: Run, make_config, tmp_path_factory) -> Pipeline:
    """The tiny run with a base that listens to users, examples, categories and texts."""
    place = tmp_path_factory.mktemp("sources")
    settings = [f"base.sources.{name}={SOURCE}" for name in ("examples", "category", "text")]
    settings += ["base.conditional.num_steps=3", f"base.conditioner={SOURCE}"]
    run = Run(config=make_config(place, *settings))
    run.folder.mkdir()
    for path in tiny_run.folder.iterdir():
        if path.is_dir() and path.name not in ("base", "conditioner", "items", "stages"):
            run.path(path.name).symlink_to(path)
    table = load_items(tiny_run.path("items"))
    category = pl.Series("category", np.resize(["Faces", "Hands", None], len(table)).tolist())
    with new_artefact(run.path("items"), kind="items") as folder:
        table.with_columns(category).write_parquet(folder / "items.parquet")
    items = Pipeline.load(tiny_run.folder).latents.items
    texts = np.random.default_rng(0).standard_normal((len(items), 7)).astype(np.float32)
    with new_artefact(run.path("text_features"), kind="text_features") as folder:
        np.save(folder / "features.npy", texts[3:])
        IdMap(items.ids[3:]).save(folder / "items.parquet")
    run_stages(run, [STAGES["condition"]], report=lambda result: None)
    return Pipeline.load(run.folder)


def users_of(pipeline: Pipeline, num: int) -> list:
    return pipeline.factors.users[np.flatnonzero(pipeline.factors.known_users)[:num]].tolist()


def latents(pipeline: Pipeline, *tastes: Taste, guidance=3.0, seed=5):
    seeds = np.full(len(tastes), seed)
    return pipeline.generate_taste(tastes, guidance=guidance, seeds=seeds, decode=False).latents


def test_one_user_is_what_generate_draws(pipeline: Pipeline) -> None:
    users = users_of(pipeline, 3)
    by_user = pipeline.generate(users, per_user=2, guidance=3.0, seed=1)
    tastes = [Taste(users=[user]) for user in users]
    by_taste = pipeline.generate_taste(tastes, per_taste=2, guidance=3.0, seed=1)
    assert np.array_equal(by_user.media, by_taste.media)
    assert np.array_equal(by_user.seeds, by_taste.seeds)
    assert by_taste.user_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert by_taste.personal.all()


def test_a_group_is_the_mean_of_its_factors(pipeline: Pipeline) -> None:
    users = users_of(pipeline, 2)
    factors = pipeline.factors.user_factors[pipeline.factors.users.rows(users)]
    mean = 0.25 * factors[:1] + 0.75 * factors[1:]
    _, expected = pipeline.generate_for(mean, seeds=np.array([5]), guidance=3.0, decode=False)
    found = latents(pipeline, Taste(users=users, weights=[1, 3]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_strip_runs_from_one_user_to_the_other(pipeline: Pipeline) -> None:
    first, second = users_of(pipeline, 2)
    strip = latents(pipeline, *Taste.between(first, second, num=3))
    ends = latents(pipeline, Taste(users=[first]), Taste(users=[second]))
    np.testing.assert_allclose(strip[[0, 2]], ends, atol=1e-5)
    assert all(np.abs(strip[1] - end).max() > 1e-4 for end in ends)
    with pytest.raises(DataError, match="at least 2"):
        Taste.between(first, second, num=1)


def test_liked_items_are_folded_in_and_disliked_ones_push(pipeline: Pipeline) -> None:
    likes = pipeline.interactions
    items = likes.items[np.argsort(-likes.popularity(), kind="stable")[:4]].tolist()
    draw = {"seeds": np.array([5]), "guidance": 3.0, "decode": False}
    liked, disliked = (pipeline.fold_in(part)[None] for part in (items[:2], items[2:]))
    _, expected = pipeline.generate_for(liked, **draw)
    np.testing.assert_array_equal(latents(pipeline, Taste(liked=items[:2])), expected)
    _, expected = pipeline.generate_for(liked, away=disliked, **draw)
    both = Taste(liked=items[:2], disliked=items[2:])
    np.testing.assert_array_equal(latents(pipeline, both), expected)
    given = latents(pipeline, both, guidance={"liked": 3.0, "disliked": 1.5})
    np.testing.assert_array_equal(given, expected)
    only_away = latents(pipeline, Taste(disliked=items[2:]))
    assert np.abs(only_away - latents(pipeline, Taste(disliked=items[2:]), guidance=0.0)).max() > 0


def test_one_pull_is_shared_among_what_pulls(pipeline: Pipeline) -> None:
    user, items = users_of(pipeline, 1), pipeline.interactions.items[:2].tolist()
    taste = Taste(users=user, liked=items)
    shared = latents(pipeline, taste, guidance=3.0)
    by_name = latents(pipeline, taste, guidance={"users": 1.5, "liked": 1.5})
    np.testing.assert_array_equal(shared, by_name)


def test_tastes_do_not_depend_on_one_another(pipeline: Pipeline) -> None:
    users, items = users_of(pipeline, 2), pipeline.interactions.items[:4].tolist()
    tastes = [
        Taste(users=users),
        Taste(liked=items[:2], disliked=items[2:]),
        Taste(users=users[:1]),
    ]
    together = pipeline.generate_taste(tastes, guidance=3.0, decode=False)
    for place, taste in enumerate(tastes):
        alone = pipeline.generate_taste([taste], guidance=3.0, decode=False)
        assert alone.seeds[0] == together.seeds[place]
        np.testing.assert_allclose(alone.latents[0], together.latents[place], atol=1e-5)


def test_nobody_known_is_nobody_in_particular(pipeline: Pipeline) -> None:
    known = pipeline.factors.known_users
    if known.all():
        pytest.skip("everybody has a history")
    unknown = pipeline.factors.users[np.flatnonzero(~known)[:1]].tolist()
    taste = Taste(users=[*unknown, *users_of(pipeline, 1)])
    with_known = latents(pipeline, taste, Taste(users=users_of(pipeline, 1)))
    np.testing.assert_allclose(with_known[0], with_known[1], atol=1e-5)
    assert not pipeline.generate_taste([Taste(users=unknown)], decode=False).personal[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "has to say something"),
        ({"users": ["nobody"]}, "unknown, such as 'nobody'"),
        ({"liked": ["nothing"]}, "unknown, such as 'nothing'"),
        ({"users": ["a"], "weights": [1, 2]}, "a number of at least 0 for each of 1 users"),
        ({"users": ["a"], "weights": [float("nan")]}, "a number of at least 0"),
        ({"users": ["a"], "weights": [0]}, "a weight above 0"),
        ({"liked": ["x"], "disliked": ["x"]}, "'x' is liked and disliked"),
        ({"category": "Flags"}, "no source of conditions 'category', only user; set base.sources"),
        ({"text": "a cat"}, "no source of conditions 'text', only user; set base.sources.text"),
    ],
)
def test_what_cannot_be_drawn_is_refused(pipeline: Pipeline, fields: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        latents(pipeline, Taste(**fields))


def test_bad_settings_are_refused(pipeline: Pipeline) -> None:
    taste = Taste(users=users_of(pipeline, 1))
    with pytest.raises(DataError, match="a scale for each of users"):
        latents(pipeline, taste, guidance={"liked": 1.0})
    with pytest.raises(DataError, match="finite"):
        latents(pipeline, taste, guidance=float("nan"))
    with pytest.raises(DataError, match="at least 1 sample"):
        pipeline.generate_taste([taste], per_taste=0)
    with pytest.raises(DataError, match="at least 1 sample"):
        pipeline.generate_taste([])
    with pytest.raises(DataError, match=r"one a sample, \(1,\), got \(2,\)"):
        pipeline.generate_taste([taste], seeds=np.array([1, 2]))
    factors = np.full((1, pipeline.factors.num_factors), np.nan, np.float32)
    with pytest.raises(DataError, match="1 vectors of the source 'user' hold NaN"):
        pipeline.generate_for(factors, seeds=np.array([1]), guidance=1.0)


def test_a_base_that_listens_to_everything(everything: Pipeline) -> None:
    assert everything.conditioner.names == ("user", "examples", "category", "text")
    names = everything.conditioner.config.categories
    assert names == ("Faces", "Hands")
    items = everything.latents.items.ids[3:7].tolist()
    tastes = [
        Taste(users=users_of(everything, 1)),
        Taste(liked=items[:2]),
        Taste(category=names[0]),
        Taste(text=np.ones(7, np.float32)),
        Taste(
            users=users_of(everything, 1),
            liked=items[:2],
            category=names[1],
            not_text=np.arange(7, dtype=np.float32),
        ),
    ]
    drawn = latents(everything, *tastes)
    assert np.isfinite(drawn).all()
    nobody = latents(everything, tastes[0], guidance=0.0)[0]
    assert all(np.abs(latent - nobody).max() > 1e-3 for latent in drawn)


def test_unknown_categories_and_wrong_embeddings_are_named(everything: Pipeline) -> None:
    names = ", ".join(everything.conditioner.config.categories)
    with pytest.raises(DataError, match=f"no category 'Dragons'; there are {names}"):
        latents(everything, Taste(category="Dragons"))
    with pytest.raises(DataError, match=r"has to be \(7,\), got \(3,\)"):
        latents(everything, Taste(text=np.ones(3, np.float32)))


def test_users_steer_a_base_with_more_sources_as_before(everything: Pipeline) -> None:
    users = users_of(everything, 2)
    made = everything.generate(users, guidance=3.0, seed=0, decode=False)
    assert np.abs(made.latents[0] - made.latents[1]).max() > 1e-4


def test_words_are_heard_by_a_base_that_was_trained_to(everything: Pipeline, monkeypatch) -> None:
    said = np.random.default_rng(1).standard_normal((1, 7)).astype(np.float32)
    monkeypatch.setattr(everything, "encode_text", lambda texts: said)
    (user,) = users_of(everything, 1)
    factors = everything.factors.user_factors[everything.factors.users.rows([user])]
    _, found = everything.generate_for(
        factors, seeds=np.array([5]), guidance=3.0, text="a blue face", decode=False
    )
    scales = {"users": 3.0, "text": 4.0}
    taste = Taste(users=[user], text="a blue face")
    np.testing.assert_array_equal(found, latents(everything, taste, guidance=scales))
