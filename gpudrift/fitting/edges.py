"""Edges from a sample: quantiles, point bins for values that repeat, a geometric grid in the tails.

Beside them the marks and halos of the column; see :mod:`gpudrift.fitting.marks` and :mod:`gpudrift.fitting.halos`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import (
    LARGEST_REAL,
    MAX_BINS,
    SMALLEST_NORMAL,
    Column,
    Edges,
    complete_edges,
    edge_limits,
)
from gpudrift.fitting.gaps import gap_edges
from gpudrift.fitting.halos import Halos, distinct_values, find_halos, no_halos
from gpudrift.fitting.marks import fit_marks, rounded_marks

__all__ = ["fit_grid", "fit_own_grid", "moved_halos", "with_edges", "without_subnormals"]


QUANTILES = 1024
"""Bins of equal mass in the reference; also the most distinct values that each get a bin of their own."""
OWN_HALO_SHARE = 100
"""A value that holds one in so many rows has a halo among the edges that a user gave."""


def fit_grid(column: Column, ordered: npt.NDArray[Any], reserved: int = 0) -> Column:
    """A numeric column with bins, marks and halos fitted to its sample.

    Parameters
    ----------
    column : Column
    ordered : ndarray of float64 or int64, ascending, shape (sampled,)
        Finite values.
    reserved : int
        Edges that will be added: halos leave room for them.

    Returns
    -------
    Column
        Of at most about 2,700 bins and two for each halo, as far as they fit. Without marks and halos where nothing was
        sampled.
    """
    family = column.family
    if not ordered.size:
        return replace(column, edges=complete_edges(_tail_grid(0, 1.0, 0, 0, family), family))
    ordered = without_subnormals(ordered)
    distinct, repeats = distinct_values(ordered)
    halos = find_halos(distinct, repeats) if family == "real" else no_halos()
    marks = fit_marks(ordered, family, halos)
    unit = _tail_unit(ordered)
    fitted = _mass_edges(ordered, distinct, repeats, unit, family)
    between = gap_edges(distinct, halos, family, unit)
    edges = complete_edges(np.concatenate([fitted, np.array(marks, ordered.dtype), between]), family)
    if family == "integer":
        return replace(column, edges=edges, marks=marks)
    kept = halos.most_frequent((MAX_BINS + 1 - edges.size - reserved) // 2)
    edges = kept.put_into(edges)
    return replace(column, edges=edges, marks=marks, halos=kept.positions(edges))


def fit_own_grid(column: Column, ordered: npt.NDArray[Any], own: Edges, reserved: int = 0) -> Column:
    """A numeric column with the edges that a user gave, and beside them marks and halos as far as they fit.

    Parameters
    ----------
    column : Column
    ordered : ndarray of float64 or int64, ascending
        The finite sampled values.
    own : ndarray of float64 or int64
        Complete edges, all of which stay; see :func:`gpudrift.columns.schema.complete_edges`.
    reserved : int
        Edges that will be added.

    Returns
    -------
    Column
        Halos are those of values that hold a hundredth of the sample. Marks for which there is no room lie at the
        user's edges.
    """
    if not ordered.size:
        return replace(column, edges=own, cuts=np.arange(own.size))
    ordered, family = without_subnormals(ordered), column.family
    halos = find_halos(*distinct_values(ordered)) if family == "real" else no_halos()
    marks = fit_marks(ordered, family, halos)
    edges = complete_edges(np.concatenate([own, np.array(marks, own.dtype)]), family)
    most = MAX_BINS + 1 - reserved
    if edges.size > most:
        edges, marks = own, rounded_marks(marks, own)
    if family == "integer":
        return replace(column, edges=edges, marks=marks, cuts=np.searchsorted(edges, own).astype(np.int64))
    kept = halos.with_rows(ordered.size / OWN_HALO_SHARE).most_frequent((most - edges.size) // 4)
    around = (kept.below, kept.values, kept.ends_of_points(), kept.above)
    edges = complete_edges(np.concatenate([edges, *around]), family)
    return replace(column, edges=edges, marks=marks, halos=kept.positions(edges), cuts=_cuts(own, kept, edges))


def _cuts(own: Edges, halos: Halos, edges: Edges) -> npt.NDArray[np.int64]:
    """Positions of the user's edges; an edge within the halo of a value lies at its begin, so as not to cut it."""
    inside = [halos.cell_of(edge) for edge in own.tolist()]
    moved = [edge if around is None else around[0] for edge, around in zip(own.tolist(), inside, strict=True)]
    return np.unique(np.searchsorted(edges, moved)).astype(np.int64)


def with_edges(column: Column, more: npt.ArrayLike) -> Column:
    """A numeric column with more edges, its halos where they were; the column itself where these do not fit."""
    before = column.edges
    assert before is not None
    added = np.asarray(more, before.dtype)
    edges = complete_edges(np.concatenate([before, added]), column.family) if added.size else before
    if edges.size == before.size or edges.size - 1 > MAX_BINS:
        return column
    return replace(column, edges=edges, halos=moved_halos(column, edges), cuts=moved_cuts(column, edges))


def moved_cuts(column: Column, edges: Edges) -> npt.NDArray[np.int64] | None:
    """Positions of a column's cuts among other edges, of those that are edges there."""
    if column.cuts is None:
        return None
    assert column.edges is not None
    places = column.edges[column.cuts]
    return np.searchsorted(edges, places[np.isin(places, edges)]).astype(np.int64)


def moved_halos(column: Column, edges: Edges) -> npt.NDArray[np.int64] | None:
    """Positions of a column's halos among other edges, of those whose ends are edges there; shape (halos, 2)."""
    if column.halos is None:
        return None
    assert column.edges is not None
    ends = column.edges[column.halos]
    kept = np.isin(ends, edges).all(axis=1)
    return np.searchsorted(edges, ends[kept]).astype(np.int64)


def without_subnormals(ordered: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sampled values that can all be edges, in their order: subnormal numbers at the next edge below them."""
    if ordered.dtype == np.int64:
        return ordered
    first, zero, stop = np.searchsorted(ordered, [np.nextafter(-SMALLEST_NORMAL, 0.0), 0.0, SMALLEST_NORMAL])
    if first == zero and (zero == stop or ordered[stop - 1] == 0.0):
        return ordered
    ordered = ordered.copy()
    ordered[first:zero], ordered[zero:stop] = -SMALLEST_NORMAL, 0.0
    return ordered


def _mass_edges(
    ordered: npt.NDArray[Any], distinct: npt.NDArray[Any], repeats: npt.NDArray[np.int64], unit: float, family: str
) -> npt.NDArray[Any]:
    """Quantiles, both edges of values that repeat, and the tails; in no order."""
    size = ordered.size
    ranks = np.arange(1, QUANTILES) * size // QUANTILES
    if distinct.size <= QUANTILES:
        quantiles, points = ordered[:0], distinct
    else:
        quantiles, points = ordered[ranks], distinct[repeats * QUANTILES >= size]
    _, largest = edge_limits(family)
    points = points[points < largest]  # the closed last bin cannot be cut behind the largest value
    after = np.nextafter(points, np.inf) if family == "real" else points + 1
    outer = ordered[size // QUANTILES], ordered[size - 1 - size // QUANTILES]
    tails = _tail_grid(ordered[size // 2], unit, *outer, family)
    return np.concatenate([quantiles, points, after, tails])


def _tail_unit(ordered: npt.NDArray[Any]) -> float:
    """Unit of the tail grid: the interquartile range, or what stands for it in degenerate samples.

    The median's size only counts where the sample has no spread of its own: as another term of the maximum it made
    the outermost bin of ids near 2**62 that lie 1e6 apart 4e12 wide, and their Wasserstein distance of 400 came out
    as 31,000.
    """
    size = ordered.size
    quarter, median, three_quarters = (float(ordered[size * part // 4]) for part in (1, 2, 3))
    # Halves: the difference of the largest finite floats is no float.
    spread = 2.0 * min(three_quarters / 2 - quarter / 2, LARGEST_REAL / 2)
    reach = (float(ordered[-1]) / 2 - float(ordered[0]) / 2) * 2.0**-19
    return max(spread, reach) or abs(median) * 2.0**-20 or 1.0


_OCTAVES = np.concatenate([np.arange(0, 161) / 16, 10 + np.arange(1, 33) / 2, 26 + 8 * np.arange(1, 257)])


def _tail_grid(median: Any, unit: float, low: Any, high: Any, family: str) -> npt.NDArray[Any]:
    """Grid points below ``low`` and above ``high``, geometric in their distance from the median.

    Sixteen an octave for ten octaves of ``unit``, two for the next sixteen, then one in eight octaves.
    """
    with np.errstate(over="ignore"):
        distances = unit * np.exp2(_OCTAVES)
    if family == "real":
        with np.errstate(over="ignore"):
            below, above = median - distances, median + distances
        return np.concatenate([below[(below < low) & np.isfinite(below)], above[(above > high) & np.isfinite(above)]])
    distances = np.rint(distances[distances < 2.0**63])
    # The comparison in float64 leaves room for its own rounding near the limits.
    fits_below, fits_above = (
        float(median) - distances > -(2.0**63) + 4096,
        float(median) + distances < 2.0**63 - 4096,
    )
    steps = distances.astype(np.int64)
    below, above = np.int64(median) - steps[fits_below], np.int64(median) + steps[fits_above]
    return np.concatenate([below[below < low], above[above > high]])
