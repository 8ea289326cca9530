"""Statistics of categorical columns: distances over cells, new values, chi-square, Cramér's V.

Frequent values are listed in the schema and have a cell each; the others lie in a tail that may have dropped values.
Where it has, statistics are lower bounds and say so, and the share of new values is an interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpudrift.counts.profiles import ColumnProfile
from gpudrift.counts.tails import Tail
from gpudrift.statistics import distances
from gpudrift.statistics.statistic import Statistic, no_rows_reason, share_statistics

__all__ = ["NewValues", "categorical_statistics", "new_values"]

LISTED_SHARE = 1000
"""A listed value holds at least one in so many rows on either side; the others are pooled."""


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


def categorical_statistics(reference: ColumnProfile, current: ColumnProfile) -> dict[str, Statistic]:
    """All statistics of a column but ``missing``."""
    names = ("psi", "js", "hellinger", "tv", "kl", "linf", "chi2", "cramers_v", "new")
    n, m = reference.present, current.present
    if n == 0 or m == 0:
        reason = no_rows_reason(reference, current, "values")
        return {name: Statistic(None, reason=reason) for name in names}
    new = new_values(reference, current)
    listed, before, after = _cells(reference, current, new)
    p, q = before / n, after / m
    bound = {"bound": "lower"} if reference.dropped or current.dropped else {}
    where = {"values": listed, "cells": int(p.size), **bound}
    psi = Statistic(float(distances.psi(p, q)), details={**where, "floor": distances.FLOOR}, shares=(p, q))
    statistics = {"psi": psi}
    statistics |= share_statistics(p, q, where)
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
