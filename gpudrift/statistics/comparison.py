"""Two profiles of one schema in, every statistic out; nothing is judged here.

Statistics are computed here and now, many numeric columns at once; summaries and distributions of a column, which only
people look at, are computed when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gpudrift.columns.names import column_name
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.profiles import ColumnProfile, Profile, first_difference
from gpudrift.errors import SchemaMismatchError
from gpudrift.statistics.categorical import categorical_statistics
from gpudrift.statistics.codes import code_note
from gpudrift.statistics.distributions import Distribution, distribution
from gpudrift.statistics.frames import fences_hold_the_largest, has_subnormals, zero_bin
from gpudrift.statistics.numeric import numeric_statistics
from gpudrift.statistics.pool import Pool
from gpudrift.statistics.statistic import Pair, Statistic, missing_statistic
from gpudrift.statistics.summaries import summary

__all__ = ["ColumnComparison", "Comparison", "SchemaChange", "compare_columns", "compare_profiles", "schema_changes"]

BATCH = 64
"""Columns handled at once: arrays of about 1 MB, which stay in the second-level cache."""


@dataclass(frozen=True)
class SchemaChange:
    """How a column differs between two tables, whatever is in it.

    Parameters
    ----------
    column : str
    change : {"added", "dropped", "type changed", "unit changed"}
    reference, current : str or None
        Its types on both sides; None where it is missing.
    """

    column: str
    change: str
    reference: str | None
    current: str | None

    @property
    def finding(self) -> str:
        """The change by its former name."""
        return self.change


@dataclass(frozen=True, eq=False)
class ColumnComparison:
    """One column of two tables side by side.

    Parameters
    ----------
    column : Column
    reference, current : ColumnProfile
    statistics : mapping of name to Statistic
        Empty where the column could not be compared.
    obstacle : str or None
        Why the column cannot be judged at all: its schema changed, or why it was skipped.
    notes : tuple of str
        What a reader of the numbers should know.
    unknown : (share, words) or None
        Share of the rows of a side that are counted together though their values may differ, and why.
    pool : Pool or None
        Of a numeric column, both sides together in a few pieces: what noise floors are made of.
    """

    column: Column
    reference: ColumnProfile
    current: ColumnProfile
    statistics: Mapping[str, Statistic]
    obstacle: str | None = None
    notes: tuple[str, ...] = ()
    unknown: tuple[float, str] | None = None
    pool: Pool | None = None

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def kind(self) -> str:
        return self.column.kind

    def __getattr__(self, name: str) -> Statistic:
        try:
            found: Statistic = self.__dict__["statistics"][name]
            return found
        except KeyError:
            raise AttributeError(f"this column has no statistic {name!r}") from None

    @cached_property
    def summaries(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Summary of the reference and of the current side; see :func:`gpudrift.statistics.summaries.summary`."""
        return summary(self.reference), summary(self.current)

    @cached_property
    def distribution(self) -> Distribution | None:
        """Both distributions in at most 64 bins, for pictures."""
        if self.reference.skipped is not None or self.current.skipped is not None:
            return None
        return distribution(self.reference, self.current)


@dataclass(frozen=True, eq=False)
class Comparison:
    """All columns of two profiles side by side, in the order of the reference.

    Parameters
    ----------
    reference, current : Profile
    columns : tuple of ColumnComparison
    schema_changes : tuple of SchemaChange
    """

    reference: Profile
    current: Profile
    columns: tuple[ColumnComparison, ...]
    schema_changes: tuple[SchemaChange, ...]

    @property
    def findings(self) -> tuple[SchemaChange, ...]:
        """The schema changes by their former name."""
        return self.schema_changes

    @cached_property
    def index(self) -> Mapping[str, int]:
        return {column.name: position for position, column in enumerate(self.columns)}

    def __getitem__(self, name: str) -> ColumnComparison:
        name = column_name(name)
        if name not in self.index:
            raise KeyError(f"no column {name!r} in the comparison")
        return self.columns[self.index[name]]

    def __iter__(self) -> Iterator[ColumnComparison]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def compare_profiles(reference: Profile, current: Profile) -> Comparison:
    """Compare two profiles column by column.

    Raises
    ------
    SchemaMismatchError
        If no column of one has the bins of its namesake in the other; names the first difference.
    """
    other = dict(zip(current.schema.names, current.schema.columns, strict=True))
    shared = [column.name for column in reference.schema.columns if column.name in other]
    same = {name for name in shared if reference.schema[name].digest == other[name].digest}
    if not same and (shared or not reference.schema.columns):
        raise SchemaMismatchError(_no_common_bins(reference.schema, current.schema))
    changes = tuple(schema_changes(reference, current))
    obstacles = _obstacles(reference, current, changes, same)
    pairs: list[tuple[ColumnProfile, ColumnProfile]] = []
    for position, column in enumerate(reference.schema.columns):
        mine = reference.columns[position]
        pairs.append(
            (
                mine,
                current.columns[current.schema.index[column.name]] if column.name in same else _nothing(mine),
            )
        )
    columns = compare_columns(pairs, obstacles, _rounding(reference, current))
    read = (_with_reading(one, reference, current) for one in columns)
    return Comparison(reference, current, tuple(read), changes)


def _with_reading(column: ColumnComparison, reference: Profile, current: Profile) -> ColumnComparison:
    """A column with what is to be known of how it was read."""
    notes = [
        f"{which}: {note}"
        for which, side in (("reference", reference), ("current", current))
        for note in side.provenance.get("reading", {}).get(column.column.name, ())
    ]
    return replace(column, notes=(*column.notes, *notes)) if notes else column


def compare_columns(
    pairs: Sequence[Pair], obstacles: Mapping[str, str] | None = None, remarks: Mapping[str, str] | None = None
) -> list[ColumnComparison]:
    """Compare some columns side by side.

    Parameters
    ----------
    pairs : sequence of (reference, current)
    obstacles : mapping of column name to str, optional
        Why a column cannot be judged: of those no statistic is computed.
    remarks : mapping of column name to str, optional
        Notes on how values of other types entered a column.
    """
    known, remarked = obstacles or {}, remarks or {}
    statistics = _all_statistics([None if mine.column.name in known else (mine, theirs) for mine, theirs in pairs])
    columns = []
    for (mine, theirs), (found, pool) in zip(pairs, statistics, strict=True):
        unknown = _unknown(mine, theirs)
        if (mine.clipped or theirs.clipped) and "wasserstein" in found:
            nothing = Statistic(None, reason="values beyond 2**63 - 1 are counted, but not how far beyond")
            found |= {"wasserstein": nothing}
            if fences_hold_the_largest(mine.column):
                found |= {"wasserstein_scaled": nothing, "spread": nothing}
        notes = _notes(mine, theirs, unknown)
        if mine.column.name in remarked:
            notes = (*notes, remarked[mine.column.name])
        obstacle = known.get(mine.column.name)
        columns.append(ColumnComparison(mine.column, mine, theirs, found, obstacle, notes, unknown, pool))
    return columns


def _rounding(reference: Profile, current: Profile) -> dict[str, str]:
    """Of columns whose types differ on the two sides and that were counted all the same: what rounding costs."""
    remarks = {}
    for column in reference.schema.columns:
        types = [side.seen.get(column.name) for side in (reference, current)]
        floats = [one in ("float", "double", "halffloat") for one in types]
        decimals = [one is not None and one.startswith("decimal") for one in types]
        if column.type == "decimal" and column.unit is not None and any(decimals) and any(floats):
            unit = 10.0 ** -int(column.unit.partition("[")[2].rstrip("]"))
            if unit < 1:
                remarks[column.name] = f"floats are rounded to the decimals' {unit:g}: each by at most {unit / 2:g}"
        elif column.family == "real" and any(decimals) and any(floats):
            remarks[column.name] = "decimals are rounded to the nearest float64: each by at most 1 part in 2**53"
    return remarks


def _no_common_bins(reference: Schema, current: Schema) -> str:
    if not reference.columns or not current.columns:
        return "nothing to compare: one side has no columns"
    names = [name for name in reference.names if name in current]
    return f"the profiles have different bins: {first_difference(reference.select(names), current.select(names))}"


def _nothing(mine: ColumnProfile) -> ColumnProfile:
    empty = np.zeros(0, np.int64)
    return ColumnProfile(mine.column, 0, empty, empty, {}, None, None, None, "not in the current profile")


def schema_changes(reference: Profile, current: Profile) -> Iterable[SchemaChange]:
    """How the columns of two tables differ, whatever is in them."""
    for column in reference.schema.columns:
        name = column.name
        before = reference.seen.get(name)
        if name not in current.seen:
            yield SchemaChange(name, "dropped", before, None)
        elif current.findings.get(name, "unreadable") != "unreadable" and name not in reference.findings:
            # A type that cannot be counted at all is another type, too.
            change = "unit changed" if current.findings[name] == "unit changed" else "type changed"
            yield SchemaChange(name, change, before, current.seen[name])
        elif column.kind == "skipped" and before is not None and before != current.seen[name]:
            yield SchemaChange(name, "type changed", before, current.seen[name])
    for name in sorted(current.seen):
        if name not in reference.schema and name not in reference.seen:
            yield SchemaChange(name, "added", None, current.seen[name])


def _obstacles(reference: Profile, current: Profile, changes: Sequence[SchemaChange], same: set[str]) -> dict[str, str]:
    """Why columns cannot be compared, by name; the first reason of each."""
    obstacles: dict[str, str] = {}
    for found in changes:
        if found.change == "dropped":
            obstacles[found.column] = "dropped: the current table has no such column"
        elif found.change != "added":
            reason = current.skipped.get(found.column, f"{found.reference} became {found.current}")
            if found.column in current.skipped and found.reference != found.current:
                reason = f"{found.reference} became {found.current}: {reason}"
            obstacles[found.column] = f"{found.change}: {reason}"
    for column in reference.schema.columns:
        name = column.name
        if name in obstacles:
            continue
        if column.kind == "skipped":
            obstacles[name] = column.reason or "skipped"
        elif name in reference.skipped:
            obstacles[name] = f"in the reference: {reference.skipped[name]}"
        elif name in current.skipped:
            obstacles[name] = f"in the current table: {current.skipped[name]}"
        elif name not in same:
            obstacles[name] = "the two profiles have different bins for this column"
    return obstacles


def _unknown(reference: ColumnProfile, current: ColumnProfile) -> tuple[float, str] | None:
    """The share of rows that are counted together though their values may differ, on the side that has more of them."""
    return max((one for one in map(_counted_together, (reference, current)) if one is not None), default=None)


def _counted_together(side: ColumnProfile) -> tuple[float, str] | None:
    if side.clipped:
        words = "are 2**63 - 1 or more, which are counted together: kinds=… 'categorical' tells them apart"
        return float(side.counts[-1]) / side.present, words
    if side.column.is_numeric and has_subnormals(side):
        words = "are below 2**-1022 in size, which counts as 0"
        return float(side.counts[zero_bin(side.column)]) / side.present, words
    return None


def _notes(reference: ColumnProfile, current: ColumnProfile, unknown: tuple[float, str] | None) -> tuple[str, ...]:
    notes = [f"some values {unknown[1]}"] if unknown is not None else []
    if reference.column.is_numeric and reference.column.marks is None and reference.finite:
        notes.append("counted by an older version: clipped at the edges nearest to the fences; make the baseline again")
    if (suggestion := code_note(reference)) is not None:
        notes.append(suggestion)
    for which, side in (("reference", reference), ("current", current)):
        if side.column.is_numeric and side.column.type == "text" and side.special["nan"]:
            notes.append(f"{which}: {side.special['nan']:,} texts are no dates or times; they count as NaN")
        if side.dropped:
            notes.append(f"{which}: {side.dropped} rows have values that are not counted individually")
    return tuple(notes)


# --- statistics ------------------------------------------------------------------------------------------------------


def _all_statistics(pairs: Sequence[Pair | None]) -> list[tuple[dict[str, Statistic], Pool | None]]:
    found: list[dict[str, Statistic]] = [{} for _ in pairs]
    pools: list[Pool | None] = [None] * len(pairs)
    numeric: dict[str, list[tuple[int, Pair]]] = {"real": [], "integer": []}
    for position, pair in enumerate(pairs):
        if pair is None:
            continue
        found[position]["missing"] = missing_statistic(*pair)
        if pair[0].column.is_numeric:
            numeric[pair[0].column.family].append((position, pair))
        else:
            found[position] |= categorical_statistics(*pair)
    for columns in numeric.values():
        columns.sort(key=lambda one: one[1][0].column.bins)  # neighbours in length waste the least padding
        for start in range(0, len(columns), BATCH):
            batch = columns[start : start + BATCH]
            made = numeric_statistics([pair for _, pair in batch])
            for (position, _), (statistics, pool) in zip(batch, made, strict=True):
                found[position], pools[position] = statistics | found[position], pool
    return list(zip(found, pools, strict=True))
