"""Which bins or categories make the PSI of a column, and how much of it each.

Drawn from the column's entry in a JSON document alone: the cells of ``statistics.psi`` (edges or values) and the rows
of both sides in each. Law: the contributions of the cells add up to the statistic. A cell is named in the column's own
values: ``below 40``, ``40 to 48``, ``170 and above``, ``exactly 60``, a category, or ``all other values``.

Edges are where counting needs them, not where people would draw them: a millionth beside a frequent value, a unit in
the last place or a microsecond after a round one. A label shows the value that an edge was made for, and says on which
side of the edge that is: of *40 to 48* 40 is in the cell and 48 is not, *between* excludes both, *above 40 to 48* has
only 48, *40 up to 48* has both. Whole numbers and days are told inclusively. Other edges are rounded where they are
shown; the rows are always those of the exact edges, ``low`` and ``high``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

__all__ = ["ALL_OTHERS", "Cell", "contributions", "largest_first", "number_label"]

ALL_OTHERS = "all other values"
HALO = 1e-6
"""Of a frequent value: its cell reaches so far to either side of it (see ``gpudrift.fitting.halos``)."""
DIGITS, FEWEST_DIGITS = 6, 4
"""Most of a value that an edge was made for, and fewest of one that was made for none; more where cells are narrow."""


@dataclass(frozen=True)
class Cell:
    """One bin or category.

    Parameters
    ----------
    label : str
        In words. Categories are text from the data, as they stand there.
    kind : {"interval", "value", "category", "others"}
        A value is a single number; others are all categories that have no cell of their own, together.
    low, high : float, int, str or None
        Ends of a bin as the document has them, ``low <= x < high``; None where it is open, and of categories.
    reference_rows, current_rows : int
    reference, current : float
        Shares of the rows with a value.
    contribution : float
        What the cell adds to the PSI; never negative.
    share : float
        Of the whole PSI; 0 where that is 0.
    """

    label: str
    kind: str
    low: Any
    high: Any
    reference_rows: int
    current_rows: int
    reference: float
    current: float
    contribution: float
    share: float


def contributions(column: Mapping[str, Any]) -> tuple[Cell, ...] | None:
    """The cells of a column's PSI, in the order of the bins, or of the categories in the document.

    Parameters
    ----------
    column : mapping
        An entry of ``columns`` in a document of the format ``gpudrift/comparison/1``.

    Returns
    -------
    tuple of Cell or None
        None where there is no PSI, or where the document is of a version that does not tell the rows of its cells.

    Raises
    ------
    ValueError
        If the rows do not fit to the cells.
    """
    found = column.get("statistics", {}).get("psi", {})
    before, after = found.get("reference_rows"), found.get("current_rows")
    if found.get("value") is None or before is None or after is None:
        return None
    if "bins" in found:
        named = _bins(found["bins"], column.get("kind"), column.get("unit"))
    else:
        named = [(_category(value), "category", None, None) for value in found["values"]]
        named += [(ALL_OTHERS, "others", None, None)] * (len(before) - len(named))
    if not len(named) == len(before) == len(after):
        raise ValueError(f"PSI has {len(named)} cells with rows of {len(before)} and {len(after)}")
    shares = [_shares(before), _shares(after)]
    each = [_contribution(p, q, found.get("floor", 0.0)) for p, q in zip(*shares, strict=True)]
    whole = math.fsum(each)
    parts = [one / whole if whole else 0.0 for one in each]
    return tuple(
        Cell(*name, *of_cell) for name, *of_cell in zip(named, before, after, *shares, each, parts, strict=True)
    )


def largest_first(cells: Iterable[Cell]) -> list[Cell]:
    """Those that make most of the PSI first, those that are equal in their order."""
    return sorted(cells, key=lambda cell: -cell.contribution)


def _shares(rows: Sequence[int]) -> list[float]:
    total = sum(rows)
    if not total:
        raise ValueError("a side of the PSI has no rows")
    return [one / total for one in rows]


def _contribution(p: float, q: float, floor: float) -> float:
    p, q = max(p, floor), max(q, floor)
    return (p - q) * math.log(p / q) if p != q else 0.0


def _category(value: str | None) -> str:
    return ALL_OTHERS if value is None else value or '""'


# --- bins in words ---------------------------------------------------------------------------------------------------

_Named = tuple[str, str, Any, Any]


def _bins(edges: Sequence[Any], kind: Any, unit: Any) -> list[_Named]:
    """What each bin is called; the first and the last one are open, whatever their outer edge is."""
    inner = list(edges[1:-1])
    if not inner:
        return [("all values", "interval", None, None)]
    if all(isinstance(edge, str) for edge in inner):
        axis: _Axis = _Times(inner, str(unit or ""))
    elif kind == "real" or any(isinstance(edge, float) for edge in inner):
        axis = _Decimals(inner, str(unit)) if str(unit or "").startswith("decimal[") else _Reals(inner)
    else:
        axis = _Integers(inner)
    below, beyond, onwards = ("before", "after", "later") if isinstance(axis, _Times) else ("below", "above", "above")
    first = f"up to {axis.start(0)}" if axis.is_after(0) else f"{below} {axis.start(0)}"
    named: list[_Named] = [(first, "interval", None, inner[0])]
    for at, (low, high) in enumerate(pairwise(inner)):
        start, end = axis.start(at), axis.end(at + 1)
        if (point := axis.point(at)) is not None:
            named.append((f"exactly {point}", "value", low, high))
        elif not axis.is_after(at):
            named.append((f"{start} {'up to' if axis.is_after(at + 1) else 'to'} {end}", "interval", low, high))
        elif axis.is_after(at + 1):
            named.append((f"{beyond} {start} to {end}", "interval", low, high))
        else:
            named.append((f"between {start} and {end}", "interval", low, high))
    start = axis.start(len(inner) - 1)
    last = f"{beyond} {start}" if axis.is_after(len(inner) - 1) else f"{start} and {onwards}"
    return [*named, (last, "interval", inner[-1], None)]


class _Integers:
    """Edges between bins of whole numbers, which are told inclusively."""

    def __init__(self, edges: Sequence[Any]) -> None:
        self.edges = edges

    def start(self, at: int) -> str:
        """The smallest value above an edge."""
        return str(self.edges[at])

    def end(self, at: int) -> str:
        """The largest value below an edge."""
        return str(self.edges[at] - 1)

    def point(self, at: int) -> str | None:
        """The value of the bin after an edge, if it holds a single one."""
        return str(self.edges[at]) if self.edges[at + 1] - self.edges[at] == 1 else None

    def is_after(self, _at: int) -> bool:
        """Whether an edge lies just after the value that is shown of it, which is in the bin before the edge."""
        return False


class _Decimals(_Integers):
    """Whole numbers of hundredths, or of another power of ten."""

    def __init__(self, edges: Sequence[Any], unit: str) -> None:
        self.scale = int(unit.partition("[")[2].rstrip("]"))
        super().__init__([round(edge * 10.0**self.scale) for edge in edges])

    def start(self, at: int) -> str:
        return self._text(self.edges[at])

    def end(self, at: int) -> str:
        return self._text(self.edges[at] - 1)

    def point(self, at: int) -> str | None:
        return None if super().point(at) is None else self.start(at)

    def _text(self, units: int) -> str:
        return number_label(units / 10.0**self.scale, 15)


class _Reals:
    """Edges between bins of real numbers."""

    def __init__(self, edges: Sequence[Any]) -> None:
        self.edges = [float(edge) for edge in edges]
        gaps = [b - a for a, b in pairwise(self.edges)]
        self.gaps = [math.inf, *gaps, math.inf]
        self.points = [self._point(at) for at in range(len(gaps))]
        self.labels = [self._label(at) for at in range(len(self.edges))]

    def start(self, at: int) -> str:
        return self.labels[at]

    end = start

    def point(self, at: int) -> str | None:
        return self.points[at]

    def is_after(self, at: int) -> bool:
        value, edge = float(self.labels[at]), self.edges[at]
        apart = edge - value
        if value == 0.0:
            return apart > 0.0
        made_for = edge == math.nextafter(value, math.inf) or math.isclose(apart, HALO * abs(value), rel_tol=1e-3)
        return made_for or (at > 0 and self.points[at - 1] is not None)

    def _point(self, at: int) -> str | None:
        """The value that a bin was made for: nothing else is in it, or nothing but what it was rounded to."""
        low, high = self.edges[at], self.edges[at + 1]
        width, room = high - low, min(self.gaps[at], self.gaps[at + 2])
        alone = high <= math.nextafter(low, math.inf) or (low == 0.0 and high < 1e-300)
        # As wide as that of its value is, or as that of a value near zero: by the distance of its neighbours.
        halo = math.isclose(width, 2 * HALO * abs(low + width / 2), rel_tol=0.01) or (
            room < math.inf and width <= 2.2 * HALO * room
        )
        if not (alone or (halo and 4 * width <= room)):
            return None
        if low <= 0.0 < high:
            return "0"
        middle = low if alone else low + width / 2
        shorter = (number_label(middle, digits) for digits in range(1, 17))
        return next((text for text in shorter if low <= float(text) < high), repr(middle))

    def _label(self, at: int) -> str:
        """The shortest number that is as close to an edge as the value that it was made for, or close enough."""
        before = self.points[at - 1] if at > 0 else None
        after = self.points[at] if at < len(self.points) else None
        if before is not None or after is not None:
            return str(before if before is not None else after)
        edge, room = self.edges[at], min(self.gaps[at], self.gaps[at + 1])
        if abs(edge) <= HALO * room:
            return "0"
        near = min(1.1 * HALO * abs(edge), room / 20)
        shorter, longer = range(1, DIGITS + 1), range(FEWEST_DIGITS, 17)
        made_for, close = self._shortest(at, shorter, near), self._shortest(at, longer, room / 100)
        return min(made_for, close, key=len)

    def _shortest(self, at: int, digits: range, near: float) -> str:
        """An edge in as few digits as are near enough."""
        edge = self.edges[at]
        texts = (number_label(edge, one) for one in digits)
        return next((text for text in texts if abs(float(text) - edge) <= near), repr(edge))


class _Times:
    """Edges between bins of dates or times; what lies one tick after a rounder moment is called by that."""

    def __init__(self, edges: Sequence[str], unit: str) -> None:
        self.edges = edges
        self.tick = _TICKS.get(unit.rstrip("]").partition(",")[0])
        self.ticks = [_ticks(edge, self.tick) for edge in edges]
        gaps = [b - a for a, b in pairwise(one for one in self.ticks if one is not None) if b - a > 1]
        apart = min(gaps, default=0) / 10 ** (self.tick or 0)
        self.length = next((length for gap, length in _LENGTHS if apart >= gap), 29)
        """Characters of a moment that tell it from the next one."""

    def start(self, at: int) -> str:
        return _moment(str(self._rounder(at) or self.edges[at]))[: self.length]

    def _rounder(self, at: int) -> str | None:
        """What is one tick before an edge, if that has no parts of seconds, or no seconds, and the edge has."""
        own, before = _moment(self.edges[at]), self._before(at)
        if not self.tick:
            return before if before is not None and self.tick == 0 and len(own) == 19 > len(before) else None
        return before if before is not None and "." in own and "." not in before else None

    def end(self, at: int) -> str:
        if self.tick is None and (before := self._before(at)) is not None:
            return before  # a day, inclusively
        return self.start(at)

    def point(self, at: int) -> str | None:
        low, high = self.ticks[at], self.ticks[at + 1]
        return _moment(self.edges[at]) if low is not None and high is not None and high - low == 1 else None

    def is_after(self, at: int) -> bool:
        return self._rounder(at) is not None

    def _before(self, at: int) -> str | None:
        """What is one tick before an edge."""
        ticks = self.ticks[at]
        return None if ticks is None else _moment(_from_ticks(ticks - 1, self.tick))


_DAY = 86_400
_TICKS = {"timestamp[s": 0, "timestamp[ms": 3, "timestamp[us": 6, "timestamp[ns": 9}
"""Digits of parts of seconds."""
_LENGTHS = ((20 * _DAY, 10), (36_000, 16), (100, 19))
"""Seconds between edges from which on the first so many characters of a moment are shown."""


def _ticks(text: str, tick: int | None) -> int | None:
    """A moment as days, or as parts of seconds, since the year 1; None where it lies in no year from 1 to 9999."""
    day, _, time = text.removesuffix("Z").partition("T")
    try:
        days = date.fromisoformat(day).toordinal()
        if tick is None:
            return days
        clock, _, fraction = time.partition(".")
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        ticks: int = 10**tick
        return (days * _DAY + hours * 3600 + minutes * 60 + seconds) * ticks + int(fraction.ljust(tick, "0") or 0)
    except ValueError:
        return None


def _from_ticks(ticks: int, tick: int | None) -> str:
    seconds, fraction = divmod(ticks, 10 ** (tick or 0))
    days, rest = (seconds, 0) if tick is None else divmod(seconds, _DAY)
    day = date.fromordinal(max(days, 1)).isoformat()
    if tick is None:
        return day
    return f"{day}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}.{fraction:0{max(tick, 1)}}"


def _moment(text: str) -> str:
    """A moment without the zeros at its end: a day, or a day with hours and minutes."""
    day, _, time = text.removesuffix("Z").partition("T")
    clock, _, fraction = time.partition(".")
    fraction = fraction.rstrip("0")
    clock = f"{clock}.{fraction}" if fraction else clock.removesuffix(":00")
    return day if clock in ("", "00:00") else f"{day} {clock}"


def number_label(value: float, digits: int) -> str:
    """A number in at most so many digits, without an exponent where it is of a usual size."""
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0:
        return "0"
    if math.isinf(rounded):  # the largest numbers are not rounded up
        return repr(value)
    if 1e-4 <= abs(rounded) < 1e15:
        text = f"{rounded:.{max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"


_Axis = _Integers | _Reals | _Times
