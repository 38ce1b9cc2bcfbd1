"""Collaborative filtering of a run."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from ulrec.cf.base import EmbeddingModel
from ulrec.cf.registry import MODELS, build
from ulrec.cf.registry import save_model as save_recommender
from ulrec.data.factors import Factors
from ulrec.data.ids import IdMap
from ulrec.errors import DataError
from ulrec.experiment.prepare import read_interactions
from ulrec.experiment.runner import Run

__all__ = ["fit_cf", "leak"]


def fit_cf(run: Run) -> str:
    """Fit collaborative filtering; writes ``recommender`` and ``factors``."""
    model = build(run.config.cf)
    if not hasattr(model, "factors"):
        able = ", ".join(name for name, kind in MODELS.items() if hasattr(kind, "factors"))
        raise DataError(
            f"cf.model '{run.config.cf.model}' has no user factors to steer a generator with; "
            f"choose one that has: {able}"
        )
    interactions = read_interactions(run)
    model = model.fit(interactions)
    made_from = {"interactions": run.fingerprint("interactions")}
    save_recommender(model, run.path("recommender"), made_from=made_from)
    factors = cast("EmbeddingModel", model).factors()
    factors.save(run.path("factors"), made_from=made_from)
    return (
        f"{run.config.cf.model} with {factors.num_factors} factors on "
        f"{interactions.user_items.nnz} pairs of {interactions.num_users} users"
        f"{_without_factor('users', factors.users, factors.known_users)}"
        f"{_without_factor('items', factors.items, factors.known_items)}{leak(factors)}"
    )


def leak(factors: Factors) -> str:
    """Return what has to be said of factors that do not fold in."""
    if factors.can_fold_in:
        return ""
    return f"; {factors.info['model']} does not fold in: each condition has seen its own pair"


def _without_factor(what: str, ids: IdMap, known: NDArray[np.bool_]) -> str:
    """Return how many have no factor, with examples."""
    if known.all():
        return ""
    unknown = np.flatnonzero(~known)
    examples = ", ".join(map(str, ids[unknown[:3]].tolist()))
    return f"; {len(unknown)} of {len(known)} {what} have no factor, such as {examples}"
