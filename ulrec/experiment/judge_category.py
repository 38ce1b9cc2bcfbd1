"""Judge whether what is drawn for fans of a category is of that category, by a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.checkpoint import open_artefact
from ulrec.data.schema import CATEGORY, CONCEPT, HIGH, ITEM_ID, LOW, MEAN
from ulrec.evaluation.classification import (
    Classifier,
    accuracy,
    balanced_accuracies,
    balanced_accuracy,
    choose_penalty,
    fit_classifier,
    label_permutations,
    margin_ratio,
)
from ulrec.evaluation.statistics import wilson_interval
from ulrec.experiment.fans import Fans
from ulrec.experiment.judge import Headline, Judge, Rows, Tables, figure

__all__ = ["judge_category", "without_category"]

MADE = "generated for fans"


def without_category(judge: Judge) -> str | None:
    """Return why the category of generated pictures cannot be judged, or None where it can."""
    info = open_artefact(judge.run.path("generated"), kind="generated").info
    reason: str | None = info["without_fans"]
    fans = Fans.load(judge.run.path("generated"))
    if fans is not None and not (_labels(judge, _names(fans))[judge.heldout] >= 0).any():
        reason = "no held-out item is of a category that fans were drawn for"
    return reason


def judge_category(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Compare a classifier's margin over chance on fans' pictures with that on real ones."""
    fans = Fans.load(judge.run.path("generated"))
    if fans is None or without_category(judge) is not None:
        return
    names = _names(fans)
    labels = _labels(judge, names)
    classifier = _fit(judge, labels, len(names))
    known = labels[judge.heldout] >= 0
    real = labels[judge.heldout][known]
    wanted = np.array([names.index(name) for name in fans.table[CATEGORY]], np.int64)
    features = judge.features
    rng = np.random.default_rng([judge.seed, 6])
    rows = _rows(
        {
            "real held-out": (real, features["catalogue"][judge.heldout[known]]),
            "reconstructed held-out": (real, features["reconstructed"][known]),
            MADE: (wanted, features["fans"]),
        },
        classifier,
        num_resamples=judge.run.config.evaluate.num_resamples,
        rng=rng,
    )
    own = rows[-1]
    rows.append(_control(judge, classifier, wanted, rng))
    num = judge.run.config.evaluate.num_permutations
    predicted = classifier.predict(features["fans"])
    own["p"] = label_permutations(wanted, predicted, seed=rng, num_permutations=num)[1]
    if own["margin_ratio"] is not None:
        ratio = {MEAN: own["margin_ratio"], LOW: own["ratio_low"], HIGH: own["ratio_high"]}
        headline.append(figure("category margin", ratio, "fans' pictures over real held-out ones"))
    tables["category"] = {
        "title": "Category: is what is drawn for fans of a category of that category?",
        "note": _note(judge, classifier, int((~known).sum())),
        "rows": rows,
    }


def _rows(
    sets: Mapping[str, tuple[Rows, NDArray[np.float32]]],
    classifier: Classifier,
    *,
    num_resamples: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return a row a set, the first being what margins are compared with."""
    rows: list[dict[str, Any]] = []
    chance, real = 1 / classifier.num_classes, None
    for name, (labels, features) in sets.items():
        predicted = classifier.predict(features)
        own = balanced_accuracy(labels, predicted)
        drawn = balanced_accuracies(labels, predicted, seed=rng, num_resamples=num_resamples)
        plain = wilson_interval(int((labels == predicted).sum()), len(labels))
        row = {
            "set": name,
            "n": len(labels),
            "balanced_accuracy": own,
            LOW: np.quantile(drawn, 0.025),
            HIGH: np.quantile(drawn, 0.975),
            "accuracy": accuracy(labels, predicted),
            "accuracy_low": plain.low,
            "accuracy_high": plain.high,
            "largest_class": np.bincount(labels).max() / len(labels),
            "margin": own - chance,
            "margin_ratio": None,
            "ratio_low": None,
            "ratio_high": None,
            "p": None,
        }
        if real is not None and rows[0]["margin"] > 0:
            observed = (own, rows[0]["balanced_accuracy"])
            ratio = margin_ratio(drawn, real, chance=chance, observed=observed)
            row |= {"margin_ratio": ratio.mean, "ratio_low": ratio.low, "ratio_high": ratio.high}
        real = drawn if real is None else real
        rows.append(row)
    return rows


def _names(fans: Fans) -> list[str]:
    """Return the categories that fans were drawn for: the classes of the classifier."""
    return [str(name) for name in fans.table[CATEGORY].unique().sort()]


def _labels(judge: Judge, names: list[str]) -> Rows:
    """Return the class of every item, -1 where its category is none of them."""
    items = judge.pipeline.items
    number = {name: i for i, name in enumerate(names)}
    found = items[CATEGORY].cast(pl.String).replace_strict(number, default=-1)
    labels = np.full(len(judge.media.items), -1, np.int64)
    labels[judge.media.items.rows(items[ITEM_ID].to_list())] = found.fill_null(-1).to_numpy()
    return labels


def _fit(judge: Judge, labels: Rows, num_classes: int) -> Classifier:
    """Fit on real train pictures, the penalty chosen on a part of their concepts."""
    items = judge.pipeline.items
    group = CONCEPT if CONCEPT in items.columns else ITEM_ID
    named = pl.coalesce(pl.col(group), pl.col(ITEM_ID)).cast(pl.String).alias("group")
    by_id = dict(items.select(ITEM_ID, named).iter_rows())
    rows = judge.train[labels[judge.train] >= 0]
    groups = [str(by_id[item]) for item in judge.media.items[rows].tolist()]
    features, y = judge.features["catalogue"][rows], labels[rows]
    penalty = choose_penalty(features, y, groups, num_classes=num_classes, seed=judge.seed)
    return fit_classifier(features, y, num_classes=num_classes, penalty=penalty)


def _control(
    judge: Judge, classifier: Classifier, wanted: Rows, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the row of pictures drawn for nobody, under fans' labels dealt out at random."""
    predicted = classifier.predict(judge.features["generated"][judge.arm("null")])
    labels = np.resize(rng.permutation(wanted), len(predicted))
    num = judge.run.config.evaluate.num_permutations
    drawn, _ = label_permutations(labels, predicted, seed=rng, num_permutations=num)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "set": "generated for nobody, fans' labels dealt out",
        "n": len(labels),
        "balanced_accuracy": drawn.mean(),
        LOW: low,
        HIGH: high,
        "largest_class": np.bincount(labels).max() / len(labels),
        "margin": drawn.mean() - 1 / classifier.num_classes,
    }


def _note(judge: Judge, classifier: Classifier, num_unknown: int) -> str:
    config, num = judge.run.config.generate, classifier.num_classes
    note = (
        f"A multinomial logistic regression on standardised {judge.protocol.backbone} features of "
        f"the real train pictures of these {num} categories, penalty {classifier.penalty:g} chosen "
        f"on a quarter of their concepts. A fan is a user folded in from up to "
        f"{config.fan_history} random train items of one category; {config.fans_per_category} fans "
        f"for each, a picture each at guidance "
        f"{config.guidance:g}. Balanced accuracy is the mean over categories, chance 1/{num}; "
        "margin is balanced accuracy - chance, margin ratio the margin over that on real held-out "
        "pictures. Intervals by bootstrap within categories; of the plain accuracy Wilson's, to "
        "read beside the share of the largest class. p by permutation of the fans' labels; the "
        "last row shows mean and range over such permutations."
    )
    if num_unknown:
        note += f" {num_unknown} held-out pictures are of other categories: left out."
    return note
