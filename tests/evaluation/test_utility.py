"""Arms against a known utility: differences, corrected p-values and the share of the gap."""

import numpy as np
import polars as pl
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.utility import utility_comparison


def _arms(num: int = 80) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.normal(size=num)
    return {
        "user": base + 2 + 0.1 * rng.normal(size=num),
        "null": base + 0.1 * rng.normal(size=num),
        "popular": base + 1 + 0.1 * rng.normal(size=num),
        "cf": base + 3,
        "oracle": base + 4,
    }


def _row(table, arm: str) -> dict:
    return table.row(by_predicate=pl.col("arm") == arm, named=True)


def test_differences_p_values_and_gap() -> None:
    arms = _arms()
    table = utility_comparison(arms, controls=["null", "popular", "cf"], seed=0)
    assert table["arm"].to_list() == list(arms)
    null, popular, cf = (_row(table, arm) for arm in ("null", "popular", "cf"))
    for row in (null, popular, cf):
        expected = np.mean(arms["user"] - arms[row["arm"]])
        assert row["difference"] == pytest.approx(expected)
        assert row["difference_low"] < expected < row["difference_high"]
        # The smallest p of 9,999 permutations, three in the family.
        assert row["p"] == pytest.approx(1e-4)
        assert row["p_holm"] == pytest.approx(3e-4)
    assert cf["difference"] < 0
    assert _row(table, "user")["difference"] is None
    assert _row(table, "oracle")["p_holm"] is None
    user = _row(table, "user")
    gap = arms["oracle"].mean() - arms["null"].mean()
    assert user["gap_closed"] == pytest.approx((arms["user"].mean() - arms["null"].mean()) / gap)
    assert user["gap_low"] < user["gap_closed"] < user["gap_high"]
    assert [_row(table, arm)["gap_closed"] for arm in ("null", "oracle")] == [0, 1]
    assert user["num_users"] == 80


def test_one_sided_test_sees_no_gain_over_a_better_arm() -> None:
    table = utility_comparison(_arms(), controls=["cf"], seed=0, alternative="greater")
    assert _row(table, "cf")["p"] == 1.0


def test_a_gap_that_may_vanish_has_no_interval() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(3, 30))
    arms = {"user": noise[0], "null": noise[1] - noise[1].mean(), "oracle": noise[2] + 0.1}
    arms["oracle"] = arms["oracle"] - arms["oracle"].mean() + 0.01
    table = utility_comparison(arms, controls=["null"], seed=0)
    assert np.isnan(_row(table, "user")["gap_low"])


def test_bad_input() -> None:
    arms = _arms()
    with pytest.raises(DataError, match=r"no utilities of the arms \['mean'\]"):
        utility_comparison(arms, controls=["mean"], seed=0)
    with pytest.raises(DataError, match="other arms"):
        utility_comparison(arms, controls=["user"], seed=0)
    with pytest.raises(DataError, match="not above the null"):
        utility_comparison(arms, controls=["cf"], null="oracle", oracle="null", seed=0)
    with pytest.raises(DataError, match="same users"):
        utility_comparison({**arms, "cf": arms["cf"][1:]}, controls=["cf"], seed=0)
    with pytest.raises(DataError, match=r"\['cf'\] hold NaN"):
        utility_comparison({**arms, "cf": arms["cf"] * np.nan}, controls=["cf"], seed=0)
