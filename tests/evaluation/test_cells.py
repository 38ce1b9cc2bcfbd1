"""Tables as people read them: hand-written cells."""

import polars as pl
import pytest

from ulrec.evaluation.cells import interval_text, number_text, readable


def test_intervals_join_their_means() -> None:
    frame = pl.DataFrame(
        {
            "arm": ["user", "null"],
            "mean": [0.5, 0.25],
            "low": [0.4, None],
            "high": [0.6, None],
            "num_users": [200, 12345],
            "gap_closed": [0.3, 0.0],
            "gap_low": [0.25, -0.0001],
            "gap_high": [0.35, 0.0001],
            "p_holm": [None, 0.00012],
            "is_own": [True, False],
        }
    )
    assert readable(frame).to_dicts() == [
        {
            "arm": "user",
            "mean [95 % interval]": "0.500 [0.400, 0.600]",
            "users": "200",
            "gap closed": "0.300 [0.250, 0.350]",
            "p (Holm)": "–",
            "is own": "yes",
        },
        {
            "arm": "null",
            "mean [95 % interval]": "0.250",
            "users": "12,345",
            "gap closed": "0.000 [0.000, 0.000]",
            "p (Holm)": "0.00012",
            "is own": "no",
        },
    ]


def test_an_interval_may_follow_a_column_of_any_name() -> None:
    frame = pl.DataFrame(
        {"set": ["real"], "KID": [0.5], "low": [0.4], "high": [0.6], "FD": [21.25]}
    )
    assert readable(frame).columns == ["set", "KID", "FD"]
    other = pl.DataFrame({"set": ["real"], "low": [0.4], "high": [0.6]})
    assert readable(other).columns == ["set", "low", "high"]


def test_a_column_shares_decimals_unless_its_numbers_are_unlike() -> None:
    like = readable(pl.DataFrame({"kid": [0.0012, 0.034, 1.23]}))["kid"].to_list()
    assert like == ["0.001", "0.034", "1.230"]
    unlike = readable(pl.DataFrame({"value": [0.3987, 23.94, 1450.2]}))["value"].to_list()
    assert unlike == ["0.399", "23.94", "1,450"]
    small = pl.DataFrame(
        {"lift": [0.0001, -0.00002], "low": [-0.002, -0.001], "high": [0.002, 0.001]}
    )
    assert readable(small)["lift"].to_list() == [
        "0.00010 [-0.00200, 0.00200]",
        "-0.00002 [-0.00100, 0.00100]",
    ]


def test_headings_that_come_to_the_same_stay_apart() -> None:
    assert readable(pl.DataFrame({"a_b": [1], "a b": [2]})).columns == ["a b", "a b (2)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("nan"), "not defined"), (float("-inf"), "-∞"), (-0.00004, "-4e-05"), (100.0, "100.0")],
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


def test_intervals_share_decimals() -> None:
    assert interval_text(21.934, 21.5, 22.25) == "21.93 [21.50, 22.25]"
    assert interval_text(0.02, -0.004, 0.05) == "0.0200 [-0.0040, 0.0500]"
    assert interval_text(0.5, 0.5, float("nan")) == "0.500"


def test_a_rate_of_nothing_keeps_the_end_of_its_interval():
    table = pl.DataFrame({"mean": [0.0], "low": [0.0], "high": [0.0188]})
    assert readable(table).item() == "0.0000 [0.0000, 0.0188]"
