"""The coarse grid: a column's bins for windows and segments, of which there may be thousands.

At most 64 slots a column, their edges some of the fine ones, chosen by what the sample holds of each fine bin. In the
order of precedence: the bounds of rules, the marks, both edges of values that hold 1 % and more (they are bins of their
own in a PSI too; a halo is one bin with its value), a few steps out into both tails (a unit error of a thousand must be
measured, not clipped), and ranks of equal mass of everything else. Texts keep their most frequent values and a smaller
sketch of the others.

Edges that a user gave are kept as they are where there is room, and thinned like the fitted ones where there is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import MARKS, SPECIAL_SLOTS, Column, Edges, complete_edges
from gpudrift.fitting.edges import moved_cuts, moved_halos
from gpudrift.fitting.marks import rounded_marks

__all__ = ["COARSE_SKETCH", "COARSE_SLOTS", "coarse_categories", "coarse_column"]

COARSE_SLOTS = 64
"""Most slots of a column."""
COARSE_SKETCH = 256
"""Other values that a categorical column keeps in each window and segment: 20 kB for texts of 50 bytes."""
MOST_EDGES = COARSE_SLOTS - len(SPECIAL_SLOTS) + 1
HEAVY_SHARE = 100
"""A value that holds one in so many rows of the sample is a bin of its own."""
TAIL_STEPS = (0, 2, 5, 10, 20, 40)
"""Octaves beyond the outermost ranks, in units of the distance between the middle and those."""

FOR_RANKS = 32
"""Edges kept for ranks where no value is heavy."""
OUTER_SHARE = 64
"""Ranks end at one in so many rows; beyond begin the tails."""


def coarse_column(column: Column, ordered: npt.NDArray[Any], bounds: npt.ArrayLike = ()) -> Column:
    """The coarse form of a numeric column: at most 60 of its edges, and what they keep of its halos.

    Parameters
    ----------
    column : Column
        On the fine grid; see :func:`gpudrift.fitting.edges.fit_grid`.
    ordered : ndarray of float64 or int64, ascending
        The finite sampled values.
    bounds : array_like
        Edges to keep before all others, as far as they are fine ones.

    Returns
    -------
    Column
        The column itself where it has no more edges.
    """
    fine = column.edges
    assert fine is not None
    if fine.size <= MOST_EDGES:
        return column
    limits = complete_edges([], column.family)
    if not np.isin(limits, fine).all():
        raise ValueError("the fine edges lack the limits or zero's bin")
    chosen = set(limits.tolist())
    wanted = np.asarray(bounds, fine.dtype)
    _take(chosen, wanted[np.isin(wanted, fine)].tolist())
    marks = column.marks
    if marks is not None:
        _take(chosen, list(marks))
        marks = rounded_marks(marks, np.array(sorted(chosen), fine.dtype))
    if ordered.size == 0:
        _take(chosen, fine[np.linspace(0, fine.size - 1, MOST_EDGES).astype(np.int64)].tolist())
    else:
        _take_by_rows(chosen, column, ordered)
    edges = np.array(sorted(chosen), fine.dtype)
    return replace(column, edges=edges, marks=marks, halos=moved_halos(column, edges), cuts=moved_cuts(column, edges))


def _take_by_rows(chosen: set[Any], column: Column, ordered: npt.NDArray[Any]) -> None:
    """Fill up with the edges of heavy values, of the tails and of ranks.

    ``chosen`` are the limits, bounds and marks. Marks stand for some of the tails and ranks, so that they take no room
    from heavy values.
    """
    assert column.edges is not None
    whole = _without_inner_edges(column)
    counts = _counts(ordered, whole)
    single = _single_values(counts, whole, ordered, column)
    heavy = [position for position in single if counts[position] * HEAVY_SHARE >= ordered.size]
    # Ranks get room by the share of rows that are theirs: a column of thirty whole numbers needs none.
    light = 1.0 - float(counts[heavy].sum()) / ordered.size if heavy else 1.0
    room = MOST_EDGES - 2 * len(TAIL_STEPS) - round(light * FOR_RANKS) + (0 if column.marks is None else MARKS)
    for position in heavy:
        if len(chosen | set(whole[position : position + 2].tolist())) <= min(room, MOST_EDGES):
            _take(chosen, whole[position : position + 2].tolist())
    own = np.array([whole[p] in chosen and whole[p + 1] in chosen for p in heavy], np.bool_)
    rest = counts.copy()
    rest[np.array(heavy, np.int64)[own] if heavy else []] = 0
    _take(chosen, _tail_edges(whole, ordered))
    _take_ranks(chosen, whole, rest)
    for position in single:  # there may be room for some that are not heavy
        if len(chosen) + 2 > MOST_EDGES:
            break
        _take(chosen, whole[position : position + 2].tolist())


def _counts(ordered: npt.NDArray[Any], edges: Edges) -> npt.NDArray[np.int64]:
    """Sampled rows of each bin; shape (bins,)."""
    before = np.append(np.searchsorted(ordered, edges[:-1]), ordered.size)
    return np.diff(before).astype(np.int64)


def _without_inner_edges(column: Column) -> Edges:
    """The edges of a column but for those inside a halo, so that what is chosen of them cuts none."""
    assert column.edges is not None
    if column.halos is None or not column.halos.size:
        return column.edges
    steps = np.zeros(column.edges.size, np.int64)
    steps[column.halos[:, 0] + 1] += 1
    steps[column.halos[:, 1]] -= 1
    inside = np.cumsum(steps) > 0
    return np.asarray(column.edges[~inside])


def _take(chosen: set[Any], edges: Sequence[Any]) -> None:
    """Add edges while there is room."""
    for edge in edges:
        if len(chosen) >= MOST_EDGES:
            return
        chosen.add(edge)


def _single_values(counts: npt.NDArray[np.int64], edges: Edges, ordered: npt.NDArray[Any], column: Column) -> list[int]:
    """Bins that hold rows of one value, or of one with its halo, and more than one; the heaviest first."""
    found = np.flatnonzero(counts > 1)
    found = found[found < edges.size - 2]  # the last bin is closed
    stop = np.cumsum(counts)[found]
    alike = ordered[stop - counts[found]] == ordered[stop - 1]
    if column.halos is not None and column.edges is not None:
        alike |= np.isin(edges[found], column.edges[column.halos[:, 0]])
    single = found[alike]
    return [int(position) for position in single[np.argsort(-counts[single], kind="stable")]]


def _tail_edges(fine: Edges, ordered: npt.NDArray[Any]) -> list[Any]:
    """Fine edges some octaves out, below and above in turn."""
    last = ordered.size - 1
    outer = ordered.size // OUTER_SHARE
    lowest, low, middle, high, highest = (
        float(ordered[at]) for at in (0, outer, ordered.size // 2, last - outer, last)
    )
    # Halves: the difference of the largest floats is no float. Most rows may be one value, and then a side has no
    # distance of its own: the other one's stands for it, or that of the farthest rows.
    ahead, behind = middle / 2 - low / 2, high / 2 - middle / 2
    farthest = max(middle / 2 - lowest / 2, highest / 2 - middle / 2)
    least = abs(middle) * 2.0**-20
    ahead, behind = (
        max(one or other or farthest or least or 0.5, least) for one, other in ((ahead, behind), (behind, ahead))
    )
    edges: list[Any] = []
    with np.errstate(over="ignore"):
        for step in TAIL_STEPS:
            below = middle - ahead * 2 * 2.0**step
            above = middle + behind * 2 * 2.0**step
            edges.append(fine[max(int(np.searchsorted(fine.astype(np.float64), below)) - 1, 0)].item())
            edges.append(fine[min(int(np.searchsorted(fine.astype(np.float64), above)), fine.size - 1)].item())
    return edges


def _take_ranks(chosen: set[Any], fine: Edges, rest: npt.NDArray[np.int64]) -> None:
    """Fill up with edges of equal mass: tens of ranks, so that deciles are among them, then as many as fit."""
    before = np.concatenate([[0], np.cumsum(rest)])
    total = int(before[-1])
    if total == 0:
        return
    room = MOST_EDGES - len(chosen)
    for ranks in dict.fromkeys((room // 10 * 10, room)):
        goals = [rank * total // ranks for rank in range(1, ranks)] if ranks > 1 else []
        at = np.searchsorted(before, goals, side="left")
        _take(chosen, [edge for edge in fine[at].tolist() if edge not in chosen])


def coarse_categories(column: Column) -> Column:
    """The coarse form of a categorical column: its most frequent values, and a smaller sketch."""
    most = COARSE_SLOTS - len(SPECIAL_SLOTS) - 1
    return replace(column, categories=column.categories[:most], sketch=COARSE_SKETCH)
