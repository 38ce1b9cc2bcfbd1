"""How much guidance a history of some length bears: little is known of who has liked little.

The lengths and guidances below come from measurements on validation users
(examples/benchmarks/guidance.py); a run keeps them in its artefact ``guidance``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ulrec.checkpoint import MANIFEST, new_artefact, open_artefact
from ulrec.errors import ArtefactError, DataError
from ulrec.pipeline.parts import require_made_from

__all__ = ["GUIDANCE", "CalibratedGuidance", "fit_guidance", "load_guidance"]

GUIDANCE = "guidance"
FILE = "guidance.json"

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CalibratedGuidance:
    """Guidance as a function of history length: call it.

    Attributes
    ----------
    lengths
        Numbers of liked items, rising from above 0.
    scales
        The guidance at each, never falling.

    Examples
    --------
    >>> CalibratedGuidance(lengths=(3, 15), scales=(2.0, 8.0))([0, 3, 7, 15, 99]).tolist()
    [0.0, 2.0, 5.0, 8.0, 8.0]
    """

    lengths: tuple[int, ...]
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        steps, rises = np.diff([0, *self.lengths]), np.diff([0.0, *self.scales])
        if not (len(steps) == len(rises) > 0 and (steps > 0).all() and (rises >= 0).all()):
            raise DataError(
                "calibrated guidance needs rising lengths above 0 and a scale of at least 0 for "
                f"each that never falls, got {self.lengths} and {self.scales}"
            )

    def __call__(self, lengths: ArrayLike) -> FloatArray:
        """Return the guidance (N,) for histories of so many items, linear in log(1 + length).

        None without a history, and beyond the longest measured one no more than there.
        """
        known = np.log1p([0, *self.lengths])
        return np.interp(np.log1p(np.asarray(lengths, np.float64)), known, [0.0, *self.scales])

    def save(self, folder: str | Path, *, made_from: Mapping[str, str]) -> None:
        """Write the artefact; ``made_from`` names the base and the conditioner it was fitted to."""
        with new_artefact(folder, kind=GUIDANCE, made_from=made_from) as temporary:
            (temporary / FILE).write_text(json.dumps(asdict(self), indent=1))


def load_guidance(run: Path) -> CalibratedGuidance:
    """Read what was fitted to the models of a run.

    Raises
    ------
    ArtefactError
        If there is nothing, or it was fitted to other models.
    """
    folder = run / GUIDANCE
    if not (folder / MANIFEST).is_file():
        raise ArtefactError(
            f"{run} has no calibrated guidance; fit it with `python "
            f"examples/benchmarks/guidance.py --run {run}`, or give a number"
        )
    manifest = open_artefact(folder, kind=GUIDANCE)
    for name in ("base", "conditioner"):
        own = open_artefact(run / name, kind=name, verify=False).fingerprint
        require_made_from(manifest.made_from, name, own, of=GUIDANCE)
    content = json.loads((folder / FILE).read_text())
    return CalibratedGuidance(**{name: tuple(values) for name, values in content.items()})


def fit_guidance(
    lengths: Sequence[int],
    guidances: Sequence[float],
    gain: ArrayLike,
    distance: ArrayLike,
    *,
    most: float,
) -> CalibratedGuidance:
    """Return the never falling choice of the largest mean gain within a mean distance.

    Parameters
    ----------
    lengths
        L history lengths, rising, each of which counts alike.
    guidances
        G candidates, rising.
    gain, distance
        What a guidance brings at a length, and what it costs: personalization and KID, (L, G).
    most
        The mean distance that the choice may have, such as that of one guidance for all.

    Raises
    ------
    DataError
        If shapes differ, a number is not finite, or no choice is within ``most``.

    Examples
    --------
    >>> gain, distance = [[1.0, 1.5], [1.0, 3.0]], [[0.1, 0.4], [0.1, 0.2]]
    >>> fit_guidance([2, 20], [2.0, 8.0], gain, distance, most=0.2).scales
    (2.0, 8.0)
    """
    shape = (len(lengths), len(guidances))
    values = np.stack([np.asarray(gain, np.float64), np.asarray(distance, np.float64)])
    if values.shape[1:] != shape or not np.isfinite(values).all():
        raise DataError(f"gain and distance have to be finite, {shape}, got {values.shape[1:]}")
    rows, best = np.arange(len(lengths)), None
    for columns in combinations_with_replacement(range(len(guidances)), len(lengths)):
        brings, costs = values[:, rows, list(columns)].mean(axis=1)
        if costs <= most and (best is None or brings > best[0]):
            best = (brings, columns)
    if best is None:
        raise DataError(f"no choice of guidance has a mean distance within {most:g}; allow more")
    scales = tuple(float(guidances[column]) for column in best[1])
    return CalibratedGuidance(lengths=tuple(int(n) for n in lengths), scales=scales)
