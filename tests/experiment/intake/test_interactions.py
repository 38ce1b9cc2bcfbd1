from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from ulrec.data.tables import validate_interactions
from ulrec.errors import DataError
from ulrec.experiment.intake.columns import (
    as_ids,
    find_column,
    looks_like_interactions,
    read_foreign,
)
from ulrec.experiment.intake.interactions import guess_interactions

# 2024-05-31 12:00:00 UTC
MOMENT = 1_717_156_800


def written(tmp_path, text, name="table.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("separator", ["\t", ",", ";", "|", "::"])
def test_movielens_of_any_delimiter_and_no_header(tmp_path, separator):
    rows = [(196, 242, 3, 881250949), (186, 302, 5, 891717742), (22, 377, 1, 878887116)]
    text = "\n".join(separator.join(map(str, row)) for row in rows) + "\n"
    guess = guess_interactions(written(tmp_path, text, "u.data"))
    assert guess.table.select("user_id", "item_id", "weight", "timestamp").rows() == rows
    assert not guess.as_is
    assert "no header line" in guess.findings[0].text
    assert validate_interactions(guess.table).schema["item_id"] == pl.Int64


def test_users_and_items_without_names_are_told_apart_by_the_files(tmp_path):
    path = written(tmp_path, "a7,anna,5,900000001\nb2,bert,4,900000002\n", "likes.data")
    guess = guess_interactions(path, stems={"a7", "b2", "c9"})
    assert guess.table["item_id"].to_list() == ["a7", "b2"]
    assert guess.table["user_id"].to_list() == ["anna", "bert"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("userId,movieId,rating", ["userId", "movieId", "rating"]),
        ("customer_id,article_id,price", ["customer_id", "article_id"]),
        ("user_id:token,item_id:token,rating:float", ["user_id:token", "item_id:token"]),
        ("Visitor ID,SKU,Quantity", ["Visitor ID", "SKU", "Quantity"]),
    ],
)
def test_names_of_columns(tmp_path, header, found):
    guess = guess_interactions(written(tmp_path, f"{header}\n1,7,3\n2,8,4\n"))
    assert list(guess.columns.values())[: len(found)] == found


def test_a_table_in_order_is_left_as_it_is(tmp_path):
    path = written(tmp_path, "user_id,item_id,timestamp\na,1,10\na,2,20\n")
    guess = guess_interactions(path)
    assert guess.as_is and guess.source == path and not guess.findings


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (str(MOMENT), "s"),
        (str(MOMENT * 1000 + 7), "ms"),
        (str(MOMENT * 10**6 + 7), "us"),
        (str(MOMENT * 10**9 + 7), "ns"),
        ("2024-05-31 12:00:00", "dates (UTC where no zone is said)"),
        ("2024-05-31T12:00:00Z", "dates (UTC where no zone is said)"),
        ("2024-05-31T14:00:00+02:00", "dates (UTC where no zone is said)"),
    ],
)
def test_units_of_time(tmp_path, value, unit):
    guess = guess_interactions(written(tmp_path, f"user,item,when,time\n1,2,x,{value}\n"))
    assert guess.table["timestamp"].to_list() == [MOMENT]
    assert guess.facts == (f"times were read as {unit}",)


@pytest.mark.parametrize("value", ["2024-05-31", "20240531"])
def test_days(tmp_path, value):
    guess = guess_interactions(written(tmp_path, f"user,item,t_dat\n1,2,{value}\n"))
    assert guess.table["timestamp"].to_list() == [MOMENT - 12 * 3600]


def test_times_that_are_none_are_named(tmp_path):
    with pytest.raises(DataError, match=r"dates or numbers, got 'soon'; write ISO dates"):
        guess_interactions(written(tmp_path, "user,item,date\n1,2,soon\n"))


def test_a_column_of_datetimes():
    moment = dt.datetime(2024, 5, 31, 12)
    table = pl.DataFrame({"user": [1], "item": [2], "date": [moment]})
    assert guess_interactions(table).table["timestamp"].to_list() == [MOMENT]


def test_a_rating_counts_as_it_was_last_said_and_an_event_as_it_first_came(tmp_path):
    text = "user,item,time,rating\n1,2,30,4\n1,2,20,1\n1,3,20,5\n"
    rated = guess_interactions(written(tmp_path, text))
    assert rated.table.select("item_id", "timestamp", "weight").rows() == [(2, 30, 4), (3, 20, 5)]
    assert "1 interactions repeat" in rated.findings[0].text
    seen = guess_interactions(pl.DataFrame({"user": [1, 1], "item": [2, 2], "time": [30, 20]}))
    assert seen.table["timestamp"].to_list() == [20]


def test_empty_fields_are_counted(tmp_path):
    guess = guess_interactions(written(tmp_path, "user,item,rating\n1,2,3\n,2,3\n1,4,\n"))
    assert guess.table.rows() == [(1, 2, 3.0)]
    assert "2 of 3 interactions have an empty field" in guess.findings[0].text


def test_ids_keep_what_they_are():
    assert as_ids(pl.Series(["1", "2"])).dtype == pl.Int64
    assert as_ids(pl.Series(["1.0", "2.0"])).to_list() == [1, 2]
    assert as_ids(pl.Series(["1", "x"])).to_list() == ["1", "x"]
    assert as_ids(pl.Series(["0001", "0002"])).to_list() == ["0001", "0002"]
    assert as_ids(pl.Series([1.5, 2.0])).to_list() == ["1.5", "2.0"]


def test_what_cannot_be_told_is_asked_for(tmp_path):
    with pytest.raises(
        DataError, match=r"which column of table\.csv is the item_id .*thing; rename"
    ):
        guess_interactions(written(tmp_path, "user,thing\n1,2\n"))
    with pytest.raises(DataError, match="no table of two or more columns"):
        guess_interactions(written(tmp_path, "hello\nthere\n"))
    with pytest.raises(DataError, match="is empty"):
        guess_interactions(written(tmp_path, ""))
    with pytest.raises(
        DataError, match="2 of 2 weights in 'rating' are no numbers, such as 'good'"
    ):
        guess_interactions(written(tmp_path, "user,item,rating\n1,2,good\n1,3,bad\n"))


def test_other_encodings_are_said(tmp_path):
    findings = []
    path = written(tmp_path, "user,item\nJosé,1\n", encoding="latin-1")
    assert read_foreign(path, findings)["user"].to_list() == ["José"]
    assert "Latin-1" in findings[0].text
    marked = written(tmp_path, "\ufeffuser,item\n1,2\n")
    assert guess_interactions(marked).table.rows() == [(1, 2)]


def test_which_files_are_interactions(tmp_path):
    assert looks_like_interactions(written(tmp_path, "user,item,note\n1,2,x\n", "a.csv"))
    assert looks_like_interactions(written(tmp_path, "1\t2\t3\t900000000\n", "b.data"))
    assert not looks_like_interactions(written(tmp_path, "item,title,price\n1,x,2\n", "c.csv"))
    assert not looks_like_interactions(
        written(tmp_path, "Read me, please.\nThanks, bye.\n", "d.txt")
    )
    assert not looks_like_interactions(written(tmp_path, "\x00\x01", "e.parquet"))


def test_the_best_known_name_wins():
    assert find_column(["id", "product", "item_id"], "item_id") == "item_id"
    assert find_column(["id", "product"], "item_id") == "product"
    assert find_column(["colour"], "item_id") is None
