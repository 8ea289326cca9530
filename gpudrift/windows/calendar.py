"""Which time window each row of a table falls into.

A window is named by its start, one int64: of zone-aware times the seconds since 1970-01-01T00:00 UTC of its first
instant, of naive times and dates the same seconds on the clock as written, of integers its first integer. The law: a
row's window depends on the row's own value alone, so cutting or reordering a table changes nothing; and ``start <= t <
following(start)``, with the two exceptions below.

Boundaries, all half-open. ``s``, ``min`` and ``h`` are fixed durations counted from 1970-01-01T00:00 UTC, in every
zone (in one at +05:30, hours begin at half past). ``d``, ``w``, ``mo``, ``q`` and ``y`` are what the calendar of the
zone shows: multiples of days from 1970-01-01, of weeks from Monday, 1970-01-05, of months, quarters and years from
January of the year 0 (the proleptic Gregorian calendar, as Arrow and NumPy count). A day is its local date: all
instants with one date are one window, of 23 or 25 hours where clocks change and of 48 where a date was repeated. It
starts at its first instant, which is not midnight where midnight is skipped (São Paulo, 2018-11-04). A date that a
zone left out (Apia, 2011-12-30) has no window.

The two exceptions. Where clocks were set back over midnight *after* it had struck (St. John's, until 2011, at 00:01 to
23:01), the minute before belongs to the new date and the hour after to the old one: dates win, and that hour lies
beyond the end of its window. And times beyond the years ±317,000 count as the outermost of those years.

Arrow's ``floor_temporal`` was tried first: it raises where midnight does not exist or occurs twice (São Paulo, Beirut,
Havana, Azores, Amman, St. John's), wraps around far from 1970 and takes 72 to 110 ms for a million rows. Here, on one
core of a virtual machine and of thirty years of microseconds, a million rows take for days or months:

=========  ======  ========  ==================
rows       UTC     a zone    a zone, with nulls
=========  ======  ========  ==================
ordered    5–9 ms  12–14 ms  11–17 ms
unordered  5–9 ms  11–15 ms  15–19 ms
=========  ======  ========  ==================

and 3 to 6 ms for hours. The slowest found: 42 ms unordered within the one day in which clocks change, and 0.6 s for
times strewn over the years 1 to 9999.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import booleans, fixed_width, numbers, validity_booleans
from gpudrift.columns.moments import parsed_texts
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER
from gpudrift.columns.types import is_text, plain_array, scalar_type
from gpudrift.errors import IncompatibleColumnError
from gpudrift.hiding import short
from gpudrift.windows.every import DAYS, FIRST_MONDAY, FIXED, Every
from gpudrift.windows.zones import (
    DAY,
    EPOCH,
    LARGEST_TABLE,
    cut_points,
    distinct,
    first_instants,
    local_times,
    zone_info,
)

__all__ = ["Windows"]

Integers = npt.NDArray[np.int64]

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MONTHS_TO_1970 = 1970 * 12
_FARTHEST = 10**13  # seconds from 1970: all that microseconds can say, and no sum or product overflows
_FAR_LABEL = re.compile(r"(-?\d{3,}-\d\d-\d\dT\d\d:\d\d:\d\d)(\+00:00)?")


@dataclass(frozen=True)
class Windows:
    """The windows of one column of times.

    Parameters
    ----------
    every : Every
        Their length.
    zone : str or None
        IANA name of the zone whose calendar counts, only for zone-aware times; None means UTC (aware) or the clock
        as written (naive).
    axis : {"aware", "naive", "integer"}
        What the column holds; dates are naive.
    """

    every: Every
    zone: str | None
    axis: str

    def __post_init__(self) -> None:
        if self.axis not in ("aware", "naive", "integer"):
            raise ValueError(f"axis {self.axis!r}; expected 'aware', 'naive' or 'integer'")
        if self.axis == "integer" and self.every.unit:
            raise ValueError(f"windows of {self.every} in a column of integers; expected a whole number such as 100")
        if self.axis != "integer" and not self.every.unit:
            raise ValueError(f"windows of {self.every} in a column of times; expected a unit, such as {self.every}d")
        if self.zone is not None:
            if self.axis != "aware":
                what = "times without a zone" if self.axis == "naive" else "integers"
                raise ValueError(f"zone {self.zone!r} for a column of {what}; expected zone-aware timestamps")
            zone_info(self.zone)

    @classmethod
    def of(cls, data_type: pa.DataType, every: Every | str | int, zone: str | None = None) -> Windows:
        """The windows of a column of this Arrow type.

        Raises
        ------
        ValueError
            If a column of this type has no windows, or none of this length or zone.
        """
        every = every if isinstance(every, Every) else Every.parse(every)
        axis = _axis(data_type)
        if axis is None:
            what = "it has no values" if pa.types.is_null(scalar_type(data_type)) else f"{data_type} has no windows"
            raise ValueError(f"{what}; expected timestamps, dates, integers or texts of times")
        if axis == "text":
            axis = "naive" if zone is None else "aware"
        if _is_date(data_type) and every.unit in FIXED:
            raise ValueError(f"windows of {every} in a column of dates; expected days or longer")
        return cls(every, zone, axis)

    def starts(self, array: pa.Array) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """The start of each row's window.

        Parameters
        ----------
        array : pyarrow.Array
            Of any length and offset, and of any type of this axis: another unit or zone name is no other instant.

        Returns
        -------
        ndarray of int64, shape (rows,)
            Seconds since 1970-01-01T00:00 (UTC, or on the clock as written) or integers; 0 where not valid.
        ndarray of bool, shape (rows,)
            False where the row is null.

        Raises
        ------
        IncompatibleColumnError
            'type changed', if the array is of another axis.
        """
        if isinstance(array.type, pa.BaseExtensionType):
            return self.starts(array.storage)
        if pa.types.is_run_end_encoded(array.type):
            return self.starts(pc.run_end_decode(array))
        if pa.types.is_null(array.type):
            return np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_)
        if _axis(array.type) == "text" and self.axis != "integer":
            return self._of_texts(array)
        if _axis(array.type) != self.axis or (_is_date(array.type) and self.every.unit in FIXED):
            expected = {"aware": "zone-aware timestamps", "naive": "times without a zone", "integer": "integers"}
            raise IncompatibleColumnError(
                "type changed", f"{array.type} instead of {expected[self.axis]} for windows of {self.every}"
            )
        if pa.types.is_dictionary(array.type):
            return self._decoded(array)
        given = validity_booleans(array)
        valid = np.ones(len(array), np.bool_) if given is None else given
        if not valid.any():
            return np.zeros(len(array), np.int64), valid
        values = _counted(array)
        if given is not None and int(values.max()) - int(values.min()) >= LARGEST_TABLE * DAY:
            # What stands at null rows is anything; mostly zeros, which cost less as a row of 1970 than to replace.
            values = np.where(valid, values, values[valid.argmax()])
        starts = self._starts(values)
        if given is not None:
            starts *= valid
        return starts, valid

    def _of_texts(self, array: pa.Array) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Of times as texts: those with a UTC offset on the clock of UTC where the others have none."""
        array = plain_array(array)
        moments, naive, aware = parsed_texts(array)
        valid = aware | naive if self.axis == "naive" else aware
        nulls = booleans(pc.is_null(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array))
        bad = np.flatnonzero(~valid & ~nulls)
        if bad.size:
            what = "date or time" if self.axis == "naive" else "time with a UTC offset"
            shown = short(array[int(bad[0])].as_py(), 40)
            raise IncompatibleColumnError("unreadable", f"the text {shown} is no ISO 8601 {what}")
        if not valid.any():
            return np.zeros(valid.size, np.int64), valid
        return np.where(
            valid, self._starts(np.where(valid, moments // 10**6, moments[valid.argmax()] // 10**6)), 0
        ), valid

    def label(self, start: int) -> str:
        """The name of a window: its start as ISO 8601, with the zone's offset where the times have a zone.

        A start beyond the years 1 to 9999 is given in UTC, as NumPy renders it.
        """
        start = int(start)
        if self.axis == "integer":
            return str(start)
        try:
            moment = EPOCH + datetime.timedelta(seconds=start)
            if self.axis == "aware":
                moment = moment.replace(tzinfo=datetime.UTC)
                moment = moment if self.zone is None else moment.astimezone(zone_info(self.zone))
            return moment.isoformat()
        except (OverflowError, ValueError):
            return f"{np.datetime64(start, 's')}{'+00:00' if self.axis == 'aware' else ''}"

    def start_of(self, label: str) -> int:
        """The window that a label names, or in which a date, a time or an integer lies.

        A time without an offset is on the clock of the zone: the first instant at which it shows that time or, where
        it skips it, a later one.

        Raises
        ------
        ValueError
            If the label is invalid.
        """
        text = str(label).strip()
        if self.axis == "integer":
            if re.fullmatch(r"[+-]?[0-9]{1,30}", text) is None:
                raise ValueError(f"{label!r} is not an integer")
            return self._start(min(max(int(text), SMALLEST_INTEGER), LARGEST_INTEGER))
        seconds, is_instant = self._parsed(text)
        if self.axis == "aware" and not is_instant and self.zone is not None:
            if self.every.unit not in FIXED:
                first = self._first_days(np.array([_clipped(seconds) // DAY]))
                return int(first_instants(self.zone, first * DAY)[0])
            seconds = int(first_instants(self.zone, np.array([_clipped(seconds)]))[0])
        return self._start(_clipped(seconds))

    def start_of_integer(self, value: int) -> int:
        """The start of the window in which an integer lies, or an instant in seconds since 1970 (UTC, or the clock)."""
        return self._start(min(max(int(value), SMALLEST_INTEGER), LARGEST_INTEGER))

    def following(self, start: int) -> int:
        """The start of the next window; dates that a zone left out have none."""
        start = int(start)
        if self.axis == "integer":
            return (start // self.every.count + 1) * self.every.count
        if self.every.unit in FIXED:
            return start + self.every.length()
        local = np.array([start])
        if self.zone is not None:
            local = local_times(self.zone, local)
        following = self._first_days(local // DAY, ahead=1) * DAY
        return int((following if self.zone is None else first_instants(self.zone, following))[0])

    def end(self, start: int) -> int:
        """Where a window ends, exclusive: the start of the next."""
        return self.following(start)

    def document(self) -> dict[str, Any]:
        """As JSON; :meth:`from_document` is the inverse."""
        return {"every": str(self.every), "zone": self.zone, "axis": self.axis}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Windows:
        """The windows that :meth:`document` describes.

        Raises
        ------
        ValueError
            If the document is invalid.
        """
        missing = [name for name in ("every", "zone", "axis") if name not in document]
        if missing:
            raise ValueError(f"windows without {missing[0]!r}; expected 'every', 'zone' and 'axis'")
        return cls(Every.parse(document["every"]), document["zone"], document["axis"])

    def _decoded(self, array: pa.DictionaryArray) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Windows of the dictionary's values, then of the rows that point to them."""
        starts, valid = self.starts(array.dictionary)
        present = validity_booleans(array.indices)
        codes = numbers(array.indices).astype(np.int64, copy=False)
        if present is not None:
            codes = codes * present
        if starts.size == 0:
            return np.zeros(codes.size, np.int64), np.zeros(codes.size, np.bool_)
        rows = valid[codes] if present is None else valid[codes] & present
        return starts[codes] * rows, rows

    def start_at(self, value: int) -> int:
        """The start of the window in which so many seconds, or an integer, lie."""
        return self._start(value)

    def adds_up_to(self, longer: Every) -> bool:
        """Whether windows of another length, on the same clock, are made of whole ones of this."""
        return self.every.adds_up_to(longer, self.zone)

    def _start(self, value: int) -> int:
        return int(self._starts(np.array([value], np.int64))[0])

    def _starts(self, values: Integers) -> Integers:
        """Of seconds or integers, none of them null, at least one."""
        if self.axis == "integer":
            starts = values // self.every.count * self.every.count
            lowest = -(-SMALLEST_INTEGER // self.every.count) * self.every.count
            # The first window of all begins before the first integer: it is named by that integer.
            return np.where(values < lowest, SMALLEST_INTEGER, starts) if values.min() < lowest else starts
        if self.every.unit in FIXED:
            length = self.every.length()
            return values // length * length
        cuts = cut_points(self.zone, values) if self.zone is not None else None
        if cuts is None:
            return self._calendar_starts(values)
        return np.repeat(self._calendar_starts(cuts), np.diff(np.searchsorted(values, cuts), append=values.size))

    def _calendar_starts(self, seconds: Integers) -> Integers:
        days, rows = distinct((seconds if self.zone is None else local_times(self.zone, seconds)) // DAY)
        starts = self._first_days(days) * DAY
        return (starts if self.zone is None else first_instants(self.zone, starts))[rows]

    def _first_days(self, days: Integers, ahead: int = 0) -> Integers:
        """The first day of the window of each day, or of the window so many windows ahead."""
        if self.every.unit in DAYS:
            origin = FIRST_MONDAY if self.every.unit == "w" else 0
            length = self.every.count * DAYS[self.every.unit]
            return ((days - origin) // length + ahead) * length + origin
        length = self.every.length()
        months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) + _MONTHS_TO_1970
        first = (months // length + ahead) * length - _MONTHS_TO_1970
        return first.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)

    def _parsed(self, text: str) -> tuple[int, bool]:
        """Seconds since 1970-01-01T00:00, and whether they are in UTC rather than on a clock."""
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            far = _far_seconds(text, aware=self.axis == "aware")
            if far is None:
                raise ValueError(f"{text!r} is not a date or time; expected for instance 2013-03-10T00:00:00") from None
            return far, self.axis == "aware"
        offset = moment.utcoffset()
        if offset is not None and self.axis == "naive":
            raise ValueError(f"{text!r} has a UTC offset; the times of the column have none")
        clock = moment.replace(tzinfo=None) - EPOCH
        return (clock - (offset or datetime.timedelta(0))) // datetime.timedelta(seconds=1), offset is not None


def _axis(data_type: pa.DataType) -> str | None:
    """The axis of windows over values of a type, "text" where only they tell; None if there can be none."""
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        return _axis(data_type.storage_type)
    if types.is_dictionary(data_type) or types.is_run_end_encoded(data_type):
        return _axis(data_type.value_type)
    if types.is_timestamp(data_type):
        return "naive" if data_type.tz is None else "aware"
    if types.is_date(data_type):
        return "naive"
    if is_text(data_type):
        return "text"
    return "integer" if types.is_integer(data_type) else None


def _is_date(data_type: pa.DataType) -> bool:
    if isinstance(data_type, pa.BaseExtensionType):
        return _is_date(data_type.storage_type)
    if pa.types.is_dictionary(data_type) or pa.types.is_run_end_encoded(data_type):
        return _is_date(data_type.value_type)
    return bool(pa.types.is_date(data_type))


def _counted(array: pa.Array) -> Integers:
    """The values of an array, valid or not, as whole seconds or as integers."""
    types = pa.types
    if types.is_uint64(array.type):  # as integers are counted: the last int64 stands for what is beyond
        return np.asarray(np.minimum(numbers(array), np.uint64(LARGEST_INTEGER)), np.int64)
    if types.is_integer(array.type):
        return np.asarray(numbers(array), np.int64)
    if types.is_date32(array.type):
        seconds = fixed_width(array, np.int32).astype(np.int64) * DAY
    else:
        seconds = fixed_width(array, np.int64)
        per_second = 1_000 if types.is_date64(array.type) else _PER_SECOND[array.type.unit]
        if per_second > 1:
            seconds = seconds // per_second
    if seconds.min() < -_FARTHEST or seconds.max() > _FARTHEST:
        seconds = np.clip(seconds, -_FARTHEST, _FARTHEST)
    return seconds


def _far_seconds(label: str, *, aware: bool) -> int | None:
    """The start of a label that :meth:`Windows.label` rendered in UTC as NumPy does; None for other labels."""
    match = _FAR_LABEL.fullmatch(label)
    if match is None or (match[2] is not None) != aware:
        return None
    try:
        return int(np.datetime64(match[1], "s").astype(np.int64))
    except ValueError:
        return None


def _clipped(seconds: int) -> int:
    return min(max(seconds, -_FARTHEST), _FARTHEST)
