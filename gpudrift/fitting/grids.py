"""The coarse grid: a column's bins for windows and segments, of which there may be thousands.

At most 64 slots a column, their edges some of the fine ones, chosen by what the sample holds of each fine bin. In the
order of precedence: the bounds of rules, both edges of values that hold 1 % and more (they are bins of their own in a
PSI too), a few steps out into both tails (a unit error of a thousand must be measured, not clipped), and ranks of equal
mass of everything else. Texts keep their most frequent values and a smaller sketch of the others.

Edges that a user gave are kept as they are where there is room, and thinned like the fitted ones where there is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Edges, complete_edges

__all__ = ["COARSE_SKETCH", "COARSE_SLOTS", "coarse_categories", "coarse_edges"]

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


def coarse_edges(fine: Edges, ordered: npt.NDArray[Any], family: str, bounds: npt.ArrayLike = ()) -> Edges:
    """Some of the fine edges, at most 60: the coarse grid of a numeric column.

    Parameters
    ----------
    fine : ndarray of float64 or int64
        See :func:`gpudrift.fitting.edges.fit_edges`.
    ordered : ndarray, ascending
        The finite sampled values.
    family : {"real", "integer"}
    bounds : array_like
        Edges to keep before all others, as far as they are fine ones.

    Returns
    -------
    ndarray of float64 or int64
    """
    if fine.size <= MOST_EDGES:
        return fine
    chosen = set(complete_edges([], family).tolist())
    if not chosen <= set(fine.tolist()):
        raise ValueError("the fine edges lack the limits or zero's bin")
    _take(chosen, [edge for edge in np.asarray(bounds, fine.dtype).tolist() if edge in set(fine.tolist())])
    if ordered.size == 0:
        _take(chosen, fine[np.linspace(0, fine.size - 1, MOST_EDGES).astype(np.int64)].tolist())
        return np.array(sorted(chosen), fine.dtype)
    where = np.minimum(np.searchsorted(fine, ordered, side="right") - 1, fine.size - 2)
    counts = np.bincount(where, minlength=fine.size - 1)
    heavy = _heavy(counts, fine, ordered, where)
    # Ranks get room by the share of rows that are theirs: a column of thirty whole numbers needs none.
    light = 1.0 - float(counts[heavy].sum()) / ordered.size if heavy else 1.0
    room = MOST_EDGES - 2 * len(TAIL_STEPS) - round(light * FOR_RANKS)
    for position in heavy:
        if len(chosen) + 2 <= room:
            _take(chosen, fine[position : position + 2].tolist())
    own = np.array([fine[p] in chosen and fine[p + 1] in chosen for p in heavy], np.bool_)
    rest = counts.copy()
    rest[np.array(heavy, np.int64)[own] if heavy else []] = 0
    _take(chosen, _tail_edges(fine, counts))
    _take_ranks(chosen, fine, rest)
    return np.array(sorted(chosen), fine.dtype)


def _take(chosen: set[Any], edges: Sequence[Any]) -> None:
    """Add edges while there is room."""
    for edge in edges:
        if len(chosen) >= MOST_EDGES:
            return
        chosen.add(edge)


def _heavy(
    counts: npt.NDArray[np.int64], fine: Edges, ordered: npt.NDArray[Any], where: npt.NDArray[np.intp]
) -> list[int]:
    """Fine bins in which one value holds a hundredth of the sample, the heaviest first."""
    found = np.flatnonzero((counts * HEAVY_SHARE >= ordered.size) & (counts > 1))
    first, last = np.searchsorted(where, found), np.searchsorted(where, found, side="right") - 1
    alike = ordered[first] == ordered[last]
    single = found[alike & (found < fine.size - 2)]  # the last bin is closed
    return [int(position) for position in single[np.argsort(-counts[single], kind="stable")]]


def _tail_edges(fine: Edges, counts: npt.NDArray[np.int64]) -> list[Any]:
    """Fine edges some octaves out, below and above in turn."""
    before = np.concatenate([[0], np.cumsum(counts)])
    total = int(before[-1])
    low, middle, high = (
        float(fine[max(int(np.searchsorted(before, rank, side="right")) - 1, 0)])
        for rank in (total // OUTER_SHARE, total // 2, total - 1 - total // OUTER_SHARE)
    )
    # Halves: the difference of the largest floats is no float. Most rows may be one value, and then a side has no
    # distance of its own: the other one's stands for it, or that of the farthest rows.
    ahead, behind = middle / 2 - low / 2, high / 2 - middle / 2
    rows = np.flatnonzero(counts)
    farthest = max(middle / 2 - float(fine[rows[0]]) / 2, float(fine[rows[-1]]) / 2 - middle / 2)
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
