"""What counterfactual estimates share: gates that refuse them, intervals, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.schema import ESTIMATOR, HIGH, LOW, NUM_USERS, USER_ID, VALUE
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result
from ulrec.evaluation.statistics import bootstrap_means

__all__ = [
    "Diagnostics",
    "Estimate",
    "Gates",
    "Smoothing",
    "Terms",
    "Unit",
    "diagnose",
    "intervals",
    "refuse",
    "summarise",
]

Floats = NDArray[np.float64]
Unit = Literal["user", "row"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """When an estimate is refused. Lower them knowingly: the result says at what they stood.

    Attributes
    ----------
    min_ess
        Least effective sample size (sum w)^2 / sum w^2.
    min_overlap
        Least share of the target policy's mass on items with a logged propensity above ``floor``.
    max_weight_error
        E[w] is 1 if the propensities are right and the logging policy shows whatever the target
        does: most standard errors by which the mean weight may miss it.
    floor
        Propensity above which an item counts as shown. Low, because overlap asks for what can be
        seen at all; what is seen too rarely shows in the effective sample size.
    max_smoothing_bias
        Of kernels only, in standard deviations of the reward: the largest bias that leave-one-out
        may leave possible, |estimate| + 2 standard errors. A wide kernel passes the gates above
        with ease and says nothing of the target.
    """

    min_ess: float = 1000.0
    min_overlap: float = 0.8
    max_weight_error: float = 5.0
    floor: float = 1e-6
    max_smoothing_bias: float = 0.25

    def __post_init__(self) -> None:
        if not (self.min_ess >= 0 and 0 <= self.min_overlap <= 1 and self.max_weight_error >= 0):
            raise ConfigError(
                "gates need min_ess >= 0, min_overlap in [0, 1] and max_weight_error >= 0, got "
                f"{self.min_ess}, {self.min_overlap}, {self.max_weight_error}"
            )
        if not self.max_smoothing_bias >= 0:
            raise ConfigError(
                f"'max_smoothing_bias' has to be at least 0, got {self.max_smoothing_bias}"
            )
        if not 0 <= self.floor < 1:
            raise ConfigError(f"'floor' has to be in [0, 1), got {self.floor}")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Per-row terms (n,) of a value sum(numerator) / sum(denominator)."""

    numerator: Floats
    denominator: Floats

    @property
    def value(self) -> float:
        """The estimate."""
        return float(self.numerator.sum() / self.denominator.sum())


@dataclass(frozen=True, kw_only=True, slots=True)
class Smoothing:
    """What a kernel's smoothing does to the value, its standard error, and the reward's SD."""

    bias: float
    error: float
    scale: float

    def refusals(self, gates: Gates) -> list[str]:
        """Return what is wrong, as :meth:`Diagnostics.refusals`."""
        possible = abs(self.bias) + 2 * self.error
        if np.isinf(gates.max_smoothing_bias) or possible <= gates.max_smoothing_bias * self.scale:
            return []
        return [
            f"the smoothing may be off by {possible:.3g} (bias {self.bias:.3g} +- {self.error:.2g} "
            f"by leave-one-out), above max_smoothing_bias {gates.max_smoothing_bias:g} x "
            f"{self.scale:.3g}, the reward's standard deviation: log more, or take a smaller h"
        ]


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Of weights before clipping.

    Attributes
    ----------
    ess
        (sum w)^2 / sum w^2.
    overlap
        Share of target mass above the floor.
    mean_weight, mean_weight_error
        Mean of w and its standard error.
    max_weight
        The largest.
    """

    ess: float
    overlap: float
    mean_weight: float
    mean_weight_error: float
    max_weight: float

    def refusals(self, gates: Gates) -> list[str]:
        """Return what is wrong, each with gate, value, threshold and remedy; empty if nothing."""
        found = []
        if self.ess == 0 or not self.ess >= gates.min_ess:
            found.append(
                f"effective sample size {self.ess:.4g} is below min_ess {gates.min_ess:g}: log "
                "more, or evaluate a policy nearer to the logging policy"
            )
        if not self.overlap >= gates.min_overlap:
            found.append(
                f"overlap {self.overlap:.4g} is below min_overlap {gates.min_overlap:g}: the "
                "target shows what was hardly ever logged; let the logging policy explore"
            )
        off = abs(self.mean_weight - 1)
        if not off <= gates.max_weight_error * self.mean_weight_error + 1e-9:
            found.append(
                f"mean weight {self.mean_weight:.4g} +- {self.mean_weight_error:.2g} misses 1 by "
                f"more than max_weight_error {gates.max_weight_error:g} standard errors: check "
                "that propensities are those of the policy that logged"
            )
        return found


def diagnose(weight: Floats, overlap: Floats) -> Diagnostics:
    """Return the diagnostics of weights (n,) and of per-row overlap (n,).

    Examples
    --------
    >>> diagnose(np.array([1.0, 1.0, 2.0, 0.0]), np.ones(4)).ess
    2.6666666666666665
    """
    squares = float(np.square(weight).sum())
    spread = weight.std(ddof=1) if len(weight) > 1 else np.inf
    return Diagnostics(
        ess=float(weight.sum()) ** 2 / squares if squares > 0 else 0.0,
        overlap=float(overlap.mean()),
        mean_weight=float(weight.mean()),
        mean_weight_error=float(spread / np.sqrt(len(weight))),
        max_weight=float(weight.max()),
    )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An estimate before it is summed up.

    Attributes
    ----------
    label
        Its name in the table, clip level and bandwidth included.
    terms
        Its per-row terms.
    weight, overlap
        Weights before clipping and per-row overlap, (n,); None without weights.
    clip
        The clip level.
    smoothing
        Of a kernel's bandwidth; None where there is no kernel, or nobody judged it.
    """

    label: str
    terms: Terms
    weight: Floats | None = None
    overlap: Floats | None = None
    clip: float | None = None
    smoothing: Smoothing | None = None

    @property
    def diagnostics(self) -> Diagnostics | None:
        """Of its weights; None without."""
        if self.weight is None or self.overlap is None:
            return None
        return diagnose(self.weight, self.overlap)

    def refusals(self, gates: Gates) -> list[str]:
        """Return why gates refuse it; empty if they do not."""
        found = self.diagnostics
        reasons = found.refusals(gates) if found else []
        return reasons + (self.smoothing.refusals(gates) if self.smoothing else [])


def refuse(estimates: Sequence[Estimate], gates: Gates) -> None:
    """Raise if a gate refuses an estimate.

    Raises
    ------
    DataError
        Names every estimate, gate, value, threshold and remedy.
    """
    reasons: dict[str, list[str]] = {}
    for each in estimates:
        for reason in each.refusals(gates):
            reasons.setdefault(reason, []).append(each.label)
    if reasons:
        listed = "; ".join(f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items())
        raise DataError(
            f"the counterfactual estimate is refused. {listed}. To see it nevertheless, set the "
            "gate lower in Gates(...): the result will say so"
        )


def summarise(
    estimates: Sequence[Estimate],
    user_ids: NDArray[Any],
    *,
    gates: Gates,
    protocol: Protocol,
    unit: Unit,
    num_resamples: int,
    name: str,
    notes: tuple[str, ...] = (),
) -> Result:
    """Return the table of estimates that pass the gates.

    Parameters
    ----------
    estimates
        In the order of the table.
    user_ids
        Of the rows, (n,).
    gates
        When to refuse.
    protocol
        Its n has to be the number of rows; its seed is that of the bootstrap.
    unit, num_resamples
        Of the bootstrap.
    name, notes
        Of the result.

    Raises
    ------
    DataError
        If a gate refuses, the protocol is of another log, or labels repeat.
    """
    labels = [each.label for each in estimates]
    if not labels or len(set(labels)) != len(labels):
        raise DataError(f"estimates have to be named once each, got {labels}")
    if protocol.n != len(user_ids):
        raise DataError(f"the protocol says n = {protocol.n}, the log has {len(user_ids)} rows")
    refuse(estimates, gates)
    users, rows = np.unique(user_ids, return_inverse=True)
    terms = [each.terms for each in estimates]
    ends = intervals(
        terms, rows if unit == "user" else None, seed=protocol.seed, num_resamples=num_resamples
    )
    summary = pl.DataFrame(
        [
            _row(each, low, high, num_users=len(users))
            for each, (low, high) in zip(estimates, ends, strict=True)
        ]
    )
    return Result(
        name=name,
        protocol=protocol,
        summary=summary,
        per_user=_per_user(estimates, users, rows),
        notes=(*_gate_notes(gates, unit=unit), *notes),
    )


def intervals(
    terms: Sequence[Terms],
    units: NDArray[np.int64] | None,
    *,
    seed: int,
    num_resamples: int,
) -> list[tuple[float, float]]:
    """Return the ends of 95 % percentile intervals; all estimates see the same resamples.

    Parameters
    ----------
    terms
        Of E estimates over the same n rows.
    units
        The unit of each row (n,), 0 .. N - 1; None where each row is one.
    seed, num_resamples
        Of the bootstrap.
    """
    columns = np.stack([column for t in terms for column in (t.numerator, t.denominator)], axis=1)
    if units is not None:
        sums = [np.bincount(units, weights=column) for column in columns.T]
        columns = np.stack(sums, axis=1)
    if len(columns) == 1:
        return [(float("nan"), float("nan"))] * len(terms)
    means = bootstrap_means(columns, seed=seed, num_resamples=num_resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = means[:, ::2] / means[:, 1::2]
    # A resample without any weight has no ratio; where that happens the interval is not defined.
    ends = np.quantile(drawn, (0.025, 0.975), axis=0)
    return [(float(low), float(high)) for low, high in ends.T]


def _row(each: Estimate, low: float, high: float, *, num_users: int) -> dict[str, Any]:
    found = each.diagnostics
    bias, error = (each.smoothing.bias, each.smoothing.error) if each.smoothing else (None, None)
    clipped = None
    if each.clip is not None and each.weight is not None:
        clipped = 1 - float(np.minimum(each.weight, each.clip).sum() / each.weight.sum())
    return {
        ESTIMATOR: each.label,
        VALUE: each.terms.value,
        LOW: low,
        HIGH: high,
        "num": len(each.terms.numerator),
        NUM_USERS: num_users,
        "ess": found.ess if found else None,
        "overlap": found.overlap if found else None,
        "mean_weight": found.mean_weight if found else None,
        "mean_weight_error": found.mean_weight_error if found else None,
        "max_weight": found.max_weight if found else None,
        "clipped_mass": clipped,
    } | ({"smoothing_bias": bias, "smoothing_error": error} if each.smoothing else {})


def _per_user(
    estimates: Sequence[Estimate], users: NDArray[Any], rows: NDArray[np.int64]
) -> pl.DataFrame:
    """Return values whose mean over users is the estimate and whose spread is its uncertainty.

    V + (numerator - V denominator) / mean denominator, with sums per user: the ratio, linearised.
    """
    parts = []
    for each in estimates:
        value = each.terms.value
        numerator = np.bincount(rows, weights=each.terms.numerator)
        denominator = np.bincount(rows, weights=each.terms.denominator)
        values = value + (numerator - value * denominator) / denominator.mean()
        parts.append(pl.DataFrame({USER_ID: users, ESTIMATOR: each.label, VALUE: values}))
    return pl.concat(parts)


def _gate_notes(gates: Gates, *, unit: Unit) -> tuple[str, ...]:
    return (
        f"Gates: ess >= {gates.min_ess:g}, overlap >= {gates.min_overlap:g}, mean weight within "
        f"{gates.max_weight_error:g} standard errors of 1; floor {gates.floor:g}. Diagnostics are "
        "of weights before clipping; clipped_mass is the share of weight that a clip removed.",
        f"Intervals are 95 %, by bootstrap over {unit}s.",
    )
