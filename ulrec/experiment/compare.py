"""Compare finished runs, or folders of results: tables, tests, and a page beside one another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ulrec.checkpoint import new_artefact
from ulrec.data.schema import HIGH, LOW
from ulrec.errors import DataError
from ulrec.evaluation.compare import DIFFERENCE, Compared, compare_results
from ulrec.evaluation.plots import interval_plot
from ulrec.evaluation.protocol import difference
from ulrec.evaluation.report import NamedImage, NamedPlot, NamedTable, Report, Section, render
from ulrec.evaluation.results import KIND, Result, load_results

__all__ = ["compare_runs"]

SHEETS = ("users", "samples", "reconstructions")
MAX_DOTS = 60


def compare_runs(
    folders: Sequence[Path],
    out: Path,
    *,
    varying: Collection[str] = (),
    seed: int = 0,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> list[Compared]:
    """Compare runs with the first; writes JSON, parquet and ``report.html`` into ``out``.

    Parameters
    ----------
    folders
        Of runs or of results; the first is the baseline.
    out
        New, or a comparison, which is replaced.
    varying
        Fields of the protocol that the comparison is about.
    seed, num_resamples, num_permutations
        Of the intervals and tests.

    Raises
    ------
    ArtefactError
        If a folder holds no results or damaged ones, or something else stands at ``out``.
    DataError
        If a folder is named twice, or the results cannot be compared.
    """
    results = {name: load_results(path) for name, path in _names(folders).items()}
    compared = compare_results(
        results,
        varying=varying,
        seed=seed,
        num_resamples=num_resamples,
        num_permutations=num_permutations,
    )
    page = Report(
        title=f"ulrec: {' against '.join([*list(results)[1:], next(iter(results))])}",
        subtitle=f"Differences from {next(iter(results))}, the baseline",
        simulated=any(_is_simulated(path) for path in folders),
        sections=[*(_section(one) for one in compared), *_sheets(_names(folders))],
        provenance=_provenance(results, seed, num_resamples, num_permutations),
    )
    with new_artefact(out, kind="comparison") as temporary:
        for one in compared:
            one.table.write_parquet(temporary / f"{one.name}.parquet")
        content = {
            one.name: {"title": one.title, "notes": one.notes, "rows": one.table.to_dicts()}
            for one in compared
        }
        text = json.dumps(content, indent=1, allow_nan=False)
        (temporary / "comparison.json").write_text(text, encoding="utf-8")
        (temporary / "report.html").write_text(render(page), encoding="utf-8")
    return compared


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the folders by the shortest ends of their paths that tell them apart."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise DataError(f"a folder is named twice: {', '.join(map(str, folders))}")
    longest = max((len(path.parts) for path in resolved), default=1)
    for length in range(1, longest + 1):
        names = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, folders, strict=True))


def _is_simulated(folder: Path) -> bool:
    inner = folder / KIND if (folder / KIND).is_dir() else folder
    content = json.loads((inner / "metrics.json").read_text(encoding="utf-8"))
    return bool(content["simulated"])


def _section(compared: Compared) -> Section:
    table = compared.table
    plots = []
    if f"{DIFFERENCE}_{LOW}" in table.columns and table.height <= MAX_DOTS:
        keys = table.columns[: table.columns.index("value")]
        named = table.with_columns(
            pl.concat_str([pl.col(k).cast(pl.String).fill_null("") for k in keys], separator=" ")
            .str.strip_chars()
            .alias("what")
        )
        svg = interval_plot(
            named,
            label="what",
            mean=DIFFERENCE,
            low=f"{DIFFERENCE}_{LOW}",
            high=f"{DIFFERENCE}_{HIGH}",
            title="",
            xlabel="difference from the baseline",
        )
        alt = f"Differences of {compared.title} with 95 % intervals"
        plots.append(NamedPlot(title="", svg=svg, alt=alt))
    return Section(
        title=compared.title,
        plots=plots,
        tables=[NamedTable("", table, " ".join(compared.notes))],
    )


def _sheets(folders: Mapping[str, Path]) -> list[Section]:
    """Return the runs' sheets of pictures and clips, one kind after the other."""
    sections = []
    for sheet in SHEETS:
        paths = {
            (name, kind): path / "sheets" / f"{sheet}.{kind}"
            for name, path in folders.items()
            for kind in ("png", "webp")
        }
        images = [
            NamedImage(name, path.read_bytes(), f"image/{kind}", f"{sheet} of {name}")
            for (name, kind), path in paths.items()
            if path.is_file()
        ]
        if images:
            sections.append(Section(title=f"Pictures: {sheet}", images=images))
    return sections


def _provenance(
    results: Mapping[str, Sequence[Result]], seed: int, num_resamples: int, num_permutations: int
) -> dict[str, Any]:
    (_, base), *others = results.items()
    first = base[0].protocol
    return {
        "comparison": {
            "seed": seed,
            "num_resamples": num_resamples,
            "num_permutations": num_permutations,
        },
        "baseline": dataclasses.asdict(first),
        "differs": {
            name: {key: f"{b!r} (baseline {a!r})" for key, (a, b) in found.items()}
            for name, those in others
            if (found := difference(first, those[0].protocol))
        },
    }
