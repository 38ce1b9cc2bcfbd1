"""Fit guidance to history length on validation users; judge it on the evaluated ones.

    python examples/benchmarks/guidance.py --run runs/quickstart
    python examples/benchmarks/guidance.py --run runs/quickstart --out guidance --users 60

Users with long histories are drawn for as if they had liked 1, 3, 8, ... random items of them, at
several guidances. What is gained is the control_lift over nobody's pictures on what they liked
later; what it costs is the KID to the train pictures. Of all choices that never fall with the
length, the one of the largest mean lift is taken whose mean KID is no more than that of the run's
one guidance for all. It goes to the run's artefact ``guidance``, or to --out.

Then slices of the evaluated users (histories of 0, 1-4, 5-19 and 20+ items, cut short at random to
2 and 10 for the middle ones) are drawn with one guidance for all, and with their own.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from ulrec import Pipeline
from ulrec.cf.base import FactorModel
from ulrec.config import load_config
from ulrec.data.schema import ITEM_ID, SPLIT, TRAIN
from ulrec.evaluation.fidelity import kid
from ulrec.evaluation.personalization import Generated, Taste, control_lift
from ulrec.evaluation.statistics import bootstrap_mean, paired_bootstrap
from ulrec.experiment.config import RunConfig
from ulrec.experiment.features import picture_batches
from ulrec.experiment.generate import eligible_users, evaluated_users, pipeline_of
from ulrec.experiment.judge_users import liked
from ulrec.experiment.runner import Run
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import load_interactions, sample_seeds
from ulrec.pipeline.guidance import CalibratedGuidance, fit_guidance

PAIR = ("user_idx", "item_idx")
SLICES = {"0": 0, "1-4": 2, "5-19": 10, "20+": None}


@dataclass(frozen=True)
class Bench:
    """A run, users with long histories, what they liked later, and the catalogue's features."""

    run: Run
    pipeline: Pipeline
    users: np.ndarray
    catalogue: np.ndarray
    network: EffLite0
    seed: int

    def draw(self, length: int | None, guidance: float) -> np.ndarray:
        """Return features of a picture for each user, known by so many items of their history."""
        likes, rng = self.pipeline.interactions, np.random.default_rng([self.seed, 3])
        kept = []
        for user in self.users:
            kept.append(rng.permutation(likes.history(user))[:length])
        indptr, indices = np.cumsum([0, *map(len, kept)]), np.concatenate(kept)
        ones = np.ones(len(indices), np.float32)
        shape = (len(self.users), likes.num_items)
        histories = sparse.csr_matrix((ones, indices, indptr), shape=shape)
        recommender = self.pipeline.recommender
        if not isinstance(recommender, FactorModel):
            raise SystemExit(
                f"histories have to be folded in, which {type(recommender).__name__} cannot; "
                "take a run of als, lmf or ease"
            )
        media, _ = self.pipeline.generate_for(
            recommender.fold_in(histories),
            seeds=sample_seeds(self.seed, self.users, np.zeros_like(self.users)),
            guidance=guidance,
        )
        return extract_features(self.network, picture_batches(media))

    def later(self, *parts: str) -> Taste:
        """Return what the users liked later, in these parts of the split."""
        factors, found = self.pipeline.factors, []
        for part in parts:
            table = load_interactions(
                self.run.path("interactions"), factors.users, factors.items, part=part
            )
            items = self.pipeline.latents.items
            found.append(liked(table, self.users, features=self.catalogue, items=items))
        users, rows = (np.concatenate([getattr(f, n) for f in found]) for n in PAIR)
        return Taste(features=self.catalogue, user_idx=users, item_idx=rows)

    def lifts(self, features: np.ndarray, nobody: np.ndarray, later: Taste) -> np.ndarray:
        """Return the control_lift over nobody's pictures of each user."""
        own, control = (Generated(features=f, user_idx=self.users) for f in (features, nobody))
        return control_lift(own, control, later, arm="null", seed=0, num_permutations=1).values

    def kid(self, features: np.ndarray) -> float:
        """Return the KID to the train pictures."""
        chosen = self.pipeline.items.filter(**{SPLIT: TRAIN})[ITEM_ID].to_list()
        train = self.catalogue[self.pipeline.latents.items.rows(chosen)]
        return kid(features, train, subset_size=2, num_subsets=1, seed=0).full


def fit(bench: Bench, lengths: list[int], guidances: list[float], own: float) -> CalibratedGuidance:
    """Measure every length at every guidance and fit; the run's own guidance sets the cost."""
    later, nobody = bench.later("validation", "test"), bench.draw(0, 0.0)
    gain, distance = np.empty((2, len(lengths), len(guidances)))
    print(f"fitted on {len(bench.users)} validation users; KID of nobody {bench.kid(nobody):.4f}")
    for i, length in enumerate(lengths):
        for j, guidance in enumerate(guidances):
            features = bench.draw(length, guidance)
            values = bench.lifts(features, nobody, later)
            gain[i, j], distance[i, j] = values.mean(), bench.kid(features)
            lift = bootstrap_mean(values, seed=0)
            print(
                f"length {length:>3} guidance {guidance:>4g}: lift {lift.mean:.4f} "
                f"[{lift.low:.4f}, {lift.high:.4f}], KID {distance[i, j]:.4f}",
                flush=True,
            )
    most = distance[:, guidances.index(own)].mean()
    return fit_guidance(lengths, guidances, gain, distance, most=most)


def judge(bench: Bench, scale: CalibratedGuidance, own: float) -> None:
    """Compare one guidance for all with that of each slice."""
    later, nobody = bench.later("test"), bench.draw(0, 0.0)
    counts = np.diff(bench.pipeline.interactions.user_items.indptr)[bench.users]
    print(f"judged on {len(bench.users)} evaluated users; KID of nobody {bench.kid(nobody):.4f}")
    for name, length in SLICES.items():
        known = float(np.mean(counts if length is None else np.minimum(counts, length)))
        values, distances = [], []
        for guidance in (own, float(scale(known))):
            features = nobody if guidance == 0 or length == 0 else bench.draw(length, guidance)
            values.append(bench.lifts(features, nobody, later))
            distances.append(bench.kid(features))
        gap = paired_bootstrap(values[1], values[0], seed=0)
        print(
            f"{name:>5} ({known:.1f} items): guidance {own:g} lift {values[0].mean():.4f} KID "
            f"{distances[0]:.4f}; guidance {scale(known):.2f} lift {values[1].mean():.4f} KID "
            f"{distances[1]:.4f}; lift gained {gap.mean:.4f} [{gap.low:.4f}, {gap.high:.4f}]",
            flush=True,
        )


def main() -> None:
    """Fit, keep, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, help="where the artefact goes; into the run by default")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--shortest", type=int, default=20, help="of the histories that are cut")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 3, 8, 20])
    parser.add_argument("--guidances", type=float, nargs="+", default=[2.0, 4.0, 8.0, 12.0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    places = (f"folder={options.run.parent}", f"name={options.run.name}")
    run = Run(config=load_config(RunConfig, options.run / "config.yaml", places))
    pipeline, own = pipeline_of(run), run.config.generate.guidance
    guidances = sorted({*options.guidances, own})
    counts = np.diff(pipeline.interactions.user_items.indptr)
    judged = evaluated_users(run, pipeline)
    others = np.setdiff1d(eligible_users(run, pipeline), judged)
    catalogue, network = np.load(run.path("features") / "catalogue.npy"), EffLite0()
    benches = []
    for users in (others, judged):
        long = users[counts[users] >= options.shortest]
        chosen = np.random.default_rng(options.seed).permutation(long)[: options.users]
        benches.append(Bench(run, pipeline, np.sort(chosen), catalogue, network, options.seed))
    scale = fit(benches[0], options.lengths, guidances, own)
    print(f"guidance {scale.scales} at histories of {scale.lengths}")
    made_from = {name: run.fingerprint(name) for name in ("base", "conditioner")}
    scale.save(options.out or run.path("guidance"), made_from=made_from)
    judge(benches[1], scale, own)


if __name__ == "__main__":
    main()
