"""Bounds that people write, in the numbers that are counted: exact, so that a bound can be an edge.

A bound is a decimal number as it is written (0.1 is one tenth), a date or a time. As a fraction it is compared with
counted values without rounding; ``x <= b`` and ``x < b`` become ``x < t`` for the right countable ``t``.
"""

from __future__ import annotations

import datetime
import math
from fractions import Fraction
from typing import Any

import numpy as np

from gpudrift.columns.schema import LARGEST_INTEGER, LARGEST_REAL, SMALLEST_INTEGER, SMALLEST_NORMAL, Column

__all__ = [
    "as_written",
    "bound_edges",
    "counted_bound",
    "first_above",
    "first_at_least",
    "natural_bound",
    "stored_bound",
]

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_NARROW: dict[str, Any] = {"float": np.float32, "halffloat": np.float16}
_EPOCH = datetime.datetime(1970, 1, 1)


def as_written(number: Any) -> Fraction:
    """The number as a person reads it: 0.1 is one tenth, not the float64 nearest to it."""
    return Fraction(repr(float(number)) if isinstance(number, float) else number)


def counted_bound(column: Column, bound: Any) -> Fraction:
    """A bound in the column's own values as a number of its counted unit.

    Raises
    ------
    ValueError
        If it is no value of such a column.
    """
    if column.quantity in ("timestamp", "date"):
        return _moment(column, bound)
    if isinstance(bound, bool) or not isinstance(bound, (int, float)):
        raise ValueError(f"{bound!r} is not a number")
    if column.family == "real":
        return Fraction(bound)
    exact = as_written(bound)
    if column.type == "decimal" and column.unit is not None:
        return exact * _ten_to_the_scale(column.unit)
    return exact


def stored_bound(column: Column, bound: Any, stored: str | None) -> Fraction:
    """A bound as data of a type would store it: a float32 column holds 0.1 as 0.10000000149, which is meant by it.

    Parameters
    ----------
    column : Column
    bound : object
        As for :func:`counted_bound`.
    stored : str or None
        The type of the data, as Arrow calls it: "float" has 32 bits, "halffloat" 16.
    """
    exact = counted_bound(column, bound)
    narrow = _NARROW.get(stored or "")
    if narrow is None or column.family != "real":
        return exact
    with np.errstate(over="ignore"):
        rounded = float(narrow(float(exact))) if abs(exact) <= LARGEST_REAL else math.inf
    return Fraction(rounded) if math.isfinite(rounded) else exact


def _ten_to_the_scale(unit: str) -> Fraction:
    """What a decimal is multiplied by to be counted: 100 of ``decimal[2]``."""
    return Fraction(10) ** int(unit.partition("[")[2].rstrip("]"))


def _moment(column: Column, bound: Any) -> Fraction:
    if isinstance(bound, str):
        try:
            bound = datetime.datetime.fromisoformat(bound)
        except ValueError:
            raise ValueError(f"{bound!r} is not a date or time") from None
    if isinstance(bound, datetime.datetime):
        if bound.tzinfo is not None:
            bound = bound.astimezone(datetime.UTC).replace(tzinfo=None)
    elif isinstance(bound, datetime.date):
        bound = datetime.datetime(bound.year, bound.month, bound.day)
    else:
        raise ValueError(f"{bound!r} is not a date or time")
    seconds = Fraction((bound - _EPOCH) // datetime.timedelta(microseconds=1), 10**6)
    if column.quantity == "date":
        return seconds / 86_400
    unit = (column.unit or "").partition("[")[2].rstrip("]").partition(",")[0]
    return seconds * _UNITS[unit]


def natural_bound(column: Column, counted: Fraction) -> Fraction:
    """The inverse of :func:`counted_bound` for numbers; dates and times stay in the counted unit."""
    if column.type == "decimal" and column.family == "integer" and column.unit is not None:
        return counted / _ten_to_the_scale(column.unit)
    return counted


def first_at_least(column: Column, bound: Fraction) -> float | int:
    """The smallest countable number at or above the bound: ``x < bound`` is ``x < first_at_least(bound)``."""
    if column.family == "integer":
        return math.ceil(bound)
    if abs(bound) > LARGEST_REAL:
        return math.inf if bound > 0 else -LARGEST_REAL
    near = float(bound)
    return near if Fraction(near) >= bound else float(np.nextafter(near, np.inf))


def first_above(column: Column, bound: Fraction) -> float | int:
    """The smallest countable number above the bound: ``x <= bound`` is ``x < first_above(bound)``."""
    if column.family == "integer":
        return math.floor(bound) + 1
    if bound >= LARGEST_REAL:
        return math.inf
    if bound < -LARGEST_REAL:
        return -LARGEST_REAL
    near = float(bound)
    return near if Fraction(near) > bound else float(np.nextafter(near, np.inf))


def bound_edges(column: Column, bounds: list[Any], stored: str | None = None) -> np.ndarray[Any, Any]:
    """Edges at both sides of each bound that is a value of the column: rules with these bounds are then decided.

    Bounds that are no values of such a column are left out: they are reported when the rules are evaluated. Of data
    that is ``stored`` in fewer bits those that it can hold are edges, too; see :func:`stored_bound`.
    """
    edges: list[Any] = []
    for given in bounds:
        try:
            wanted = {counted_bound(column, given), stored_bound(column, given, stored)}
        except (ValueError, OverflowError):
            continue
        for bound in wanted:
            edges += [first_at_least(column, bound), first_above(column, bound)]
    if column.family == "integer":
        return np.array([edge for edge in edges if SMALLEST_INTEGER < edge <= LARGEST_INTEGER], dtype=np.int64)
    return np.array([edge for edge in edges if math.isfinite(edge) and abs(edge) >= SMALLEST_NORMAL], dtype=np.float64)
