"""Turn the factors of a new fit towards old ones, so that what was trained on the old still works.

A fit of the same model on newer interactions finds much the same taste in other axes: factors are
determined up to a rotation. Among rotations, which keep every product of a user with an item, the
one that brings the new factors nearest to the old is Procrustes' (Schönemann, 1966): with
new^T old = U S V^T it is U V^T.

It is fitted to the items. The catalogue is the same and its meaning moves slowly, whereas a user's
factor *should* move with what they have newly liked: a rotation fitted to users would explain that
away. What is left of both after the rotation is the drift.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap
from ulrec.errors import DataError

__all__ = ["Alignment", "Drift", "align", "rotation_onto"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How far new factors lie from old ones after the rotation: |new - old| / |old|, Frobenius.

    0 is no change; independent factors of the same size have about sqrt(2).

    Attributes
    ----------
    items, users
        Over those that have a factor in both fits.
    num_items, num_users
        How many these are.
    """

    items: float
    users: float
    num_items: int
    num_users: int


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """New factors in the old axes: ``factors`` = new @ ``rotation`` (R, R), ``drift`` from old.

    ``factors.info["drift"]`` holds the drift as plain data.
    """

    factors: Factors
    rotation: Matrix
    drift: Drift


def align(new: Factors, old: Factors, *, max_drift: float) -> Alignment:
    """Rotate new factors to old ones over the items of both.

    Parameters
    ----------
    new, old
        Of one dimension R, with at least R items in common that have a factor, and some user.
    max_drift
        Refuse if items or users drift further: what was trained on the old would misread the new.

    Returns
    -------
    Alignment
        All users and items of ``new``, rotated.

    Raises
    ------
    DataError
        If the dimensions differ, too little is in common, or the drift is beyond the limit.
    """
    if new.num_factors != old.num_factors:
        raise DataError(
            f"the new factors have {new.num_factors} dimensions, the old {old.num_factors}; fit "
            "the new ones with the old number of factors"
        )
    items = _common(new.item_factors, new.items, old.item_factors, old.items)
    users = _common(new.user_factors, new.users, old.user_factors, old.users)
    if len(items[0]) < new.num_factors or not len(users[0]):
        raise DataError(
            f"{len(items[0])} items and {len(users[0])} users have a factor in both fits, expected "
            f"at least {new.num_factors} and 1; fit on interactions of the same catalogue"
        )
    rotation = rotation_onto(*items)
    drift = Drift(
        items=_residual(items[0] @ rotation, items[1]),
        users=_residual(users[0] @ rotation, users[1]),
        num_items=len(items[0]),
        num_users=len(users[0]),
    )
    if max(drift.items, drift.users) > max_drift:
        raise DataError(
            f"after the best rotation items drift by {drift.items:.3f} and users by "
            f"{drift.users:.3f}, at most {max_drift:g} is allowed; train the generator on the new "
            "factors, or raise max_drift"
        )
    factors = dataclasses.replace(
        new,
        user_factors=(new.user_factors @ rotation).astype(np.float32),
        item_factors=(new.item_factors @ rotation).astype(np.float32),
        info={**new.info, "drift": dataclasses.asdict(drift)},
        fingerprint=None,
    )
    return Alignment(factors=factors, rotation=rotation, drift=drift)


def rotation_onto(new: Matrix, old: Matrix) -> Matrix:
    """Return the orthogonal (R, R) that minimises |new @ rotation - old| for rows (n, R).

    Reflections are allowed: they keep products as well.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> rotation_onto(x, x[:, ::-1]).round(12).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    u, _, vt = np.linalg.svd(new.T @ old)
    return np.asarray(u @ vt)


def _common(
    new: NDArray[np.float32], new_ids: IdMap, old: NDArray[np.float32], old_ids: IdMap
) -> tuple[Matrix, Matrix]:
    """Return the rows (n, R) of the ids that have a factor in both."""
    rows = new_ids.find(old_ids.ids)
    shared = np.flatnonzero(rows >= 0)
    pair = new[rows[shared]].astype(np.float64), old[shared].astype(np.float64)
    both = pair[0].any(axis=1) & pair[1].any(axis=1)
    return pair[0][both], pair[1][both]


def _residual(new: Matrix, old: Matrix) -> float:
    return float(np.linalg.norm(new - old) / np.linalg.norm(old))
