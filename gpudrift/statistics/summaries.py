"""Summaries of one side of a column, read from its counts, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_REAL, Column
from gpudrift.counts.profiles import ColumnProfile

__all__ = [
    "Moments",
    "median",
    "moments",
    "natural_factor",
    "natural_values",
    "summary",
    "value_within",
]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SUM_ROUNDING = 1e-12


@dataclass(frozen=True)
class Moments:
    """Mean and population standard deviation of the finite values, in the unit that is counted."""

    mean: float
    std: float
    std_low: float
    std_high: float


def natural_factor(column: Column) -> float:
    """What counted integers are divided by to give the column's own values: 10**scale for decimals, else 1."""
    if column.type == "decimal" and column.unit is not None:
        return 10.0 ** int(column.unit.partition("[")[2].rstrip("]"))
    return 1.0


def natural_values(column: Column, values: npt.NDArray[Any] | Sequence[float]) -> list[Any]:
    """Counted numbers as the column's own values: ISO 8601 text for dates and timestamps, else numbers."""
    array = np.asarray(values)
    if column.quantity == "date":
        return [_iso_day(round(value)) for value in array.tolist()]
    if column.quantity == "timestamp":
        unit = (column.unit or "").partition("[")[2].rstrip("]").partition(",")[0]
        # The smallest int64 is 'not a time' to NumPy; its neighbour is as good an end of time.
        moments_ = np.maximum(_whole(array) if array.dtype.kind == "f" else array, -(2**63) + 1)
        zone = "Z" if (column.unit or "").endswith("UTC]") else ""
        return [f"{text}{zone}" for text in np.datetime_as_string(moments_.astype(f"datetime64[{unit}]")).tolist()]
    factor = natural_factor(column)
    if factor != 1.0:
        return [float(value) / factor for value in array.tolist()]
    return list(array.tolist())


def _whole(array: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The nearest int64: what rounds to 2**63, such as the mean of ends of time, is the largest one."""
    rounded = np.rint(array)
    inside = np.where((rounded >= -(2.0**63)) & (rounded < 2.0**63), rounded, 0.0).astype(np.int64)
    return np.where(rounded >= 2.0**63, np.iinfo(np.int64).max, np.where(rounded < -(2.0**63), -(2**63), inside))


def _iso_day(days: int) -> str:
    """Days since 1970 as an ISO 8601 date of the Gregorian calendar, for any number of days (NumPy's overflow).

    Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    """
    era, day = divmod(days + 719_468, 146_097)  # eras of 400 years that begin on 1 March
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    month = month + 3 if month < 10 else month - 9
    year += 400 * era + (month <= 2)
    return f"{'-' if year < 0 else ''}{abs(year):04}-{month:02}-{day + 1:02}"


def summary(side: ColumnProfile) -> dict[str, Any]:
    """Summary of one side of a column, as it stands in the JSON document.

    Returns
    -------
    dict
        ``rows``, ``missing`` and its parts; for numeric columns zeros, mean, ``std`` with its interval, min, max,
        median and quantiles with the most their rank can be off; for categorical ones the number of distinct values
        (an estimate, said so, where some were dropped). Undefined is None.
    """
    if side.skipped is not None:
        return {"rows": side.rows}
    special = side.special
    entry: dict[str, Any] = {
        "rows": side.rows,
        "missing": side.missing,
        "null": special["null"],
        "nan": special["nan"],
        "absent": special["absent"],
    }
    if not side.column.is_numeric:
        return entry | _distinct(side)
    if side.column.type == "null" and side.column.is_numeric:
        return entry  # which values there are was not counted
    entry |= {"negative_infinity": special["-inf"], "positive_infinity": special["+inf"]}
    column = side.column
    assert column.edges is not None
    zero = int(np.searchsorted(column.edges, 0, side="right")) - 1
    entry["zeros"] = int(side.counts[zero])
    if side.finite == 0:
        return entry | dict.fromkeys(("mean", "std", "min", "max", "median")) | {"quantiles": []}
    found = moments(side)
    factor = natural_factor(column)
    entry["mean"] = natural_values(column, [found.mean])[0]
    entry["std"] = {
        "value": found.std / factor,
        "low": found.std_low / factor,
        "high": found.std_high / factor,
    }
    entry["min"], entry["max"] = natural_values(column, np.array([side.low, side.high]))
    quantiles = [_quantile(side, q) for q in QUANTILES]
    values = natural_values(column, np.array([value for value, _ in quantiles]))
    entry["median"] = values[QUANTILES.index(0.5)]
    entry["quantiles"] = [
        {"q": q, "value": value, "rank_error": error}
        for q, value, (_, error) in zip(QUANTILES, values, quantiles, strict=True)
    ]
    return entry


def moments(side: ColumnProfile) -> Moments:
    """Mean and standard deviation of a side; computed once, however many others it is compared with."""
    found: Moments = side.once("moments", lambda: _moments(side))
    return found


def _moments(side: ColumnProfile) -> Moments:
    """Mean and standard deviation from counts and residual sums, with an interval for the latter.

    The mean of each bin is known to half its slack; how its values are spread around that is not: between not at all
    and all at the bin's ends (its ends, or the column's smallest and largest value). The estimate takes them as even.
    """
    column, n = side.column, side.finite
    assert column.edges is not None and side.low is not None and side.high is not None
    used = np.flatnonzero(side.counts)
    counts = side.counts[used].astype(np.float64)
    edges, points = column.edges, column.point_bins[used]
    units = column.residual_units[used]
    width = column.widths[used]
    slack = np.where(units > 0, units if column.family == "real" else units - 1.0, np.where(points, 0.0, width))
    centre = min(max(edges[used[used.size // 2]].item(), side.low), side.high)
    # Distances from a value amid the data keep the digits that matter; longdouble holds every int64, and cannot
    # overflow. A common power of two keeps the squares within float64.
    start = edges[used].astype(np.longdouble) - np.longdouble(centre)
    least, most = (
        np.longdouble(side.low) - np.longdouble(centre),
        np.longdouble(side.high) - np.longdouble(centre),
    )
    exponent = int(np.frexp(np.maximum(np.abs(least), np.abs(most)))[1])
    stop = edges[used + 1].astype(np.longdouble) - np.longdouble(centre)
    left, right = np.maximum(start, least), np.minimum(stop, most)
    unsure = np.minimum(0.5 * slack, right - left)
    offset = np.clip(start + side.sums[used] / counts * units + unsure, left, right)
    left, right = np.where(points, offset, left), np.where(points, offset, right)
    scaled = [np.ldexp(x, -exponent).astype(np.float64) for x in (offset, left, right, unsure)]
    offset, left, right, unsure = (np.asarray(x) for x in scaled)
    shares = counts / n
    # NumPy's sums of k terms are off by at most k u of the sum of sizes: 3.4e-13 for 3,072 bins.
    mean = float(shares @ offset)
    off = unsure + float(shares @ unsure) + SUM_ROUNDING * float(shares @ np.abs(offset))
    apart = offset - mean
    between = float(shares @ apart**2)
    between_unsure = float(shares @ (2 * np.abs(apart) * off + off**2)) + SUM_ROUNDING * between
    room = np.maximum(offset - left, 0.0) * np.maximum(right - offset, 0.0)
    within_most = float(shares @ (room + unsure * (right - left))) * (1 + SUM_ROUNDING)
    # A bin with one row, or whose rows all lie at one end, has no spread: the room says so.
    within = float(shares @ np.minimum((right - left) ** 2 / 12.0, room))
    std = math.sqrt(between + within)
    low = math.sqrt(max(between - between_unsure, 0.0))
    high = math.sqrt(between + between_unsure + within_most)
    if offset.size == 1 and within_most == 0.0:
        std = low = high = 0.0
    spread = [_unscaled(x, exponent) for x in (std, min(low, std), max(high, std))]
    return Moments(float(np.longdouble(centre) + np.ldexp(np.longdouble(mean), exponent)), *spread)


def _unscaled(value: float, exponent: int) -> float:
    """``value * 2**exponent``, the largest float64 where that is more."""
    return float(np.minimum(np.ldexp(np.longdouble(value), exponent), np.longdouble(LARGEST_REAL)))


def _quantile(side: ColumnProfile, q: float) -> tuple[float, float]:
    """A value whose share of smaller values is about q, and the most that share can differ from q."""
    n = side.finite
    after = np.cumsum(side.counts)
    place = int(np.searchsorted(after, max(q * n, 1.0), side="left"))
    before = int(after[place] - side.counts[place])
    inside = min(max((q * n - before) / float(side.counts[place]), 0.0), 1.0)
    assert side.low is not None and side.high is not None
    value = value_within(side.column, place, inside, side.low, side.high)
    return value, 0.0 if side.column.point_bins[place] else max(abs(q - before / n), abs(int(after[place]) / n - q))


def value_within(column: Column, place: int, inside: float, low: float, high: float) -> float:
    """What this share of the rows in a bin is smaller than, if they lie evenly between the ends of bin and data."""
    assert column.edges is not None
    left, right = column.edges[place], column.edges[place + 1]
    if column.point_bins[place]:
        return left  # type: ignore[no-any-return]  # an int64 or float64 of NumPy, as it was counted
    left, right = max(left, low), min(right, high)
    if column.family == "integer":
        return int(left) + round((int(right) - int(left)) * inside)
    # From -1e28 to -2e-10 the sum is rounded to 0, beyond the bin and the quantiles that follow.
    return min(float(left) + (float(right) - float(left)) * inside, float(right))


def median(side: ColumnProfile) -> Any:
    """The median in the column's own values, as in :func:`summary`; None where there is none."""
    if not side.column.is_numeric or side.skipped is not None or side.finite == 0:
        return None
    return natural_values(side.column, np.array([_quantile(side, 0.5)[0]]))[0]


def _distinct(side: ColumnProfile) -> dict[str, Any]:
    assert side.tail is not None
    frequent = int(np.count_nonzero(side.counts[:-1]))
    kept = len(side.tail.values)
    if side.dropped == 0:
        return {"distinct": frequent + kept, "distinct_exact": True}
    # Of D hashes even in [0, 1) the k-th smallest is about k / D; (k - 1) / u_k estimates D without bias.
    largest = (int(side.tail.hashes[-1]) + 1) / 2.0**64
    return {"distinct": frequent + round((kept - 1) / largest), "distinct_exact": False}
