"""How a number came about: it travels with the number, and unlike numbers refuse to meet."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ulrec.errors import DataError

__all__ = [
    "METRIC_VERSION",
    "Protocol",
    "difference",
    "require_comparable",
    "require_not_selected_by",
]

# Raised whenever a definition in ulrec.evaluation changes what it returns.
METRIC_VERSION = "1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What a result has to say about itself; plain types, so that ``asdict`` goes into JSON.

    Attributes
    ----------
    data_fingerprint, config_hash, code_version
        Identify what was evaluated and by which code.
    seed
        Of everything random in the result.
    n
        The number of samples (or users) behind it.
    backbone, weight_hash, resize, dtype
        The features, their weights, the resize filter before them, the number type; None where no
        features are involved.
    sampler, steps, guidance
        How samples were drawn; None where none were.
    can_fold_in
        Whether users' factors follow from their histories. If not, the condition of a training pair
        has seen that pair: it leaks, and figures on seen items are optimistic. None without users.
    num_candidates, selected_by
        N of best-of-N and the score that picked; 1 and None where nothing was picked.
    metric_version
        Version of the definitions.
    """

    data_fingerprint: str
    config_hash: str
    code_version: str
    seed: int
    n: int
    backbone: str | None = None
    weight_hash: str | None = None
    resize: str | None = None
    dtype: str | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    can_fold_in: bool | None = None
    num_candidates: int = 1
    selected_by: str | None = None
    metric_version: str = METRIC_VERSION

    def __post_init__(self) -> None:
        if (self.num_candidates == 1) != (self.selected_by is None) or self.num_candidates < 1:
            raise DataError(
                f"best of {self.num_candidates} selected by {self.selected_by!r}: name the score "
                "that picked, and the number that it picked from, or neither"
            )


def difference(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two protocols differ, with both values."""
    pairs = {
        field.name: (getattr(a, field.name), getattr(b, field.name))
        for field in dataclasses.fields(Protocol)
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def require_comparable(a: Protocol, b: Protocol, *, varying: Collection[str] = ()) -> None:
    """Refuse to compare results of different protocols.

    Parameters
    ----------
    a, b
        The protocols of two results.
    varying
        Fields that are the subject of the comparison and may differ, such as "guidance".

    Raises
    ------
    DataError
        If another field differs (each is named with both values), or a name is no field.
    """
    unknown = set(varying) - {field.name for field in dataclasses.fields(Protocol)}
    if unknown:
        raise DataError(f"a protocol has no fields {sorted(unknown)}")
    found = {name: pair for name, pair in difference(a, b).items() if name not in varying}
    if found:
        listed = "; ".join(f"{name}: {x!r} against {y!r}" for name, (x, y) in found.items())
        raise DataError(
            f"results of different protocols cannot be compared ({listed}); evaluate both alike, "
            "or name in `varying` what the comparison is about"
        )


def require_not_selected_by(protocol: Protocol, metric: str) -> None:
    """Refuse to report the score that picked among candidates.

    Raises
    ------
    DataError
        If ``metric`` is the score that selected.
    """
    if protocol.selected_by == metric:
        raise DataError(
            f"{metric} picked the best of {protocol.num_candidates} and cannot be reported for "
            "them; report another score, or select by another"
        )
