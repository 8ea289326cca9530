"""Types that differ but mean the same: which meet, what is said of those that do not, and that its option works."""

from __future__ import annotations

import itertools
import re
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.columns.conversion import numeric_values
from gpudrift.columns.numerals import numeral_texts, scaled_decimals
from gpudrift.columns.schema import Column, complete_edges
from gpudrift.columns.types import common_type

ROWS = 120
HALF = ROWS // 2


def repeated(values, type_=None):
    return pa.array(values * HALF, type_)


TYPES = {
    "int64": repeated([1, 0]),
    "uint8": repeated([1, 0], pa.uint8()),
    "whole": repeated([1.0, 0.0]),
    "float": repeated([0.5, 1.5]),
    "float32": repeated([0.5, 1.5], pa.float32()),
    "decimal": repeated([Decimal("0.50"), Decimal("1.50")]),
    "decimal[0]": repeated([Decimal(1), Decimal(0)]),
    "wide decimal": repeated([Decimal("0.5"), Decimal("1.5")], pa.decimal128(30, 4)),
    "bool": repeated([True, False]),
    "True": repeated(["True", "False"]),
    "text": repeated(["a", "b"]),
    "dictionary": repeated(["a", "b"]).dictionary_encode(),
    "times as texts": repeated(["1970-01-01 00:00:00", "1970-01-02T10:00:00.5"]),
    "aware as texts": repeated(["1970-01-01T00:00:00Z", "1970-01-02T12:00:00.5+02:00"]),
    "timestamp": repeated([0, 122_400_500], pa.timestamp("ms")),
    "aware": repeated([0, 122_400_500_000_000], pa.timestamp("ns", "Europe/Vienna")),
    "date": repeated([0, 1], pa.date32()),
    "time": repeated([0, 3], pa.time32("s")),
    "duration": repeated([0, 3], pa.duration("s")),
    "null": pa.nulls(ROWS),
    "NaN": repeated([float("nan")] * 2),
    "null text": pa.nulls(ROWS, pa.string()),
    "null time": pa.nulls(ROWS, pa.timestamp("s")),
}
NOTHING = ("null", "NaN", "null text", "null time")
ALIKE = [
    ("int64", "uint8", "whole", "decimal[0]", "bool"),
    ("float", "float32", "decimal", "wide decimal"),
    ("bool", "True", "int64", "whole", "decimal[0]"),
    ("timestamp", "times as texts"),
    ("aware", "aware as texts"),
    ("text", "dictionary"),
]


def compared(before, after, **options):
    return gd.compare({"x": TYPES[before]}, {"x": TYPES[after]}, **options)["x"]


@pytest.mark.parametrize(
    ("before", "after"),
    # Texts are no numbers; that booleans meet them is a matter of spelling.
    sorted(
        pair
        for pair in {pair for alike in ALIKE for pair in itertools.permutations(alike, 2)}
        if "True" not in pair or "bool" in pair
    ),
)
def test_types_that_mean_the_same_meet_in_both_directions(before, after):
    found = compared(before, after)
    assert (found.severity, found.obstacle) == ("none", None), found.reason


@pytest.mark.parametrize("after", [name for name in TYPES if name not in NOTHING])
@pytest.mark.parametrize("before", NOTHING)
def test_a_column_that_was_all_null_meets_every_type(tmp_path, before, after):
    there = compared(before, after)
    assert (there.severity, there.reason) == ("major", "missing 100.0% → 0.0%")
    back = compared(after, before)
    assert (back.severity, back.reason) == ("major", "missing 0.0% → 100.0%")
    gd.profile({"x": TYPES[before]}).save(tmp_path / "before")
    saved = gd.compare(str(tmp_path / "before"), {"x": TYPES[after]})["x"]
    assert (saved.severity, saved.reason) == ("major", "missing 100.0% → 0.0%")


@pytest.mark.slow
@pytest.mark.parametrize("before", TYPES)
def test_what_cannot_meet_names_both_types_and_an_option_that_works(tmp_path, before):
    for after, array in TYPES.items():
        found = compared(before, after)
        if found.obstacle is None:
            continue
        assert found.obstacle.startswith(f"type changed: {TYPES[before].type} became {array.type}: "), after
        assert "for instance" in found.obstacle
        kind = re.search(r"make the reference with kinds=\{'x': \"(\w+)\"\}", found.obstacle)[1]
        assert compared(before, after, kinds={"x": kind}).obstacle is None, (before, after, kind)
        gd.profile({"x": TYPES[before]}, kinds={"x": kind}).save(tmp_path / "forced")
        assert gd.compare(str(tmp_path / "forced"), {"x": TYPES[after]})["x"].obstacle is None


@pytest.mark.parametrize(
    ("before", "after", "kind", "example"),
    [
        ("int64", "float", "real", "0.5"),
        ("decimal[0]", "decimal", "real", "0.50"),
        ("text", "int64", "categorical", "1"),
        ("int64", "text", "categorical", "'a'"),
        ("timestamp", "aware", "datetime", "'1970-01-01 01:00:00"),
        ("date", "text", "categorical", "'a'"),
        ("bool", "float", "categorical", "0.5"),
    ],
)
def test_a_refusal_shows_a_value_and_the_kind(before, after, kind, example):
    reason = compared(before, after).obstacle
    assert f"for instance {example}" in reason
    assert f"kinds={{'x': \"{kind}\"}}" in reason
    assert "\n" not in reason
    assert compared(before, after, kinds={"x": kind}).obstacle is None


def test_a_refusal_is_one_line_whatever_the_value_is():
    found = gd.compare({"x": [1, 2] * 50}, {"x": ["\x1b[31m\n" + "a" * 500] * 100})["x"].obstacle
    assert "\n" not in found
    assert "\x1b" not in found
    assert len(found) < 300


TYPES_OF_FILES = st.sampled_from(
    [one.type for one in TYPES.values()] + [pa.timestamp("us"), pa.timestamp("s"), pa.int8(), pa.decimal128(38, 10)]
)


@given(st.lists(TYPES_OF_FILES, min_size=1, max_size=6), st.randoms())
def test_the_common_type_depends_on_no_order(types, random):
    shuffled = list(types)
    random.shuffle(shuffled)
    assert common_type(shuffled) == common_type(types)
    assert common_type([common_type(types), *shuffled]) == common_type(types)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([pa.int32(), pa.null()], pa.int32()),
        ([pa.int64(), pa.float32()], pa.float64()),
        ([pa.decimal128(10, 2), pa.float64()], pa.float64()),
        ([pa.timestamp("ns"), pa.timestamp("s"), pa.date32()], pa.timestamp("us")),
        ([pa.timestamp("ns"), pa.date32()], pa.timestamp("ns")),
        ([pa.dictionary(pa.int8(), pa.string()), pa.string()], pa.string()),
        ([pa.dictionary(pa.int8(), pa.int64()), pa.dictionary(pa.int16(), pa.int64())], None),
        ([pa.string(), pa.int64()], pa.string()),
    ],
    ids=str,
)
def test_the_common_type(types, expected):
    found = common_type(types)
    assert found == expected if expected is not None else pa.types.is_dictionary(found)


NUMBERS = st.integers(-50, 50).map(float) | st.floats(width=32, allow_nan=True) | st.none()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(NUMBERS, max_size=40),
    st.integers(0, 40),
    st.sampled_from(["int64", "decimal", "float", "timestamp", "bool"]),
)
def test_whether_a_value_enters_does_not_depend_on_the_cut(values, cut, reference):
    schema = gd.fit({"x": TYPES[reference]})
    whole, parts = pa.array(values, pa.float64()), [values[:cut], values[cut:]]
    together = gd.profile({"x": whole}, schema=schema, backend="numpy")
    apart = sum(
        (gd.profile({"x": pa.array(part, pa.float64())}, schema=schema, backend="numba") for part in parts),
        gd.Profile.empty(schema),
    )
    assert together == apart


@settings(deadline=None)
@given(
    st.lists(st.integers(-(10**25), 10**25) | st.integers(-500, 500), min_size=1),
    st.integers(0, 12),
    st.integers(-2, 8),
)
def test_decimals_are_rounded_half_to_even(unscaled, scale, wanted):
    numbers = [Decimal(number).scaleb(-scale) for number in unscaled]
    values, bad = scaled_decimals(pa.array(numbers, pa.decimal128(38, scale)), wanted, whole=False)
    for number, value, refused in zip(numbers, values.tolist(), bad.tolist(), strict=True):
        rounded = number.scaleb(wanted).to_integral_value(ROUND_HALF_EVEN)
        assert refused == (abs(rounded) >= (10**18 if wanted else 2**63))
        assert refused or value == rounded


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_floats_in_decimals_are_off_by_half_a_digit_at_most(numbers):
    column = Column("x", "integer", "decimal", "decimal[2]", complete_edges([], "integer"))
    counted = numeric_values(pa.array(numbers), column).values
    for number, cents in zip(numbers, counted.tolist(), strict=True):
        assert abs(Decimal(cents) / 100 - Decimal(number)) <= Decimal("0.005") + abs(Decimal(number)) / 2**52


def test_what_rounding_costs_is_said():
    assert any("at most 0.005" in note for note in compared("decimal", "float").comparison.notes)
    assert any("2**53" in note for note in compared("float", "decimal").comparison.notes)
    assert compared("float", "float32").comparison.notes == ()


def test_equal_numbers_have_equal_texts():
    expected = ["1", "0", "-2.5", "100", None]
    assert numeral_texts(pa.array([1.0, -0.0, -2.5, 100.0, None])).to_pylist() == expected
    assert numeral_texts(pa.array([1, 0, -2.5, 100, float("nan")], pa.float32())).to_pylist() == expected
    decimals = [Decimal("1.00"), Decimal("-0.00"), Decimal("-2.50"), Decimal("100.00"), None]
    assert numeral_texts(pa.array(decimals)).to_pylist() == expected


@pytest.mark.parametrize("kind", ["real", "integer", "datetime", "clock", "categorical", "identifier"])
def test_every_kind_can_be_asked_of_a_column_of_nulls(kind):
    found = gd.compare({"x": TYPES["null"]}, {"x": TYPES["text"]}, kinds={"x": kind}, columns=["x"])["x"]
    assert (found.kind, found.severity) == (kind, "major")


def test_far_times_are_counted_at_the_end_of_nanoseconds():
    before = pa.array(np.arange(100) * 10**9, pa.timestamp("ns"))
    far = pa.array([253_402_214_400] * 50 + [-62_135_596_800] * 50, pa.timestamp("s"))
    found = gd.compare({"x": before}, {"x": far}, columns=["x"])["x"]
    assert found.current.high == 2**63 - 1
    assert found.current.low == -(2**63)


def test_texts_that_are_no_times_count_as_nan():
    before = {"x": repeated(["2025-01-01", "2025-02-28"])}
    after = {"x": ["2025-01-01", "never", "2025-02-30", None] * 30}
    found = gd.compare(before, after)["x"]
    assert found.kind == "datetime"
    assert {"nan": found.current.special["nan"], "null": found.current.special["null"]} == {"nan": 60, "null": 30}
    assert any("60 texts are no dates or times" in note for note in found.comparison.notes)


def test_texts_of_times_and_windows_count_the_same():
    table = {"day": ["2025-01-01", "2025-01-02"] * 30, "x": ["2025-03-01", "oops"] * 30}
    windows = gd.profile(table, time="day", every="1d", schema=gd.fit({"x": ["2025-03-01"] * 20}))
    whole = gd.profile(table, schema=windows.schema)
    assert windows.total().digest == whole.digest
    assert whole["x"].special["nan"] == 30
