"""Where the values of a column are clipped before they are compared, and how far its bins lie from its centre.

One freak row of two thousand must not make a drift, nor hide one in a reference that happens to hold it. So the
statistics that decide are of values clipped at the *fences* of the reference: its inner 99 % extended by its own width
on either side. Fences, the centre (the median) and the two outer parts are edges, chosen once when the schema is
fitted (:mod:`gpudrift.fitting.marks`), so all of it is counted exactly and is the same on the fine and the coarse grid.

Profiles made by older versions carry no marks. They are compared all the same, with the edges nearest to where the
reference's counts say that they should be, and the comparison says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_NORMAL, Column, Edges
from gpudrift.counts.profiles import ColumnProfile

__all__ = [
    "Frame",
    "fences_hold_the_largest",
    "frame_of",
    "has_subnormals",
    "points_of",
    "residual_slack",
    "zero_bin",
]

FEWEST_CUT, CUT_SHARE, MOST_CUT = 5, 0.005, 20
"""Rows cut from each end of a reference: half a percent, five at least, a twentieth at most."""
ROOM = 500
"""Powers of two that a fence may lie beyond the reference's own values; their squares are floats, too."""
OUTER_SHARE, OUTER_ROWS, MOST_OUTER = 0.05, 10, 5
"""Of the reference, in each of its two outer parts: a twentieth, ten rows at least, a fifth at most."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a column between its fences, in units of ``2**exponent`` and measured from its centre.

    Parameters
    ----------
    low, below, centre, above, high : int
        Positions of the edges: the lower fence, the end of the lower outer part, the centre, the begin of the upper
        outer part, and the upper fence.
    start, widths, units, slack : ndarray of float64, shape (high - low,)
        Of each bin between the fences: where it begins, how wide it is, what 1 of a residual sum is worth, and the
        most that one row's residual was cut by.
    core : (int, int)
        Positions of the edges around what counts as the centre, where that is a frequent value; else twice that of the
        centre.
    ends : (float, float)
        Where the fences lie.
    exponent : int
    fitted : bool
        Whether the marks were chosen when the column was fitted.
    """

    low: int
    below: int
    centre: int
    above: int
    high: int
    start: Floats
    widths: Floats
    units: Floats
    slack: Floats
    core: tuple[int, int]
    ends: tuple[float, float]
    exponent: int
    fitted: bool

    @property
    def bins(self) -> int:
        return self.high - self.low


def frame_of(reference: ColumnProfile) -> Frame:
    """The frame of a numeric column; made once for each reference."""
    made: Frame = reference.once("frame", lambda: _frame(reference))
    return made


def zero_bin(column: Column) -> int:
    """The bin of 0."""
    assert column.edges is not None
    return int(np.searchsorted(column.edges, 0, side="right")) - 1


def has_subnormals(side: ColumnProfile) -> bool:
    """Whether some values are known to be so small that they were counted as 0: the smallest or the largest are.

    Others among larger values are taken for 0 without being seen.
    """
    if side.column.family != "real":
        return False
    return any(end is not None and 0.0 < abs(end) < SMALLEST_NORMAL for end in (side.low, side.high))


def fences_hold_the_largest(column: Column) -> bool:
    """Whether 2**63 - 1, as which larger integers are counted, lies between the fences."""
    return column.marks is None or bool(column.marks[-1] == LARGEST_INTEGER)


def points_of(reference: ColumnProfile, current: ColumnProfile) -> npt.NDArray[np.bool_]:
    """The bins that hold a single value: that of 0 does not where it has subnormal numbers, too."""
    points = reference.column.point_bins
    if has_subnormals(reference) or has_subnormals(current):
        points = points.copy()
        points[zero_bin(reference.column)] = False
    return points


def residual_slack(side: ColumnProfile) -> Floats:
    """The most that a row's distance from its bin's lower edge was cut by; shape (bins,)."""
    column = side.column
    units, points = column.residual_units, column.point_bins
    cut = units if column.family == "real" else units - 1.0
    return np.where(units > 0, cut, np.where(points, 0.0, column.widths))


def _frame(reference: ColumnProfile) -> Frame:
    column = reference.column
    edges = column.edges
    assert edges is not None
    marks = column.marks
    if marks is not None:
        low, below, begin, centre, end, above, high = np.searchsorted(edges, np.array(marks, edges.dtype)).tolist()
    else:
        low, below, centre, above, high = _nearest_marks(reference, edges)
        begin, end = centre, centre + int(centre < column.bins and bool(column.point_bins[centre]))
    inside = slice(low, high)
    # Longdouble holds every int64, and differences of the largest floats; both are rounded once.
    middle = np.longdouble(edges[centre])
    start = edges[low : high + 1].astype(np.longdouble) - middle
    exponent = _exponent(reference, middle, float(np.frexp(np.maximum(-start[0], start[-1]))[1]))
    distances = np.ldexp(start, -exponent).astype(np.float64)
    widths, units, slack = (
        np.ldexp(part[inside].astype(np.longdouble), -exponent).astype(np.float64)
        for part in (column.widths, column.residual_units, residual_slack(reference))
    )
    ends = float(distances[0]), float(distances[-1])
    return Frame(
        low,
        below,
        centre,
        above,
        high,
        distances[:-1],
        widths,
        units,
        slack,
        (begin, end),
        ends,
        exponent,
        marks is not None,
    )


def _exponent(reference: ColumnProfile, middle: np.longdouble, widest: float) -> int:
    """Such that the reference's values have a size of about 1, and the fences lie within float64 all the same."""
    ends = [end for end in (reference.low, reference.high) if end is not None]
    reach = max((abs(np.longdouble(end) - middle) for end in ends), default=np.longdouble(0))
    own = float(np.frexp(reach)[1]) if reach > 0 else -np.inf
    return int(min(max(own, widest - ROOM), widest))


def _nearest_marks(reference: ColumnProfile, edges: Edges) -> tuple[int, int, int, int, int]:
    """What the marks would be, as the nearest edges outside of them, by the reference's counts alone."""
    counts = reference.counts
    rows = int(counts.sum())
    bins = counts.size
    if rows == 0:
        return 0, 0, bins // 2, bins, bins
    before = np.cumsum(counts) - counts
    outer = max(int(OUTER_SHARE * rows), min(OUTER_ROWS, rows // MOST_OUTER))
    middle = _bin_of(before, counts, rows // 2)
    below = _bin_of(before, counts, outer)
    above = _bin_of(before, counts, rows - 1 - outer) + 1
    mode = int(np.argmax(counts))
    others = counts.copy()
    has_mode = bool(reference.column.point_bins[mode] and 2 * counts[mode] >= rows)
    if has_mode:
        others[mode] = 0
    first, last = (mode, mode) if has_mode else (middle, middle)
    left = int(others.sum())
    if left > has_mode:
        cut = max(int(CUT_SHARE * left), min(FEWEST_CUT, left // MOST_CUT))
        others_before = np.cumsum(others) - others
        first = min(first, _bin_of(others_before, others, cut))
        last = max(last, _bin_of(others_before, others, left - 1 - cut))
    start, stop = np.longdouble(edges[first]), np.longdouble(edges[last + 1])
    if first == last:  # one value only: its own cell
        return first, min(max(below, first), first), first, max(min(above, last + 1), last + 1), last + 1
    width = stop - start
    wide = edges.astype(np.longdouble)
    low = max(int(np.searchsorted(wide, start - width, side="right")) - 1, 0)
    high = min(int(np.searchsorted(wide, stop + width, side="left")), edges.size - 1)
    return low, min(max(below, low), middle), middle, max(min(above, high), middle), high


def _bin_of(before: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], rank: int) -> int:
    """The bin in which the row of this rank lies; ranks begin at 0."""
    return int(np.searchsorted(before + counts, rank, side="right"))
