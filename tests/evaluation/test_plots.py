"""Plots: valid, self-contained, reproducible SVG that shows what the table says."""

import re
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from ulrec.errors import DataError
from ulrec.evaluation import plots
from ulrec.evaluation.plots import interval_plot, loss_curves, ranking_plot

LIFTS = pl.DataFrame(
    {"arm": ["null", "<b> $x^2$"], "mean": [0.2, 0.1], "low": [0.1, -0.1], "high": [0.3, 0.3]}
)
RANKING = pl.DataFrame(
    [
        {"method": m, "metric": q, "k": k, "mean": 0.1, "low": 0.05, "high": 0.2}
        for m in ("als", "generate (user)")
        for q in ("hit_rate", "ndcg")
        for k in (10, 20)
    ]
)
RUNS = {
    "train-latents": [{"step": s, "loss": 1 / s, "bits_per_pixel": 0.4} for s in range(1, 50)],
    "train-base": [{"step": s, "loss": 2.0} for s in range(1, 20)],
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return {
        "lift": interval_plot(LIFTS, label="arm", title="Lift", xlabel="cosine"),
        "ranking": ranking_plot(RANKING, title="Ranking"),
        "loss": loss_curves(RUNS),
    }


@pytest.mark.parametrize("name", ["lift", "ranking", "loss"])
def test_svg_is_valid_and_asks_for_nothing(drawn: dict[str, str], name: str) -> None:
    root = ElementTree.fromstring(drawn[name])
    assert root.tag.endswith("}svg") and root.get("viewBox")
    # names of the standard itself are no requests
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", drawn[name])
    assert plots.INK not in drawn[name] and "currentColor" in drawn[name]


def test_svg_is_reproducible_and_ids_of_two_plots_differ(drawn: dict[str, str]) -> None:
    assert drawn["ranking"] == ranking_plot(RANKING, title="Ranking")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in drawn.values()]
    assert not ids[0] & ids[1] and not ids[1] & ids[2]
    for found, svg in zip(ids, drawn.values(), strict=True):
        assert set(re.findall(r'href="#([^"]+)"', svg)) <= found
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= found


def test_dots_are_hollow_where_the_interval_holds_the_reference() -> None:
    def hollow(reference: float | None) -> int:
        svg = interval_plot(LIFTS, label="arm", title="", xlabel="", reference=reference)
        return len(re.findall(r"<use [^>]*fill-opacity: 0", svg))

    assert hollow(0.0) == 1 and hollow(0.2) == 2 and hollow(None) == 0


def test_intervals_may_be_unknown_but_means_may_not_all() -> None:
    unknown = LIFTS.with_columns(low=pl.lit(None), high=pl.lit(float("nan")))
    interval_plot(unknown, label="arm", title="", xlabel="")
    with pytest.raises(DataError, match="no row"):
        interval_plot(
            LIFTS.with_columns(mean=pl.lit(float("nan"))), label="arm", title="", xlabel=""
        )
    with pytest.raises(DataError, match="lacks the columns \\['low'\\]"):
        interval_plot(LIFTS.drop("low"), label="arm", title="", xlabel="")
    with pytest.raises(DataError, match="no rows"):
        interval_plot(LIFTS.clear(), label="arm", title="", xlabel="")


def test_ranking_choices_are_checked() -> None:
    assert ranking_plot(RANKING, title="", metrics=["ndcg"], ks=[20])
    with pytest.raises(DataError, match="has no \\['map'\\]"):
        ranking_plot(RANKING, title="", metrics=["map"])
    many = pl.concat([RANKING.with_columns(k=pl.lit(k, pl.Int64)) for k in range(1, 6)])
    with pytest.raises(DataError, match="at most 4 ks"):
        ranking_plot(many, title="")


def test_loss_values_are_chosen() -> None:
    assert len(loss_curves(RUNS, values=["loss"])) < len(loss_curves(RUNS))
    with pytest.raises(DataError, match="nothing to plot"):
        loss_curves(RUNS, values=["accuracy"])
    with pytest.raises(DataError, match="nothing to plot"):
        loss_curves({"train": []})


def test_moving_mean_by_hand() -> None:
    values = np.array([1.0, 2.0, np.nan, 6.0])
    # neighbours of each: (1, 2), (1, 2), (2, 6), (6)
    assert plots._moving_mean(values, half=1).tolist() == [1.5, 1.5, 4.0, 6.0]
    assert plots._moving_mean(values[:1], half=0).tolist() == [1.0]
