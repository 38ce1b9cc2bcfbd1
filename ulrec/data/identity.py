"""What makes factors the ones that something was trained on, and in what two sets differ."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ulrec.config import digest
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

if TYPE_CHECKING:
    from ulrec.data.factors import Factors

__all__ = ["FactorsIdentity", "difference", "identity_of", "require_same_factors"]

# Norms that differ by less are those of the same factors, stored in float32.
NORM_TOLERANCE = 1e-4
NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorsIdentity:
    """Model, id maps, dimension and size of factors, as plain data.

    Attributes
    ----------
    model
        Its name.
    num_factors
        The dimension R.
    users, items
        Digests of the id maps, order included.
    user_norm, item_norm
        Mean length of the factors that are not zero, to five digits.
    """

    model: str
    num_factors: int
    users: str
    items: str
    user_norm: float
    item_norm: float

    @property
    def fingerprint(self) -> str:
        """A short digest of all of it."""
        return digest(dataclasses.asdict(self))

    def told_apart(self, got: FactorsIdentity) -> str:
        """Return in what others differ, field by field; what has no field are the numbers alone."""
        pairs = zip(*(dataclasses.asdict(one).items() for one in (self, got)), strict=True)
        told = [f"{name} {b}, expected {a}" for (name, a), (_, b) in pairs if a != b]
        return "; ".join(told) or "the same model, ids, dimension and norms, but other numbers"


def identity_of(factors: Factors) -> FactorsIdentity:
    """Return what identifies factors, whether they were saved or not."""
    return FactorsIdentity(
        model=str(factors.info.get("model", "unknown")),
        num_factors=factors.num_factors,
        users=factors.users.fingerprint,
        items=factors.items.fingerprint,
        user_norm=float(f"{_mean_norm(factors.user_factors):.5g}"),
        item_norm=float(f"{_mean_norm(factors.item_factors):.5g}"),
    )


def difference(expected: Factors, got: Factors) -> dict[str, str]:
    """Return in what factors differ: a sentence for each of the fields of the identity that does.

    Ids are compared with their order; norms over the ids that both have.
    """
    found = {}
    models = [str(factors.info.get("model", "unknown")) for factors in (expected, got)]
    if models[0] != models[1]:
        found["model"] = f"the model is {models[1]}, expected {models[0]}"
    if expected.num_factors != got.num_factors:
        found["num_factors"] = (
            f"they have {got.num_factors} dimensions, expected {expected.num_factors}"
        )
    for what in ("users", "items"):
        ids = getattr(expected, what), getattr(got, what)
        if ids[0] != ids[1]:
            found[what] = _ids_differ(what, *ids)
    for what, name in (("users", "user_factors"), ("items", "item_factors")):
        moved = _norms_differ(expected, got, what, name)
        if moved is not None:
            found[f"{name[:4]}_norm"] = moved
    return found


def require_same_factors(
    expected: Factors, got: Factors, *, what: str, remedy: str, fields: tuple[str, ...] = ()
) -> None:
    """Refuse factors that are not the expected ones, naming every difference.

    Parameters
    ----------
    expected, got
        The factors.
    what
        Begins the message, such as "the recommender is not that of the factors".
    remedy
        Ends it.
    fields
        Of the identity, which count; all by default.

    Raises
    ------
    DataError
        If they differ in one of the fields.
    """
    found = difference(expected, got)
    told = [text for name, text in found.items() if not fields or name in fields]
    if told:
        raise DataError(f"{what}: {'; '.join(told)}; {remedy}")


def _mean_norm(matrix: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
    return float(norms[norms > 0].mean()) if norms.any() else 0.0


def _ids_differ(what: str, expected: IdMap, got: IdMap) -> str:
    if expected.ids.dtype.kind != got.ids.dtype.kind:
        kinds = {"U": "str"}
        names = [kinds.get(ids.ids.dtype.kind, "int") for ids in (expected, got)]
        return f"ids of {what} are {names[1]}, expected {names[0]}"
    missing = expected.ids[got.find(expected.ids) < 0]
    extra = got.ids[expected.find(got.ids) < 0]
    parts = [
        f"{len(ids)} {what} are {how}, such as {', '.join(map(repr, ids[:NAMED].tolist()))}"
        for how, ids in (("missing", missing), ("extra", extra))
        if len(ids)
    ]
    return " and ".join(parts) or f"the {what} are the same in another order"


def _norms_differ(expected: Factors, got: Factors, what: str, name: str) -> str | None:
    ids, others = getattr(expected, what), getattr(got, what)
    if ids.ids.dtype.kind != others.ids.dtype.kind:
        return None
    rows = others.find(ids.ids)
    both = np.flatnonzero(rows >= 0)
    before, after = (
        np.linalg.norm(matrix.astype(np.float64), axis=1)
        for matrix in (getattr(expected, name)[both], getattr(got, name)[rows[both]])
    )
    moved = np.abs(after - before) > NORM_TOLERANCE * np.maximum(before, after)
    if not moved.any():
        return None
    first = int(np.argmax(np.abs(after - before)))
    return (
        f"the norms of {int(moved.sum())} of {len(both)} {what} moved, most that of "
        f"{ids.ids[both[first]].item()!r} from {before[first]:.4g} to {after[first]:.4g}"
    )
