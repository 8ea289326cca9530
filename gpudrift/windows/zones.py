"""Time zones: the local time at many instants, the first instant of a local time, and when offsets change."""

from __future__ import annotations

import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_integers, numbers
from gpudrift.columns.schema import LARGEST_INTEGER

__all__ = [
    "DAY",
    "EPOCH",
    "LARGEST_TABLE",
    "changes",
    "clock_times",
    "cut_points",
    "distinct",
    "first_instants",
    "local_times",
    "zone_info",
]

Integers = npt.NDArray[np.int64]

DAY = 86_400
EPOCH = datetime.datetime(1970, 1, 1)
LARGEST_TABLE = 100_000  # days between the first and the last for which all days between may be tabulated

# Zones have no rules before 1800, only local mean time, and from 2100 on the same rules for ever: what they do there
# is what they do in a year of these 400, after which dates and weekdays repeat. No year needs to be within datetime's.
_CYCLE = 146_097 * DAY
_RULES_BEGIN = (datetime.datetime(1800, 1, 1) - EPOCH) // datetime.timedelta(seconds=1)
_RULES_REPEAT = (datetime.datetime(2100, 1, 1) - EPOCH) // datetime.timedelta(seconds=1)


def zone_info(name: str) -> ZoneInfo:
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


def local_times(zone: str, seconds: Integers) -> Integers:
    """What the clocks of a zone show at each instant, as seconds since 1970-01-01T00:00.

    A day of UTC has one offset but for the few in which it changes once, so rows look theirs up by their day; a
    binary search in the changes would cost three times as much.
    """
    days, rows = distinct(seconds // DAY)
    midnight = days * DAY
    shift = _cycles(midnight)
    instants, offsets = changes(zone, midnight - shift)
    first = np.searchsorted(instants, midnight - shift, "right") - 1
    last = np.searchsorted(instants, midnight - shift + (DAY - 1), "right") - 1
    local = offsets[first][rows]
    changing = first != last
    if changing.any():
        several = np.flatnonzero(changing[rows])
        day = rows[several]
        changed = seconds[several] >= (instants[last] + shift)[day]
        local[several] = np.where(changed, offsets[last][day], local[several])
    local += seconds
    return local


def cut_points(zone: str, seconds: Integers) -> Integers | None:
    """The first of some ordered instants and all later ones at which the date or the offset changes in a zone.

    Between two of them the window is the same, so that ordered rows need no arithmetic each (a third of the time).
    None where rows are not ordered, are few for so many days or lie beyond the years of :func:`_cycles`.
    """
    low, high = int(seconds[0]), int(seconds[-1])
    days = (high - low) // DAY
    if not 0 <= days < min(seconds.size // 16, LARGEST_TABLE) or low < _RULES_BEGIN or high > _RULES_REPEAT:
        return None
    if not (seconds[1:] >= seconds[:-1]).all():
        return None
    midnights = np.arange(low // DAY - 1, high // DAY + 2) * DAY
    instants, offsets = changes(zone, midnights)
    again = instants + -(instants + offsets) % DAY  # the midnight after a change may be the second of its date
    cuts = np.concatenate([first_instants(zone, midnights), instants, again])
    return np.unique(np.append(cuts[(cuts > low) & (cuts <= high)], low))


def first_instants(zone: str, local: Integers) -> Integers:
    """The first instant at which the clocks of a zone show each of some times, or a later one where they skip it."""
    earliest = local - DAY  # offsets are less than a day
    shift = _cycles(earliest)
    earliest, local = earliest - shift, local - shift
    instants, offsets = changes(zone, np.concatenate([earliest, earliest + 2 * DAY]))
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


def changes(zone: str, seconds: Integers) -> tuple[Integers, Integers]:
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
    clock, second, day = zone_info(zone), datetime.timedelta(seconds=1), datetime.timedelta(days=1)

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
    seconds = tuple((instant.replace(tzinfo=None) - EPOCH) // second for instant in instants)
    return seconds, tuple(shown // second for shown in offsets)


@lru_cache(maxsize=1_000)
def clock_times(zone: str) -> frozenset[int]:
    """All offsets of a zone since 1970 and the second of the day, in UTC, of all their changes."""
    times: set[int] = set()
    for year in range(1970, 2101):
        instants, offsets = _year(zone, year)
        times.update(offsets, (instant % DAY for instant in instants))
    return frozenset(times)


def distinct(values: Integers) -> tuple[Integers, Integers]:
    """Some integers, all values among them, and where among them each value is; overwrites the values."""
    low, high = int(values.min()), int(values.max())
    if high - low < LARGEST_TABLE:
        values -= low  # in place, here and below: a new array of a million rows costs as much as what is done to it
        return np.arange(low, high + 1), values
    # One outlier must not make a table of all the years between: by hash, which takes four times as long.
    encoded = pc.dictionary_encode(arrow_integers(values))
    return numbers(encoded.dictionary), numbers(encoded.indices).astype(np.int64)
