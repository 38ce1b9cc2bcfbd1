"""The value of a policy that shows generated items: kernel IPS at one bandwidth and as a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from ulrec.data.logged import Policy, validate_log
from ulrec.data.schema import HIGH, LOW, MEAN, METRIC, REWARD, USER_ID
from ulrec.errors import DataError
from ulrec.evaluation.bandwidth import Bandwidths, bandwidth_grid, leave_one_out
from ulrec.evaluation.estimates import Estimate, Gates, Smoothing, Terms, Unit, intervals, summarise
from ulrec.evaluation.kernel_ips import Generated, KernelWeights
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result

__all__ = ["BANDWIDTH", "GeneratedValue", "evaluate_generated", "kernel_estimate"]

BANDWIDTH = "bandwidth"
VALUE_OF_H = "V(h)"

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GeneratedValue:
    """What a log says of generated items.

    Attributes
    ----------
    result
        Kernel IPS and its self-normalised form at the chosen bandwidth.
    curve
        Table [bandwidth, metric, mean, low, high] of V(h), ess, overlap and mean weight. V(h) is
        null where a gate refuses it.
    bandwidths
        What leave-one-out says; None where nobody asked (a bandwidth given, the gate open).
    """

    result: Result
    curve: Result
    bandwidths: Bandwidths | None


def evaluate_generated(
    log: pl.DataFrame,
    generated: Generated,
    *,
    item_vectors: ArrayLike,
    logging: Policy,
    protocol: Protocol,
    bandwidth: float | None = None,
    bandwidths: Sequence[float] | Floats | None = None,
    gates: Gates | None = None,
    unit: Unit = "user",
    num_resamples: int = 1000,
    name: str = "kernel_ips",
) -> GeneratedValue:
    """Estimate the value of generated items from a log of real ones, or refuse.

    Parameters
    ----------
    log
        [user_id, item_id, reward, propensity, (timestamp)].
    generated
        What the target policy generates for every user of the log.
    item_vectors
        z_a of the items of ``logging``, (I, Q).
    logging
        The whole logging policy.
    protocol
        Of the results; its seed is that of the bootstrap, its n has to be the rows of the log.
    bandwidth
        h of the result; None for the one of ``bandwidths`` that leave-one-out chooses
        (:func:`ulrec.evaluation.bandwidth.leave_one_out` states the criterion).
    bandwidths
        h of the curve, rising; None for :func:`ulrec.evaluation.bandwidth.bandwidth_grid`.
    gates
        When to refuse; None for the defaults. The overlap is the share of generations with
        E_{a ~ pi0} K_h(z_g, z_a) above the floor: the propensity of real items within reach.
    unit, num_resamples
        Of the bootstrap, as in :func:`ulrec.evaluation.counterfactual.evaluate_policy`.
    name
        Of the result; the curve is called name_curve.

    Raises
    ------
    DataError
        If the log, an id or a vector is not as it has to be, leave-one-out has nothing to go by,
        or a gate refuses the estimate.
    """
    gates = Gates() if gates is None else gates
    log = validate_log(log)
    users, items = logging.logged(log)
    reward = log[REWARD].to_numpy()
    if bandwidths is None:
        bandwidths = bandwidth_grid(generated, item_vectors)
    tried = np.asarray(bandwidths, np.float64)
    if bandwidth is not None:
        tried = np.unique([*tried, bandwidth])
    kernel = KernelWeights(generated, item_vectors=item_vectors, logging=logging, bandwidths=tried)
    weights, overlap = kernel.weights(users, items), kernel.overlap(users, floor=gates.floor)
    judged = None
    if bandwidth is None or np.isfinite(gates.max_smoothing_bias):
        judged = leave_one_out(kernel, users, items, reward)
    h = judged.chosen if judged is not None and bandwidth is None else bandwidth
    place = int(np.flatnonzero(tried == h)[0])
    by_h = [
        kernel_estimate(
            "ips",
            tried[i],
            weights[i],
            overlap[i],
            reward,
            smoothing=judged.smoothing(i) if judged else None,
        )
        for i in range(len(tried))
    ]
    normalised = kernel_estimate(
        "snips",
        tried[place],
        weights[place],
        overlap[place],
        reward,
        smoothing=by_h[place].smoothing,
    )
    how = "chosen by leave-one-out" if bandwidth is None else "given"
    user_ids = log[USER_ID].to_numpy()
    result = summarise(
        [by_h[place], normalised],
        user_ids,
        gates=gates,
        protocol=protocol,
        unit=unit,
        num_resamples=num_resamples,
        name=name,
        notes=(
            f"h = {h:.4g}, {how}; intervals cover neither that choice nor the smoothing's bias,"
            f" of which at most {gates.max_smoothing_bias:g} standard deviations are let pass.",
            "The overlap is the share of generations with E_(a~pi0) K_h above the floor.",
        ),
    )
    rows = np.unique(user_ids, return_inverse=True)[1] if unit == "user" else None
    terms = [each.terms for each in by_h]
    ends = intervals(terms, rows, seed=protocol.seed, num_resamples=num_resamples)
    curve = Result(
        name=f"{name}_curve",
        protocol=protocol,
        summary=_curve(tried, by_h, ends, gates),
        notes=(*result.notes[:2], "V(h) is empty where a gate refuses it."),
    )
    return GeneratedValue(result=result, curve=curve, bandwidths=judged)


def kernel_estimate(
    kind: str,
    bandwidth: float,
    weight: Floats,
    overlap: Floats,
    reward: Floats,
    *,
    smoothing: Smoothing | None = None,
) -> Estimate:
    """Return kernel "ips" or "snips" of weights (n,), with what is known of the smoothing.

    Raises
    ------
    DataError
        If the kind is another.
    """
    denominators = {"ips": np.ones_like(weight), "snips": weight}
    if kind not in denominators:
        raise DataError(f"kernel estimates are {[*denominators]}, got {kind!r}")
    return Estimate(
        label=f"kernel {kind} (h {bandwidth:.4g})",
        terms=Terms(numerator=weight * reward, denominator=denominators[kind]),
        weight=weight,
        overlap=overlap,
        smoothing=smoothing,
    )


def _curve(
    bandwidths: Floats,
    estimates: Sequence[Estimate],
    ends: Sequence[tuple[float, float]],
    gates: Gates,
) -> pl.DataFrame:
    rows = []
    for h, each, (low, high) in zip(bandwidths, estimates, ends, strict=True):
        found = each.diagnostics
        assert found is not None
        refused = bool(each.refusals(gates))
        value = (None, None, None) if refused else (each.terms.value, low, high)
        error = 1.96 * found.mean_weight_error
        mean = (found.mean_weight, found.mean_weight - error, found.mean_weight + error)
        shown = {
            VALUE_OF_H: value,
            "ess": (found.ess, None, None),
            "overlap": (found.overlap, None, None),
            "mean weight": mean,
        }
        rows += [(float(h), metric, *figures) for metric, figures in shown.items()]
    kinds = {BANDWIDTH: pl.Float64, METRIC: pl.String, MEAN: pl.Float64}
    schema = {**kinds, LOW: pl.Float64, HIGH: pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")
