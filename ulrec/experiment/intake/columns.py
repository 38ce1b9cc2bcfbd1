"""Tables as other people write them: any delimiter, with a header or none, other names."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from ulrec.data.schema import (
    CATEGORY,
    ITEM_ID,
    NAME,
    PATH,
    SUBCATEGORY,
    TIMESTAMP,
    USER_ID,
    WEIGHT,
)
from ulrec.data.tables import WHOLE_NUMBER, read_table
from ulrec.errors import DataError
from ulrec.experiment.intake.survey import Finding

__all__ = ["NAMELESS", "as_ids", "find_column", "looks_like_interactions", "read_foreign"]

NAMELESS = "column 1"
"""The first column's name where a table has no header."""

NAMES: Mapping[str, tuple[str, ...]] = {
    USER_ID: (
        *("userid", "user", "uid", "customerid", "customer", "clientid", "client", "visitorid"),
        *("visitor", "accountid", "memberid", "reviewerid", "profileid", "sessionid", "session"),
    ),
    ITEM_ID: (
        *("itemid", "item", "iid", "productid", "product", "sku", "articleid", "article", "asin"),
        *("movieid", "movie", "filmid", "bookid", "isbn", "trackid", "songid", "contentid"),
        *("mediaid", "imageid", "pictureid", "photoid", "postid", "listingid", "recipeid", "id"),
    ),
    TIMESTAMP: (
        *("timestamp", "time", "ts", "datetime", "date", "createdat", "eventtime", "tdat"),
        *("unixreviewtime", "unixtime", "orderdate", "invoicedate"),
    ),
    WEIGHT: (
        *("weight", "rating", "score", "stars", "overall", "preference", "value", "count"),
        *("quantity", "plays", "playcount", "clicks"),
    ),
    PATH: ("file", "filename", "filepath", "image", "imagepath", "imagefile", "picture", "poster"),
    NAME: ("title", "productname", "itemname", "prodname"),
    CATEGORY: ("categoryname", "department", "genre", "producttype", "producttypename", "class"),
    SUBCATEGORY: ("subcategoryname",),
}
"""Names under which columns go, letters and digits only, the best first."""

SEPARATORS = ("\t", ",", ";", "|", "::")
LINES = 50


def read_foreign(path: Path, findings: list[Finding]) -> pl.DataFrame:
    """Read a parquet file as it is or a text file as strings, naming columns that have no header.

    Raises
    ------
    DataError
        If it cannot be parsed as a table of at least two columns.
    """
    if path.suffix.lower() == ".parquet":
        return read_table(path)
    encoding, lines = _first_lines(path)
    separator = _separator(lines)
    if separator is None:
        raise DataError(
            f"{path} is no table of two or more columns separated by a tab, comma, semicolon, bar"
            " or '::'; convert it to csv or parquet"
        )
    if encoding != "utf-8":
        text = f"{path.name} is not UTF-8 and was read as Latin-1"
        findings.append(Finding(level="warning", text=text, remedy="check names with accents"))
    header = _has_header(_cells(lines[0], separator), _cells(lines[-1], separator))
    try:
        table = pl.read_csv(
            path,
            separator=separator[0],
            has_header=header,
            infer_schema=False,
            glob=False,
            encoding="utf8" if encoding == "utf-8" else "latin-1",
            quote_char='"' if any('"' in line for line in lines) else None,
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as a table ({error}); convert it") from error
    if separator == "::":  # read as one colon, every other column is what stands between two
        table = table.select(table.columns[::2])
    if not header:
        further = [f"column {number}" for number in range(2, len(table.columns) + 1)]
        table.columns = [NAMELESS, *further]
    return table


def looks_like_interactions(path: Path) -> bool:
    """Judge a file by its first lines: named users and items, or three or more bare numbers."""
    try:
        if path.suffix.lower() == ".parquet":
            names = list(pl.read_parquet_schema(path))
        else:
            _, lines = _first_lines(path)
            separator = _separator(lines)
            if separator is None:
                return False
            names = _cells(lines[0], separator)
            if len(names) > 2 and not _has_header(names, _cells(lines[-1], separator)):
                return sum(_is_number(cell) for cell in names) > 2
    except (DataError, pl.exceptions.PolarsError, OSError):
        return False
    return all(find_column(names, wanted) is not None for wanted in (USER_ID, ITEM_ID))


def find_column(names: Collection[str], wanted: str) -> str | None:
    """Return the column that goes under one of the known names of ``wanted``, the best of them.

    Examples
    --------
    >>> find_column(["userId", "movieId", "rating"], "item_id")
    'movieId'
    """
    plain = {re.sub(r"[^a-z0-9]", "", name.lower().partition(":")[0]): name for name in names}
    known = (re.sub("_", "", wanted), *NAMES.get(wanted, ()))
    return next((plain[name] for name in known if name in plain), None)


def as_ids(column: pl.Series) -> pl.Series:
    """Return ids as Int64 where every one is a plain whole number, else as String.

    Examples
    --------
    >>> as_ids(pl.Series(["7", "12"])).to_list(), as_ids(pl.Series(["007", "12"])).to_list()
    ([7, 12], ['007', '12'])
    >>> as_ids(pl.Series([7.0, 12.0])).to_list()
    [7, 12]
    """
    if column.dtype.is_float() and (column == column.round()).all():
        return column.cast(pl.Int64)
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    text = column.cast(pl.String).str.strip_chars()
    plain = text.str.replace(r"^(\d+)\.0$", "$1")
    for candidate in (text, plain):
        if candidate.str.contains(WHOLE_NUMBER).all():
            return candidate.cast(pl.Int64)
    return text


def _first_lines(path: Path) -> tuple[str, list[str]]:
    if not path.is_file():
        raise DataError(f"table not found: {path}; check the path")
    with path.open("rb") as file:
        start = file.read(2**18)
    whole = start[: start.rfind(b"\n") + 1] or start
    for encoding in ("utf-8", "latin-1"):
        try:
            lines = [line for line in whole.decode(encoding).splitlines() if line.strip()]
        except UnicodeDecodeError:
            continue
        if not lines:
            raise DataError(f"{path} is empty; give another table")
        return encoding, [lines[0].removeprefix("\ufeff"), *lines[1:LINES]]
    raise AssertionError("Latin-1 decodes any bytes")


def _separator(lines: list[str]) -> str | None:
    """Return what cuts all lines into the same number of fields, the most of them."""
    best, fields = None, 1
    for separator in SEPARATORS:
        counts = {len(_cells(line, separator)) for line in lines}
        if len(counts) == 1 and (found := counts.pop()) > fields:
            best, fields = separator, found
    return best


def _cells(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _has_header(first: list[str], last: list[str]) -> bool:
    """Known names are a header, and so is text above numbers."""
    if any(find_column(first, wanted) for wanted in (USER_ID, ITEM_ID)):
        return True
    pairs = zip(first, last, strict=False)
    return any(_is_number(below) and not _is_number(above) for above, below in pairs)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*-?\d+(\.\d*)?([eE][+-]?\d+)?\s*", text) is not None
