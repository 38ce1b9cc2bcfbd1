"""Coverage, Gini and entropy by hand."""

import numpy as np
import pytest
from scipy import stats

from ulrec.errors import DataError
from ulrec.evaluation.exposure import catalogue_coverage, exposure, exposure_entropy, gini

COUNTS = exposure(np.array([0, 1, 1]), num_items=4)


def test_coverage_and_gini() -> None:
    assert COUNTS.tolist() == [1, 2, 0, 0]
    assert catalogue_coverage(COUNTS) == 0.5
    # Mean absolute difference over all ordered pairs, over twice the mean.
    pairs = np.abs(COUNTS[:, None] - COUNTS[None]).mean() / (2 * COUNTS.mean())
    assert gini(COUNTS) == pytest.approx(pairs, abs=1e-12)
    assert gini(np.ones(5)) == pytest.approx(0)


def test_entropy() -> None:
    # Shares 1/2, 1/4, 1/4: 1/2 + 2/4 + 2/4 bits; an item without exposure adds nothing.
    assert exposure_entropy([2, 1, 0, 1]) == pytest.approx(3 / 2, abs=1e-12)
    drawn = np.random.default_rng(0).integers(0, 9, 50)
    assert exposure_entropy(drawn) == pytest.approx(stats.entropy(drawn, base=2), abs=1e-12)


@pytest.mark.parametrize("function", [catalogue_coverage, gini, exposure_entropy])
@pytest.mark.parametrize("counts", [np.zeros(3), [-1, 2], [[1, 2]]])
def test_no_exposure_is_refused(function, counts) -> None:
    with pytest.raises(DataError, match="not all zero"):
        function(counts)
