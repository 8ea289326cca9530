"""Gaps: edges between the values of a column that has only a few.

Between two values that follow each other lies one wide bin, empty in the reference. Of current values in there, set
points of 20 and 80 measured as 20 and 80 give or take 0.3, the Wasserstein estimate was 20 times the exact distance:
the difference changes its sign inside that bin. With an edge in the middle and some close to the values it is right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.fitting.halos import Halos

__all__ = ["gap_edges"]

MOST_VALUES = 64
GAP_EDGES = 256
"""Most edges of a column that are spent on gaps, the two outermost among them."""
OCTAVES, OCTAVES_OF_A_STEP = 20, 2
"""Of the distances in a gap, at most, and of two edges that follow each other. Thirty decimals with three edges on
either side that began at their halos took 11 ns a value to count, where they took 7."""


def gap_edges(distinct: npt.NDArray[Any], halos: Halos, family: str, unit: float) -> npt.NDArray[Any]:
    """Edges between and around few distinct values, geometric in the distance from the next value.

    They begin at its halo, or farther out where so few edges would lie too far apart.

    Parameters
    ----------
    distinct : ndarray of float64 or int64, ascending, not empty
    halos : Halos
    family : {"real", "integer"}
    unit : float
        How far the outermost edges lie away where there is only one value.

    Returns
    -------
    ndarray of float64 or int64
        In no order, at most 256; none where there are more than 64 values.
    """
    if distinct.size > MOST_VALUES:
        return distinct[:0]
    each = GAP_EDGES // (distinct.size + 1)
    inner = np.arange(1, (each - 1) // 2 + 1) / ((each - 1) // 2 + 1)
    outer = np.arange(1, each + 1) / each
    if family == "integer":
        return np.concatenate([_between_integers(distinct, inner), *_around_integers(distinct, outer)])
    sizes = np.zeros(distinct.size)
    sizes[np.searchsorted(distinct, halos.values)] = halos.above - halos.values
    return np.concatenate([_between_reals(distinct, sizes, inner), *_around_reals(distinct, sizes, outer, unit)])


def _steps(start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64], parts: npt.NDArray[np.float64]) -> Any:
    """Distances from ``start`` (excluded) to ``stop`` at parts of their ratio; shape (start.size, parts.size)."""
    return start[:, None] * (stop / start)[:, None] ** parts


def _between_reals(
    distinct: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], parts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    halves = distinct[1:] / 2 - distinct[:-1] / 2
    closest = halves * 2.0 ** -min(OCTAVES, OCTAVES_OF_A_STEP * (parts.size + 1))
    wide = closest > 0.0
    low, high, halves, closest = distinct[:-1][wide], distinct[1:][wide], halves[wide], closest[wide]
    # A halo may reach over the outermost row.
    after, before = (np.minimum(np.maximum(size[wide], closest), halves) for size in (sizes[:-1], sizes[1:]))
    above, below = low[:, None] + _steps(after, halves, parts), high[:, None] - _steps(before, halves, parts)
    return np.concatenate([above.ravel(), below.ravel(), low / 2 + high / 2])


def _around_reals(
    distinct: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], parts: npt.NDArray[np.float64], unit: float
) -> list[npt.NDArray[np.float64]]:
    """As far out as the values lie apart; from there the tail grid is fine enough."""
    half = distinct[-1] / 2 - distinct[0] / 2 if distinct.size > 1 else unit / 2
    ends = np.maximum(sizes[[0, -1]], half * 2.0 ** (1 - OCTAVES))
    if not 0.0 < ends.max() < half:
        return []
    with np.errstate(over="ignore"):
        below, above = 2 * _steps(ends / 2, np.array([half, half]), parts)
        below, above = distinct[0] - below, distinct[-1] + above
    return [below[np.isfinite(below)], above[np.isfinite(above)]]


def _between_integers(distinct: npt.NDArray[np.int64], parts: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    gaps = np.diff(distinct.view(np.uint64))  # exact, also where int64 is too small for it
    wide = gaps > 1
    low, high, halves = distinct[:-1][wide], distinct[1:][wide], (gaps[wide] // np.uint64(2)).astype(np.int64)
    steps = np.rint(_steps(np.ones(halves.size), halves.astype(np.float64), parts)).astype(np.int64)
    return np.concatenate([(low[:, None] + steps).ravel(), (high[:, None] - steps).ravel(), low + halves])


def _around_integers(distinct: npt.NDArray[np.int64], parts: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    lowest, highest = float(distinct[0]), float(distinct[-1])
    steps = np.rint(max(highest - lowest, 1.0) ** parts)
    # The comparison in float64 leaves room for its own rounding near the limits.
    below, above = steps[lowest - steps > -(2.0**63) + 4096], steps[highest + steps < 2.0**63 - 4096]
    below, above = below[below < 2.0**62], above[above < 2.0**62]
    return [distinct[:1] - below.astype(np.int64), distinct[-1:] + above.astype(np.int64)]
