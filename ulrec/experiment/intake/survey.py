"""A look at pictures before they are decoded: headers only, in threads, whatever a folder holds."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl
from PIL import ExifTags, Image, UnidentifiedImageError
from tqdm import tqdm

from ulrec.data.pictures import FORMATS, SIDEWAYS
from ulrec.data.schema import PATH
from ulrec.data.video import container_of, video_size
from ulrec.errors import DataError, MissingExtraError

__all__ = [
    "ENDINGS",
    "TABLE_ENDINGS",
    "VIDEO_ENDINGS",
    "Finding",
    "Survey",
    "judge_media",
    "survey_folder",
    "survey_pictures",
]

ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".data", ".dat", ".inter", ".parquet")

# Formats whose header holds the EXIF tags; Pillow would decode a PNG to look for them behind it.
EXIF_IN_HEADER = ("JPEG", "WEBP", "TIFF", "AVIF")

# Cameras put several JPEGs into one file, of which the first is the picture.
SAME = {"MPO": "JPEG"}

AT_ONCE = 64
EXAMPLES = 3

SCHEMA = {
    PATH: pl.String,
    "num_bytes": pl.Int64,
    "format": pl.String,
    "mode": pl.String,
    "width": pl.Int64,
    "height": pl.Int64,
    "turned": pl.Boolean,
    "animated": pl.Boolean,
    "problem": pl.String,
}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something the owner of the data should know; an "error" stops, a "warning" costs data."""

    level: Literal["error", "warning", "note"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':9}-> {self.remedy}" if self.remedy else ""
        return f"{self.level:<8} {self.text}{remedy}"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was seen.

    Attributes
    ----------
    pictures
        [path (as from the root), num_bytes, format, mode, width, height (upright), turned,
        animated, problem ("" where the header can be read)], sorted by path. Videos are among them
        (mode "video") where most files move.
    duplicates
        Path of a picture that is byte for byte an earlier one -> the path of that one.
    tables
        Files that may be tables.
    others
        Number of further files by their ending.
    """

    pictures: pl.DataFrame
    duplicates: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[Path, ...] = ()
    others: Counter[str]

    @property
    def readable(self) -> pl.DataFrame:
        """Pictures whose headers can be read."""
        return self.pictures.filter(pl.col("problem") == "")

    @property
    def moving(self) -> bool:
        """Whether most of what can be read are clips."""
        return 2 * int(self.readable["animated"].sum()) > len(self.readable)


def survey_folder(root: Path, *, num_threads: int | None = None) -> Survey:
    """Look at all files below a folder; hidden ones do not count.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"folder of pictures not found: {root}; check the path")
    pictures, videos, tables, others = [], [], [], Counter[str]()
    for path in _walk(root):
        ending = path.suffix.lower()
        if ending in ENDINGS:
            pictures.append(path)
        elif ending in VIDEO_ENDINGS:
            videos.append(path)
        elif ending in TABLE_ENDINGS:
            tables.append(path)
        else:
            others[ending or "no ending"] += 1
    pictures.sort()
    names = [path.relative_to(root).as_posix() for path in pictures]
    found = survey_pictures(names, pictures, num_threads=num_threads)
    if 2 * (len(videos) + int(found["animated"].sum())) > len(pictures) + len(videos):
        pictures = sorted([*pictures, *videos])
        names = [path.relative_to(root).as_posix() for path in pictures]
        found = survey_pictures(names, pictures, num_threads=num_threads)
    else:
        others.update(path.suffix.lower() for path in videos)
    repeated = _duplicates(names, pictures, found["num_bytes"].to_list(), num_threads)
    return Survey(pictures=found, duplicates=repeated, tables=tuple(sorted(tables)), others=others)


def survey_pictures(
    names: Sequence[str], sources: Sequence[Path | bytes], *, num_threads: int | None = None
) -> pl.DataFrame:
    """Read the headers of files or of encoded pictures; see :class:`Survey` for the columns."""
    with (
        warnings.catch_warnings(),
        tqdm(total=len(names), desc="headers", unit="picture", disable=None) as bar,
    ):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # their size is reported
        rows = list(_in_threads(_read_header, names, sources, num_threads, bar.update))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def judge_media(survey: Survey, *, max_pixels: int) -> list[Finding]:
    """Say what is wrong or odd with pictures, most important first."""
    table = survey.readable
    ending = pl.col(PATH).str.extract(r"(\.[^./]+)$").str.to_lowercase()
    named = ending.replace_strict(ENDINGS, default=None)
    cases = (
        (survey.pictures.filter(pl.col("problem") != ""), _UNREADABLE),
        (table.filter(pl.col("width") * pl.col("height") > max_pixels), _TOO_LARGE),
        (table.filter(pl.col(PATH).is_in(list(survey.duplicates))), _DUPLICATES),
        (table.filter(pl.col("mode").str.starts_with("F")), _FLOATS),
        (table.filter(pl.col("animated") != survey.moving), _STILL if survey.moving else _ANIMATED),
        (table.filter(named.is_not_null() & (named != pl.col("format"))), _MISNAMED),
        (table.filter(pl.min_horizontal("width", "height") < 16), _SMALL),
        (table.filter(pl.col("mode") == "CMYK"), _CMYK),
    )
    return [
        Finding(
            level=level, text=f"{len(rows):,} pictures {text}: {_examples(rows)}", remedy=remedy
        )
        for rows, (level, text, remedy) in cases
        if len(rows)
    ]


_Case = tuple[Literal["error", "warning", "note"], str, str]

_UNREADABLE: _Case = (
    "warning",
    "cannot be opened",
    "replace or delete them; prepare leaves them out and lists them with reasons in"
    " media/quarantine.json, together with those whose bodies turn out to be cut off",
)
_TOO_LARGE: _Case = (
    "warning",
    "have more pixels than data.media.max_pixels and will be left out",
    "shrink them, or raise data.media.max_pixels",
)
_DUPLICATES: _Case = (
    "warning",
    "are byte for byte the same as another (a placeholder, or one item twice?)",
    "delete placeholders; items of one picture share a 'concept' in the catalogue that is written,"
    " so that none is held out while its twin is learnt",
)
_FLOATS: _Case = (
    "warning",
    "hold floating-point pixels, whose range is not known, and will be left out",
    "convert them to 8 or 16 bits",
)
_ANIMATED: _Case = ("note", "are animated; their first frame counts", "")
_STILL: _Case = (
    "warning",
    "are single among clips and will be left out",
    "set data.media.stills to 'repeat' to show them in every frame",
)
_MISNAMED: _Case = (
    "note",
    "have another format than their name says; the content counts",
    "",
)
_SMALL: _Case = ("note", "have a side below 16 pixels and will be blurred", "")
_CMYK: _Case = ("note", "are CMYK (print); colours are converted without their profile", "")


def _examples(rows: pl.DataFrame) -> str:
    told = [
        f"{row[PATH]} ({row['problem']})" if row["problem"] else str(row[PATH])
        for row in rows.head(EXAMPLES).iter_rows(named=True)
    ]
    return ", ".join(told) + (", ..." if len(rows) > EXAMPLES else "")


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _read_header(name: str, source: Path | bytes) -> tuple[Any, ...]:
    """Return one row of the survey; ``name`` stands for the picture."""
    num_bytes = len(source) if isinstance(source, bytes) else 0
    try:
        if isinstance(source, Path):
            num_bytes = source.stat().st_size
        if not num_bytes:
            return (name, 0, "", "", 0, 0, False, False, "is empty")
        video = isinstance(source, bytes) or source.suffix.lower() in VIDEO_ENDINGS
        container = container_of(source) if video else None
        if container is not None:
            width, height = video_size(source, container)
            return (name, num_bytes, container, "video", width, height, False, True, "")
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=FORMATS) as image:
            known = SAME.get(str(image.format), str(image.format))
            turned = known in EXIF_IN_HEADER and _is_turned(image)
            width, height = reversed(image.size) if turned else image.size
            animated = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
            return (name, num_bytes, known, image.mode, width, height, turned, animated, "")
    except MissingExtraError:
        raise
    except UnidentifiedImageError:
        problem = "no picture"
    except Exception as error:  # noqa: BLE001  damaged headers make Pillow raise anything
        problem = f"{type(error).__name__}: {error}"
    return (name, num_bytes, "", "", 0, 0, False, False, problem)


def _is_turned(image: Image.Image) -> bool:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation in SIDEWAYS and image.format != "TIFF"  # whose size is upright already


def _duplicates(
    names: Sequence[str], paths: Sequence[Path], sizes: Sequence[int], num_threads: int | None
) -> dict[str, str]:
    """Return files whose content an earlier one has, and that one; only equal sizes are read."""
    counts = Counter(sizes)
    suspects = [row for row, size in enumerate(sizes) if size and counts[size] > 1]
    with tqdm(total=len(suspects), desc="same sizes", unit="picture", disable=None) as bar:
        chosen = [names[row] for row in suspects], [paths[row] for row in suspects]
        digests = list(_in_threads(_digest, *chosen, num_threads, bar.update))
    first: dict[bytes, str] = {}
    pairs = zip((names[row] for row in suspects), digests, strict=True)
    found = {name: first.setdefault(content, name) for name, content in pairs}
    return {name: earlier for name, earlier in found.items() if name != earlier}


def _digest(name: str, path: Path) -> bytes:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:  # it is listed as unreadable already
        return name.encode()


def _in_threads(
    work: Callable[[str, Any], T],
    names: Sequence[str],
    sources: Sequence[Any],
    num_threads: int | None,
    progress: Callable[[int], object],
) -> Iterator[T]:
    """Map in blocks: a future for each of a million small files would cost more than the files."""
    starts = range(0, len(names), AT_ONCE)

    def block(start: int) -> list[T]:
        part = slice(start, start + AT_ONCE)
        pairs: Iterable[tuple[str, Any]] = zip(names[part], sources[part], strict=True)
        return [work(name, source) for name, source in pairs]

    with ThreadPoolExecutor(num_threads or os.cpu_count() or 1) as pool:
        for results in pool.map(block, starts):
            progress(len(results))
            yield from results
