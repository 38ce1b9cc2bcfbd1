"""Judge whether generated pictures are for their user: lifts, and the truth of simulated users."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ulrec.data.ids import IdMap, Ids
from ulrec.data.interactions import Interactions
from ulrec.data.schema import ARM, HIGH, ITEM_ID, LOW, MEAN
from ulrec.data.simulate import SimulatedWorld
from ulrec.evaluation.personalization import (
    Generated,
    Lift,
    Taste,
    control_lift,
    heldout_lift,
    history_lift,
    lift_table,
    shuffled_lift,
)
from ulrec.evaluation.preference import count_wins
from ulrec.evaluation.scores import UserScores
from ulrec.evaluation.utility import utility_comparison
from ulrec.experiment.generate import ARMS, USER_ARM
from ulrec.experiment.judge import Headline, Judge, Rows, Tables, figure, user_values
from ulrec.pipeline import Pipeline, load_interactions

__all__ = ["judge_lifts", "judge_utility", "liked", "nearest_utility", "true_utility"]

CONTROLS = tuple(arm for arm in ARMS if arm != USER_ARM)


def judge_lifts(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Lifts: whether a picture made for a user is more like what that user liked."""
    arms = {
        arm: Generated(
            features=judge.features["generated"][judge.arm(arm)], user_idx=judge.sample_users(arm)
        )
        for arm in ARMS
    }
    own = arms[USER_ARM]
    users = np.unique(own.user_idx if own.user_idx is not None else [])
    settings = {
        "seed": judge.seed,
        "num_resamples": judge.run.config.evaluate.num_resamples,
        "num_permutations": judge.run.config.evaluate.num_permutations,
    }
    factors, features = judge.pipeline.factors, judge.features["catalogue"]
    test = load_interactions(
        judge.run.path("interactions"), factors.users, factors.items, part="test"
    )
    items = judge.media.items
    later = liked(test, users, features=features, items=items)
    before = liked(judge.pipeline.interactions, users, features=features, items=items)
    lifts: list[Lift] = [
        heldout_lift(own, later, **settings),
        *(control_lift(own, arms[arm], later, arm=arm, **settings) for arm in CONTROLS),
        dataclasses.replace(shuffled_lift(own, later, **settings), arm="all shuffles"),
        history_lift(own, before, **settings),
    ]
    tables["lifts"] = {
        "title": "Personalization: lifts of similarity to what the user liked",
        "note": (
            "Cosine of efflite0 features. heldout_lift compares with what the user liked later, "
            "against what others liked later; control_lift compares with pictures made for others "
            "(one shuffle of the users' conditions, and the mean over all shuffles of pictures); "
            "history_lift rewards copying and stands beside the copy rate. p by permutation, Holm "
            "over this table."
        ),
        "rows": lift_table(lifts, protocol=judge.protocol).to_dicts(),
        "per_user": pl.concat(
            user_values(factors.users[x.user_idx], x.values, metric=x.metric, arm=x.arm)
            for x in lifts
        ),
    }
    note = "cosine of efflite0 features, over what other users liked"
    headline.append(figure("held-out lift", tables["lifts"]["rows"][0], note))


def judge_utility(judge: Judge, tables: Tables, headline: Headline) -> None:
    """Judge simulated users by the true utility of the nearest unseen item to each picture."""
    world = judge.world
    if world is None:
        return
    pipeline = judge.pipeline
    users = np.unique(judge.sample_users(USER_ARM))
    ids = pipeline.factors.users[users]
    truth = true_utility(world, ids, judge.media.items)
    seen = np.asarray(pipeline.interactions.user_items[users].todense()) > 0
    utilities: dict[str, NDArray[Any]] = {
        arm: nearest_utility(
            pipeline, judge.latents[judge.arm(arm)], judge.sample_users(arm), truth=truth
        )
        for arm in ARMS
    }
    top = pipeline.recommend(ids, k=1, by="cf", seed=judge.seed)
    chosen = judge.media.items.rows(top[ITEM_ID].to_list())
    unseen = np.where(seen, np.nan, truth)
    utilities["CF's own top item"] = truth[np.arange(len(users)), chosen]
    utilities["random unseen item"] = np.nanmean(unseen, axis=1)
    utilities["oracle"] = np.nanmax(unseen, axis=1)
    table = utility_comparison(
        utilities,
        reference=USER_ARM,
        controls=list(CONTROLS),
        seed=judge.seed,
        num_resamples=judge.run.config.evaluate.num_resamples,
        num_permutations=judge.run.config.evaluate.num_permutations,
        alternative="greater",
    )
    scores = UserScores(
        name="true_utility", user_idx=users, arms=utilities, protocol=judge.protocol
    )
    rows = table.join(_win_rates(scores), on=ARM, how="left", maintain_order="left").to_dicts()
    tables["utility"] = {
        "title": "Simulated users: true utility of the nearest unseen item to each picture",
        "note": (
            "Utility in standard deviations above the catalogue's mean, for users drawn by "
            "ulrec.data.simulate. Controls share seeds and guidance with the user's pictures. "
            "One-sided paired permutation tests, Holm over the four controls. gap_closed is the "
            "share of the way from null to oracle; win rate that of users whose own pictures have "
            "the higher utility, ties half, with Wilson's interval and the sign test's p."
        ),
        "rows": rows,
        "per_user": pl.concat(
            user_values(ids, values, arm=arm) for arm, values in utilities.items()
        ),
    }
    own = next(row for row in rows if row[ARM] == USER_ARM)
    gap = {MEAN: own["gap_closed"], LOW: own["gap_low"], HIGH: own["gap_high"]}
    headline.append(figure("gap closed", gap, "null to oracle, simulated users"))


def _win_rates(scores: UserScores) -> pl.DataFrame:
    """Return a row a control: for how many users own pictures win."""
    rows = []
    for arm in CONTROLS:
        wins = count_wins(scores.arms[USER_ARM], scores.arms[arm])
        ends = {"win_rate_low": wins.rate.low, "win_rate_high": wins.rate.high}
        rows.append({ARM: arm, "win_rate": wins.rate.mean, **ends, "p_sign": wins.p_value})
    return pl.DataFrame(rows)


def true_utility(world: SimulatedWorld, user_ids: Ids, items: IdMap) -> NDArray[np.float32]:
    """Return the true utility of every item to simulated users (U, I)."""
    return world.utility(world.user_ids.rows(user_ids)[:, None], world.item_ids.rows(items.ids))


def nearest_utility(
    pipeline: Pipeline, latents: NDArray[np.float32], user_idx: Rows, *, truth: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return per user the mean utility of the nearest unseen items to their pictures (U,).

    Parameters
    ----------
    pipeline
        Whose items are searched.
    latents
        Of the pictures, (N, D, f, h, w).
    user_idx
        The user row of each picture, (N,).
    truth
        Utility of every item (U, I), a row for each of the U users of ``user_idx`` in their order.
    """
    users, place = np.unique(user_idx, return_inverse=True)
    seen = [pipeline.factors.items[pipeline.interactions.history(row)] for row in user_idx]
    near = pipeline.neighbours(latents, k=1, exclude=seen)
    item_rows = pipeline.latents.items.rows(near[ITEM_ID].to_list())
    total = np.bincount(place, weights=truth[place, item_rows], minlength=len(users))
    return total / np.bincount(place, minlength=len(users))


def liked(
    interactions: Interactions, users: Rows, *, features: NDArray[np.float32], items: IdMap
) -> Taste:
    """Return what users (rows) liked, with the features of the items in their map's order."""
    user_idx, item_idx = interactions.pairs()
    wanted = np.isin(user_idx, users)
    item_rows = items.rows(interactions.items[item_idx[wanted]])
    return Taste(features=features, user_idx=user_idx[wanted], item_idx=item_rows)
