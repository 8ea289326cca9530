"""The same rows are counted alike as Parquet, IPC, CSV, JSON lines, Delta and Iceberg, in any order and split of files.

Under one schema, as far as the format can say the values. Where it cannot, exactly:

* CSV has no NaN: it is null there, as pandas writes null. Of empty texts it says only in quotes that they are no nulls.
* JSON has no dates, times and decimals: they are texts. A decimal may be a number instead, the same in a whole column.
* In JSON lines a key that no row of any file has is no column: it is absent, not null.
* Delta and Iceberg say all of these types; times there have microseconds, and of zones UTC alone.
"""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import json
import math
import shutil
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc
from pyiceberg.catalog.sql import SqlCatalog

import gpudrift as gd

SCHEMA = pa.schema(
    {
        "whole": pa.int64(),
        "real": pa.float64(),
        "text": pa.string(),
        "truth": pa.bool_(),
        "day": pa.date32(),
        "time": pa.timestamp("us"),
        "zoned": pa.timestamp("us", "UTC"),
        "money": pa.decimal128(18, 2),
    }
)
REALS = st.floats(allow_nan=False, allow_infinity=True) | st.integers(-3, 3).map(float)
# No text that CSV would read as missing; numbers that stay texts, quotes and line breaks.
TEXTS = st.sampled_from(["a", "b", "1", "1.0", "true", "2020-01-01", 'q"uote', "line\nbreak", "é😀", "x,y", "{}"])
TIMES = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))
CELLS = {
    "whole": st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-3, 3),
    "real": REALS,
    "text": TEXTS,
    "truth": st.booleans(),
    "day": st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)),
    "time": TIMES,
    "zoned": TIMES.map(lambda time: time.replace(tzinfo=dt.UTC)),
    "money": st.decimals(-(10**9), 10**9, places=2),
}
ROW = st.fixed_dictionaries({name: st.none() | cells for name, cells in CELLS.items()})
ROWS = st.lists(ROW, min_size=1, max_size=30)


def cell(value):
    """A value as JSON writes it."""
    if isinstance(value, Decimal):
        return f"{value}"
    if isinstance(value, dt.date):  # and times
        return value.isoformat()
    return value


def write_json(table, path):
    """Nulls as such in the first row, and without their keys in the others."""
    rows = [
        {name: cell(value) for name, value in row.items() if value is not None or not at}
        for at, row in enumerate(table.to_pylist())
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode() or b"\n"))


def write_ipc(table, path):
    with ipc.new_file(path, table.schema) as sink:
        sink.write_table(table)


WRITERS = {
    "parquet": lambda table, path: pq.write_table(table, path, row_group_size=7),
    "arrow": write_ipc,
    "csv": pc.write_csv,
    "jsonl.gz": write_json,
}


def cleared(folder):
    for old in folder.iterdir():
        old.unlink()


def pieces_of(rows, cuts, turned):
    """The rows as one table, and cut into the tables of some files."""
    table = pa.Table.from_pylist(rows, SCHEMA)
    ends = sorted({0, *(min(cut, len(rows)) for cut in cuts), len(rows)})
    pieces = [table.slice(start, stop - start) for start, stop in itertools.pairwise(ends)]
    return table, pieces[::-1] if turned else pieces


CUTS = st.lists(st.integers(0, 30), max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, cuts=CUTS, turned=st.booleans())
def test_formats_agree_under_one_schema(tmp_path, rows, cuts, turned):
    table, pieces = pieces_of(rows, cuts, turned)
    schema = gd.fit(table)
    expected = gd.profile(table, schema=schema).digest
    for ending, writer in WRITERS.items():
        cleared(tmp_path)
        for at, piece in enumerate(pieces):
            writer(piece, tmp_path / f"{at}.{ending}")
        found = gd.profile(str(tmp_path), schema=schema)
        assert found.skipped == {}, ending
        assert found.digest == expected, ending


def write_delta(pieces, place):
    for piece in pieces:
        write_deltalake(place, piece, mode="append")
    return str(place)


def write_iceberg(pieces, place):
    place.mkdir()
    catalog = SqlCatalog("here", uri="sqlite:///:memory:", warehouse=place.as_uri())
    catalog.create_namespace("some")
    table = catalog.create_table("some.rows", schema=SCHEMA)
    for piece in pieces:
        table.append(piece)
    return table


LAKES = {"delta": write_delta, "iceberg": write_iceberg}


@pytest.mark.parametrize("lake", LAKES)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, cuts=CUTS, turned=st.booleans())
def test_lakes_agree_under_one_schema(tmp_path, lake, rows, cuts, turned):
    table, pieces = pieces_of(rows, cuts, turned)
    schema = gd.fit(table)
    place = tmp_path / "table"
    shutil.rmtree(place, ignore_errors=True)
    found = gd.profile(LAKES[lake](pieces, place), schema=schema)
    assert found.skipped == {}
    assert found.digest == gd.profile(table, schema=schema).digest


def test_where_csv_cannot_say_a_value(tmp_path):
    """NaN is null there, and nowhere else."""
    table = pa.table({"x": pa.array([1.0, math.nan, None, 2.0])})
    schema = gd.fit(table)
    counts = {}
    for ending, writer in WRITERS.items():
        cleared(tmp_path)
        writer(table, tmp_path / f"a.{ending}")
        counts[ending] = gd.profile(str(tmp_path), schema=schema).digest
    assert counts["parquet"] == counts["arrow"] == counts["jsonl.gz"] != counts["csv"]


@pytest.mark.parametrize("ending", WRITERS)
def test_a_type_of_the_reference_wins(tmp_path, ending):
    """Texts that look like numbers, or times, where the reference has texts."""
    table = pa.table({"s": ["1", "2", "3"], "t": ["2020-01-01", "x", "y"]})
    schema = gd.fit(table)
    WRITERS[ending](table.slice(0, 1), tmp_path / f"a.{ending}")
    assert gd.profile(str(tmp_path), schema=schema).digest == gd.profile(table.slice(0, 1), schema=schema).digest
