"""Factors as RecTools, Cornac, RecBole and LightFM hand them out: arrays with their id maps.

None of these libraries is imported; each function says what to pass from which. Where a model adds
biases to products of vectors, they become dimensions of their own, so that products of the factors
returned *are* the model's scores:

    x . y + b_user + b_item = (x, 1, b_user) . (y, b_item, 1).

All are flagged as factors that do not fold in, like any whose learning nobody here has seen. For a
run, :func:`write_exported` leaves them as the files that ``cf.model: foreign`` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from ulrec.cf.foreign import ForeignConfig
from ulrec.checkpoint import new_artefact
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap, Ids
from ulrec.data.schema import ITEM_ID, USER_ID
from ulrec.errors import DataError

__all__ = ["from_cornac", "from_lightfm", "from_recbole", "from_rectools", "write_exported"]

KIND = "exported_factors"
PADDING = "[PAD]"

Matrix = NDArray[np.float32]


def from_rectools(
    user_vectors: ArrayLike,
    item_vectors: ArrayLike,
    *,
    user_external_ids: Sequence[Any] | Ids,
    item_external_ids: Sequence[Any] | Ids,
) -> Factors:
    """Take over vectors of RecTools.

    Parameters
    ----------
    user_vectors, item_vectors
        Of ``model.get_vectors()`` (some models ask for the dataset), (U, R) and (I, R); biases of
        the model are in them already.
    user_external_ids, item_external_ids
        ``dataset.user_id_map.external_ids`` and ``dataset.item_id_map.external_ids``.

    Returns
    -------
    Factors
        With the outside world's ids.

    Raises
    ------
    DataError
        If a matrix has not a row for each id, the dimensions differ, or a number is not finite.
    """
    users = _IdRows("user_external_ids", list(user_external_ids))
    items = _IdRows("item_external_ids", list(item_external_ids))
    return _factors(
        "rectools", users.take(user_vectors), users.ids, items.take(item_vectors), items.ids
    )


def from_cornac(
    user_vectors: ArrayLike,
    item_vectors: ArrayLike,
    *,
    uid_map: Mapping[Any, int],
    iid_map: Mapping[Any, int],
) -> Factors:
    """Take over vectors of Cornac.

    Parameters
    ----------
    user_vectors, item_vectors
        Of ``model.get_user_vectors()`` and ``model.get_item_vectors()``, which hold the items'
        biases; of a model without these methods ``model.u_factors`` and ``model.i_factors``.
    uid_map, iid_map
        Of ``model.train_set`` (or the dataset): id to row.

    Returns
    -------
    Factors
        With the ids of the maps.

    Raises
    ------
    DataError
        As :func:`from_rectools`, and if a map does not name every row once.
    """
    users, items = _IdRows.of("uid_map", uid_map), _IdRows.of("iid_map", iid_map)
    return _factors(
        "cornac", users.take(user_vectors), users.ids, items.take(item_vectors), items.ids
    )


def from_recbole(
    user_embeddings: ArrayLike,
    item_embeddings: ArrayLike,
    *,
    user_tokens: Sequence[str] | Ids | Mapping[str, int],
    item_tokens: Sequence[str] | Ids | Mapping[str, int],
) -> Factors:
    """Take over embeddings of RecBole, without the row of its padding.

    Parameters
    ----------
    user_embeddings, item_embeddings
        Such as ``model.user_embedding.weight.detach().cpu().numpy()``; row 0 is padding.
    user_tokens, item_tokens
        ``dataset.field2id_token[dataset.uid_field]`` and that of ``iid_field``, or the dicts
        ``field2token_id``: both begin with "[PAD]". Tokens are strings, as RecBole keeps them.

    Returns
    -------
    Factors
        Without the padding.

    Raises
    ------
    DataError
        As :func:`from_cornac`, and if the first token is no padding.
    """
    users, items = _tokens("user_tokens", user_tokens), _tokens("item_tokens", item_tokens)
    return _factors(
        "recbole",
        users.take(user_embeddings)[1:],
        users.ids[1:],
        items.take(item_embeddings)[1:],
        items.ids[1:],
    )


def from_lightfm(
    user_representations: tuple[ArrayLike, ArrayLike],
    item_representations: tuple[ArrayLike, ArrayLike],
    *,
    user_id_map: Mapping[Any, int],
    item_id_map: Mapping[Any, int],
) -> Factors:
    """Take over embeddings and biases of LightFM.

    Parameters
    ----------
    user_representations, item_representations
        Of ``model.get_user_representations(features)`` and ``get_item_representations(features)``:
        biases (U,) and embeddings (U, R). Pass the features that the model was trained with.
    user_id_map, item_id_map
        The first and the third of the four dicts of ``Dataset.mapping()``.

    Returns
    -------
    Factors
        Of R + 2 dimensions: see the head of the module.

    Raises
    ------
    DataError
        As :func:`from_cornac`, and if there is not one bias for each row.
    """
    users, items = _IdRows.of("user_id_map", user_id_map), _IdRows.of("item_id_map", item_id_map)
    x, b_user = users.take(user_representations[1]), users.bias(user_representations[0])
    y, b_item = items.take(item_representations[1]), items.bias(item_representations[0])
    return _factors(
        "lightfm",
        np.hstack([x, np.ones_like(b_user), b_user]),
        users.ids,
        np.hstack([y, b_item, np.ones_like(b_item)]),
        items.ids,
    )


def write_exported(factors: Factors, folder: str | Path) -> ForeignConfig:
    """Write factors as files for ``cf.model: foreign``, whole or not at all.

    Returns
    -------
    ForeignConfig
        The section ``cf.foreign`` that names them.
    """
    folder = Path(folder)
    tables = {
        "users.parquet": (USER_ID, factors.users, factors.user_factors),
        "items.parquet": (ITEM_ID, factors.items, factors.item_factors),
    }
    with new_artefact(folder, kind=KIND, info=factors.info) as temporary:
        for name, (column, ids, matrix) in tables.items():
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
            table = pa.table({column: pa.array(ids.ids.tolist()), "vector": vectors})
            pq.write_table(table, temporary / name)
    return ForeignConfig(
        user_factors=str(folder / "users.parquet"), item_factors=str(folder / "items.parquet")
    )


class _IdRows:
    """Ids in the order of the rows that they name."""

    def __init__(self, name: str, ids: list[Any]) -> None:
        self.name = name
        self.ids = ids

    @classmethod
    def of(cls, name: str, id_to_row: Mapping[Any, int]) -> _IdRows:
        """Turn a map of ids to rows around."""
        rows = sorted(id_to_row.values())
        if rows != list(range(len(rows))):
            odd = next(row for place, row in enumerate(rows) if row != place)
            raise DataError(
                f"{name} has to name the rows 0 to {len(rows) - 1} once each, got row {odd} in the "
                "place of another; pass the map of ids to rows as the library keeps it"
            )
        return cls(name, sorted(id_to_row, key=id_to_row.__getitem__))

    def take(self, matrix: ArrayLike) -> Matrix:
        """Return the matrix in float32 if it has a row for each id."""
        found = np.asarray(matrix)
        if found.ndim != 2 or len(found) != len(self.ids):
            raise DataError(
                f"{self.name} names {len(self.ids)} ids, the matrix is {found.shape}; pass both of "
                "one fitted model, the ids in the order of the rows"
            )
        return np.asarray(found, np.float32)

    def bias(self, biases: ArrayLike) -> Matrix:
        """Return the biases (n,) as a column (n, 1)."""
        return self.take(np.asarray(biases).reshape(-1, 1))


def _tokens(name: str, tokens: Sequence[str] | Ids | Mapping[str, int]) -> _IdRows:
    rows = _IdRows.of(name, tokens) if isinstance(tokens, Mapping) else _IdRows(name, list(tokens))
    if not rows.ids or rows.ids[0] != PADDING:
        first = repr(str(rows.ids[0])) if rows.ids else "nothing"
        raise DataError(
            f"{name} has to begin with RecBole's {PADDING!r}, it begins with {first}; pass "
            "dataset.field2id_token[field] as it is"
        )
    return rows


def _factors(model: str, users: Matrix, user_ids: Any, items: Matrix, item_ids: Any) -> Factors:
    return Factors(
        user_factors=users,
        item_factors=items,
        users=IdMap(user_ids),
        items=IdMap(item_ids),
        can_fold_in=False,
        info={"model": model},
    )
