"""What guidance buys: the same users drawn at several guidances, judged on validation.

Guidance is chosen here, for users that are not among the evaluated ones; what is reported of it is
measured on those.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ulrec.checkpoint import MANIFEST, new_artefact, open_artefact, write_text
from ulrec.config import digest, to_mapping
from ulrec.data.schema import MEAN, METRIC
from ulrec.evaluation.curves import curve_png, curve_svg
from ulrec.evaluation.protocol import METRIC_VERSION
from ulrec.experiment.curve_point import CurveBench
from ulrec.experiment.generate import pipeline_of, validation_users
from ulrec.experiment.prepare import advance
from ulrec.experiment.runner import Run

__all__ = ["GUIDANCE", "Curve", "curve"]

GUIDANCE = "guidance"
MADE_FROM = ("autoencoder", "base", "conditioner", "factors", "index", "interactions", "media")

Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What was found: rows [guidance, metric, mean, low, high, n], and the guidance in use."""

    table: pl.DataFrame
    num_users: int
    configured: float
    simulated: bool

    @classmethod
    def load(cls, run: Run) -> Curve | None:
        """Read the run's curve; None where there is none, or one of other models."""
        folder = run.path("curve")
        if not (folder / MANIFEST).is_file():
            return None
        made_from = open_artefact(folder, kind="curve").made_from
        if made_from != {name: run.fingerprint(name) for name in MADE_FROM}:
            return None
        content = json.loads((folder / "curve.json").read_text())
        rows = content.pop("rows")
        return cls(table=pl.DataFrame(rows, infer_schema_length=None), **content)


def curve(run: Run) -> str:
    """Draw and judge validation users at every guidance; writes ``curve``.

    What is found at a guidance is kept in ``curve_points`` as soon as it is known, and used again
    while nothing that it depends on has changed.
    """
    config = run.config
    pipeline = pipeline_of(run)
    users = validation_users(run, pipeline, config.curve.num_users, stream=8)
    bench = CurveBench.of(run, pipeline, users)
    key = _key(run, bench)
    rows: list[dict[str, Any]] = []
    total = len(config.curve.guidances) * len(users)
    with tqdm(total=total, desc="curve", unit="picture", disable=None) as bar:
        for guidance in sorted(config.curve.guidances):
            found = _kept(run, bench, key, guidance, functools.partial(advance, bar))
            rows += [{GUIDANCE: guidance, **row} for row in found]
    content = {
        "num_users": len(users),
        "configured": config.generate.guidance,
        "simulated": bench.truth is not None,
        "rows": rows,
    }
    table = pl.DataFrame(rows, infer_schema_length=None)
    made_from = {name: run.fingerprint(name) for name in MADE_FROM}
    info = {"can_fold_in": pipeline.factors.can_fold_in}
    with new_artefact(run.path("curve"), kind="curve", made_from=made_from, info=info) as folder:
        (folder / "curve.json").write_text(json.dumps(content, indent=1))
        mark = config.generate.guidance
        (folder / "curve.svg").write_text(curve_svg(table, setting=GUIDANCE, mark=mark))
        (folder / "curve.png").write_bytes(curve_png(table, setting=GUIDANCE, mark=mark))
    return _summary(table, len(users))


def _key(run: Run, bench: CurveBench) -> list[Any]:
    """Return all that what is found at a guidance depends on, as plain data."""
    config = run.config
    return [
        METRIC_VERSION,
        bench.network.weight_hash,
        bench.seed,
        bench.users.tolist(),
        bench.real is not None,
        {name: run.fingerprint(name) for name in MADE_FROM},
        to_mapping(config.generate.sampler),
        to_mapping(config.generate.decoder),
        to_mapping(config.evaluate),
    ]


def _kept(
    run: Run,
    bench: CurveBench,
    key: list[Any],
    guidance: float,
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Return what was found at a guidance before, or else find it and keep it."""
    path = run.path("curve_points") / f"{digest([key, guidance])}.json"
    if path.is_file():
        progress(len(bench.users))
        return list(json.loads(path.read_text()))
    rows = bench.judge(guidance, progress=progress)
    write_text(path, json.dumps(rows, indent=1))
    return rows


def _summary(table: pl.DataFrame, num_users: int) -> str:
    first = table[METRIC][0]
    part = table.filter(pl.col(METRIC) == first)
    best = part.sort(MEAN, descending=True).row(0, named=True)
    return (
        f"{part.height} guidances, {num_users} validation users; best {first} "
        f"{best[MEAN]:.3g} at guidance {best[GUIDANCE]:g}"
    )
