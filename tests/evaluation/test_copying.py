"""Copy rate: exact copies are found, real held-out items are not, and tau is held to account."""

import numpy as np
import pytest

from ulrec.errors import DataError
from ulrec.evaluation import copying
from ulrec.evaluation.copying import copy_rate, neighbour_ratios


def _directions(degrees: list[float]) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_ratios_by_hand() -> None:
    # Chords of the unit circle: 2 sin(angle / 2). From 0 degrees the items lie at 60, 90 and 180.
    catalogue = _directions([60, 90, 180])
    ratio = neighbour_ratios(_directions([0]), catalogue=catalogue, num_neighbours=2)
    assert ratio[0] == pytest.approx(1 / ((1 + np.sqrt(2)) / 2))
    capped = neighbour_ratios(5 * _directions([0]), catalogue=catalogue, num_neighbours=50)
    assert capped[0] == pytest.approx(1 / ((1 + np.sqrt(2) + 2) / 3))


def test_ratio_of_a_copy_is_zero_even_among_copies() -> None:
    catalogue = _directions([10, 10, 10, 10])
    assert neighbour_ratios(_directions([10]), catalogue=catalogue).tolist() == [0.0]
    assert neighbour_ratios(_directions([70]), catalogue=catalogue)[0] == pytest.approx(1)


def test_ratios_do_not_depend_on_chunks(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    queries, catalogue = rng.normal(size=(7, 5)), rng.normal(size=(30, 5))
    whole = neighbour_ratios(queries, catalogue=catalogue, num_neighbours=4)
    monkeypatch.setattr(copying, "CHUNK", 2)
    parts = neighbour_ratios(queries, catalogue=catalogue, num_neighbours=4)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_rate_counts_copies_only() -> None:
    rng = np.random.default_rng(0)
    catalogue, heldout, fresh = (rng.normal(size=(n, 16)) for n in (300, 200, 90))
    copies = catalogue[:10] + 0.001 * rng.normal(size=(10, 16))
    result = copy_rate(
        np.concatenate([fresh, copies]), catalogue=catalogue, heldout=heldout, quantile=0.01
    )
    assert result.rate.mean == pytest.approx(0.1, abs=0.021)
    assert result.rate.low < 0.1 < result.rate.high
    assert np.all(result.ratios[90:] < result.tau)
    assert (result.num_generated, result.num_heldout, result.num_neighbours) == (100, 200, 50)
    assert result.warning is None
    # Real items themselves stay within the share that defines tau.
    real = copy_rate(heldout, catalogue=catalogue, heldout=heldout, quantile=0.01)
    assert real.rate.mean <= 0.01


def test_what_tau_cannot_say_is_said() -> None:
    rng = np.random.default_rng(0)
    catalogue, heldout = rng.normal(size=(60, 8)), rng.normal(size=(20, 8))
    few = copy_rate(heldout, catalogue=catalogue, heldout=heldout)
    assert "cannot resolve" in str(few.warning)
    assert few.tau == neighbour_ratios(heldout, catalogue=catalogue).min()
    leaked = copy_rate(heldout, catalogue=catalogue, heldout=catalogue[:20], quantile=0.1)
    assert "mend the split" in str(leaked.warning)


def test_bad_input() -> None:
    ok = np.eye(4)
    with pytest.raises(DataError, match="quantile"):
        copy_rate(ok, catalogue=ok, heldout=ok, quantile=0)
    with pytest.raises(DataError, match="needs 2 items"):
        copy_rate(ok, catalogue=ok[:1], heldout=ok)
    with pytest.raises(DataError, match="one dimension"):
        copy_rate(ok[:, :3] + 1, catalogue=ok, heldout=ok)
