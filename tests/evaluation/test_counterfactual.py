"""Expectations by enumeration in float64, Open Bandit Pipeline's numbers, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ulrec.data.ids import IdMap
from ulrec.data.logged import Policy
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.counterfactual import (
    Estimator,
    RewardModel,
    estimate,
    evaluate_policy,
    samples_of,
)
from ulrec.evaluation.estimates import Gates, Terms, diagnose, intervals
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import load_results, save_results

GOLDEN = json.loads((Path(__file__).parent / "golden/counterfactual.json").read_text())
OPEN = Gates(min_ess=0, min_overlap=0, max_weight_error=np.inf)
NUM_USERS, NUM_ITEMS = 3, 5
CATEGORIES = np.array(["x", "y", "x", "z", "y"])


def policy(probabilities):
    users, items = probabilities.shape
    return Policy(
        probabilities=np.asarray(probabilities, np.float64),
        users=IdMap([f"u{row}" for row in range(users)]),
        items=IdMap([f"i{row}" for row in range(items)]),
    )


def table(logging, users, items, reward):
    return pl.DataFrame(
        {
            "user_id": logging.users[users],
            "item_id": logging.items[items],
            "reward": reward,
            "propensity": logging.probabilities[users, items],
            "timestamp": np.arange(len(users)),
        }
    )


def protocol(n, seed=0):
    return Protocol(data_fingerprint="d", config_hash="c", code_version="v", seed=seed, n=n)


@pytest.fixture(scope="module")
def world():
    """Every row that a log of this world may hold, with its probability."""
    rng = np.random.default_rng(0)
    logging, target = (policy(p) for p in rng.dirichlet(np.ones(NUM_ITEMS), (2, NUM_USERS)))
    users, items = (a.ravel() for a in np.indices((NUM_USERS, NUM_ITEMS)))
    reward, predicted = rng.normal(size=(2, NUM_USERS, NUM_ITEMS))
    model = RewardModel(
        logged=predicted[users, items],
        target=(target.probabilities * predicted).sum(axis=1)[users],
    )
    return {
        "logging": logging,
        "target": target,
        "reward": reward,
        "log": table(logging, users, items, reward[users, items]),
        "probability": logging.probabilities[users, items] / NUM_USERS,
        "truth": (target.probabilities * reward).sum(axis=1).mean(),
        "model": model,
    }


def samples(world, **changes):
    given = {"logging": world["logging"], "categories": CATEGORIES, "model": world["model"]}
    return samples_of(world["log"], world["target"], floor=0.0, **{**given, **changes})


def expectation(world, values):
    return float(world["probability"] @ values)


def test_weights_have_mean_one(world):
    known = samples(world)
    for kind in ("item", "category"):
        assert expectation(world, known.weights[kind]) == pytest.approx(1, abs=1e-14)
        assert expectation(world, known.overlap[kind]) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("name", ["ips", "dr"])
def test_ips_and_dr_are_unbiased_however_wrong_the_model(world, name):
    terms = estimate(samples(world), Estimator(name=name))
    assert expectation(world, terms.numerator) == pytest.approx(world["truth"], abs=1e-14)
    assert (terms.denominator == 1).all()
    clipped = estimate(samples(world), Estimator(name=name, clip=0.5))
    assert abs(expectation(world, clipped.numerator) - world["truth"]) > 1e-3


def test_mips_is_unbiased_where_only_the_category_matters(world):
    kinds = np.unique(CATEGORIES, return_inverse=True)[1]
    by_kind = np.array([0.3, -1.0, 2.0])[kinds]
    rewards = np.tile(by_kind, NUM_USERS)
    changed = {**world, "log": world["log"].with_columns(reward=pl.Series(rewards))}
    terms = estimate(samples(changed), Estimator(name="mips"))
    truth = (world["target"].probabilities * by_kind).sum(axis=1).mean()
    assert expectation(world, terms.numerator) == pytest.approx(truth, abs=1e-14)
    weights = samples(changed).weights
    second_moment = {k: expectation(world, np.square(w)) for k, w in weights.items()}
    assert second_moment["category"] < second_moment["item"]
    # Where items of a category differ in reward it is not.
    own = estimate(samples(world), Estimator(name="mips"))
    assert abs(expectation(world, own.numerator) - world["truth"]) > 1e-3


def test_mips_of_identities_is_ips(world):
    alone = samples(world, categories=np.arange(NUM_ITEMS))
    np.testing.assert_allclose(alone.weights["category"], alone.weights["item"], rtol=1e-14)


def test_snips_moves_with_the_reward_and_ips_does_not(world):
    shifted = {**world, "log": world["log"].with_columns(pl.col("reward") + 7)}
    values = {
        name: [estimate(samples(w), Estimator(name=name)).value for w in (world, shifted)]
        for name in ("ips", "snips")
    }
    assert values["snips"][1] - values["snips"][0] == pytest.approx(7, abs=1e-12)
    assert abs(values["ips"][1] - values["ips"][0] - 7) > 0.1


def test_overlap_by_hand():
    logging = policy(np.array([[0.9, 0.06, 0.04]]))
    target = policy(np.array([[0.3, 0.5, 0.2]]))
    log = table(logging, [0, 0], [0, 1], [1.0, 0.0])
    known = samples_of(log, target, floor=0.05, logging=logging)
    assert known.overlap["item"] == pytest.approx([0.8, 0.8], abs=1e-15)
    guessed = samples_of(log, target, floor=0.05)
    assert guessed.overlap["item"] == pytest.approx([1 / 3, 0.5 / 0.06])
    assert samples_of(log, target, floor=0.06).overlap["item"] == pytest.approx([1 / 3, 0])


@pytest.mark.parametrize("world_of_peer", GOLDEN["worlds"], ids=["seed 0", "seed 1"])
def test_values_are_those_of_open_bandit_pipeline(world_of_peer):
    w = {k: np.array(v) for k, v in world_of_peer.items() if isinstance(v, list)}
    logging, target = policy(w["logging"]), policy(w["target"])
    rows = np.arange(len(w["users"]))
    model = RewardModel(
        logged=w["predicted"][rows, w["items"]],
        target=(target.probabilities[w["users"]] * w["predicted"]).sum(axis=1),
    )
    log = table(logging, w["users"], w["items"], w["reward"])
    result = evaluate_policy(
        log,
        target,
        estimators=[
            Estimator(name="ips"),
            Estimator(name="ips", clip=1.5),
            Estimator(name="snips"),
            Estimator(name="dr"),
            Estimator(name="dr", clip=1.5),
            Estimator(name="dm"),
        ],
        protocol=protocol(log.height),
        model=model,
        gates=OPEN,
        num_resamples=20,
    )
    ours = dict(result.summary.select("estimator", "value").iter_rows())
    assert ours == pytest.approx(world_of_peer["values"], abs=1e-12)
    means = result.per_user.group_by("estimator").agg(pl.col("value").mean())
    assert dict(means.iter_rows()) == pytest.approx(ours, abs=1e-12)


@pytest.fixture(scope="module")
def logged():
    """A log of 4,000 rows of two policies that are near each other."""
    rng = np.random.default_rng(1)
    logging = policy(rng.dirichlet(4 * np.ones(NUM_ITEMS), 40))
    target = policy(0.5 * logging.probabilities + 0.5 / NUM_ITEMS)
    users = rng.integers(40, size=4000)
    items = np.array([rng.choice(NUM_ITEMS, p=logging.probabilities[user]) for user in users])
    return table(logging, users, items, rng.random(4000)), logging, target


def evaluated(logged, **changes):
    log, logging, target = logged
    given = {"estimators": [Estimator(name="ips"), Estimator(name="snips", clip=2.0)]}
    given |= {"protocol": protocol(log.height), "logging": logging, "num_resamples": 200}
    return evaluate_policy(log, target, **{**given, **changes})


def test_the_table_says_what_it_takes_to_believe_it(logged, tmp_path):
    result = evaluated(logged)
    assert result.summary["estimator"].to_list() == ["ips", "snips (clip 2)"]
    first, second = result.summary.to_dicts()
    weights = samples_of(logged[0], logged[2], floor=0).weights["item"]
    assert first["num"] == 4000
    assert first["num_users"] == 40
    assert first["ess"] == pytest.approx(weights.sum() ** 2 / np.square(weights).sum())
    assert first["mean_weight"] == pytest.approx(weights.mean())
    assert first["mean_weight_error"] == pytest.approx(weights.std(ddof=1) / np.sqrt(4000))
    assert first["overlap"] == pytest.approx(1)
    assert first["clipped_mass"] is None
    # Diagnostics are those before clipping: a clip level does not pass the gates by itself.
    assert second["ess"] == first["ess"]
    assert second["max_weight"] == weights.max() > 2
    lost = 1 - np.minimum(weights, 2).sum() / weights.sum()
    assert second["clipped_mass"] == pytest.approx(lost)
    assert first["low"] < first["value"] < first["high"]
    assert first["low"] < 0.5 < first["high"]
    assert "ess >= 1000, overlap >= 0.8" in result.notes[0]
    save_results(tmp_path / "results", [result], title="counterfactual", simulated=True)
    assert load_results(tmp_path / "results")[0].summary.equals(result.summary)


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (Gates(min_ess=3999), r"sample size 3\d\d\d is below min_ess 3999: log more"),
        (Gates(floor=0.2), r"overlap 0\.\d+ is below min_overlap 0.8: the target shows"),
        (Gates(max_weight_error=0), "more than max_weight_error 0 standard errors: check"),
    ],
)
def test_gates_name_value_threshold_and_remedy(logged, gates, message):
    with pytest.raises(DataError, match=f"(?s)ips, snips .clip 2.: .*{message}.*set the gate low"):
        evaluated(logged, gates=gates)


def test_by_default_a_small_log_is_refused_and_a_lowered_gate_is_said(logged):
    log, logging, target = logged
    small = (log.head(900), logging, target)
    with pytest.raises(DataError, match="below min_ess 1000"):
        evaluated(small, protocol=protocol(900))
    result = evaluated(small, protocol=protocol(900), gates=Gates(min_ess=500))
    assert "ess >= 500" in result.notes[0]


def test_propensities_of_another_policy_show_in_the_mean_weight(logged):
    log, _, target = logged
    wrong = log.with_columns(propensity=pl.lit(0.1))
    with pytest.raises(DataError, match="propensities are those of the policy that logged"):
        evaluated((wrong, None, target))


def test_a_policy_that_shows_nothing_of_the_log_has_no_value():
    logging, target = policy(np.array([[1.0, 0.0]])), policy(np.array([[0.0, 1.0]]))
    log = table(logging, [0], [0], [1.0])
    with pytest.raises(DataError, match="effective sample size 0 is below min_ess 0"):
        evaluate_policy(
            log, target, estimators=[Estimator(name="ips")], protocol=protocol(1), gates=OPEN
        )


def test_without_propensities_there_is_no_estimate(logged):
    log, logging, target = logged
    with pytest.raises(DataError, match="never assumed to be uniform"):
        evaluated((log.drop("propensity"), logging, target))


def test_bad_input_is_refused(logged, world):
    log, logging, target = logged
    other = policy(np.roll(logging.probabilities, 1, axis=1))
    with pytest.raises(DataError, match="not those of the logging policy"):
        evaluated((log, other, target))
    with pytest.raises(DataError, match="unknown to the target policy, such as 'u10'"):
        evaluated((log, logging, policy(target.probabilities[:3])))
    with pytest.raises(DataError, match="ids are unknown, such as 'i4'"):
        narrow = policy(np.full((40, 4), 0.25))
        evaluated((log, logging, narrow))
    with pytest.raises(DataError, match="n = 7, the log has 4000 rows"):
        evaluated(logged, protocol=protocol(7))
    with pytest.raises(DataError, match="named once each"):
        evaluated(logged, estimators=[Estimator(name="ips")] * 2)
    with pytest.raises(DataError, match="a category for each of 5 items"):
        evaluated(logged, categories=["x"])
    short = RewardModel(logged=np.zeros(3), target=np.zeros(3))
    with pytest.raises(DataError, match="'logged' of the reward model has to be 4000"):
        evaluated(logged, model=short)
    bad = dataclasses.replace(world["model"], target=np.full(15, np.nan))
    with pytest.raises(DataError, match="'target' of the reward model has to be 15 finite"):
        samples(world, model=bad)


def test_an_estimator_says_what_it_lacks(logged):
    with pytest.raises(ConfigError, match="give 'model'"):
        evaluated(logged, estimators=[Estimator(name="dr")])
    with pytest.raises(ConfigError, match="give 'categories' and 'logging'"):
        evaluated(logged, estimators=[Estimator(name="mips")])
    with pytest.raises(ConfigError, match="give 'logging'"):
        evaluated(logged, logging=None, categories=CATEGORIES)
    with pytest.raises(ConfigError, match="choose from"):
        Estimator(name="ipw")
    with pytest.raises(ConfigError, match="dm has no weights to clip"):
        Estimator(name="dm", clip=1.0)
    with pytest.raises(ConfigError, match="'clip' has to be positive"):
        Estimator(name="ips", clip=0.0)
    with pytest.raises(ConfigError, match="gates need"):
        Gates(min_overlap=2)
    with pytest.raises(ConfigError, match="'floor' has to be in"):
        Gates(floor=1.0)


def test_intervals_are_of_users_unless_rows_are_drawn_anew(logged):
    # Copies of a user's rows tell nothing new: rows believe they do, users do not.
    rng = np.random.default_rng(0)
    own = rng.normal(size=60)
    rows = np.repeat(np.arange(60), 9)
    terms = Terms(numerator=own[rows], denominator=np.ones(540))
    (by_user,) = intervals([terms], rows, seed=0, num_resamples=2000)
    (by_row,) = intervals([terms], None, seed=0, num_resamples=2000)
    expected = 2 * 1.96 * own.std() / np.sqrt(60)
    assert by_user[1] - by_user[0] == pytest.approx(expected, rel=0.08)
    assert by_row[1] - by_row[0] == pytest.approx(expected / 3, rel=0.08)
    widths = [
        evaluated(logged, unit=unit).summary["high"] - evaluated(logged, unit=unit).summary["low"]
        for unit in ("user", "row")
    ]
    assert (widths[0] != widths[1]).all()


def test_diagnostics_by_hand():
    found = diagnose(np.array([1.0, 1.0, 2.0, 0.0]), np.array([1.0, 0.5, 0.0, 0.5]))
    assert found.ess == pytest.approx(16 / 6)
    assert found.overlap == 0.5
    assert (found.mean_weight, found.max_weight) == (1.0, 2.0)
    assert found.mean_weight_error == pytest.approx(np.sqrt(2 / 3) / 2)
