"""Turn GroupLens MovieLens-100K files and a folder of posters into ulrec's tables.

    python datasets/movielens/prepare.py --source FOLDER --out FOLDER

``--source`` holds u.data, u.item and u.genre as GroupLens distributes them, and the posters as
posters/<item id>.jpg (or .jpeg, .png, .webp). README.md in this folder is the card of the data and
says what comes out.
"""

import argparse
import hashlib
import json
import logging
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ulrec.checkpoint import write_file, write_text
from ulrec.data import schema
from ulrec.data.tables import validate_catalogue, validate_interactions
from ulrec.errors import DataError, ULRecError

logger = logging.getLogger("movielens")

POSTERS = "posters"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
RATING_FIELDS = (schema.USER_ID, schema.ITEM_ID, schema.WEIGHT, schema.TIMESTAMP)
FILM_FIELDS = (schema.ITEM_ID, schema.NAME, "release_date", "video_release_date", "imdb_url")
GENRES = "genres"
YEAR = "year"


def read_fields(path: Path, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """Read a GroupLens file as strings: Latin-1, no header, no quotes; blank lines are dropped.

    Raises
    ------
    DataError
        If the file is missing, cannot be parsed or has another number of fields.
    """
    if not path.is_file():
        raise DataError(
            f"{path} must be a file of MovieLens-100K; there is none; give --source the folder "
            "that holds u.data, u.item and u.genre"
        )
    try:
        table = pl.read_csv(
            path,
            separator=separator,
            has_header=False,
            infer_schema=False,
            quote_char=None,
            encoding="latin-1",
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read: {error}; check the file") from error
    if len(table.columns) != len(names):
        raise DataError(
            f"{path} must have {len(names)} fields separated by {separator!r} "
            f"({', '.join(names[:6])}..); got {len(table.columns)}; check that it is the file of "
            "MovieLens-100K, not of another release"
        )
    table.columns = list(names)
    return table.filter(pl.col(names[0]).is_not_null())


def read_ratings(source: Path) -> pl.DataFrame:
    """Return u.data as [user_id, item_id, weight, timestamp], all ratings, in the file's order."""
    path = source / "u.data"
    table = read_fields(path, "\t", RATING_FIELDS)
    try:
        table = table.cast({schema.WEIGHT: pl.Float64, schema.TIMESTAMP: pl.Int64})
    except pl.exceptions.InvalidOperationError as error:
        raise DataError(
            f"ratings and timestamps of {path} must be numbers: {error}; check the file"
        ) from error
    return validate_interactions(table, source=path)


def read_films(source: Path) -> pl.DataFrame:
    """Return u.item as [item_id, name, year, genres], genres in the order of u.genre."""
    genres = read_fields(source / "u.genre", "|", ("genre", "index"))["genre"].to_list()
    table = read_fields(source / "u.item", "|", (*FILM_FIELDS, *genres))
    repeated = table.filter(pl.col(schema.ITEM_ID).is_duplicated())[schema.ITEM_ID]
    if len(repeated):
        raise DataError(
            f"{source / 'u.item'} must list every item once; got {repeated[0]!r} twice; "
            "take the file from GroupLens again"
        )
    in_title = pl.col(schema.NAME).str.extract(r".*\((\d{4})\)")
    released = pl.col("release_date").str.extract(r"(\d{4})$")
    marks = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in genres]
    return table.select(
        schema.ITEM_ID,
        pl.col(schema.NAME).str.strip_chars(),
        pl.coalesce(in_title, released).cast(pl.Int32).alias(YEAR),
        pl.concat_list(marks).list.drop_nulls().alias(GENRES),
    )


def check_known(ratings: pl.DataFrame, films: pl.DataFrame, source: Path) -> None:
    """Raise DataError if u.data rates an item that u.item does not list."""
    strangers = ratings.join(films, on=schema.ITEM_ID, how="anti")
    if len(strangers):
        raise DataError(
            f"every item rated in {source / 'u.data'} must stand in u.item; "
            f"{strangers[schema.ITEM_ID].n_unique()} do not, such as "
            f"{strangers[schema.ITEM_ID][0]!r}; take both files from one release"
        )


def find_posters(folder: Path) -> dict[str, Path]:
    """Return item id -> poster file of a folder.

    Raises
    ------
    DataError
        If the folder is missing or holds no poster, or two files are posters of one item.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} must be a folder of posters named by item id, such as 1.jpg; there is none; "
            "put the posters there or give their folder as --posters"
        )
    posters: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            other = posters.setdefault(path.stem, path)
            if other != path:
                raise DataError(
                    f"an item has one poster; {path.stem} has {other.name} and {path.name} in "
                    f"{folder}; remove one"
                )
    if not posters:
        raise DataError(f"{folder} must hold posters ({', '.join(SUFFIXES)}); got none; add them")
    return posters


def concepts_of(names: Mapping[str, str], digests: Mapping[str, str]) -> dict[str, str]:
    """Return item id -> concept: items of one title or of one poster file are one concept.

    MovieLens lists some films twice, and copies of it give one poster to several films.

    Parameters
    ----------
    names
        item id -> title.
    digests
        item id -> hash of the poster file, for items that have one.

    Examples
    --------
    >>> concepts_of({"1": "Ran", "2": "Ran", "3": "Heat"}, {"2": "x", "3": "x"})
    {'1': 'Ran', '2': 'Ran', '3': 'Ran'}
    """
    leader = {item_id: item_id for item_id in names}
    order = {item_id: place for place, item_id in enumerate(names)}

    def find(item_id: str) -> str:
        while leader[item_id] != item_id:
            item_id = leader[item_id]
        return item_id

    first: dict[tuple[str, str], str] = {}
    for kind, marks in (("title", names), ("poster", digests)):
        for item_id, mark in marks.items():
            pair = find(first.setdefault((kind, mark), item_id)), find(item_id)
            leader[max(pair, key=order.__getitem__)] = min(pair, key=order.__getitem__)
    return {item_id: names[find(item_id)] for item_id in names}


def heldout_concepts(concepts: Sequence[str], *, share: float, seed: int) -> set[str]:
    """Choose whole concepts in the order of a hash until ``share`` of the items is held out."""
    sizes: dict[str, int] = defaultdict(int)
    for concept in concepts:
        sizes[concept] += 1
    quota = round(share * len(concepts))
    chosen = set()
    for concept in sorted(sizes, key=lambda name: digest(f"{seed}/{name}".encode())):
        if sizes[concept] <= quota:
            chosen.add(concept)
            quota -= sizes[concept]
    return chosen


def digest(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def item_table(
    films: pl.DataFrame, posters: Mapping[str, Path], *, share: float, seed: int
) -> pl.DataFrame:
    """Return the catalogue [item_id, path, name, category, subcategory, concept, split]."""
    names = dict(films.select(schema.ITEM_ID, schema.NAME).iter_rows())
    digests = {one: digest(posters[one].read_bytes()) for one in names if one in posters}
    concepts = concepts_of(names, digests)
    heldout = heldout_concepts(list(concepts.values()), share=share, seed=seed)
    return films.select(
        schema.ITEM_ID,
        pl.Series(
            schema.PATH,
            [f"{POSTERS}/{posters[one].name}" if one in posters else None for one in names],
            dtype=pl.String,
        ),
        schema.NAME,
        pl.col(GENRES).list.first().alias(schema.CATEGORY),
        pl.col(GENRES).list.join("|").alias(schema.SUBCATEGORY),
        pl.Series(schema.CONCEPT, [concepts[one] for one in names]),
        pl.Series(
            schema.SPLIT,
            [schema.HELDOUT if concepts[one] in heldout else schema.TRAIN for one in names],
        ),
    )


def describe(items: pl.DataFrame, ratings: pl.DataFrame, posters: Mapping[str, Path]) -> str:
    """Return report.json: what there is, what is missing, and which items share a concept."""
    missing = items.filter(pl.col(schema.PATH).is_null())
    shared = items.filter(pl.len().over(schema.CONCEPT) > 1)
    groups = shared.group_by(schema.CONCEPT, maintain_order=True).agg(schema.ITEM_ID)
    content = {
        "num_items": len(items),
        "num_users": ratings[schema.USER_ID].n_unique(),
        "num_ratings": len(ratings),
        "num_heldout": int((items[schema.SPLIT] == schema.HELDOUT).sum()),
        "num_missing_posters": len(missing),
        "ratings_of_items_without_poster": len(ratings.join(missing, on=schema.ITEM_ID)),
        "missing_posters": dict(missing.select(schema.ITEM_ID, schema.NAME).iter_rows()),
        "posters_of_no_item": sorted(posters.keys() - set(items[schema.ITEM_ID])),
        "items_of_one_concept": dict(groups.iter_rows()),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def place_poster(source: Path, target: Path, *, link: bool) -> None:
    """Copy or link one poster, replacing what is there only when the new one is complete."""
    if target.exists() and source.samefile(target) and link == target.is_symlink():
        return

    def write(path: Path) -> None:
        if link:
            path.symlink_to(source.resolve())
        else:
            shutil.copyfile(source, path)

    write_file(target, write)


def prepare(options: argparse.Namespace) -> None:
    """Read and check everything, then write posters, tables and report."""
    source: Path = options.source
    out: Path = options.out
    ratings, films = read_ratings(source), read_films(source)
    check_known(ratings, films, source)
    posters = find_posters(options.posters or source / POSTERS)
    items = validate_catalogue(
        item_table(films, posters, share=options.heldout_share, seed=options.seed),
        source=source / "u.item",
    )
    (out / POSTERS).mkdir(parents=True, exist_ok=True)
    for item_id in items.filter(pl.col(schema.PATH).is_not_null())[schema.ITEM_ID]:
        poster = posters[item_id]
        place_poster(poster, out / POSTERS / poster.name, link=options.link)
    tables = {
        "items": items,
        "interactions": ratings,
        "films": films.select(schema.ITEM_ID, YEAR, GENRES),
    }
    for name, table in tables.items():
        write_file(out / f"{name}.parquet", table.write_parquet)
    report = describe(items, ratings, posters)
    write_text(out / "report.json", report)
    log_report(json.loads(report), out)


def log_report(report: Mapping[str, object], out: Path) -> None:
    """Say in two lines what was written and what is missing."""
    logger.info(
        "%s: %s items (%s held out), %s ratings of %s users",
        out,
        *(report[key] for key in ("num_items", "num_heldout", "num_ratings", "num_users")),
    )
    if report["num_missing_posters"]:
        logger.warning(
            "%s items have no poster (%s ratings); they are listed in %s",
            report["num_missing_posters"],
            report["ratings_of_items_without_poster"],
            out / "report.json",
        )


def share_of(text: str) -> float:
    """Parse a share in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"a share lies in [0, 1), got {text}")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 with the reason logged."""
    parser = argparse.ArgumentParser(
        description="Turn MovieLens-100K and a folder of posters into items.parquet, "
        "interactions.parquet, films.parquet, posters/ and report.json."
    )
    parser.add_argument(
        "--source", type=Path, required=True, help="folder with u.data, u.item and u.genre"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--posters", type=Path, help="folder of posters (default: posters/ in --source)"
    )
    parser.add_argument("--link", action="store_true", help="link to the posters, do not copy them")
    parser.add_argument("--seed", type=int, default=0, help="chooses the held-out films")
    parser.add_argument(
        "--heldout-share", type=share_of, default=0.1, help="share of items held out (default: 0.1)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(options)
    except ULRecError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
