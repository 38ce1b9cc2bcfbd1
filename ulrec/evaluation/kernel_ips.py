"""Kernel IPS: the value of showing *generated* items, which no log has ever seen.

With vectors z of generated and of real items and K_h(z, z') = exp(-|z - z'|^2 / 2 h^2), row i of
the log stands for what the target policy generates for its user with the weight

    w_i = E_{g ~ pi(.|x_i)} [ K_h(z_g, z_{a_i}) / E_{a ~ pi0(.|x_i)} K_h(z_g, z_a) ],

so that E[w] = 1 whatever h, and V(h) = E[w r] is the reward of real items near what is generated.
As h falls to 0 that is IPS with each generation replaced by the nearest item that could be shown;
as h grows it is the value of the logging policy. What lies between is bias, and only a reward that
is smooth in z makes it small: look at V(h) as a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ulrec.data.logged import Policy
from ulrec.errors import DataError

__all__ = ["Generated", "KernelWeights", "checked_vectors", "square_distances"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

CHUNK = 4_000_000  # numbers of a temporary array


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What a policy generates: samples of pi(.|x), any number a user, each counting the same.

    Attributes
    ----------
    user_ids
        For whom each was generated, (G,).
    vectors
        z_g, (G, Q), of the kind that real items have.
    """

    user_ids: NDArray[Any]
    vectors: Floats

    def __post_init__(self) -> None:
        if (
            self.vectors.ndim != 2
            or len(self.user_ids) != len(self.vectors)
            or not self.user_ids.size
        ):
            raise DataError(
                f"generations need a user and a vector each, got {len(self.user_ids)} users and "
                f"vectors {self.vectors.shape}"
            )
        if not np.isfinite(self.vectors).all():
            raise DataError("vectors of generations have to be finite; drop those that are not")


class KernelWeights:
    """Weights of logged rows at several bandwidths; the normalisers are computed once.

    Parameters
    ----------
    generated
        What the target policy generates.
    item_vectors
        z_a of the items of ``logging``, (I, Q).
    logging
        The whole logging policy: the normaliser runs over all items, not over those logged.
    bandwidths
        h, (H,), positive and rising, in the units of the vectors.

    Raises
    ------
    DataError
        If shapes disagree, a vector is not finite, a bandwidth is not positive or they do not
        rise, or a user of the generations is unknown to the logging policy.

    Attributes
    ----------
    bandwidths
        As given, (H,).
    log_normaliser
        log E_{a ~ pi0(.|x)} K_h(z_g, z_a), (H, G): at most 0, and the propensity of a real item as
        h falls to 0.
    """

    def __init__(
        self,
        generated: Generated,
        *,
        item_vectors: ArrayLike,
        logging: Policy,
        bandwidths: Sequence[float] | Floats,
    ) -> None:
        self.bandwidths = _checked_bandwidths(bandwidths)
        self.items = checked_vectors(item_vectors, generated)
        if len(self.items) != len(logging.items):
            raise DataError(
                f"there are {len(self.items)} item vectors, and {len(logging.items)} items of the "
                "logging policy; give a row for each, in its order"
            )
        self.logging = logging
        rows = logging.require(generated.user_ids, what="the logging policy")
        order = np.argsort(rows, kind="stable")
        self._users, self._vectors = rows[order], generated.vectors[order].astype(np.float64)
        counts = np.bincount(rows, minlength=len(logging.users))
        self._counts, self._starts = counts, np.cumsum(counts) - counts
        self.log_normaliser = self._normalise()

    def _normalise(self) -> Floats:
        """Return log E_{a ~ pi0} K_h(z_g, z_a), (H, G), chunk by chunk of generations."""
        result = np.empty((len(self.bandwidths), len(self._vectors)))
        step = max(1, CHUNK // len(self.items))
        for start in range(0, len(self._vectors), step):
            part = slice(start, start + step)
            distance = square_distances(self._vectors[part], self.items)
            propensity = self.logging.probabilities[self._users[part]]
            for place, h in enumerate(self.bandwidths):
                # In logarithms: a small h must not turn what is far off into 0 / 0.
                result[place, part] = logsumexp(-distance / (2 * h**2), axis=1, b=propensity)
        return result

    def weights(self, user_rows: ArrayLike, item_rows: ArrayLike) -> Floats:
        """Return the weights of logged pairs.

        Parameters
        ----------
        user_rows, item_rows
            Rows of the logging policy's users and items, (n,).

        Returns
        -------
        NDArray[np.float64]
            (H, n).

        Raises
        ------
        DataError
            If nothing was generated for a user.
        """
        users, items = np.asarray(user_rows, np.int64), np.asarray(item_rows, np.int64)
        self._require_generations(users)
        result = np.empty((len(self.bandwidths), len(users)))
        step = max(1, CHUNK // (self.items.shape[1] * int(self._counts.max())))
        for start in range(0, len(users), step):
            part = slice(start, start + step)
            result[:, part] = self._weights(users[part], items[part])
        return result

    def _weights(self, users: Rows, items: Rows) -> Floats:
        counts = self._counts[users]
        row = np.repeat(np.arange(len(users)), counts)
        first = np.cumsum(counts) - counts
        made = np.arange(len(row)) - first[row] + self._starts[users][row]
        distance = np.square(self._vectors[made] - self.items[items[row]]).sum(axis=1)
        weights = np.empty((len(self.bandwidths), len(users)))
        for place, h in enumerate(self.bandwidths):
            ratio = np.exp(-distance / (2 * h**2) - self.log_normaliser[place, made])
            weights[place] = np.add.reduceat(ratio, first) / counts
        return weights

    def overlap(self, user_rows: ArrayLike, *, floor: float) -> Floats:
        """Return the share of a user's generations whose normaliser is above a floor, (H, n).

        Raises
        ------
        DataError
            If nothing was generated for a user.
        """
        users = np.asarray(user_rows, np.int64)
        self._require_generations(users)
        reached = self.log_normaliser > (np.log(floor) if floor > 0 else -np.inf)
        shares = np.zeros((len(self.bandwidths), len(self._counts)))
        for place, values in enumerate(reached):
            shares[place] = np.bincount(self._users, weights=values, minlength=len(self._counts))
        return np.asarray(shares[:, users] / self._counts[users])

    def _require_generations(self, users: Rows) -> None:
        without = np.unique(users[self._counts[users] == 0])
        if len(without):
            raise DataError(
                f"nothing was generated for {len(without)} users of the log, such as "
                f"{self.logging.users.ids[without[0]].item()!r}; generate for all, or evaluate the "
                "log of those that you generate for and say so"
            )


def square_distances(a: Floats, b: Floats) -> Floats:
    """Return |a_i - b_j|^2, (n, m)."""
    square = np.square(a).sum(axis=1)[:, None] - 2 * a @ b.T + np.square(b).sum(axis=1)
    return np.asarray(np.maximum(square, 0.0))


def _checked_bandwidths(bandwidths: Sequence[float] | Floats) -> Floats:
    h = np.asarray(bandwidths, np.float64)
    if h.ndim != 1 or not len(h) or not np.all(np.isfinite(h) & (h > 0)) or np.any(np.diff(h) <= 0):
        raise DataError(f"bandwidths have to be positive and rise, got {bandwidths}")
    return h


def checked_vectors(item_vectors: ArrayLike, generated: Generated) -> Floats:
    """Return the vectors of items as float64 (I, Q).

    Raises
    ------
    DataError
        If they are not finite or not of the width of the generations'.
    """
    items = np.asarray(item_vectors, np.float64)
    width = generated.vectors.shape[1]
    if items.ndim != 2 or items.shape[1] != width or not np.isfinite(items).all():
        raise DataError(
            f"item vectors have to be finite (I, {width}) as those of the generations, got "
            f"{items.shape}; project both alike"
        )
    return items
