"""Results on disk: tables, per-user values and the protocol, which never part.

A folder of results is an artefact: ``metrics.json`` for people and scripts, a parquet file for each
table, ``per_user.parquet`` for tests between results, and ``report.html``. A run's evaluation is
such a folder too, so that whatever was evaluated can be compared with whatever else was.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ulrec.checkpoint import new_artefact, open_artefact
from ulrec.data.schema import ITEM_ID, USER_ID, VALUE
from ulrec.errors import ArtefactError, DataError
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.report import NamedTable, Report, Section, render

__all__ = ["KIND", "Result", "load_results", "save_results", "write_results"]

KIND = "evaluation"
METRICS_FILE, PER_USER, REPORT_FILE = "metrics.json", "per_user.parquet", "report.html"
RESULT = "result"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A table of figures with what it takes to believe and to compare them.

    Attributes
    ----------
    name
        Short, of letters, digits and underscores; it names the files.
    protocol
        How the figures came about.
    summary
        One row a figure.
    per_user
        The values behind them, [user_id, ..., value], or [item_id, ..., value] where items are the
        independent units: the columns between ("metric", "k", "arm") say which figure a value
        belongs to. None where there are none.
    notes
        What a reader has to know: definitions, and who is left out and why.
    title
        Above the table; the name by default.

    Raises
    ------
    DataError
        If the name cannot name a file, or per-user values are incomplete, repeated or not finite.
    """

    name: str
    protocol: Protocol
    summary: pl.DataFrame
    per_user: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.isidentifier()) or self.name == RESULT:
            raise DataError(
                f"a result's name has to be letters, digits and underscores, got {self.name!r}"
            )
        if self.per_user is not None:
            _check_per_user(self.name, self.per_user)

    @property
    def unit(self) -> str:
        """The column of the independent units, users or items."""
        return _unit(self.per_user)

    @property
    def keys(self) -> list[str]:
        """The columns of the per-user values that say which figure one belongs to."""
        columns = [] if self.per_user is None else self.per_user.columns
        return [name for name in columns if name not in (self.unit, VALUE)]


def save_results(
    folder: str | Path, results: Sequence[Result], *, title: str, simulated: bool = False
) -> str:
    """Write results with a page that shows them, whole or not at all; returns the fingerprint.

    Parameters
    ----------
    folder
        New, or a folder of results, which is replaced.
    results
        In the order in which the page shows them.
    title
        Of the page.
    simulated
        Whether users were drawn by ulrec; the page says so.

    Raises
    ------
    DataError
        If there are none, or two have one name.
    ArtefactError
        If something else stands at ``folder``.
    """
    with new_artefact(folder, kind=KIND) as temporary:
        write_results(temporary, results, simulated=simulated)
        page = Report(
            title=title,
            simulated=simulated,
            sections=[_section(result) for result in results],
            provenance={result.name: dataclasses.asdict(result.protocol) for result in results},
        )
        (temporary / REPORT_FILE).write_text(render(page), encoding="utf-8")
    return open_artefact(folder, kind=KIND, verify=False).fingerprint


def write_results(
    folder: Path,
    results: Sequence[Result],
    *,
    simulated: bool,
    headline: Sequence[Mapping[str, str]] = (),
    missing: Mapping[str, str] | None = None,
) -> str:
    """Write the files of results into a folder that is being made; returns ``metrics.json``'s text.

    Parameters
    ----------
    folder
        Exists.
    results
        What to write.
    simulated
        Whether users were drawn by ulrec.
    headline
        Figures for the top of a report.
    missing
        Of tables that cannot be, why.

    Raises
    ------
    DataError
        If there are none, or two have one name.
    """
    names = [result.name for result in results]
    if not names or len(set(names)) != len(names):
        raise DataError(f"results need different names, and at least one result, got {names}")
    protocols = [dataclasses.asdict(result.protocol) for result in results]
    content = {
        "simulated": simulated,
        "protocol": {k: v for k, v in protocols[0].items() if all(p[k] == v for p in protocols)},
        "headline": list(headline),
        "tables": {
            result.name: {
                "title": result.title or result.name.replace("_", " "),
                "note": " ".join(result.notes),
                "notes": list(result.notes),
                "protocol": protocol,
                "rows": result.summary.to_dicts(),
            }
            for result, protocol in zip(results, protocols, strict=True)
        },
        "missing": dict(missing or {}),
    }
    text = json.dumps(_plain(content), indent=1, allow_nan=False)
    (folder / METRICS_FILE).write_text(text, encoding="utf-8")
    for result in results:
        result.summary.write_parquet(folder / f"{result.name}.parquet")
    values = [_labelled(result) for result in results if result.per_user is not None]
    if values:
        pl.concat(values, how="diagonal").write_parquet(folder / PER_USER)
    return text


def load_results(folder: str | Path) -> list[Result]:
    """Read results that :func:`save_results` wrote, or those of a run.

    Parameters
    ----------
    folder
        Of results, or of a run (then its evaluation is read).

    Raises
    ------
    ArtefactError
        If there are none, or they are damaged.
    """
    folder = Path(folder)
    if (folder / KIND).is_dir():
        folder = folder / KIND
    open_artefact(folder, kind=KIND)
    try:
        content = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
        path = folder / PER_USER
        values = pl.read_parquet(path) if path.is_file() else None
        return [
            Result(
                name=name,
                title=entry["title"],
                notes=tuple(entry["notes"]),
                protocol=Protocol(**entry["protocol"]),
                summary=pl.read_parquet(folder / f"{name}.parquet"),
                per_user=_of(name, values),
            )
            for name, entry in content["tables"].items()
        ]
    except (ValueError, KeyError, TypeError, OSError, pl.exceptions.PolarsError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ArtefactError(
            f"the results at {folder} are of another version or damaged ({reason}); evaluate again"
        ) from error


def _unit(values: pl.DataFrame | None) -> str:
    return ITEM_ID if values is not None and USER_ID not in values.columns else USER_ID


def _check_per_user(name: str, values: pl.DataFrame) -> None:
    missing = [column for column in (_unit(values), VALUE) if column not in values.columns]
    if missing or RESULT in values.columns:
        raise DataError(
            f"per-user values of {name} need the columns {USER_ID} (or {ITEM_ID}) and {VALUE}, and "
            f"none called {RESULT!r}, got {values.columns}"
        )
    bad = values.filter(pl.col(VALUE).is_null() | ~pl.col(VALUE).cast(pl.Float64).is_finite())
    if bad.height:
        raise DataError(
            f"{bad.height} per-user values of {name} are null or not finite; leave those users out "
            "and say how many in the notes"
        )
    keys = values.drop(VALUE)
    repeated = keys.is_duplicated().sum()
    if repeated:
        raise DataError(
            f"{repeated} per-user values of {name} are not told apart by {keys.columns}: one value "
            "a user and figure is needed; add the column that tells them apart"
        )


def _labelled(result: Result) -> pl.DataFrame:
    """Return per-user values with the name of their result; ids are text: tables are joined."""
    assert result.per_user is not None
    return result.per_user.select(
        pl.lit(result.name).alias(RESULT),
        pl.col(result.unit).cast(pl.String),
        pl.exclude(result.unit, VALUE),
        pl.col(VALUE).cast(pl.Float64),
    )


def _of(name: str, values: pl.DataFrame | None) -> pl.DataFrame | None:
    """Return the per-user values of one result, without the columns that it does not have."""
    if values is None:
        return None
    own = values.filter(pl.col(RESULT) == name).drop(RESULT)
    if own.is_empty():
        return None
    return own.select(c for c in own.columns if own[c].null_count() < own.height)


def _section(result: Result) -> Section:
    title = result.title or result.name.replace("_", " ")
    table = NamedTable("", result.summary, " ".join(result.notes))
    return Section(title=title, tables=[table])


def _plain(value: Any) -> Any:
    """Return plain JSON data; what is not a number is null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
