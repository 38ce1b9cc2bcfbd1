"""Tables of the outside world: read by ending, checked once at the edge, never repaired silently.

Every ``validate_*`` function returns the table with canonical types (ids String or Int64,
timestamps Int64 seconds, numbers Float64) when nothing is lost by the cast, and raises otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import polars as pl

from ulrec.data.schema import (
    CATEGORY,
    CLIP,
    CONCEPT,
    DURATION_MS,
    HELDOUT,
    IMAGE,
    ITEM_ID,
    MASK,
    MEDIA_COLUMNS,
    NAME,
    NUM_FRAMES,
    PATH,
    RANK,
    SCORE,
    SPLIT,
    SUBCATEGORY,
    TIMESTAMP,
    TRAIN,
    USER_ID,
    WEIGHT,
)
from ulrec.errors import DataError

__all__ = [
    "read_table",
    "threshold",
    "validate_catalogue",
    "validate_interactions",
    "validate_recommendations",
]

Kind = Literal["id", "text", "bytes", "seconds", "number", "count"]

ID_COLUMNS = (USER_ID, ITEM_ID)
CATALOGUE: Mapping[str, Kind] = {
    ITEM_ID: "id",
    IMAGE: "bytes",
    CLIP: "bytes",
    PATH: "text",
    MASK: "bytes",
    NAME: "text",
    CATEGORY: "text",
    SUBCATEGORY: "text",
    CONCEPT: "text",
    SPLIT: "text",
    NUM_FRAMES: "count",
    DURATION_MS: "count",
}
INTERACTIONS: Mapping[str, Kind] = {
    USER_ID: "id",
    ITEM_ID: "id",
    TIMESTAMP: "seconds",
    WEIGHT: "number",
}
RECOMMENDATIONS: Mapping[str, Kind] = {
    USER_ID: "id",
    ITEM_ID: "id",
    SCORE: "number",
    RANK: "count",
}

# A picture may be missing (it is quarantined when media are prepared) and so may a description.
# What decides on leakage may not.
MAY_BE_NULL = frozenset(
    {IMAGE, CLIP, PATH, MASK, NAME, CATEGORY, SUBCATEGORY, NUM_FRAMES, DURATION_MS}
)

# Seconds reach this value in the year 5138; milliseconds passed it in 1973.
LATEST_SECONDS = 100_000_000_000

WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"


def read_table(path: str | Path, *, ids: Literal["infer", "str", "int"] = "infer") -> pl.DataFrame:
    """Read a table by the ending of its name: .parquet, .csv or .tsv (with a header line).

    Parameters
    ----------
    path
        The file.
    ids
        How the id columns of a text file are read. "infer" takes them as int if every one is a
        plain whole number without leading zeros, as str otherwise. A parquet file has types.

    Raises
    ------
    DataError
        If the file is missing, has another ending, cannot be parsed, or an id is not an int though
        that was asked for.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"table not found: {path}; check the path")
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            return pl.read_parquet(path, glob=False)
        if ending in (".csv", ".tsv"):
            return _read_text(path, separator="," if ending == ".csv" else "\t", ids=ids)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read as {ending[1:]}: {error}") from error
    raise DataError(f"a table ends in .parquet, .csv or .tsv, got {path.name}; convert it")


def validate_catalogue(
    table: pl.DataFrame, *, source: str | Path = "the catalogue"
) -> pl.DataFrame:
    """Check a catalogue: what can be recommended, and its pictures or clips.

    Parameters
    ----------
    table
        One row per item: [item_id, image | clip | path] and any of [mask, name, category,
        subcategory, concept, split, num_frames, duration_ms]. ``split`` holds "train" or "heldout";
        items of one ``concept`` share it.
    source
        What messages call the table, such as its file.

    Returns
    -------
    pl.DataFrame
        The table with canonical types, columns and rows in the given order.

    Raises
    ------
    DataError
        On a missing or unknown column, a wrong type, a null, a repeated id, an unknown split, or a
        concept on both sides of the split.
    """
    table = _conform(table, CATALOGUE, required=(ITEM_ID,), source=source)
    found = [name for name in MEDIA_COLUMNS if name in table.columns]
    if len(found) != 1:
        raise DataError(
            f"{source} needs exactly one of '{IMAGE}', '{CLIP}' (encoded bytes) and '{PATH}' (a"
            f" file under the media root), got {' and '.join(found) or _none(table.columns)}"
        )
    _refuse_repeats(table, [ITEM_ID], source, remedy="keep one row per item")
    if SPLIT in table.columns:
        _check_split(table, source)
    return table


def validate_interactions(
    table: pl.DataFrame, *, source: str | Path = "the interactions"
) -> pl.DataFrame:
    """Check interactions [user_id, item_id, (timestamp), (weight)].

    Parameters
    ----------
    table
        One row per (user, item) pair; timestamps are whole seconds, weights positive.
    source
        What messages call the table, such as its file.

    Returns
    -------
    pl.DataFrame
        The table with canonical types, columns and rows in the given order.

    Raises
    ------
    DataError
        On a missing or unknown column, a wrong type, a null, a repeated pair, a timestamp that is
        not in seconds, or a weight that is not positive and finite.
    """
    table = _conform(table, INTERACTIONS, required=ID_COLUMNS, source=source)
    remedy = "choose with ulrec.data.splits.deduplicate(table, keep='first' or 'last')"
    _refuse_repeats(table, list(ID_COLUMNS), source, remedy=remedy)
    if TIMESTAMP in table.columns:
        _check_seconds(table, source)
    if WEIGHT in table.columns:
        bad = table.filter(~(pl.col(WEIGHT).is_finite() & (pl.col(WEIGHT) > 0)))
        if len(bad):
            raise DataError(
                f"'{WEIGHT}' of {source} has to be positive and finite, {len(bad)} rows are not,"
                f" such as {_row(bad)}; drop them"
            )
    return table


def validate_recommendations(
    table: pl.DataFrame, *, source: str | Path = "the recommendations"
) -> pl.DataFrame:
    """Check recommendations [user_id, item_id, score, rank], ranks 1 .. n for every user.

    Scores need not fall with the rank: a diversified list is a list.

    Returns
    -------
    pl.DataFrame
        The table with canonical types, columns and rows in the given order.

    Raises
    ------
    DataError
        On a missing or unknown column, a wrong type, a null, an item twice for a user, a score that
        is not finite, or ranks that are not 1 .. n.
    """
    columns = tuple(RECOMMENDATIONS)
    table = _conform(table, RECOMMENDATIONS, required=columns, source=source, empty=True)
    _refuse_repeats(table, list(ID_COLUMNS), source, remedy="recommend an item once per user")
    bad = table.filter(~pl.col(SCORE).is_finite())
    if len(bad):
        raise DataError(f"'{SCORE}' of {source} has to be finite, got {_row(bad)}; drop the row")
    expected = pl.int_range(1, pl.len() + 1).over(USER_ID)
    gaps = table.sort(USER_ID, RANK).filter(pl.col(RANK) != expected)
    if len(gaps):
        raise DataError(
            f"'{RANK}' of {source} has to run 1, 2, .. n for every user, got {_row(gaps)};"
            " rank the rows of each user again"
        )
    return table


def threshold(interactions: pl.DataFrame, min_weight: float) -> pl.DataFrame:
    """Keep the pairs of at least ``min_weight`` (a rating, say) as likes that all count the same.

    The column of weights is dropped: what was a rating is no confidence.

    Raises
    ------
    DataError
        If there is no weight, or none is high enough.

    Examples
    --------
    >>> ratings = pl.DataFrame({"user_id": [1, 1], "item_id": [7, 8], "weight": [3.0, 4.0]})
    >>> threshold(ratings, 4).rows()
    [(1, 8)]
    """
    if WEIGHT not in interactions.columns:
        raise DataError(f"a threshold needs the column '{WEIGHT}'; leave it out or add the column")
    kept = interactions.filter(pl.col(WEIGHT) >= min_weight).drop(WEIGHT)
    if not len(kept):
        raise DataError(
            f"no interaction has a weight of at least {min_weight}, the highest is"
            f" {interactions[WEIGHT].max()!r}; lower the threshold"
        )
    return kept


def _read_text(path: Path, *, separator: str, ids: str) -> pl.DataFrame:
    names = pl.read_csv(path, separator=separator, n_rows=0, glob=False).columns
    table = pl.read_csv(
        path,
        separator=separator,
        glob=False,
        infer_schema_length=None,
        schema_overrides={name: pl.String for name in ID_COLUMNS if name in names},
    )
    for name in ID_COLUMNS:
        if name in names and ids != "str":
            column = _whole_numbers(table[name], demanded=ids == "int", path=path)
            table = table.with_columns(column)
    return table


def _whole_numbers(column: pl.Series, *, demanded: bool, path: Path) -> pl.Series:
    """Return ids as Int64 where nothing is lost: "007" is not 7."""
    odd = column.filter(~column.str.contains(WHOLE_NUMBER).fill_null(value=True))
    if not len(odd):
        return column.cast(pl.Int64)
    if demanded:
        raise DataError(
            f"'{column.name}' of {path} has to hold whole numbers, got {odd[0]!r}; read it as str"
        )
    return column


def _conform(
    table: pl.DataFrame,
    schema: Mapping[str, Kind],
    *,
    required: Iterable[str],
    source: str | Path,
    empty: bool = False,
) -> pl.DataFrame:
    """Check names, types and nulls against a schema; cast where that loses nothing."""
    missing = [name for name in required if name not in table.columns]
    if missing:
        strangers = [name for name in table.columns if name not in schema]
        raise DataError(f"{source} has no column '{missing[0]}'; {_closest(missing[0], strangers)}")
    for name in table.columns:
        if name not in schema:
            absent = [known for known in schema if known not in table.columns]
            close = difflib.get_close_matches(name, absent, n=1)
            hint = f"did you mean '{close[0]}'? Rename" if close else "drop"
            raise DataError(
                f"{source} has an unknown column '{name}'; {hint} it (known: {', '.join(schema)})"
            )
    if not len(table) and not empty:
        raise DataError(f"{source} has no rows")
    table = table.with_columns(_cast(table[name], schema[name], source) for name in table.columns)
    for name in table.columns:
        count = table[name].null_count()
        if count and name not in MAY_BE_NULL:
            raise DataError(
                f"'{name}' of {source} is null in {count} of {len(table)} rows; fill or drop them"
            )
    return table


def _closest(name: str, columns: list[str]) -> str:
    close = difflib.get_close_matches(name, columns, n=1)
    if close:
        return f"rename '{close[0]}' if that is what it means"
    return f"other columns there: {', '.join(columns) or 'none'}"


def _none(columns: list[str]) -> str:
    return f"none (columns: {', '.join(columns)})"


def _cast(column: pl.Series, kind: Kind, source: str | Path) -> pl.Series:
    dtype, where = column.dtype, f"'{column.name}' of {source}"
    is_text = dtype in (pl.String, pl.Categorical, pl.Enum)
    if kind == "id":
        if is_text:
            return column.cast(pl.String)
        if dtype.is_integer():
            return _to_int64(column, where)
        raise DataError(f"{where} has to hold all str or all int ids, got {dtype}; cast it")
    if kind == "text" and is_text:
        return column.cast(pl.String)
    if kind == "bytes" and dtype == pl.Binary:
        return column
    if kind in ("seconds", "count") and dtype.is_integer():
        return _to_int64(column, where)
    if kind == "number" and dtype.is_numeric():
        return column.cast(pl.Float64)
    raise DataError(f"{where} {_EXPECTED[kind]}, got {dtype}; {_REMEDY[kind]}")


_EXPECTED: Mapping[Kind, str] = {
    "text": "has to hold str",
    "bytes": "has to hold encoded pictures or clips (binary)",
    "seconds": "has to hold whole seconds (int64)",
    "number": "has to hold numbers",
    "count": "has to hold whole numbers",
}
_REMEDY: Mapping[Kind, str] = {
    "text": "cast it",
    "bytes": "read the files, or name them in a column 'path'",
    "seconds": "convert it, for example with polars .dt.epoch('s') or .cast(pl.Int64)",
    "number": "cast it",
    "count": "cast it",
}


def _to_int64(column: pl.Series, where: str) -> pl.Series:
    try:
        return column.cast(pl.Int64)
    except pl.exceptions.InvalidOperationError as error:
        raise DataError(f"{where} holds values beyond int64; use str") from error


def _refuse_repeats(
    table: pl.DataFrame, columns: list[str], source: str | Path, *, remedy: str
) -> None:
    ids = table.select(columns)
    repeated = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if len(repeated):
        raise DataError(
            f"{len(repeated)} {' + '.join(columns)} of {source} occur more than once,"
            f" such as {_row(repeated)}; {remedy}"
        )


def _check_split(table: pl.DataFrame, source: str | Path) -> None:
    unknown = sorted(set(table[SPLIT].unique()) - {TRAIN, HELDOUT})
    if unknown:
        raise DataError(
            f"'{SPLIT}' of {source} has to be '{TRAIN}' or '{HELDOUT}', got {unknown[0]!r}"
        )
    if CONCEPT not in table.columns:
        return
    sides = table.group_by(CONCEPT, maintain_order=True).agg(pl.col(SPLIT).n_unique())
    straddling = sides.filter(pl.col(SPLIT) > 1)[CONCEPT]
    if len(straddling):
        raise DataError(
            f"{len(straddling)} concepts of {source} are on both sides of the split, such as"
            f" {straddling[0]!r}; give all items of a concept the same '{SPLIT}'"
        )


def _check_seconds(table: pl.DataFrame, source: str | Path) -> None:
    late = table.filter(pl.col(TIMESTAMP).abs() >= LATEST_SECONDS)
    if len(late):
        raise DataError(
            f"'{TIMESTAMP}' of {source} has to be in seconds, got {late[TIMESTAMP][0]} (beyond the"
            " year 5000); divide milliseconds by 1000"
        )


def _row(table: pl.DataFrame) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in table.row(0, named=True).items())
