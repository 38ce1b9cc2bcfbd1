"""Kernel IPS: E[w] = 1 by enumeration, both limits of h, and leave-one-out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ulrec.data.ids import IdMap
from ulrec.data.logged import Policy
from ulrec.errors import DataError
from ulrec.evaluation import bandwidth, kernel_ips
from ulrec.evaluation.bandwidth import bandwidth_grid, leave_one_out
from ulrec.evaluation.curves import curve_svg
from ulrec.evaluation.estimates import Gates
from ulrec.evaluation.generated_value import evaluate_generated, kernel_estimate
from ulrec.evaluation.kernel_ips import Generated, KernelWeights
from ulrec.evaluation.protocol import Protocol

ANY = {"max_smoothing_bias": np.inf}
OPEN = Gates(min_ess=0, min_overlap=0, max_weight_error=np.inf, **ANY)
NUM_USERS, NUM_ITEMS, WIDTH = 4, 7, 3
HS = (0.3, 0.8, 3.0)


def policy(probabilities):
    users, items = probabilities.shape
    return Policy(
        probabilities=probabilities,
        users=IdMap([f"u{row}" for row in range(users)]),
        items=IdMap([f"i{row}" for row in range(items)]),
    )


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(NUM_ITEMS, WIDTH))
    # One to four generations a user, in no order.
    whose = rng.permutation(np.repeat(np.arange(NUM_USERS), [1, 2, 3, 4]))
    generated = Generated(
        user_ids=np.array([f"u{row}" for row in whose]), vectors=rng.normal(size=(10, WIDTH))
    )
    logging = policy(rng.dirichlet(np.ones(NUM_ITEMS), NUM_USERS))
    return logging, vectors, generated, whose


def all_pairs():
    return (a.ravel() for a in np.indices((NUM_USERS, NUM_ITEMS)))


def test_weights_are_the_formula_and_have_mean_one_for_each_user(world):
    logging, vectors, generated, whose = world
    kernel = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=HS)
    users, items = all_pairs()
    weights = kernel.weights(users, items).reshape(len(HS), NUM_USERS, NUM_ITEMS)
    means = (logging.probabilities * weights).sum(axis=2)
    np.testing.assert_allclose(means, 1, rtol=1e-12)
    for place, h in enumerate(HS):
        for user in range(NUM_USERS):
            ratios = []
            for z in generated.vectors[whose == user]:
                k = np.exp(-np.square(vectors - z).sum(axis=1) / (2 * h**2))
                ratios.append(k / (logging.probabilities[user] @ k))
            np.testing.assert_allclose(weights[place, user], np.mean(ratios, axis=0), rtol=1e-9)


def test_a_small_bandwidth_gives_ips_of_a_discrete_policy():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(NUM_ITEMS, WIDTH))
    logging = policy(rng.dirichlet(np.ones(NUM_ITEMS), NUM_USERS))
    drawn = rng.integers(NUM_ITEMS, size=(NUM_USERS, 5))
    users = [f"u{row}" for row in np.repeat(np.arange(NUM_USERS), 5)]
    generated = Generated(user_ids=np.array(users), vectors=vectors[drawn.ravel()])
    target = np.array([np.bincount(row, minlength=NUM_ITEMS) / 5 for row in drawn])
    expected = (target / logging.probabilities).ravel()
    off = []
    for h in (1.0, 0.3, 0.01):
        kernel = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=[h])
        off.append(np.abs(kernel.weights(*all_pairs())[0] - expected).max())
    assert off[0] > off[1] > off[2]
    assert off[2] < 1e-9
    # What the normaliser tends to is the propensity.
    logged = np.log(logging.probabilities[np.repeat(np.arange(NUM_USERS), 5), drawn.ravel()])
    np.testing.assert_allclose(kernel.log_normaliser[0], logged, atol=1e-9)


def test_the_limits_are_the_nearest_item_and_the_logging_policy(world):
    logging, vectors, generated, whose = world
    ends = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=[1e-3, 1e4])
    sharp, flat = ends.weights(*all_pairs())
    np.testing.assert_allclose(flat, 1, atol=1e-6)
    distance = np.square(generated.vectors[:, None] - vectors).sum(axis=2)
    nearest = np.zeros((NUM_USERS, NUM_ITEMS))
    np.add.at(nearest, (whose, distance.argmin(axis=1)), 1.0)
    nearest /= nearest.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sharp, (nearest / logging.probabilities).ravel(), rtol=1e-9)


def test_what_is_never_shown_has_no_part():
    vectors = np.array([[0.0], [1.0], [5.0]])
    logging = policy(np.array([[0.0, 0.5, 0.5]]))
    generated = Generated(user_ids=np.array(["u0"]), vectors=np.array([[0.1]]))
    kernel = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=[0.01])
    # The generation lies on an item that could not be shown: the next stands for it.
    assert kernel.weights([0, 0], [1, 2])[0] == pytest.approx([2.0, 0.0])
    assert kernel.overlap([0], floor=1e-6)[0].tolist() == [0.0]
    near = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=[1.0])
    # E K = 0.5 exp(-0.405) + 0.5 exp(-12.0) = 0.3335
    assert near.overlap([0], floor=0.33)[0].tolist() == [1.0]
    assert near.overlap([0], floor=0.34)[0].tolist() == [0.0]


def test_chunks_change_nothing(world, monkeypatch):
    logging, vectors, generated, _ = world
    rng = np.random.default_rng(3)
    users, items = rng.integers(NUM_USERS, size=60), rng.integers(NUM_ITEMS, size=60)
    reward = rng.random(60)

    def run():
        kernel = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=HS)
        found = leave_one_out(kernel, users, items, reward)
        return kernel.weights(users, items), found.criterion, bandwidth_grid(generated, vectors)

    whole = run()
    monkeypatch.setattr(kernel_ips, "CHUNK", 30)
    monkeypatch.setattr(bandwidth, "CHUNK", 30)
    for a, b in zip(whole, run(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_leave_one_out_by_hand():
    # One user, three items on a line, the first logged twice; the generation lies on it.
    vectors = np.array([[0.0], [1.0], [3.0]])
    logging = policy(np.array([[0.5, 0.25, 0.25]]))
    generated = Generated(user_ids=np.array(["u0"]), vectors=np.array([[0.0]]))
    h = np.array([1e-2, 1.0])
    kernel = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=h)
    items, reward = np.array([0, 0, 1, 2]), np.array([1.0, 0.0, 0.5, 2.0])
    found = leave_one_out(kernel, np.zeros(4, int), items, reward)
    assert found.num_rows == 4
    # Sharp weights are 2 on the rows of the first item, 0 elsewhere. Its rewards are predicted from
    # the others alone: by the nearest, 0.5, or by a mean with weights exp(-1/2) and exp(-9/2).
    k1, k3 = np.exp(-0.5), np.exp(-4.5)
    mean = (0.5 * k1 + 2 * k3) / (k1 + k3)
    np.testing.assert_allclose(found.bias, [0.0, mean - 0.5], atol=1e-12)
    weights = kernel.weights(np.zeros(4, int), items)
    errors = (weights * reward).std(axis=1) / 2
    np.testing.assert_allclose(found.criterion, found.bias**2 + errors**2, rtol=1e-12)
    assert found.chosen == h[found.criterion.argmin()]
    # bias_error: sqrt(sum of squared residuals of the weighted mean) / sum of weights
    residual = 2 * np.array([0.5 - 1.0, 0.5 - 0.0])
    assert found.bias_error[0] == pytest.approx(np.sqrt(residual @ residual) / 4)


def test_leave_one_out_needs_users_with_two_items(world):
    logging, vectors, generated, _ = world
    kernel = KernelWeights(generated, item_vectors=vectors, logging=logging, bandwidths=HS)
    with pytest.raises(DataError, match="0 of 4 rows can be left out"):
        leave_one_out(kernel, np.arange(4), np.zeros(4, int), np.ones(4))


def smooth_world(num_rows):
    """A reward that is smooth in z, generations between items, a log of 30 users."""
    rng = np.random.default_rng(5)
    vectors = rng.uniform(-2, 2, size=(80, 2))
    logging = policy(rng.dirichlet(5 * np.ones(80), 30))
    made = rng.uniform(-1, 1, size=(30, 2))
    users = rng.integers(30, size=num_rows)
    items = np.array([rng.choice(80, p=logging.probabilities[user]) for user in users])

    def value(z):
        return 1 / (1 + np.square(z).sum(axis=-1))

    log = pl.DataFrame(
        {
            "user_id": logging.users[users],
            "item_id": logging.items[items],
            "reward": value(vectors[items]) + 0.1 * rng.normal(size=num_rows),
            "propensity": logging.probabilities[users, items],
            "timestamp": np.arange(num_rows),
        }
    )
    generated = Generated(user_ids=logging.users[np.arange(30)], vectors=made)
    return log, generated, vectors, logging, float(value(made).mean())


@pytest.fixture(scope="module")
def smooth():
    return smooth_world(3000)


def run(smooth, **changes):
    log, generated, vectors, logging, _ = smooth
    protocol = Protocol(
        data_fingerprint="d", config_hash="c", code_version="v", seed=0, n=log.height
    )
    given = {"item_vectors": vectors, "logging": logging, "protocol": protocol}
    return evaluate_generated(log, generated, **{**given, "num_resamples": 200, **changes})


def test_a_smooth_reward_is_recovered(smooth):
    found = run(smooth, gates=Gates(min_ess=100, max_smoothing_bias=1.0))
    kernel, normalised = found.result.summary.to_dicts()
    h = found.bandwidths.chosen
    assert kernel["estimator"] == f"kernel ips (h {h:.4g})"
    assert normalised["estimator"] == f"kernel snips (h {h:.4g})"
    truth, logged = smooth[-1], smooth[0]["reward"].mean()
    assert abs(truth - logged) > 0.2
    assert kernel["value"] == pytest.approx(truth, abs=0.08)
    assert normalised["value"] == pytest.approx(truth, abs=0.08)
    assert f"h = {h:.4g}, chosen by leave-one-out" in " ".join(found.result.notes)


def test_the_curve_shows_where_gates_refuse(smooth):
    found = run(smooth, bandwidth=1.5, bandwidths=[0.03, 0.5], gates=Gates(min_ess=100, **ANY))
    assert found.bandwidths is None
    curve = found.curve.summary
    values = curve.filter(pl.col("metric") == "V(h)")
    assert values["bandwidth"].to_list() == [0.03, 0.5, 1.5]
    assert values["mean"].is_null().to_list() == [True, False, False]
    assert found.result.summary["value"][0] == values["mean"][2]
    assert found.result.summary["low"][0] == pytest.approx(values["low"][2])
    ess = curve.filter(pl.col("metric") == "ess")["mean"]
    assert ess[0] < 100 < ess[1] < ess[2]
    assert curve_svg(curve, setting="bandwidth", mark=1.5).startswith("<svg")


def test_gates_hold_for_kernels_too(smooth):
    with pytest.raises(DataError, match=r"kernel ips .h 0.03.*below min_ess 1000"):
        run(smooth, bandwidth=0.03)
    with pytest.raises(DataError, match=r"overlap 0\.\d+ is below min_overlap 0.8"):
        run(smooth, bandwidth=0.3, gates=Gates(min_ess=0, floor=0.05))


def test_a_kernel_too_wide_to_say_anything_is_refused_though_its_weights_are_even(smooth):
    with pytest.raises(DataError, match=r"refused. kernel ips[^;]*: the smoothing may be off by"):
        run(smooth, bandwidth=2.0)
    found = run(smooth, bandwidth=2.0, gates=Gates(**ANY))
    assert found.result.summary["ess"][0] > 2000
    assert abs(found.result.summary["value"][0] - smooth[-1]) > 0.15
    judged = run(smooth, bandwidth=2.0, gates=Gates(max_smoothing_bias=10))
    row = judged.result.summary.row(0, named=True)
    assert row["smoothing_bias"] == judged.bandwidths.bias[-1] < -0.1
    assert row["smoothing_error"] == judged.bandwidths.bias_error[-1]
    alone = smooth[0].unique("user_id", maintain_order=True)
    few = Gates(min_ess=0, min_overlap=0, max_weight_error=np.inf)
    with pytest.raises(DataError, match="no bandwidth can be chosen, and none be judged"):
        protocol = Protocol(
            data_fingerprint="d", config_hash="c", code_version="v", seed=0, n=alone.height
        )
        run((alone, *smooth[1:]), bandwidth=2.0, gates=few, protocol=protocol)


def test_bad_input_is_refused(smooth):
    log, generated, vectors, logging, _ = smooth
    with pytest.raises(DataError, match="nothing was generated for 10 users of the log"):
        fewer = Generated(user_ids=generated.user_ids[:20], vectors=generated.vectors[:20])
        run((log, fewer, vectors, logging, 0))
    with pytest.raises(DataError, match="unknown to the logging policy, such as 'stranger'"):
        strange = Generated(user_ids=np.array(["stranger"]), vectors=np.zeros((1, 2)))
        run((log, strange, vectors, logging, 0))
    with pytest.raises(DataError, match=r"item vectors have to be finite \(I, 2\)"):
        run((log, generated, vectors[:, :1], logging, 0))
    with pytest.raises(DataError, match="79 item vectors, and 80 items"):
        run((log, generated, vectors[:79], logging, 0))
    with pytest.raises(DataError, match="bandwidths have to be positive and rise"):
        run(smooth, bandwidths=[0.5, 0.1])
    with pytest.raises(DataError, match="never assumed to be uniform"):
        run((log.drop("propensity"), *smooth[1:]))
    with pytest.raises(DataError, match="a user and a vector each"):
        Generated(user_ids=generated.user_ids[:2], vectors=generated.vectors)
    with pytest.raises(DataError, match="have to be finite"):
        Generated(user_ids=generated.user_ids, vectors=generated.vectors * np.nan)
    with pytest.raises(DataError, match="coincide with real items"):
        bandwidth_grid(Generated(user_ids=np.array(["u0"]), vectors=vectors[:1]), vectors)
    with pytest.raises(DataError, match="kernel estimates are"):
        kernel_estimate("dr", 1.0, np.ones(1), np.ones(1), np.ones(1))


def test_the_grid_spans_nearest_to_typical():
    vectors = np.array([[0.0], [2.0], [8.0]])
    generated = Generated(user_ids=np.array(["u0"]), vectors=np.array([[1.6]]))
    # Distances 1.6, 0.4, 6.4: nearest 0.4, median 1.6.
    np.testing.assert_allclose(bandwidth_grid(generated, vectors, num=3), [0.1, 0.08**0.5, 0.8])
