"""Counterfactual evaluation: what another policy would have earned, from a log with propensities.

Row i of the log: user x_i was shown a_i with probability pi0(a_i|x_i) and gave the reward r_i. With
w_i = pi(a_i|x_i) / pi0(a_i|x_i) of the target policy pi, per row and then as a mean:

    IPS     w r
    SNIPS   w r over w: a ratio of means
    DR      q(x, pi) + w (r - q(x, a)) with a reward model q
    MIPS    w r with w = p(e|x, pi) / p(e|x, pi0) of the item's category e
    DM      q(x, pi), the direct method: as good as its model, no weight corrects it

An estimator with a clip level c uses min(w, c) and says so in its name. Diagnostics are those of
the weights *before* clipping: a clip level must not buy a way past the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.logged import Policy, validate_log
from ulrec.data.schema import ITEM_ID, PROPENSITY, REWARD, USER_ID
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.estimates import Estimate, Gates, Terms, Unit, summarise
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "RewardModel",
    "Samples",
    "estimate",
    "evaluate_policy",
    "samples_of",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
ITEM, CATEGORY, NONE = "item", "category", "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """An estimator by name, with an optional clip level of its weights."""

    name: str
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.name not in ESTIMATORS:
            raise ConfigError(f"there is no estimator {self.name!r}; choose from {[*ESTIMATORS]}")
        if self.clip is not None and not self.clip > 0:
            raise ConfigError(f"'clip' has to be positive, got {self.clip}")
        if self.clip is not None and self.weighted_by == NONE:
            raise ConfigError(f"{self.name} has no weights to clip; leave 'clip' out")

    @property
    def label(self) -> str:
        """The name with the clip level, as results show it."""
        return self.name if self.clip is None else f"{self.name} (clip {self.clip:g})"

    @property
    def weighted_by(self) -> str:
        """Whose weights it uses: "item", "category" or "none"."""
        return ESTIMATORS[self.name][0]


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """What a model fitted on *other* data expects: q(x_i, a_i) and E_{a ~ pi} q(x_i, a), (n,)."""

    logged: Floats
    target: Floats


@dataclass(frozen=True, kw_only=True)
class Samples:
    """All that estimators know of a log.

    Attributes
    ----------
    user_ids
        Of each row, (n,).
    reward
        (n,).
    weights
        By "item" and, where known, "category": (n,).
    overlap
        By the same names: a row's share of target mass above the floor, (n,); its mean is the
        overlap.
    model
        None without a reward model.
    """

    user_ids: NDArray[Any]
    reward: Floats
    weights: Mapping[str, Floats]
    overlap: Mapping[str, Floats]
    model: RewardModel | None = None


def ips(samples: Samples, weight: Floats) -> Terms:
    """V = 1/n sum w r."""
    return Terms(numerator=weight * samples.reward, denominator=np.ones_like(weight))


def snips(samples: Samples, weight: Floats) -> Terms:
    """V = sum w r / sum w: an added constant of the reward adds that constant to the value."""
    return Terms(numerator=weight * samples.reward, denominator=weight)


def dr(samples: Samples, weight: Floats) -> Terms:
    """V = 1/n sum [q(x, pi) + w (r - q(x, a))]."""
    model = _required(samples.model)
    corrected = model.target + weight * (samples.reward - model.logged)
    return Terms(numerator=corrected, denominator=np.ones_like(weight))


def dm(samples: Samples, weight: Floats) -> Terms:
    """V = 1/n sum q(x, pi)."""
    return Terms(numerator=_required(samples.model).target, denominator=np.ones_like(weight))


def estimate(samples: Samples, estimator: Estimator) -> Terms:
    """Return the per-row terms of an estimator, without asking the gates.

    Raises
    ------
    ConfigError
        If it needs categories or a reward model that the samples do not have.
    """
    weight = _weight(samples, estimator)
    if estimator.clip is not None:
        weight = np.minimum(weight, estimator.clip)
    return ESTIMATORS[estimator.name][1](samples, weight)


def samples_of(
    log: pl.DataFrame,
    target: Policy,
    *,
    floor: float,
    logging: Policy | None = None,
    categories: ArrayLike | None = None,
    model: RewardModel | None = None,
) -> Samples:
    """Bring a log and a target policy together; see :func:`evaluate_policy` for the parameters.

    ``floor`` is the propensity above which an item counts as shown.
    """
    log = validate_log(log)
    users = target.require(log[USER_ID].to_list(), what="the target policy")
    items = target.items.rows(log[ITEM_ID].to_list())
    propensity = log[PROPENSITY].to_numpy()
    weight = target.probabilities[users, items] / propensity
    weights, overlap = {ITEM: weight}, {ITEM: weight * (propensity > floor)}
    if logging is not None:
        logging = logging.aligned(target.items, what="the logging policy")
        shown, _ = logging.logged(log)
        overlap[ITEM] = _mass_above(
            floor, target.probabilities, logging.probabilities, users, shown
        )
    if categories is not None:
        if logging is None:
            raise ConfigError(
                "category weights need the whole logging policy: p(e|x, pi0) sums propensities of "
                "items that were not shown; give 'logging'"
            )
        groups = _groups(categories, len(target.items))
        wanted, had = target.probabilities @ groups, logging.probabilities @ groups
        kind = groups.argmax(axis=1)[items]
        weights[CATEGORY] = wanted[users, kind] / had[shown, kind]
        overlap[CATEGORY] = _mass_above(floor, wanted, had, users, shown)
    if model is not None:
        _check_model(model, log.height)
    return Samples(
        user_ids=log[USER_ID].to_numpy(),
        reward=log[REWARD].to_numpy(),
        weights=weights,
        overlap=overlap,
        model=model,
    )


def evaluate_policy(
    log: pl.DataFrame,
    target: Policy,
    *,
    estimators: Sequence[Estimator],
    protocol: Protocol,
    logging: Policy | None = None,
    categories: ArrayLike | None = None,
    model: RewardModel | None = None,
    gates: Gates | None = None,
    unit: Unit = "user",
    num_resamples: int = 1000,
    name: str = "counterfactual",
) -> Result:
    """Estimate the value of a policy from a log of another, or refuse.

    Parameters
    ----------
    log
        [user_id, item_id, reward, propensity, (timestamp)].
    target
        The policy to evaluate.
    estimators
        Which, in the order of the table.
    protocol
        Of the result; its seed is that of the bootstrap, its n has to be the rows of the log.
    logging
        The whole logging policy. Makes the overlap exact, where the log alone gives an estimate of
        it (the mean of w over rows above the floor); needed for "mips".
    categories
        Of the items in the order of ``target.items``, (I,): for "mips".
    model
        A reward model's predictions for the rows of the log: for "dr" and "dm".
    gates
        When to refuse; None for the defaults.
    unit
        What is resampled for the intervals. Users by default: rows of one user depend on the same
        taste. "row" where users are drawn anew for each row.
    num_resamples
        Of the bootstrap; intervals are 95 % percentile intervals.
    name
        Of the result.

    Returns
    -------
    Result
        Table [estimator, value, low, high, num, num_users, ess, overlap, mean_weight,
        mean_weight_error, max_weight, clipped_mass]; ``per_user`` holds values whose mean over
        users is the estimate.

    Raises
    ------
    DataError
        If the log or an id is not as it has to be, or a gate refuses an estimate: all that is wrong
        is named.
    ConfigError
        If an estimator lacks what it needs.
    """
    gates = Gates() if gates is None else gates
    samples = samples_of(
        log, target, floor=gates.floor, logging=logging, categories=categories, model=model
    )
    how = "known" if logging is not None else "estimated from the log"
    return summarise(
        [_estimate(samples, each) for each in estimators],
        samples.user_ids,
        gates=gates,
        protocol=protocol,
        unit=unit,
        num_resamples=num_resamples,
        name=name,
        notes=(f"The overlap is {how}. dm, where shown, has no weights: no gate guards it.",),
    )


def _estimate(samples: Samples, estimator: Estimator) -> Estimate:
    kind = estimator.weighted_by
    terms = estimate(samples, estimator)
    if kind == NONE:
        return Estimate(label=estimator.label, terms=terms)
    return Estimate(
        label=estimator.label,
        terms=terms,
        weight=samples.weights[kind],
        overlap=samples.overlap[kind],
        clip=estimator.clip,
    )


def _weight(samples: Samples, estimator: Estimator) -> Floats:
    kind = estimator.weighted_by
    if kind == NONE:
        return np.ones_like(samples.reward)
    if kind not in samples.weights:
        raise ConfigError(
            f"{estimator.name} needs the categories of the items and the whole logging policy; "
            "give 'categories' and 'logging', or leave it out"
        )
    return samples.weights[kind]


def _required(model: RewardModel | None) -> RewardModel:
    if model is None:
        raise ConfigError("dr and dm need a reward model's predictions; give 'model'")
    return model


def _groups(categories: ArrayLike, num_items: int) -> Floats:
    """Return membership (I, C)."""
    names = np.asarray(categories)
    if names.shape != (num_items,):
        raise DataError(f"expected a category for each of {num_items} items, got {names.shape}")
    kinds, codes = np.unique(names, return_inverse=True)
    return np.asarray(codes[:, None] == np.arange(len(kinds)), np.float64)


def _mass_above(floor: float, target: Floats, logging: Floats, users: Rows, shown: Rows) -> Floats:
    """Return sum_a pi(a|x) 1[pi0(a|x) > floor] for each row, (n,)."""
    pairs, back = np.unique(np.stack([users, shown]), axis=1, return_inverse=True)
    mass = (target[pairs[0]] * (logging[pairs[1]] > floor)).sum(axis=1)
    return np.asarray(mass[back.ravel()])


def _check_model(model: RewardModel, num_rows: int) -> None:
    for name in ("logged", "target"):
        values = getattr(model, name)
        if values.shape != (num_rows,) or not np.isfinite(values).all():
            raise DataError(
                f"'{name}' of the reward model has to be {num_rows} finite numbers, one a row of "
                f"the log, got {values.shape}"
            )


ESTIMATORS: dict[str, tuple[str, Callable[[Samples, Floats], Terms]]] = {
    "ips": (ITEM, ips),
    "snips": (ITEM, snips),
    "dr": (ITEM, dr),
    "mips": (CATEGORY, ips),
    "dm": (NONE, dm),
}
"""By name: whose weights an estimator uses, and its terms."""
