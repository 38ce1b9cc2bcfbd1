"""Whether generations are *for* their user: lifts over controls, never a raw similarity.

S(g, T) is the mean cosine between generated features and those of a set of items. A raw S rewards
"looks like any poster"; a lift does not. Two kinds of control, two names:

* ``label_lift`` varies whose taste is compared: S(g_u, T_u) - mean over v != u of S(g_u, T_v). With
  held-out items as T it is the headline, ``heldout_lift``; with the history it rewards
  memorising, is called ``history_lift``, and belongs beside the copy rate.
* ``control_lift`` varies who was generated for: S(g_u, T_u) - S(g_c, T_u) for null, shuffled,
  popular and mean user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from ulrec.data.schema import ARM, HIGH, LOW, MEAN, METRIC, NUM_USERS
from ulrec.errors import DataError
from ulrec.evaluation.features import require_same_dim, unit_rows
from ulrec.evaluation.protocol import Protocol, require_not_selected_by
from ulrec.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    holm,
    paired_permutation_test,
    permutation_p_value,
)

__all__ = [
    "Generated",
    "Lift",
    "Taste",
    "control_lift",
    "heldout_lift",
    "history_lift",
    "label_lift",
    "lift_table",
    "liked_profiles",
    "made_profiles",
    "relabelled_means",
    "shuffled_lift",
]

FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]

CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Features (M, d) of generated media and the user row (M,) that each was made for.

    ``user_idx`` None: one set that stands for every user, as a null or popular user's. A user may
    have several; their similarities are averaged.
    """

    features: NDArray[np.floating]
    user_idx: Rows | None

    def __post_init__(self) -> None:
        if self.user_idx is not None and np.shape(self.user_idx) != (len(self.features),):
            raise DataError(
                f"{len(self.features)} generated features need as many user rows, got "
                f"{np.shape(self.user_idx)}"
            )


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What users like: features (I, d) of items, and pairs of rows user_idx (P,), item_idx (P,)."""

    features: NDArray[np.floating]
    user_idx: Rows
    item_idx: Rows

    def __post_init__(self) -> None:
        if np.shape(self.user_idx) != np.shape(self.item_idx) or np.ndim(self.user_idx) != 1:
            raise DataError(
                f"pairs need two lists of one length, got {np.shape(self.user_idx)} users and "
                f"{np.shape(self.item_idx)} items"
            )
        if len(self.item_idx) and not (
            self.item_idx.min() >= 0 and self.item_idx.max() < len(self.features)
        ):
            raise DataError(
                f"item rows have to lie in [0, {len(self.features)}), got {self.item_idx.min()} to "
                f"{self.item_idx.max()}"
            )


@dataclass(frozen=True, kw_only=True)
class Lift:
    """A personalization number: per-user values first, then what they say together.

    ``own`` and ``control`` are the two mean similarities whose difference is ``interval.mean``.
    Users without generated media or without items to compare with are not covered; both are
    counted.
    """

    metric: str
    arm: str
    user_idx: Rows
    values: FloatArray
    own: float
    control: float
    interval: Interval
    p_value: float
    num_permutations: int
    num_without_media: int
    num_without_items: int


def heldout_lift(
    generated: Generated,
    heldout: Taste,
    *,
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> Lift:
    """Return the headline: :func:`label_lift` on what the users liked later."""
    counts = {"num_resamples": num_resamples, "num_permutations": num_permutations}
    return label_lift(generated, heldout, metric="heldout_lift", seed=seed, **counts)


def history_lift(
    generated: Generated,
    history: Taste,
    *,
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> Lift:
    """Return :func:`label_lift` on the histories; it rewards copying, show the copy rate beside."""
    counts = {"num_resamples": num_resamples, "num_permutations": num_permutations}
    return label_lift(generated, history, metric="history_lift", seed=seed, **counts)


def label_lift(
    generated: Generated,
    taste: Taste,
    *,
    metric: str = "label_lift",
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> Lift:
    """Return S(g_u, T_u) - mean over v != u of S(g_u, T_v), with a test over user labels.

    Parameters
    ----------
    generated
        Media made for users.
    taste
        Their items.
    metric
        The name that the result carries.
    seed
        Of bootstrap and permutations.
    num_resamples
        Bootstrap resamples over users.
    num_permutations
        B shuffles of the user labels; p = (1 + #{S_b >= S}) / (1 + B).

    Raises
    ------
    DataError
        If fewer than two users have both media and items, or features are not comparable.
    """
    compared = _compare(generated, taste)
    similarity = compared.similarity
    own = np.diag(similarity)
    others = (similarity.sum(axis=1) - own) / (len(own) - 1)
    return _label_result(
        compared, others, metric, "other users' items", seed, num_resamples, num_permutations
    )


def shuffled_lift(
    generated: Generated,
    taste: Taste,
    *,
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> Lift:
    """Return S(g_u, T_u) - mean over v != u of S(g_v, T_u): ``control_lift`` over shuffled users.

    The expectation over all shuffles, without the noise of one. Its mean over users equals that of
    :func:`label_lift`; the values per user differ, and so does the interval. Parameters and errors
    are those of :func:`label_lift`.
    """
    compared = _compare(generated, taste)
    similarity = compared.similarity
    own = np.diag(similarity)
    others = (similarity.sum(axis=0) - own) / (len(own) - 1)
    return _label_result(
        compared, others, "control_lift", "shuffled", seed, num_resamples, num_permutations
    )


def control_lift(
    generated: Generated,
    control: Generated,
    taste: Taste,
    *,
    arm: str,
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> Lift:
    """Return S(g_u, T_u) - S(g_c, T_u): own media against those made for a control.

    Parameters
    ----------
    generated
        Media made for users.
    control
        Media made for the control: one set for all, or a set per user (other seeds, other users).
    taste
        The users' items.
    arm
        The control's name: "null", "popular", "mean", ...
    seed
        Of bootstrap and permutations.
    num_resamples
        Bootstrap resamples over users.
    num_permutations
        B random exchanges of own and control within users; p is one-sided (own above control).

    Raises
    ------
    DataError
        If no user has media, control media and items, or features are not comparable.
    """
    own_users, own_profiles = made_profiles(generated)
    taste_users, taste_profiles = liked_profiles(taste)
    control_users, control_profiles = made_profiles(control)
    require_same_dim(generated=own_profiles, control=control_profiles, items=taste_profiles)
    users = np.intersect1d(own_users, taste_users)
    if control.user_idx is not None:
        users = np.intersect1d(users, control_users)
    if len(users) == 0:
        raise DataError(f"no user has media, control media ({arm}) and items; check the user rows")
    liked = taste_profiles[np.searchsorted(taste_users, users)]
    made = own_profiles[np.searchsorted(own_users, users)]
    # One set for everyone has one row, which broadcasts.
    rows = np.searchsorted(control_users, users) if control.user_idx is not None else slice(None)
    own = np.einsum("ud,ud->u", made, liked)
    other = np.sum(control_profiles[rows] * liked, axis=1)
    return Lift(
        metric="control_lift",
        arm=arm,
        user_idx=users,
        values=own - other,
        own=float(own.mean()),
        control=float(other.mean()),
        interval=bootstrap_mean(own - other, seed=seed, num_resamples=num_resamples),
        p_value=paired_permutation_test(
            own, other, seed=seed, num_permutations=num_permutations, alternative="greater"
        ),
        num_permutations=num_permutations,
        num_without_media=len(taste_users) - len(users),
        num_without_items=len(np.setdiff1d(own_users, taste_users)),
    )


def lift_table(lifts: Sequence[Lift], *, protocol: Protocol) -> pl.DataFrame:
    """Return a row a lift, ``p_holm`` over all; a metric that picked the media is refused."""
    for lift in lifts:
        require_not_selected_by(protocol, lift.metric)
    rows = [
        {
            METRIC: lift.metric,
            ARM: lift.arm,
            MEAN: lift.interval.mean,
            LOW: lift.interval.low,
            HIGH: lift.interval.high,
            NUM_USERS: len(lift.values),
            "own": lift.own,
            "control": lift.control,
            "p": lift.p_value,
            "p_holm": adjusted,
            "num_permutations": lift.num_permutations,
            "num_without_media": lift.num_without_media,
            "num_without_items": lift.num_without_items,
        }
        for lift, adjusted in zip(lifts, holm([x.p_value for x in lifts]).tolist(), strict=True)
    ]
    return pl.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """S of every covered user's media with every covered user's items: (n, n)."""

    similarity: FloatArray
    user_idx: Rows
    num_without_media: int
    num_without_items: int


def _compare(generated: Generated, taste: Taste) -> _Compared:
    if generated.user_idx is None:
        raise DataError("one set for everyone has no labels to exchange; pass user_idx")
    own_users, made = made_profiles(generated)
    taste_users, liked = liked_profiles(taste)
    require_same_dim(generated=made, items=liked)
    users = np.intersect1d(own_users, taste_users)
    if len(users) < 2:
        raise DataError(f"{len(users)} users have both media and items, at least 2 are needed")
    made = made[np.searchsorted(own_users, users)]
    liked = liked[np.searchsorted(taste_users, users)]
    return _Compared(
        similarity=made @ liked.T,
        user_idx=users,
        num_without_media=len(taste_users) - len(users),
        num_without_items=len(own_users) - len(users),
    )


def _label_result(
    compared: _Compared,
    others: FloatArray,
    metric: str,
    arm: str,
    seed: int,
    num_resamples: int,
    num_permutations: int,
) -> Lift:
    own = np.diag(compared.similarity)
    values = own - others
    # The mean lift is an increasing linear function of the mean of S(g_u, T_label(u)) alone: the
    # sum over all pairs does not change under relabelling.
    permuted = relabelled_means(compared.similarity, np.random.default_rng(seed), num_permutations)
    return Lift(
        metric=metric,
        arm=arm,
        user_idx=compared.user_idx,
        values=values,
        own=float(own.mean()),
        control=float(others.mean()),
        interval=bootstrap_mean(values, seed=seed, num_resamples=num_resamples),
        p_value=permutation_p_value(float(own.mean()), permuted),
        num_permutations=num_permutations,
        num_without_media=compared.num_without_media,
        num_without_items=compared.num_without_items,
    )


def relabelled_means(
    similarity: FloatArray, rng: np.random.Generator, num_permutations: int
) -> FloatArray:
    """Return (B,) means of S(g_u, T_label(u)) over shuffled labels."""
    if num_permutations < 1:
        raise DataError(f"num_permutations has to be at least 1, got {num_permutations}")
    rows = np.arange(len(similarity))
    step = max(1, CHUNK // len(rows))
    means = []
    for start in range(0, num_permutations, step):
        size = min(step, num_permutations - start)
        labels = rng.permuted(np.broadcast_to(rows, (size, len(rows))), axis=1)
        means.append(similarity[rows, labels].mean(axis=1))
    return np.concatenate(means)


def made_profiles(generated: Generated) -> tuple[Rows, FloatArray]:
    """Return users (n,) in order and the mean unit feature of each (n, d)."""
    unit = unit_rows("generated", generated.features)
    if generated.user_idx is None:
        return np.zeros(1, np.int64), unit.mean(axis=0, keepdims=True)
    return _profiles(unit, generated.user_idx, np.arange(len(unit)))


def liked_profiles(taste: Taste) -> tuple[Rows, FloatArray]:
    """Return users (n,) in order and the mean unit feature of their items (n, d)."""
    if len(taste.user_idx) == 0:
        raise DataError("no (user, item) pairs to compare with; check the split")
    return _profiles(unit_rows("items", taste.features), taste.user_idx, taste.item_idx)


def _profiles(unit: FloatArray, user_idx: Rows, rows: Rows) -> tuple[Rows, FloatArray]:
    """Return users (n,) in order and the mean of their rows of ``unit`` (n, d).

    The mean cosine over a set is the product with the mean unit vector, which turns all pairs of
    users into one matrix product.
    """
    users, owner, counts = np.unique(user_idx, return_inverse=True, return_counts=True)
    shares = sparse.csr_matrix((1 / counts[owner], (owner, rows)), shape=(len(users), len(unit)))
    return users.astype(np.int64), np.asarray(shares @ unit)
