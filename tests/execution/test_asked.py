"""What is asked for, held against what a table has: times, segments of all kinds, and errors in one line."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import grouped
from support.grouped import DAILY, coarse, count, is_right, made, one_line, profiled

from gpudrift.api.engine import opened_table
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.grouping import NO_TIME, GroupRequest

HERE = Settings(threads=1)


def test_rows_without_a_time_are_counted_in_a_window_of_their_own():
    table = pa.table({"x": [1.0, 2, 3, 4, 5], "t": pa.array([None, 5, None, 90_000, 5], pa.timestamp("s"))})
    found = profiled(table, "t", "1d")
    assert found.starts == (NO_TIME, 0, 86_400)
    assert found.rows.tolist() == [2, 2, 1]
    assert found.name(0) == "rows without a time"
    assert found.longer("1w").starts == (NO_TIME, -259_200)
    nothing = table.set_column(1, "t", pa.nulls(5))
    later = count(nothing, found.schema, found.grouping)
    assert later.starts == (NO_TIME,)
    assert later.rows.tolist() == [5]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pa.array(["a", None, "b", "a", "c"]), ["a", None, "b"]),
        (pa.array([1, None, 2, 1, 3], pa.int16()), ["1", None, "2"]),
        (pa.array([2**64 - 1, None, 0, 2**64 - 1, 3], pa.uint64()), [str(2**64 - 1), None, "0"]),
        (pa.array([True, None, False, True, True]), ["true", None, "false"]),
        (pa.array(["a", None, "b", "a", "c"]).dictionary_encode(), ["a", None, "b"]),
        (pa.array([1.0, math.nan, 2.0, 1.0, 3.0]), ["1", None, "2"]),
        (pa.nulls(5), [None]),
        (
            pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 0, None]), pa.array(["a", None, "b"])),
            [None, "a", "b"],
        ),
    ],
    ids=str,
)
def test_texts_integers_and_booleans_make_segments(values, names):
    table = pa.table({"x": [1.0, 2, 3, 4, 5], "g": values})
    found = profiled(table, by=("g",), segments=3)
    expected = sorted(grouped.segments_of(table, ("g",)), key=lambda one: (one[0] is not None, one[0] or ""))
    tally = {one: expected.count(one) for one in dict.fromkeys(expected)}
    assert found.grouping.segments == tuple(sorted(tally, key=lambda one: -tally[one])[:3])
    assert is_right(found, table)
    other = count(table.set_column(1, "g", pa.array(["unknown"] * 5)), found.schema, found.grouping)
    assert other.segments == (len(found.grouping.segments),)
    assert set(names) >= {value for (value,) in found.grouping.segments} or values.type == pa.int16()


def test_pandas_makes_floats_of_codes_with_gaps():
    whole = pa.table({"x": [1.0, 2, 3, 4], "g": [1, 2, 1, 7]})
    found = profiled(whole, by=("g",), segments=2)
    frame = pd.DataFrame({"x": [1.0, 2, 3, 4], "g": [1, 2, None, 7]})
    assert frame["g"].dtype == np.float64
    again = count(frame, found.schema.select(["x"]), found.grouping)
    assert again.groups.tolist() == [[0, 0], [0, 1], [0, 2]]
    assert again.rows.tolist() == [1, 1, 2]  # the gap and 7 are others
    of_floats = profiled(frame, by=("g",))
    assert of_floats.grouping.segments == ((None,), ("1",), ("2",), ("7",))


def test_values_are_compared_by_what_they_say_not_by_their_type():
    table = pa.table({"x": [1.0, 2, 3], "g": ["1", "2", "true"]})
    found = profiled(table, by=("g",)).select(["x"])
    for values in (pa.array([1, 2, 9]), pa.array([1, 2, 9], pa.uint8()), pa.array(["1", "2", "9"]).dictionary_encode()):
        again = count(table.set_column(1, "g", values), found.schema, found.grouping)
        assert again.groups.tolist() == [[0, 0], [0, 1], [0, 3]]


def test_two_columns_keep_pairs_and_not_all_pairs():
    table = pa.table({"x": [1.0] * 6, "g": ["a", "a", "b", "b", "a", None], "h": [1, 2, 1, 1, 1, None]})
    found = profiled(table, by=("g", "h"), segments=2)
    assert found.grouping.segments == (("a", "1"), ("b", "1"))
    assert found.rows.tolist() == [2, 2, 2]
    assert [found.name(at) for at in range(3)] == ["g=a, h=1", "g=b, h=1", "other"]
    assert is_right(found, table)


def test_files_that_begin_with_nulls_only_take_their_type_from_the_others(tmp_path):
    pq.write_table(pa.table({"x": [1.0, 2.0], "g": pa.nulls(2)}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"x": [1.0, 2.0], "g": ["a", "b"]}), tmp_path / "2.parquet")
    found = profiled(tmp_path, by=("g",), columns=["x"])
    assert found.grouping.segments == ((None,), ("a",), ("b",))
    assert found.rows.tolist() == [2, 1, 1]


# --- errors in one line ----------------------------------------------------------------------------------------------

TABLE = pa.table(
    {
        "x": [1.0, 2.0, 3.5],
        "t": pa.array([1, 2, 3], pa.timestamp("us")),
        "aware": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        "text": ["2024-01-01", "b", "c"],
        "list": [[1], [2], [3]],
        "day": pa.array([1, 2, 3], pa.date32()),
        "n": [1, 2, 3],
    }
)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (("gone", "1d"), ["time: no column 'gone' in Arrow Table"]),
        (("x", "1d"), ["time: column 'x'", "double has no windows"]),
        (("t", "1 day"), ["time: column 't'", "invalid window length '1 day'"]),
        (("t", "100"), ["time: column 't'", "expected a unit"]),
        (("n", "1d"), ["time: column 'n'", "expected a whole number"]),
        (("day", "1h"), ["time: column 'day'", "expected days or longer"]),
        (("t", "1d", "Europe/Berlin"), ["time: column 't'", "zone 'Europe/Berlin'", "times without a zone"]),
        (("aware", "1d", "Europe/Nowhere"), ["time: column 'aware'", "unknown time zone"]),
        ((None, None, None, ("gone",)), ["segments: no column 'gone' in Arrow Table"]),
        (
            (None, None, None, ("x",)),
            ["segments: column 'x': double", "not all whole numbers within 2**53; texts,"],
        ),
        ((None, None, None, ("t",)), ["segments: column 't'", "texts, booleans and whole numbers make segments"]),
        ((None, None, None, ("list",)), ["segments: column 'list'", "nested type"]),
    ],
    ids=str,
)
def test_what_cannot_be_grouped_is_refused_in_one_line(request_, words):
    with pytest.raises(ValueError, match=r"^(time|segments): ") as error:
        profile_source(open_source(TABLE), GroupRequest(*request_), FitOptions(), ["n"], Settings(threads=1))
    one_line(error, *words)


def test_a_current_table_whose_columns_of_the_grouping_changed_is_refused():
    table = made(300)
    schema = coarse(table)
    with pytest.raises(ValueError, match="no column 'g'") as error:
        count(table.drop_columns(["g"]), schema, DAILY)
    one_line(error, "segments", "Arrow Table")
    with pytest.raises(ValueError, match="no column 't'") as error:
        count(table.drop_columns(["t"]), schema, DAILY)
    one_line(error, "time", "Arrow Table")
    aware = table.set_column(6, "t", table["t"].cast(pa.timestamp("us", "UTC")))
    with pytest.raises(ValueError, match="but the windows are of naive times") as error:
        count(aware, schema, DAILY)
    one_line(error, "timestamp[us, tz=UTC]")
    with pytest.raises(ValueError, match="is no ISO 8601 date or time"):
        count(table.set_column(6, "t", table["kind"]), schema, DAILY)
    with pytest.raises(ValueError, match="column 'g' of type timestamp"):
        count(table.set_column(7, "g", table["t"]), schema, DAILY)
    with (
        pytest.raises(ValueError, match="columns: no column 'gone' in the schema"),
        opened_table(table, HERE) as opened,
    ):
        opened.count(schema, DAILY, ["gone"])
    with pytest.raises(ValueError, match="columns: no column 'gone' in Arrow Table"):
        profiled(table, "t", "1d", columns=["gone"])


def test_a_type_of_time_that_changes_between_files_is_refused_with_the_file(tmp_path, small_runs):
    table = made(600)
    pq.write_table(table, tmp_path / "1.parquet")
    pq.write_table(table.set_column(6, "t", table["t"].cast(pa.timestamp("us", "UTC"))), tmp_path / "2.parquet")
    for threads in (1, 3):
        with pytest.raises(ValueError, match="instead of times without a zone") as error:
            count(tmp_path, coarse(table), DAILY, threads=threads)
        one_line(error, "2.parquet", "time: column 't'", "timestamp[us, tz=UTC] instead of times without a zone")
    other_unit = table.set_column(6, "t", table["t"].cast(pa.timestamp("ns")))
    pq.write_table(other_unit, tmp_path / "2.parquet")
    schema = coarse(table).select(["real", "key"])
    assert count(tmp_path, schema, DAILY) == count(pa.concat_tables([table, table]), schema, DAILY)
    pq.write_table(table.set_column(7, "g", table["real"]), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match="segments: column 'g'") as error:
        count(tmp_path, coarse(table), DAILY)
    one_line(error, "2.parquet", "double")
