"""Two profiles of one schema in, every statistic out; nothing is judged here.

Statistics of numeric columns are computed for many columns at once from padded arrays; summaries and pictures of a
column are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift import distances
from gpudrift.columns.schema import LARGEST_INTEGER, Column, Schema
from gpudrift.counts.profiles import ColumnProfile, Profile, data_range, first_difference
from gpudrift.counts.tails import Tail
from gpudrift.errors import SchemaMismatchError
from gpudrift.summaries import Distribution, distribution, moments, natural_factor, natural_values, summary

__all__ = [
    "ColumnComparison",
    "Comparison",
    "Finding",
    "NewValues",
    "Statistic",
    "compare_profiles",
    "new_values",
    "schema_findings",
]

BATCH = 64
"""Columns handled at once: arrays of about 1 MB, which stay in the second-level cache."""

LISTED_SHARE = 1000
"""A listed value holds at least one in so many rows on either side; the others are pooled."""


_NO_SHARES = np.zeros(0)


@dataclass(frozen=True)
class Statistic:
    """One statistic of one column.

    Parameters
    ----------
    value : float or None
        None where it is undefined; then ``reason`` says why.
    low, high : float or None
        Bounds that certainly hold the exact statistic of the raw values, where the statistic has them.
    details : mapping
        What belongs to the number: p-value, bins, floor, degrees of freedom.
    shares : pair of ndarray of float, shape (cells,)
        Of ``psi``, those that it was made of; for its noise floor.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    shares: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] = field(
        default=(_NO_SHARES, _NO_SHARES), compare=False, repr=False
    )

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["details"][name]
        except KeyError:
            raise AttributeError(f"this statistic has no {name!r}") from None

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON document."""
        entry: dict[str, Any] = {"value": self.value}
        if self.low is not None:
            entry |= {"low": self.low, "high": self.high}
        if self.reason is not None:
            entry["reason"] = self.reason
        return entry | dict(self.details)


@dataclass(frozen=True)
class Finding:
    """A difference between the columns of two tables: "added", "dropped", "type changed" or "unit changed"."""

    column: str
    finding: str
    reference: str | None
    current: str | None


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
        Why the column cannot be judged at all: a schema finding, or why it was skipped.
    notes : tuple of str
        What a reader of the numbers should know.
    """

    column: Column
    reference: ColumnProfile
    current: ColumnProfile
    statistics: Mapping[str, Statistic]
    obstacle: str | None = None
    notes: tuple[str, ...] = ()

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
        """Summary of the reference and of the current side; see :func:`gpudrift.summaries.summary`."""
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
    findings : tuple of Finding
    """

    reference: Profile
    current: Profile
    columns: tuple[ColumnComparison, ...]
    findings: tuple[Finding, ...]

    @cached_property
    def index(self) -> Mapping[str, int]:
        return {column.name: position for position, column in enumerate(self.columns)}

    def __getitem__(self, name: str) -> ColumnComparison:
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
    findings = tuple(schema_findings(reference, current))
    obstacles = _obstacles(reference, current, findings, same)
    pairs: list[tuple[ColumnProfile, ColumnProfile]] = []
    for position, column in enumerate(reference.schema.columns):
        mine = reference.columns[position]
        pairs.append(
            (
                mine,
                current.columns[current.schema.index[column.name]] if column.name in same else _nothing(mine),
            )
        )
    statistics = _all_statistics([None if mine.column.name in obstacles else (mine, theirs) for mine, theirs in pairs])
    columns = []
    for (mine, theirs), found in zip(pairs, statistics, strict=True):
        name = mine.column.name
        clipped = _is_clipped(mine, reference.seen.get(name)) or _is_clipped(theirs, current.seen.get(name))
        if clipped and "wasserstein" in found:
            unknown = Statistic(None, reason="values beyond 2**63 - 1 are counted, but not how far beyond they lie")
            found |= {"wasserstein": unknown, "wasserstein_scaled": unknown}
        columns.append(
            ColumnComparison(mine.column, mine, theirs, found, obstacles.get(name), _notes(mine, theirs, clipped))
        )
    return Comparison(reference, current, tuple(columns), findings)


def _no_common_bins(reference: Schema, current: Schema) -> str:
    if not reference.columns or not current.columns:
        return "nothing to compare: one side has no columns"
    names = [name for name in reference.names if name in current]
    return (
        f"the profiles were made under other bins: {first_difference(reference.select(names), current.select(names))}"
    )


def _nothing(mine: ColumnProfile) -> ColumnProfile:
    empty = np.zeros(0, np.int64)
    return ColumnProfile(mine.column, 0, empty, empty, {}, None, None, None, "not in the current profile")


def schema_findings(reference: Profile, current: Profile) -> Iterable[Finding]:
    """How the columns of two tables differ, whatever is in them."""
    for column in reference.schema.columns:
        name = column.name
        before = reference.seen.get(name)
        if name not in current.seen:
            yield Finding(name, "dropped", before, None)
        elif current.findings.get(name, "unreadable") != "unreadable" and name not in reference.findings:
            # A type that cannot be counted at all is another type, too.
            found = "unit changed" if current.findings[name] == "unit changed" else "type changed"
            yield Finding(name, found, before, current.seen[name])
        elif column.kind == "skipped" and before is not None and before != current.seen[name]:
            yield Finding(name, "type changed", before, current.seen[name])
    for name in sorted(current.seen):
        if name not in reference.schema and name not in reference.seen:
            yield Finding(name, "added", None, current.seen[name])


def _obstacles(reference: Profile, current: Profile, findings: Sequence[Finding], same: set[str]) -> dict[str, str]:
    """Why columns cannot be compared, by name; the first reason of each."""
    obstacles: dict[str, str] = {}
    for found in findings:
        if found.finding == "dropped":
            obstacles[found.column] = "dropped: the current table has no such column"
        elif found.finding != "added":
            reason = current.skipped.get(found.column, f"{found.reference} became {found.current}")
            obstacles[found.column] = f"{found.finding}: {reason}"
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
            obstacles[name] = "the two profiles have other bins for this column"
    return obstacles


def _is_clipped(side: ColumnProfile, seen: str | None) -> bool:
    """Whether unsigned integers beyond int64 may have been counted in the last bin."""
    return side.column.family == "integer" and seen == "uint64" and side.high == LARGEST_INTEGER


def _notes(reference: ColumnProfile, current: ColumnProfile, clipped: bool) -> tuple[str, ...]:
    notes = ["values of 2**63 - 1 and beyond are counted together in the last bin"] if clipped else []
    for which, side in (("reference", reference), ("current", current)):
        if side.dropped:
            notes.append(f"{which}: {side.dropped} rows hold values that are not listed one by one")
    return tuple(notes)


# --- statistics ------------------------------------------------------------------------------------------------------

Pair = tuple[ColumnProfile, ColumnProfile]


def _all_statistics(pairs: Sequence[Pair | None]) -> list[dict[str, Statistic]]:
    found: list[dict[str, Statistic]] = [{} for _ in pairs]
    numeric: dict[str, list[tuple[int, Pair]]] = {"real": [], "integer": []}
    for position, pair in enumerate(pairs):
        if pair is None:
            continue
        found[position]["missing"] = _missing(*pair)
        if pair[0].column.is_numeric:
            numeric[pair[0].column.family].append((position, pair))
        else:
            found[position] |= _categorical(*pair)
    for columns in numeric.values():
        columns.sort(key=lambda one: one[1][0].column.bins)  # neighbours in length waste the least padding
        for start in range(0, len(columns), BATCH):
            batch = columns[start : start + BATCH]
            for (position, _), statistics in zip(batch, _numeric([pair for _, pair in batch]), strict=True):
                found[position] = statistics | found[position]
    return found


def _missing(reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    if reference.rows == 0 or current.rows == 0:
        return Statistic(None, reason=_no_rows(reference, current, "rows"))
    before, after = reference.missing / reference.rows, current.missing / current.rows
    return Statistic(after - before, details={"reference": before, "current": after})


def _no_rows(reference: ColumnProfile, current: ColumnProfile, what: str) -> str:
    empty = [which for which, side in (("reference", reference), ("current table", current)) if _rows(side, what) == 0]
    return f"no {what} in the {' and the '.join(empty)}"


def _rows(side: ColumnProfile, what: str) -> int:
    return {"rows": side.rows, "values": side.present, "finite values": side.finite}[what]


@dataclass(frozen=True)
class _Padded:
    """Arrays of some columns side by side; missing bins are empty points of width zero."""

    counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    sums: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    infinities: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    points: npt.NDArray[np.bool_]
    widths: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    units: npt.NDArray[np.float64]
    slack: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> _Padded:
        shape = (len(pairs), max(pair[0].column.bins for pair in pairs))
        counts = (np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        sums = (np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        points = np.ones(shape, np.bool_)
        width, offset, unit, slack = (np.zeros(shape) for _ in range(4))
        for row, pair in enumerate(pairs):
            column = pair[0].column
            assert column.edges is not None
            own = slice(0, column.bins)
            unit[row, own] = column.residual_units
            points[row, own] = column.point_bins
            width[row, own], offset[row, own] = _within_the_data(*pair)
            slack[row, own] = residual_slack(column)
            for side in (0, 1):
                counts[side][row, own] = pair[side].counts
                sums[side][row, own] = pair[side].sums
        ends = [
            np.array([[pair[side].special["-inf"], pair[side].special["+inf"]] for pair in pairs], np.int64)
            for side in (0, 1)
        ]
        return cls(counts, sums, (ends[0], ends[1]), points, width, offset, unit, slack)


def _within_the_data(
    reference: ColumnProfile, current: ColumnProfile
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Width of the part of each bin between the smallest and largest value of both sides, and where it begins.

    Only the outermost bins with rows are cut; without this a value beyond a user's last edge would lie somewhere in
    a bin of width 1e308.
    """
    edges = reference.column.edges
    assert edges is not None
    width, offset = reference.column.widths.copy(), np.zeros(edges.size - 1)
    occupied = np.flatnonzero(reference.counts + current.counts)
    span = data_range(reference, current)
    if span is None:
        return width, offset
    low, high = span
    first, last = int(occupied[0]), int(occupied[-1])
    width[:first], width[last + 1 :] = 0.0, 0.0
    left, right = edges[[first, last]].tolist(), edges[[first + 1, last + 1]].tolist()
    begin = [max(left[0], low), left[1] if last > first else max(left[0], low)]
    offset[first] = float(begin[0] - left[0])
    width[first] = float(min(right[0], high) - begin[0])
    width[last] = float(min(right[1], high) - begin[1])
    return width, offset


def residual_slack(column: Column) -> npt.NDArray[np.float64]:
    """The most that a row's distance from its bin's lower edge was cut by; shape (bins,)."""
    units, points = column.residual_units, column.point_bins
    cut = units if column.family == "real" else units - 1.0
    return np.where(units > 0, cut, np.where(points, 0.0, column.widths))


def _numeric(pairs: Sequence[Pair]) -> list[dict[str, Statistic]]:
    padded = _Padded.of(pairs)
    low, high = distances.ks(*padded.counts, *padded.infinities, padded.points)
    present = np.array([[side.present for side in pair] for pair in pairs])
    p_values = distances.ks_p_value(low, present[:, 0], present[:, 1])
    transport = distances.wasserstein(
        *padded.counts, *padded.sums, padded.widths, padded.offsets, padded.units, padded.slack, padded.points
    )
    coarse = {ranks: _coarse_shares(pairs, padded, ranks) for ranks in (10, 32)}
    found: list[dict[str, Statistic]] = []
    for row, pair in enumerate(pairs):
        statistics: dict[str, Statistic] = {}
        if np.isnan(low[row]):
            reason = _no_rows(*pair, "values")
            statistics["ks"] = Statistic(None, reason=reason)
        else:
            reason = None
            p_value = float(p_values[row])
            statistics["ks"] = Statistic(
                float(low[row]), float(low[row]), float(high[row]), details={"p_value": p_value}
            )
        statistics |= _transport_statistics(pair, *(float(x[row]) for x in transport))
        statistics |= _coarse_statistics(pair, coarse, row, reason)
        found.append(statistics)
    return found


def _transport_statistics(pair: Pair, value: float, low: float, high: float) -> dict[str, Statistic]:
    reference, current = pair
    reason = None
    if np.isnan(value):
        reason = _no_rows(reference, current, "finite values")
    elif any(
        reference.special[end] * current.present != current.special[end] * reference.present for end in ("-inf", "+inf")
    ):
        reason = "the shares of infinities differ, so the distance is infinite"
    elif not np.isfinite(high):
        reason = "the distance is larger than the largest float64"
    if reason is not None:
        undefined = Statistic(None, reason=reason)
        return {"wasserstein": undefined, "wasserstein_scaled": undefined}
    spread = moments(reference)
    factor = natural_factor(reference.column)
    natural = [value / factor, low / factor, high / factor]
    if factor != 1.0:
        natural[1:] = [float(np.nextafter(natural[1], 0.0)), float(np.nextafter(natural[2], np.inf))]
    plain = Statistic(natural[0], natural[1], natural[2])
    if spread.std == 0.0:
        return {
            "wasserstein": plain,
            "wasserstein_scaled": Statistic(None, reason="the reference is constant"),
        }
    if spread.std < 1e-12 * abs(spread.mean):
        negligible = Statistic(None, reason="the reference's standard deviation is below 1e-12 of its mean")
        return {"wasserstein": plain, "wasserstein_scaled": negligible}
    # One division each; two units in the last place outwards cover it.
    least = low / spread.std_high * (1 - 4e-16)
    most = high / spread.std_low * (1 + 4e-16) if spread.std_low > 0 else None
    scaled = Statistic(value / spread.std, least, most, details={"std": spread.std / factor})
    return {"wasserstein": plain, "wasserstein_scaled": scaled}


def _coarse_shares(
    pairs: Sequence[Pair], padded: _Padded, ranks: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """For each column the cuts and the shares of both sides in the coarse bins; empty where a side has no values."""
    shares = []
    for row, pair in enumerate(pairs):
        bins = pair[0].column.bins
        reference, current = (counts[row, :bins] for counts in padded.counts)
        infinities = [side[row] for side in padded.infinities]
        if min(pair[0].present, pair[1].present) == 0:
            shares.append((np.zeros(0, np.int64), np.zeros(0), np.zeros(0)))
            continue
        own = reference, infinities[0], padded.points[row, :bins], ranks
        cuts = pair[0].once(f"cuts {ranks}", partial(distances.coarse_cuts, *own))
        sides = []
        for counts, ends in zip((reference, current), infinities, strict=True):
            coarse = np.add.reduceat(counts, cuts[:-1])
            coarse[0] += ends[0]
            coarse[-1] += ends[1]
            sides.append(coarse / coarse.sum())
        shares.append((cuts, sides[0], sides[1]))
    return shares


def _coarse_statistics(pair: Pair, coarse: Mapping[int, Any], row: int, reason: str | None) -> dict[str, Statistic]:
    if reason is not None:
        names = ("psi", "js", "hellinger", "tv", "kl", "linf")
        return {name: Statistic(None, reason=reason) for name in names}
    column = pair[0].column
    cuts, p, q = coarse[10][row]
    psi = Statistic(
        float(distances.psi(p, q)),
        details={"bins": _Lazy(column, cuts), "cells": p.size, "floor": distances.FLOOR},
        shares=(p, q),
    )
    cuts, p, q = coarse[32][row]
    return {"psi": psi, **_share_statistics(p, q, {"bins": _Lazy(column, cuts), "cells": p.size})}


def _share_statistics(
    p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], where: dict[str, Any]
) -> dict[str, Statistic]:
    return {
        "js": Statistic(float(distances.js(p, q)), details=where),
        "hellinger": Statistic(float(distances.hellinger(p, q))),
        "tv": Statistic(float(distances.total_variation(p, q))),
        "kl": Statistic(float(distances.kl(p, q)), details={"floor": distances.FLOOR}),
        "linf": Statistic(float(distances.linf(p, q))),
    }


class _Lazy(Sequence[Any]):
    """Edges of coarse bins in the column's own values, made when they are looked at: mostly never."""

    def __init__(self, column: Column, cuts: npt.NDArray[np.int64]) -> None:
        self._column, self._cuts = column, cuts

    @cached_property
    def _values(self) -> list[Any]:
        assert self._column.edges is not None
        return natural_values(self._column, self._column.edges[self._cuts])

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __len__(self) -> int:
        return int(self._cuts.size)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Iterable) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        return repr(self._values)


# --- categorical columns ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewValues:
    """Rows of the current side whose values the reference has not: certainly, and possibly.

    ``values`` are those that certainly are new and were counted one by one, with their rows, most frequent first.
    """

    certain: int
    possible: int
    values: tuple[tuple[bytes, int], ...] = ()


def new_values(reference: ColumnProfile, current: ColumnProfile) -> NewValues:
    """Which values of a categorical column are new; both sides under one schema."""
    assert reference.tail is not None and current.tail is not None
    known = set(zip(reference.tail.hashes.tolist(), reference.tail.values, strict=True))
    limit = int(reference.tail.hashes[-1]) if reference.dropped and reference.tail.hashes.size else None
    certain = undecided = 0
    values = []
    for value_hash, value, count in zip(
        current.tail.hashes.tolist(), current.tail.values, current.tail.counts.tolist(), strict=True
    ):
        if (value_hash, value) in known:
            continue
        if limit is None or value_hash <= limit:
            certain += count
            values.append((value, count))
        else:
            undecided += count
    values.sort(key=lambda one: -one[1])
    return NewValues(certain, certain + undecided + current.dropped, tuple(values))


def _categorical(reference: ColumnProfile, current: ColumnProfile) -> dict[str, Statistic]:
    names = ("psi", "js", "hellinger", "tv", "kl", "linf", "chi2", "cramers_v", "new")
    n, m = reference.present, current.present
    if n == 0 or m == 0:
        reason = _no_rows(reference, current, "values")
        return {name: Statistic(None, reason=reason) for name in names}
    new = new_values(reference, current)
    listed, before, after = _cells(reference, current, new)
    p, q = before / n, after / m
    bound = {"bound": "lower"} if reference.dropped or current.dropped else {}
    where = {"values": listed, "cells": int(p.size), **bound}
    psi = Statistic(float(distances.psi(p, q)), details={**where, "floor": distances.FLOOR}, shares=(p, q))
    statistics = {"psi": psi}
    statistics |= _share_statistics(p, q, where)
    statistic, dof, p_value = distances.chi2(*_contingency(reference, current))
    statistics["chi2"] = Statistic(statistic, details={"dof": dof, "p_value": p_value, **bound})
    statistics["cramers_v"] = Statistic(float(distances.cramers_v(p, q)), details=bound)
    statistics["new"] = Statistic(new.certain / m, new.certain / m, new.possible / m)
    return statistics


def _cells(
    reference: ColumnProfile, current: ColumnProfile, new: NewValues
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Listed values, then all other known values together, then certainly new values, with both sides' rows.

    The last two cells are left out where both sides have nothing in them.
    """
    n, m = reference.present, current.present
    before, after = reference.counts[:-1], current.counts[:-1]
    is_listed = (before * LISTED_SHARE >= n) | (after * LISTED_SHARE >= m)
    is_listed &= (before > 0) | (after > 0)
    rest = (n - int(before[is_listed].sum()), m - int(after[is_listed].sum()) - new.certain)
    cells = [(int(b), int(a)) for b, a in zip(before[is_listed], after[is_listed], strict=True)]
    cells += [pair for pair in (rest, (0, new.certain)) if any(pair)]
    table = np.array(cells, dtype=np.int64).reshape(-1, 2)
    names = [_text(reference.column.categories[i]) for i in np.flatnonzero(is_listed).tolist()]
    return names, table[:, 0], table[:, 1]


def _contingency(
    reference: ColumnProfile, current: ColumnProfile
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every value that was counted one by one, and one more cell for the rows that were not."""
    tails = [side.tail or Tail.empty() for side in (reference, current)]
    sides = [dict(zip(tail.values, tail.counts.tolist(), strict=True)) for tail in tails]
    values = sorted(set(sides[0]) | set(sides[1]))
    table = [
        np.concatenate([side.counts[:-1], [kept.get(value, 0) for value in values], [side.dropped]]).astype(np.int64)
        for side, kept in zip((reference, current), sides, strict=True)
    ]
    return table[0], table[1]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
