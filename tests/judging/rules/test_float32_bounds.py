"""Rules on columns of 32 and 16 bits: a bound is what such a column can hold of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.columns.bounds import stored_bound
from gpudrift.columns.schema import Column, complete_edges

REAL = Column("x", "real", "float", None, complete_edges([], "real"))
BOUNDS = st.floats(-1e6, 1e6).map(lambda bound: round(bound, 3))


def broken(values, rules, type_=None, **options):
    return [one.kind for one in gd.check({"x": pa.array(values, type_)}, {"columns": {"x": rules}}, **options)]


PAIRS = [(type_, bound) for type_ in (pa.float16(), pa.float32(), pa.float64()) for bound in (0.1, 132.04, -0.3)]


@pytest.mark.parametrize(("type_", "bound"), [*PAIRS, (pa.float32(), 16_777_217), (pa.float64(), 16_777_217)])
def test_a_value_that_is_the_bound_keeps_it(type_, bound):
    values = np.array([bound] * 9 + [bound / 2]).astype(type_.to_pandas_dtype())
    low, high = min(bound, bound / 2), max(bound, bound / 2)
    assert broken(values, {"max": high, "min": low, "outside": {"low": low, "high": high}}, type_) == []
    assert broken(values, {"share": {"of": bound, "at_most": 0.5}}, type_) == ["drift"]
    assert broken(values, {"share": {"of": bound, "at_least": 0.9}}, type_) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(BOUNDS, min_size=2, max_size=30), BOUNDS)
def test_rules_say_what_numpy_says_of_float32(values, bound):
    array = np.array(values, np.float32)
    beyond = bool((array > np.float32(bound)).any())
    assert (broken(array, {"outside": {"high": bound}}) != []) == beyond
    assert (broken(array, {"max": bound}) != []) == beyond
    share = float((array == np.float32(bound)).mean())
    assert (broken(array, {"share": {"of": bound, "at_most": 0.25}}) != []) == (share > 0.25)


def test_a_saved_profile_and_windows_remember_the_width(tmp_path):
    table = {"x": pa.array([0.1] * 40, pa.float32()), "day": pa.array([0, 1] * 20, pa.date32())}
    rules = {"columns": {"x": {"max": 0.1}}}
    gd.profile(table, rules=rules).save(tmp_path / "saved")
    assert gd.check(str(tmp_path / "saved"), rules) == []
    found = gd.monitor(table, table, time="day", every="1d", rules=rules)
    assert not [one for window in found for one in window.findings if one.column == "x" and one.kind == "quality"]


def test_a_bound_beyond_float32_stays_what_it_is():
    assert stored_bound(REAL, 1e300, "float") == 10**300 or float(stored_bound(REAL, 1e300, "float")) == 1e300
    assert broken(np.array([1, 2], np.float32), {"max": 1e300}) == []
    assert broken(np.array([1, 2], np.float32), {"min": -1e300}) == []
