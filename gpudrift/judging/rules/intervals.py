"""What counts certainly say about the values behind them: intervals that hold the truth, for rules.

Every function here returns ``(low, high)`` such that the number computed from the raw values lies in it, both ends
included; equal ends mean that it is known. Rows are integers and everything else is compared as fractions, so a rule
that is decided on an interval is decided rightly, also where a share equals its bound.

Zero's bin of reals also takes the subnormals above it (see the slot rule): here, too, they are zero.

Where an interval is wider than a point: a bound that is no edge cuts a bin, and of that bin are known its edges, its
count, the sum of its rows' distances from the lower edge, and that the smallest and largest value exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gpudrift.columns.bounds import first_above, first_at_least
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_NORMAL, point_bins, residual_units
from gpudrift.counts.profiles import ColumnProfile
from gpudrift.counts.tails import xxh64

__all__ = [
    "LARGEST_UNSIGNED",
    "Interval",
    "distinct_at_most_one",
    "mean_interval",
    "quantile_interval",
    "rows_below",
    "rows_between",
    "rows_equal",
    "rows_of_texts",
    "unlisted_texts",
]

Interval = tuple[Fraction, Fraction]
Rows = tuple[int, int]

LARGEST_UNSIGNED = 2**64 - 1
"""Unsigned integers beyond 2**63 - 1 were counted as that number and are at most this one."""

_SHIFT = 1200
"""Every float64 is a multiple of 2**-1074; the rest is room for what is rounded."""


def rows_below(side: ColumnProfile, t: float) -> Rows:
    """Finite rows with ``x < t``, t countable."""
    column = side.column
    if side.finite == 0:
        return 0, 0
    low, high = _ends(side)
    if column.family == "real" and 0 < t < SMALLEST_NORMAL:
        t = SMALLEST_NORMAL  # between it and zero nothing is told apart
    if side.clipped and t > LARGEST_INTEGER:
        return rows_below(side, LARGEST_INTEGER)[0], side.finite
    if t <= low:
        return 0, 0
    if t > high:
        return side.finite, side.finite
    assert column.edges is not None
    edges = column.edges
    # t lies within the data here, so it is representable.
    place = min(int(np.searchsorted(edges, edges.dtype.type(t), side="right")) - 1, edges.size - 2)
    before, count = int(side.counts[:place].sum()), int(side.counts[place])
    left, right = edges[place].item(), edges[place + 1].item()
    if t == left or count == 0:
        return before, before
    if point_bins(edges)[place]:
        return before + count, before + count
    fewest = 1 if low >= left else 0  # the smallest value is in this bin, and below t
    most = count - 1 if high < right or place == edges.size - 2 else count  # so is the largest, and it is not
    total = _residuals(side, place, float(residual_units(edges)[place]))
    if total is not None:
        # Rows at or above t are at least t - left from the lower edge, rows below it at most that; so the sum
        # of the distances bounds how many of each there can be.
        threshold = Fraction(t) - Fraction(left)
        reach = min(Fraction(right), Fraction(high)) - Fraction(left)
        least, largest = (Fraction(end, 1 << _SHIFT) for end in total)
        fewest = max(fewest, math.ceil(count - largest / threshold))
        if reach > threshold:
            most = min(most, math.floor((count * reach - least) / (reach - threshold)))
    return before + max(min(fewest, most), 0), before + min(max(fewest, most), count)


def _ends(side: ColumnProfile) -> tuple[Any, Any]:
    """Smallest and largest finite value, of which there is one; what zero's bin holds is zero."""
    assert side.low is not None and side.high is not None
    low, high = (
        0.0 if side.column.family == "real" and 0 < end < SMALLEST_NORMAL else end for end in (side.low, side.high)
    )
    return low, high


def _scaled(number: Any) -> int:
    """A finite float64 or an integer in units of 2**-_SHIFT: their sums are exact, and fast."""
    numerator, denominator = number.as_integer_ratio()
    return int(numerator) << (_SHIFT + 1 - int(denominator).bit_length())


def _residuals(side: ColumnProfile, place: int, unit: float) -> tuple[int, int] | None:
    """Between what the distances of a bin's rows from its lower edge add up to, scaled; None where no sum is kept."""
    edges = side.column.edges
    assert edges is not None
    if unit == 0.0:
        return None
    count, total, exact = int(side.counts[place]), int(side.sums[place]), _scaled(float(unit))
    if side.column.family == "integer":
        return total * exact, total * exact + count * (exact - _scaled(1))
    # float64 rounds the difference before it is cut.
    loose = (count * (_scaled(edges[place + 1].item()) - _scaled(edges[place].item())) >> 51) + 1
    return total * exact - loose, (total + count) * exact + loose


def rows_equal(side: ColumnProfile, value: Fraction) -> Rows:
    """Finite rows with this value. Subnormal reals count as zero, as in the slot rule."""
    column = side.column
    assert column.edges is not None
    if value == 0:
        rows = int(side.counts[int(np.searchsorted(column.edges, 0, side="right")) - 1])
        return rows, rows
    start, stop = first_at_least(column, value), first_above(column, value)
    if start == stop:
        return 0, 0
    least, most = rows_below(side, start), rows_below(side, stop)
    return max(least_of(most) - most_of(least), 0), most_of(most) - least_of(least)


def least_of(rows: Rows) -> int:
    return rows[0]


def most_of(rows: Rows) -> int:
    return rows[1]


def rows_between(side: ColumnProfile, low: Fraction | None, high: Fraction | None) -> Rows:
    """Finite rows with ``low <= x <= high``; None is no bound."""
    below = (0, 0) if low is None else rows_below(side, first_at_least(side.column, low))
    within = (side.finite,) * 2 if high is None else rows_below(side, first_above(side.column, high))
    return max(within[0] - below[1], 0), max(within[1] - below[0], 0)


def mean_interval(side: ColumnProfile) -> Interval:
    """The mean of the finite values, of which there is at least one, in the counted unit."""
    column = side.column
    assert column.edges is not None and side.low is not None and side.high is not None
    smallest, largest = map(_scaled, _ends(side))
    units, points = residual_units(column.edges).tolist(), point_bins(column.edges).tolist()
    edges, is_integer = column.edges.tolist(), column.family == "integer"
    low = high = 0
    for place in np.flatnonzero(side.counts).tolist():
        count = int(side.counts[place])
        left = right = _scaled(edges[place])
        if not points[place]:
            right = _scaled(edges[place + 1]) - (_scaled(1) if is_integer and place < column.bins - 1 else 0)
        ends = count * max(left, smallest), count * max(min(right, largest), left, smallest)
        total = _residuals(side, place, units[place])
        if total is not None:
            ends = max(ends[0], count * left + total[0]), min(ends[1], count * left + total[1])
        low, high = low + ends[0], high + ends[1]
    if side.clipped:
        high += (side.finite - rows_below(side, LARGEST_INTEGER)[0]) * _scaled(LARGEST_UNSIGNED - LARGEST_INTEGER)
    return Fraction(low, side.finite << _SHIFT), Fraction(high, side.finite << _SHIFT)


def quantile_interval(side: ColumnProfile, q: Fraction) -> Interval:
    """The value of rank ``ceil(q n)`` (at least 1) among the n finite values, in the counted unit."""
    column = side.column
    assert column.edges is not None
    low, high = _ends(side)
    rank = max(math.ceil(q * side.finite), 1)
    if side.clipped and rank > rows_below(side, LARGEST_INTEGER)[0]:
        return Fraction(_least(side, rank)), Fraction(LARGEST_UNSIGNED)
    if rank in (1, side.finite):
        return (Fraction(low if rank == 1 else high),) * 2
    place = int(np.searchsorted(np.cumsum(side.counts), rank, side="left"))
    left, right = column.edges[place].item(), column.edges[place + 1].item()
    if point_bins(column.edges)[place]:
        return Fraction(left), Fraction(left)
    if place < column.bins - 1:  # the last bin is closed
        right = right - 1 if column.family == "integer" else float(np.nextafter(right, -np.inf))
    return Fraction(max(left, low)), Fraction(max(min(right, high), left))


def _least(side: ColumnProfile, rank: int) -> int:
    """The least that the value of this rank can be."""
    assert side.column.edges is not None and side.low is not None
    place = int(np.searchsorted(np.cumsum(side.counts), rank, side="left"))
    return max(int(side.column.edges[place]), int(side.low))


# --- categorical columns ---------------------------------------------------------------------------------------------


def rows_of_texts(side: ColumnProfile, texts: Sequence[bytes]) -> Rows:
    """Rows of a categorical column with one of these values."""
    assert side.tail is not None
    places = {value: place for place, value in enumerate(side.column.categories)}
    kept = dict(zip(side.tail.values, side.tail.counts.tolist(), strict=True))
    rows, unknown = 0, False
    for text in dict.fromkeys(texts):
        if text in places:
            rows += int(side.counts[places[text]])
        elif text in kept:
            rows += int(kept[text])
        elif side.dropped and (xxh64(text), text) > (int(side.tail.hashes[-1]), side.tail.values[-1]):
            unknown = True  # were its hash smaller, it would have been kept
    return rows, rows + (side.dropped if unknown else 0)


def unlisted_texts(side: ColumnProfile, texts: Sequence[bytes]) -> list[tuple[str, int]]:
    """Values that were counted one by one and are not among these, the most frequent first."""
    assert side.tail is not None
    allowed = set(texts)
    seen = [*zip(side.column.categories, side.counts[:-1].tolist(), strict=True)]
    seen += zip(side.tail.values, side.tail.counts.tolist(), strict=True)
    others = [
        (text.decode("utf-8", "backslashreplace"), count) for text, count in seen if count and text not in allowed
    ]
    return sorted(others, key=lambda one: -one[1])


def distinct_at_most_one(side: ColumnProfile) -> bool:
    """Whether all rows that have a value have the same one; at least two rows have."""
    if side.present < 2:
        return False
    if side.column.is_numeric:
        ends = [side.special["-inf"], side.special["+inf"], side.finite]
        return max(ends) == side.present and (side.finite == 0 or side.low == side.high)
    assert side.tail is not None
    return (
        side.dropped == 0 and max([*side.counts[:-1].tolist(), *side.tail.counts.tolist()], default=0) == side.present
    )
