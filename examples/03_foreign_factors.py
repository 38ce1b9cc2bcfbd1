"""Steer the generator with factors of a model of your own: here, a truncated SVD made on the spot.

python examples/03_foreign_factors.py               # simulated users, a minute or two
python examples/03_foreign_factors.py --config configs/movielens.yaml --factors 48
python examples/03_foreign_factors.py data.max_items=200   # any key.sub=value of the configuration
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.linalg import svds

from ulrec.config import load_config
from ulrec.data.interactions import Interactions
from ulrec.experiment.config import RunConfig
from ulrec.experiment.runner import Run, StageResult, run_stages
from ulrec.experiment.stages import STAGES


def your_model(table: pl.DataFrame, num_factors: int) -> tuple[pl.DataFrame, np.ndarray, list[str]]:
    """Learn factors: a table of users, and a matrix of items with their ids beside it."""
    likes = Interactions.from_table(table.select("user_id", "item_id"))
    first = np.random.default_rng(0).standard_normal(min(likes.user_items.shape))
    u, s, vt = svds(sparse.csr_matrix(likes.user_items, dtype=np.float64), k=num_factors, v0=first)
    users = {"user_id": likes.users.ids, "vector": (u * np.sqrt(s)).tolist()}
    return pl.DataFrame(users), vt.T * np.sqrt(s), list(map(str, likes.items.ids.tolist()))


def say(stage: StageResult) -> None:
    """Print what a stage did."""
    print(f"{stage.stage:<14} {stage.seconds:6.0f} s   {stage.summary}")


def main() -> None:
    """From interactions to somebody else's factors, and from those to a report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/tiny.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/foreign_factors"))
    parser.add_argument("--factors", type=int, default=8)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    options = parser.parse_args()
    settings = [f"folder={options.out}", *options.overrides]

    # 1. Your model learns from the train split alone: what it has seen of the test would leak.
    run = Run(config=load_config(RunConfig, options.config, settings))
    run_stages(run, [STAGES["prepare"]], report=say)
    train = pl.read_parquet(run.path("interactions") / "train.parquet")
    users, items, item_ids = your_model(train, options.factors)

    # 2. Export it: parquet with a column of lists, or .npy with a file of ids, one a line.
    user_file, item_file, ids_file = (
        options.out / name for name in ("users.parquet", "items.npy", "items.txt")
    )
    users.write_parquet(user_file)
    np.save(item_file, items)
    ids_file.write_text("\n".join(item_ids), encoding="utf-8")

    # 3. Train on it. These factors do not fold in, so that each training condition has seen its
    # own pair; the run says so wherever it matters.
    settings += [
        "cf.model=foreign",
        f"cf.foreign.user_factors={user_file}",
        f"cf.foreign.item_factors={item_file}",
        f"cf.foreign.item_ids={ids_file}",
    ]
    run = Run(config=load_config(RunConfig, options.config, settings))
    run_stages(run, list(STAGES.values()), report=say)
    print(f"report: {run.path('report.html')}")


if __name__ == "__main__":
    main()
