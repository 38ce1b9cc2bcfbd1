"""Choose the hyper-parameters of collaborative filtering on validation interactions.

Every trial learns from the train part and is judged on the validation part of the run's split; the
test part is never read. Finished trials are kept, so that an interrupted search goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from ulrec import __version__
from ulrec.cf.base import recommend
from ulrec.cf.registry import CFConfig, build
from ulrec.checkpoint import new_artefact, open_artefact, write_text
from ulrec.config import digest, to_mapping
from ulrec.data.interactions import Interactions
from ulrec.data.media import MediaStore
from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, METRIC, USER_ID, VALUE, K
from ulrec.errors import ConfigError, DataError
from ulrec.evaluation.protocol import METRIC_VERSION
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.evaluation.statistics import paired_bootstrap
from ulrec.experiment.runner import Run
from ulrec.experiment.search_space import SEARCHES, SPACES, Candidate

__all__ = ["METRICS", "TuneConfig", "Tuned", "tune_cf"]

KIND = "tuning"
METRICS = {"recall@20": ("recall", 20), "ndcg@10": ("ndcg", 10)}
RESAMPLES = 1000
# Of the trials of a rung, one in so many goes on to the next, with as many times the iterations.
KEEP_ONE_IN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneConfig:
    """How hyper-parameters are searched.

    Attributes
    ----------
    models
        Names of :data:`ulrec.experiment.search_space.SPACES`.
    search
        "random" draws, "grid" tries all combinations of three values a parameter, in an order
        drawn by the seed.
    num_trials
        Of each model, the run's own settings among them.
    schedule
        "plain" trains every trial in full; "halving" tries all with a ninth of the iterations, the
        best third with a third of them, and the best third of those in full (models that iterate).
    metric
        What chooses: "recall@20" or "ndcg@10"; both are reported.
    part
        "validation"; there for the refusal of others.
    seed
        Of the search and of the intervals.
    """

    models: tuple[str, ...] = ("als",)
    search: str = "random"
    num_trials: int = 20
    schedule: str = "plain"
    metric: str = "recall@20"
    part: str = "validation"
    seed: int = 0

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, str, Sequence[str]], ...] = (
            *(("models", model, tuple(SPACES)) for model in self.models),
            ("search", self.search, tuple(SEARCHES)),
            ("schedule", self.schedule, tuple(SCHEDULES)),
            ("metric", self.metric, tuple(METRICS)),
        )
        for name, value, known in choices:
            if value not in known:
                raise ConfigError(f"'{name}' has to be one of {', '.join(known)}, got {value!r}")
        if not self.models or self.num_trials < 1:
            raise ConfigError(f"a search needs a model and a trial, got {self.num_trials} trials")
        if self.part != "validation":
            raise ConfigError(
                f"hyper-parameters are chosen on 'validation', got {self.part!r}: a part that "
                "chooses cannot judge any more"
            )


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a search found.

    ``table`` has a row for each fully trained trial, the best first: its parameters, both metrics
    with intervals, and how far it is behind the first, paired; ``winner`` is the configuration,
    ``yaml`` the lines to paste, ``folder`` the artefact with all trials.
    """

    table: pl.DataFrame
    winner: CFConfig
    yaml: str
    folder: Path
    num_users: int


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What trials are fitted on and judged with."""

    train: Interactions
    truth: pl.DataFrame
    fingerprint: str
    split: dict[str, Any]
    kept: Path
    seed: int

    @classmethod
    def of(cls, run: Run, seed: int) -> _Bench:
        folder = run.path("interactions")
        manifest = open_artefact(folder, kind="interactions", verify=False)
        train, later = (pl.read_parquet(folder / f"{part}.parquet") for part in PARTS)
        truth = later.select(USER_ID, ITEM_ID).filter(
            pl.col(USER_ID).is_in(train[USER_ID].unique().to_list())
        )
        if truth[USER_ID].n_unique() < 2:
            raise DataError(
                f"{truth[USER_ID].n_unique()} users have train and validation interactions, at "
                "least 2 are needed; set data.split.k_validation (leave_last) or "
                "data.split.validation_share (global_time)"
            )
        items = MediaStore.open(run.path("media")).items
        split = {"seed": run.config.seed, **to_mapping(run.config.data.split), **manifest.info}
        return cls(
            train=Interactions.from_table(train, items=items),
            truth=truth,
            fingerprint=manifest.fingerprint,
            split=split,
            kept=run.path("tune_cf_trials.jsonl"),
            seed=seed,
        )

    @property
    def users(self) -> list[Any]:
        """Who is judged."""
        return list(self.truth[USER_ID].unique().sort())

    def judge(self, config: CFConfig) -> dict[str, Any]:
        """Return what a configuration reaches, from what is kept or by fitting it."""
        chosen = {"model": config.model, config.model: to_mapping(getattr(config, config.model))}
        key = digest([METRIC_VERSION, self.fingerprint, self.seed, chosen])
        found = _read_trials(self.kept).get(key)
        if found is None:
            found = {"key": key, "config": chosen, **self._fitted(config)}
            with self.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
        return found

    def _fitted(self, config: CFConfig) -> dict[str, Any]:
        model = build(config).fit(self.train)
        table = recommend(model, self.train, self.users, k=20, seed=self.seed)
        result = evaluate_ranking(
            table, self.truth, ks=(10, 20), metrics=("recall", "ndcg"), seed=self.seed
        )
        found: dict[str, Any] = {}
        for name, (metric, k) in METRICS.items():
            chosen = (pl.col(METRIC) == metric) & (pl.col(K) == k)
            row = result.summary.filter(chosen).row(0, named=True)
            values = result.per_user.filter(chosen).sort(USER_ID)[VALUE]
            found[name] = {MEAN: row[MEAN], LOW: row[LOW], HIGH: row[HIGH]}
            found[name]["values"] = [round(value, 6) for value in values.to_list()]
        return found


def tune_cf(run: Run, config: TuneConfig) -> Tuned:
    """Search; writes ``tune_cf`` with the protocol, all trials and the winner.

    Parameters
    ----------
    run
        One whose interactions are split; its ``cf`` section is the first trial of its model.
    config
        What is searched, and how.

    Returns
    -------
    Tuned
        The trials that were trained in full, and the winner.

    Raises
    ------
    DataError
        If there are no validation interactions, or a model without iterations is to be halved.
    """
    bench = _Bench.of(run, config.seed)
    finished: list[tuple[CFConfig, dict[str, Any]]] = []
    for model in config.models:
        first = getattr(run.config.cf, model)
        candidates = SEARCHES[config.search](SPACES[model], first, config.num_trials, config.seed)
        finished += SCHEDULES[config.schedule](bench, model, candidates, config.metric)
    finished.sort(key=lambda trial: -trial[1][config.metric][MEAN])
    best = finished[0][1][config.metric]["values"]
    rows = [_row(trial, config, best) for _, trial in finished]
    table = pl.DataFrame(rows, infer_schema_length=None)
    text = yaml.safe_dump({"cf": finished[0][1]["config"]}, sort_keys=False)
    protocol = {
        "split": bench.split,
        "interactions": bench.fingerprint,
        "part": config.part,
        "num_users": len(bench.users),
        "metric_version": METRIC_VERSION,
        "version": __version__,
        "search": to_mapping(config),
        "spaces": {model: SPACES[model].describe() for model in config.models},
        "winner": finished[0][1]["config"],
        "note": "the winner's own figure is optimistic: it was chosen by it",
        "trials": [_without_values(trial) for _, trial in finished],
    }
    made_from = {"interactions": bench.fingerprint}
    with new_artefact(run.path("tune_cf"), kind=KIND, made_from=made_from) as folder:
        (folder / "protocol.json").write_text(json.dumps(protocol, indent=1))
        (folder / "winner.yaml").write_text(text)
        (folder / "trials.jsonl").write_text(bench.kept.read_text())
        table.write_parquet(folder / "trials.parquet")
    return Tuned(
        table=table,
        winner=finished[0][0],
        yaml=text,
        folder=run.path("tune_cf"),
        num_users=len(bench.users),
    )


Trials = list[tuple[CFConfig, dict[str, Any]]]


def _plain(bench: _Bench, model: str, candidates: list[Candidate], metric: str) -> Trials:
    return _judged(bench, model, candidates, metric, title=f"tune {model}")


def _halving(bench: _Bench, model: str, candidates: list[Candidate], metric: str) -> Trials:
    """Successive halving (Jamieson & Talwalkar 2016) over iterations."""
    if not hasattr(candidates[0], "iterations"):
        able = ", ".join(name for name in SPACES if SPACES[name].iterates)
        raise DataError(f"{model} does not iterate, halving is for {able}; use the schedule plain")
    for rung in (2, 1):
        share = KEEP_ONE_IN**rung
        fewer = {
            dataclasses.replace(c, iterations=max(1, c.iterations // share)): c for c in candidates
        }
        judged = _judged(bench, model, list(fewer), metric, title=f"tune {model} (1/{share})")
        best = judged[: max(1, len(judged) // KEEP_ONE_IN)]
        candidates = [fewer[getattr(config, model)] for config, _ in best]
    return _judged(bench, model, candidates, metric, title=f"tune {model}")


def _judged(
    bench: _Bench, model: str, candidates: list[Candidate], metric: str, *, title: str
) -> Trials:
    """Return trials, the best first, equal ones in their order."""
    trials: Trials = []
    with tqdm(candidates, desc=title, unit="trial", disable=None) as bar:
        for candidate in bar:
            config = CFConfig(model=model, **{model: candidate})
            trials.append((config, bench.judge(config)))
            best = max(trial[metric][MEAN] for _, trial in trials)
            bar.set_postfix_str(f"best {metric} {best:.4f}")
    return sorted(trials, key=lambda trial: -trial[1][metric][MEAN])


def _row(trial: dict[str, Any], config: TuneConfig, best: NDArray[Any]) -> dict[str, Any]:
    model = trial["config"]["model"]
    settings = trial["config"][model]
    told = ", ".join(
        f"{name} {settings[name]:.4g}"
        if isinstance(settings[name], float)
        else f"{name} {settings[name]}"
        for name in SPACES[model].names
    )
    row: dict[str, Any] = {"model": model, "settings": told}
    for name in METRICS:
        found = trial[name]
        row[name] = found[MEAN]
        row[f"{name} interval"] = f"[{found[LOW]:.4f}, {found[HIGH]:.4f}]"
    behind = paired_bootstrap(
        best, trial[config.metric]["values"], seed=config.seed, num_resamples=RESAMPLES
    )
    row["behind the best"] = f"{behind.mean:.4f} [{behind.low:.4f}, {behind.high:.4f}]"
    return row


def _read_trials(path: Path) -> dict[str, dict[str, Any]]:
    """Return the kept trials by their key; a line cut short by an interruption is dropped."""
    found = {}
    whole = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            trial = json.loads(line)
        except ValueError:
            continue
        found[trial["key"]] = trial
        whole.append(line)
    if path.is_file() and len(whole) != len(path.read_text(encoding="utf-8").splitlines()):
        write_text(path, "".join(f"{line}\n" for line in whole))
    return found


def _without_values(trial: dict[str, Any]) -> dict[str, Any]:
    """Leave out the values per user, which trials.jsonl holds."""
    metrics = {
        name: {key: x for key, x in trial[name].items() if key != "values"} for name in METRICS
    }
    return {"config": trial["config"], **metrics}


PARTS = ("train", "validation")

SCHEDULES: dict[str, Callable[[_Bench, str, list[Candidate], str], Trials]] = {
    "plain": _plain,
    "halving": _halving,
}
