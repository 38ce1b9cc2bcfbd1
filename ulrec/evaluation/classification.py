"""A linear classifier of features, and how much better than chance it is on sets of pictures.

Whether a generated picture shows what it should is asked of a classifier that has learned from real
ones only. Its accuracy on real held-out pictures is the ceiling that generated ones are held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from ulrec.errors import DataError
from ulrec.evaluation.features import as_features
from ulrec.evaluation.statistics import Interval, permutation_p_value, wilson_interval

__all__ = [
    "PENALTIES",
    "AccuracyScore",
    "Classifier",
    "accuracy",
    "balanced_accuracies",
    "balanced_accuracy",
    "choose_penalty",
    "classification_accuracy_score",
    "fit_classifier",
    "label_permutations",
    "margin_ratio",
]

PENALTIES = (10.0, 1.0, 0.1, 0.01)
"""Strengths of the L2 penalty to choose among, the strongest first."""

FloatArray = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A multinomial logistic regression on standardised features.

    ``weights`` (d, C) and ``bias`` (C,) act on (features - ``mean``) / ``scale``.
    """

    weights: FloatArray
    bias: FloatArray
    mean: FloatArray
    scale: FloatArray
    penalty: float

    @property
    def num_classes(self) -> int:
        """The number of classes C."""
        return len(self.bias)

    def decision(self, features: ArrayLike) -> FloatArray:
        """Return the logits (N, C) of features (N, d).

        Raises
        ------
        DataError
            If the features are no finite matrix of the width that it was fitted on.
        """
        x = as_features("features", features)
        if x.shape[1] != len(self.mean):
            raise DataError(
                f"the classifier was fitted on {len(self.mean)} features, got {x.shape[1]}; use "
                "one backbone"
            )
        logits: FloatArray = (x - self.mean) / self.scale @ self.weights + self.bias
        return logits

    def predict(self, features: ArrayLike) -> Labels:
        """Return the likeliest class (N,) of features (N, d); see :meth:`decision`."""
        return np.asarray(self.decision(features).argmax(axis=1), np.int64)


def fit_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    penalty: float,
    tolerance: float = 1e-6,
) -> Classifier:
    """Minimise mean cross-entropy + penalty / 2 |weights|^2 by L-BFGS, the bias unpenalised.

    Parameters
    ----------
    features
        (N, d); they are standardised by their own mean and deviation.
    labels
        Classes 0..C-1 of the rows, (N,).
    num_classes
        C, at least 2.
    penalty
        Strength of the L2 penalty; scikit-learn's C is 1 / (N penalty).
    tolerance
        No part of the gradient is larger in the end.

    Raises
    ------
    DataError
        If features or labels are not usable, or the penalty is not positive.
    """
    x = as_features("features", features, min_rows=2)
    y = _labels(labels, len(x), num_classes)
    if not penalty > 0:
        raise DataError(f"the penalty has to be positive, got {penalty}")
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    x = (x - mean) / scale
    target = np.eye(num_classes)[y]
    dim = x.shape[1]

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        weights, bias = _unpack(flat, dim)
        logits = x @ weights + bias
        norm = logsumexp(logits, axis=1, keepdims=True)
        entropy = (norm[:, 0] - logits[np.arange(len(x)), y]).mean()
        error = (np.exp(logits - norm) - target) / len(x)
        gradient = np.vstack([x.T @ error + penalty * weights, error.sum(axis=0)])
        return float(entropy + penalty / 2 * np.square(weights).sum()), gradient.ravel()

    found = minimize(
        loss,
        np.zeros((dim + 1) * num_classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10_000, "maxcor": 20, "ftol": 0.0, "gtol": tolerance},
    )
    weights, bias = _unpack(np.asarray(found.x, np.float64), dim)
    return Classifier(weights=weights, bias=bias, mean=mean, scale=scale, penalty=penalty)


def choose_penalty(
    features: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    num_classes: int,
    penalties: Sequence[float] = PENALTIES,
    share: float = 0.25,
    seed: int,
) -> float:
    """Return the penalty with the least cross-entropy on a part of the rows that is kept apart.

    Parameters
    ----------
    features, labels, num_classes
        As in :func:`fit_classifier`.
    groups
        What may not stand on both sides, such as concepts, (N,).
    penalties
        To choose among; of equal ones the first.
    share
        Of the groups that are kept apart.
    seed
        Of the groups' draw.

    Raises
    ------
    DataError
        If there are no penalties, or a side would be empty.
    """
    x = as_features("features", features, min_rows=2)
    y = _labels(labels, len(x), num_classes)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    num = round(share * len(names))
    if len(group) != len(x) or not penalties or not 0 < num < len(names):
        raise DataError(
            f"expected a group for each of {len(x)} rows, penalties, and groups on both sides, got "
            f"{len(group)} rows of groups, {len(penalties)} penalties and {num} of {len(names)} "
            "groups kept apart"
        )
    apart = np.isin(group, np.random.default_rng(seed).permutation(len(names))[:num])
    losses = []
    for penalty in penalties:
        model = fit_classifier(x[~apart], y[~apart], num_classes=num_classes, penalty=penalty)
        logits = model.decision(x[apart])
        own = logits[np.arange(len(logits)), y[apart]]
        losses.append(float((logsumexp(logits, axis=1) - own).mean()))
    return float(penalties[int(np.argmin(losses))])


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of rows whose class was predicted.

    Examples
    --------
    >>> accuracy([0, 0, 0, 1], [0, 0, 1, 1])
    0.75
    """
    y, guess = _pairs(labels, predicted)
    return float((y == guess).mean())


def balanced_accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean over the classes among the labels of the share predicted in each.

    Chance is 1 / C for C classes, whatever their sizes.

    Examples
    --------
    >>> balanced_accuracy([0, 0, 0, 0, 1], [0, 0, 0, 1, 1])
    0.875
    """
    y, guess = _pairs(labels, predicted)
    _, rates = _recalls(y, guess)
    return float(rates.mean())


def balanced_accuracies(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    seed: int | np.random.Generator,
    num_resamples: int = 1000,
) -> FloatArray:
    """Return balanced accuracies of rows resampled within their classes, (B,).

    Resampling n hits and misses with replacement is a binomial draw.
    """
    y, guess = _pairs(labels, predicted)
    counts, rates = _recalls(y, guess)
    drawn = np.random.default_rng(seed).binomial(counts, rates, (num_resamples, len(counts)))
    means: FloatArray = (drawn / counts).mean(axis=1)
    return means


def label_permutations(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    seed: int | np.random.Generator,
    num_permutations: int = 9999,
) -> tuple[FloatArray, float]:
    """Return balanced accuracies under shuffled labels (B,), and the p-value of the true ones."""
    y, guess = _pairs(labels, predicted)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [balanced_accuracy(rng.permutation(y), guess) for _ in range(num_permutations)]
    )
    return drawn, permutation_p_value(balanced_accuracy(y, guess), drawn)


def margin_ratio(
    made: FloatArray, real: FloatArray, *, chance: float, observed: tuple[float, float]
) -> Interval:
    """Return (accuracy made - chance) / (accuracy real - chance) with its interval.

    Parameters
    ----------
    made, real
        Resampled accuracies, (B,) each, independent of one another.
    chance
        Accuracy of guessing.
    observed
        The two accuracies themselves.

    Returns
    -------
    Interval
        Its ends are NaN where a resample of the real ones is not above chance.

    Raises
    ------
    DataError
        If the real ones are not above chance: there is no margin to compare with.

    Examples
    --------
    >>> margin_ratio(np.array([0.5]), np.array([0.75]), chance=0.25, observed=(0.5, 0.75))
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    if observed[1] <= chance:
        raise DataError(
            f"real pictures are classified at {observed[1]:.3g}, chance is {chance:.3g}: the "
            "features do not tell the classes apart, and no ratio of margins is defined"
        )
    mean = (observed[0] - chance) / (observed[1] - chance)
    if real.min() <= chance:
        return Interval(mean=mean, low=float("nan"), high=float("nan"))
    low, high = np.quantile((made - chance) / (real - chance), [0.025, 0.975])
    return Interval(mean=mean, low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class AccuracyScore:
    """Accuracy on real test rows of a classifier that has learned from generated rows only.

    ``reference`` is that of one that has learned from real rows, the ceiling. ``recalls`` (C,) are
    the shares right of each class, NaN where the test has none of it; ``is_right`` and
    ``is_reference_right`` (T,) are the values of the test rows. Intervals are Wilson's over them.
    ``warning`` is None, or why the two should not be compared.
    """

    score: Interval
    reference: Interval
    recalls: FloatArray
    is_right: NDArray[np.bool_]
    is_reference_right: NDArray[np.bool_]
    num_generated: int
    num_real: int
    warning: str | None


def classification_accuracy_score(
    generated: tuple[ArrayLike, ArrayLike],
    real: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    num_classes: int,
    penalty: float,
) -> AccuracyScore:
    """Return the classification accuracy score: train on generated rows, test on real ones.

    Parameters
    ----------
    generated, real, test
        Features (N, d) with their classes (N,): what is judged, real rows to learn from, and real
        rows that neither has seen.
    num_classes
        C, at least 2.
    penalty
        As in :func:`fit_classifier`, one for both; choose it on real training rows.

    Raises
    ------
    DataError
        As :func:`fit_classifier`, or if widths differ.
    """
    x = as_features("test", test[0])
    y = _labels(test[1], len(x), num_classes)
    right = []
    for features, labels in (generated, real):
        model = fit_classifier(features, labels, num_classes=num_classes, penalty=penalty)
        right.append(model.predict(x) == y)
    counts = np.bincount(y, minlength=num_classes)
    hits = np.bincount(y, weights=right[0], minlength=num_classes)
    nums = [len(np.asarray(labels)) for _, labels in (generated, real)]
    return AccuracyScore(
        score=wilson_interval(int(right[0].sum()), len(y)),
        reference=wilson_interval(int(right[1].sum()), len(y)),
        recalls=np.where(counts > 0, hits / np.maximum(counts, 1), np.nan),
        is_right=right[0],
        is_reference_right=right[1],
        num_generated=nums[0],
        num_real=nums[1],
        warning=None
        if nums[0] == nums[1]
        else f"learned from {nums[0]} generated and {nums[1]} real rows: compare at equal numbers",
    )


def _unpack(flat: FloatArray, dim: int) -> tuple[FloatArray, FloatArray]:
    """Return weights (d, C) and bias (C,)."""
    matrix = flat.reshape(dim + 1, -1)
    return matrix[:dim], matrix[dim]


def _recalls(labels: Labels, predicted: Labels) -> tuple[Labels, FloatArray]:
    """Return of each class among the labels how many rows it has and the share predicted."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=labels == predicted)
    return counts.astype(np.int64), hits / counts


def _labels(labels: ArrayLike, num: int, num_classes: int) -> Labels:
    y = np.asarray(labels)
    whole = y.ndim == 1 and y.dtype.kind in "iu" and len(y) == num
    if not whole or num_classes < 2 or y.min() < 0 or y.max() >= num_classes:
        raise DataError(
            f"expected a class 0..{num_classes - 1} for each of {num} rows and at least 2 "
            f"classes, got {y.dtype} {y.shape}"
        )
    return y.astype(np.int64)


def _pairs(labels: ArrayLike, predicted: ArrayLike) -> tuple[Labels, Labels]:
    y, guess = np.asarray(labels), np.asarray(predicted)
    if y.shape != guess.shape or y.ndim != 1 or len(y) == 0:
        raise DataError(
            f"expected as many predictions as labels, at least one, got {guess.shape} and {y.shape}"
        )
    return y.astype(np.int64), guess.astype(np.int64)
