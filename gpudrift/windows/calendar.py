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
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_integers, fixed_width, numbers, validity_booleans
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER
from gpudrift.errors import IncompatibleColumnError

__all__ = ["Every", "Windows"]

Integers = npt.NDArray[np.int64]

_DAY = 86_400
_FIXED = {"s": 1, "min": 60, "h": 3_600}
_DAYS = {"d": 1, "w": 7}
_MONTHS = {"mo": 1, "q": 3, "y": 12}
_UNITS = (*_FIXED, *_DAYS, *_MONTHS)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST_MONDAY = 4  # 1970-01-05, in days since 1970-01-01
_MONTHS_TO_1970 = 1970 * 12
_LARGEST_COUNT = 10**6  # in any unit of time: starts and ends stay far from where int64 ends

_FARTHEST = 10**13  # seconds from 1970: all that microseconds can say, and no sum or product overflows
_LARGEST_TABLE = 100_000  # days between the first and the last for which all days between may be tabulated
_EPOCH = datetime.datetime(1970, 1, 1)

# Zones have no rules before 1800, only local mean time, and from 2100 on the same rules for ever: what they do there
# is what they do in a year of these 400, after which dates and weekdays repeat. No year needs to be within datetime's.
_CYCLE = 146_097 * _DAY
_RULES_BEGIN = (datetime.datetime(1800, 1, 1) - _EPOCH) // datetime.timedelta(seconds=1)
_RULES_REPEAT = (datetime.datetime(2100, 1, 1) - _EPOCH) // datetime.timedelta(seconds=1)

_FAR_LABEL = re.compile(r"(-?\d{3,}-\d\d-\d\dT\d\d:\d\d:\d\d)(\+00:00)?")


@dataclass(frozen=True)
class Every:
    """How long windows are.

    Parameters
    ----------
    count : int
        How many units, at least 1; at most a million of a unit of time.
    unit : {"s", "min", "h", "d", "w", "mo", "q", "y", ""}
        Second, minute, hour, day, week, month, quarter, year; "" for windows of an integer axis.
    """

    count: int
    unit: str

    def __post_init__(self) -> None:
        if self.unit and self.unit not in _UNITS:
            raise ValueError(f"unknown unit of time {self.unit!r}; choose from {', '.join(_UNITS)}")
        largest = _LARGEST_COUNT if self.unit else LARGEST_INTEGER
        count: Any = self.count
        if type(count) is not int or not 1 <= count <= largest:
            raise ValueError(f"windows of {count!r}{self.unit}: expected a count from 1 to {largest}")

    @classmethod
    def parse(cls, text: str | int) -> Every:
        """The length that a text such as ``1d``, ``15min`` or ``1mo`` says; ``100`` is of an integer axis.

        Raises
        ------
        ValueError
            If it says none.
        """
        match = re.fullmatch(r"([0-9]{1,19})([a-z]*)", str(text))
        if match is None or match[2] not in ("", *_UNITS):
            raise ValueError(
                f"invalid window length {text!r}; expected a count and a unit ({', '.join(_UNITS)}), such as '1d', "
                "or a whole number for a column of integers"
            )
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def adds_up_to(self, longer: Every, zone: str | None = None) -> bool:
        """Whether every window of the longer length is a union of windows of this one.

        Where a zone's clock decides, its offsets since 1970 do: hours add up to days where they were whole hours.
        The answer is no for what adds up by chance of the calendar alone (weeks in 400 years).

        Parameters
        ----------
        longer : Every
            Of the same axis; equal lengths add up.
        zone : str or None
            The zone of both, as in :class:`Windows`; None for UTC and for clocks as written.
        """
        if not self.unit or not longer.unit:
            return self.unit == longer.unit and longer.count % self.count == 0
        if self.unit in _MONTHS or self.unit == "w":
            same = (longer.unit in _MONTHS) if self.unit in _MONTHS else (longer.unit == "w")
            return same and longer._length() % self._length() == 0
        length = self._length()
        if zone is not None and self.unit in _FIXED and longer.unit not in _FIXED:
            times = _clock_times(zone)
            if times != {0}:  # else it is UTC by another name
                return _DAY % length == 0 and all(time % length == 0 for time in times)
        if zone is not None and self.unit == "d" and longer.unit in _FIXED and _clock_times(zone) != {0}:
            return False
        if longer.unit in _MONTHS:
            return _DAY % length == 0
        begins_alike = longer.unit != "w" or _FIRST_MONDAY * _DAY % length == 0
        return begins_alike and longer._length() % length == 0

    def _length(self) -> int:
        """In months, or in seconds on a clock that never changes."""
        return self.count * (_MONTHS.get(self.unit) or _FIXED.get(self.unit) or _DAYS[self.unit] * _DAY)


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
            raise ValueError(f"axis {self.axis!r}: expected 'aware', 'naive' or 'integer'")
        if self.axis == "integer" and self.every.unit:
            raise ValueError(f"windows of {self.every} in a column of integers; expected a whole number such as 100")
        if self.axis != "integer" and not self.every.unit:
            raise ValueError(f"windows of {self.every} in a column of times; expected a unit, such as {self.every}d")
        if self.zone is not None:
            if self.axis != "aware":
                what = "times without a zone" if self.axis == "naive" else "integers"
                raise ValueError(f"zone {self.zone!r} for a column of {what}; expected zone-aware timestamps")
            _zone(self.zone)

    @classmethod
    def of(cls, data_type: pa.DataType, every: Every | str | int, zone: str | None = None) -> Windows:
        """The windows of a column of this Arrow type.

        Raises
        ------
        ValueError
            If the type is no time, or the length or the zone does not go with it.
        """
        every = every if isinstance(every, Every) else Every.parse(every)
        axis = _axis(data_type)
        if axis is None:
            raise ValueError(f"{data_type} has no windows; expected timestamps, dates or integers")
        if _is_date(data_type) and every.unit in _FIXED:
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
        if _axis(array.type) != self.axis or (_is_date(array.type) and self.every.unit in _FIXED):
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
        if given is not None and int(values.max()) - int(values.min()) >= _LARGEST_TABLE * _DAY:
            # What stands at null rows is anything; mostly zeros, which cost less as a row of 1970 than to replace.
            values = np.where(valid, values, values[valid.argmax()])
        starts = self._starts(values)
        if given is not None:
            starts *= valid
        return starts, valid

    def label(self, start: int) -> str:
        """The name of a window: its start as ISO 8601, with the zone's offset where the times have a zone.

        A start beyond the years 1 to 9999 is given in UTC, as NumPy renders it.
        """
        start = int(start)
        if self.axis == "integer":
            return str(start)
        try:
            moment = _EPOCH + datetime.timedelta(seconds=start)
            if self.axis == "aware":
                moment = moment.replace(tzinfo=datetime.UTC)
                moment = moment if self.zone is None else moment.astimezone(_zone(self.zone))
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
            If it is no such thing.
        """
        text = str(label).strip()
        if self.axis == "integer":
            if re.fullmatch(r"[+-]?[0-9]{1,30}", text) is None:
                raise ValueError(f"{label!r} is no integer")
            return self._start(min(max(int(text), SMALLEST_INTEGER), LARGEST_INTEGER))
        seconds, is_instant = self._parsed(text)
        if self.axis == "aware" and not is_instant and self.zone is not None:
            if self.every.unit not in _FIXED:
                first = self._first_days(np.array([_clipped(seconds) // _DAY]))
                return int(_first_instants(self.zone, first * _DAY)[0])
            seconds = int(_first_instants(self.zone, np.array([_clipped(seconds)]))[0])
        return self._start(_clipped(seconds))

    def following(self, start: int) -> int:
        """The start of the next window; dates that a zone left out have none."""
        start = int(start)
        if self.axis == "integer":
            return (start // self.every.count + 1) * self.every.count
        if self.every.unit in _FIXED:
            return start + self.every._length()
        local = np.array([start])
        if self.zone is not None:
            local = _local(self.zone, local)
        following = self._first_days(local // _DAY, ahead=1) * _DAY
        return int((following if self.zone is None else _first_instants(self.zone, following))[0])

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
            If it describes none.
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
        if self.every.unit in _FIXED:
            length = self.every._length()
            return values // length * length
        cuts = _cuts(self.zone, values) if self.zone is not None else None
        if cuts is None:
            return self._calendar_starts(values)
        return np.repeat(self._calendar_starts(cuts), np.diff(np.searchsorted(values, cuts), append=values.size))

    def _calendar_starts(self, seconds: Integers) -> Integers:
        days, rows = _distinct((seconds if self.zone is None else _local(self.zone, seconds)) // _DAY)
        starts = self._first_days(days) * _DAY
        return (starts if self.zone is None else _first_instants(self.zone, starts))[rows]

    def _first_days(self, days: Integers, ahead: int = 0) -> Integers:
        """The first day of the window of each day, or of the window so many windows ahead."""
        if self.every.unit in _DAYS:
            origin = _FIRST_MONDAY if self.every.unit == "w" else 0
            length = self.every.count * _DAYS[self.every.unit]
            return ((days - origin) // length + ahead) * length + origin
        length = self.every._length()
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
                raise ValueError(f"{text!r} is no date or time; expected one such as 2013-03-10T00:00:00") from None
            return far, self.axis == "aware"
        offset = moment.utcoffset()
        if offset is not None and self.axis == "naive":
            raise ValueError(f"{text!r} has an offset; expected a date or time without one, as the column's")
        clock = moment.replace(tzinfo=None) - _EPOCH
        return (clock - (offset or datetime.timedelta(0))) // datetime.timedelta(seconds=1), offset is not None


def _axis(data_type: pa.DataType) -> str | None:
    """What the values of a type are to windows; None if nothing."""
    types = pa.types
    if isinstance(data_type, pa.BaseExtensionType):
        return _axis(data_type.storage_type)
    if types.is_dictionary(data_type) or types.is_run_end_encoded(data_type):
        return _axis(data_type.value_type)
    if types.is_timestamp(data_type):
        return "naive" if data_type.tz is None else "aware"
    if types.is_date(data_type):
        return "naive"
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
        seconds = fixed_width(array, np.int32).astype(np.int64) * _DAY
    else:
        seconds = fixed_width(array, np.int64)
        per_second = 1_000 if types.is_date64(array.type) else _PER_SECOND[array.type.unit]
        if per_second > 1:
            seconds = seconds // per_second
    if seconds.min() < -_FARTHEST or seconds.max() > _FARTHEST:
        seconds = np.clip(seconds, -_FARTHEST, _FARTHEST)
    return seconds


def _far_seconds(label: str, *, aware: bool) -> int | None:
    """The start that :meth:`Windows.label` gave in UTC as NumPy renders it; None if the label is none of those."""
    match = _FAR_LABEL.fullmatch(label)
    if match is None or (match[2] is not None) != aware:
        return None
    try:
        return int(np.datetime64(match[1], "s").astype(np.int64))
    except ValueError:
        return None


def _clipped(seconds: int) -> int:
    return min(max(seconds, -_FARTHEST), _FARTHEST)


def _distinct(values: Integers) -> tuple[Integers, Integers]:
    """Some integers, all values among them, and where among them each value is; overwrites the values."""
    low, high = int(values.min()), int(values.max())
    if high - low < _LARGEST_TABLE:
        values -= low  # in place, here and below: a new array of a million rows costs as much as what is done to it
        return np.arange(low, high + 1), values
    # One outlier must not make a table of all the years between: by hash, which takes four times as long.
    encoded = pc.dictionary_encode(arrow_integers(values))
    return numbers(encoded.dictionary), numbers(encoded.indices).astype(np.int64)


def _zone(name: str) -> ZoneInfo:
    """A zone by its IANA name.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError, TypeError):
        raise ValueError(f"unknown time zone {name!r}; expected a name such as 'Europe/Berlin'") from None


def _local(zone: str, seconds: Integers) -> Integers:
    """What the clocks of a zone show at each instant, as seconds since 1970-01-01T00:00.

    A day of UTC has one offset but for the few in which it changes once, so rows look theirs up by their day; a
    binary search in the changes would cost three times as much.
    """
    days, rows = _distinct(seconds // _DAY)
    midnight = days * _DAY
    shift = _cycles(midnight)
    instants, offsets = _changes(zone, midnight - shift)
    first = np.searchsorted(instants, midnight - shift, "right") - 1
    last = np.searchsorted(instants, midnight - shift + (_DAY - 1), "right") - 1
    local = offsets[first][rows]
    changing = first != last
    if changing.any():
        several = np.flatnonzero(changing[rows])
        day = rows[several]
        changed = seconds[several] >= (instants[last] + shift)[day]
        local[several] = np.where(changed, offsets[last][day], local[several])
    local += seconds
    return local


def _cuts(zone: str, seconds: Integers) -> Integers | None:
    """The first of some ordered instants and all later ones at which the date or the offset changes in a zone.

    Between two of them the window is the same, so that ordered rows need no arithmetic each (a third of the time).
    None where rows are not ordered, are few for so many days or lie beyond the years of :func:`_cycles`.
    """
    low, high = int(seconds[0]), int(seconds[-1])
    days = (high - low) // _DAY
    if not 0 <= days < min(seconds.size // 16, _LARGEST_TABLE) or low < _RULES_BEGIN or high > _RULES_REPEAT:
        return None
    if not (seconds[1:] >= seconds[:-1]).all():
        return None
    midnights = np.arange(low // _DAY - 1, high // _DAY + 2) * _DAY
    instants, offsets = _changes(zone, midnights)
    again = instants + -(instants + offsets) % _DAY  # the midnight after a change may be the second of its date
    cuts = np.concatenate([_first_instants(zone, midnights), instants, again])
    return np.unique(np.append(cuts[(cuts > low) & (cuts <= high)], low))


def _first_instants(zone: str, local: Integers) -> Integers:
    """The first instant at which the clocks of a zone show each of some times, or a later one where they skip it."""
    earliest = local - _DAY  # offsets are less than a day
    shift = _cycles(earliest)
    earliest, local = earliest - shift, local - shift
    instants, offsets = _changes(zone, np.concatenate([earliest, earliest + 2 * _DAY]))
    ends = np.append(instants[1:], LARGEST_INTEGER)
    change = np.searchsorted(instants, earliest, "right") - 1
    while True:
        first: Integers = np.maximum(instants[change], local - offsets[change])
        later = first >= ends[change]
        if not later.any():
            first += shift
            return first
        change += later


def _cycles(seconds: Integers) -> Integers:
    """What to subtract from instants to come to those years in which a zone does the same and which have a table."""
    before = (seconds - (_RULES_BEGIN - _CYCLE)) // _CYCLE * _CYCLE
    after = (seconds - _RULES_REPEAT) // _CYCLE * _CYCLE
    shift: Integers = np.minimum(before, 0) + np.maximum(after, 0)
    return shift


def _changes(zone: str, seconds: Integers) -> tuple[Integers, Integers]:
    """When the offset of a zone changes in the years of some instants, and its seconds east of UTC from then on.

    The beginning of each of these years is one of the instants, so all of them are at or after one.
    """
    years = np.unique(seconds.astype("datetime64[s]").astype("datetime64[Y]")).astype(np.int64) + 1970
    found = [_year(zone, year) for year in years.tolist()]
    instants = [instant for year in found for instant in year[0]]
    offsets = [offset for year in found for offset in year[1]]
    return np.array(instants, np.int64), np.array(offsets, np.int64)


@lru_cache(maxsize=20_000)
def _year(zone: str, year: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """When the offset of a zone changes in one year of UTC, from its beginning, and to what.

    Asked at each midnight of UTC and then by bisection (0.25 ms a year): no zone has had two changes within three
    days, so there is at most one in a day.
    """
    clock, second, day = _zone(zone), datetime.timedelta(seconds=1), datetime.timedelta(days=1)

    def offset(moment: datetime.datetime) -> datetime.timedelta:
        shown = clock.fromutc(moment).utcoffset()
        assert shown is not None
        return shown

    low = datetime.datetime(year, 1, 1, tzinfo=clock)  # its clock says UTC, as fromutc() wants it
    instants, offsets = [low], [offset(low)]
    while low.year == year:
        high = low + day
        if high.year == year:
            following = high
        else:
            high, following = high - second, high
        if offset(high) != offsets[-1]:
            while high - low > second:
                middle = low + (high - low) // (2 * second) * second
                low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
            instants.append(high)
            offsets.append(offset(high))
        low = following
    seconds = tuple((instant.replace(tzinfo=None) - _EPOCH) // second for instant in instants)
    return seconds, tuple(shown // second for shown in offsets)


@lru_cache(maxsize=1_000)
def _clock_times(zone: str) -> frozenset[int]:
    """All offsets of a zone since 1970 and the second of the day, in UTC, of all their changes."""
    times: set[int] = set()
    for year in range(1970, 2101):
        instants, offsets = _year(zone, year)
        times.update(offsets, (instant % _DAY for instant in instants))
    return frozenset(times)
