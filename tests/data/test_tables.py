from __future__ import annotations

import polars as pl
import pytest

from ulrec.data.tables import (
    read_table,
    threshold,
    validate_catalogue,
    validate_interactions,
    validate_recommendations,
)
from ulrec.errors import DataError

CATALOGUE = pl.DataFrame(
    {
        "item_id": ["a", "b", "c"],
        "path": ["a.jpg", None, "c.jpg"],
        "category": ["x", None, "y"],
        "concept": ["one", "one", "two"],
        "split": ["train", "train", "heldout"],
    }
)
INTERACTIONS = pl.DataFrame(
    {"user_id": [1, 1, 2], "item_id": ["a", "b", "a"], "timestamp": [5, 6, 7], "weight": [1, 2, 3]}
)
RECOMMENDATIONS = pl.DataFrame(
    {
        "user_id": [1, 2, 1],
        "item_id": ["b", "a", "a"],
        "score": [0.1, 0.5, 0.4],
        "rank": [2, 1, 1],
    }
)


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv"])
def test_read_by_ending(tmp_path, ending):
    path = tmp_path / f"table.{ending}"
    if ending == "parquet":
        INTERACTIONS.write_parquet(path)
    else:
        INTERACTIONS.write_csv(path, separator="," if ending == "csv" else "\t")
    assert read_table(path).equals(INTERACTIONS)


def test_text_ids_keep_their_zeros(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("user_id,item_id,name\n1,007,x\n-2,8,y\n")
    table = read_table(path)
    assert table["user_id"].to_list() == [1, -2]
    assert table["item_id"].to_list() == ["007", "8"]
    assert read_table(path, ids="str")["user_id"].to_list() == ["1", "-2"]
    with pytest.raises(DataError, match=r"'item_id' of .* has to hold whole numbers, got '007'"):
        read_table(path, ids="int")


def test_types_come_from_the_whole_file(tmp_path):
    path = tmp_path / "table.csv"
    lines = [f"{i},1" for i in range(2000)]
    path.write_text("\n".join(["item_id,weight", *lines, "late,0.5"]))
    table = read_table(path)
    assert table["item_id"][-1] == "late"
    assert table["weight"][-1] == 0.5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "table not found"),
        ("table.xlsx", b"", "a table ends in .parquet, .csv or .tsv, got table.xlsx"),
        ("table.parquet", b"nonsense", "table.parquet cannot be read as parquet"),
        ("table.csv", b"", "table.csv cannot be read as csv"),
        ("table.csv", b"user_id,item_id\n1,2,3\n", "table.csv cannot be read as csv"),
        ("table.csv", b"item_id,name\n1,\xff\xfe\n", "table.csv cannot be read as csv"),
    ],
)
def test_unreadable_tables(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_valid_tables_get_canonical_types():
    table = validate_catalogue(CATALOGUE.with_columns(pl.col("split").cast(pl.Categorical)))
    assert table.equals(CATALOGUE)
    table = validate_interactions(INTERACTIONS.with_columns(pl.col("user_id").cast(pl.UInt8)))
    assert table.schema == {
        "user_id": pl.Int64,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "weight": pl.Float64,
    }
    assert table["user_id"].to_list() == [1, 1, 2]
    assert validate_recommendations(RECOMMENDATIONS).equals(RECOMMENDATIONS)
    assert len(validate_recommendations(RECOMMENDATIONS.clear())) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (CATALOGUE.rename({"item_id": "itemid"}), "no column 'item_id'; rename 'itemid'"),
        (
            CATALOGUE.rename({"category": "categoryy"}),
            "'categoryy'; did you mean 'category'\\? Rename",
        ),
        (CATALOGUE.with_columns(price=1), "unknown column 'price'; drop it"),
        (CATALOGUE.drop("path"), "exactly one of 'image', 'clip' .* got none"),
        (CATALOGUE.with_columns(image=b"x"), "exactly one of 'image', .* got image and path"),
        (CATALOGUE.drop("path").with_columns(image=pl.lit("x")), "encoded pictures"),
        (CATALOGUE.clear(), "has no rows"),
        (pl.concat([CATALOGUE, CATALOGUE[:1]]), "1 item_id of .* such as item_id 'a'; keep one"),
        (
            CATALOGUE.with_columns(item_id=pl.Series(["a", None, "c"])),
            "'item_id' of the catalogue is null in 1 of 3 rows",
        ),
        (CATALOGUE.with_columns(item_id=pl.Series([1.0, 2.0, 3.0])), "all str or all int ids"),
        (CATALOGUE.with_columns(name=pl.Series([1, 2, 3])), "'name' .* has to hold str, got Int64"),
        (CATALOGUE.with_columns(split=pl.lit("test")), "'train' or 'heldout', got 'test'"),
        (
            CATALOGUE.with_columns(split=pl.Series(["train", "heldout", "heldout"])),
            "1 concepts .* such as 'one'; give all items of a concept the same 'split'",
        ),
    ],
)
def test_bad_catalogues(table, message):
    with pytest.raises(DataError, match=message):
        validate_catalogue(table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (INTERACTIONS.drop("user_id"), "no column 'user_id'; other columns there: none"),
        (
            INTERACTIONS.rename({"user_id": "uid"}),
            "no column 'user_id'; rename 'uid' if",
        ),
        (INTERACTIONS.rename({"timestamp": "timestamps"}), "did you mean 'timestamp'"),
        (
            pl.concat([INTERACTIONS, INTERACTIONS[:1]]),
            r"1 user_id \+ item_id .* such as user_id 1, item_id 'a'; choose with .*deduplicate",
        ),
        (INTERACTIONS.with_columns(pl.col("timestamp") * 10**12), "has to be in seconds, got 5000"),
        (INTERACTIONS.with_columns(pl.col("timestamp").cast(pl.Float64)), "whole seconds"),
        (
            INTERACTIONS.with_columns(pl.col("timestamp").cast(pl.Datetime)),
            r"has to hold whole seconds .*got Datetime.*epoch\('s'\)",
        ),
        (INTERACTIONS.with_columns(weight=pl.Series([1.0, 0.0, 1.0])), "such as .*item_id 'b'"),
        (INTERACTIONS.with_columns(weight=pl.lit(float("nan"))), "3 rows are not"),
        (INTERACTIONS.with_columns(weight=pl.Series([1.0, None, 1.0])), "null in 1 of 3 rows"),
        (INTERACTIONS.with_columns(weight=pl.lit("high")), "has to hold numbers, got String"),
        (INTERACTIONS.with_columns(user_id=pl.lit(2**63, pl.UInt64)), "beyond int64; use str"),
        (INTERACTIONS.with_columns(user_id=pl.lit(None)), "all str or all int ids, got Null"),
    ],
)
def test_bad_interactions(table, message):
    with pytest.raises(DataError, match=message):
        validate_interactions(table)


def test_the_source_is_named():
    with pytest.raises(DataError, match=r"^likes.csv has no column 'item_id'"):
        validate_interactions(INTERACTIONS.drop("item_id"), source="likes.csv")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("rank", [3, 1, 1], r"has to run 1, 2, .. n for every user, got user_id 1.*rank 3"),
        ("rank", [1, 1, 1], "has to run 1, 2"),
        ("rank", [1, 1, 0], "has to run 1, 2"),
        ("rank", [1.0, 1.0, 2.0], "has to hold whole numbers, got Float64"),
        ("score", [0.1, float("inf"), 0.2], "'score' .* has to be finite, got user_id 2"),
        ("item_id", ["a", "a", "a"], "recommend an item once per user"),
    ],
)
def test_bad_recommendations(column, values, message):
    with pytest.raises(DataError, match=message):
        validate_recommendations(RECOMMENDATIONS.with_columns(pl.Series(column, values)))


def test_threshold():
    kept = threshold(INTERACTIONS, 2)
    assert kept.rows() == [(1, "b", 6), (2, "a", 7)]
    with pytest.raises(DataError, match="weight of at least 4, the highest is 3"):
        threshold(INTERACTIONS, 4)
    with pytest.raises(DataError, match="needs the column 'weight'"):
        threshold(kept, 2)
