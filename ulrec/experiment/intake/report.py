"""What is said of a foreign catalogue, as it is found out."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from ulrec.data.pictures import MediaConfig
from ulrec.data.schema import ITEM_ID, PATH, USER_ID
from ulrec.errors import DataError
from ulrec.experiment.intake.survey import Finding, Survey, judge_media

__all__ = ["Report", "describe_interactions", "describe_media"]

MOST_BAD = 0.5


@dataclass(frozen=True)
class Report:
    """What was seen so far."""

    facts: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def describe_media(survey: Survey, report: Report) -> None:
    """Say what pictures there are.

    Raises
    ------
    DataError
        If none, or fewer than half, can be opened.
    """
    table, readable = survey.pictures, survey.readable
    megabytes = int(table["num_bytes"].sum()) / 1e6
    report.facts.append(
        ("pictures", f"{len(table):,}, {megabytes:,.1f} MB: {_counts(readable['format'])}")
    )
    if survey.moving:
        moving = int(readable["animated"].sum())
        videos = int((readable["mode"] == "video").sum())
        told = f"{moving:,} of {len(table):,} files move ({videos:,} are videos): a run of clips"
        report.facts.append(("clips", told))
    if survey.others:
        listed = ", ".join(f"{n:,} {ending}" for ending, n in survey.others.most_common(5))
        report.facts.append(("other files", listed))
    if readable.is_empty():
        examples = ", ".join(table.head(3)[PATH].to_list()) or "no file of a known ending"
        raise DataError(f"no picture can be opened ({examples}); check the folder")
    aspect = readable["width"] / readable["height"]
    sides = [f"{side} {_quantiles(readable[side])}" for side in ("width", "height")]
    report.facts.append(("sizes", f"{', '.join(sides)} (5 %, median, 95 %)"))
    report.facts.append(("width/height", _quantiles(aspect, digits=2)))
    turned = int(readable["turned"].sum())
    modes = _counts(readable["mode"]) + (f"; {turned:,} turned by EXIF" if turned else "")
    report.facts.append(("modes", modes))
    report.findings.extend(judge_media(survey, max_pixels=MediaConfig().max_pixels))
    bad = 1 - len(readable) / len(table)
    if bad > MOST_BAD:
        raise DataError(f"{bad:.0%} of the pictures cannot be opened; check the folder")


def describe_interactions(table: pl.DataFrame, known: pl.DataFrame, report: Report) -> None:
    """Say what interactions there are; ``known`` are those whose item has a picture."""
    users, items = table[USER_ID].n_unique(), table[ITEM_ID].n_unique()
    density = len(table) / (users * items)
    counts = table.group_by(USER_ID).len()["len"]
    single = int((counts < 2).sum())
    text = (
        f"{len(table):,} of {users:,} users and {items:,} items, {density:.2%} of all pairs;"
        f" {_quantiles(counts)} a user (5 %, median, 95 %)"
    )
    report.facts.append(("", text))
    if single:
        told = f"{single:,} of {users:,} users have a single interaction: too few to test on"
        report.findings.append(Finding(level="note", text=told))
    if len(known) < len(table):
        lost = table.join(known, on=ITEM_ID, how="anti")[ITEM_ID].unique(maintain_order=True)
        share = 1 - len(known) / len(table)
        examples = ", ".join(repr(i) for i in lost.head(3).to_list())
        what = f"{len(lost):,} items without a picture"
        told = f"{share:.1%} of the interactions name {what}: {examples}"
        remedy = "add their pictures; until then these interactions are left out"
        report.findings.append(Finding(level="warning", text=told, remedy=remedy))


def _counts(column: pl.Series) -> str:
    counts = column.value_counts(sort=True)
    return ", ".join(f"{number:,} {name}" for name, number in counts.iter_rows())


def _quantiles(column: pl.Series, *, digits: int = 0) -> str:
    values = (column.quantile(share) or 0 for share in (0.05, 0.5, 0.95))
    return " / ".join(f"{value:,.{digits}f}" for value in values)
