"""Which columns follow the row order or are keys: row numbers, primary keys, event times.

They always differ between two tables, so they are judged only when named. Whole floats are as integers: that is how
keys and epoch seconds look where some are missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import Column

__all__ = ["is_clock"]

CLOCK_VALUES, CLOCK_CORRELATION = 20, 0.9
"""Fewest sampled values that can make a column a clock (twenty values are in order by chance once in 1e18), and the
rank correlation with row order that makes times one."""
REPEATS_OF_CHANCE = 20
"""Expected of values that are no keys."""
EPOCH_YEARS = 946_684_800, 4_102_444_800
"""Seconds of 2000-01-01 and 2100-01-01: numbers that all lie between them, or between their thousand-, million- or
billionfold, are taken for times."""
EPOCH_VALUES, EPOCH_SHARE = 100, 0.9
"""Fewest sampled values, and how many of them differ, of times in no order."""
EXACT_WHOLE = 2**53


def is_clock(column: Column, values: npt.NDArray[Any]) -> bool:
    """Whether the values follow the row order, or are keys or times of events in any order.

    Parameters
    ----------
    column : Column
    values : ndarray of float64 or int64, shape (values,)
        Finite sampled values in row order.
    """
    if values.size < CLOCK_VALUES:
        return False
    if column.kind == "datetime":
        return abs(_rank_correlation(values)) >= CLOCK_CORRELATION
    if (column.kind, column.type) not in (("integer", "integer"), ("integer", "decimal"), ("real", "float")):
        return False
    if column.type == "decimal" and column.unit != "decimal[0]":
        return False
    if _are_event_times(values):
        return True
    if column.family == "real":
        if not ((np.floor(values) == values) & (np.abs(values) <= EXACT_WHOLE)).all():
            return False
        values = values.astype(np.int64)
    steps = values[1:] > values[:-1]
    return bool(steps.all() or (values[1:] < values[:-1]).all()) or _are_keys(values)


def _are_event_times(values: npt.NDArray[Any]) -> bool:
    """Whether the numbers are seconds since 1970, or thousandths and so on, in the row order or hardly repeating."""
    low, high = values.min(), values.max()
    if not any(EPOCH_YEARS[0] * unit <= low and high < EPOCH_YEARS[1] * unit for unit in (1, 10**3, 10**6, 10**9)):
        return False
    if abs(_rank_correlation(values)) >= CLOCK_CORRELATION:
        return True
    return values.size >= EPOCH_VALUES and np.unique(values).size > EPOCH_SHARE * values.size


def _are_keys(values: npt.NDArray[np.int64]) -> bool:
    """Whether no value repeats though they lie so close together that many would, were they drawn by chance.

    Of s values from a range of R about s^2 / (2 R) repeat, and more if they are not spread evenly; that none does where
    twenty are expected has a probability of e^-20. So the keys of up to 10^8 rows are known by 65,536 of them. Keys
    that are all multiples of a step away from each other are counted in steps.
    """
    ordered = np.sort(values)
    gaps = ordered[1:].view(np.uint64) - ordered[:-1].view(np.uint64)
    if not gaps.all():
        return False
    span = (int(ordered[-1]) - int(ordered[0])) // int(np.gcd.reduce(gaps)) + 1
    return values.size * (values.size - 1) / (2 * span) >= REPEATS_OF_CHANCE


def _rank_correlation(values: npt.NDArray[Any]) -> float:
    """Spearman's correlation of the values with their positions, ties at their mean rank; 0 for constant values."""
    _, inverse, repeats = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(repeats) - (repeats - 1) / 2
    ranks = mean_ranks[inverse] - mean_ranks[inverse].mean()
    places = np.arange(values.size) - (values.size - 1) / 2
    scale = float(np.sqrt((ranks @ ranks) * (places @ places)))
    return float(ranks @ places) / scale if scale > 0 else 0.0
