"""Edges from a sample: quantiles, point bins for values that repeat, a geometric grid in the tails."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_REAL, Edges, complete_edges, edge_limits

__all__ = ["fit_edges"]


QUANTILES = 1024
"""Bins of equal mass in the reference; also the most distinct values that each get a bin of their own."""


def fit_edges(ordered: npt.NDArray[Any], family: str) -> Edges:
    """Edges for a numeric column from its sampled finite values.

    Parameters
    ----------
    ordered : ndarray of float64 or int64, ascending, shape (sampled,)
    family : {"real", "integer"}

    Returns
    -------
    ndarray of float64 or int64
        At most about 2,700 bins.
    """
    size = ordered.size
    if size == 0:
        return complete_edges(_tail_grid(0, 1.0, 0, 0, family), family)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ranks = np.arange(1, QUANTILES) * size // QUANTILES
    if starts.size <= QUANTILES:
        quantiles, points = ordered[:0], ordered[starts]
    else:
        quantiles = ordered[ranks]
        repeats = np.diff(np.concatenate([starts, [size]]))
        points = ordered[starts[repeats * QUANTILES >= size]]
    _, largest = edge_limits(family)
    points = points[points < largest]  # the closed last bin cannot be cut behind the largest value
    after = np.nextafter(points, np.inf) if family == "real" else points + 1
    outer = ordered[size // QUANTILES], ordered[size - 1 - size // QUANTILES]
    tails = _tail_grid(ordered[size // 2], _tail_unit(ordered), *outer, family)
    return complete_edges(np.concatenate([quantiles, points, after, tails]), family)


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
