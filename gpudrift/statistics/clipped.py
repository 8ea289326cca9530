"""Statistics of values clipped at the fences of the reference: distance, spread, and what lies outside.

Pure functions of two count arrays, vectorised over columns, as those of :mod:`gpudrift.statistics.distances`; the bins
are those between the fences (:mod:`gpudrift.statistics.frames`), and what lies outside counts at the fence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.counts.profiles import ColumnProfile
from gpudrift.statistics import distances
from gpudrift.statistics.frames import Frame, points_of

__all__ = ["Clipped", "Moments", "centre_of", "clipped_moments", "clipped_wasserstein", "is_constant", "is_tame"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""Of a sum over bins, relative to the sum of the sizes: NumPy's of 3,072 terms are off by 3.4e-13 at most."""
NEGLIGIBLE = 1e-12
"""A standard deviation of less than this share of the mean is rounding."""


@dataclass(frozen=True, eq=False)
class Clipped:
    """The bins between the fences of some columns, side by side; missing bins are empty points of width zero.

    Parameters
    ----------
    counts, sums : pair of ndarray of int64, shape (columns, bins)
        Of the reference and of the current side.
    outside : pair of ndarray of int64, shape (columns, 2)
        Rows below the lower and above the upper fence, the infinities included.
    start, widths, offsets, units, slack : ndarray of float64, shape (columns, bins)
        See :class:`Frame`; widths and offsets are those of the part of a bin that lies within the data.
    points : ndarray of bool, shape (columns, bins)
    ends : ndarray of float64, shape (columns, 2)
        Where the fences lie.
    left : ndarray of bool, shape (columns, bins)
        Bins below the centre.
    core : ndarray of bool, shape (columns, bins)
        Bins of the centre's own cell.
    """

    counts: tuple[Integers, Integers]
    sums: tuple[Integers, Integers]
    outside: tuple[Integers, Integers]
    start: Floats
    widths: Floats
    offsets: Floats
    units: Floats
    slack: Floats
    points: npt.NDArray[np.bool_]
    ends: Floats
    left: npt.NDArray[np.bool_]
    core: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: Sequence[tuple[ColumnProfile, ColumnProfile]], frames: Sequence[Frame]) -> Clipped:
        rows, bins = len(pairs), max(frame.bins for frame in frames)
        counts = (np.zeros((rows, bins), np.int64), np.zeros((rows, bins), np.int64))
        sums = (np.zeros((rows, bins), np.int64), np.zeros((rows, bins), np.int64))
        outside = (np.zeros((rows, 2), np.int64), np.zeros((rows, 2), np.int64))
        start, widths, offsets, units, slack = (np.zeros((rows, bins)) for _ in range(5))
        points, ends = np.ones((rows, bins), np.bool_), np.zeros((rows, 2))
        left, core = np.zeros((rows, bins), np.bool_), np.zeros((rows, bins), np.bool_)
        for row, (pair, frame) in enumerate(zip(pairs, frames, strict=True)):
            own, inside = slice(0, frame.bins), slice(frame.low, frame.high)
            for side, one in enumerate(pair):
                counts[side][row, own], sums[side][row, own] = one.counts[inside], one.sums[inside]
                if not is_tame(one, frame):
                    below, above = one.counts[: frame.low].sum(), one.counts[frame.high :].sum()
                    outside[side][row] = below + one.special["-inf"], above + one.special["+inf"]
            start[row, own], widths[row, own], units[row, own] = frame.start, frame.widths, frame.units
            slack[row, own], points[row, own], ends[row] = frame.slack, points_of(*pair)[inside], frame.ends
            left[row, : frame.centre - frame.low] = True
            core[row, max(frame.core[0] - frame.low, 0) : frame.core[1] - frame.low] = True
            _cut_to_the_data(pair, frame, outside[0][row] + outside[1][row], widths[row], offsets[row])
        return cls(counts, sums, outside, start, widths, offsets, units, slack, points, ends, left, core)

    @property
    def apart(self) -> tuple[Integers, Integers]:
        """Rows of each column on either side that are not in the centre's own cell."""
        held = [np.where(self.core, counts, 0).sum(-1) for counts in self.counts]
        return self.rows[0] - held[0], self.rows[1] - held[1]

    @property
    def rows(self) -> tuple[Integers, Integers]:
        """Rows of each column on either side, those outside included."""
        made = [counts.sum(-1) + outside.sum(-1) for counts, outside in zip(self.counts, self.outside, strict=True)]
        return made[0], made[1]


def is_tame(side: ColumnProfile, frame: Frame) -> bool:
    """Whether no row of a side lies outside of the fences."""
    if side.special["-inf"] or side.special["+inf"] or not frame.bins:
        return False
    edges = side.column.edges
    assert edges is not None
    if side.low is None or side.high is None:
        return True
    last = frame.high == edges.size - 1  # the last bin is closed
    return bool(side.low >= edges[frame.low] and (side.high < edges[frame.high] or last))


def _cut_to_the_data(
    pair: tuple[ColumnProfile, ColumnProfile], frame: Frame, outside: Integers, widths: Floats, offsets: Floats
) -> None:
    """Let the outermost bins with rows end at the data, where nothing lies outside; in place.

    Without this a value beyond a user's last edge would lie somewhere in a bin as wide as all numbers.
    """
    column = pair[0].column
    edges = column.edges
    assert edges is not None
    occupied = np.flatnonzero(pair[0].counts[frame.low : frame.high] + pair[1].counts[frame.low : frame.high])
    if not occupied.size:
        return
    first, last = int(occupied[0]), int(occupied[-1])
    if not outside[0]:
        low = min(side.low for side in pair if side.low is not None)
        begin = _distance(low, edges[frame.low + first], frame)
        offsets[first] = min(max(begin, 0.0), widths[first])
        widths[first] -= offsets[first]
    if not outside[1]:
        high = max(side.high for side in pair if side.high is not None)
        end = _distance(high, edges[frame.low + last], frame)
        widths[last] = min(max(end - offsets[last], 0.0), widths[last])


def _distance(value: float, edge: float, frame: Frame) -> float:
    """``value - edge`` in the unit of the frame, rounded once."""
    return float(np.ldexp(np.longdouble(value) - np.longdouble(edge), -frame.exponent))


def clipped_wasserstein(clipped: Clipped) -> tuple[Floats, Floats, Floats]:
    """Wasserstein distance of the clipped values, in the unit of the frames: value, low, high."""
    return distances.wasserstein(
        *clipped.counts,
        *clipped.sums,
        clipped.widths,
        clipped.offsets,
        clipped.units,
        clipped.slack,
        clipped.points,
        *clipped.outside,
    )


def is_constant(std: Any, mean: Any, centre: float) -> Any:
    """Whether a standard deviation is none, or rounding beside the mean, which is measured from the centre."""
    return (std == 0.0) | (std < NEGLIGIBLE * abs(mean + centre))


def centre_of(reference: ColumnProfile, frame: Frame) -> float:
    """The centre in the unit of the frame; 0 where that is so large that it does not matter."""
    assert reference.column.edges is not None
    unit = math.ldexp(1.0, -frame.exponent) if frame.exponent < 1000 else 0.0
    return float(reference.column.edges[frame.centre]) * unit


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the clipped values of one side, in the unit of the frames; arrays of shape (columns,) unless said otherwise.

    Parameters
    ----------
    mean : ndarray of float64
        Measured from the centre.
    spread, spread_low, spread_high : ndarray of float64
        Mean absolute deviation from the centre of the rows that do not lie in its own cell, and what it certainly lies
        between. Of a flag that is set in one row of a hundred it does not depend on how many are.
    std, std_low, std_high : ndarray of float64
        Population standard deviation, and what it certainly lies between.
    totals : ndarray of float64, shape (columns, bins)
        Sum of the distances from the centre of the rows of each bin.
    """

    mean: Floats
    spread: Floats
    spread_low: Floats
    spread_high: Floats
    std: Floats
    std_low: Floats
    std_high: Floats
    totals: Floats


def clipped_moments(clipped: Clipped, side: int) -> Moments:
    """Moments of the reference (side 0) or of the current side (1); NaN where it has no row.

    The mean of a bin is known to half its slack; how its rows are spread around that is not: between not at all and
    all at the bin's ends. The estimate takes them as even.
    """
    counts, sums, outside = clipped.counts[side], clipped.sums[side], clipped.outside[side]
    n = clipped.rows[side].astype(np.float64)
    half = np.minimum(0.5 * clipped.slack, 0.5 * clipped.widths)
    residuals = sums * clipped.units + counts * half
    totals = counts * clipped.start + residuals
    ends = outside * clipped.ends
    unsure = counts * half
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (totals.sum(-1) + ends.sum(-1)) / n
        size = np.where(clipped.core, 0.0, np.where(clipped.left, -totals, totals))
        spread = size.sum(-1) + np.abs(ends).sum(-1)
        apart_rows = clipped.apart[side].astype(np.float64)
        sizes = counts * (np.abs(clipped.start) + clipped.widths)  # what the parts of a total were rounded by
        off = unsure.sum(-1) + ROUNDING * (sizes.sum(-1) + np.abs(ends).sum(-1))
        around = np.where(counts > 0, totals / np.maximum(counts, 1), 0.0)
        squares = (totals * around).sum(-1) + (ends * clipped.ends).sum(-1)
        between = np.maximum(squares / n - mean * mean, 0.0)
        offset = np.clip(around - clipped.start, 0.0, clipped.widths + clipped.offsets)
        room = np.where(clipped.points, 0.0, np.maximum(offset - clipped.offsets, 0.0))
        room = room * np.maximum(clipped.offsets + clipped.widths - offset, 0.0)
        shares = counts / n[:, None]
        within = (shares * np.minimum(clipped.widths**2 / 12.0, room)).sum(-1)
        moved = half * shares
        most = (shares * room).sum(-1) * (1 + ROUNDING) + (moved * clipped.widths).sum(-1)
        apart = np.abs(around - mean[:, None]) + half + (off / n)[:, None]
        doubt = 2.0 * (apart * (moved + shares * (off / n)[:, None])).sum(-1) + ROUNDING * squares / n
        std = np.sqrt(between + within)
        std_low = np.sqrt(np.maximum(between - doubt, 0.0))
        std_high = np.sqrt(between + doubt + most)
        return Moments(
            mean,
            spread / apart_rows,
            np.maximum(spread - off, 0.0) / apart_rows,
            (spread + off) / apart_rows,
            std,
            np.minimum(std_low, std),
            np.maximum(std_high, std),
            totals,
        )
