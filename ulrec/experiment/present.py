"""Show a run: sheets of pictures, plots, and a report that is one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import new_artefact, write_text
from ulrec.config import to_mapping
from ulrec.data.media import MediaStore
from ulrec.data.schema import ARM, CATEGORY, HELDOUT, ITEM_ID, RANK, SPLIT, USER_ID
from ulrec.evaluation.animation import (
    Sheet,
    animated_compared_sheet,
    animated_user_sheet,
    encode_sheet,
    sheet_mime,
)
from ulrec.evaluation.curves import curve_svg, wide
from ulrec.evaluation.features import unit_rows
from ulrec.evaluation.plots import interval_plot, loss_curves, ranking_plot
from ulrec.evaluation.rate import downsampling_psnr
from ulrec.evaluation.report import (
    Metrics,
    NamedImage,
    NamedPlot,
    NamedTable,
    Report,
    Section,
    read_metrics,
    render,
)
from ulrec.evaluation.sheets import UserRow
from ulrec.experiment.curve import GUIDANCE, Curve
from ulrec.experiment.fans import Fans
from ulrec.experiment.generate import USER_ARM
from ulrec.experiment.prepare import read_split
from ulrec.experiment.runner import Run
from ulrec.pipeline import load_items

__all__ = ["present"]

SHOWN_HELDOUT = 36
SHOWN_SAMPLES = 36
LIKED, MADE, NEAR, RANKED = "liked", "generated", "nearest unseen", "collaborative filtering's top"
FAN_LIKED = "one fan liked"
FOR_USERS = (
    "utility",
    "lifts",
    "history",
    "identifiability",
    "verifier",
    "verifier_check",
    "diversity",
    "category",
)
RANKING = ("ranking", "ranking_all", "beyond_accuracy")
LEAKS = (
    "The users' factors have seen the training pairs: the condition leaks, figures on seen items "
    "are optimistic."
)
Bytes = NDArray[np.uint8]


def present(run: Run) -> str:
    """Write ``sheets`` and ``report.html``."""
    metrics = read_metrics(run.path("metrics.json"))
    sheets = {
        "reconstructions": _reconstructions(run, metrics),
        "samples": _samples(run),
        "users": _users(run, metrics.simulated),
    }
    fans = Fans.load(run.path("generated"))
    if fans is not None:
        sheets["fans"] = _fans(run, fans)
    nearest = _nearest(run)
    if nearest is not None:
        sheets["nearest"] = nearest
    made_from = {name: run.fingerprint(name) for name in ("evaluation", "generated")}
    with new_artefact(run.path("sheets"), kind="sheets", made_from=made_from) as folder:
        for name, sheet in sheets.items():
            ending = sheet_mime(sheet).removeprefix("image/")
            (folder / f"{name}.{ending}").write_bytes(encode_sheet(sheet))
    write_text(run.path("report.html"), render(_report(run, metrics, sheets)))
    return f"{len(sheets)} sheets, {len(metrics.tables)} tables: {run.path('report.html')}"


def _reconstructions(run: Run, metrics: Metrics) -> Sheet:
    """Show held-out pictures above their reconstructions and the baseline at equal bits."""
    media = MediaStore.open(run.path("media"))
    rows = _heldout_rows(run, media)
    made = np.load(run.path("features") / "reconstructed_media.npy", mmap_mode="r")
    chosen = np.linspace(0, len(rows) - 1, min(SHOWN_HELDOUT, len(rows))).astype(int)
    real = np.asarray(media.media[rows])
    shown = {"real": real[chosen], "reconstructed": np.asarray(made[chosen])}
    rate = metrics.tables["latents"].frame.row(0, named=True)["mean"]
    if any("downsampling" in str(m) for m in metrics.tables["latents"].frame["metric"]):
        baseline = downsampling_psnr(real, bits_per_pixel=rate)
        shown["downsampled"] = baseline.reconstructions[chosen]
    title = media.worded(f"Held-out pictures through the latents, {rate:.2f} bits/pixel")
    return animated_compared_sheet(shown, title=title)


def _samples(run: Run) -> Sheet:
    """Show what is drawn for users above what the same seeds give for nobody."""
    samples = pl.read_parquet(run.path("generated") / "samples.parquet")
    media = np.load(run.path("generated") / "media.npy", mmap_mode="r")
    rows = {
        label: np.asarray(media[np.flatnonzero((samples[ARM] == arm).to_numpy())[:SHOWN_SAMPLES]])
        for label, arm in (("for a user", USER_ARM), ("for nobody", "null"))
    }
    guidance = run.config.generate.guidance
    title = f"Generated at guidance {guidance:g} for users, and with the same seeds for nobody"
    return animated_compared_sheet(rows, title=title)


def _nearest(run: Run) -> Sheet | None:
    """Show clips drawn for users above the most similar of the catalogue; None of pictures."""
    media = MediaStore.open(run.path("media"))
    if not media.shows_clips:
        return None
    samples = pl.read_parquet(run.path("generated") / "samples.parquet")
    made = np.load(run.path("generated") / "media.npy", mmap_mode="r")
    shown = np.flatnonzero((samples[ARM] == USER_ARM).to_numpy())[:SHOWN_SAMPLES]
    drawn, real = (
        unit_rows(name, np.load(run.path("features") / f"{name}.npy"))
        for name in ("generated", "catalogue")
    )
    near = (drawn[shown] @ real.T).argmax(axis=1)
    rows = {"generated": np.asarray(made[shown]), "nearest real": np.asarray(media.media[near])}
    title = "Clips drawn for users, and the most similar of the catalogue"
    return animated_compared_sheet(rows, title=title)


def _fans(run: Run, fans: Fans) -> Sheet:
    """Show for each category a fan's history and what is drawn for its fans."""
    media = MediaStore.open(run.path("media"))
    categories = fans.table[CATEGORY].to_numpy()
    liked = fans.table["history"].to_list()
    rows = []
    for category in fans.table[CATEGORY].unique(maintain_order=True).to_list():
        own = np.flatnonzero(categories == category)
        groups = {FAN_LIKED: _media(media, liked[own[0]][:5]), MADE: fans.media[own[:10]]}
        rows.append(UserRow(user_id=category, groups=groups, note=f"{len(liked[own[0]])} liked"))
    title = "Generated for made-up fans, each of random items of one category"
    return animated_user_sheet(rows, columns=(FAN_LIKED, MADE), title=title)


def _users(run: Run, simulated: bool) -> Sheet:
    """Show for some users what they liked, what was drawn for them, and what is near to it."""
    media = MediaStore.open(run.path("media"))
    samples = pl.read_parquet(run.path("generated") / "samples.parquet").with_row_index("row")
    made = np.load(run.path("generated") / "media.npy", mmap_mode="r")
    ranked = pl.read_parquet(run.path("recommendations") / "recommendations.parquet")
    train = read_split(run, "train")
    own = samples.filter(pl.col(ARM) == USER_ARM)
    users = own[USER_ID].unique(maintain_order=True)
    num = min(run.config.evaluate.sheet_users, len(users))
    rows = []
    for user in users.gather(np.linspace(0, len(users) - 1, num).astype(int).tolist()).to_list():
        liked = train.filter(pl.col(USER_ID) == user)[ITEM_ID].to_list()
        groups = {
            LIKED: _media(media, liked[-6:]),
            MADE: np.asarray(made[own.filter(pl.col(USER_ID) == user)["row"].to_list()[:3]]),
            NEAR: _media(media, _top(ranked, f"generate ({USER_ARM})", user)),
            RANKED: _media(media, _top(ranked, run.config.cf.model, user)),
        }
        rows.append(UserRow(user_id=str(user), groups=groups, note=f"{len(liked)} liked"))
    title = "What users liked, what is generated for them, and the nearest unseen items"
    return animated_user_sheet(
        rows, columns=(LIKED, MADE, NEAR, RANKED), title=title, simulated=simulated
    )


def _top(ranked: pl.DataFrame, method: str, user: Any, *, k: int = 4) -> list[Any]:
    chosen = ranked.filter((pl.col("method") == method) & (pl.col(USER_ID) == user))
    return chosen.sort(RANK).head(k)[ITEM_ID].to_list()


def _media(media: MediaStore, ids: Sequence[Any]) -> Bytes:
    return np.asarray(media.media[media.items.rows(list(ids))])


def _heldout_rows(run: Run, media: MediaStore) -> NDArray[np.int64]:
    items = load_items(run.path("items"))
    return media.items.rows(items.filter(pl.col(SPLIT) == HELDOUT)[ITEM_ID].to_list())


def _report(run: Run, metrics: Metrics, sheets: Mapping[str, Sheet]) -> Report:
    tables, worded = metrics.tables, MediaStore.open(run.path("media")).worded
    personal = [_lifts(tables["lifts"].frame)]
    if "utility" in tables:
        personal.insert(0, _utility(tables["utility"].frame))
    images = [_image(sheets["users"], "Users", worded("Rows of pictures, one row a user"))]
    if "fans" in sheets:
        rows = worded("Rows of pictures, one row a category")
        images.append(_image(sheets["fans"], "Fans", rows))
    drawn = [_image(sheets["samples"], "Samples", worded("Generated pictures"))]
    if "nearest" in sheets:
        drawn.append(_image(sheets["nearest"], "Nearest", "Generated above the nearest real clips"))
    sections = [
        Section(
            title="For users",
            text=worded(_about_users(metrics)),
            images=images,
            plots=personal,
            tables=[tables[name] for name in FOR_USERS if name in tables],
        ),
        *_guidance(run),
        Section(
            title=worded("Pictures"),
            text=worded("What the latents keep of held-out pictures, and what is generated."),
            images=[
                _image(
                    sheets["reconstructions"],
                    "Reconstructions",
                    worded("Real above reconstructed pictures"),
                ),
                *drawn,
            ],
            tables=[tables["latents"], tables["fidelity"], tables["copying"], tables["grounding"]],
        ),
        Section(
            title="Ranking",
            text="Held-out interactions against the full catalogue.",
            plots=[
                NamedPlot(
                    title="NDCG@10",
                    svg=ranking_plot(tables["ranking"].frame, title="", metrics=["ndcg"], ks=[10]),
                    alt="NDCG at 10 of each method with 95 % intervals",
                )
            ],
            tables=[tables[name] for name in RANKING if name in tables],
        ),
        Section(title="Training", plots=_losses(run)),
    ]
    return Report(
        title=f"ulrec run: {run.config.name}",
        subtitle="Unified Latents, steered by collaborative filtering",
        simulated=metrics.simulated,
        headline=metrics.headline,
        sections=sections,
        provenance={"protocol": metrics.protocol, "configuration": to_mapping(run.config)},
    )


def _about_users(metrics: Metrics) -> str:
    """Return what has to be said before figures about users."""
    parts = ["Pictures drawn for users, beside what they liked and what is nearest to them."]
    if metrics.protocol.get("can_fold_in") is False:
        parts.append(LEAKS)
    if "category" in metrics.missing:
        parts.append(f"Accuracy of category is not judged: {metrics.missing['category']}.")
    return "\n\n".join(parts)


def _guidance(run: Run) -> list[Section]:
    """Return the section about the curve, where there is one of these models."""
    curve = Curve.load(run)
    if curve is None:
        return []
    used = run.config.generate.guidance
    kind = "simulated validation users" if curve.simulated else "validation users"
    text = (
        f"Guidance is chosen here, on {curve.num_users} {kind} that are not among those that "
        "everything else is judged on. One picture each, the same seeds at every guidance; "
        "held-out lift and hit rate are against their validation interactions."
    )
    plot = NamedPlot(
        title="What guidance buys",
        svg=curve_svg(curve.table, setting=GUIDANCE, mark=used),
        alt="Metrics over guidance with 95 % intervals, the guidance in use marked",
        note=f"Dashed line and square: guidance {used:g}, in use.",
    )
    note = (
        "KID against train pictures, its interval over subsets of the pictures; copy rate with "
        "Wilson's interval; the others by bootstrap over users."
    )
    table = NamedTable("Guidance", wide(curve.table, setting=GUIDANCE), note)
    return [Section(title="Guidance", text=text, plots=[plot], tables=[table])]


def _utility(frame: pl.DataFrame) -> NamedPlot:
    svg = interval_plot(frame, label=ARM, title="", xlabel="true utility, standard deviations")
    return NamedPlot(
        title="True utility", svg=svg, alt="Mean true utility of each arm with 95 % intervals"
    )


def _lifts(frame: pl.DataFrame) -> NamedPlot:
    named = frame.with_columns(pl.concat_str("metric", ARM, separator=", ").alias("lift"))
    svg = interval_plot(named, label="lift", title="", xlabel="difference of cosines")
    return NamedPlot(title="Lifts", svg=svg, alt="Lifts over controls with 95 % intervals")


def _losses(run: Run) -> list[NamedPlot]:
    plots = []
    for path in sorted(run.path("losses").glob("*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        svg = loss_curves({path.stem: lines})
        plots.append(NamedPlot(title=path.stem, svg=svg, alt=f"Losses of {path.stem} over steps"))
    return plots


def _image(sheet: Sheet, title: str, alt: str) -> NamedImage:
    return NamedImage(title=title, data=encode_sheet(sheet), mime=sheet_mime(sheet), alt=alt)
