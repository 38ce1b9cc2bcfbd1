"""One guidance of the curve: a picture for each validation user, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import open_artefact, require_same
from ulrec.data.interactions import Interactions
from ulrec.data.media import MediaStore
from ulrec.data.schema import HELDOUT, HIGH, ITEM_ID, LOW, MEAN, METRIC, SPLIT, TRAIN, USER_ID
from ulrec.data.simulate import SimulatedWorld
from ulrec.evaluation.beyond_accuracy import across_diversity
from ulrec.evaluation.copying import copy_rate
from ulrec.evaluation.fidelity import kid, kid_name
from ulrec.evaluation.motion import border_variance, mean_ratio, temporal_energy
from ulrec.evaluation.personalization import Generated, heldout_lift
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.evaluation.statistics import Interval, bootstrap_mean
from ulrec.experiment.config import EvaluateStage
from ulrec.experiment.features import picture_batches
from ulrec.experiment.judge_users import liked, nearest_utility, true_utility
from ulrec.experiment.runner import Run
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import Pipeline, load_interactions, sample_seeds

__all__ = ["CurveBench"]

RECOMMENDED = 20
SUBSET, NUM_SUBSETS = 50, 100

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CurveBench:
    """What every guidance is judged with: validation users, and what they liked then.

    ``real`` holds the held-out clips (N, C, F, H, W), None where the media are pictures.
    """

    pipeline: Pipeline
    network: EffLite0
    users: Rows
    later: Interactions
    catalogue: NDArray[np.float32]
    train: Rows
    heldout: Rows
    truth: NDArray[np.float32] | None
    real: NDArray[np.uint8] | None
    config: EvaluateStage
    seed: int

    @classmethod
    def of(cls, run: Run, pipeline: Pipeline, users: Rows) -> CurveBench:
        """Load what the users (rows) of a run are judged with."""
        items, factors = pipeline.latents.items, pipeline.factors
        truth = None
        if open_artefact(run.path("interactions"), kind="interactions").info["simulated"]:
            world = SimulatedWorld.load(run.path("simulation"))
            truth = true_utility(world, factors.users[users], items)
        split = {
            name: items.rows(pipeline.items.filter(pl.col(SPLIT) == name)[ITEM_ID].to_list())
            for name in (TRAIN, HELDOUT)
        }
        folder, media = run.path("interactions"), MediaStore.open(run.path("media")).media
        return cls(
            pipeline=pipeline,
            network=EffLite0(),
            users=users,
            later=load_interactions(folder, factors.users, factors.items, part="validation"),
            catalogue=_catalogue_features(run),
            train=split[TRAIN],
            heldout=split[HELDOUT],
            truth=truth,
            real=np.asarray(media[split[HELDOUT]]) if media.shape[2] > 1 else None,
            config=run.config.evaluate,
            seed=run.config.seed,
        )

    def judge(self, guidance: float, *, progress: Callable[[int], None]) -> list[dict[str, Any]]:
        """Return rows {metric, mean, low, high, n} of pictures drawn at a guidance."""
        media, latents = self.pipeline.generate_for(
            self.pipeline.factors.user_factors[self.users],
            seeds=sample_seeds(self.seed, self.users, np.zeros_like(self.users)),
            guidance=guidance,
            progress=progress,
        )
        features = extract_features(self.network, picture_batches(media))
        found = {
            **self._for_users(features, latents),
            **self._as_pictures(features),
            **self._as_clips(media),
        }
        return [
            {METRIC: name, MEAN: x.mean, LOW: x.low, HIGH: x.high, "n": len(self.users)}
            for name, x in found.items()
        ]

    def _for_users(
        self, features: NDArray[np.float32], latents: NDArray[np.float32]
    ) -> dict[str, Interval]:
        pipeline, users = self.pipeline, self.users
        found = {}
        if self.truth is not None:
            utility = nearest_utility(pipeline, latents, users, truth=self.truth)
            found["true utility"] = self._mean(utility)
        items = pipeline.latents.items
        found["held-out lift"] = heldout_lift(
            Generated(features=features, user_idx=users),
            liked(self.later, users, features=self.catalogue, items=items),
            seed=self.seed,
            num_resamples=self.config.num_resamples,
            num_permutations=1,
        ).interval
        found[f"HR@{RECOMMENDED}"] = self._hit_rate(latents)
        return found

    def _as_pictures(self, features: NDArray[np.float32]) -> dict[str, Interval]:
        train = self.catalogue[self.train]
        # Half of the pictures at most: subsets of all of them would differ by the real ones only.
        size = max(2, min(SUBSET, len(features) // 2, len(train)))
        distance = kid(features, train, subset_size=size, num_subsets=NUM_SUBSETS, seed=self.seed)
        copied = copy_rate(
            features,
            catalogue=train,
            heldout=self.catalogue[self.heldout],
            quantile=self.config.copy_quantile,
        )
        return {
            kid_name(self.network.name): Interval(
                mean=distance.full, low=distance.low, high=distance.high
            ),
            "copy rate": copied.rate,
            "diversity across users": self._mean(across_diversity(features)),
        }

    def _as_clips(self, media: NDArray[np.uint8]) -> dict[str, Interval]:
        """Return how much clips move, and how still their borders stand, beside real ones."""
        if self.real is None:
            return {}
        measured = {
            "motion energy": (temporal_energy(media), temporal_energy(self.real)),
            "border variance": (border_variance(media), border_variance(self.real)),
        }
        found = {}
        for name, (generated, real) in measured.items():
            ratio = mean_ratio(
                generated,
                real,
                seed=self.seed,
                num_resamples=self.config.num_resamples,
            )
            found[name] = Interval(mean=ratio.value, low=ratio.low, high=ratio.high)
        return found

    def _hit_rate(self, latents: NDArray[np.float32]) -> Interval:
        factors = self.pipeline.factors
        ids = factors.users[self.users].tolist()
        user_idx, item_idx = self.later.pairs()
        chosen = np.isin(user_idx, self.users)
        truth = pl.DataFrame(
            {
                USER_ID: factors.users[user_idx[chosen]],
                ITEM_ID: self.later.items[item_idx[chosen]],
            }
        )
        result = evaluate_ranking(
            self.pipeline.recommend_near(ids, latents, k=RECOMMENDED),
            truth,
            ks=(RECOMMENDED,),
            metrics=("hit_rate",),
            seed=self.seed,
            num_resamples=self.config.num_resamples,
        )
        row = result.summary.row(0, named=True)
        return Interval(mean=row[MEAN], low=row[LOW], high=row[HIGH])

    def _mean(self, values: NDArray[np.float64]) -> Interval:
        return bootstrap_mean(values, seed=self.seed, num_resamples=self.config.num_resamples)


def _catalogue_features(run: Run) -> NDArray[np.float32]:
    """Return the features of the catalogue that the run has extracted."""
    folder = run.path("features")
    require_same(
        "the features were extracted from other media",
        expected=run.fingerprint("media"),
        got=open_artefact(folder, kind="features").made_from.get("media"),
        remedy="run `ulrec features` again",
    )
    return np.asarray(np.load(folder / "catalogue.npy"), np.float32)
