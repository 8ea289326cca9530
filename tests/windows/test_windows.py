"""Windows of time: against loops over datetime and zoneinfo, one row at a time, and the laws of the module."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpudrift.errors import IncompatibleColumnError
from gpudrift.windows.calendar import Windows
from gpudrift.windows.every import Every
from gpudrift.windows.zones import changes, local_times

EPOCH = dt.datetime(1970, 1, 1)
SECOND = dt.timedelta(seconds=1)
FIXED = {"s": 1, "min": 60, "h": 3600}
ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # half an hour of daylight saving
    "America/Sao_Paulo",  # midnight skipped
    "Asia/Beirut",
    "America/Havana",  # skipped and repeated
    "Atlantic/Azores",
    "Asia/Amman",
    "America/St_Johns",  # back over midnight at 00:01
    "Pacific/Apia",  # without 2011-12-30, and twice 1892-07-04
    "Pacific/Kwajalein",
    "Africa/Casablanca",
    "UTC",
]
EVERIES = ["1s", "90s", "15min", "1h", "5h", "1d", "3d", "1w", "2w", "1mo", "5mo", "1q", "1y", "7y", "400y"]
CALENDAR = [every for every in EVERIES if Every.parse(every).unit not in FIXED]
# Instants near which something is odd, in some of the zones.
ODD = [
    "2018-11-04T03:00",
    "2022-03-26T22:00",
    "2020-11-01T05:00",
    "2020-03-08T05:00",
    "2020-10-25T01:00",
    "2020-10-29T22:00",
    "2006-10-29T02:31",
    "2011-12-30T10:00",
    "1892-07-04T20:00",
    "1993-08-21T12:00",
    "1969-10-01T00:00",
    "2013-03-10T07:00",
    "1970-01-01T00:00",
    "1970-01-05T00:00",
    "2400-02-29T00:00",
    "2100-01-01T00:00",
    "2500-01-01T00:00",
    "1800-01-01T00:00",
    "0003-01-01T00:00",
    "9995-12-31T00:00",
]
zones = st.sampled_from(ZONES)
near_odd = st.tuples(st.sampled_from(ODD), st.integers(-2 * 86_400, 2 * 86_400)).map(
    lambda drawn: (dt.datetime.fromisoformat(drawn[0]) - EPOCH) // SECOND + drawn[1]
)
moments = near_odd | st.integers(-(2 * 10**9), 4 * 10**9) | st.integers(-62_000_000_000, 253_000_000_000)


# The oracle: what the clock of the zone shows, its window's beginning, and the first instant that shows it or more.


def shown(second: int, zone: str | None) -> dt.datetime:
    moment = EPOCH + second * SECOND
    if zone is None:
        return moment
    return moment.replace(tzinfo=dt.UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def beginning(date: dt.date, every: Every) -> dt.date | None:
    """None where it lies before the year 1, of which datetime knows nothing."""
    if every.unit in ("d", "w"):
        origin = dt.date(1970, 1, 5) if every.unit == "w" else dt.date(1970, 1, 1)
        length = every.count * (7 if every.unit == "w" else 1)
        return date - dt.timedelta(days=(date - origin).days % length)
    length = every.count * {"mo": 1, "q": 3, "y": 12}[every.unit]
    months = date.year * 12 + date.month - 1
    months -= months % length
    return dt.date(months // 12, months % 12 + 1, 1) if months >= 12 else None


@lru_cache(maxsize=100_000)
def first_instant(date: dt.date, zone: str | None) -> int:
    midnight = dt.datetime(date.year, date.month, date.day)
    second = (midnight - EPOCH) // SECOND
    if zone is None:
        return second
    # Quarter by quarter of an hour from a day before; then by half a minute, since clocks that were put back a minute
    # after midnight show it twice; then second by second.
    second -= 86_400
    for step in (900, 30, 1):
        while shown(second, zone) < midnight:
            second += step
        second -= step
    return second + 1


def expected_start(second: int, every: Every, zone: str | None) -> int | None:
    if every.unit in FIXED:
        length = FIXED[every.unit] * every.count
        return second - second % length
    date = beginning(shown(second, zone).date(), every)
    return None if date is None else first_instant(date, zone)


def instants(seconds: list[int | None], unit: str = "s", zone: str | None = "UTC") -> pa.Array:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    scaled = [None if second is None else second * per_second for second in seconds]
    return pa.array(scaled, pa.int64()).cast(pa.timestamp(unit, zone))


def starts_of(windows: Windows, array: pa.Array) -> list[int | None]:
    starts, valid = windows.starts(array)
    assert starts.dtype == np.int64
    assert valid.dtype == np.bool_
    assert starts.shape == valid.shape == (len(array),)
    assert not starts[~valid].any()
    return [start if present else None for start, present in zip(starts.tolist(), valid.tolist(), strict=True)]


@settings(deadline=None, max_examples=80)
@given(
    st.lists(moments, max_size=12),
    zones | st.none(),
    st.sampled_from(EVERIES),
    st.sampled_from(["s", "ms", "us"]),
    st.booleans(),
)
@example([1541300400 + step for step in range(-7200, 7200, 60)], "America/Sao_Paulo", "1d", "s", True)
@example([1162089060 + step for step in range(-7200, 7200, 60)], "America/St_Johns", "1d", "s", True)
def test_starts_are_the_oracles(seconds, zone, every, unit, in_order):
    windows = Windows.of(pa.timestamp("s", "UTC"), every, zone)
    seconds = sorted(seconds) if in_order else seconds
    for second, start in zip(seconds, starts_of(windows, instants(seconds, unit)), strict=True):
        expected = expected_start(second, windows.every, zone)
        assert expected is None or start == expected, (second, shown(second, zone))


@pytest.mark.parametrize("zone", ZONES)
def test_rows_in_order_fall_where_they_fall_without(zone):
    rng = np.random.default_rng(1)
    for odd in ODD:
        centre = (dt.datetime.fromisoformat(odd) - EPOCH) // SECOND
        seconds = np.sort(rng.integers(centre - 3 * 86_400, centre + 3 * 86_400, 400))
        mixed = rng.permutation(400)
        for every in ("1d", "1w", "1mo"):
            windows = Windows.of(pa.timestamp("s", "UTC"), every, zone)
            in_order = starts_of(windows, instants(seconds.tolist()))
            assert [in_order[row] for row in mixed] == starts_of(windows, instants(seconds[mixed].tolist()))
            if every == "1d":
                assert in_order == [expected_start(second, windows.every, zone) for second in seconds.tolist()]


@settings(deadline=None)
@given(st.lists(st.integers(-62_000_000_000, 253_000_000_000) | near_odd, max_size=12), st.sampled_from(EVERIES))
def test_clocks_as_written(seconds, every):
    windows = Windows.of(pa.timestamp("ms"), every)
    for second, start in zip(seconds, starts_of(windows, instants(seconds, "ms", None)), strict=True):
        expected = expected_start(second, windows.every, None)
        assert expected is None or start == expected


@settings(deadline=None)
@given(st.lists(st.dates(dt.date(2, 1, 1)) | st.none(), max_size=12), st.sampled_from(CALENDAR))
def test_dates(dates, every):
    for data_type in (pa.date32(), pa.date64()):
        windows = Windows.of(data_type, every)
        for date, start in zip(dates, starts_of(windows, pa.array(dates, data_type)), strict=True):
            begins = None if date is None else beginning(date, windows.every)
            if begins is not None:
                assert start == first_instant(begins, None)
            assert (start is None) == (date is None)


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300) | st.none(), max_size=12),
    st.integers(1, 1000) | st.integers(1, 2**63 - 1),
)
def test_integers(numbers, count):
    windows = Windows.of(pa.int64(), count)
    for number, start in zip(numbers, starts_of(windows, pa.array(numbers, pa.int64())), strict=True):
        if number is None:
            assert start is None
            continue
        assert start == max(number - number % count, -(2**63))
        assert start <= number < windows.following(start)
        assert windows.start_of(windows.label(start)) == start


@pytest.mark.parametrize("data_type", [getattr(pa, f"{sign}int{bits}")() for sign in "u" for bits in (8, 16, 32, 64)])
def test_unsigned_integers(data_type):
    windows = Windows.of(data_type, 100)
    assert starts_of(windows, pa.array([0, 99, 100, None, 255], data_type)) == [0, 0, 100, None, 200]
    assert starts_of(windows, pa.array([-1, -128], pa.int8())) == [-100, -200]


def test_what_is_beyond_int64_counts_in_its_last_window():
    assert starts_of(Windows.of(pa.uint64(), 100), pa.array([2**64 - 1], pa.uint64())) == [(2**63 - 1) // 100 * 100]


@settings(deadline=None, max_examples=80)
@given(st.lists(moments | st.none(), max_size=30), st.data(), zones | st.none(), st.sampled_from(EVERIES))
def test_cuts_do_not_matter(seconds, data, zone, every):
    windows = Windows.of(pa.timestamp("s", "UTC"), every, zone)
    array = instants(seconds)
    whole = starts_of(windows, array)
    cut = data.draw(st.integers(0, len(seconds)))
    assert starts_of(windows, array[:cut]) + starts_of(windows, array[cut:]) == whole
    assert starts_of(windows, array.dictionary_encode()) == whole
    assert starts_of(windows, array.dictionary_encode()[cut:]) == whole[cut:]
    run_ends = pa.array(range(1, len(seconds) + 1), pa.int32())
    assert starts_of(windows, pa.RunEndEncodedArray.from_arrays(run_ends, array)) == whole


def back_over_midnight(second: int, zone: str | None) -> bool:
    """Whether the clock showed a later date within the two days before: the exception that the module states."""
    date = shown(second, zone).date()
    return any(shown(second - step, zone).date() > date for step in range(0, 2 * 86_400, 30))


@settings(deadline=None, max_examples=80)
@given(moments, zones | st.none(), st.sampled_from(EVERIES))
def test_windows_partition_the_axis_and_have_names(second, zone, every):
    windows = Windows.of(pa.timestamp("s", "UTC"), every, zone)
    (start,) = starts_of(windows, instants([second]))
    following = windows.following(start)
    assert start <= second
    assert second < following or back_over_midnight(second, zone)
    assert starts_of(windows, instants([start])) == [start] or every == "400y"
    assert starts_of(windows, instants([following])) == [following]
    assert following == windows.end(start)
    assert windows.start_of(windows.label(start)) == start
    assert windows.start_of(windows.label(following)) == following
    assert windows.start_of((EPOCH + second * SECOND).isoformat() + "+00:00") == start
    if windows.every.unit not in FIXED:  # the date on the clock is a name as well
        assert windows.start_of(shown(second, zone).date().isoformat()) == start
        assert windows.start_of(shown(second, zone).isoformat()) == start


@settings(deadline=None, max_examples=80)
@given(st.lists(moments, min_size=1, max_size=10), zones | st.none(), st.data())
def test_what_adds_up_lies_inside(seconds, zone, data):
    pairs = [
        (a, b)
        for a in (*EVERIES, "30min", "2d", "24h")
        for b in (*EVERIES, "2w", "2d")
        if Every.parse(a).adds_up_to(Every.parse(b), zone)
    ]
    shorter, longer = (
        Windows.of(pa.timestamp("s", "UTC"), every, zone) for every in data.draw(st.sampled_from(sorted(pairs)))
    )
    seconds = [max(second, 0) for second in seconds]  # since 1970, as adds_up_to() says
    inside = starts_of(shorter, instants(seconds))
    # A window that began before 1970 is of the old offsets.
    pairs = zip(inside, starts_of(longer, instants(inside)), starts_of(longer, instants(seconds)), strict=True)
    assert all(of_start == of_row for start, of_start, of_row in pairs if start >= 0)


@pytest.mark.parametrize(
    ("shorter", "longer", "zone", "adds_up"),
    [
        ("1h", "1d", None, True),
        ("1h", "1d", "America/New_York", True),
        ("1h", "1mo", "Europe/Berlin", True),
        ("1h", "1d", "Asia/Kolkata", False),
        ("30min", "1d", "Asia/Kolkata", True),
        ("1h", "1d", "Australia/Lord_Howe", False),
        ("2h", "1d", "Europe/Berlin", False),
        ("24h", "1d", None, True),
        ("24h", "1d", "Etc/UTC", True),
        ("24h", "1d", "Europe/Berlin", False),
        ("1d", "24h", "Europe/Berlin", False),
        ("1d", "48h", None, True),
        ("15min", "1h", "Asia/Kolkata", True),
        ("5h", "1d", None, False),
        ("1d", "1w", "Europe/Berlin", True),
        ("1d", "1mo", None, True),
        ("1d", "7d", None, True),
        ("7d", "1w", None, False),
        ("2d", "1w", None, False),
        ("2d", "2w", None, True),
        ("3d", "3w", None, False),
        ("1w", "1mo", None, False),
        ("1w", "3w", None, True),
        ("1mo", "1q", None, True),
        ("1q", "1y", None, True),
        ("3mo", "1q", None, True),
        ("1q", "1mo", None, False),
        ("5mo", "1y", None, False),
        ("1y", "365d", None, False),
        ("1mo", "1d", None, False),
        ("10", "100", None, True),
        ("30", "100", None, False),
        ("10", "10d", None, False),
        ("1d", "1d", "America/St_Johns", True),
    ],
)
def test_what_adds_up(shorter, longer, zone, adds_up):
    assert Every.parse(shorter).adds_up_to(Every.parse(longer), zone) is adds_up


@pytest.mark.parametrize(
    ("zone", "day", "starts", "hours"),
    [
        ("America/New_York", "2013-03-10", "2013-03-10T00:00:00-05:00", 23),
        ("America/New_York", "2013-11-03", "2013-11-03T00:00:00-04:00", 25),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T01:00:00-02:00", 23),
        ("Asia/Beirut", "2022-03-27", "2022-03-27T01:00:00+03:00", 23),
        ("America/Havana", "2020-11-01", "2020-11-01T00:00:00-04:00", 25),
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17T00:00:00-02:00", 25),
        ("Pacific/Apia", "2011-12-29", "2011-12-29T00:00:00-10:00", 24),
        ("Pacific/Apia", "1892-07-04", "1892-07-04T00:00:00+12:33:04", 48),
        ("Australia/Lord_Howe", "2020-10-04", "2020-10-04T00:00:00+10:30", 23.5),
    ],
)
def test_days_that_are_not_of_24_hours(zone, day, starts, hours):
    windows = Windows.of(pa.timestamp("us", "UTC"), "1d", zone)
    start = windows.start_of(day)
    assert windows.label(start) == starts
    assert windows.following(start) - start == hours * 3600


def test_a_date_that_was_left_out_has_no_window():
    windows = Windows.of(pa.timestamp("us", "UTC"), "1d", "Pacific/Apia")
    assert windows.label(windows.following(windows.start_of("2011-12-29"))) == "2011-12-31T00:00:00+14:00"
    assert windows.start_of("2011-12-30") == windows.start_of("2011-12-31")


def test_where_the_clock_went_back_over_midnight_dates_win():
    windows = Windows.of(pa.timestamp("s", "UTC"), "1d", "America/St_Johns")
    back = 1162089060  # 2006-10-29, 00:01 to 23:01 of the day before
    old, new = windows.start_of("2006-10-28"), windows.start_of("2006-10-29")
    assert starts_of(windows, instants([back - 61, back - 60, back - 1, back, back + 59 * 60 - 1, back + 59 * 60])) == [
        old, new, new, old, old, new,
    ]  # fmt: skip


def test_labels():
    aware = pa.timestamp("ns", "Asia/Tokyo")
    assert Windows.of(aware, "1d").label(0) == "1970-01-01T00:00:00+00:00"
    assert Windows.of(pa.timestamp("ns"), "1d").label(0) == "1970-01-01T00:00:00"
    assert Windows.of(pa.int8(), "100").label(-1200) == "-1200"
    days = Windows.of(aware, "1d")
    assert days.start_of("2013-03-10") == days.start_of("2013-03-10T23:59:59.999999Z") == 1362873600
    assert days.start_of("2013-03-10T00:00:00+09:00") == 1362873600 - 86_400
    hours = Windows.of(aware, "1h", "Asia/Kolkata")
    assert hours.label(hours.start_of("2013-03-10T12:00")) == "2013-03-10T11:30:00+05:30"


@pytest.mark.parametrize("every", EVERIES)
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "America/New_York", "Pacific/Apia"])
def test_values_far_out_have_windows_with_names(every, unit, zone):
    values = [
        -(2**63),
        -(2**63) + 1,
        -(2**62),
        2**62,
        2**63 - 1,
        -62_135_596_800,
        253_402_300_799,
        0,
        10**13,
        -(10**13),
    ]
    for data_type, where in ((pa.timestamp(unit, "UTC"), zone), (pa.timestamp(unit), None)):
        windows = Windows.of(data_type, every, where)
        array = pa.array(values, pa.int64()).cast(data_type)
        for value, start in zip(values, starts_of(windows, array), strict=True):
            second = value // {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
            assert start is not None
            if abs(second) <= 10**13:
                assert start <= second < windows.following(start)
            label = windows.label(start)
            assert windows.start_of(label) == start
            assert windows.label(windows.following(start)) != label


def test_outliers_and_what_stands_at_nulls_make_no_tables_of_years():
    rng = np.random.default_rng(0)
    seconds = rng.integers(1_300_000_000, 1_400_000_000, 5_000)
    usual = Windows.of(pa.timestamp("s", "UTC"), "1d", "Europe/Berlin")
    expected = starts_of(usual, instants(seconds.tolist()))
    seconds[7], seconds[11] = 2**63 - 1, -(2**63) + 1
    mask = np.zeros(seconds.size, bool)
    mask[[7, 11]] = True
    with_outliers = pa.array(seconds).cast(pa.timestamp("s", "UTC"))
    bitmap = pa.py_buffer(np.packbits(~mask, bitorder="little"))
    at_nulls = pa.Array.from_buffers(with_outliers.type, seconds.size, [bitmap, with_outliers.buffers()[1]])
    expected[7] = expected[11] = None
    assert starts_of(usual, at_nulls) == expected
    found = starts_of(usual, with_outliers)
    found[7] = found[11] = None
    assert found == expected


@pytest.mark.parametrize("zone", sorted({*ZONES, *sorted(available_timezones() - {"localtime"})[::10]}))
def test_zones_show_what_zoneinfo_says(zone):
    rng = np.random.default_rng(3)
    seconds = np.concatenate([
        rng.integers(-5_000_000_000, 5_000_000_000, 60),
        rng.integers(-62_000_000_000, 253_000_000_000, 10),
    ])  # fmt: skip
    changed = changes(zone, np.arange(1880, 2040, 1) * 31_556_952 - 1970 * 31_556_952)[0]
    seconds = np.concatenate([seconds, changed, changed - 1])
    assert [EPOCH + second * SECOND for second in local_times(zone, seconds).tolist()] == [
        shown(second, zone) for second in seconds.tolist()
    ]


def test_nulls_and_empty_arrays():
    windows = Windows.of(pa.timestamp("s", "UTC"), "1d", "Europe/Berlin")
    assert starts_of(windows, instants([])) == []
    assert starts_of(windows, instants([None, None])) == [None, None]
    assert starts_of(windows, instants([0, None, 90_000])) == [-3600, None, 82_800]
    assert starts_of(windows, pa.nulls(2)) == [None, None]
    assert starts_of(windows, instants([None]).dictionary_encode()) == [None]
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int8()), instants([None, 0]))
    assert starts_of(windows, dictionary) == [None, -3600, None]


def test_another_unit_or_zone_name_is_no_other_instant_but_another_axis_is_refused():
    aware = Windows.of(pa.timestamp("s", "UTC"), "1d", "Europe/Berlin")
    assert starts_of(aware, instants([90_000], "ns", "Asia/Tokyo")) == [82_800]
    naive = Windows.of(pa.timestamp("s"), "1h")
    assert starts_of(Windows.of(pa.timestamp("s"), "1d"), pa.array([1], pa.date32())) == [86_400]
    for windows, array in [
        (aware, instants([0], "s", None)),
        (naive, instants([0], "s", "UTC")),
        (naive, pa.array([0], pa.date32())),
        (naive, pa.array([0])),
        (Windows.of(pa.int8(), 5), instants([0])),
    ]:
        with pytest.raises(IncompatibleColumnError) as caught:
            windows.starts(array)
        assert caught.value.finding == "type changed"
        assert str(array.type) in caught.value.reason
        assert "\n" not in caught.value.reason
    for array in (pa.array(["2013-03-10"]), pa.array(["2013-03-10"]).dictionary_encode()):
        with pytest.raises(IncompatibleColumnError, match="the text '2013-03-10' is no ISO 8601 time with"):
            aware.starts(array)
