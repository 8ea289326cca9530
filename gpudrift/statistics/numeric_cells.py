"""Which fine bins share a cell where shares are compared: values that are frequent, and ranks of equal mass.

A value has a cell of its own where it stands out: it holds 1 % of the reference and far more than its neighbours do, so
that it is no chance of the sample. Of whole numbers from 0 to 119 each holds about 1 % of any 10,000 rows, those that
happen to hold more would all have cells that are too full, and PSI would be above its noise floor in 7 % of tables
without drift where 0.25 % were promised. What holds much without standing out is cut by ranks like everything else.

Rows within the halo of a frequent value belong to its cell: as float32, as a decimal or computed in another order it
is the same value.

Cells hold at least so many rows on both sides that noise does not drown them: with few rows there are fewer ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import Column
from gpudrift.counts.profiles import ColumnProfile
from gpudrift.statistics import distances
from gpudrift.statistics.summaries import natural_values

__all__ = ["JS_RANKS", "PSI_RANKS", "CellEdges", "cell_counts", "cell_cuts", "neighbours", "standing_out"]

PSI_RANKS, JS_RANKS = 10, 32
ROWS_PER_RANK, FEWEST_RANKS = 20, 3
"""Expected on the smaller side; with fewer rows there are fewer ranks. (At 120 rows a side and level 0.01 PSI finds a
shift of half a standard deviation in 63 % with six ranks, in 26 % with ten; two ranks are blind to scale.)"""
OWN_SHARE = 100
"""A value with a cell of its own holds one in so many rows of the reference at least ..."""
ROWS_PER_VALUE = 5
"""... and is expected in so many rows of either side."""
NEIGHBOURS, DEVIATIONS = 3, 5.0
"""It stands out from so many bins with rows on either side: from their median by so many of its standard deviations."""

Integers = npt.NDArray[np.int64]


def cell_cuts(reference: ColumnProfile, smaller: int, ranks: int) -> Integers:
    """Positions of the edges between the cells of a numeric column.

    Parameters
    ----------
    reference : ColumnProfile
        With at least one value.
    smaller : int
        Rows with a value on the side that has fewer.
    ranks : int
        Of cells of equal mass where there are rows enough.
    """
    ranks = min(max(smaller // ROWS_PER_RANK, FEWEST_RANKS), ranks)
    least = -(-ROWS_PER_VALUE * reference.present // max(smaller, 1))

    def make() -> Integers:
        values, counts = standing_out(reference)
        own = values[counts >= max(least, 1)]
        ends = np.array([reference.special["-inf"], reference.special["+inf"]], np.int64)
        return distances.coarse_cuts(reference.counts, ends, own, _allowed(reference.column), ranks)

    # How many values are expected often enough changes with the smaller side, but not the ranks of most windows.
    few = standing_out(reference)[1] < max(least, 1)
    cuts: Integers = reference.once(f"cuts {ranks} {int(few.sum())}", make)
    return cuts


def cell_counts(side: ColumnProfile, cuts: Integers) -> Integers:
    """Rows of a side in each cell; -inf counts in the first one, +inf in the last."""
    cells = np.add.reduceat(side.counts, cuts[:-1])
    cells[0] += side.special["-inf"]
    cells[-1] += side.special["+inf"]
    return cells


def _allowed(column: Column) -> Integers:
    """Edges within the fences and inside of no halo; of a user's own bins those that the user gave."""
    assert column.edges is not None
    allowed = np.ones(column.edges.size, np.bool_)
    if column.cuts is not None:
        allowed[1:-1] = False
        allowed[column.cuts] = True
    if column.halos is not None:
        for first, last in column.halos.tolist():
            allowed[first + 1 : last] = False
    if column.marks is not None:  # one row must not have a cell of its own for lying far outside
        low, high = np.searchsorted(column.edges, np.array([column.marks[0], column.marks[-1]], column.edges.dtype))
        allowed[1:low] = False
        allowed[high + 1 : -1] = False
    return np.flatnonzero(allowed).astype(np.int64)


def standing_out(side: ColumnProfile) -> tuple[Integers, Integers]:
    """Values that stand out on a side: first and last edge of their cells, and their rows."""
    made: tuple[Integers, Integers] = side.once("frequent", lambda: _standing_out(side))
    return made


def _standing_out(reference: ColumnProfile) -> tuple[Integers, Integers]:
    column, counts = reference.column, reference.counts
    points = np.flatnonzero(column.point_bins & (counts * OWN_SHARE >= reference.present) & (counts > 0))
    values = np.stack([points, points + 1], axis=1)
    if column.halos is not None and column.halos.size:
        halos = column.halos
        held = np.searchsorted(halos[:, 0], points, side="right") - 1
        alone = (held < 0) | (points >= halos[np.maximum(held, 0), 1])
        before = np.concatenate([[0], np.cumsum(counts)])
        inside = before[halos[:, 1]] - before[halos[:, 0]]
        heavy = halos[(inside * OWN_SHARE >= reference.present) & (inside > 0)]
        values = np.concatenate([values[alone], heavy])
        values = values[np.argsort(values[:, 0], kind="stable")]
    if column.cuts is not None:
        values = values[np.isin(values, _allowed(column)).all(axis=1)]
    if not values.size:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    before = np.concatenate([[0], np.cumsum(counts)])
    rows = before[values[:, 1]] - before[values[:, 0]]
    # What has fewer cannot stand out: of 100 rows each has 1 %, and their medians took most of a comparison's time.
    values, rows = values[rows > DEVIATIONS], rows[rows > DEVIATIONS]
    usual = _usual(counts, values)
    stands_out = rows - usual > DEVIATIONS * np.sqrt(np.maximum(usual, 1.0))
    return values[stands_out].astype(np.int64), rows[stands_out]


def _usual(counts: Integers, values: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Medians of the rows of the nearest bins with rows on either side of each value."""
    near, number = neighbours(counts, values)
    middle = np.take_along_axis(near, np.stack([np.maximum(number - 1, 0) // 2, number // 2], axis=1), axis=1)
    return np.where(number > 0, middle.mean(axis=1), 0.0)


def neighbours(counts: Integers, values: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Rows of the nearest bins with rows on either side of each value, in ascending order, and how many there are.

    Parameters
    ----------
    counts : ndarray of int64, shape (bins,)
    values : ndarray of int64, shape (values, 2)
        First and last edge of each.

    Returns
    -------
    near : ndarray of float64, shape (values, 6)
        Those that are not there are infinite.
    number : ndarray of int64, shape (values,)
    """
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return np.full((len(values), 2 * NEIGHBOURS), np.inf), np.zeros(len(values), np.intp)
    left, right = np.searchsorted(occupied, values.T)
    steps = np.arange(NEIGHBOURS)
    places = np.concatenate([left[:, None] - 1 - steps, right[:, None] + steps], axis=1)
    there = (places >= 0) & (places < occupied.size)
    near = np.where(there, counts[occupied[places.clip(0, occupied.size - 1)]], np.inf)
    near.sort(axis=1)
    return near, there.sum(axis=1)


class CellEdges(Sequence[Any]):
    """Edges of cells in the column's own values, made when they are looked at: mostly never."""

    def __init__(self, column: Column, cuts: Integers) -> None:
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
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        return repr(self._values)
