"""The Vendi score: how many different things a set amounts to."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ulrec.evaluation.features import unit_rows

__all__ = ["vendi_score"]


def vendi_score(features: ArrayLike) -> float:
    """Return exp(-sum l log l) over the eigenvalues l of K / n, K the cosines of the rows.

    It is 1 where all rows point one way and n where all are orthogonal. It grows with n and is at
    most min(n, d): compare sets of equal size, and say what the real ones reach.

    Parameters
    ----------
    features
        (n, d).

    Raises
    ------
    DataError
        If they are no finite matrix, or a row is zero.

    Examples
    --------
    >>> round(vendi_score([[1, 0], [0, 3], [2, 0], [0, 1]]), 6)
    2.0
    """
    unit = unit_rows("features", features)
    num, dim = unit.shape
    # K = X X' and X' X have the same eigenvalues other than zero, which add nothing.
    gram = unit @ unit.T if num < dim else unit.T @ unit
    values = np.linalg.eigvalsh(gram) / num
    positive = values[values > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
