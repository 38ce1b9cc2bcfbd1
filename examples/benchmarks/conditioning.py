"""Measure what examples are worth to a stranger, and what "not those" keeps out.

    python examples/benchmarks/conditioning.py --run runs/quickstart
    python examples/benchmarks/conditioning.py --run runs/quickstart --disliked 20 --push 5

1. Five examples: a user of whom nothing is known but five items they like, against the same user
   with the whole history. The figure is the share of the control_lift over nobody's pictures that
   is kept, on what the user liked later; and of the lift over pictures made for others, which what
   pleases everybody does not raise.
2. Not those: the category of which a user likes most becomes unwanted, some train items of it
   (--disliked) that are not in the history are given as disliked. The figures are the share of
   pictures that a classifier takes for that category, with and without, and the KID of both to the
   train pictures.
3. Groups (--only groups, simulated users): pairs drawn for by the mean of their factors, as
   :class:`ulrec.pipeline.Taste` does, and by the mean of their denoisers. The figures are the least
   and the mean true utility, within a pair, of the nearest item that neither has seen.
4. Several sources (--only sources; a base trained with base.sources.*): a category is asked for by
   its name, by five items of it, and by its name as a text, for nobody and beside the user. The
   figures are the share of pictures that a classifier takes for it, the lift of the user's own
   later likes over other users' that is kept, and KID.

All arms of a user share their seeds. Users are the evaluated ones, or others, on which settings
such as --push are chosen. Intervals are bootstrapped over users.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ulrec import Pipeline
from ulrec.conditioning.sources import EXAMPLES, TEXT, USER
from ulrec.config import load_config
from ulrec.data.ids import IdMap
from ulrec.data.schema import ARM, CATEGORY, CONCEPT, HELDOUT, ITEM_ID, SPLIT, TRAIN, USER_ID
from ulrec.data.simulate import SimulatedWorld
from ulrec.evaluation.classification import Classifier, accuracy, choose_penalty, fit_classifier
from ulrec.evaluation.fidelity import kid
from ulrec.evaluation.personalization import Generated, control_lift, shuffled_lift
from ulrec.evaluation.statistics import (
    bootstrap_mean,
    bootstrap_means,
    paired_bootstrap,
    wilson_interval,
)
from ulrec.experiment.config import RunConfig
from ulrec.experiment.features import picture_batches
from ulrec.experiment.generate import eligible_users, evaluated_users, pipeline_of
from ulrec.experiment.judge_users import liked
from ulrec.experiment.runner import Run
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import Taste, load_interactions, sample_seeds
from ulrec.pipeline.draw import Steer, draw
from ulrec.pipeline.taste import Guidance

NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Bench:
    """A run, whom it is measured for, and the features of its catalogue."""

    run: Run
    pipeline: Pipeline
    users: np.ndarray
    catalogue: np.ndarray
    network: EffLite0
    guidance: float
    seed: int

    @property
    def ids(self) -> list[str] | list[int]:
        """The users' ids."""
        ids: list[str] | list[int] = self.pipeline.factors.users[self.users].tolist()
        return ids

    def rows(self, **where: str) -> np.ndarray:
        """Return rows of the catalogue's items where a column has a value."""
        chosen = self.pipeline.items.filter(**where)[ITEM_ID].to_list()
        return self.pipeline.latents.items.rows(chosen)

    def draw(self, tastes: list[Taste], guidance: Guidance) -> np.ndarray:
        """Return features of a picture for each taste; those of one user have one seed."""
        seeds = sample_seeds(self.seed, self.users, np.zeros_like(self.users))
        made = self.pipeline.generate_taste(tastes, guidance=guidance, seeds=seeds)
        return extract_features(self.network, picture_batches(made.media))

    def arm(self, name: str) -> np.ndarray:
        """Return features of the pictures for the users themselves ("user") or nobody ("null").

        Those of evaluated users lie in the run, where they were drawn from the same seeds.
        """
        config = self.run.config.generate
        if (self.guidance, config.per_user, self.seed) == (
            config.guidance,
            1,
            self.run.config.seed,
        ):
            samples = pl.read_parquet(self.run.path("generated") / "samples.parquet")
            place = IdMap(samples.filter(pl.col(ARM) == name)[USER_ID].to_list()).find(self.ids)
            if (place >= 0).all():
                stored = np.load(self.run.path("features") / "generated.npy")
                drawn: np.ndarray = stored[(samples[ARM] == name).to_numpy()][place]
                return drawn
        tastes = [Taste(users=[user]) for user in self.ids]
        return self.draw(tastes, self.guidance if name == "user" else 0.0)

    def kid(self, features: np.ndarray) -> str:
        """Return the KID to the train pictures with its interval over subsets."""
        size = min(100, len(features) // 2)
        train = self.catalogue[self.rows(**{SPLIT: TRAIN})]
        found = kid(features, train, subset_size=size, num_subsets=200, seed=self.seed)
        return f"{found.full:.4f} [{found.low:.4f}, {found.high:.4f}]"


def told(values: np.ndarray, seed: int) -> str:
    """Return mean and interval as text."""
    found = bootstrap_mean(values, seed=seed)
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def ratio(values: np.ndarray, control: np.ndarray, seed: int) -> str:
    """Return the ratio of two means over the same users, with its interval."""
    means = bootstrap_means(np.stack([values, control], axis=1), seed=seed, num_resamples=2000)
    low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
    return f"{values.mean() / control.mean():.3f} [{low:.3f}, {high:.3f}]"


def five_examples(bench: Bench) -> None:
    """Compare the lifts of strangers with five examples with those of the same users, known."""
    pipeline, rng = bench.pipeline, np.random.default_rng([bench.seed, 1])
    train = set(bench.rows(**{SPLIT: TRAIN}).tolist())
    chosen = []
    for user in bench.users:
        items = pipeline.factors.items[pipeline.interactions.history(user)]
        known = [i for i in items if pipeline.latents.items.rows([i])[0] in train]
        chosen.append(rng.permutation(known)[:NUM_EXAMPLES].tolist())
    strangers = [Taste(liked=items) for items in chosen]
    made = {
        "the whole history": bench.arm("user"),
        f"{NUM_EXAMPLES} examples": bench.draw(strangers, bench.guidance),
        "nobody": bench.arm("null"),
    }
    factors = pipeline.factors
    later = load_interactions(
        bench.run.path("interactions"), factors.users, factors.items, part="test"
    )
    taste = liked(later, bench.users, features=bench.catalogue, items=pipeline.latents.items)
    arms = {name: Generated(features=f, user_idx=bench.users) for name, f in made.items()}
    kids = ", ".join(f"{name} {bench.kid(features)}" for name, features in made.items())
    print(f"\nlift on later likes, {len(bench.users)} users; KID of {kids}")
    for control in ("nobody", "others"):
        values = []
        for name, arm in list(arms.items())[:2]:
            if control == "nobody":
                lift = control_lift(arm, arms[control], taste, arm="null", seed=bench.seed)
            else:
                lift = shuffled_lift(arm, taste, seed=bench.seed)
            values.append(lift.values)
            print(f"over {control}: {name:<18} {told(lift.values, bench.seed)}")
        print(f"over {control}: {'kept':<18} {ratio(values[1], values[0], bench.seed)}")


def not_those(bench: Bench, push: float, disliked: int) -> None:
    """Compare the share of an unwanted category with and without disliked items of it."""
    pipeline, rng = bench.pipeline, np.random.default_rng([bench.seed, 2])
    names, labels, classifier = fit_categories(bench)
    train = np.isin(np.arange(len(labels)), bench.rows(**{SPLIT: TRAIN}))
    popular = pipeline.interactions.popularity() > 0
    unwanted, tastes = [], []
    for row, user in zip(bench.users, bench.ids, strict=True):
        history = pipeline.interactions.history(row)
        mine = pipeline.latents.items.rows(pipeline.factors.items[history])
        category = np.bincount(labels[mine], minlength=len(names)).argmax()
        pool = np.flatnonzero((labels == category) & train)
        pool = pool[popular[pipeline.factors.items.rows(pipeline.latents.items[pool])]]
        pool = np.setdiff1d(pool, mine)
        items = pipeline.latents.items[rng.permutation(pool)[:disliked]].tolist()
        unwanted.append(category)
        tastes.append(Taste(users=[user], disliked=items))
    scales = {"users": bench.guidance, "disliked": push}
    made = {
        "liked alone": bench.arm("user"),
        f"not {disliked}, push {push:g}": bench.draw(tastes, scales),
    }
    print(f"\nshare of the unwanted category, {len(bench.users)} users, a picture each")
    hits = []
    for name, features in made.items():
        hits.append((classifier.predict(features) == np.array(unwanted)).astype(float))
        share = wilson_interval(int(hits[-1].sum()), len(hits[-1]))
        print(
            f"{name:<20} {share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]   "
            f"KID {bench.kid(features)}"
        )
    print(f"{'left':<20} {ratio(hits[1], hits[0], bench.seed)}")


def groups(bench: Bench) -> None:
    """Compare the two ways to draw for pairs of users, evaluated or others, two at a time."""
    pipeline, half = bench.pipeline, len(bench.users) // 2
    world = SimulatedWorld.load(bench.run.path("simulation"))
    pairs = np.random.default_rng([bench.seed, 4]).permutation(bench.users)[: 2 * half]
    pairs = pairs.reshape(half, 2)
    factors, scale = pipeline.factors.user_factors[pairs], np.full(half, bench.guidance)
    seeds = sample_seeds(bench.seed, pairs[:, 0], np.zeros(half, np.int64))
    arms = {
        "factors": [Steer(source="user", vectors=factors.mean(axis=1), weights=scale)],
        "denoisers": [
            Steer(source="user", vectors=factors[:, one], weights=scale / 2) for one in (0, 1)
        ],
    }
    seen = [np.unique(np.concatenate([_history(pipeline, u) for u in pair])) for pair in pairs]
    found = {}
    print(f"\ntrue utility of the nearest item that neither has seen, {half} pairs")
    for name, steers in arms.items():
        _, latents = draw(pipeline, steers, seeds=seeds, decode=False)
        items = pipeline.neighbours(latents, k=1, exclude=seen)[ITEM_ID].to_list()
        rows = world.item_ids.rows(items)
        users = world.user_ids.rows(pipeline.factors.users[pairs.ravel()]).reshape(half, 2)
        utility = world.utility(users, rows[:, None])
        found[name] = utility.min(axis=1), utility.mean(axis=1)
        least, mean = (told(values, bench.seed) for values in found[name])
        print(f"{'mean of ' + name:<20} least {least}   mean {mean}")
    for place, name in enumerate(("least", "mean")):
        gap = paired_bootstrap(found["denoisers"][place], found["factors"][place], seed=0)
        print(f"denoisers - factors  {name} {gap.mean:.4f} [{gap.low:.4f}, {gap.high:.4f}]")


def several_sources(bench: Bench, scale: float) -> None:
    """Compare what is drawn with a category asked for, alone and beside the user, with without."""
    pipeline, rng = bench.pipeline, np.random.default_rng([bench.seed, 5])
    heard = [name for name in pipeline.conditioner.names if name != USER]
    if not heard:
        raise SystemExit("this base hears users alone; set base.sources.category={} or others")
    names, labels, classifier = fit_categories(bench)
    train = bench.rows(**{SPLIT: TRAIN})
    few = [n for w, n in enumerate(names) if (labels[train] == w).sum() < NUM_EXAMPLES]
    if few:
        raise SystemExit(f"{', '.join(few)}: fewer than {NUM_EXAMPLES} train items to ask with")
    wanted = rng.integers(len(names), size=len(bench.users))  # no matter what the user likes
    examples = [
        pipeline.latents.items[rng.choice(train[labels[train] == w], NUM_EXAMPLES, replace=False)]
        for w in wanted
    ]
    by_source = {
        CATEGORY: [{CATEGORY: names[w]} for w in wanted],
        EXAMPLES: [{"liked": items.tolist()} for items in examples],
        TEXT: [{TEXT: names[w]} for w in wanted],
    }
    made = {"nobody": bench.arm("null"), "user": bench.arm("user")}
    for name in heard:
        said = by_source[name]
        part = next(iter(said[0]))
        made[name] = bench.draw([Taste(**one) for one in said], {part: scale})
        both = [Taste(users=[user], **one) for user, one in zip(bench.ids, said, strict=True)]
        scales = {"users": bench.guidance, part: scale}
        made[f"user + {name}"] = bench.draw(both, scales)
    factors = pipeline.factors
    later = load_interactions(
        bench.run.path("interactions"), factors.users, factors.items, part="test"
    )
    taste = liked(later, bench.users, features=bench.catalogue, items=pipeline.latents.items)
    print(f"\nscale {scale:g}; share of the wanted category, lift over other users' later likes")
    for name, features in made.items():
        hits = classifier.predict(features) == wanted
        share = wilson_interval(int(hits.sum()), len(hits))
        arm = Generated(features=features, user_idx=bench.users)
        lift = shuffled_lift(arm, taste, seed=bench.seed)
        print(
            f"{name:<18} {share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]   "
            f"lift {told(lift.values, bench.seed)}   KID {bench.kid(features)}"
        )


def _history(pipeline: Pipeline, user: int) -> np.ndarray:
    return pipeline.factors.items[pipeline.interactions.history(user)]


def fit_categories(bench: Bench) -> tuple[list[str], np.ndarray, Classifier]:
    """Return category names, the label of each item, and a classifier of train pictures."""
    items = bench.pipeline.items
    names = sorted(items[CATEGORY].unique().to_list())
    if len(names) < 2:
        raise SystemExit(f"the catalogue has one category, {names[0]}: nothing to keep out")
    labels = np.empty(len(items), np.int64)
    order = bench.pipeline.latents.items.rows(items[ITEM_ID].to_list())
    labels[order] = [names.index(name) for name in items[CATEGORY]]
    train, heldout = (bench.rows(**{SPLIT: split}) for split in (TRAIN, HELDOUT))
    by_id = dict(items.select(ITEM_ID, pl.coalesce(CONCEPT, ITEM_ID)).iter_rows())
    groups = [by_id[item] for item in bench.pipeline.latents.items[train].tolist()]
    x, y, count = bench.catalogue[train], labels[train], len(names)
    penalty = choose_penalty(x, y, groups, num_classes=count, seed=bench.seed)
    classifier = fit_classifier(x, y, num_classes=count, penalty=penalty)
    right = accuracy(labels[heldout], classifier.predict(bench.catalogue[heldout]))
    print(f"classifier of {count} categories: accuracy {right:.3f} on {len(heldout)} held-out")
    return names, labels, classifier


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--whom", choices=("evaluated", "others"), default="evaluated")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--guidance", type=float, help="the run's own by default")
    parser.add_argument("--push", type=float, help="of the disliked items; half of it by default")
    parser.add_argument("--disliked", type=int, default=NUM_EXAMPLES, help="items of the category")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, help="of what is asked for; that of users if left")
    parser.add_argument("--only", choices=("examples", "not-those", "groups", "sources"))
    options = parser.parse_args()
    places = (f"folder={options.run.parent}", f"name={options.run.name}")
    run = Run(config=load_config(RunConfig, options.run / "config.yaml", places))
    pipeline = pipeline_of(run)
    users = evaluated_users(run, pipeline)
    if options.whom == "others":
        users = np.setdiff1d(eligible_users(run, pipeline), users)
    users = np.sort(np.random.default_rng(options.seed).permutation(users)[: options.users])
    guidance = run.config.generate.guidance if options.guidance is None else options.guidance
    bench = Bench(
        run=run,
        pipeline=pipeline,
        users=users,
        catalogue=np.load(run.path("features") / "catalogue.npy"),
        network=EffLite0(),
        guidance=guidance,
        seed=options.seed,
    )
    print(f"{options.run}: {len(users)} {options.whom} users, guidance {guidance:g}")
    if options.only in (None, "examples"):
        five_examples(bench)
    if options.only in (None, "not-those"):
        not_those(bench, guidance / 2 if options.push is None else options.push, options.disliked)
    if options.only == "groups":
        groups(bench)
    if options.only == "sources":
        several_sources(bench, guidance if options.scale is None else options.scale)


if __name__ == "__main__":
    main()
