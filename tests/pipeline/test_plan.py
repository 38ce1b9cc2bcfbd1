"""Budgeted generation: what is foreseen, how well, and who is chosen."""

import numpy as np
import polars as pl
import pytest

from ulrec import Pipeline
from ulrec.errors import DataError
from ulrec.experiment.runner import Run
from ulrec.pipeline import load_interactions
from ulrec.pipeline.plan import MarginModel, fit_model, real_gains, signs


@pytest.fixture(scope="module")
def pipeline(tiny_run: Run) -> Pipeline:
    return Pipeline.load(tiny_run.folder)


def model(weights=(1.0, 0.0, 0.0, 0.0), *, low=0.1, mean_gain=0.0) -> MarginModel:
    return MarginModel(
        mean=np.zeros(4),
        scale=np.ones(4),
        weights=np.array(weights),
        mean_gain=mean_gain,
        rank_correlation=0.5,
        low=low,
        high=0.9,
        num_users=100,
    )


def test_a_gain_that_follows_a_sign_is_foreseen() -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal((300, 4)) * [1, 5, 0.1, 1] + [0, 3, 0, 0]
    gains = 0.2 + 0.1 * (given[:, 1] - 3) / 5 + 0.02 * rng.standard_normal(300)
    found = fit_model(given, gains, seed=0)
    assert found.has_skill and found.rank_correlation > 0.95
    assert found.low < found.rank_correlation < found.high
    np.testing.assert_allclose(found(given), gains, atol=0.1)
    np.testing.assert_allclose(found.weights, [0, 0.1, 0, 0], atol=0.01)


def test_noise_is_not_foreseen_and_everybody_gains_the_mean() -> None:
    rng = np.random.default_rng(1)
    found = fit_model(rng.standard_normal((200, 4)), rng.standard_normal(200), seed=0)
    assert not found.has_skill and found.low < 0 < found.high
    assert set(found(rng.standard_normal((5, 4))).tolist()) == {found.mean_gain}


def test_the_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    from ulrec.pipeline.plan import _spearman

    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, 40).astype(float), rng.standard_normal(40)
    assert _spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert _spearman(np.ones(40), b) == 0.0


def test_the_budget_goes_to_those_who_gain_most(pipeline: Pipeline) -> None:
    counts = np.diff(pipeline.interactions.user_items.indptr)
    users = pipeline.factors.users[np.flatnonzero(counts)[:6]].tolist()
    plan = pipeline.plan_generation(users, pictures=5, per_user=2, model=model())
    assert plan.num_affordable == 2
    assert plan.table["user_id"].to_list() == users
    chosen = plan.table.filter(plan.table["action"] == "generate")
    assert len(chosen) == 2
    others = plan.table.filter(plan.table["action"] == "retrieve")["expected_gain"]
    assert chosen["expected_gain"].min() >= others.max()
    lengths = counts[pipeline.factors.users.rows(users)]
    np.testing.assert_allclose(plan.table["expected_gain"], np.log1p(lengths))


@pytest.mark.parametrize(("mean_gain", "num"), [(-0.1, 0), (0.1, 3)])
def test_without_skill_all_or_none_are_worth_it(
    pipeline: Pipeline, mean_gain: float, num: int
) -> None:
    users = pipeline.factors.users[np.flatnonzero(pipeline.factors.known_users)[:3]].tolist()
    unskilled = model(low=-0.1, mean_gain=mean_gain)
    table = pipeline.plan_generation(users, pictures=9, model=unskilled).table
    assert (table["action"] == "generate").sum() == num
    assert set(table["expected_gain"].to_list()) == {mean_gain}


def test_seconds_are_pictures_at_the_speed_measured_here(pipeline: Pipeline) -> None:
    users = pipeline.factors.users[np.flatnonzero(pipeline.factors.known_users)[:3]].tolist()
    assert pipeline.plan_generation(users, seconds=1e6, model=model()).num_affordable == 3
    assert pipeline.plan_generation(users, seconds=1e-9, model=model()).num_affordable == 0


def test_real_gains_are_those_in_ndcg_on_later_likes(pipeline: Pipeline) -> None:
    factors = pipeline.factors
    later = load_interactions(
        pipeline.folder / "interactions", factors.users, factors.items, part="validation"
    )
    rows = np.flatnonzero((np.diff(later.user_items.indptr) > 0) & factors.known_users)[:9]
    ids = factors.users[rows].tolist()
    gains = real_gains(pipeline, rows, later, per_user=2, guidance=3.0, seed=0)
    made = pipeline.generate(ids, per_user=2, guidance=3.0, seed=0, decode=False)
    near = pipeline.recommend_near(made.user_ids, made.latents, k=20)
    top = pipeline.recommend(ids, k=20, by="cf", seed=0)

    def ndcg(table: pl.DataFrame, user: str, wanted: set) -> float:
        listed = table.filter(table["user_id"] == user)["item_id"].to_list()
        found = [1 / np.log2(place + 2) for place, item in enumerate(listed) if item in wanted]
        return sum(found) / sum(1 / np.log2(np.arange(min(20, len(wanted))) + 2))

    expected = []
    for user, row in zip(ids, rows, strict=True):
        wanted = set(later.items[later.user_items[[row]].indices].tolist())
        expected.append(ndcg(near, user, wanted) - ndcg(top, user, wanted))
    np.testing.assert_allclose(gains, expected, atol=1e-9)
    assert gains.any()


def test_signs_are_finite_for_everybody(pipeline: Pipeline) -> None:
    given = signs(pipeline, np.arange(len(pipeline.factors.users)))
    assert given.shape == (len(pipeline.factors.users), 4) and np.isfinite(given).all()


def test_a_whole_plan_reports_its_skill(pipeline: Pipeline) -> None:
    users = pipeline.factors.users[:5].tolist()
    plan = pipeline.plan_generation(users, pictures=2, num_validation=25)
    assert plan.model.num_users >= 20
    assert -1 <= plan.model.low <= plan.model.high <= 1
    assert set(plan.table["action"]) <= {"generate", "retrieve"}


def test_what_is_no_budget_is_refused(pipeline: Pipeline) -> None:
    users = pipeline.factors.users[:2].tolist()
    for budget in ({}, {"pictures": 1, "seconds": 1.0}, {"pictures": 1, "per_user": 0}):
        with pytest.raises(DataError, match="pictures or seconds, one of them"):
            pipeline.plan_generation(users, model=model(), **budget)
    with pytest.raises(DataError, match="finite and at least 0"):
        pipeline.plan_generation(users, model=model(), pictures=-1)
    with pytest.raises(DataError, match="at least 20"):
        pipeline.plan_generation(users, pictures=1, num_validation=3)
