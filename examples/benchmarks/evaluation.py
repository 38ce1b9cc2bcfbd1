"""Measure users per second of {NDCG, Recall, MAP, HitRate}@k, from tables to figures.

    python examples/benchmarks/evaluation.py > ulrec.json
    <python with rectools> examples/benchmarks/evaluation.py --peers rectools > rectools.json
    <python with ranx> examples/benchmarks/evaluation.py --peers ranx --repeats 1 > ranx.json
    python examples/benchmarks/evaluation.py --compare ulrec.json rectools.json ranx.json

RecTools needs numpy < 2, hence an environment of its own: each library runs in the interpreter it
is installed in, on the same input, made from the same seed with numpy alone. The clock starts at
tables (polars for ulrec, pandas for the others) and stops at the means; ulrec also checks the
tables and returns per-user values, RecTools' ``calc_metrics`` returns means only. ranx converts the
tables to dictionaries first; both times are given. The means are printed, and compared by
``--compare``. Intervals are a line of their own: no peer has them.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

METRICS = ("ndcg", "recall", "map", "hit_rate")
Columns = dict[str, np.ndarray]


def make_input(options: argparse.Namespace, num_users: int) -> tuple[Columns, Columns]:
    """Return columns of recommendations and truth: lists of k items, a fifth of the truth hit."""
    rng = np.random.default_rng(options.seed)
    k, num_truth = options.k, options.truth
    if options.items < k + num_truth or k < num_truth:
        raise SystemExit("--items has to be at least --k + --truth, and --k at least --truth")
    # Different items by construction: a random start and a random step that meets no item twice.
    steps = np.array([s for s in range(1, 200) if np.gcd(s, options.items) == 1])
    start, step = rng.integers(options.items, size=num_users), rng.choice(steps, num_users)
    places = np.arange(k + num_truth)
    drawn = (start[:, None] + step[:, None] * places) % options.items
    # A user's liked items: different places, of which a fifth are within the list.
    width = k // num_truth
    within = np.arange(num_truth) * width + rng.integers(width, size=(num_users, num_truth))
    inside = rng.random((num_users, num_truth)) < 0.2
    at = np.where(inside, within, places[k:])
    liked = np.take_along_axis(drawn, at, axis=1)
    users = np.arange(num_users)
    recommendations = {
        "user_id": np.repeat(users, k),
        "item_id": drawn[:, :k].ravel(),
        "score": np.tile(-np.arange(k, dtype=np.float64), num_users),
        "rank": np.tile(np.arange(1, k + 1), num_users),
    }
    return recommendations, {"user_id": np.repeat(users, num_truth), "item_id": liked.ravel()}


def as_strings(columns: Columns) -> dict[str, Any]:
    """Return the columns with ids as text."""
    names = {"user_id": "u", "item_id": "i"}
    return {
        name: [f"{names[name]}{i}" for i in values.tolist()] if name in names else values
        for name, values in columns.items()
    }


def with_ulrec(k: int) -> tuple[Callable[..., Any], Callable[..., dict[str, float]]]:
    """Return what makes tables, and what evaluates them."""
    import polars as pl

    from ulrec.evaluation.ranking import evaluate_ranking

    def run(shown: pl.DataFrame, liked: pl.DataFrame) -> dict[str, float]:
        result = evaluate_ranking(
            shown, liked, ks=(k,), metrics=METRICS, seed=0, num_resamples=None
        )
        return dict(result.summary.select("metric", "mean").rows())

    return pl.DataFrame, run


def with_rectools(k: int) -> tuple[Callable[..., Any], Callable[..., dict[str, float]]]:
    """Return what makes tables, and what evaluates them."""
    import pandas as pd
    from rectools.metrics import MAP, NDCG, HitRate, Recall, calc_metrics

    metrics = {
        "ndcg": NDCG(k=k, divide_by_achievable=True),
        "recall": Recall(k=k),
        "map": MAP(k=k),
        "hit_rate": HitRate(k=k),
    }
    return pd.DataFrame, lambda shown, liked: calc_metrics(metrics, shown, liked)


def with_ranx(k: int) -> tuple[Callable[..., Any], Callable[..., dict[str, float]]]:
    """Return what makes tables, and what evaluates them; converting is timed apart as well."""
    import pandas as pd
    import ranx

    def run(shown: pd.DataFrame, liked: pd.DataFrame) -> dict[str, float]:
        start = time.perf_counter()
        given = ranx.Run.from_df(shown, q_id_col="user_id", doc_id_col="item_id", score_col="score")
        qrels = ranx.Qrels.from_df(
            liked, q_id_col="user_id", doc_id_col="item_id", score_col="relevance"
        )
        converted_s = time.perf_counter() - start
        names = [f"{name}@{k}" for name in METRICS]
        found = ranx.evaluate(qrels, given, names, make_comparable=True)
        means = {name: float(found[f"{name}@{k}"]) for name in METRICS}
        return {**means, "converting_s": converted_s}

    def table(columns: dict[str, Any]) -> pd.DataFrame:
        made = pd.DataFrame(columns)
        made[["user_id", "item_id"]] = made[["user_id", "item_id"]].astype(str)
        return made if "score" in columns else made.assign(relevance=1)

    return table, run


LIBRARIES = {"none": with_ulrec, "rectools": with_rectools, "ranx": with_ranx}


def intervals(num_users: int, repeats: int) -> list[float]:
    """Return the seconds of 1,000 resamples of four metrics, several times."""
    from ulrec.evaluation.statistics import bootstrap_intervals

    values = np.random.default_rng(0).random((num_users, len(METRICS)))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        bootstrap_intervals(values, seed=0, num_resamples=1000)
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of each repeat, after a small one that warms up, and the means."""
    make, run = LIBRARIES[options.peers](options.k)

    def tables(num_users: int) -> list[Any]:
        parts = make_input(options, num_users)
        return [make(as_strings(part) if options.ids == "str" else part) for part in parts]

    run(*tables(50))
    shown, liked = tables(options.users)
    seconds = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        means = run(shown, liked)
        seconds.append(time.perf_counter() - start)
    library = options.peers
    if library == "none":
        from ulrec import __version__ as number

        library = "ulrec"
    else:
        number = version(library)
    report = {
        "library": library,
        "version": number,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "seconds": seconds,
        "users_per_s": options.users / min(seconds),
        "means": means,
    }
    if library == "ulrec":
        report["bootstrap_seconds"] = intervals(options.users, min(options.repeats, 3))
    return report


def compare(paths: Sequence[Path]) -> None:
    """Print a table of ratios, after checking that input and means were the same."""
    reports = [json.loads(path.read_text()) for path in paths]
    first = reports[0]
    print(f"{'library':<18}{'best s':>10}{'users/s':>12}{'times':>8}")
    for report in reports:
        differ = [n for n in SETTINGS if report["settings"][n] != first["settings"][n]]
        if differ:
            raise SystemExit(f"{report['library']} was given other input: {differ} differ")
        off = {n: abs(report["means"][n] - first["means"][n]) for n in METRICS}
        if max(off.values()) > 1e-9:
            raise SystemExit(f"{report['library']} gives other means: {off}")
        name = f"{report['library']} {report['version']}"
        best = min(report["seconds"])
        print(
            f"{name:<18}{best:>10.3f}{report['users_per_s']:>12.0f}"
            f"{best / min(first['seconds']):>8.1f}"
        )
    if "bootstrap_seconds" in first:
        print(f"1,000 resamples of {len(METRICS)} metrics: {min(first['bootstrap_seconds']):.2f} s")


SETTINGS = ("users", "k", "items", "truth", "ids", "seed")


def main() -> None:
    """Measure one library, or compare what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--truth", type=int, default=10, help="liked items of each user")
    parser.add_argument("--ids", choices=("int", "str"), default="int")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", choices=tuple(LIBRARIES), default="none")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="JSON")
    options = parser.parse_args()
    if options.compare:
        compare(options.compare)
    else:
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
