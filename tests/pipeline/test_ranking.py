"""Rankings by likelihood and by a hybrid, on the tiny run."""

from __future__ import annotations

import numpy as np
import pytest

from ulrec import Pipeline
from ulrec.config import load_config
from ulrec.errors import ArtefactError, ConfigError, DataError
from ulrec.experiment.fit_hybrid import best_weights, ndcg_at
from ulrec.experiment.generate import evaluated_users, validation_users
from ulrec.experiment.runner import run_stages
from ulrec.experiment.stages import EXTRA_STAGES, STAGES
from ulrec.models.likelihood import LogRatioConfig
from ulrec.pipeline.hybrid import PARTS, Hybrid
from ulrec.pipeline.ranking import LikelihoodConfig, log_ratios, standardised

K = 7


@pytest.fixture(scope="module")
def pipeline(tiny_run):
    return Pipeline.load(tiny_run.folder)


@pytest.fixture
def by_base(pipeline):
    """The pipeline judging by the base's law, a few levels."""
    estimate = LogRatioConfig(num_levels=(1, 2), keep=(8, 4))
    pipeline.likelihood = LikelihoodConfig(law="base", estimate=estimate)
    yield pipeline
    pipeline.likelihood = LikelihoodConfig()


def users_of(pipeline, num=3):
    return pipeline.factors.users[np.flatnonzero(pipeline.factors.known_users)[:num]].tolist()


def unseen_of(pipeline, user):
    seen = pipeline.interactions.history(int(pipeline.factors.users.rows([user])[0]))
    return np.setdiff1d(np.arange(pipeline.interactions.num_items), seen)


def check(pipeline, table, users, k):
    assert table.columns == ["user_id", "item_id", "score", "rank"]
    assert table["user_id"].unique(maintain_order=True).to_list() == users
    for (user,), part in table.group_by("user_id", maintain_order=True):
        assert part["rank"].to_list() == list(range(1, k + 1))
        assert part["score"].to_list() == sorted(part["score"].to_list(), reverse=True)
        allowed = pipeline.interactions.items[unseen_of(pipeline, user)].tolist()
        assert set(part["item_id"]) <= set(allowed)


def test_likelihood_ranks_by_the_ratio_and_popularity(pipeline):
    users = users_of(pipeline)
    table = pipeline.recommend(users, k=K, by="likelihood", popularity=0.5)
    check(pipeline, table, users, K)
    rows = pipeline.factors.users.rows(users)
    ratio = log_ratios(pipeline, rows, np.arange(pipeline.interactions.num_items))
    score = ratio + 0.5 * np.log1p(pipeline.interactions.popularity())
    for user, row in zip(users, score, strict=True):
        unseen = unseen_of(pipeline, user)
        best = pipeline.interactions.items[unseen[np.argsort(-row[unseen])[:K]]].tolist()
        assert table.filter(user_id=user)["item_id"].to_list() == best


def test_the_bases_law_races(by_base):
    users = users_of(by_base, 2)
    table = by_base.recommend(users, k=K, by="likelihood", popularity=0.0)
    check(by_base, table, users, K)
    rows = by_base.factors.users.rows(users)
    for i, user in enumerate(users):
        part = table.filter(user_id=user)
        items = by_base.interactions.items.rows(part["item_id"].to_list())
        full = log_ratios(by_base, rows[i : i + 1], items)[0]
        # all that are listed reached the last round: theirs are scores of the full computation
        np.testing.assert_allclose(part["score"].to_numpy(), full, rtol=1e-3, atol=1e-4)
    seen = by_base.interactions.items[by_base.interactions.history(int(rows[0]))].tolist()
    none = by_base.recommend(users[:1], by="likelihood", popularity=0.0, candidates=seen)
    assert none.is_empty()
    everyone = by_base.recommend(users[:1], k=10_000, by="likelihood", popularity=0.0)
    check(by_base, everyone, users[:1], len(unseen_of(by_base, users[0])))


def test_a_ranking_does_not_depend_on_the_company(pipeline):
    users = users_of(pipeline)
    together = pipeline.recommend(users, k=K, by="likelihood", popularity=0.0)
    alone = pipeline.recommend(users[1:2], k=K, by="likelihood", popularity=0.0)
    assert together.filter(user_id=users[1])["item_id"].equals(alone["item_id"])


@pytest.mark.parametrize("by", ["cf", "generate", "likelihood"])
def test_candidates_alone_come_back(pipeline, by):
    users = users_of(pipeline, 2)
    cold = np.flatnonzero(pipeline.interactions.popularity() == 0)
    assert len(cold) > 3, "the tiny run has cold items"
    items = pipeline.interactions.items[cold].tolist()
    table = pipeline.recommend(users, k=3, by=by, candidates=items, popularity=0.0)
    check(pipeline, table, users, 3)
    assert set(table["item_id"]) <= set(items)
    every = pipeline.interactions.items.ids.tolist()
    if by != "likelihood":
        same = pipeline.recommend(users, k=K, by=by, candidates=every)
        before = pipeline.recommend(users, k=K, by=by)
        np.testing.assert_allclose(same["score"], before["score"], rtol=1e-5)


def test_surprise_is_minus_the_ratio(pipeline, by_base):
    user = users_of(pipeline, 1)[0]
    items = pipeline.interactions.items[np.arange(4)].tolist()
    by_network = by_base.surprise(user, items)
    by_base.likelihood = LikelihoodConfig()
    found = pipeline.surprise(user, items)
    rows = pipeline.factors.users.rows([user])
    np.testing.assert_array_equal(found, -log_ratios(pipeline, rows, np.arange(4))[0])
    assert found.shape == by_network.shape == (4,) and not np.allclose(found, by_network)
    nobody = pipeline.factors.users[np.flatnonzero(~pipeline.factors.known_users)[:1]].tolist()
    np.testing.assert_array_equal(pipeline.surprise(nobody[0], items), np.zeros(4))
    with pytest.raises(DataError, match="unheard"):
        pipeline.surprise(user, ["unheard"])


def test_what_cannot_be_is_refused(pipeline):
    users = users_of(pipeline, 1)
    item = pipeline.interactions.items.ids[:1].tolist()
    with pytest.raises(DataError, match="named twice"):
        pipeline.recommend(users, by="cf", candidates=item * 2)
    with pytest.raises(DataError, match="unheard"):
        pipeline.recommend(users, by="cf", candidates=["unheard"])
    with pytest.raises(DataError, match="k has to be at least 1"):
        pipeline.recommend(users, by="likelihood", k=0, popularity=0.0)
    with pytest.raises(DataError, match="by has to be one of cf, generate, likelihood"):
        pipeline.recommend(users, by="magic")
    with pytest.raises(ArtefactError, match="no fitted hybrid; run `ulrec fit-hybrid`"):
        pipeline.recommend(users, by="hybrid")
    with pytest.raises(ArtefactError, match=r"popularity=0\.0"):
        pipeline.recommend(users, by="likelihood")
    with pytest.raises(ConfigError, match="'law' has to be"):
        LikelihoodConfig(law="magic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a hybrid weighs cf, likelihood"):
        Hybrid(weights={"cf": 1.0}, popularity=0.0)


def test_standardising_counts_the_unseen_alone():
    scores = np.array([[1.0, 3.0, 100.0], [2.0, 2.0, 5.0]])
    unseen = np.array([[True, True, False], [True, True, False]])
    np.testing.assert_allclose(standardised(scores, unseen), [[-1, 1, 0], [0, 0, 0]])


def test_ndcg_by_hand():
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    liked = np.array([[False, True, False, True], [True, False, False, False]])
    seen = np.array([[True, False, False, False], [False, False, False, False]])
    # unseen order of the first: 1, 2, 3 -> hits at ranks 1 and 3; of the second: item 0 is last
    first = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(ndcg_at(scores, liked, seen), [first, 1 / np.log2(5)])
    np.testing.assert_allclose(ndcg_at(scores, liked, seen, k=2), [1 / (1 + 1 / np.log2(3)), 0])


def test_weights_are_the_best_of_the_simplex():
    """Two parts that are wrong about one user each, and right together."""
    liked = np.zeros((2, 12), bool)
    liked[:, 0] = True
    parts = np.zeros((2, 12, 2))
    parts[0, :, 0] = parts[1, :, 1] = np.arange(12) / 100
    parts[0, 0, 1] = parts[1, 0, 0] = 1.0
    weights, reached = best_weights(parts, liked, np.zeros_like(liked), steps=2)
    assert weights.tolist() == [0.5, 0.5] and reached == 1.0
    alone, less = best_weights(parts[..., :1], liked, np.zeros_like(liked), steps=2)
    assert alone.tolist() == [1.0] and less < 0.6


@pytest.fixture(scope="module")
def fitted(tiny_run, make_config, tmp_path_factory):
    """A copy of the run with a hybrid."""
    import shutil

    from ulrec.experiment.runner import Run

    folder = tmp_path_factory.mktemp("hybrids")
    run = Run(config=make_config(folder, "hybrid.num_users=30", "hybrid.steps=4"))
    shutil.copytree(tiny_run.folder, run.folder)
    results = run_stages(run, [EXTRA_STAGES["fit-hybrid"]], report=lambda result: None)
    return run, results[0]


def test_fit_hybrid_is_saved_loaded_and_up_to_date(fitted, tmp_path):
    run, result = fitted
    again = run_stages(run, [EXTRA_STAGES["fit-hybrid"]], report=lambda result: None)
    assert not result.skipped and again[0].skipped and "NDCG@10" in result.summary
    pipeline = Pipeline.load(run.folder)
    hybrid = pipeline.hybrid
    assert set(hybrid.weights) == set(PARTS) and hybrid.per_user == 1
    assert sum(hybrid.weights.values()) == pytest.approx(1)
    assert hybrid.sampler == run.config.generate.sampler
    assert hybrid.popularity in run.config.hybrid.betas
    users = users_of(pipeline)
    table = pipeline.recommend(users, k=K, by="hybrid")
    check(pipeline, table, users, K)
    pipeline.recommend(users, k=K, by="likelihood")  # beta is known now
    pipeline.save(tmp_path / "copy")
    copied = Pipeline.load(tmp_path / "copy").recommend(users, k=K, by="hybrid")
    assert copied.equals(table)


def test_hybrid_users_are_not_the_evaluated_ones(fitted):
    run, _ = fitted
    pipeline = Pipeline.load(run.folder)
    users = validation_users(run, pipeline, run.config.hybrid.num_users, stream=12)
    assert len(users) and not set(users) & set(evaluated_users(run, pipeline))


def test_a_hybrid_of_other_parts_is_refused(fitted, tmp_path):
    import shutil

    run, _ = fitted
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    hybrid = Hybrid.load(other)
    made_from = {name: run.fingerprint(name) for name in ("latents", "conditioner")}
    hybrid.save(other / "hybrid", made_from={**made_from, "index": "another"})
    with pytest.raises(ArtefactError, match="another index"):
        Pipeline.load(other)


def test_it_is_no_part_of_a_run(tiny_run):
    assert "fit-hybrid" not in STAGES and not tiny_run.path("hybrid").exists()
    with pytest.raises(ConfigError, match="betas"):
        load_config(type(tiny_run.config), None, ("hybrid.betas=[-1.0]",))


def test_novelty_is_what_the_codec_does_not_explain(pipeline, tiny_run):
    from ulrec.data.media import MediaStore
    from ulrec.pipeline.novelty import codec_bytes

    media = np.asarray(MediaStore.open(tiny_run.path("media")).media)
    novelty = pipeline.novelty(media, num_levels=2)
    bits = pipeline.bits(pipeline.encode(media), num_levels=2)
    sizes = codec_bytes(media)
    # Residuals of least squares on the same media: no mean, no correlation with the size.
    assert abs(novelty.mean()) < 1e-4 * np.abs(bits).mean()
    assert abs(np.corrcoef(novelty, sizes)[0, 1]) < 1e-3
    np.testing.assert_allclose(pipeline.novelty(media[3:5], num_levels=2), novelty[3:5], atol=1e-3)
    flat = np.zeros((1, 3, 16, 16), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16)).astype(np.uint8)
    assert codec_bytes(flat)[0] < 120 < 3 * 16 * 16 < codec_bytes(noise)[0]
    with pytest.raises(DataError, match="uint8"):
        codec_bytes(noise.astype(np.float32))
