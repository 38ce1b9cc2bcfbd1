"""Judge whether pictures are for their user: by the history, by a verifier, by who is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.ids import IdMap
from ulrec.data.schema import HIGH, ITEM_ID, LOW, MEAN, TIMESTAMP, USER_ID
from ulrec.evaluation.history_similarity import FORMS, history_scores, history_table
from ulrec.evaluation.identifiability import identify
from ulrec.evaluation.personalization import Generated, Taste
from ulrec.evaluation.preference import Preference, compare_arms, preference_table
from ulrec.evaluation.statistics import Interval
from ulrec.evaluation.verifier import Verifier, VerifierConfig, fit_verifier
from ulrec.experiment.generate import ARMS, USER_ARM
from ulrec.experiment.judge import Headline, Judge, Rows, Tables, figure, user_values
from ulrec.experiment.judge_users import CONTROLS, liked
from ulrec.experiment.prepare import read_split
from ulrec.pipeline import load_interactions

__all__ = ["judge_history", "judge_identity", "judge_verifier"]


def judge_history(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Similarity to the history in three forms, over controls and beside the copy rate."""
    users = np.unique(judge.sample_users(USER_ARM))
    history, times = _history_in_time(judge, users)
    forms = [form for form in FORMS if times is not None or form != "history_last"]
    arms = _arms(judge)
    compared = []
    for form in forms:
        scores = history_scores(
            form, arms, history, protocol=judge.protocol, times=times, seed=judge.seed
        )
        compared += compare_arms(scores, controls=CONTROLS, **_settings(judge))
    copying = tables["copying"]["rows"][0]
    copied = Interval(mean=copying[MEAN], low=copying[LOW], high=copying[HIGH])
    note = (
        f"Cosine of {judge.protocol.backbone} features with the mean of the history "
        "(history_mean), mean cosine with its last 5 items by time (history_last), largest cosine "
        "with any of its items (history_max). All reward copying, so the copy rate of the user's "
        "pictures stands in each row. Lift is own - control; win rate counts ties half, with "
        "Wilson's interval and the sign test's p. p by exchange within users, Holm over this table."
    )
    if times is None:
        note += " The interactions have no timestamps: history_last is left out."
    tables["history"] = {
        "title": "Personalization: similarity to the history, over controls",
        "note": note,
        "rows": history_table(compared, copied=copied).to_dicts(),
        "per_user": _per_user(judge, compared),
    }


def judge_identity(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Whether a picture gives away whom it was made for, among all users with a history."""
    interactions = judge.pipeline.interactions
    everyone = np.flatnonzero(np.diff(interactions.user_items.indptr) > 0)
    found = identify(
        _arms(judge)[USER_ARM],
        liked(
            interactions, everyone, features=judge.features["catalogue"], items=judge.media.items
        ),
        protocol=judge.protocol,
        **_settings(judge),
    )
    rows = found.table().to_dicts()
    tables["identifiability"] = {
        "title": "Identifiability: whose picture is it?",
        "note": (
            f"All {found.num_candidates} users with a history ranked by the cosine of a picture's "
            f"{judge.protocol.backbone} features with the mean of their history. top k: share of "
            "pictures whose user is among the first k, chance k / users; MRR: mean of 1 / rank, "
            "chance that of a random order. Ties by a fixed random key; p by shuffling whom the "
            "pictures were made for, Holm over this table."
        ),
        "rows": rows,
        "per_user": user_values(
            judge.pipeline.factors.users[found.user_idx], 1 / found.ranks, metric="MRR"
        ),
    }
    last = next(row for row in rows if row["metric"] == "top 16")
    of = f"of {found.num_candidates} users, chance {last['chance']:.3g}"
    headline.append(figure("user found in top 16", last, of))


def judge_verifier(judge: Judge, tables: Tables, headline: Headline) -> None:
    """P(like) by a model that knows train likes only, and what that model is worth."""
    verifier = _verifier(judge)
    scores = verifier.score(_arms(judge), protocol=judge.protocol)
    compared = compare_arms(scores, controls=CONTROLS, **_settings(judge))
    rows = preference_table(compared).to_dicts()
    sizes = VerifierConfig()
    tables["verifier"] = {
        "title": "Verifier: would the user like the picture?",
        "note": (
            "P(like | user, picture) by a logistic regression that knows the train likes only, in "
            f"{judge.protocol.backbone} features ({sizes.num_components} components), which the "
            "generator never met; no factors enter. Negatives: one random unseen item of the train "
            f"period for each of {verifier.num_pairs} likes, so that P is 0.5 before a look. Win "
            "rate counts ties half; p by exchange within users, Holm over this table; p sign by "
            "the sign test. auroc on real held-out items stands in each row: near 0.5 a score "
            "says nothing."
        ),
        "rows": rows,
        "per_user": _per_user(judge, compared),
    }
    tables["verifier_check"] = {
        "title": "Verifier: what it is worth on real held-out items",
        "note": (
            "AUROC of each user's held-out likes against all items that the user has not seen, no "
            "negatives sampled, mean over users. New items: those that train never showed, as "
            "which generated pictures count. Other user's scores: what anyone's taste gives."
        ),
        "rows": _auroc_rows(verifier),
    }
    null = next(row for row in rows if row["arm"] == "null")
    rate = {MEAN: null["win_rate"], LOW: null["win_rate_low"], HIGH: null["win_rate_high"]}
    worth = f"by a verifier with held-out AUROC {verifier.auroc.interval.mean:.3g}"
    headline.append(figure("preferred to null", rate, worth))


def _verifier(judge: Judge) -> Verifier:
    """Fit on all train likes, measured on the evaluated users' held-out ones."""
    factors, interactions = judge.pipeline.factors, judge.pipeline.interactions
    features, items = judge.features["catalogue"], judge.media.items
    users = np.unique(judge.sample_users(USER_ARM))
    test = load_interactions(
        judge.run.path("interactions"), factors.users, factors.items, part="test"
    )
    everyone = np.arange(interactions.num_users)
    return fit_verifier(
        liked(interactions, everyone, features=features, items=items),
        liked(test, users, features=features, items=items),
        known_items=judge.train,
        backbone=str(judge.protocol.backbone),
        seed=judge.seed,
        num_resamples=judge.run.config.evaluate.num_resamples,
    )


def _auroc_rows(verifier: Verifier) -> list[dict[str, Any]]:
    rows = []
    for name, found in (("all items", verifier.auroc), ("new items", verifier.auroc_new)):
        if found is not None:
            num = {"num_users": len(found.values), "num_undefined": found.num_undefined}
            for whose, interval in (("own", found.interval), ("other user's", found.shuffled)):
                ends = {MEAN: interval.mean, LOW: interval.low, HIGH: interval.high}
                rows.append({"among": name, "scores": whose, **ends, **num})
    return rows


def _per_user(judge: Judge, compared: list[Preference]) -> pl.DataFrame:
    """Return the lifts of each user."""
    users = judge.pipeline.factors.users
    return pl.concat(
        user_values(users[x.scores.user_idx], x.values, score=x.scores.name, arm=x.arm)
        for x in compared
    )


def _arms(judge: Judge) -> dict[str, Generated]:
    """Return the features of what was made under every arm, and for whom."""
    return {
        arm: Generated(
            features=judge.features["generated"][judge.arm(arm)], user_idx=judge.sample_users(arm)
        )
        for arm in ARMS
    }


def _settings(judge: Judge) -> dict[str, Any]:
    config = judge.run.config.evaluate
    return {
        "seed": judge.seed,
        "num_resamples": config.num_resamples,
        "num_permutations": config.num_permutations,
    }


def _history_in_time(judge: Judge, users: Rows) -> tuple[Taste, NDArray[np.int64] | None]:
    """Return the train likes of users and their times, None where there are none."""
    table = read_split(judge.run, "train")
    known: IdMap = judge.pipeline.factors.users
    user_idx = known.rows(table[USER_ID].to_list())
    wanted = np.isin(user_idx, users)
    item_idx = judge.media.items.rows(table[ITEM_ID].to_list())
    history = Taste(
        features=judge.features["catalogue"], user_idx=user_idx[wanted], item_idx=item_idx[wanted]
    )
    if TIMESTAMP not in table.columns:
        return history, None
    return history, table[TIMESTAMP].to_numpy()[wanted]
