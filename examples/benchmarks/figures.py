"""The README's pictures and a Markdown table of a run's headline figures, from its artefacts.

    python examples/benchmarks/figures.py --run runs/quickstart --out examples

Nothing is computed here: what is printed stands in the run's metrics.json and curve.json, with the
protocol that it was measured under.
"""

import argparse
import dataclasses
import io
from pathlib import Path

from PIL import Image

from ulrec.config import load_config
from ulrec.evaluation.cells import interval_text, number_text
from ulrec.evaluation.report import Metrics, read_metrics
from ulrec.experiment.config import RunConfig
from ulrec.experiment.curve import Curve
from ulrec.experiment.runner import Run

LARGEST = 300_000  # bytes of a picture
SHEETS = ("users", "reconstructions", "samples", "fans")
PROTOCOL = (
    "seed",
    "n",
    "guidance",
    "sampler",
    "steps",
    "can_fold_in",
    "data_fingerprint",
    "config_hash",
)
FIGURES = {
    "latents": ("metric", "mean", None),
    "fidelity": ("set", "KID-efflite0", None),
    "category": ("set", "balanced_accuracy", "p"),
    "utility": ("arm", "mean", "p_holm"),
    "lifts": ("arm", "mean", "p_holm"),
    "copying": ("metric", "mean", None),
}
"""Per table: what a row is called, its value with low and high, its p-value."""


def small_png(path: Path) -> bytes:
    """Return a picture as PNG below the limit, with a palette if that is what it takes."""
    image = Image.open(path).convert("RGB")
    for colours in (None, 256, 128, 64):
        chosen = image if colours is None else image.quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        chosen.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGEST:
            return buffer.getvalue()
    raise SystemExit(f"{path} does not fit {LARGEST} bytes; show fewer users on it")


def write_pictures(run: Path, out: Path, *, curve: Curve | None) -> list[Path]:
    """Write the sheets and the curve that the run has, named after it; return what was written."""
    sources = {name: run / "sheets" / f"{name}.png" for name in SHEETS}
    if curve is not None:
        sources["guidance"] = run / "curve" / "curve.png"
    written = []
    out.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        if source.is_file():
            target = out / f"{run.name}_{name}.png"
            target.write_bytes(small_png(source))
            written.append(target)
    return written


def table_rows(metrics: Metrics) -> list[tuple[str, str, str, str]]:
    """Return (table, row, value, p) of the headline tables."""
    rows = []
    for key, (label, value, p) in FIGURES.items():
        if key not in metrics.tables:
            continue
        for row in metrics.tables[key].frame.iter_rows(named=True):
            name = f"{row['metric']}, {row[label]}" if key == "lifts" else str(row[label])
            text = interval_text(row[value], row["low"], row["high"])
            if key == "category" and row["margin_ratio"] is not None:
                ratio = interval_text(row["margin_ratio"], row["ratio_low"], row["ratio_high"])
                text += f"; margin over real: {ratio}"
            if key == "fidelity":
                text += f"; FD-efflite0 {number_text(row['FD-efflite0'])}; n {row['n']}"
            rows.append((key, name, text, number_text(row[p]) if p and row[p] is not None else ""))
    frame = metrics.tables["ranking"].frame
    for row in frame.iter_rows(named=True):
        if (row["metric"], row["k"]) == ("hit_rate", 10):
            text = interval_text(row["mean"], row["low"], row["high"])
            rows.append(("ranking", f"HR@10, {row['method']}", text, ""))
    return rows


def curve_lines(curve: Curve, *, used: float) -> list[str]:
    """Return the table of the curve, a row a guidance."""
    names = curve.table["metric"].unique(maintain_order=True).to_list()
    lines = [
        "",
        f"Guidance, {curve.num_users} validation users that are not judged above:",
        "",
        "| guidance | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for (guidance,), part in curve.table.group_by("guidance", maintain_order=True):
        own = {row["metric"]: row for row in part.iter_rows(named=True)}
        cells = [interval_text(own[n]["mean"], own[n]["low"], own[n]["high"]) for n in names]
        mark = " (in use)" if guidance == used else ""
        lines.append(f"| {guidance:g}{mark} | " + " | ".join(cells) + " |")
    return lines


def markdown(metrics: Metrics, curve: Curve | None) -> str:
    """Return the tables to paste into RESULTS.md."""
    stated = ", ".join(f"{name} {metrics.protocol.get(name)}" for name in PROTOCOL)
    users = "simulated users" if metrics.simulated else "users of the table of interactions"
    lines = [f"{stated}; {users}.", "", "| table | what | value | p |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in table_rows(metrics)]
    lines += [f"| {name} | not judged: {reason} | | |" for name, reason in metrics.missing.items()]
    if curve is not None:
        lines += curve_lines(curve, used=metrics.protocol["guidance"])
    return "\n".join(lines)


def main() -> None:
    """Write the pictures and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished run's folder")
    parser.add_argument("--out", type=Path, default=Path("examples"))
    options = parser.parse_args()
    metrics = read_metrics(options.run / "metrics.json")
    config = load_config(RunConfig, options.run / "config.yaml")
    place = {"folder": str(options.run.parent), "name": options.run.name}
    curve = Curve.load(Run(config=dataclasses.replace(config, **place)))
    written = write_pictures(options.run, options.out, curve=curve)
    print(markdown(metrics, curve))
    print()
    for target in written:
        print(f"wrote {target}, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
