"""Halos: narrow bins around the frequent values of a real column, so that their rounding moves no shares.

The same price comes as float64 and as float32, the same tenth as ``k / 10`` and as ``k * 0.1``; without a halo the PSI
of such a pair was 9.4. Halos are bins beside the point bin of the value, so that what does not ask for shares still
sees the difference.

The size of a halo depends neither on the smallest nor on the largest row of the sample: fences end at halos, and one
freak row must not move a fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_REAL, SMALLEST_NORMAL, Edges

__all__ = ["FREQUENT_SHARE", "Halos", "distinct_values", "find_halos", "no_halos"]

FREQUENT_SHARE = 500
"""A value that repeats and holds one in so many rows has a halo."""
MOST_HALOS = 512
RELATIVE_SIZE = 1e-6
"""Of a halo: the float32 of a value is 6e-8 of it away."""
LEAST_ULPS = 4
"""A halo that cannot reach so far is none: ``3 * 0.1`` is one unit in the last place away from 0.3, sums are more."""

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Halos:
    """Frequent values, ascending, and what lies so close to them that it shares their cell: ``below <= x < above``.

    Parameters
    ----------
    values, below, above : ndarray of float64, shape (halos,)
        ``below < value < above``; no two halos touch.
    rows : ndarray of int64, shape (halos,)
        How often each value was sampled.
    """

    values: Reals
    below: Reals
    above: Reals
    rows: npt.NDArray[np.int64]

    def _at(self, which: npt.NDArray[Any]) -> Halos:
        return Halos(self.values[which], self.below[which], self.above[which], self.rows[which])

    def mirrored(self) -> Halos:
        """Those of the values with the other sign."""
        return Halos(-self.values[::-1], -self.above[::-1], -self.below[::-1], self.rows[::-1])

    def most_frequent(self, most: int) -> Halos:
        """At most so many of them, those of smaller values where two are as frequent."""
        most = max(min(most, MOST_HALOS), 0)
        if self.rows.size <= most:
            return self
        return self._at(np.sort(np.argsort(-self.rows, kind="stable")[:most]))

    def with_rows(self, least: float) -> Halos:
        """Those of values with at least so many rows."""
        return self._at(self.rows >= least)

    def cell_of(self, value: float) -> tuple[float, float] | None:
        """Ends of the halo that a value lies in."""
        at = int(np.searchsorted(self.below, value, side="right")) - 1
        if at < 0 or not value < self.above[at]:
            return None
        return float(self.below[at]), float(self.above[at])

    def value_of(self, value: float) -> float:
        """The frequent value in whose halo a value lies, or the value itself."""
        at = int(np.searchsorted(self.below, value, side="right")) - 1
        return float(self.values[at]) if at >= 0 and value < self.above[at] else value

    def put_into(self, edges: Edges) -> Edges:
        """Edges with the four of each halo, and none of their own between those.

        Parameters
        ----------
        edges : ndarray of float64, strictly increasing
            Those of the point bins of the values are among them.
        """
        if not self.values.size:
            return edges
        inside = np.zeros(edges.size + 1, np.int64)
        inside[np.searchsorted(edges, self.below, side="right")] += 1
        inside[np.searchsorted(edges, self.above)] -= 1
        kept = np.cumsum(inside)[:-1] == 0
        kept[np.searchsorted(edges, self.values)] = True
        kept[np.searchsorted(edges, self.ends_of_points())] = True
        put = np.concatenate([edges[kept], self.below, self.above])
        put.sort()
        return np.asarray(put[np.append(True, put[1:] != put[:-1])])

    def ends_of_points(self) -> Reals:
        """Where the point bin of each value ends; that of zero is a little wider."""
        return np.where(self.values == 0.0, SMALLEST_NORMAL, np.nextafter(self.values, np.inf))

    def positions(self, edges: Edges) -> npt.NDArray[np.int64]:
        """Positions of the ends among edges that hold them all; shape (halos, 2)."""
        return np.searchsorted(edges, np.stack([self.below, self.above], axis=1)).astype(np.int64)


def no_halos() -> Halos:
    """Of a column that has no frequent values."""
    nothing = np.zeros(0)
    return Halos(nothing, nothing, nothing, np.zeros(0, np.int64))


def distinct_values(ordered: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Distinct values of an ascending sample and how often each occurs."""
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.concatenate([starts, [ordered.size]])).astype(np.int64)


def find_halos(distinct: Reals, repeats: npt.NDArray[np.int64]) -> Halos:
    """Halos of all frequent values of a sample that is not empty.

    Each is a millionth of the value wide on either side (of the usual distance between neighbours where that is more:
    zero has no size of its own), but at most a quarter of the distance to the next sampled value and to zero.

    Parameters
    ----------
    distinct : ndarray of float64, ascending
    repeats : ndarray of int64
        As :func:`distinct_values` gives them.
    """
    size = int(repeats.sum())
    frequent = (repeats > 1) & (repeats * FREQUENT_SHARE >= size) | (distinct.size == 1)
    if not frequent.any():
        return no_halos()
    # One row at either end does not count as a neighbour: see the module's docstring.
    first = int(size > 2 and repeats[0] == 1)
    last = distinct.size - int(size > 2 and repeats[-1] == 1)
    known, wanted = distinct[first:last], np.flatnonzero(frequent[first:last])
    values = known[wanted]
    # Quarters: the difference of the largest floats is no float.
    quarters = np.diff(known / 4)
    room = np.minimum(np.append(np.inf, quarters)[wanted], np.append(quarters, np.inf)[wanted])
    room = np.minimum(room, np.where(values == 0.0, np.inf, np.abs(values) / 4))
    usual = 4 * RELATIVE_SIZE * float(np.median(quarters)) if quarters.size else 0.0
    wide = np.maximum(RELATIVE_SIZE * np.abs(values), usual)
    wide = np.where(wide == 0.0, RELATIVE_SIZE, wide)
    with np.errstate(over="ignore"):
        least = LEAST_ULPS * np.where(values == 0.0, SMALLEST_NORMAL, np.spacing(np.abs(values)))
    reach = np.minimum(np.maximum(wide, least), room)
    # Edges within the subnormal range are none.
    possible = (room >= least) & (np.abs(values) < LARGEST_REAL - reach)
    possible &= (values == 0.0) | (np.abs(values) - reach >= SMALLEST_NORMAL)
    values, reach, rows = values[possible], reach[possible], repeats[first:last][wanted[possible]]
    return Halos(values, values - reach, values + reach, rows)
