"""Source bias: ranks by hand, no bias where there is none, and nothing dropped silently."""

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.source_bias import source_bias

IS_GENERATED = np.array([False, True, False, True])


def test_by_hand() -> None:
    scores = np.array([[4.0, 3, 2, 1], [1, 2, 3, 4], [5, 5, 1, 0], [3, 1, 2, 0]])
    relevance = np.array([[1, 1, 0, 0], [1, 1, 2, 2], [1, 1, 0, 0], [1, 0, 1, 0]])
    result = source_bias(scores, is_generated=IS_GENERATED, relevance=relevance, seed=0)
    # 1: ranks 1 (real) and 2. 2: grade 1 real 4, made 3; grade 2 real 2, made 1. 3: both 1.5.
    np.testing.assert_allclose(result.rank_differences, [-1, 1, 0, np.nan])
    np.testing.assert_allclose(result.score_differences, [-1, 1, 0, np.nan])
    assert result.delta_rank.mean == pytest.approx(0)
    assert (result.num_queries, result.num_unmatched, result.num_items) == (4, 1, 4)
    assert result.delta_rank.low <= 0 <= result.delta_rank.high


def test_a_scorer_that_prefers_generated_items_is_found_and_a_fair_one_is_not() -> None:
    rng = np.random.default_rng(0)
    is_generated = np.arange(40) % 2 == 1
    relevance = np.repeat(rng.integers(0, 2, (200, 20)), 2, axis=1)
    fair = relevance + rng.normal(size=relevance.shape)
    none = source_bias(fair, is_generated=is_generated, relevance=relevance, seed=0)
    assert none.delta_rank.low < 0 < none.delta_rank.high
    biased = source_bias(
        fair + 0.5 * is_generated, is_generated=is_generated, relevance=relevance, seed=0
    )
    assert biased.delta_rank.low > 0
    assert biased.delta_score.mean == pytest.approx(none.delta_score.mean + 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones((2, 3))}, r"expected scores \(Q, N\)"),
        ({"scores": np.full((2, 4), np.inf)}, "finite"),
        ({"is_generated": np.array([0, 1, 0, 1])}, "boolean"),
        ({"relevance": np.full((2, 4), -1)}, "whole numbers from 0"),
        ({"relevance": np.ones((2, 4))}, "whole numbers from 0"),
        ({"is_generated": np.ones(4, bool)}, "4 of 4 items are generated"),
        ({"relevance": np.array([[1, 0, 1, 0], [0, 2, 0, 1]])}, "none of 2 queries"),
    ],
)
def test_bad_input(change, message) -> None:
    ok = {
        "scores": np.ones((2, 4)),
        "is_generated": IS_GENERATED,
        "relevance": np.ones((2, 4), int),
    }
    with pytest.raises(DataError, match=message):
        source_bias(**(ok | change), seed=0)
