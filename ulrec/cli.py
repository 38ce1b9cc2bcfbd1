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

from ulrec import __version__
from ulrec.config import load_config
from ulrec.errors import Interrupted, MissingExtraError, ULRecError

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
  ulrec curve --config configs/quickstart.yaml       what guidance buys, on validation users
  ulrec compare runs/one runs/other                  what differs, with paired tests
  ulrec init FOLDER --interactions TABLE             a configuration for one's own catalogue
  ulrec describe configs/quickstart.yaml             parameters, FLOPs, memory: what it costs
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
    from ulrec.experiment.runner import Run, StageResult, run_stages
    from ulrec.experiment.stages import EXTRA_STAGES, STAGES

    run = Run(config=load_config(RunConfig, options.config, options.overrides))

    def report(result: StageResult) -> None:
        took = "up to date" if result.skipped else f"{result.seconds:.0f} s"
        sys.stdout.write(f"{result.stage:<14}{took:>11}   {result.summary}\n")
        sys.stdout.flush()

    known = {**STAGES, **EXTRA_STAGES}
    run_stages(run, [known[name] for name in names], report=report)
    if "report" in names:
        sys.stdout.write(f"open {run.path('report.html')}\n")
    return EXIT_OK


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
    sys.stdout.write(f"{export(run, options.out)}\n")
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


def _doctor(options: argparse.Namespace) -> int:
    from ulrec.experiment.doctor import diagnose

    diagnosis = diagnose()
    sys.stdout.write(f"{diagnosis}\n")
    return EXIT_OK if diagnosis.ok else EXIT_ERROR


def _demo(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("the demo needs Streamlit: pip install 'ulrec[demo]'")
    page = Path(__file__).parent / "app" / "page.py"
    command = [sys.executable, "-m", "streamlit", "run", str(page), f"--server.port={options.port}"]
    command += [*PAGE_SETTINGS, "--", "--run", str(options.run)]
    return subprocess.call(command, env=os.environ)


def _say(text: str) -> None:
    sys.stderr.write(f"ulrec: {text}\n")
