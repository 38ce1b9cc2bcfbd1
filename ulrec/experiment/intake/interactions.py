"""What a foreign table of interactions means: which column is what, and in which unit.

Nothing is repaired silently: every change that the table needs is a finding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ulrec.data.schema import ITEM_ID, TIMESTAMP, USER_ID, WEIGHT
from ulrec.data.splits import deduplicate
from ulrec.data.tables import LATEST_SECONDS, read_table, validate_interactions
from ulrec.errors import DataError
from ulrec.experiment.intake.columns import NAMELESS, as_ids, find_column, read_foreign
from ulrec.experiment.intake.survey import Finding

__all__ = ["Guess", "guess_interactions"]

# Units of a number that counts from 1970, by its size: a second of 1973 to one of the year 5138.
UNITS = ((1e8, LATEST_SECONDS, 1, "s"), (1e11, 1e14, 10**3, "ms"), (1e14, 1e17, 10**6, "us"))
NANOSECONDS = 10**9
DAYS_AS_NUMBERS = (19000101, 21001231)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """Interactions under the names and types of ulrec.

    Attributes
    ----------
    table
        [user_id, item_id, (timestamp), (weight)], one row a pair; as validate_interactions has it,
        except that the weights may be zero or negative.
    columns
        Name in ulrec -> name in the table that was given.
    source
        The file it came from, if any.
    as_is
        Whether that file can be read as it stands.
    facts, findings
        What to say of it.
    """

    table: pl.DataFrame
    columns: Mapping[str, str]
    source: Path | None
    as_is: bool
    facts: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)


def guess_interactions(
    source: Path | pl.DataFrame, *, stems: Collection[str] = frozenset()
) -> Guess:
    """Read a table of interactions, whatever it looks like.

    Parameters
    ----------
    source
        A parquet file, a text file with any usual delimiter, with or without a header, or a table.
    stems
        Names of pictures without their endings: they tell users and items without names apart.

    Raises
    ------
    DataError
        If it cannot be read, or which columns hold users and items cannot be told.
    """
    if isinstance(source, Path):
        try:
            table = validate_interactions(read_table(source), source=source)
        except DataError:
            pass  # it needs more than reading
        else:
            same = {name: name for name in table.columns}
            return Guess(table=table, columns=same, source=source, as_is=True)
    findings: list[Finding] = []
    raw = read_foreign(source, findings) if isinstance(source, Path) else source
    columns = _columns(raw, source, stems, findings)
    table = raw.select(pl.col(theirs).alias(ours) for ours, theirs in columns.items())
    table = _without_nulls(table, findings)
    table = table.with_columns(as_ids(table[name]) for name in (USER_ID, ITEM_ID))
    if WEIGHT in columns:
        table = table.with_columns(_numbers(table[WEIGHT], columns[WEIGHT]))
    facts: tuple[str, ...] = ()
    if TIMESTAMP in columns:
        seconds, unit = _seconds(table[TIMESTAMP], columns[TIMESTAMP])
        table, facts = table.with_columns(seconds), (f"times were read as {unit}",)
    table = _one_row_a_pair(table, findings)
    path = source if isinstance(source, Path) else None
    return Guess(
        table=table, columns=columns, source=path, as_is=False, facts=facts, findings=findings
    )


def _columns(
    table: pl.DataFrame,
    source: Path | pl.DataFrame,
    stems: Collection[str],
    findings: list[Finding],
) -> dict[str, str]:
    what = source.name if isinstance(source, Path) else "the interactions"
    if table.columns[0] == NAMELESS:
        return _columns_by_place(table, what, stems, findings)
    found: dict[str, str] = {}
    for ours in (USER_ID, ITEM_ID, TIMESTAMP, WEIGHT):
        theirs = find_column([name for name in table.columns if name not in found.values()], ours)
        if theirs is not None:
            found[ours] = theirs
    for ours in (USER_ID, ITEM_ID):
        if ours not in found:
            raise DataError(
                f"which column of {what} is the {ours} cannot be told, it has"
                f" {', '.join(table.columns)}; rename that column to '{ours}'"
            )
    unused = [name for name in table.columns if name not in found.values()]
    if unused:
        text = f"{what} has columns that are not used: {', '.join(unused)}"
        findings.append(Finding(level="note", text=text))
    return found


def _columns_by_place(
    table: pl.DataFrame, what: str, stems: Collection[str], findings: list[Finding]
) -> dict[str, str]:
    """Tell columns without names apart: user, item, (weight), and what looks like a time."""
    head = table.head(1000)
    times = [name for name in table.columns if _looks_like_time(head[name])]
    rest = [name for name in table.columns if name not in times]
    if len(rest) < 2:
        raise DataError(
            f"{what} has no header, and users and items cannot be told apart in its"
            f" {len(table.columns)} columns; add a line 'user_id,item_id,..'"
        )
    user, item, *further = rest
    of_user, of_item = (int(head[name].is_in(list(stems)).sum()) for name in (user, item))
    if of_user > len(head) / 2 > of_item:
        user, item = item, user
    found = {USER_ID: user, ITEM_ID: item}
    if further and head[further[0]].cast(pl.Float64, strict=False).null_count() == 0:
        found[WEIGHT] = further[0]
    if times:
        found[TIMESTAMP] = times[0]
    told = ", ".join(f"{ours} = {theirs}" for ours, theirs in found.items())
    remedy = "check the first lines; add a header line if this is wrong"
    text = f"{what} has no header line; its columns were taken by their places: {told}"
    findings.append(Finding(level="warning", text=text, remedy=remedy))
    return found


def _looks_like_time(column: pl.Series) -> bool:
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count():
        return len(column) > 0 and _dates(column).null_count() == 0
    return bool((numbers >= UNITS[0][0]).all() and numbers.n_unique() > 1)


def _without_nulls(table: pl.DataFrame, findings: list[Finding]) -> pl.DataFrame:
    empty = [pl.col(n).str.strip_chars() == "" for n, t in table.schema.items() if t == pl.String]
    kept = table.filter(~pl.any_horizontal(pl.all().is_null(), *empty))
    if len(kept) < len(table):
        text = f"{len(table) - len(kept):,} of {len(table):,} interactions have an empty field"
        remedy = "they are left out; fill them in if they matter"
        findings.append(Finding(level="warning", text=text, remedy=remedy))
    if kept.is_empty():
        raise DataError("no interaction has a value in every column; check the delimiter")
    return kept


def _numbers(column: pl.Series, name: str) -> pl.Series:
    text = column if column.dtype.is_numeric() else column.cast(pl.String).str.replace(",", ".")
    numbers = text.cast(pl.Float64, strict=False)
    bad = column.filter(numbers.is_null() | ~numbers.is_finite())
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(column)} weights in '{name}' are no numbers, such as {bad[0]!r};"
            " drop these rows, or rename the column if it is no weight"
        )
    return numbers


def _seconds(column: pl.Series, name: str) -> tuple[pl.Series, str]:
    """Return whole seconds since 1970, and what the values were."""
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s").alias(TIMESTAMP), str(column.dtype)
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count():
        dates = _dates(column)
        if dates.null_count():
            bad = column.filter(dates.is_null())[0]
            raise DataError(
                f"times in '{name}' have to be dates or numbers, got {bad!r}; write ISO dates"
                " (2024-05-31 or 2024-05-31T12:00:00), or rename the column if it is no time"
            )
        return dates.dt.epoch("s").alias(TIMESTAMP), "dates (UTC where no zone is said)"
    low, high = DAYS_AS_NUMBERS
    if numbers.is_between(low, high).all():
        text = numbers.cast(pl.Int64).cast(pl.String)
        dates = text.str.to_datetime("%Y%m%d", strict=False, time_unit="us")
        if not dates.null_count():
            return dates.dt.epoch("s").alias(TIMESTAMP), "days written as YYYYMMDD"
    size = abs(float(numbers.median() or 0))  # type: ignore[arg-type]
    for least, beyond, divisor, unit in UNITS:
        if least <= size < beyond:
            return (numbers / divisor).floor().cast(pl.Int64).alias(TIMESTAMP), unit
    if size >= UNITS[-1][1]:
        seconds = column.cast(pl.Int64) // NANOSECONDS
        return seconds.alias(TIMESTAMP), "ns"
    return numbers.floor().cast(pl.Int64).alias(TIMESTAMP), "numbers without a known unit: an order"


def _dates(column: pl.Series) -> pl.Series:
    """Return text as moments of UTC, null where it is no date."""
    text = column.cast(pl.String).str.strip_chars()
    for zoned in (False, True):
        parsed = text.str.replace("Z$", "+00:00") if zoned else text
        try:
            moments = parsed.str.to_datetime(strict=False, time_unit="us")
        except pl.exceptions.PolarsError:  # no format fits the first values
            continue
        if moments.dtype.time_zone:  # type: ignore[attr-defined]
            moments = moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        if not moments.null_count():
            return moments
    return pl.Series(column.name, [None] * len(column), dtype=pl.Datetime("us"))


def _one_row_a_pair(table: pl.DataFrame, findings: list[Finding]) -> pl.DataFrame:
    """Keep the first time a user met an item, or what a user said of it last."""
    keep = "last" if WEIGHT in table.columns else "first"
    kept = deduplicate(table, keep=keep)  # type: ignore[arg-type]
    if len(kept) < len(table):
        text = f"{len(table) - len(kept):,} interactions repeat a pair of user and item"
        told = f"the {keep} of each pair is kept"
        findings.append(Finding(level="warning", text=text, remedy=told))
    return kept
