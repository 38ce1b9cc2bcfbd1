"""The items of a foreign catalogue: an id, a picture, and what folders or tables say of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import polars as pl

from ulrec.data.schema import (
    CATEGORY,
    CLIP,
    CONCEPT,
    IMAGE,
    ITEM_ID,
    MASK,
    NAME,
    PATH,
    SPLIT,
    SUBCATEGORY,
)
from ulrec.errors import DataError
from ulrec.experiment.intake.columns import as_ids, find_column
from ulrec.experiment.intake.matching import align, match_pictures
from ulrec.experiment.intake.survey import Finding

__all__ = [
    "items_of_folder",
    "items_of_table",
    "rename_catalogue",
    "rooted",
    "with_categories",
    "with_concepts",
]

NAMED = (PATH, NAME, CATEGORY, SUBCATEGORY)
KEPT = (IMAGE, CLIP, MASK, CONCEPT, SPLIT)
EXAMPLES = 3


def rename_catalogue(table: pl.DataFrame, findings: list[Finding]) -> pl.DataFrame:
    """Return the columns of a catalogue that ulrec knows, under its names, ids by their type.

    Raises
    ------
    DataError
        If there is no column of ids, or pictures are named by addresses on the web.
    """
    item = find_column(table.columns, ITEM_ID)
    if item is None:
        raise DataError(
            f"which column of the catalogue is the item_id cannot be told, it has"
            f" {', '.join(table.columns)}; rename that column to 'item_id'"
        )
    kept = {name: name for name in KEPT if name in table.columns}
    for name in (IMAGE, CLIP):
        if name in kept and table.schema[name] != pl.Binary:
            kept[PATH] = kept.pop(name)
    # Encoded pictures need no paths.
    for name in NAMED[1:] if {IMAGE, CLIP, PATH} & kept.keys() else NAMED:
        free = [column for column in table.columns if column not in {item, *kept.values()}]
        theirs = find_column(free, name)
        if theirs is not None:
            kept[name] = theirs
    unused = [name for name in table.columns if name not in {item, *kept.values()}]
    if unused:
        text = f"the catalogue has columns that are not used: {', '.join(unused)}"
        findings.append(Finding(level="note", text=text))
    chosen = table.select(
        as_ids(table[item]).alias(ITEM_ID),
        *(_text(theirs, ours) for ours, theirs in kept.items()),
    )
    if PATH in chosen.columns and chosen[PATH].str.contains("^https?://").any():
        raise DataError(
            "the catalogue names pictures by addresses on the web; download them into a folder and"
            " name the files, or name each file by its item_id and drop the column"
        )
    return chosen


def items_of_folder(
    pictures: pl.DataFrame, ids: pl.DataFrame | None, findings: list[Finding]
) -> tuple[pl.DataFrame, str]:
    """Return [item_id, path, (category), (subcategory)] of pictures [path], and the rule.

    ``ids`` [item_id, count] is what the interactions name; None where there are none.
    """
    if ids is None:
        stems = pictures[PATH].str.extract(r"([^/]+)$").str.replace(r"\.[^.]+$", "")
        unique = not stems.is_duplicated().any()
        names = stems if unique else pictures[PATH].str.replace(r"\.[^./]+$", "")
        items = pl.DataFrame({ITEM_ID: as_ids(names), PATH: pictures[PATH]})
        rule = "the file's name" if unique else "the path"
        _report(findings, items.filter(pl.col(ITEM_ID).is_duplicated())[PATH].to_list(), _FURTHER)
        return items.unique(
            ITEM_ID, keep="first", maintain_order=True
        ), f"{rule} without its ending"
    match = match_pictures(pictures, ids)
    if not match.known:
        raise DataError(
            f"no item of the interactions has a picture: their ids are such as"
            f" {_examples(ids[ITEM_ID].to_list())}, the files such as"
            f" {_examples(pictures[PATH].to_list())}; name the files by the ids, or give a table"
            " [item_id, path] with --catalogue"
        )
    _report(findings, match.further, _FURTHER)
    _report(findings, match.strays, _STRAYS)
    return match.items, match.rule


def items_of_table(
    table: pl.DataFrame,
    pictures: pl.DataFrame,
    ids: pl.DataFrame | None,
    findings: list[Finding],
) -> tuple[pl.DataFrame, str]:
    """Return a renamed catalogue with the ids of the interactions and paths that exist."""
    rule = "the catalogue's"
    if ids is not None:
        aligned, how = align(table[ITEM_ID], ids)
        odd = aligned.filter(pl.col("aligned").is_null())
        _report(findings, odd[ITEM_ID].to_list(), _NO_ID)
        table = table.with_columns(aligned["aligned"].alias(ITEM_ID))
        table = table.filter(pl.col(ITEM_ID).is_not_null())
        rule = f"{rule}, written as the interactions write them" if how != "as they are" else rule
    if {IMAGE, CLIP} & set(table.columns):
        return table, rule
    if PATH in table.columns:
        placed = _existing(table, pictures)
    else:
        counted = table.select(ITEM_ID, pl.lit(1).alias("count"))
        match = match_pictures(pictures, counted)
        rule = f"{rule}, pictures by {match.rule}"
        known = match.items.filter(pl.col(ITEM_ID).is_in(table[ITEM_ID].to_list()))
        placed = table.join(known, on=ITEM_ID, how="left", maintain_order="left")
    lost = placed.filter(pl.col(PATH).is_null())[ITEM_ID].to_list()
    _report(findings, lost, _LOST)
    found = placed.filter(pl.col(PATH).is_not_null())
    if found.is_empty():
        raise DataError(
            f"no item of the catalogue has a picture: ids such as"
            f" {_examples(table[ITEM_ID].to_list())}, files such as"
            f" {_examples(pictures[PATH].to_list())}; check the folder, or add a column 'path'"
        )
    return found, rule


def rooted(table: pl.DataFrame, root: Path) -> tuple[Path, pl.DataFrame]:
    """Return what the paths are relative to; absolute ones are cut at the folder they share."""
    if PATH not in table.columns:
        if not {IMAGE, CLIP} & set(table.columns):
            raise DataError(
                "the table of media has none of 'path', 'image' and 'clip'; add one of them"
            )
        return root, table
    paths = [Path(p) for p in table[PATH].drop_nulls().to_list()]
    if not paths or not all(path.is_absolute() for path in paths):
        return root, table
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    cut = [None if p is None else Path(p).relative_to(shared).as_posix() for p in table[PATH]]
    return shared, table.with_columns(pl.Series(PATH, cut, dtype=pl.String))


def with_categories(items: pl.DataFrame, *, everywhere: bool) -> tuple[pl.DataFrame, str]:
    """Add category and subcategory from folders where the catalogue has none, and say so.

    ``everywhere`` fills what is empty, as a simulation of users has to know all.
    """
    told = ""
    if CATEGORY not in items.columns and PATH in items.columns:
        parents = [path.split("/")[:-1] for path in items[PATH].to_list()]
        levels = zip(*parents, strict=False)
        common = len(list(takewhile(lambda names: len(set(names)) == 1, levels)))
        below = [parts[common:] for parts in parents]
        if any(below):
            columns = {CATEGORY: [p[0] if p else None for p in below]}
            if SUBCATEGORY not in items.columns:
                columns[SUBCATEGORY] = [p[1] if len(p) > 1 else None for p in below]
            items = items.with_columns(
                pl.Series(name, values, dtype=pl.String) for name, values in columns.items()
            )
            told = f"{items[CATEGORY].drop_nulls().n_unique():,} from the names of folders"
    if not everywhere:
        return items, told
    for name in (CATEGORY, SUBCATEGORY):
        before = pl.col(CATEGORY) if name == SUBCATEGORY else pl.lit("all")
        own = pl.col(name) if name in items.columns else pl.lit(None, dtype=pl.String)
        items = items.with_columns(pl.coalesce(own, before).alias(name))
    return items, told


def with_concepts(items: pl.DataFrame, duplicates: Mapping[str, str]) -> pl.DataFrame:
    """Give items of one picture one concept, unless the catalogue says what to hold out."""
    if not duplicates or PATH not in items.columns or {CONCEPT, SPLIT} & set(items.columns):
        return items
    concepts = [duplicates.get(path, path) for path in items[PATH].to_list()]
    return items.with_columns(pl.Series(CONCEPT, concepts))


def _text(theirs: str, ours: str) -> pl.Expr:
    column = pl.col(theirs).alias(ours)
    return column if ours in (IMAGE, CLIP, MASK) else column.cast(pl.String)


def _existing(table: pl.DataFrame, pictures: pl.DataFrame) -> pl.DataFrame:
    """Return the table with paths as they are below the folder, null where there is no such file.

    A path that is not there is looked for by the name of its file, where that is unique.
    """
    paths = pictures[PATH].to_list()
    there = set(paths)
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(Path(path).name, []).append(path)

    def place(given: str | None) -> str | None:
        if given is None:
            return None
        plain = given.replace("\\", "/").removeprefix("./")
        same = by_name.get(Path(plain).name, [])
        return plain if plain in there else same[0] if len(same) == 1 else None

    placed = [place(None if p is None else str(p)) for p in table[PATH].to_list()]
    return table.with_columns(pl.Series(PATH, placed, dtype=pl.String))


def _report(findings: list[Finding], what: object, case: tuple[str, str]) -> None:
    listed = list(what)  # type: ignore[call-overload]
    if listed:
        text, remedy = case
        told = f"{len(listed):,} {text}: {_examples(listed)}"
        findings.append(Finding(level="warning", text=told, remedy=remedy))


_FURTHER = (
    "pictures belong to an item that has one already",
    "the first by name is used; give a table [item_id, path] with --catalogue to choose",
)
_STRAYS = (
    "pictures have names that are no ids such as the interactions have, and are left out",
    "name them by their item, or delete what is no item's (logos, placeholders)",
)
_NO_ID = (
    "items of the catalogue have ids of another kind than the interactions, and are left out",
    "write the ids of both tables alike",
)
_LOST = ("items of the catalogue have no picture in the folder, and are left out", "add the files")


def _examples(values: list[object]) -> str:
    more = ", .." if len(values) > EXAMPLES else ""
    return ", ".join(repr(value) for value in values[:EXAMPLES]) + more
