"""The command line: a sub-command for each stage, ``run`` for all, ``doctor``, ``demo``."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ulrec import __version__
from ulrec.config import load_config
from ulrec.errors import ConfigError, Interrupted, MissingExtraError, ULRecError

if TYPE_CHECKING:
    from ulrec.experiment.runner import StageResult

__all__ = ["main"]

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

PAGE_SETTINGS = (
    "--browser.gatherUsageStats=false",
    "--client.showErrorDetails=none",  # a visitor never sees a stack trace
    "--client.toolbarMode=minimal",
    "--server.maxUploadSize=10",
    "--server.fileWatcherType=none",
    "--theme.light.primaryColor=#2463b8",
    "--theme.dark.primaryColor=#6ea8fe",
)

GUIDE = """\
From a catalogue and its interactions to pictures made for one user:

  ulrec run --config configs/quickstart.yaml        all stages; what is up to date is skipped
  ulrec run --config configs/quickstart.yaml base.conditional.num_steps=2000 name=longer
  ulrec train-base --config configs/quickstart.yaml  one stage, from what the earlier ones left
  ulrec generate --config CONFIG --shard 0/4         a quarter of encode or generate; then without
  ulrec curve --config configs/quickstart.yaml       what guidance buys, on validation users
  ulrec compare runs/one runs/other                  what differs, with paired tests
  ulrec init FOLDER --interactions TABLE             a configuration for one's own catalogue
  ulrec describe configs/quickstart.yaml             parameters, FLOPs, memory: what it costs
  ulrec sweep --config CONFIG --loss-factors 7 14 28  rate and distortion over seeds, with codecs
  ulrec doctor                                       versions, devices, and what is missing

A configuration says only what differs from the defaults; key.sub=value overrides it. Everything of
a run goes into FOLDER/NAME (runs/<name>): a folder per model, metrics.json, sheets, report.html.
Interrupted training goes on where it stopped when the same command is given again.
exit codes: 0 done, 1 an error (the message says what to do), 2 wrong usage, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.handler(options))
    except Interrupted as error:
        _say(f"interrupted: {error}")
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        _say("interrupted; run the same command to go on")
        return EXIT_INTERRUPTED
    except ULRecError as error:
        _say(f"error: {error}")
        return EXIT_ERROR


def _parser() -> argparse.ArgumentParser:
    from ulrec.experiment.stages import EXTRA_STAGES, STAGES

    parser = argparse.ArgumentParser(
        prog="ulrec",
        description="Generative recommender: Unified Latents steered by collaborative filtering.",
        epilog=GUIDE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ulrec {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    everything = commands.add_parser("run", help="run all stages, skipping what is up to date")
    _add_config(everything)
    everything.set_defaults(handler=lambda options: _run(options, list(STAGES)))
    for name, stage in {**STAGES, **EXTRA_STAGES}.items():
        one = commands.add_parser(name, help=stage.help, description=f"{stage.help}.")
        _add_config(one)
        one.set_defaults(handler=lambda options, name=name: _run(options, [name]))
        if stage.batches is not None:
            one.add_argument(
                "--shard",
                metavar="I/N",
                help="one of N shares of the work, 0/N to (N-1)/N, each a process of its own; "
                "the stage without it then joins them and makes what is missing",
            )
            one.set_defaults(handler=lambda options, name=name: _stage(options, name))
        if name == "generate":
            one.add_argument("--out", type=Path, help="write what is drawn as files into a folder")
            one.add_argument(
                "--format",
                choices=("png", "webp", "gif", "mp4"),
                help="of the files: png for pictures and webp for clips by default",
            )
            one.add_argument("--fps", type=float, default=8.0, help="frames a second of clips")
            one.set_defaults(handler=_generate)
    init = commands.add_parser("init", help="look at a catalogue of one's own; propose a --config")
    init.add_argument("media", type=Path, metavar="FOLDER", help="of pictures, nested or not")
    init.add_argument("--interactions", type=Path, help="csv, tsv, parquet: who chose what, when")
    init.add_argument(
        "--catalogue", type=Path, help="csv, tsv, parquet: items, if files do not say"
    )
    init.add_argument("--out", type=Path, default=Path("own.yaml"), help="tables go beside it")
    init.add_argument("--force", action="store_true", help="write over files that exist")
    init.set_defaults(handler=_init)
    pack = commands.add_parser(
        "export", help="pack a run's trained models for other runs to start from"
    )
    _add_config(pack)
    pack.add_argument("--out", required=True, type=Path, help="the new folder")
    pack.add_argument("--bits", type=int, default=16, choices=(16, 8), help="of prior and base")
    pack.set_defaults(handler=_export)
    compare = commands.add_parser(
        "compare", help="finished runs or results against the first: paired tests, one page"
    )
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the baseline first")
    compare.add_argument("--out", type=Path, default=Path("runs/comparison"))
    compare.add_argument(
        "--varying", nargs="*", default=[], metavar="FIELD", help="of the protocol: may differ"
    )
    compare.add_argument("--seed", type=int, default=0)
    compare.set_defaults(handler=_compare)
    cost = commands.add_parser("describe", help="parameters, FLOPs and memory of a configuration")
    cost.add_argument("config", type=Path, metavar="CONFIG", help="YAML, as of `ulrec run`")
    cost.add_argument("overrides", nargs="*", metavar="key.sub=value")
    cost.add_argument("--images", type=int, default=1_000_000, help="that training is counted for")
    cost.set_defaults(handler=_describe)
    rates = commands.add_parser("sweep", help="stage 1 at several prices: rate and distortion")
    _add_config(rates)
    rates.add_argument("--loss-factors", required=True, type=float, nargs="+", metavar="C_LF")
    rates.add_argument("--biases", type=float, nargs="+", metavar="B_X", help="the configuration's")
    rates.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    rates.add_argument("--samples", type=int, default=0, help="of a base, for gFD; 0 trains none")
    rates.add_argument("--out", type=Path, default=Path("runs/sweep"))
    rates.add_argument(
        "--beside", type=Path, nargs="+", default=[], metavar="OUT", help="other sweeps to draw"
    )
    rates.set_defaults(handler=_sweep)
    tune = commands.add_parser(
        "tune-cf", help="choose hyper-parameters of collaborative filtering on validation"
    )
    _add_config(tune)
    tune.add_argument("--models", nargs="+", metavar="MODEL", help="the configuration's cf.model")
    tune.add_argument("--search", default="random", help="random or grid")
    tune.add_argument("--trials", type=int, default=20, help="of each model, its settings first")
    tune.add_argument("--schedule", default="plain", help="plain, or halving over iterations")
    tune.add_argument("--metric", default="recall@20", help="that chooses: recall@20 or ndcg@10")
    tune.add_argument("--part", default="validation", help="the test part is refused")
    tune.add_argument("--seed", type=int, default=0)
    tune.set_defaults(handler=_tune_cf)
    doctor = commands.add_parser("doctor", help="versions, devices, and what is missing")
    doctor.set_defaults(handler=_doctor)
    demo = commands.add_parser("demo", help="show a run in the browser (Streamlit)")
    demo.add_argument(
        "--run", required=True, type=Path, help="a run's folder, such as runs/quickstart"
    )
    demo.add_argument("--port", type=int, default=8501)
    demo.set_defaults(handler=_demo)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML of what differs from the defaults")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings that override the file's"
    )


def _run(options: argparse.Namespace, names: list[str]) -> int:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.runner import Run, run_stages
    from ulrec.experiment.stages import EXTRA_STAGES, STAGES

    run = Run(config=load_config(RunConfig, options.config, options.overrides))

    known = {**STAGES, **EXTRA_STAGES}
    stages = [known[name] for name in names]
    if not any(stage.wanted(run.config) for stage in stages):
        raise ConfigError(f"this configuration leaves {names[0]} out; it is: {stages[0].help}")
    run_stages(run, stages, report=_report)
    if "report" in names:
        sys.stdout.write(f"open {run.path('report.html')}\n")
    return EXIT_OK


def _stage(options: argparse.Namespace, name: str) -> int:
    """Run a stage, or only a shard of it."""
    if options.shard is None:
        return _run(options, [name])
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.runner import Run
    from ulrec.experiment.shards import Shard, make_shard
    from ulrec.experiment.stages import STAGES

    shard = Shard.parse(options.shard)
    run = Run(config=load_config(RunConfig, options.config, options.overrides))
    _report(make_shard(run, STAGES[name], shard))
    return EXIT_OK


def _generate(options: argparse.Namespace) -> int:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.files import write_generated
    from ulrec.experiment.runner import Run

    if options.format is not None and options.out is None:
        raise ConfigError("--format is that of files; say where they go with --out FOLDER")
    if options.shard is not None and options.out is not None:
        raise ConfigError("a shard is not all there is to write; give --out without --shard")
    code = _stage(options, "generate")
    if options.out is not None:
        run = Run(config=load_config(RunConfig, options.config, options.overrides))
        told = write_generated(run, options.out, kind=options.format, fps=options.fps)
        sys.stdout.write(f"{told}\n")
    return code


def _init(options: argparse.Namespace) -> int:
    from ulrec.experiment.propose import propose

    proposal = propose(
        options.media, options.interactions, catalogue=options.catalogue, out=options.out
    )
    sys.stdout.write(f"{proposal}\n\n")
    if not proposal.ok:
        return EXIT_ERROR
    written = proposal.write(force=options.force)
    sys.stdout.write(f"wrote {', '.join(map(str, written))}\n")
    sys.stdout.write(f"next: ulrec run --config {written[-1]}\n")
    return EXIT_OK


def _export(options: argparse.Namespace) -> int:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.export import export
    from ulrec.experiment.runner import Run

    run = Run(config=load_config(RunConfig, options.config, options.overrides))
    sys.stdout.write(f"{export(run, options.out, bits=options.bits)}\n")
    return EXIT_OK


def _compare(options: argparse.Namespace) -> int:
    from ulrec.evaluation.cells import text_table
    from ulrec.experiment.compare import compare_runs

    compared = compare_runs(options.runs, options.out, varying=options.varying, seed=options.seed)
    for one in compared:
        table = text_table(one.table) if one.table.height else "nothing in common"
        sys.stdout.write("\n".join(["", one.title, *one.notes, table, ""]))
    sys.stdout.write(f"open {options.out / 'report.html'}\n")
    return EXIT_OK


def _describe(options: argparse.Namespace) -> int:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.describe import describe

    config = load_config(RunConfig, options.config, options.overrides)
    sys.stdout.write(f"{describe(config, num_images=options.images)}\n")
    return EXIT_OK


def _sweep(options: argparse.Namespace) -> int:
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.sweep import SweepConfig, sweep

    config = load_config(RunConfig, options.config, options.overrides)
    biases = options.biases or [config.latents.model.autoencoder.bias_x]
    swept = SweepConfig(
        loss_factors=tuple(options.loss_factors),
        biases=tuple(biases),
        seeds=tuple(options.seeds),
        samples=options.samples,
    )
    sys.stdout.write(f"{sweep(config, swept, options.out, beside=options.beside)}\n")
    sys.stdout.write(f"plot: {options.out / 'sweep.png'}\n")
    return EXIT_OK


def _tune_cf(options: argparse.Namespace) -> int:
    from ulrec.evaluation.cells import text_table
    from ulrec.experiment.config import RunConfig
    from ulrec.experiment.runner import Run, run_stages
    from ulrec.experiment.stages import STAGES
    from ulrec.experiment.tune_cf import TuneConfig, tune_cf

    run = Run(config=load_config(RunConfig, options.config, options.overrides))
    config = TuneConfig(
        models=tuple(options.models or [run.config.cf.model]),
        search=options.search,
        num_trials=options.trials,
        schedule=options.schedule,
        metric=options.metric,
        part=options.part,
        seed=options.seed,
    )
    run_stages(run, [STAGES["prepare"]], report=lambda result: None)
    tuned = tune_cf(run, config)
    about = f"{tuned.num_users} users, {config.part} part, seed {config.seed}; by {config.metric}"
    sys.stdout.write(f"{text_table(tuned.table)}\n\n{about}\n\n{tuned.yaml}\n")
    sys.stdout.write(f"protocol and all trials: {tuned.folder}\n")
    return EXIT_OK


def _doctor(options: argparse.Namespace) -> int:
    from ulrec.experiment.doctor import diagnose

    diagnosis = diagnose()
    sys.stdout.write(f"{diagnosis}\n")
    return EXIT_OK if diagnosis.ok else EXIT_ERROR


def _demo(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("the demo needs Streamlit: pip install 'ulrec[demo]'")
    page = Path(__file__).parent / "app" / "page.py"
    command = [sys.executable, "-m", "ulrec.app.serve", "run", str(page)]
    command += [f"--server.port={options.port}", *PAGE_SETTINGS, "--", "--run", str(options.run)]
    return subprocess.call(command, env=os.environ)


def _report(result: StageResult) -> None:
    took = "up to date" if result.skipped else f"{result.seconds:.0f} s"
    sys.stdout.write(f"{result.stage:<14}{took:>11}   {result.summary}\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"ulrec: {text}\n")
