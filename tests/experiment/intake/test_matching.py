import polars as pl
import pytest

from ulrec.experiment.intake.matching import RULES, align, match_pictures


def matched(paths, ids, counts=None):
    table = pl.DataFrame({"item_id": ids, "count": counts or [1] * len(ids)})
    return match_pictures(pl.DataFrame({"path": paths}, schema={"path": pl.String}), table)


@pytest.mark.parametrize(
    ("paths", "ids", "rule"),
    [
        (["1.jpg", "2.jpg"], [1, 2], "the file's name without its ending"),
        (["1.jpg", "2.jpg"], ["1.jpg", "2.jpg"], "the file's name"),
        (["a/1.jpg", "b/1.jpg"], ["a/1", "b/1"], "the path without its ending"),
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg", "b/1.jpg"], "the path"),
        (
            ["010/0108.jpg", "011/0110.jpg"],
            [108, 110],
            "the file's name without its ending and leading zeros",
        ),
        (["B0A.JPG", "B0B.JPG"], ["b0a", "b0b"], "the file's name in small letters"),
        (["7_front.png", "8_front.png"], [7, 8], "the file's name up to the first _ or -"),
        (["img7.png", "img8.png"], [7, 8], "the number at the end of the file's name"),
    ],
)
def test_rules(paths, ids, rule):
    match = matched(paths, ids)
    assert match.rule == rule and match.known == 1
    assert match.items.rows() == list(zip(ids, paths, strict=True))
    assert match.further == match.strays == ()


def test_every_rule_is_tested_above():
    (mark,) = test_rules.pytestmark
    assert {case[2] for case in mark.args[1]} == set(RULES)


def test_ids_stay_what_they_are_and_cold_pictures_get_one_of_the_same_type():
    match = matched(["0001.jpg", "0002.jpg", "0003.jpg", "logo.jpg"], [1, 2])
    assert match.items.rows() == [(1, "0001.jpg"), (2, "0002.jpg"), (3, "0003.jpg")]
    assert match.strays == ("logo.jpg",)
    text = matched(["a.jpg", "b.jpg"], ["a"])
    assert text.items.rows() == [("a", "a.jpg"), ("b", "b.jpg")]


def test_ids_that_become_one_key_share_no_picture():
    match = matched(["7.jpg"], ["007", "07", "x"])
    assert match.known == 0


def test_several_pictures_of_an_item():
    match = matched(["5_1.png", "5_2.png", "6_1.png"], [5, 6])
    assert match.items.rows() == [(5, "5_1.png"), (6, "6_1.png")]
    assert match.further == ("5_2.png",)


def test_the_share_counts_interactions():
    assert matched(["1.jpg"], [1, 2], [3, 1]).known == 0.75


def test_ids_of_a_catalogue_are_written_as_the_interactions_write_them():
    interactions = pl.DataFrame({"item_id": [1, 2], "count": [5, 5]})
    aligned, rule = align(pl.Series(["0001", "0002", "0009", "sku"]), interactions)
    assert rule == "without leading zeros"
    assert aligned.rows() == [("0001", 1), ("0002", 2), ("0009", 9), ("sku", None)]
    same, rule = align(pl.Series([1, 3]), interactions)
    assert rule == "as they are" and same["aligned"].to_list() == [1, 3]
