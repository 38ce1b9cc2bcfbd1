"""What would another policy have earned? Estimators on simulated logs, against the truth.

    python examples/07_counterfactual.py --run runs/quickstart --out runs/counterfactual

A recommender shows one item at a time and logs with what probability it did. From such logs two
things are estimated: the value of a better recommender of the same items, and the value of showing
generated items, which no log has seen. The truth is known here, so every estimator is judged over
repeated logs: bias, standard deviation, root mean squared error, how often its 95 % interval holds
the truth, and how often the gates would have refused it.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from ulrec.data.latents import LatentStore
from ulrec.data.logged import Policy, softmax_policy
from ulrec.data.simulate import SimulatedWorld
from ulrec.data.simulate_log import blended_reward, expected_reward, policy_value, simulate_log
from ulrec.errors import DataError
from ulrec.evaluation.bandwidth import bandwidth_grid, leave_one_out
from ulrec.evaluation.counterfactual import (
    Estimator,
    RewardModel,
    estimate,
    evaluate_policy,
    samples_of,
)
from ulrec.evaluation.curves import curve_png
from ulrec.evaluation.estimates import Estimate, Gates, intervals
from ulrec.evaluation.generated_value import evaluate_generated, kernel_estimate
from ulrec.evaluation.kernel_ips import Generated, KernelWeights, square_distances
from ulrec.evaluation.protocol import Protocol
from ulrec.evaluation.results import Result, save_results
from ulrec.retrieval.query import QueryConfig, fit_projection

# The study looks at what the gates refuse, too, to see whether they refuse the right things.
OPEN = Gates(min_ess=0, min_overlap=0, max_weight_error=np.inf, max_smoothing_bias=np.inf)
ESTIMATORS = (
    Estimator(name="ips"),
    Estimator(name="ips", clip=20.0),
    Estimator(name="snips"),
    Estimator(name="dr"),
    Estimator(name="mips"),
    Estimator(name="dm"),
)
PER_USER = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """One world with a logging policy; arrays are (users, items) unless said otherwise."""

    world: SimulatedWorld
    reward: np.ndarray
    belief: np.ndarray  # what the logging recommender thinks of a pair, in log-odds
    wanted: np.ndarray  # what a better one would show
    logging: Policy
    kinds: np.ndarray  # (items,)
    predicted: np.ndarray  # a reward model's

    def target(self, distance: float) -> Policy:
        """Return a policy between logging (0) and the better recommender (1)."""
        scores = (1 - distance) * self.belief + distance * self.wanted
        ids = {"users": self.logging.users, "items": self.logging.items}
        return softmax_policy(scores, **ids, temperature=1.0, explore=0.3 * (1 - distance))


@dataclass(frozen=True, kw_only=True)
class Made:
    """Generated items, the kernel's weights for them, and their true value."""

    generated: Generated
    vectors: np.ndarray  # (items, Q)
    kernel: KernelWeights
    nearest: Policy
    truth: float


def build(run: Path, seed: int) -> Case:
    """Give the world a logging policy and a reward model fitted on an earlier log."""
    world = SimulatedWorld.load(run / "simulation")
    items = pl.read_parquet(run / "items" / "items.parquet")
    rng = np.random.default_rng(seed)
    reward = expected_reward(world)
    utility = world.utility(np.arange(len(world.users))[:, None], np.arange(len(world.items)))
    popularity = world.items["log_popularity"].to_numpy()
    belief = (utility + rng.normal(size=utility.shape) + 0.3 * popularity) / 1.5
    wanted = (utility + 0.5 * rng.normal(size=utility.shape)) / 0.6
    ids = {"users": world.user_ids, "items": world.item_ids}
    logging = softmax_policy(belief, **ids, temperature=1.0, explore=0.3)
    earlier = simulate_log(logging, reward, num_rows=5000, seed=rng)
    shown = logging.logged(earlier)
    columns = np.stack([np.ones_like(belief), belief, belief**2], axis=-1)
    fitted = np.linalg.lstsq(columns[shown], earlier["reward"].to_numpy(), rcond=None)[0]
    return Case(
        world=world,
        reward=reward,
        belief=belief,
        wanted=wanted,
        logging=logging,
        kinds=items["subcategory"].to_numpy(),
        predicted=np.clip(columns @ fitted, 0, 1),
    )


def generate(case: Case, run: Path, seed: int) -> Made:
    """Blend the latents of two items that a user likes: what a good generator might draw."""
    rng = np.random.default_rng(seed)
    store = LatentStore.open(run / "latents")
    dim = min(32, len(store.items) - 1)
    vectors = fit_projection(store.z, QueryConfig(name="whitened", dim=dim))(store.z)
    num_users, num_items = case.reward.shape
    users = np.repeat(np.arange(num_users), PER_USER)
    noise = rng.gumbel(size=(len(users), 2, num_items))
    parents = (case.wanted[users][:, None] + noise).argmax(axis=2)
    first = rng.beta(0.5, 0.5, size=len(users))
    shares = np.stack([first, 1 - first], axis=1)
    blended = (shares[..., None] * vectors[parents]).sum(axis=1)
    drawn = blended + 0.05 * rng.normal(size=blended.shape)
    generated = Generated(user_ids=case.logging.users[users], vectors=drawn.astype(np.float64))
    nearest = np.zeros_like(case.reward)
    closest = square_distances(generated.vectors, vectors.astype(np.float64)).argmin(axis=1)
    np.add.at(nearest, (users, closest), 1 / PER_USER)
    return Made(
        generated=generated,
        vectors=vectors,
        kernel=KernelWeights(
            generated,
            item_vectors=vectors,
            logging=case.logging,
            bandwidths=bandwidth_grid(generated, vectors),
        ),
        nearest=Policy(probabilities=nearest, users=case.logging.users, items=case.logging.items),
        truth=float(blended_reward(case.world, users, parents, shares).mean()),
    )


def estimates_of(case: Case, log: pl.DataFrame, target: Policy) -> list[Estimate]:
    """Return all estimates of a policy that shows items of the catalogue."""
    users, items = case.logging.logged(log)
    expected = (target.probabilities * case.predicted).sum(axis=1)
    samples = samples_of(
        log,
        target,
        floor=OPEN.floor,
        logging=case.logging,
        categories=case.kinds,
        model=RewardModel(logged=case.predicted[users, items], target=expected[users]),
    )
    return [
        Estimate(
            label=each.label,
            terms=estimate(samples, each),
            weight=samples.weights.get(each.weighted_by),
            overlap=samples.overlap.get(each.weighted_by),
            clip=each.clip,
        )
        for each in ESTIMATORS
    ]


def estimates_of_made(case: Case, log: pl.DataFrame, made: Made) -> list[Estimate]:
    """Return kernel IPS at the bandwidth that leave-one-out chooses, and IPS of nearest items."""
    users, items = case.logging.logged(log)
    reward = log["reward"].to_numpy()
    weights = made.kernel.weights(users, items)
    overlap = made.kernel.overlap(users, floor=OPEN.floor)
    judged = leave_one_out(made.kernel, users, items, reward)
    chosen = int(judged.criterion.argmin())
    samples = samples_of(log, made.nearest, floor=OPEN.floor, logging=case.logging)
    sharp = samples.weights["item"], samples.overlap["item"]
    smooth = weights[chosen], overlap[chosen], judged.smoothing(chosen)
    found = {
        "ips of the nearest item": ("ips", *sharp, None),
        "snips of the nearest item": ("snips", *sharp, None),
        "kernel ips, leave-one-out": ("ips", *smooth),
        "kernel snips, leave-one-out": ("snips", *smooth),
    }
    return [
        Estimate(
            label=label,
            terms=kernel_estimate(kind, 1.0, weight, share, reward).terms,
            weight=weight,
            overlap=share,
            smoothing=smoothing,
        )
        for label, (kind, weight, share, smoothing) in found.items()
    ] + [
        kernel_estimate("ips", h, weights[i], overlap[i], reward, smoothing=judged.smoothing(i))
        for i, h in enumerate(made.kernel.bandwidths)
    ]


def rows_of(
    log: pl.DataFrame, estimates: list[Estimate], truth: float, gates: Gates, seed: int
) -> Iterator[dict[str, object]]:
    """Yield each estimate's error, whether its interval holds the truth, and what gates say."""
    units = np.unique(log["user_id"].to_numpy(), return_inverse=True)[1]
    terms = [each.terms for each in estimates]
    ends = {
        unit: intervals(terms, rows, seed=seed, num_resamples=200)
        for unit, rows in (("users", units), ("rows", None))
    }
    for place, each in enumerate(estimates):
        found = each.diagnostics
        value = each.terms.value
        held = {f"held_{unit}": e[place][0] <= truth <= e[place][1] for unit, e in ends.items()}
        yield {
            "estimator": each.label,
            "error": value - truth,
            **held,
            "refused": bool(each.refusals(gates)),
            "ess": found.ess if found else None,
        }


def study(
    case: Case, made: Made, sizes: list[int], distances: list[float], repeats: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Judge all estimators over repeated logs; return the tables of both questions."""
    targets = {distance: case.target(distance) for distance in distances}
    truths = {distance: policy_value(t, case.reward) for distance, t in targets.items()}
    known: list[Mapping[str, object]] = []
    new: list[Mapping[str, object]] = []
    gates = Gates()
    for num_rows in sizes:
        for repeat in range(repeats):
            at = [seed, num_rows, repeat]
            log = simulate_log(
                case.logging, case.reward, num_rows=num_rows, seed=np.random.default_rng(at)
            )
            for distance, target in targets.items():
                found = estimates_of(case, log, target)
                key = {"distance": distance, "num": num_rows, "truth": truths[distance]}
                known += [key | r for r in rows_of(log, found, truths[distance], gates, repeat)]
            found = estimates_of_made(case, log, made)
            key = {"num": num_rows, "truth": made.truth}
            new += [key | r for r in rows_of(log, found, made.truth, gates, repeat)]
    return judged(known, ["distance", "num", "truth"]), judged(new, ["num", "truth"])


def judged(rows: list[Mapping[str, object]], by: list[str]) -> pl.DataFrame:
    """Return bias, sd, rmse, coverage and refusals of each estimator."""
    return (
        pl.DataFrame(rows, infer_schema_length=None)
        .group_by(*by, "estimator", maintain_order=True)
        .agg(
            pl.col("error").mean().alias("bias"),
            pl.col("error").std(ddof=0).alias("sd"),
            (pl.col("error") ** 2).mean().alias("mse"),
            (pl.col("error") ** 2).mean().sqrt().alias("rmse"),
            pl.col("held_users").mean().alias("coverage_users"),
            pl.col("held_rows").mean().alias("coverage_rows"),
            pl.col("refused").mean().alias("refused"),
            pl.col("ess").cast(pl.Float64).mean().alias("ess"),
            pl.len().alias("num_logs"),
        )
    )


def one_log(case: Case, made: Made, log: pl.DataFrame, protocol: Protocol) -> list[Result]:
    """Evaluate as one would without knowing the truth: through the gates."""
    nearer = case.target(0.25)
    try:
        results = [
            evaluate_policy(
                log,
                nearer,
                estimators=[Estimator(name="ips"), Estimator(name="snips")],
                logging=case.logging,
                protocol=protocol,
            )
        ]
    except DataError as refusal:
        print(f"\n{refusal}")
        results = []
    given = {"item_vectors": made.vectors, "logging": case.logging, "protocol": protocol}
    try:
        evaluate_generated(log, made.generated, **given)
    except DataError as refusal:
        print(f"\n{refusal}")
    value = evaluate_generated(log, made.generated, **given, gates=OPEN)
    return [*results, value.result, value.curve]


def main() -> None:
    """Print what each estimator is worth, and write results with a plot of V(h)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("runs/counterfactual"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--distances", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.run / "simulation").is_dir() or not (options.run / "latents").is_dir():
        parser.exit(1, f"no run with simulated users at {options.run}: run `make quickstart`\n")

    case = build(options.run, options.seed)
    made = generate(case, options.run, options.seed)
    print(
        f"true value: {policy_value(case.logging, case.reward):.3f} of the logging policy, "
        f"{made.truth:.3f} of generated items"
    )
    known, new = study(case, made, options.sizes, options.distances, options.repeats, options.seed)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, float_precision=4, tbl_width_chars=160):
        print("items of the catalogue\n", known)
        print("generated items\n", new)

    size = max(options.sizes)
    protocol = Protocol(
        data_fingerprint=case.world.fingerprint or "",
        config_hash=f"counterfactual-{options.seed}",
        code_version="example",
        seed=options.seed,
        n=size,
    )
    log = simulate_log(case.logging, case.reward, num_rows=size, seed=options.seed)
    single = one_log(case, made, log, protocol)
    note = (f"Over {options.repeats} logs; truth by enumeration; gates at their defaults.",)
    results = [
        Result(name="catalogue_study", protocol=protocol, summary=known, notes=note),
        Result(name="generated_study", protocol=protocol, summary=new, notes=note),
        *single,
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    save_results(options.out / "results", results, title="Counterfactual", simulated=True)
    plot = options.out / "value_of_h.png"
    plot.write_bytes(curve_png(single[-1].summary, setting="bandwidth", columns=2))
    print(f"written: {options.out / 'results' / 'report.html'}, {plot}")


if __name__ == "__main__":
    main()
