"""A column that was multiplied by a constant: cents for dollars, seconds for minutes, a thousand times too much.

Drift moves a distribution in its own way; a wrong unit moves every quantile by the same factor. So the quantiles of
the two sides are divided by each other: where all ratios agree on one factor that units really differ by, and the
means do too, it is a unit error, which is broken data and no drift. Zeros keep their value under any unit, so only
the values of one sign are looked at, the one that most of the reference's have.

Not found: a column of which only a part was multiplied (a rule ``outside`` sees those), an offset (Celsius for
Kelvin), and factors close to one, which nobody can tell from growth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from gpudrift.columns.schema import residual_units
from gpudrift.counts.profiles import ColumnProfile

__all__ = ["UnitMismatch", "unit_mismatch"]

FACTORS: dict[str, float] = {
    **{f"{10**power:,}": 10.0**power for power in range(1, 13)},
    "60 (minutes, seconds)": 60.0,
    "3,600 (hours, seconds)": 3600.0,
    "86,400 (days, seconds)": 86400.0,
    "24 (days, hours)": 24.0,
    "1,024 (binary units)": 1024.0,
    "1,048,576 (binary units)": 1048576.0,
    "2.54 (inches, centimetres)": 2.54,
    "3.281 (metres, feet)": 3.28084,
    "1.609 (miles, kilometres)": 1.609344,
    "2.205 (kilograms, pounds)": 2.204623,
}
"""Factors that units differ by, in words; each also stands for its inverse."""

EXACT, NARROW, WIDE = math.log(1.01), math.log(1.04), math.log(1.6)
"""How far, as a logarithm, ratios may lie from the factor. The nearest is taken at the least of these that any fits.
Binary units are told from a thousand within a hundredth; factors below 10, which growth reaches too, are taken within
a twenty-fifth; the others are taken also where the column has drifted besides (rates of hotels rose by up to a third
from 2015 to 2016), for no drift of real tables came near them."""
RANKS = tuple(Fraction(rank, 20) for rank in range(1, 20))
FEWEST_ROWS, FEWEST_VALUES = 50, 5


@dataclass(frozen=True)
class UnitMismatch:
    """A factor between two sides of a column.

    Parameters
    ----------
    factor : float
        Current values over those of the reference.
    words : str
        Which factor it is: "× 1,000", "÷ 60 (minutes, seconds)".
    measured : float
        The ratio of the means.
    """

    factor: float
    words: str
    measured: float


def unit_mismatch(reference: ColumnProfile, current: ColumnProfile) -> UnitMismatch | None:
    """The factor that explains the difference of two sides of a numeric column; None where there is none.

    The sides need not have the same bins.
    """
    if any(not side.column.is_numeric or side.column.kind in ("datetime", "clock") for side in (reference, current)):
        return None
    if reference.skipped is not None or current.skipped is not None:
        return None
    sides = [(_Half.of(side, 1), _Half.of(side, -1)) for side in (reference, current)]
    sign = 0 if sides[0][0].rows >= sides[0][1].rows else 1
    before, after = sides[0][sign], sides[1][sign]
    if after.rows < sides[1][1 - sign].rows or min(before.rows, after.rows) < FEWEST_ROWS:
        return None
    spans = [(before.span(rank), after.span(rank)) for rank in RANKS]
    if len({span[0] for span in spans}) < FEWEST_VALUES:
        return None  # of a few values a step looks like a factor
    measured = math.log(after.mean) - math.log(before.mean)
    for slack in (EXACT, NARROW, WIDE):
        fitting = [
            (abs(measured - sign_of_power * math.log(size)), sign_of_power, words, size)
            for words, size in FACTORS.items()
            for sign_of_power in (1, -1)
            if _counts(words, size, slack)
            and abs(measured - sign_of_power * math.log(size)) <= slack
            and all(_agrees(a, b, sign_of_power * math.log(size), slack) for a, b in spans)
        ]
        if fitting:
            _, power, words, size = min(fitting)
            return UnitMismatch(size**power, f"{'×' if power > 0 else '÷'} {words}", math.exp(measured))
    return None


def _counts(words: str, size: float, slack: float) -> bool:
    """Whether a factor is one at this slack."""
    return slack == EXACT or ("binary" not in words and (slack == NARROW or size >= 10))


def _agrees(before: tuple[float, float], after: tuple[float, float], factor: float, slack: float) -> bool:
    """Whether the ratio of two quantiles, each known to its bin, can be the factor (a logarithm), within the slack."""
    least, most = math.log(after[0]) - math.log(before[1]), math.log(after[1]) - math.log(before[0])
    return most - factor >= -slack and least - factor <= slack


@dataclass(frozen=True)
class _Half:
    """The values of one sign, by size: their counts, the ends of their bins, and their mean."""

    rows: int
    after: np.ndarray[tuple[int], np.dtype[np.int64]]
    left: np.ndarray[tuple[int], np.dtype[np.float64]]
    right: np.ndarray[tuple[int], np.dtype[np.float64]]
    mean: float

    @classmethod
    def of(cls, side: ColumnProfile, sign: int) -> _Half:
        edges = side.column.edges
        assert edges is not None
        starts, stops = edges[:-1].astype(np.float64), edges[1:].astype(np.float64)
        if side.column.family == "integer":
            stops = np.maximum(stops - 1, starts)  # the largest integer of the bin
            mine = starts > 0 if sign > 0 else stops < 0
        else:
            mine = starts > 0 if sign > 0 else stops <= 0
        used = np.flatnonzero(mine & (side.counts > 0))
        counts = side.counts[used]
        rows = int(counts.sum())
        if rows == 0 or side.low is None or side.high is None:
            nothing = np.zeros(0)
            return cls(0, np.zeros(0, np.int64), nothing, nothing, 0.0)
        left, right = np.maximum(starts[used], float(side.low)), np.minimum(stops[used], float(side.high))
        units = residual_units(edges)[used]
        offset = (side.sums[used] / counts + np.where(units > 0, 0.5, 0.0)) * units
        centre = np.clip(np.where(units > 0, starts[used] + offset, left), left, np.maximum(left, right))
        mean = float(np.sum(centre * (counts / rows)))
        if sign < 0:
            left, right, counts, mean = -right[::-1], -left[::-1], counts[::-1], -mean
        return cls(rows, np.cumsum(counts), left, right, mean)

    def span(self, rank: Fraction) -> tuple[float, float]:
        """Between what the value of this rank lies."""
        place = int(np.searchsorted(self.after, math.ceil(rank * self.rows), side="left"))
        return float(self.left[place]), float(self.right[place])
