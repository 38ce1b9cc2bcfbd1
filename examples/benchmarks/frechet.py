"""Measure the Frechet distance against scipy's sqrtm and torchmetrics, interleaved in one run.

    python examples/benchmarks/frechet.py --dim 2048 --rows 4096 --rounds 3

All start from the same float64 means and covariances and run on as many threads as are asked for.
The eigenvalues that torchmetrics takes and the root of scipy are of a general matrix; ours are of
a symmetric one. Prints a table of seconds, the ratio to ours, and how far the distances differ.
"""

import argparse
import os
import time

import numpy as np
import torch
from scipy import linalg
from threadpoolctl import threadpool_limits

from ulrec.evaluation.features import FeatureStatistics
from ulrec.evaluation.fidelity import frechet_distance_of_statistics
from ulrec.features.torchvision_schemas import declare_schemas

declare_schemas()  # before torchmetrics: it imports torchvision where there is one
from torchmetrics.image.fid import _compute_fid  # noqa: E402


def sets(rows: int, dim: int) -> list[FeatureStatistics]:
    """Return statistics of two rectified sets with a falling spectrum, as networks give them."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((dim, dim)) * np.logspace(0, -2, dim)
    made = []
    for shift in (0.0, 0.3):
        factors = rng.standard_normal((rows, dim)) + shift
        made.append(FeatureStatistics.of(np.maximum(factors @ mix.T, 0) / dim**0.5))
    return made


def ours(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Take Cholesky's root and symmetric eigenvalues."""
    return frechet_distance_of_statistics(a, b).distance


def scipy_sqrtm(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Compute as most FID scripts do: the real part of the root of the product."""
    first, second = a.covariance, b.covariance
    root = linalg.sqrtm(first @ second)
    gap = a.mean - b.mean
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.trace(np.real(root)))


def torchmetrics(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Call what FrechetInceptionDistance.compute calls."""
    args = (torch.from_numpy(x) for x in (a.mean, a.covariance, b.mean, b.covariance))
    return float(_compute_fid(*args))


METHODS = {"ulrec": ours, "scipy sqrtm": scipy_sqrtm, "torchmetrics": torchmetrics}


def main() -> None:
    """Run the methods in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rows", type=int, help="of each set; twice the dimension by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    a, b = sets(options.rows or 2 * options.dim, options.dim)
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    found = {}
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        for _ in range(options.rounds):
            for name, method in METHODS.items():
                start = time.perf_counter()
                found[name] = method(a, b)
                seconds[name].append(time.perf_counter() - start)
    torch.set_num_threads(before)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    print(f"d = {options.dim}, {options.threads} threads, median of {options.rounds} rounds\n")
    print("| method | seconds | to ulrec | distance - ulrec's |\n| --- | --- | --- | --- |")
    for name, value in median.items():
        ratio, gap = value / median["ulrec"], found[name] - found["ulrec"]
        print(f"| {name} | {value:.3g} | {ratio:.1f} | {gap:.1e} |")


if __name__ == "__main__":
    main()
