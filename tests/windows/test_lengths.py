"""What windows are asked for by: lengths, types of time, labels and documents, and what names none."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from gpudrift.windows.calendar import Windows
from gpudrift.windows.every import Every


@pytest.mark.parametrize("text", ["1d", "15min", "6h", "1w", "1mo", "1q", "1y", "90s", "100"])
def test_lengths_are_read_as_they_are_written(text):
    assert str(Every.parse(text)) == text
    assert Every.parse(100) == Every(100, "")


NO_LENGTHS = ["", "d", "1 d", "0d", "-1d", "1.5d", "1D", "1day", "1m", "0", "-5", "2000000d", "9" * 19, True, "١d"]


@pytest.mark.parametrize("text", NO_LENGTHS)
def test_lengths_that_are_none(text):
    with pytest.raises(ValueError, match="expected a count"):
        Every.parse(text)


@pytest.mark.parametrize(
    ("data_type", "every", "zone", "message"),
    [
        (pa.bool_(), "1d", None, "bool has no windows; expected timestamps, dates, integers or texts of times"),
        (pa.float64(), "1d", None, "double has no windows"),
        (pa.null(), "1d", None, "it has no values; expected timestamps"),
        (pa.time32("s"), "1h", None, "time32"),
        (pa.timestamp("s"), "1d", "Europe/Berlin", "zone 'Europe/Berlin' for a column of times without a zone"),
        (pa.date32(), "1d", "Europe/Berlin", "expected zone-aware timestamps"),
        (pa.int64(), 10, "Europe/Berlin", "zone 'Europe/Berlin' for a column of integers"),
        (pa.timestamp("s", "UTC"), "1d", "Europe/Nowhere", "unknown time zone 'Europe/Nowhere'"),
        (pa.timestamp("s", "UTC"), "1d", "../etc", "unknown time zone"),
        (pa.timestamp("s", "UTC"), "1d", "Europe", "unknown time zone"),
        (pa.timestamp("s", "UTC"), "1d", "", "unknown time zone"),
        (pa.int64(), "1d", None, "windows of 1d in a column of integers"),
        (pa.timestamp("s", "UTC"), 10, None, "windows of 10 in a column of times; expected a unit, such as 10d"),
        (pa.date32(), "6h", None, "windows of 6h in a column of dates"),
        (pa.dictionary(pa.int8(), pa.date64()), "6h", None, "windows of 6h in a column of dates"),
    ],
)
def test_what_has_no_windows(data_type, every, zone, message):
    with pytest.raises(ValueError, match=message.replace("(", "\\(")) as caught:
        Windows.of(data_type, every, zone)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data_type", "every", "label"),
    [
        (pa.timestamp("s", "UTC"), "1d", "yesterday"),
        (pa.timestamp("s", "UTC"), "1d", "now"),
        (pa.timestamp("s", "UTC"), "1d", ""),
        (pa.timestamp("s", "UTC"), "1d", "2013-02-30"),
        (pa.timestamp("s"), "1d", "2013-02-03T00:00:00Z"),
        (pa.timestamp("s"), "1d", "12013-02-03T00:00:00+00:00"),
        (pa.timestamp("s"), "1d", "12013-99-03T00:00:00"),
        (pa.int8(), "10", "1.5"),
        (pa.int8(), "10", "2013-02-03"),
    ],
)
def test_labels_that_name_nothing(data_type, every, label):
    with pytest.raises(ValueError, match=r"expected|not an integer|has a UTC offset") as caught:
        Windows.of(data_type, every).start_of(label)
    assert "\n" not in str(caught.value)


def test_documents():
    for windows in (
        Windows.of(pa.timestamp("s", "UTC"), "15min", "Europe/Berlin"),
        Windows.of(pa.date32(), "1q"),
        Windows.of(pa.int8(), 100),
    ):
        document = json.loads(json.dumps(windows.document()))
        assert set(document) == {"every", "zone", "axis"}
        assert Windows.from_document(document) == windows
    for wrong in ({}, {**document, "axis": "odd"}, {**document, "every": "x"}, {**document, "zone": 5}):
        with pytest.raises(ValueError, match="expected"):
            Windows.from_document(wrong)
