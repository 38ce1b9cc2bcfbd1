"""Artefacts on disk: folders that appear whole or not at all, checked when they are read.

An artefact is a folder with a ``manifest.json`` that lists the SHA-256 of every file, a fingerprint
over them, and the fingerprints of what it was made from. It is written beside its destination,
flushed, and moved into place; a good artefact is never replaced by half of one. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ulrec.errors import ArtefactError

__all__ = [
    "Component",
    "Manifest",
    "copy_artefact",
    "from_eight_bits",
    "hash_file",
    "load_component",
    "new_artefact",
    "open_artefact",
    "require_same",
    "save_component",
    "to_eight_bits",
    "write_file",
    "write_text",
]

MANIFEST = "manifest.json"
FORMAT = 1


ROW_SCALE = ".row_scale"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an artefact says of itself.

    ``fingerprint`` identifies its content, ``made_from`` maps names of sources ("autoencoder",
    "latents", "factors", ...) to their fingerprints, ``info`` is free, plain data.
    """

    kind: str
    fingerprint: str
    files: dict[str, str]
    made_from: dict[str, str] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A model on disk: its configuration as plain data and its tensors."""

    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    manifest: Manifest


@contextmanager
def new_artefact(
    folder: str | Path,
    *,
    kind: str,
    made_from: Mapping[str, str] | None = None,
    info: dict[str, Any] | None = None,
) -> Iterator[Path]:
    """Write an artefact: yields a temporary folder that becomes ``folder`` on success.

    On any exception the temporary folder is removed and what stood at ``folder`` stays untouched.
    ``info`` is written when the block ends, so the caller may fill it meanwhile.

    Raises
    ------
    ArtefactError
        If something that is no artefact stands at ``folder``: it would be lost.
    """
    with _replacing(Path(folder)) as temporary:
        yield temporary
        files = {p.name: hash_file(p) for p in sorted(temporary.iterdir())}
        # As it will be read back, where keys are str: the fingerprint is over that.
        plain = json.loads(json.dumps(info or {}, default=_plain))
        content = {
            "format": FORMAT,
            "kind": kind,
            "fingerprint": _fingerprint(kind, files, made_from or {}, plain),
            "files": files,
            "made_from": dict(made_from or {}),
            "info": plain,
        }
        text = json.dumps(content, indent=1)
        (temporary / MANIFEST).write_text(text, encoding="utf-8")


def open_artefact(folder: str | Path, *, kind: str, verify: bool = True) -> Manifest:
    """Read and check an artefact's manifest.

    Parameters
    ----------
    folder
        Where the artefact lies.
    kind
        What it has to be ("autoencoder", "latents", ...).
    verify
        Compare the SHA-256 of every file. Only a caller that has just done so may leave it out.

    Raises
    ------
    ArtefactError
        If it is missing, of another kind or format, or a file is damaged.
    """
    folder = Path(folder)
    _recover(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtefactError(
            f"no {kind} at {folder}: {MANIFEST} is missing; run the stage that makes it"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, found = content.pop("format"), content["kind"]
        manifest = Manifest(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); make the {kind} again") from error
    if version != FORMAT:
        raise ArtefactError(
            f"{path} has format {version}, this ulrec reads {FORMAT}; make it again"
        )
    if found != kind:
        raise ArtefactError(f"{folder} holds a {found}, a {kind} was expected; check the path")
    if verify:
        _verify(folder, manifest)
    return manifest


def copy_artefact(source: str | Path, folder: str | Path, *, kind: str) -> str:
    """Copy a checked artefact, whole or not at all, and return its fingerprint, which it keeps.

    Raises
    ------
    ArtefactError
        If ``source`` is missing, damaged or of another kind, or something that is no artefact
        stands at ``folder``.
    """
    source = Path(source)
    manifest = open_artefact(source, kind=kind)
    with _replacing(Path(folder)) as temporary:
        for name in [*manifest.files, MANIFEST]:
            shutil.copyfile(source / name, temporary / name)
    return manifest.fingerprint


def require_same(what: str, *, expected: str, got: str | None, remedy: str) -> None:
    """Refuse to join artefacts that were not made from one another.

    Raises
    ------
    ArtefactError
        If the fingerprints differ; both are named.
    """
    if expected != got:
        raise ArtefactError(f"{what}: expected fingerprint {expected}, got {got}; {remedy}")


def save_component(
    folder: str | Path,
    *,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    made_from: Mapping[str, str] | None = None,
    info: dict[str, Any] | None = None,
) -> str:
    """Write ``config.yaml`` and ``model.safetensors`` as one artefact; returns its fingerprint."""
    with new_artefact(folder, kind=kind, made_from=made_from, info=info) as temporary:
        text = yaml.safe_dump(dict(config), sort_keys=False)
        (temporary / "config.yaml").write_text(text, encoding="utf-8")
        contiguous = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
        save_file(contiguous, temporary / "model.safetensors")
    return open_artefact(folder, kind=kind, verify=False).fingerprint


def load_component(folder: str | Path, *, kind: str) -> Component:
    """Read a component; see :func:`open_artefact` for the errors."""
    folder = Path(folder)
    manifest = open_artefact(folder, kind=kind)
    try:
        tensors = from_eight_bits(load_file(folder / "model.safetensors"))
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (SafetensorError, OSError, yaml.YAMLError) as error:
        raise ArtefactError(f"{folder} cannot be read ({error}); make the {kind} again") from error
    return Component(config=config or {}, tensors=tensors, manifest=manifest)


def to_eight_bits(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Round matrices to 8 bits, each row (of an output channel) by a scale of its own.

    Values are kept to within half a 127th of their row's largest (a little more: scales are of 12
    bits). What has fewer than two axes goes into half precision. :func:`load_component` gives all
    of it back, as float32 and float16.

    Parameters
    ----------
    tensors
        By name, finite.
    """
    rounded: dict[str, NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            with np.errstate(over="ignore"):  # who stores it looks for what does not fit
                rounded[name] = tensor.astype(np.float16)
            continue
        largest = np.abs(tensor).max(axis=tuple(range(1, tensor.ndim)), keepdims=True)
        # Twelve bits of a scale: 127 times it is exact, so that rounding again changes nothing.
        mantissa, exponent = np.frexp(largest.astype(np.float64) / 127)
        scale = np.ldexp(np.ceil(mantissa * 2**12) / 2**12, exponent).astype(np.float32)
        rounded[name] = np.rint(tensor / np.where(scale > 0, scale, 1)).astype(np.int8)
        rounded[name + ROW_SCALE] = scale
    return rounded


def from_eight_bits(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what :func:`to_eight_bits` rounded as float32; what was not rounded as it is."""
    return {
        name: tensor * tensors[name + ROW_SCALE] if name + ROW_SCALE in tensors else tensor
        for name, tensor in tensors.items()
        if not name.endswith(ROW_SCALE)
    }


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path``, then move it into place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder`` that takes its place if all goes well."""
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        _sync(temporary)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fingerprint(
    kind: str, files: Mapping[str, str], made_from: Mapping[str, str], info: Mapping[str, Any]
) -> str:
    text = json.dumps([kind, files, made_from, info], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Let NumPy numbers into a manifest: hours of work must not be lost to one ``float32``."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"info of an artefact has to be plain data, got {type(value).__name__}")


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise ArtefactError(
            f"{folder} exists and is no artefact (it has no {MANIFEST}); choose another path or"
            " move it away"
        )


def _verify(folder: Path, manifest: Manifest) -> None:
    expected = _fingerprint(manifest.kind, manifest.files, manifest.made_from, manifest.info)
    if manifest.fingerprint != expected:
        raise ArtefactError(
            f"{folder / MANIFEST} was changed: its content has fingerprint {expected}, it says"
            f" {manifest.fingerprint}; make the {manifest.kind} again"
        )
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{path} is missing; make the {manifest.kind} again")
        if hash_file(path) != expected:
            raise ArtefactError(
                f"{path} is damaged: its checksum differs from {MANIFEST}; make it again"
            )


def _sync(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _swap(temporary: Path, folder: Path) -> None:
    """Move ``temporary`` to ``folder``; a crash in between leaves what :func:`_recover` mends."""
    _recover(folder)
    previous = _previous(folder)
    if folder.exists():
        folder.rename(previous)
    temporary.rename(folder)
    _sync_one(folder.parent)  # the renames, before the only other copy goes
    shutil.rmtree(previous, ignore_errors=True)


def _recover(folder: Path) -> None:
    previous = _previous(folder)
    if previous.exists():
        if folder.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(folder)
