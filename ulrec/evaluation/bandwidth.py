"""The bandwidth of kernel IPS: which to try, and which leave-one-out chooses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.errors import DataError
from ulrec.evaluation.estimates import Smoothing
from ulrec.evaluation.kernel_ips import (
    CHUNK,
    Generated,
    KernelWeights,
    checked_vectors,
    square_distances,
)

__all__ = ["Bandwidths", "bandwidth_grid", "leave_one_out"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bandwidths:
    """What leave-one-out says of each bandwidth, (H,) each, and the one it chooses.

    Attributes
    ----------
    bandwidths
        h.
    bias, bias_error
        The estimate of the smoothing's bias and its standard error.
    error
        The standard error of V(h).
    criterion
        What is minimised.
    num_rows
        Rows that could be left out: their user has a row of another item.
    scale
        The standard deviation of the reward.
    """

    bandwidths: Floats
    bias: Floats
    bias_error: Floats
    error: Floats
    criterion: Floats
    num_rows: int
    scale: float

    @property
    def chosen(self) -> float:
        """The bandwidth of least criterion."""
        return float(self.bandwidths[self.criterion.argmin()])

    def smoothing(self, place: int) -> Smoothing:
        """Return what the gates ask of the bandwidth at a place."""
        bias, error = float(self.bias[place]), float(self.bias_error[place])
        return Smoothing(bias=bias, error=error, scale=self.scale)


def bandwidth_grid(generated: Generated, item_vectors: ArrayLike, *, num: int = 10) -> Floats:
    """Return bandwidths between what sees only the nearest item and what sees nearly all, (num,).

    They rise geometrically from a quarter of the median distance between a generation and its
    nearest item to half the median distance between generations and items.

    Raises
    ------
    DataError
        If most generations coincide with an item: then h has no scale; give bandwidths.
    """
    items = checked_vectors(item_vectors, generated)
    nearest, typical = [], []
    step = max(1, CHUNK // len(items))
    for start in range(0, len(generated.vectors), step):
        distance = square_distances(generated.vectors[start : start + step], items)
        nearest.append(distance.min(axis=1))
        typical.append(np.median(distance, axis=1))
    ends = np.sqrt([np.median(np.concatenate(nearest)), np.median(np.concatenate(typical))])
    if not ends[0] > 1e-6 * ends[1]:
        raise DataError("most generations coincide with real items; give the bandwidths to try")
    return np.geomspace(ends[0] / 4, ends[1] / 2, num)


def leave_one_out(
    kernel: KernelWeights, user_rows: ArrayLike, item_rows: ArrayLike, reward: ArrayLike
) -> Bandwidths:
    """Estimate the error of V(h) by predicting logged rewards without the item they belong to.

    Row i is predicted from its user's rows of other items, as if its item had never been shown:
    r_{-i}(h) = sum_j K_h(z_i, z_j) r_j / sum_j K_h(z_i, z_j). What counts is not how well single
    rewards are predicted (that asks for far more smoothing than a mean over users does), but
    whether predictions are off on average where the generations are. The criterion is an estimated
    squared error, minimised over the bandwidths given:

        B(h)^2 + s(h)^2, with B(h) = sum_i w_i(h_1) (r_{-i}(h) - r_i) / sum_i w_i(h_1),

    w(h_1) the weights of the smallest bandwidth and s(h) the standard error of V(h) over rows.

    B(h) overstates the bias where users have few rows: a prediction sees only what its user was
    shown, the kernel's weights know the whole logging policy. It errs towards refusing.

    Parameters
    ----------
    kernel
        Weights and bandwidths.
    user_rows, item_rows, reward
        The log, (n,) each, rows as in the logging policy.

    Raises
    ------
    DataError
        If no user has rows of two items, or none of those that have is near a generation.
    """
    users, items = np.asarray(user_rows, np.int64), np.asarray(item_rows, np.int64)
    rewards = np.asarray(reward, np.float64)
    weights = kernel.weights(users, items)
    predicted = _leave_out(kernel, users, items, rewards)
    usable = np.isfinite(predicted[0])
    sharp = np.where(usable, weights[0], 0.0)
    if not sharp.sum() > 0:
        raise DataError(
            f"leave-one-out needs users with rows of two items near what is generated, "
            f"{np.count_nonzero(usable)} of {len(users)} rows can be left out and none is near; "
            "collect more rows a user. Without it no bandwidth can be chosen, and none be judged"
        )
    missed = np.where(usable, predicted - rewards, 0.0)
    bias = missed @ sharp / sharp.sum()
    residual = sharp * (missed - bias[:, None])
    errors = np.std(weights * rewards, axis=1) / np.sqrt(len(users))
    return Bandwidths(
        bandwidths=kernel.bandwidths,
        bias=bias,
        bias_error=np.sqrt(np.square(residual).sum(axis=1)) / sharp.sum(),
        error=errors,
        criterion=bias**2 + errors**2,
        num_rows=int(np.count_nonzero(usable)),
        scale=float(rewards.std()),
    )


def _leave_out(kernel: KernelWeights, users: Rows, items: Rows, rewards: Floats) -> Floats:
    """Return predictions (H, n); NaN where a user has rows of one item only."""
    predicted = np.full((len(kernel.bandwidths), len(users)), np.nan)
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order])) + 1
    for rows in np.split(order, bounds):
        step = max(1, CHUNK // (len(rows) * max(len(kernel.bandwidths), kernel.items.shape[1])))
        for start in range(0, len(rows), step):
            left = rows[start : start + step]
            predicted[:, left] = _smoothed(kernel, items[left], items[rows], rewards[rows])
    return predicted


def _smoothed(kernel: KernelWeights, left: Rows, items: Rows, rewards: Floats) -> Floats:
    """Return sum_j K r_j / sum_j K over rows of other items, (H, num_left)."""
    distance = square_distances(kernel.items[left], kernel.items[items])
    distance[left[:, None] == items] = np.inf
    nearest = distance.min(axis=1, keepdims=True)
    alone = np.isinf(nearest[:, 0])
    # The nearest counts 1, however small h is: the ratio does not feel a common factor.
    farther = np.where(alone[:, None], 0.0, distance - np.where(alone[:, None], 0.0, nearest))
    h = kernel.bandwidths[:, None, None]
    weight = np.exp(-farther / (2 * h**2))
    predicted = weight @ rewards / weight.sum(axis=2)
    predicted[:, alone] = np.nan
    return np.asarray(predicted)
