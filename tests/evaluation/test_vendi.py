"""The Vendi score: counts what is different, in closed form and in both of its Gram matrices."""

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation.vendi import vendi_score


def test_counts_different_things() -> None:
    assert vendi_score(np.ones((5, 3))) == pytest.approx(1)
    assert vendi_score(7 * np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    # Shares 3/4 and 1/4: exp of the entropy, 4 / 3^(3/4).
    assert vendi_score([[1, 0], [1, 0], [2, 0], [0, 1]]) == pytest.approx(4 / 3**0.75)


def test_two_rows_in_closed_form() -> None:
    """K / 2 has the eigenvalues (1 + c) / 2 and (1 - c) / 2."""
    p = np.array([0.8, 0.2])
    expected = np.exp(-(p * np.log(p)).sum())
    assert vendi_score([[1.0, 0.0], [0.6, 0.8]]) == pytest.approx(expected)


@pytest.mark.parametrize(("num", "dim"), [(5, 9), (9, 5), (40, 40)])
def test_both_matrices_give_the_definition(num, dim) -> None:
    x = np.random.default_rng(0).normal(1, 1, (num, dim))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.svd(unit @ unit.T / num, compute_uv=False)
    values = values[values > 1e-12]
    assert vendi_score(x) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-9)
    assert 1 <= vendi_score(x) <= min(num, dim)


def test_bad_input() -> None:
    with pytest.raises(DataError, match="are zero"):
        vendi_score([[0.0, 0.0], [1.0, 0.0]])
    with pytest.raises(DataError, match="NaN"):
        vendi_score([[np.nan, 1.0]])
    with pytest.raises(DataError, match="at least 1"):
        vendi_score(np.ones((0, 3)))
