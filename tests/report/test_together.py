"""Columns that moved together: what is told as one cause, and what is not, since it may be chance."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pyarrow as pa
import pytest
from support import tables

import gpudrift as gd
from gpudrift.report.together import groups, moved_with

real = pytest.mark.skipif(not tables.available(), reason="the real tables (shared/data) are not here")
ROWS = 20_000


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def found(before, after):
    return groups(gd.compare(pa.table(before), pa.table(after)).document())


def with_nulls(values, which):
    return pa.array(values, mask=which)


def columns(rng, names="abcd"):
    return {name: rng.normal(size=ROWS) for name in names}


@real
def test_five_columns_of_taxi_rides_are_missing_together():
    report = gd.compare(*tables.BY_ID["nyc_taxi-2019-vs-apr-jun-2020"].load())
    (group,) = groups(report.document())
    five = {"vendor_id", "passenger_count", "rate_code_id", "store_and_fwd_flag", "payment_type"}
    assert (group.kind, set(group.names)) == ("missing", five)
    assert "lost the same 11 % of rows" in group.sentence
    assert "3,384 rows" in group.sentence
    assert moved_with(report.document(), "vendor_id") == (group,)
    assert moved_with(report.document(), "congestion_surcharge") == ()


@real
def test_sensors_that_failed_together_are_told_once():
    found_ = groups(gd.compare(*tables.halves("secom")).document())
    assert len(found_[0].names) == 36
    assert {group.kind for group in found_} == {"missing", "value"}


@real
@pytest.mark.parametrize("name", ["elec2", "gas_sensor", "noaa_weather", "bike_sharing", "employment"])
def test_real_tables_whose_columns_moved_each_by_itself(name):
    """Whether bins of equal mass have equal counts, or a side has none of a value, says nothing."""
    assert groups(gd.compare(*tables.halves(name)).document()) == ()


def test_columns_missing_in_the_same_rows(rng):
    before, after = columns(rng), columns(rng)
    lost = rng.random(ROWS) < 0.1
    after["a"], after["b"] = (with_nulls(after[name], lost) for name in "ab")
    (group,) = found(before, after)
    assert (group.kind, group.names) == ("missing", ("a", "b"))
    assert f"{int(lost.sum()):,} rows" in group.sentence
    assert "none were missing" in group.sentence


def test_columns_that_are_missing_less_gained_rows(rng):
    before, after = columns(rng), columns(rng)
    lost = rng.random(ROWS) < 0.3
    before["a"], before["b"], before["c"] = (with_nulls(before[name], lost) for name in "abc")
    (group,) = found(before, after)
    assert group.sentence.startswith("3 columns gained the same 30 % of rows")


def test_numbers_of_missing_rows_that_differ_by_one_are_no_group(rng):
    before, after = columns(rng), columns(rng)
    after["a"] = with_nulls(after["a"], np.arange(ROWS) < 2000)
    after["b"] = with_nulls(after["b"], np.arange(ROWS) < 2001)
    assert found(before, after) == ()


def test_small_numbers_that_are_equal_may_be_chance(rng):
    before, after = columns(rng), columns(rng)
    for name in "ab":
        after[name] = with_nulls(after[name], np.arange(ROWS) < 15)
    document = gd.compare(pa.table(before), pa.table(after)).document()
    moved = {column["name"] for column in document["columns"] if column["changed"]}
    assert {"a", "b"} <= moved
    assert groups(document) == ()


def test_columns_without_missing_rows_are_no_group(rng):
    before, after = columns(rng), columns(rng)
    assert found(before, {name: values + 1 for name, values in after.items()}) == ()


def test_columns_that_have_always_been_missing_alike_are_no_group(rng):
    lost = np.arange(ROWS) < 5000
    sides = [{name: with_nulls(values, lost) for name, values in columns(rng).items()} for _ in range(2)]
    assert found(*sides) == ()


def test_columns_that_are_empty_now(rng):
    before, after = columns(rng), columns(rng)
    after["b"], after["d"] = (pa.nulls(ROWS, pa.float64()) for _ in range(2))
    (group,) = found(before, after)
    assert set(group.names) == {"b", "d"}
    assert "all 20,000 rows are missing in each of them" in group.sentence


def categories(rng, names):
    return {name: rng.choice([f"{name}{number}" for number in range(4)], ROWS) for name in names}


def test_a_value_that_was_filled_in_is_told_by_name(rng):
    before, after = categories(rng, "abc"), categories(rng, "abc")
    filled = rng.random(ROWS) < 0.08
    for name in "ab":
        after[name] = np.where(filled, "unknown", after[name])
    (group,) = found(before, after)
    assert (group.kind, set(group.names)) == ("value", {"a", "b"})
    assert 'the value "unknown"' in group.sentence
    assert f"{int(filled.sum()):,} rows" in group.sentence


def test_values_of_numbers_and_texts_that_were_filled_in_together(rng):
    numbers = rng.choice([0, 1, 2, 3], ROWS)
    before = {**categories(rng, "a"), "n": numbers}
    after = {**categories(rng, "a"), "n": rng.permutation(numbers)}
    filled = np.flatnonzero(after["n"] != 2)[:3000]
    known = int((numbers == 2).sum())
    before["a"] = np.where(numbers == 2, "?", before["a"])
    after["a"] = np.where(after["n"] == 2, "?", after["a"])
    after["n"][filled] = 2
    after["a"][filled] = "?"
    (group,) = found(before, after)
    assert set(group.names) == {"a", "n"}
    assert '"2"' in group.sentence
    assert '"?"' in group.sentence
    assert f"{known + 3000:,} rows" in group.sentence


def test_a_number_that_stands_for_missing_and_was_never_there_before(rng):
    before, after = columns(rng), columns(rng)
    filled = rng.random(ROWS) < 0.07
    for name in "ad":
        after[name] = np.where(filled, -999.0, after[name])
    (group,) = found(before, after)
    assert (group.kind, set(group.names)) == ("beyond", {"a", "d"})
    assert f"none before, {int(filled.sum()):,} rows" in group.sentence


def test_a_number_that_became_frequent(rng):
    values = rng.integers(0, 400, ROWS).astype(float)
    others = np.where(values == 7, 7.0, rng.integers(8, 500, ROWS))
    filled = values == 7
    filled[rng.permutation(ROWS)[:1500]] = True
    before = {**columns(rng), "x": values, "y": others}
    after = {**columns(rng), "x": np.where(filled, 7.0, values), "y": np.where(filled, 7.0, others)}
    (group,) = found(before, after)
    assert (group.kind, set(group.names)) == ("value", {"x", "y"})
    assert 'the value "7"' in group.sentence
    assert f"{int(filled.sum()):,} rows" in group.sentence


def test_new_values_in_equally_many_rows(rng):
    before, after = categories(rng, "abc"), categories(rng, "abc")
    changed = np.arange(ROWS) < 1500
    for name in "ab":  # too many different ones for a cell of their own
        after[name] = np.where(changed, [f"{name} new {number}" for number in range(ROWS)], after[name])
    (group,) = found(before, after)
    assert (group.kind, set(group.names)) == ("new", {"a", "b"})
    assert "1,500 rows" in group.sentence


def test_copies_of_a_column_are_told_as_such_and_not_again(rng):
    before, after = columns(rng), columns(rng)
    after["a"] = after["a"] * 1.5
    lost = rng.random(ROWS) < 0.1
    after["a"] = with_nulls(after["a"], lost)
    before["copy"], after["copy"] = before["a"], after["a"]
    (group,) = found(before, after)
    assert (group.kind, set(group.names)) == ("copies", {"a", "copy"})


def test_the_same_values_by_other_names(rng):
    codes = [rng.choice(5, ROWS, p=p) for p in ([0.2] * 5, [0.4, 0.1, 0.1, 0.2, 0.2])]
    names = np.array(["Zagreb", "Aachen", "Lund", "Bath", "Como"])
    before, after = ({"code": pa.array(side.astype(str)), "city": names[side]} for side in codes)
    (group,) = found(before, after)
    assert group.kind == "copies"


def test_an_older_document_tells_copies_by_their_statistics(rng):
    before, after = columns(rng, "ab"), columns(rng, "ab")
    after["a"] = after["a"] * 1.5
    before["copy"], after["copy"] = before["a"], after["a"]
    document = gd.compare(pa.table(before), pa.table(after)).document()
    for column in document["columns"]:
        psi = column["statistics"]["psi"]
        del psi["reference_rows"], psi["current_rows"]
    (group,) = groups(document)
    assert set(group.names) == {"a", "copy"}


def test_a_value_of_the_data_is_harmless_in_a_sentence(rng):
    before, after = categories(rng, "abc"), categories(rng, "abc")
    filled = rng.random(ROWS) < 0.08
    value = "\x1b[31m\u202e" + "x" * 10_000
    for name in "ab":
        after[name] = np.where(filled, value, after[name])
    (group,) = found(before, after)
    assert group.sentence.isprintable()
    assert len(group.sentence) < 300


def test_columns_of_windows_that_began_to_drift_in_the_same_one():
    with importlib.resources.as_file(importlib.resources.files("gpudrift") / "data") as folder:
        table = gd.monitor(
            str(folder / "hotel_bookings_2015.parquet"),
            str(folder / "hotel_bookings_2016.parquet"),
            time="arrival_date",
            every="1mo",
        )
    document = table.document()
    told = groups(document)
    assert told
    first = {
        name: next(
            window["window"] for window in document["windows"] if name in [one["column"] for one in window["drifted"]]
        )
        for group in told
        for name in group.names
    }
    for group in told:
        assert group.kind == "since"
        assert len({first[name] for name in group.names}) == 1
        assert first[group.names[0]][:10] in group.sentence
    assert len({name for group in told for name in group.names}) == sum(len(group.names) for group in told)


def test_a_report_explains_a_column_by_the_groups_of_its_document(rng):
    """In memory not all of the document is made, but all that groups are made of."""
    values = rng.integers(0, 400, ROWS).astype(float)
    filled = rng.permutation(ROWS)[:1500]
    before = {**columns(rng), "x": values, "y": np.where(values == 7, 7.0, rng.integers(8, 500, ROWS))}
    after = {name: np.array(side) for name, side in before.items()}
    for name in "xy":
        after[name][filled] = 7.0
    report = gd.compare(pa.table(before), pa.table(after))
    expected = moved_with(report.document(), "x")
    assert expected
    assert tuple(report["x"].explain().facts.together) == expected
