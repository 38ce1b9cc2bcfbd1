"""The rules learnt from bugs in published evaluation code (EVALUATION.md), one test each.

Rules about things that ulrec does not compute (counterfactual estimates) are held by their absence:
there is no function that could break them.
"""

import ast
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ulrec.evaluation
from ulrec.errors import DataError
from ulrec.evaluation.fidelity import frechet_distance, frechet_name, psnr
from ulrec.evaluation.personalization import Generated, Taste, heldout_lift
from ulrec.evaluation.protocol import Protocol, require_comparable, require_not_selected_by
from ulrec.evaluation.ranking import evaluate_ranking
from ulrec.evaluation.statistics import permutation_p_value
from ulrec.evaluation.verifier import VerifierScores, fit_verifier

PROTOCOL = Protocol(data_fingerprint="d", config_hash="c", code_version="1", seed=0, n=10)


def _ranked(scores: np.ndarray, candidates: list[list[int]]) -> pl.DataFrame:
    rows = [
        (u, i, scores[u, i], r)
        for u, items in enumerate(candidates)
        for r, i in enumerate(sorted(items, key=lambda i, u=u: -scores[u, i]), start=1)
    ]
    return pl.DataFrame(rows, ["user_id", "item_id", "score", "rank"], orient="row")


def test_no_user_is_dropped_silently() -> None:
    """A user without recommendations lowers the mean and is counted."""
    recommendations = pl.DataFrame({"user_id": [1], "item_id": [5], "score": [1.0], "rank": [1]})
    truth = pl.DataFrame({"user_id": [1, 2, 3, 4], "item_id": [5, 5, 5, 5]})
    result = evaluate_ranking(recommendations, truth, ks=(1,), metrics=("recall",), seed=0)
    assert result.summary["mean"].item() == 0.25
    assert (result.num_users, result.num_missing) == (4, 3)


def test_four_sampled_negatives_are_visible() -> None:
    """1 + 4 candidates flatter a random model; lists shorter than k give the practice away."""
    rng = np.random.default_rng(0)
    num_users, num_items = 50, 40
    scores, target = rng.random((num_users, num_items)), rng.integers(num_items, size=num_users)
    truth = pl.DataFrame({"user_id": np.arange(num_users), "item_id": target})
    sampled = [
        [int(t), *rng.choice(np.delete(np.arange(num_items), t), 4, replace=False).tolist()]
        for t in target
    ]
    flattered = evaluate_ranking(_ranked(scores, sampled), truth, ks=(10,), seed=0)
    full = evaluate_ranking(
        _ranked(scores, [list(range(num_items))] * num_users), truth, ks=(10,), seed=0
    )
    hit_rate = pl.col("metric") == "hit_rate"
    assert flattered.summary.filter(hit_rate)["mean"].item() == 1.0
    assert full.summary.filter(hit_rate)["mean"].item() < 0.5
    assert flattered.num_short == num_users
    assert full.num_short == 0
    assert not {"candidates", "negatives"} & set(inspect.signature(evaluate_ranking).parameters)


def test_the_score_that_picks_is_not_reported() -> None:
    picked = Protocol(
        data_fingerprint="d",
        config_hash="c",
        code_version="1",
        seed=0,
        n=10,
        num_candidates=16,
        selected_by="heldout_lift",
    )
    with pytest.raises(DataError, match="best of 16"):
        require_not_selected_by(picked, "heldout_lift")
    with pytest.raises(DataError, match="num_candidates: 1 against 16"):
        require_comparable(PROTOCOL, picked)


def test_a_verifier_has_not_seen_what_it_is_judged_on_and_says_what_it_is_worth() -> None:
    rng = np.random.default_rng(0)
    pairs = {"user_idx": np.repeat(np.arange(6), 4), "item_idx": np.arange(24)}
    train = Taste(features=rng.normal(size=(40, 8)), **pairs)
    settings = {"known_items": np.arange(30), "backbone": "efflite0", "seed": 0}
    with pytest.raises(DataError, match="in train too"):
        fit_verifier(train, train, **settings)
    later = Taste(features=train.features, user_idx=np.arange(6), item_idx=np.arange(30, 36))
    verifier = fit_verifier(train, later, **settings)
    assert np.isfinite(verifier.auroc.interval.mean)
    fields = {field.name: field.default for field in dataclasses.fields(VerifierScores)}
    assert fields["auroc"] is dataclasses.MISSING and fields["protocol"] is dataclasses.MISSING


def test_a_permutation_p_value_is_never_zero() -> None:
    assert permutation_p_value(1e9, np.zeros(999)) == 1 / 1000
    assert permutation_p_value(0.0, np.zeros(999)) == 1.0


@pytest.mark.parametrize(("data_range", "scale"), [(255, 255.0), (2, 2.0)])
def test_data_range_must_match_the_tensor(data_range, scale) -> None:
    """Floats in [0, 1] with the range of another encoding gain 6 or 48 dB."""
    x = np.linspace(0, 1, 48).reshape(1, 3, 4, 4)
    with pytest.raises(DataError, match=r"look like \[0, 1\]"):
        psnr(x, x[:, ::-1], data_range=data_range)
    for wrong in (1, 2):
        with pytest.raises(DataError, match="255 for uint8"):
            psnr(x.astype(np.uint8), x.astype(np.uint8), data_range=wrong)
    with pytest.raises(DataError, match="stands for values in"):
        psnr(x * 4 - 2, x, data_range=data_range)
    with pytest.raises(DataError, match="one shape and type"):
        psnr(x, (x * scale).astype(np.uint8), data_range=data_range)


def test_uint8_differences_do_not_wrap() -> None:
    x, y = np.full((1, 1, 1, 1), 0, np.uint8), np.full((1, 1, 1, 1), 255, np.uint8)
    assert psnr(x, y, data_range=255).tolist() == psnr(y, x, data_range=255).tolist() == [0.0]


def test_frechet_never_takes_the_real_part_of_sqrtm() -> None:
    folder = Path(ulrec.evaluation.__file__).parent
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.alias)
    }
    assert not {name for name in names if "sqrtm" in name}


def test_frechet_below_full_rank_is_finite_exact_and_warned_of() -> None:
    """Two points on a line in 50 dimensions: (s - t)^2 by hand, where covariances are singular."""
    axis = np.eye(50)[0]
    a, b = np.stack([axis, -axis]), np.stack([3 * axis, -3 * axis])
    result = frechet_distance(a, b)
    assert result.distance == pytest.approx((3 - 1) ** 2 * 2)
    assert "KID" in str(result.warning)


def test_only_inception_may_be_called_fid() -> None:
    assert frechet_name("clip") == "FD-clip"
    assert [n for n in ("efflite0", "clip", "dinov2") if frechet_name(n).startswith("FID")] == []


def test_looking_like_any_poster_earns_no_lift() -> None:
    """The mean picture has a high raw similarity with everyone; its lift is nothing."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(100, 16)) + 2
    taste = Taste(
        features=items, user_idx=np.repeat(np.arange(20), 5), item_idx=rng.permutation(100)
    )
    mean_picture = np.tile(items.mean(0), (20, 1)) + 0.01 * rng.normal(size=(20, 16))
    result = heldout_lift(Generated(features=mean_picture, user_idx=np.arange(20)), taste, seed=0)
    assert result.own > 0.8
    assert abs(result.interval.mean) < 0.005
    assert result.p_value > 0.05


def test_every_result_says_how_it_came_about() -> None:
    needed = {
        "metric_version",
        "backbone",
        "weight_hash",
        "n",
        "resize",
        "dtype",
        "seed",
        "sampler",
        "steps",
        "guidance",
        "config_hash",
        "data_fingerprint",
        "code_version",
    }
    assert needed <= set(Protocol.__dataclass_fields__)
