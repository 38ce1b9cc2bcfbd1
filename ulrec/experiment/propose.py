"""From a folder of media and a table of interactions, however messy, to a configuration.

Ids stay what they are in the interactions; the names of files are fitted to them. What is odd is
said, what cannot be used is left out and counted, and nothing is written where nothing is usable.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ulrec.checkpoint import write_text
from ulrec.data.pictures import MediaConfig
from ulrec.data.schema import CLIP, IMAGE, ITEM_ID, PATH, TIMESTAMP, USER_ID, WEIGHT
from ulrec.data.tables import validate_catalogue, validate_interactions
from ulrec.errors import ConfigError, DataError
from ulrec.experiment.intake.catalogue import (
    items_of_folder,
    items_of_table,
    rename_catalogue,
    rooted,
    with_categories,
    with_concepts,
)
from ulrec.experiment.intake.columns import looks_like_interactions, read_foreign
from ulrec.experiment.intake.interactions import Guess, guess_interactions
from ulrec.experiment.intake.recipe import (
    CLIP_FRAMES,
    Recipe,
    choose_fit,
    choose_min_weight,
    choose_size,
    choose_split,
    ready,
    render,
)
from ulrec.experiment.intake.report import Report, describe_interactions, describe_media
from ulrec.experiment.intake.survey import (
    TABLE_ENDINGS,
    Finding,
    Survey,
    survey_folder,
    survey_pictures,
)

__all__ = ["Proposal", "propose"]

Table = str | Path | pl.DataFrame

FEW_ITEMS = 200


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A configuration, the tables it needs, and what was found on the way.

    Attributes
    ----------
    out
        Where the configuration goes; the tables go beside it.
    facts
        Lines of (heading, text).
    findings
        What the owner of the data should know, errors first.
    recipe
        What the configuration says; None if there are errors.
    catalogue
        Table of the items; None if there are errors.
    interactions
        Table of the interactions, or None where the given file can be read as it stands.
    """

    out: Path
    facts: Sequence[tuple[str, str]]
    findings: Sequence[Finding]
    recipe: Recipe | None
    catalogue: pl.DataFrame | None
    interactions: pl.DataFrame | None

    @property
    def ok(self) -> bool:
        """Whether there is a configuration to write."""
        return self.recipe is not None

    @property
    def places(self) -> tuple[Path, ...]:
        """Files that :meth:`write` makes."""
        kinds = [("catalogue", self.catalogue), ("interactions", self.interactions)]
        tables = [self.out.with_suffix(f".{kind}.parquet") for kind, t in kinds if t is not None]
        return (*tables, self.out) if self.ok else ()

    def write(self, *, force: bool = False) -> tuple[Path, ...]:
        """Write the tables, then the configuration, each whole or not at all.

        Parameters
        ----------
        force
            Write over files that exist.

        Returns
        -------
        tuple of Path
            What was written, the configuration last.

        Raises
        ------
        DataError
            If nothing is usable; the errors are named.
        ConfigError
            If a file exists already.
        """
        if self.recipe is None:
            errors = [f for f in self.findings if f.level == "error"]
            told = "; ".join(f"{f.text} ({f.remedy})" if f.remedy else f.text for f in errors)
            raise DataError(f"no configuration can be proposed: {told}")
        standing = [str(path) for path in self.places if path.exists()]
        if standing and not force:
            raise ConfigError(
                f"{', '.join(standing)} would be written over; choose another name (--out), or"
                " say --force"
            )
        self.out.parent.mkdir(parents=True, exist_ok=True)
        tables = [table for table in (self.catalogue, self.interactions) if table is not None]
        for path, table in zip(self.places, tables, strict=False):
            _write_table(table, path)
        write_text(self.out, render(self.recipe))
        return self.places

    def __str__(self) -> str:
        width = max((len(heading) for heading, _ in self.facts), default=0) + 2
        facts = [f"{heading:<{width}}{text}" for heading, text in self.facts]
        return "\n".join([*facts, "", *map(str, self.findings)] if self.findings else facts)


def propose(
    media: Table,
    interactions: Table | None = None,
    *,
    catalogue: Table | None = None,
    out: str | Path = "own.yaml",
    num_threads: int | None = None,
) -> Proposal:
    """Look at media and interactions, and propose a configuration; writes nothing.

    Parameters
    ----------
    media
        A folder of pictures, nested or not; or a table of items [item_id, path | image, ...].
    interactions
        Who chose what, a file or a table of nearly any layout. None looks for one in the folder;
        where there is none the configuration draws *simulated* users and says so.
    catalogue
        A table of the items in the folder: ids, and what is known of path, name, category.
    out
        Where the configuration is to go.
    num_threads
        Threads that read headers; the number of cores by default.

    Returns
    -------
    Proposal
        Print it to read the report; :meth:`Proposal.write` writes it. What is wrong with the data,
        a missing file included, stands in its findings.

    Examples
    --------
    >>> proposal = propose("shop/pictures", "shop/ratings.csv", out="shop.yaml")  # doctest: +SKIP
    >>> print(proposal)  # doctest: +SKIP
    >>> proposal.write()  # doctest: +SKIP
    """
    report = Report()
    recipe, items, table = None, None, None
    try:
        root, listed, survey = _look(media, catalogue, report, num_threads)
        guess = _guess(interactions, survey, Path(out), report)
        items = _items(listed, survey, guess, report)
        recipe, table = _recipe(Path(out), root, survey, items, guess, report)
    except DataError as error:
        report.findings.append(Finding(level="error", text=str(error)))
        items = None
    order = ("error", "warning", "note")
    return Proposal(
        out=Path(out),
        facts=report.facts,
        findings=sorted(report.findings, key=lambda finding: order.index(finding.level)),
        recipe=recipe,
        catalogue=items,
        interactions=table,
    )


def _look(
    media: Table, catalogue: Table | None, report: Report, num_threads: int | None
) -> tuple[Path, pl.DataFrame | None, Survey]:
    """Return the media root, the renamed table of items if there is one, and what was seen."""
    if not isinstance(media, pl.DataFrame) and not _is_table(Path(media)):
        root, listed = Path(media), None
        survey = survey_folder(root, num_threads=num_threads)
        if catalogue is not None:
            listed = rename_catalogue(_read(catalogue, report.findings), report.findings)
    elif catalogue is not None:
        raise DataError(f"{_name(media)} is no folder; give the folder, or one table of all items")
    else:
        table = rename_catalogue(_read(media, report.findings), report.findings)
        root, listed = rooted(
            table, Path() if isinstance(media, pl.DataFrame) else Path(media).parent
        )
        column = next(name for name in (IMAGE, CLIP, PATH) if name in listed.columns)
        named = [str(name) for name in listed[PATH if column == PATH else ITEM_ID].to_list()]
        sources = [b"" if s is None else s for s in listed[column].to_list()]
        places = [root / s if isinstance(s, str) else s for s in sources]
        pictures = survey_pictures(named, places, num_threads=num_threads)
        survey = Survey(pictures=pictures, others=Counter())
    describe_media(survey, report)
    return root, listed, survey


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_ENDINGS and not path.is_dir()


def _guess(interactions: Table | None, survey: Survey, out: Path, report: Report) -> Guess | None:
    """Return the interactions that were given or found; None if there are none."""
    source = interactions
    if source is None:
        own = out.with_suffix(".interactions.parquet").resolve()
        found = [p for p in survey.tables if p.resolve() != own and looks_like_interactions(p)]
        if len(found) > 1:
            listed = ", ".join(map(str, found))
            raise DataError(
                f"several tables may hold the interactions: {listed}; give one with --interactions"
            )
        if not found:
            text = "there are no interactions: users will be SIMULATED from categories and colours"
            remedy = (
                "give a table [user_id, item_id, timestamp] with --interactions; until then a run"
                " shows what pictures become, and nothing about your users"
            )
            report.findings.append(Finding(level="warning", text=text, remedy=remedy))
            return None
        source = found[0]
    stems = survey.pictures[PATH].str.extract(r"([^/]+)$").str.replace(r"\.[^.]+$", "")
    source = source if isinstance(source, pl.DataFrame) else Path(source)
    guess = guess_interactions(source, stems=set(stems.to_list()))
    columns = ", ".join(f"{ours} = {theirs}" for ours, theirs in guess.columns.items())
    report.facts.append(("interactions", f"{_name(source)}: {columns}"))
    report.findings.extend(guess.findings)
    return guess


def _items(
    listed: pl.DataFrame | None, survey: Survey, guess: Guess | None, report: Report
) -> pl.DataFrame:
    ids = None
    if guess is not None:
        ids = guess.table.group_by(ITEM_ID, maintain_order=True).agg(pl.len().alias("count"))
    pictures = survey.pictures.select(PATH)
    if listed is None:
        items, rule = items_of_folder(pictures, ids, report.findings)
    else:
        items, rule = items_of_table(listed, pictures, ids, report.findings)
    shown = items.row(0, named=True)
    where = f" ({shown[ITEM_ID]!r} is {shown[PATH]})" if PATH in items.columns else ""
    report.facts.append(("items", f"{len(items):,}; ids: {rule}{where}"))
    items, told = with_categories(validate_catalogue(items), everywhere=guess is None)
    items = with_concepts(items, survey.duplicates)
    if told:
        report.facts.append(("categories", told))
    if len(items) < FEW_ITEMS:
        text = f"{len(items):,} items are few: the generator will draw copies of them"
        report.findings.append(Finding(level="warning", text=text, remedy="add pictures"))
    return items


def _recipe(
    out: Path,
    root: Path,
    survey: Survey,
    items: pl.DataFrame,
    guess: Guess | None,
    report: Report,
) -> tuple[Recipe, pl.DataFrame | None]:
    """Return what the configuration says, and the interactions if they have to be written anew."""
    readable = survey.readable
    aspects = readable["width"] / readable["height"]
    height, width = choose_size(float(aspects.median()))  # type: ignore[arg-type]
    bad = 1 - len(readable) / len(survey.pictures)
    if survey.moving:  # single pictures are left out
        bad = 1 - int(readable["animated"].sum()) / len(survey.pictures)
    recipe = Recipe(
        name=out.stem,
        catalogue=_place(out.with_suffix(".catalogue.parquet")),
        media_root=_place(root),
        interactions=None,
        height=height,
        width=width,
        frames=CLIP_FRAMES if survey.moving else 1,
        fit=choose_fit(aspects, (height, width)),
        max_bad_share=max(MediaConfig().max_bad_share, 1.2 * bad),
        num_items=int(len(items) * (1 - bad)),
    )
    table = None
    if guess is not None:
        recipe, table = _with_interactions(recipe, out, items, guess, report)
    size = f"{height} x {width} (height x width), "
    if recipe.frames > 1:
        size = f"clips of {recipe.frames} frames, {size}"
    size += f"fit: {recipe.fit}, split: {recipe.split}"
    report.facts.append(
        ("proposal", f"{size}; about {max(recipe.minutes, 1):.0f} minutes on 2 CPU cores")
    )
    return recipe, table


def _with_interactions(
    recipe: Recipe, out: Path, items: pl.DataFrame, guess: Guess, report: Report
) -> tuple[Recipe, pl.DataFrame | None]:
    table = guess.table
    known = table.filter(pl.col(ITEM_ID).is_in(items[ITEM_ID].to_list()))
    if known.is_empty():
        raise DataError(
            f"no interaction names an item that has a picture: ids such as {table[ITEM_ID][0]!r}"
            f" there and {items[ITEM_ID][0]!r} here; write the ids of both tables alike"
        )
    describe_interactions(table, known, report)
    min_weight = 0.0
    if WEIGHT in table.columns:
        min_weight, told = choose_min_weight(table[WEIGHT])
        report.facts.append(("weights", told))
    written = None if guess.as_is else table
    if WEIGHT in table.columns and float(table[WEIGHT].min() or 0) <= 0:  # type: ignore[arg-type]
        written = table.filter(pl.col(WEIGHT) > 0)
        text = f"{len(table) - len(written):,} interactions of weight 0 or less are left out"
        report.findings.append(Finding(level="note", text=text))
    likes = ready(known, min_weight)
    if likes.is_empty():
        raise DataError(f"no item with a picture has a weight of {min_weight:g} or more; add likes")
    if TIMESTAMP in table.columns:
        times = table[TIMESTAMP]
        first, last = (
            pl.from_epoch(pl.Series([t])).dt.date()[0] for t in (times.min(), times.max())
        )
        chosen, told = choose_split(likes)
        report.facts.append(("times", "; ".join([f"{first} to {last}", *guess.facts])))
        report.facts.append(("split", f"{chosen}: {told}"))
    else:
        chosen = "leave_last"
        kept = table if written is None else written
        written = kept.with_columns(pl.lit(0, pl.Int64).alias(TIMESTAMP))
        text = "the interactions have no times: one like of each user, drawn at random, is held out"
        remedy = "add a column 'timestamp' for a split that does not look into the future"
        report.findings.append(Finding(level="warning", text=text, remedy=remedy))
    place = out.with_suffix(".interactions.parquet")
    if written is None and guess.source is not None:
        place = guess.source
    if written is not None:
        written = validate_interactions(written)
    return (
        dataclasses.replace(
            recipe,
            interactions=_place(place),
            min_weight=min_weight,
            split=chosen,
            num_users=likes[USER_ID].n_unique(),
        ),
        written,
    )


def _read(table: Table, findings: list[Finding]) -> pl.DataFrame:
    return table if isinstance(table, pl.DataFrame) else read_foreign(Path(table), findings)


def _name(table: Table) -> str:
    return "a table" if isinstance(table, pl.DataFrame) else str(table)


def _place(path: Path) -> str:
    """Return a path as seen from here if it lies below, else in full."""
    full, here = path.resolve(), Path.cwd()
    return (full.relative_to(here) if full.is_relative_to(here) else full).as_posix()


def _write_table(table: pl.DataFrame, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        table.write_parquet(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
