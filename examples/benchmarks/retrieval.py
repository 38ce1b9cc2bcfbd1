"""Compare search spaces on one split, and measure the index against raw faiss.

    python examples/benchmarks/retrieval.py spaces --run runs/quickstart --users 200
    python examples/benchmarks/retrieval.py speed --run runs/quickstart --items 100000

"spaces": for validation users that are not among the evaluated ones, whether the 20 unseen items
nearest to a query hold one that they liked in the validation part. The query is the mean of the
history, or a generated latent (its picture, for spaces of features). Paired intervals are against
the first space. More spaces: --features NAME=FILE.npy, an array (I, d) in the catalogue's order,
such as open-clip's; only histories are compared there.
"speed": latents tiled with noise; milliseconds are the least of several rounds on one thread.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch  # before faiss, which brings an OpenMP of its own
from threadpoolctl import threadpool_limits

from ulrec.config import load_config
from ulrec.data.ids import IdMap
from ulrec.evaluation.statistics import bootstrap_mean, paired_bootstrap
from ulrec.experiment.config import RunConfig
from ulrec.experiment.features import picture_batches
from ulrec.experiment.generate import pipeline_of, validation_users
from ulrec.experiment.runner import Run
from ulrec.features.efflite0 import EffLite0
from ulrec.features.extract import extract_features
from ulrec.pipeline import Pipeline, load_interactions, sample_seeds
from ulrec.retrieval.index import ItemIndex
from ulrec.retrieval.query import QueryConfig, fit_projection
from ulrec.retrieval.structures import IndexConfig

K = 20


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows of length 1."""
    rows: np.ndarray = x / np.linalg.norm(x, axis=1, keepdims=True)
    return rows


def open_run(options: argparse.Namespace) -> tuple[Run, Pipeline]:
    """Load a run as its stages do."""
    overrides = [f"folder={options.run.parent}", f"name={options.run.name}", *options.overrides]
    run = Run(config=load_config(RunConfig, options.run / "config.yaml", overrides))
    return run, pipeline_of(run)


def spaces(options: argparse.Namespace) -> None:
    """Print hit rates of each space with both queries."""
    run, pipeline = open_run(options)
    users = validation_users(run, pipeline, options.users, stream=8)
    folder = run.path("interactions")
    ids = pipeline.factors.users, pipeline.factors.items
    later = load_interactions(folder, *ids, part="validation").user_items[users]
    liked_later = np.split(later.indices, later.indptr[1:-1])
    likes = pipeline.interactions.user_items
    seeds = sample_seeds(run.config.seed, users, np.zeros_like(users))
    start = time.perf_counter()
    media, latents = pipeline.generate_for(
        pipeline.factors.user_factors[users],
        seeds=seeds,
        guidance=run.config.generate.guidance,
        progress=lambda n: None,
    )
    print(f"{len(users)} pictures drawn in {time.perf_counter() - start:.0f} s")
    z = pipeline.latents.z
    queries = [QueryConfig(name="flat"), QueryConfig(name="pooled")]
    queries += [QueryConfig(name=n, dim=options.dim) for n in ("pca", "whitened", "co_liked")]
    table: dict[str, tuple[np.ndarray, np.ndarray | None, float]] = {}
    for query in queries:
        start = time.perf_counter()
        projection = fit_projection(z, query, likes=likes)
        vectors = projection(np.asarray(z))
        table[query.name] = (vectors, projection(latents), time.perf_counter() - start)
    catalogue = np.load(run.path("features") / "catalogue.npy")
    drawn = extract_features(EffLite0(), picture_batches(media))
    table["efflite0"] = (catalogue, drawn, float("nan"))
    for given in options.features:
        name, _, file = given.partition("=")
        table[name] = (np.load(file), None, float("nan"))
    print(f"HR@{K}, {len(users)} validation users, seed {run.config.seed}\n")
    print("| space | numbers | fit s | build s | history | - first | generated | - first |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    first: dict[str, np.ndarray] = {}
    for name, (vectors, made, fit_s) in table.items():
        start = time.perf_counter()
        items = pipeline.index.items
        index = ItemIndex.build(vectors, items, metric="cosine", made_from={})
        build_s = time.perf_counter() - start
        history = np.asarray(likes[users] @ unit(vectors.astype(np.float64)))
        cells = [name, str(vectors.shape[1]), f"{fit_s:.2f}", f"{build_s:.2f}"]
        for kind, vector in (("history", history), ("generated", made)):
            if vector is None:
                cells += ["", ""]
                continue
            seen = [pipeline.interactions.history(row) for row in users]
            found = index.search(vector.astype(np.float32), k=K, exclude=seen).item_idx
            hits = np.array(
                [np.isin(f, rows).any() for f, rows in zip(found, liked_later, strict=True)]
            )
            value = bootstrap_mean(hits, seed=0)
            base = first.setdefault(kind, hits)
            gap = paired_bootstrap(hits, base, seed=0)
            cells.append(f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]")
            cells.append(f"{gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
        print("| " + " | ".join(cells) + " |")


def least(rounds: int, *works: Callable[[], object]) -> list[tuple[float, float]]:
    """Return the least milliseconds of wall clock and processor time of each, taken in turns."""
    taken = []
    for _ in range(rounds):
        for work in works:
            start, busy = time.perf_counter(), time.process_time()
            work()
            taken.append((time.perf_counter() - start, time.process_time() - busy))
    milliseconds = 1000 * np.array(taken).reshape(rounds, len(works), 2).min(axis=0)
    return [(wall, cpu) for wall, cpu in milliseconds.tolist()]


def recall(found: np.ndarray, right: np.ndarray) -> float:
    """Return the share of the right rows that were found."""
    return float(np.mean([np.isin(r, f).mean() for f, r in zip(found, right, strict=True)]))


def speed(options: argparse.Namespace) -> None:
    """Print times and recall of each structure beside raw faiss."""
    run, pipeline = open_run(options)
    rng = np.random.default_rng(options.seed)
    z = np.asarray(pipeline.latents.z)
    config = QueryConfig(name=options.query, dim=options.dim)
    projection = fit_projection(z, config, likes=pipeline.interactions.user_items)
    real = projection(z)
    rows = np.resize(np.arange(len(real)), options.items)
    noise = rng.standard_normal((options.items, real.shape[1]), dtype=np.float32)
    vectors = real[rows] + options.noise * real.std(0) * noise
    made = projection(np.load(run.path("generated") / "latents.npy"))
    likes = pipeline.interactions.user_items
    history = np.asarray(likes[likes.getnnz(axis=1) > 0] @ unit(real)).astype(np.float32)
    queries = {"items": vectors, "generated": made, "histories": history}
    queries = {n: unit(q[rng.permutation(len(q))[:256]]) for n, q in queries.items()}
    items = IdMap(range(options.items))
    print(f"{options.items} vectors of {real.shape[1]} numbers, query {options.query}")
    print(f"noise {options.noise:g}, seed {options.seed}, one thread\n")
    print("| index | build s | 1 query ms | raw | 256 ms | raw | cpu/raw | recall@10 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    right: dict[str, np.ndarray] = {}
    for name in options.names:
        start = time.perf_counter()
        index = ItemIndex.build(
            vectors, items, metric="cosine", made_from={}, config=IndexConfig(name=name)
        )
        cells = [name, f"{time.perf_counter() - start:.1f}"]
        found = {n: index.search(q, k=10).item_idx for n, q in queries.items()}
        if name == "flat":
            right = found
        flat, many = index._scan.flat, queries["generated"]
        one, raw_one = least(
            options.rounds,
            partial(index.search, many[:1], k=10),
            partial(flat.search, many[:1], 10),
        )
        all_at_once, raw = least(
            10,
            partial(index.search, many, k=10),
            partial(flat.search, many, 10),
        )
        cells += [f"{one[0]:.3f}", f"{raw_one[0]:.3f}", f"{all_at_once[0]:.1f}", f"{raw[0]:.1f}"]
        cells.append(f"{all_at_once[1] / raw[1]:.3f}")
        told = ", ".join(f"{n} {recall(f, right[n]):.4f}" for n, f in found.items())
        print("| " + " | ".join([*cells, told]) + " |")
        if index.calibration is not None:
            print(f"  {index.calibration}")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["spaces", "speed"])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--dim", type=int, default=48)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--features", nargs="*", default=[], metavar="NAME=FILE.npy")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--query", default="flat", help="flat: the latents themselves")
    parser.add_argument("--noise", type=float, default=0.3, help="of a number's deviation")
    parser.add_argument("--names", nargs="+", default=["flat", "ivf", "ivfpq", "hnsw"])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    options = parser.parse_intermixed_args()
    if options.what == "speed" and options.names[0] != "flat":
        parser.error("flat has to be the first of the names: the others are compared with it")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        {"spaces": spaces, "speed": speed}[options.what](options)


if __name__ == "__main__":
    main()
