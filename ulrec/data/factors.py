"""User and item embeddings of a collaborative-filtering model, with the maps of their rows.

They come from a model of :mod:`ulrec.cf`, or from files that any other program wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ulrec.checkpoint import new_artefact, open_artefact
from ulrec.data.identity import FactorsIdentity, identity_of
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

__all__ = ["Factors", "read_embeddings", "read_factors"]

KIND = "factors"

IdType = Literal["infer", "str", "int"]

WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
NUMBERED = re.compile(r"(.*?)([0-9]+)")


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Embeddings that any collaborative-filtering model may bring.

    Attributes
    ----------
    user_factors
        Float32 (num_users, R).
    item_factors
        Float32 (num_items, R).
    users, items
        Maps of the rows.
    can_fold_in
        Whether a user's factor can be recomputed from a history. Where it cannot (BPR, foreign
        factors), the condition of a training pair has seen that pair: results carry the flag.
    info
        Plain data on where they come from (model, its configuration).
    fingerprint
        Identifies them on disk; None before they are saved.
    """

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    users: IdMap
    items: IdMap
    can_fold_in: bool
    info: dict[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        for name, matrix, ids in (
            ("user_factors", self.user_factors, self.users),
            ("item_factors", self.item_factors, self.items),
        ):
            if matrix.ndim != 2 or matrix.dtype != np.float32:
                raise DataError(
                    f"{name} has to be a float32 matrix, got {matrix.dtype} {matrix.shape}"
                )
            if len(matrix) != len(ids):
                raise DataError(f"{name} has {len(matrix)} rows, its id map {len(ids)}")
            if not np.isfinite(matrix).all():
                bad = int((~np.isfinite(matrix)).any(axis=1).sum())
                raise DataError(f"{bad} rows of {name} hold NaN or infinity; mend or drop them")
        if self.user_factors.shape[1] != self.item_factors.shape[1]:
            raise DataError(
                f"users have {self.user_factors.shape[1]} factors, items"
                f" {self.item_factors.shape[1]}; they have to agree"
            )

    @property
    def num_factors(self) -> int:
        """The dimension R."""
        return int(self.user_factors.shape[1])

    @property
    def known_users(self) -> NDArray[np.bool_]:
        """Where a user has a factor, (num_users,): zeros stand for one nothing is known of."""
        return np.asarray(self.user_factors.any(axis=1), dtype=np.bool_)

    @property
    def known_items(self) -> NDArray[np.bool_]:
        """Where an item has a factor, (num_items,)."""
        return np.asarray(self.item_factors.any(axis=1), dtype=np.bool_)

    @property
    def identity(self) -> FactorsIdentity:
        """Model, id maps, dimension and norms: :mod:`ulrec.data.identity` tells two apart."""
        return identity_of(self)

    def save(self, folder: str | Path, *, made_from: dict[str, str] | None = None) -> str:
        """Write the artefact and return its fingerprint."""
        info = {**self.info, "can_fold_in": self.can_fold_in, "num_factors": self.num_factors}
        with new_artefact(folder, kind=KIND, made_from=made_from, info=info) as temporary:
            tensors = {
                "user_factors": np.ascontiguousarray(self.user_factors),
                "item_factors": np.ascontiguousarray(self.item_factors),
            }
            save_file(tensors, temporary / "factors.safetensors")
            self.users.save(temporary / "users.parquet")
            self.items.save(temporary / "items.parquet")
        return open_artefact(folder, kind=KIND, verify=False).fingerprint

    @classmethod
    def load(cls, folder: str | Path) -> Factors:
        """Read and check the artefact; :func:`ulrec.checkpoint.open_artefact` names the errors."""
        folder = Path(folder)
        manifest = open_artefact(folder, kind=KIND)
        tensors = load_file(folder / "factors.safetensors")
        return cls(
            user_factors=tensors["user_factors"],
            item_factors=tensors["item_factors"],
            users=IdMap.load(folder / "users.parquet"),
            items=IdMap.load(folder / "items.parquet"),
            can_fold_in=bool(manifest.info["can_fold_in"]),
            info=manifest.info,
            fingerprint=manifest.fingerprint,
        )


def read_factors(
    *,
    users: str | Path,
    items: str | Path,
    user_ids: str | Path | None = None,
    item_ids: str | Path | None = None,
    user_id_type: IdType = "infer",
    item_id_type: IdType = "infer",
) -> Factors:
    """Read the factors that another model wrote; :func:`read_embeddings` names the formats.

    Parameters
    ----------
    users, items
        The two files, of one dimension R; a user's taste for an item is the product of theirs.
    user_ids, item_ids
        Files of ids, where the factors' files hold none.
    user_id_type, item_id_type
        How ids in text files are read.

    Returns
    -------
    Factors
        All of both files, flagged as factors that do not fold in.

    Raises
    ------
    DataError
        If a file is missing or bad, or users and items differ in R.
    """
    user_map, user_factors = read_embeddings(users, ids=user_ids, id_type=user_id_type)
    item_map, item_factors = read_embeddings(items, ids=item_ids, id_type=item_id_type)
    if user_factors.shape[1] != item_factors.shape[1]:
        raise DataError(
            f"{users} has {user_factors.shape[1]} factors a user, {items} has "
            f"{item_factors.shape[1]} an item; export both from one model"
        )
    return Factors(
        user_factors=user_factors,
        item_factors=item_factors,
        users=user_map,
        items=item_map,
        can_fold_in=False,
        info={"model": "foreign"},
    )


def read_embeddings(
    path: str | Path, *, ids: str | Path | None = None, id_type: IdType = "infer"
) -> tuple[IdMap, NDArray[np.float32]]:
    """Read a matrix of embeddings and whose each row is.

    Parameters
    ----------
    path
        ``.npy`` (n, R); ``.safetensors`` with one matrix; or ``.parquet`` with a column of ids and
        either one column of lists, or R columns whose names end in the numbers 0 .. R - 1 or
        1 .. R and are otherwise the same. Half, single or double precision.
    ids
        For .npy and .safetensors, a file with an id for each row: ``.txt`` (one a line), ``.csv``
        (one column with a header line), ``.parquet`` (one column) or ``.npy`` (of int or str).
    id_type
        How ids are read from text: "infer" takes them as int if every one is a plain whole number
        without leading zeros, as str otherwise.

    Returns
    -------
    ids, embeddings
        The map of the rows, and float32 (n, R).

    Raises
    ------
    DataError
        If a file is missing or cannot be read, ids repeat or do not match the rows, lists differ in
        length, or a number is missing, NaN, or too large for float32.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in _MATRICES and ending != ".parquet":
        known = ", ".join([*_MATRICES, ".parquet"])
        raise DataError(f"embeddings end in {known}, got {path.name}; convert the file")
    if ending == ".parquet":
        if ids is not None:
            raise DataError(f"{path} holds its own ids; leave out {ids}")
        id_map, matrix = _read_table(path)
    else:
        if ids is None:
            raise DataError(f"{path} holds no ids; name a file with an id for each row")
        matrix = _read(path, _MATRICES[ending])
        id_map = _read_ids(Path(ids), id_type)
        if matrix.ndim == 2 and len(matrix) != len(id_map):
            raise DataError(
                f"{path} has {len(matrix)} rows, {ids} has {len(id_map)} ids; export both at once"
            )
    return id_map, _as_float32(matrix, id_map, path)


def _as_float32(matrix: NDArray[Any], ids: IdMap, path: Path) -> NDArray[np.float32]:
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or 0 in matrix.shape:
        raise DataError(
            f"{path} has to hold a matrix of floating-point numbers with at least one row and "
            f"column, got {matrix.dtype} {matrix.shape}; export (number of ids, R)"
        )
    with np.errstate(over="ignore"):
        embeddings = np.ascontiguousarray(matrix, dtype=np.float32)
    bad: NDArray[np.bool_] = np.asarray((~np.isfinite(embeddings)).any(axis=1), np.bool_)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(bad)} rows of {path} hold NaN, infinity or a number too "
            f"large for float32, such as that of {_examples(ids[bad])}; mend or drop them"
        )
    return embeddings


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise DataError(f"file not found: {path}; check the path")
    try:
        return reader(path)
    except (ValueError, OSError, SafetensorError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error


def _read_npy(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, allow_pickle=False))


def _read_safetensors(path: Path) -> NDArray[Any]:
    tensors = load_file(path)
    if len(tensors) != 1:
        names = ", ".join(sorted(tensors)) or "none"
        raise ValueError(f"expected one tensor, got {names}; write users and items to a file each")
    return next(iter(tensors.values()))


def _read_ids(path: Path, id_type: IdType) -> IdMap:
    ending = path.suffix.lower()
    if ending not in _IDS:
        raise DataError(f"ids end in {', '.join(_IDS)}, got {path.name}; convert the file")
    found = _read(path, _IDS[ending])
    if ending in (".txt", ".csv"):
        found = _typed(found, id_type, path)
    return _id_map(found, path)


def _id_map(ids: Any, path: Path) -> IdMap:
    try:
        return IdMap(ids)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _typed(ids: list[str], id_type: IdType, path: Path) -> list[str] | list[int]:
    """Return ids of a text file as int where nothing is lost: "007" is not 7."""
    odd = [i for i in ids if not WHOLE_NUMBER.fullmatch(i)]
    if id_type == "int" and odd:
        raise DataError(f"ids of {path} have to be whole numbers, got {odd[0]!r}; check the file")
    return ids if id_type == "str" or odd else [int(i) for i in ids]


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    if any(not line.strip() for line in lines):
        raise ValueError(
            f"line {next(n for n, i in enumerate(lines, 1) if not i.strip())} is empty"
        )
    return lines


def _lines_below_header(path: Path) -> list[str]:
    header, *lines = _lines(path) or [""]
    if any("," in line for line in (header, *lines)):
        raise ValueError("expected one column with a header line, found a comma")
    return [line[1:-1] if line[:1] == line[-1:] == '"' else line for line in lines]


def _one_column(path: Path) -> list[Any]:
    table = pq.read_table(path)
    if table.num_columns != 1:
        raise ValueError(f"expected one column of ids, got {', '.join(table.column_names)}")
    return list(table.column(0).to_pylist())


def _read_table(path: Path) -> tuple[IdMap, NDArray[Any]]:
    """Return the ids and the matrix of a parquet table."""
    table = _read(path, pq.read_table)
    lists = [name for name in table.column_names if _is_list(table.schema.field(name).type)]
    if lists:
        others = [name for name in table.column_names if name not in lists]
        columns = (others, lists)
    else:
        numbered = [name for name in table.column_names if NUMBERED.fullmatch(name)]
        columns = ([n for n in table.column_names if n not in numbered], _in_order(numbered))
    (id_columns, factors) = columns
    if len(id_columns) != 1 or not factors or len(lists) > 1:
        raise DataError(
            f"{path} needs one column of ids, and one of lists or several numbered 0 .. R - 1 or "
            f"1 .. R; got {', '.join(table.column_names)}"
        )
    ids = _id_map(table.column(id_columns[0]).to_pylist(), path)
    if lists:
        return ids, _stack(table.column(lists[0]), ids, path)
    holes = [name for name in factors if table.column(name).null_count]
    if holes:
        raise DataError(f"'{holes[0]}' of {path} has missing numbers; drop those rows")
    return ids, np.stack([table.column(name).to_numpy() for name in factors], axis=1)


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _in_order(names: list[str]) -> list[str]:
    """Return numbered columns by their numbers; none if those are not 0 .. R - 1 or 1 .. R."""
    parts = [match.groups() for match in map(NUMBERED.fullmatch, names) if match]
    order = sorted(range(len(parts)), key=lambda i: int(parts[i][1]))
    numbers = [int(parts[i][1]) for i in order]
    whole = any(numbers == list(range(first, first + len(numbers))) for first in (0, 1))
    one_name = len({prefix for prefix, _ in parts}) == 1
    return [names[i] for i in order] if whole and one_name else []


def _stack(column: Any, ids: IdMap, path: Path) -> NDArray[Any]:
    flat = column.combine_chunks()
    rows = [None if row is None else len(row) for row in flat.to_pylist()]
    odd = np.array([length is None or length != rows[0] for length in rows], dtype=bool)
    if odd.any():
        raise DataError(
            f"lists of {path} have to be of one length, {int(odd.sum())} of {len(rows)} differ "
            f"from the first, such as that of {_examples(ids[odd])}; export them again"
        )
    values = flat.flatten()
    if values.null_count:
        raise DataError(f"lists of {path} have missing numbers; drop those rows")
    matrix: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    return matrix


def _examples(ids: NDArray[Any]) -> str:
    return ", ".join(repr(i) for i in ids[:3].tolist())


_MATRICES: dict[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
}
_IDS: dict[str, Callable[[Path], Any]] = {
    ".txt": _lines,
    ".csv": _lines_below_header,
    ".parquet": _one_column,
    ".npy": _read_npy,
}
