"""Windows of times that are texts: the same as of the times."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.columns.moments import parsed_texts

MOMENTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
EPOCH = dt.datetime(1970, 1, 1)
TIMES = np.datetime64("2025-01-01T00:00:00") + np.random.default_rng(0).integers(0, 28 * 86_400, 2_000)


@settings(deadline=None)
@given(st.lists(st.tuples(MOMENTS, st.none() | ZONES), min_size=1, max_size=20), st.sampled_from("T "))
def test_texts_are_the_moments_that_python_reads(given_, separator):
    moments = [moment if zone is None else moment.replace(tzinfo=zone) for moment, zone in given_]
    values, naive, aware = parsed_texts(pa.array([moment.isoformat(separator) for moment in moments]))
    for (moment, zone), value, without, with_offset in zip(given_, values, naive, aware, strict=True):
        shift = dt.timedelta(0) if zone is None else zone.utcoffset(None)
        assert int(value) == (moment - EPOCH - shift) // dt.timedelta(microseconds=1)
        assert (bool(without), bool(with_offset)) == (zone is None, zone is not None)


@pytest.mark.parametrize(
    "text", ["2025-02-30", "2025-13-01", "2025-01-01T24:00", "today", "", "20250101", "2025", "2025-01-01 ", "1.5"]
)
def test_texts_that_are_no_moments(text):
    _, naive, aware = parsed_texts(pa.array(["2025-01-01", text, None]))
    assert (naive.tolist(), aware.tolist()) == ([True, False, False], [False] * 3)


def tables(form):
    x = np.arange(TIMES.size) % 7
    return {"time": pa.array(TIMES), "x": x}, {"time": pa.array([form(str(time)) for time in TIMES]), "x": x}


@pytest.mark.parametrize("form", [str, lambda text: text.replace("T", " "), lambda text: f"{text}.500000123"])
@pytest.mark.parametrize("every", ["6h", "1d", "1w", "1mo"])
def test_windows_of_texts_are_those_of_the_times(form, every):
    times, texts = tables(form)
    schema = gd.fit({"x": times["x"]})
    expected = gd.profile(times, time="time", every=every, schema=schema, columns=["x"])
    for table in (texts, {**texts, "time": texts["time"].dictionary_encode()}):
        found = gd.profile(table, time="time", every=every, schema=schema, columns=["x"])
        assert found.digest == expected.digest
        assert [found.name(group) for group in range(len(found))] == [
            expected.name(group) for group in range(len(expected))
        ]


def test_texts_with_an_offset_have_windows_of_a_zone():
    times, texts = tables(lambda text: f"{text}Z")
    aware = {**times, "time": times["time"].cast(pa.timestamp("s", "UTC"))}
    options = {"time": "time", "every": "1d", "zone": "Asia/Tokyo", "columns": ["x"]}
    schema = gd.fit({"x": times["x"]})
    assert gd.profile(texts, schema=schema, **options) == gd.profile(aware, schema=schema, **options)
    baseline = gd.profile(aware, **options)
    assert gd.profile(texts, schema=baseline).rows.tolist() == baseline.rows.tolist()


def test_monitoring_takes_texts_on_either_side():
    times, texts = tables(str)
    for before, after in ((times, texts), (texts, times), (texts, texts)):
        assert len(list(gd.monitor(before, after, time="time", every="1w"))) == 5


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (["2025-01-01", "soon"], {}, "the text 'soon' is no ISO 8601 date or time"),
        (["2025-01-01"], {"zone": "Asia/Tokyo"}, "the text '2025-01-01' is no ISO 8601 time with a UTC offset"),
    ],
)
def test_what_is_no_time_is_said(values, options, message):
    with pytest.raises(ValueError, match="time: column 'time': the text '") as error:
        gd.profile({"time": values, "x": [1] * len(values)}, time="time", every="1d", **options)
    assert message in str(error.value)
