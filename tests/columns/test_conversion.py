"""The doors: what each type becomes, exactly or not at all."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.columns.conversion import numeric_values
from gpudrift.columns.schema import Column, complete_edges

REAL = Column("x", "real", "decimal", None, complete_edges([], "real"))


def integer(kind: str, word: str, unit: str | None) -> Column:
    return Column("x", kind, word, unit, complete_edges([], "integer"))


@settings(deadline=None)
@given(st.lists(st.integers(-(10**30), 10**30) | st.integers(-(2**60), 2**60), min_size=1), st.integers(0, 30))
def test_wide_decimals_are_correctly_rounded(unscaled, scale):
    numbers = [Decimal(number).scaleb(-scale) for number in unscaled]
    array = pa.array(numbers, pa.decimal128(38, scale))
    assert numeric_values(array, REAL).values.tolist() == [float(number) for number in numbers]
    wide = pa.array(numbers, pa.decimal256(70, scale))
    assert numeric_values(wide, REAL).values.tolist() == [float(number) for number in numbers]


def test_wide_decimals_where_arrow_itself_rounds_twice():
    numbers = [Decimal(number).scaleb(-20) for number in range(10**19 + 1, 10**19 + 4_000, 7)]
    array = pa.array(numbers, pa.decimal128(38, 20))
    assert numeric_values(array, REAL).values.tolist() == [float(number) for number in numbers]


@pytest.mark.parametrize(
    ("array", "column", "expected"),
    [
        (pa.array([Decimal("1.5"), None]), integer("integer", "decimal", "decimal[3]"), 1500),
        (
            pa.array([dt.datetime(1970, 1, 2)], pa.timestamp("s")),
            integer("datetime", "timestamp", "timestamp[us]"),
            86_400 * 10**6,
        ),
        (pa.array([3_000], pa.timestamp("ns")), integer("datetime", "timestamp", "timestamp[us]"), 3),
        (pa.array([0], pa.timestamp("s", "Asia/Tokyo")), integer("datetime", "timestamp", "timestamp[s, UTC]"), 0),
        (pa.array([2 * 86_400_000], pa.date64()), integer("datetime", "date", "date[day]"), 2),
        (pa.array([7], pa.duration("s")), integer("integer", "duration", "duration[ms]"), 7_000),
        (pa.array([7], pa.time32("s")), integer("integer", "time", "time[us]"), 7_000_000),
        (pa.array([2**64 - 1], pa.uint64()), integer("integer", "integer", None), 2**63 - 1),
        (pa.array([3.0, float("nan")]), integer("integer", "integer", None), 3),
        (pa.array([-1], pa.timestamp("ns")), integer("datetime", "timestamp", "timestamp[us]"), -1),
        (pa.array([2**60], pa.timestamp("s")), integer("datetime", "timestamp", "timestamp[us]"), 2**63 - 1),
        (pa.array([-(2**60)], pa.timestamp("s")), integer("datetime", "timestamp", "timestamp[us]"), -(2**63)),
        (pa.array([-1], pa.timestamp("s")), integer("datetime", "date", "date[day]"), -1),
        (pa.array([-1], pa.date32()), integer("datetime", "timestamp", "timestamp[ms]"), -86_400_000),
        (pa.array([Decimal("1.25")]), integer("integer", "decimal", "decimal[1]"), 12),
        (pa.array([1.249]), integer("integer", "decimal", "decimal[2]"), 125),
        (pa.array([7]), integer("integer", "decimal", "decimal[2]"), 700),
        (pa.array([Decimal("7.00")]), integer("integer", "integer", None), 7),
        (pa.array([True]), integer("integer", "integer", None), 1),
        (pa.array([2**53 + 1]), Column("x", "real", "float", None, complete_edges([], "real")), 2.0**53),
    ],
    ids=str,
)
def test_numbers_and_units_are_converted(array, column, expected):
    assert numeric_values(array, column).values[0] == expected


@pytest.mark.parametrize(
    ("array", "column", "finding"),
    [
        (pa.array([Decimal("1.25")]), integer("integer", "decimal", "decimal[0]"), "type changed"),
        (pa.array([1e17]), integer("integer", "decimal", "decimal[2]"), "type changed"),
        (pa.array([10**17]), integer("integer", "decimal", "decimal[2]"), "type changed"),
        (pa.array([0], pa.timestamp("us", "UTC")), integer("datetime", "timestamp", "timestamp[us]"), "type changed"),
        (pa.array([1.5]), integer("integer", "integer", None), "type changed"),
        (pa.array([2.0**54]), integer("integer", "integer", None), "type changed"),
    ],
    ids=str,
)
def test_what_does_not_convert_is_refused(array, column, finding):
    with pytest.raises(gd.IncompatibleColumnError) as error:
        numeric_values(array, column)
    assert error.value.finding == finding
    assert "\n" not in error.value.reason


def test_floats_of_pandas_integers_keep_their_infinities():
    values = numeric_values(pa.array([1.0, np.inf, -np.inf, np.nan, np.inf]), integer("integer", "integer", None))
    assert {slot: rows.tolist() for slot, rows in values.elsewhere} == {
        "-inf": [False, False, True, False, False],
        "+inf": [False, True, False, False, True],
    }
    assert values.valid().tolist() == [True, False, False, False, False]
    profile = gd.profile({"x": [1.0, np.inf, np.nan, 4.0]}, kinds={"x": "integer"})
    assert profile["x"].special == {"-inf": 0, "+inf": 1, "nan": 0, "null": 1, "absent": 0}
