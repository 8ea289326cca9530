"""Marks: seven edges that describe the sample a column was fitted to: fences, tails, centre and core.

Distances are taken of values clipped at the fences: one freak row of 2,000 made them 'major', and in the reference it
hid real shifts. So no single row may set a fence. Fences are the inner range of the rows, extended by its own width on
either side. Where one value holds half of the rows and more, the range is that of the others, joined with it;
otherwise fences would appear and vanish as its share passes 99 %.

Rows below the lower tail, and those from the upper tail on, are about a twentieth of the sample each, of few rows
about ten but at most a fifth, and the cut lies in the middle between two values: were it beside the largest of five
ratings, a mean of ratings of 5.01 would lie beyond it. Where a frequent value leaves no such part, as of five ratings,
the tail begins at the fence.

The core is what counts as the centre where that is a frequent value: it ends halfway to the rows next to it, some of
which are passed over, so that no single row decides. How far the rows outside of it lie from the centre does not depend
on how many they are, nor on whether 80 was ordered or 80.3 was measured.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_INTEGER, LARGEST_REAL, SMALLEST_NORMAL, Edges, edge_limits
from gpudrift.fitting.halos import FREQUENT_SHARE, Halos

__all__ = ["Marks", "fit_marks", "rounded_marks"]

Marks = tuple[Any, ...]
"""Lower fence, lower tail, begin of the core, centre, end of the core, upper tail, upper fence; ascending."""

CUT_SHARE, CUT_ROWS = 200, 5
"""The inner range leaves out one in 200 rows at either end, but 5 where they are less than a twentieth of the rows."""
TAIL_SHARE, TAIL_ROWS, MOST_TAIL_SHARE = 20, 10, 5
"""A tail is one in 20 rows, but ten where those are less than a fifth. (Of one row of 30 and five of 100 in a tail
chance has so few outcomes that a floor at 5 % was passed by 0.6 %, one at 1 % by 0.2 %.)"""
FEWEST, FARTHEST = 5, 2.0**40
"""Fewer rows say nothing of where others lie: the fences are so many times their range away. (Three rows lie within any
fences that are made of them, and 1.7 % of tables of 1,000 rows without drift lay beyond where 0.04 % were allowed.)"""
FEW_ROWS = 20
"""Of fewer rows none are cut; the one that lies farthest from the centre is left out instead."""


def fit_marks(ordered: npt.NDArray[Any], family: str, halos: Halos) -> Marks:
    """Marks of a sample that is not empty.

    Parameters
    ----------
    ordered : ndarray of float64 or int64, ascending
        Without subnormal numbers, which are no edges.
    family : {"real", "integer"}
    halos : Halos
        Of all frequent values; marks lie at their ends, or, the centre, at their value.
    """
    middle = ordered[ordered.size // 2].item()
    centre = halos.value_of(middle) if family == "real" else middle
    low, high = _fences(ordered, family, halos)
    low, high = min(low, centre), max(high, centre)
    above = _tail(ordered, family, halos)
    # ~x is -1 - x, of any int64: the smallest has no opposite.
    mirrored = -ordered[::-1] if family == "real" else np.invert(ordered[::-1])
    below = _tail(mirrored, family, halos.mirrored())
    upper = high if above is None else _between(*above, family, halos)
    lower = low
    if below is not None:
        first, second = (-x if family == "real" else ~x for x in below[::-1])
        lower = _between(first, second, family, halos)
    begin, end = _core(ordered, family, halos, centre, (low, high))
    return low, min(max(low, lower), begin), begin, centre, end, max(min(high, upper), end), high


def _tail(ordered: npt.NDArray[Any], family: str, halos: Halos) -> tuple[Any, Any] | None:
    """The two values between which the upper tail begins."""
    size = ordered.size
    outer = max(size // TAIL_SHARE, min(TAIL_ROWS, size // MOST_TAIL_SHARE))
    cell = _cell(ordered[size - 1 - outer].item(), family, halos)
    first, stop = _rows_of(ordered, cell)
    if outer and 2 * (size - stop) >= outer:
        # One row alone may lie anywhere: the tail begins behind the value before it.
        return ordered[stop - 1].item(), ordered[stop].item() if size - stop > 1 else cell[1]
    if first and size - first <= 2 * outer:
        return ordered[first - 1].item(), ordered[first].item()
    return None


def _core(
    ordered: npt.NDArray[Any], family: str, halos: Halos, centre: Any, fences: tuple[Any, Any]
) -> tuple[Any, Any]:
    """Where the rows that count as the centre begin and end; nowhere, where it is no frequent value."""
    size = ordered.size
    first, stop = _rows_of(ordered, _cell(centre, family, halos))
    if stop - first < 2 or (stop - first) * FREQUENT_SHARE < size:
        return centre, centre
    passed = max(size // CUT_SHARE, min(CUT_ROWS, size // FEW_ROWS), 1)
    ahead, behind = first - 1 - passed, stop + passed
    begin, end = fences
    if ahead > 0:  # the outermost row may lie anywhere
        begin = _between(ordered[ahead].item(), centre, family, halos)
    if behind < size - 1:
        end = _between(centre, ordered[behind].item(), family, halos)
    return max(begin, fences[0]), min(end, fences[1])


def _between(low: Any, high: Any, family: str, halos: Halos) -> Any:
    """An edge above the one value and at most at the other, in the middle if that is in no halo."""
    if family == "integer":
        return low + (high - low + 1) // 2
    middle = _outwards(low / 2 + high / 2, 1) + 0.0
    middle = middle if low < middle <= high else high
    around = halos.cell_of(middle)
    return middle if around is None else around[0] if around[0] >= low else around[1]


def rounded_marks(marks: Marks, edges: Edges) -> Marks:
    """Marks that are edges: outwards to the next one, the centre downwards."""
    down = edges[np.searchsorted(edges, np.array(marks[:4], edges.dtype), side="right") - 1].tolist()
    up = edges[np.searchsorted(edges, np.array(marks[4:], edges.dtype))].tolist()
    return (*down, *up)


def _cell(value: Any, family: str, halos: Halos) -> tuple[Any, Any]:
    """Ends of what counts as one value: of its halo, or of its point bin."""
    if family == "integer":
        return value, min(value + 1, LARGEST_INTEGER)
    return halos.cell_of(value) or (value, min(_outwards(math.nextafter(value, math.inf), 1), LARGEST_REAL))


def _fences(ordered: npt.NDArray[Any], family: str, halos: Halos) -> tuple[Any, Any]:
    if ordered.size < FEWEST:
        return _far_fences(ordered, family, halos)
    cell = _mode_cell(ordered, family, halos)
    if cell is None:
        # Of two rows neither is the odd one.
        middle = ordered[(ordered.size - 1) // 2].item(), ordered[ordered.size // 2].item()
        lowest, highest = _inner_range(ordered, middle if ordered.size > 2 else None)
    else:
        first, stop = _rows_of(ordered, cell)
        others = np.concatenate([ordered[:first], ordered[stop:]])
        if others.size < 2:
            return cell
        mode = ordered[(first + stop - 1) // 2].item()
        lowest, highest = _inner_range(others, (mode, mode))
        lowest, highest = min(lowest, mode), max(highest, mode)
    # Python's numbers: a difference of int64 is exact, one of floats may be infinite and is cut below.
    width = highest - lowest
    low, high = lowest - width, highest + width
    if cell is not None:
        low, high = min(low, cell[0]), max(high, cell[1])
    limits = edge_limits(family)
    low, high = max(low, limits[0]), min(high, limits[1])
    if family == "integer":
        return low, high
    return _clear_of_halos(_outwards(low, -1), _outwards(high, 1), halos)


def _far_fences(ordered: npt.NDArray[Any], family: str, halos: Halos) -> tuple[Any, Any]:
    """Fences that hardly anything is beyond."""
    first, last = float(ordered[0]), float(ordered[-1])
    reach = 2.0 * (last / 2.0 - first / 2.0) or max(abs(first) * 2.0**-20, 1.0)
    low, high = edge_limits(family)
    if reach > LARGEST_REAL / (2.0 * FARTHEST) or (family == "integer" and reach > 2.0**62 / FARTHEST):
        return low, high
    if family == "integer":
        steps = int(reach * FARTHEST)
        return max(int(ordered[0]) - steps, low), min(int(ordered[-1]) + steps, high)
    away = reach * FARTHEST
    return _clear_of_halos(_outwards(max(first - away, low), -1), _outwards(min(last + away, high), 1), halos)


def _mode_cell(ordered: npt.NDArray[Any], family: str, halos: Halos) -> tuple[Any, Any] | None:
    """Ends of the value that holds half of the rows and more, with its halo; None where there is none."""
    size = ordered.size
    for at in ((size - 1) // 2, size // 2):
        cell = _cell(ordered[at].item(), family, halos)
        first, stop = _rows_of(ordered, cell)
        if 2 * (stop - first) >= size and (stop - first > 1 or size == 1):
            return cell
    return None


def _rows_of(ordered: npt.NDArray[Any], cell: tuple[Any, Any]) -> tuple[int, int]:
    ends = np.array(cell, ordered.dtype)
    first, stop = np.searchsorted(ordered, ends).tolist()
    return first, stop if cell[0] < cell[1] else ordered.size  # behind the largest number of its kind is no edge


def _inner_range(rows: npt.NDArray[Any], middle: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """Lowest and highest row but for some at the ends, so that no single row decides.

    Parameters
    ----------
    rows : ndarray, ascending
        Two at least.
    middle : tuple of two numbers, or None
        Of few rows the one farthest from here is left out: from the medians, or twice the mode. With None all are kept.
    """
    size = rows.size
    cut = max(size // CUT_SHARE, min(CUT_ROWS, size // FEW_ROWS))
    first, last = cut, size - 1 - cut
    if size < FEW_ROWS and middle is not None:
        # Halves: the difference of the largest floats is no float.
        ahead, behind = (
            (middle[0] - rows[0].item(), rows[-1].item() - middle[1])
            if rows.dtype == np.int64
            else (middle[0] / 2 - rows[0].item() / 2, rows[-1].item() / 2 - middle[1] / 2)
        )
        first += ahead > behind
        last -= behind > ahead
    return rows[first].item(), rows[last].item()


def _outwards(edge: float, side: int) -> float:
    """The next possible edge: numbers within the subnormal range are none."""
    if edge == 0.0 or abs(edge) >= SMALLEST_NORMAL:
        return edge
    return (SMALLEST_NORMAL if edge > 0 else 0.0) if side > 0 else (0.0 if edge > 0 else -SMALLEST_NORMAL)


def _clear_of_halos(low: float, high: float, halos: Halos) -> tuple[float, float]:
    """Fences at the ends of the halos that they would cut: rounding must move no row across a fence."""
    around_low, around_high = halos.cell_of(low), halos.cell_of(high)
    if around_high is not None and around_high[0] == high:
        around_high = None
    return around_low[0] if around_low else low, around_high[1] if around_high else high
