"""Hand-computed fractions, scipy as second implementation, and what intervals and tests promise."""

import itertools

import numpy as np
import pytest
from scipy import stats

from ulrec.errors import DataError
from ulrec.evaluation import statistics
from ulrec.evaluation.statistics import (
    bootstrap_intervals,
    bootstrap_mean,
    bootstrap_means,
    holm,
    paired_bootstrap,
    paired_permutation_test,
    permutation_p_value,
    wilson_interval,
)


def test_bootstrap_means_have_the_moments_of_resampling() -> None:
    values = np.random.default_rng(0).normal(size=(40, 2))
    means = bootstrap_means(values, seed=1, num_resamples=20_000)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=5e-3)
    np.testing.assert_allclose(means.std(0), values.std(0) / np.sqrt(40), rtol=0.03)
    # Columns are resampled together, so that differences of columns are paired.
    expected = np.cov(values.T, ddof=0)[0, 1] / 40
    assert np.cov(means.T)[0, 1] == pytest.approx(expected, abs=1e-3)


def test_bootstrap_does_not_depend_on_chunks(monkeypatch) -> None:
    values = np.arange(12.0).reshape(6, 2)
    whole = bootstrap_means(values, seed=3, num_resamples=50)
    monkeypatch.setattr(statistics, "CHUNK", 18)
    assert np.array_equal(whole, bootstrap_means(values, seed=3, num_resamples=50))


def test_bootstrap_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    ours = bootstrap_mean(values, seed=0, num_resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    assert ours.mean == pytest.approx(values.mean(), abs=1e-12)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.01)


def test_intervals_cover_and_one_value_has_none() -> None:
    rng = np.random.default_rng(0)
    worlds = rng.normal(size=(100, 400))
    intervals = bootstrap_intervals(worlds, seed=0, num_resamples=500)
    covered = np.mean([i.low <= 0 <= i.high for i in intervals])
    assert 0.92 <= covered <= 0.975
    alone = bootstrap_mean([3.0], seed=0)
    assert alone.mean == 3.0
    assert np.isnan(alone.low)
    assert np.isnan(alone.high)


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "non-empty"), ([1.0, float("nan")], "1 of 2 values"), ([[1.0]], "1 axes")],
)
def test_bootstrap_refuses(values, message) -> None:
    with pytest.raises(DataError, match=message):
        bootstrap_mean(values, seed=0)


def test_bootstrap_refuses_choices() -> None:
    with pytest.raises(DataError, match="num_resamples"):
        bootstrap_mean([1.0, 2.0], seed=0, num_resamples=0)
    with pytest.raises(DataError, match="level"):
        bootstrap_mean([1.0, 2.0], seed=0, level=1.0)


def test_bootstrap_draws_whole_resamples() -> None:
    """The numbers themselves: a mean of rows drawn one resample after the other."""
    values = np.random.default_rng(0).normal(size=(7, 2))
    rng = np.random.default_rng(5)
    expected = [values[rng.integers(7, size=7)].mean(0) for _ in range(20)]
    np.testing.assert_allclose(bootstrap_means(values, seed=5, num_resamples=20), expected)


def test_paired_bootstrap_resamples_users_not_models() -> None:
    """Users differ far more than models do: only pairing sees the difference of models."""
    rng = np.random.default_rng(0)
    a = rng.normal(0, 10, 200)
    b = a - 0.5 + rng.normal(0, 0.1, 200)
    paired = paired_bootstrap(a, b, seed=0)
    assert paired.low < paired.mean < paired.high
    assert paired.mean == pytest.approx((a - b).mean(), abs=1e-12)
    width = 2 * 1.96 * (a - b).std() / np.sqrt(200)
    assert paired.high - paired.low == pytest.approx(width, rel=0.1)
    both = bootstrap_means(np.stack([a, b], axis=1), seed=0, num_resamples=1000)
    low, high = np.quantile(both[:, 0] - both[:, 1], [0.025, 0.975])
    assert (paired.low, paired.high) == (pytest.approx(low), pytest.approx(high))
    with pytest.raises(DataError, match="one length, got 2 and 1"):
        paired_bootstrap([1.0, 2.0], [1.0], seed=0)


@pytest.mark.slow
def test_interval_covers_the_truth_at_its_level() -> None:
    """5,000 worlds of 100 users with values as metrics have them: many zeros, skewed, in [0, 1]."""
    rng = np.random.default_rng(2024)
    num_users, worlds = 100, 5000
    hit = rng.random((num_users, worlds)) < 0.4
    values = np.where(hit, rng.beta(2, 3, (num_users, worlds)), 0.0)
    truth = 0.4 * 2 / 5
    covered = [
        interval.low <= truth <= interval.high
        for start in range(0, worlds, 10)
        for interval in bootstrap_intervals(
            values[:, start : start + 10], seed=start, num_resamples=1000
        )
    ]
    assert len(covered) == worlds
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.slow
def test_paired_test_is_wrong_as_often_as_it_says() -> None:
    """5,000 worlds without a difference between two models that share the users' difficulty."""
    rng = np.random.default_rng(2025)
    rejected = []
    for world in range(5000):
        user = rng.beta(1, 4, 60)
        a, b = (user * rng.beta(2, 2, 60) for _ in range(2))
        rejected.append(paired_permutation_test(a, b, seed=world, num_permutations=999) <= 0.05)
    assert 0.04 <= np.mean(rejected) <= 0.06


def test_permutation_p_value_counts_the_data_themselves() -> None:
    assert permutation_p_value(10.0, np.zeros(99)) == 1 / 100
    assert permutation_p_value(-1.0, np.zeros(99)) == 1.0
    # 0.1 + 0.2 and 0.3 are one statistic.
    assert permutation_p_value(0.1 + 0.2, [0.3, 0.0, 0.0]) == 2 / 4


def test_paired_test_agrees_with_enumeration() -> None:
    a = np.array([1.0, 2.5, 0.3, 1.9, 2.2, 0.7, 1.1, 3.0])
    b = np.array([0.5, 2.0, 0.6, 1.0, 2.3, 0.1, 1.0, 1.5])
    difference = a - b
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    sums = signs @ difference
    observed = difference.sum()
    one = np.mean(sums >= observed - 1e-9)
    two = np.mean(np.abs(sums) >= observed - 1e-9)
    p = paired_permutation_test(a, b, seed=0, num_permutations=40_000, alternative="greater")
    assert p == pytest.approx(one, abs=0.004)
    assert paired_permutation_test(a, b, seed=0, num_permutations=40_000) == pytest.approx(
        two, abs=0.004
    )


@pytest.mark.parametrize("num", [1, 7, 64, 9000])
def test_flipped_sums_have_the_moments_of_random_signs(num, monkeypatch) -> None:
    difference = np.random.default_rng(num).normal(size=num)
    sums = statistics._flipped_sums(difference, np.random.default_rng(0), 4000)
    size = np.sqrt(np.square(difference).sum())
    assert abs(sums.mean()) < 4 * size / np.sqrt(4000)
    assert sums.std() == pytest.approx(size, rel=0.05)
    assert sums.max() <= np.abs(difference).sum() + 1e-9
    monkeypatch.setattr(statistics, "CHUNK", 5000)
    again = statistics._flipped_sums(difference, np.random.default_rng(0), 4000)
    assert np.array_equal(again, sums)


def test_paired_test_counts_ties_that_rounding_hides() -> None:
    """Three equal gains: the sign pattern of the data comes up once in eight."""
    a = np.array([0.1, 0.7, 0.4]) + 0.1
    b = np.array([0.1, 0.7, 0.4])
    p = paired_permutation_test(a, b, seed=0, num_permutations=20_000, alternative="greater")
    assert p == pytest.approx(1 / 8, abs=0.01)
    assert paired_permutation_test(b, b, seed=0, num_permutations=100) == 1.0


def test_paired_test_keeps_its_level() -> None:
    rng = np.random.default_rng(0)
    rejected = [
        paired_permutation_test(
            rng.exponential(size=20), rng.exponential(size=20), seed=i, num_permutations=199
        )
        <= 0.05
        for i in range(600)
    ]
    assert 0.03 <= np.mean(rejected) <= 0.07


def test_paired_test_refuses() -> None:
    with pytest.raises(DataError, match="one length, got 2 and 1"):
        paired_permutation_test([1.0, 2.0], [1.0], seed=0)
    with pytest.raises(DataError, match="alternative"):
        paired_permutation_test([1.0], [1.0], seed=0, alternative="less")
    with pytest.raises(DataError, match="num_permutations"):
        paired_permutation_test([1.0], [1.0], seed=0, num_permutations=0)


def test_holm_by_hand() -> None:
    # 0.01*4, 0.02*3, then 0.03*2 = 0.06 and 0.9*1; never below the one before.
    assert holm([0.02, 0.9, 0.01, 0.03]).tolist() == [0.06, 0.9, 0.04, 0.06]
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        holm([0.1, float("nan")])


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (1, 3), (13, 40), (9, 9)])
def test_wilson_agrees_with_scipy(successes, trials) -> None:
    ours = wilson_interval(successes, trials)
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert ours.mean == successes / trials
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)


def test_wilson_refuses() -> None:
    with pytest.raises(DataError, match="4/3"):
        wilson_interval(4, 3)
