"""Results against results: the same users under both, intervals of the difference, a test.

Two means with overlapping intervals may differ beyond doubt, because what makes one user easy
makes them easy for both: only the paired difference can tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ulrec.data.schema import HIGH, LOW, MEAN, VALUE, K
from ulrec.errors import DataError
from ulrec.evaluation.protocol import require_comparable
from ulrec.evaluation.results import Result
from ulrec.evaluation.statistics import bootstrap_intervals, holm, paired_permutation_test

__all__ = ["DIFFERENCE", "Compared", "compare_results"]

RUN, BASELINE, DIFFERENCE = "run", "baseline", "difference"
OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One table of results, compared.

    Attributes
    ----------
    name, title
        Of the results.
    table
        One row a run and figure: [run, keys..., value, baseline, difference, difference_low,
        difference_high, p, p_holm, num_paired, only_run, only_baseline]. Where there are no values
        per user, the figures stand side by side without interval and test.
    notes
        How to read it, and what could not be compared.
    """

    name: str
    title: str
    table: pl.DataFrame
    notes: tuple[str, ...]


def compare_results(
    results: Mapping[str, Sequence[Result]],
    *,
    varying: Collection[str] = (),
    seed: int,
    num_resamples: int = 1000,
    num_permutations: int = 9999,
) -> list[Compared]:
    """Compare results with the first ones, figure by figure.

    Parameters
    ----------
    results
        By the name of what they are of; the first is the baseline.
    varying
        Fields of the protocol that the comparison is about. The configuration's hash always is.
    seed
        Of bootstrap and permutations.
    num_resamples
        Bootstrap resamples of the paired differences.
    num_permutations
        Random exchanges of the two values of a user; p is two-sided. Holm's correction is over the
        rows of a table.

    Returns
    -------
    list[Compared]
        In the order of the baseline's results; those that no other has are left out.

    Raises
    ------
    DataError
        If there are fewer than two, protocols differ in other fields (each is named with both
        values), values belong to figures of other kinds, or nothing can be compared.
    """
    if len(results) < 2:
        raise DataError(f"at least two results can be compared, got {list(results)}")
    (base_name, base), *others = results.items()
    settings = _Settings(seed=seed, resamples=num_resamples, permutations=num_permutations)
    compared = []
    for result in base:
        pairs = {name: twin for name, those in others for twin in those if twin.name == result.name}
        for name, twin in pairs.items():
            _require_alike(base_name, result, name, twin, varying)
        if pairs:
            compared.append(_compare(result, pairs, [name for name, _ in others], settings))
    if not compared:
        names = {name: [result.name for result in those] for name, those in results.items()}
        raise DataError(f"the results have no table in common: {names}")
    return compared


@dataclass(frozen=True, kw_only=True)
class _Settings:
    seed: int
    resamples: int
    permutations: int


def _require_alike(
    base_name: str, base: Result, name: str, other: Result, varying: Collection[str]
) -> None:
    try:
        require_comparable(base.protocol, other.protocol, varying={"config_hash", *varying})
    except DataError as error:
        raise DataError(f"{base.name} of {base_name} and of {name}: {error}") from error
    if base.per_user is None or other.per_user is None:
        return
    if (base.unit, set(base.keys)) != (other.unit, set(other.keys)):
        raise DataError(
            f"{base.name}: values of {base_name} are told apart by {[base.unit, *base.keys]}, of "
            f"{name} by {[other.unit, *other.keys]}; evaluate both with one version"
        )


def _compare(
    base: Result, others: Mapping[str, Result], names: Sequence[str], settings: _Settings
) -> Compared:
    notes = [f"{name} has no such table." for name in names if name not in others]
    tables = []
    for name, other in others.items():
        paired = base.per_user is not None and other.per_user is not None
        table = _paired(base, other, settings) if paired else _beside(base, other)
        if table.height:
            tables.append(table.select(pl.lit(name).alias(RUN), pl.all()))
        lost = _figures(base) - table.height
        if lost:
            notes.append(f"{lost} of {_figures(base)} figures are not among those of {name}.")
    table = pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()
    if "p" in table.columns:
        table = _with_holm(table)
        unit = base.unit.removesuffix("_id") + "s"
        notes.insert(
            0,
            f"Differences over the {unit} that both have ({VALUE} and {BASELINE} are their means), "
            "bootstrap intervals; two-sided paired permutation tests, Holm over this table.",
        )
    return Compared(name=base.name, title=base.title or base.name, table=table, notes=tuple(notes))


def _figures(result: Result) -> int:
    if result.per_user is None:
        return result.summary.height
    return result.per_user.select(result.keys).n_unique() if result.keys else 1


def _with_holm(table: pl.DataFrame) -> pl.DataFrame:
    tested = table["p"].is_not_null()
    adjusted = iter(holm(table.filter(tested)["p"].to_numpy()).tolist())
    values = [next(adjusted) if is_tested else None for is_tested in tested]
    at = table.columns.index("p") + 1
    return table.insert_column(at, pl.Series("p_holm", values, pl.Float64))


def _paired(base: Result, other: Result, settings: _Settings) -> pl.DataFrame:
    """Return a row for each figure that both have."""
    assert base.per_user is not None and other.per_user is not None
    keys, unit = base.keys, base.unit
    both = _values(base, BASELINE).join(
        _values(other, OTHER),
        on=[*keys, unit],
        how="full",
        coalesce=True,
        nulls_equal=True,
        maintain_order="left_right",
    )
    parts = both.partition_by(keys, maintain_order=True) if keys else [both]
    rows = [_difference(part, keys, settings) for part in parts]
    return pl.DataFrame([row for row in rows if row is not None], infer_schema_length=None)


def _values(result: Result, name: str) -> pl.DataFrame:
    assert result.per_user is not None
    return result.per_user.select(
        *result.keys,
        pl.col(result.unit).cast(pl.String),
        pl.col(VALUE).cast(pl.Float64).alias(name),
    )


def _difference(
    part: pl.DataFrame, keys: Sequence[str], settings: _Settings
) -> dict[str, Any] | None:
    """Return the row of one figure, None where no unit has both values."""
    paired = part.drop_nulls([BASELINE, OTHER])
    if paired.is_empty():
        return None
    ours, theirs = paired[OTHER].to_numpy(), paired[BASELINE].to_numpy()
    (interval,) = bootstrap_intervals(
        (ours - theirs)[:, None], seed=settings.seed, num_resamples=settings.resamples
    )
    p = paired_permutation_test(
        ours, theirs, seed=settings.seed, num_permutations=settings.permutations
    )
    return {
        **{key: part[key][0] for key in keys},
        VALUE: float(ours.mean()),
        BASELINE: float(theirs.mean()),
        DIFFERENCE: interval.mean,
        f"{DIFFERENCE}_{LOW}": interval.low,
        f"{DIFFERENCE}_{HIGH}": interval.high,
        "p": p,
        "num_paired": len(ours),
        "only_run": part[BASELINE].null_count(),
        "only_baseline": part[OTHER].null_count(),
    }


def _beside(base: Result, other: Result) -> pl.DataFrame:
    """Return the figures that both summaries have, without a test: "mean", or the first column."""
    ours, theirs = other.summary, base.summary
    figures = [
        name
        for name, dtype in theirs.schema.items()
        if dtype.is_float() and name not in (LOW, HIGH) and name in ours.columns
    ]
    if not figures:
        return pl.DataFrame()
    figure = MEAN if MEAN in figures else figures[0]
    keys = [
        name
        for name, dtype in theirs.schema.items()
        if (dtype == pl.String or name == K) and name in ours.columns
    ]
    if not keys:
        return pl.DataFrame()
    joined = ours.join(theirs, on=keys, how="inner", suffix=f"_{BASELINE}", nulls_equal=True)
    return joined.select(
        *keys,
        pl.lit(figure).alias("figure"),
        pl.col(figure).alias(VALUE),
        pl.col(f"{figure}_{BASELINE}").alias(BASELINE),
        (pl.col(figure) - pl.col(f"{figure}_{BASELINE}")).alias(DIFFERENCE),
    )
