"""Bring a fitted embedding model up to newer interactions, in the axes it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ulrec.cf.align import align
from ulrec.cf.base import EmbeddingModel, FactorModel, Recommender
from ulrec.cf.registry import CFConfig, build, config_of
from ulrec.data.factors import Factors
from ulrec.data.identity import require_same_factors
from ulrec.data.interactions import Interactions
from ulrec.errors import DataError

__all__ = ["REFITS", "Refit", "Refitted", "refit"]


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What a refit starts from.

    Attributes
    ----------
    model
        What was fitted before.
    old
        The factors whose axes count.
    config
        What to fit anew; None for the configuration of ``model``.
    max_drift
        The limit of :func:`ulrec.cf.align.align`.
    """

    model: Recommender
    old: Factors
    config: CFConfig | None
    max_drift: float


@dataclass(frozen=True, kw_only=True)
class Refitted:
    """A model of newer interactions, its factors, and how these relate to the old ones."""

    model: EmbeddingModel
    factors: Factors
    relation: str


def refit(how: str, start: Refit, interactions: Interactions) -> Refitted:
    """Refit in one of the ways of :data:`REFITS`.

    Raises
    ------
    DataError
        If there is no such way, the model cannot go it, or its factors drift too far.
    """
    if how not in REFITS:
        raise DataError(f"how has to be one of {', '.join(REFITS)}, got {how!r}")
    return REFITS[how](start, interactions)


def fold_in(start: Refit, interactions: Interactions) -> Refitted:
    """Keep the items' factors and solve for all users."""
    if start.config is not None:
        raise DataError("folding in keeps the model; a configuration of another needs how='align'")
    if not isinstance(start.model, FactorModel):
        raise DataError(
            f"{type(start.model).__name__} does not fold users in; refit with how='align'"
        )
    require_same_factors(
        start.old,
        start.model.factors(),
        what="the recommender does not give the factors that the generator was trained on",
        remedy="take both from one run",
        fields=("num_factors", "items"),
    )
    model = start.model.refolded(interactions)
    return Refitted(model=model, factors=model.factors(), relation="folded_into")


def fit_aligned(start: Refit, interactions: Interactions) -> Refitted:
    """Fit anew and rotate to the old factors."""
    config = config_of(start.model) if start.config is None else start.config
    model = build(config).fit(interactions)
    if not isinstance(model, EmbeddingModel):
        raise DataError(f"'{config.model}' has no factors to align; choose a model that has")
    aligned = align(model.factors(), start.old, max_drift=start.max_drift)
    turned = model.rotated(aligned.rotation)
    factors = dataclasses.replace(turned.factors(), info=aligned.factors.info)
    return Refitted(model=turned, factors=factors, relation="aligned_to")


REFITS: dict[str, Callable[[Refit, Interactions], Refitted]] = {
    "fold_in": fold_in,
    "align": fit_aligned,
}
