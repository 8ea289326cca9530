"""Counting on threads: no thread, piece, file or cut changes a number, of one group or of many; one scan is all."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import grouped
from support.counting_source import Counting
from support.grouped import (
    BOTH,
    DAILY,
    TWO,
    chosen,
    coarse,
    count,
    count_batches,
    cut_small,
    is_right,
    made,
    one_line,
    profiled,
    several,
)

from gpudrift.execution import chains, sampling, tasks
from gpudrift.execution.settings import Progress, Settings
from gpudrift.execution.tasks import cut_pieces
from gpudrift.execution.threads import count_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import Part, delimited, open_source
from gpudrift.windows import numbering
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME, WHOLE, Grouping, GroupRequest
from gpudrift.windows.numbering import GroupNumbering

LIMITS = settings(deadline=None, max_examples=40)
FIXTURES = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
EVERY_DAY = Windows.of(pa.timestamp("us"), "1d")
WHOLE_OR_DAILY = pytest.mark.parametrize("grouping", [WHOLE, DAILY], ids=["whole", "groups"])


@pytest.mark.parametrize("grouping", [WHOLE, DAILY, Grouping("t", EVERY_DAY), replace(TWO, time=None, windows=None)])
def test_threads_runs_and_pieces_change_nothing(tmp_path, monkeypatch, grouping):
    table = made(6000)
    schema = coarse(table)
    expected = count(table, schema, grouping)
    assert is_right(expected, table)
    for row_group in (6000, 1300, 250):
        path = tmp_path / f"{row_group}.parquet"
        pq.write_table(table, path, row_group_size=row_group)
        for run_rows, piece in ((1 << 20, 16 << 20), (1500, 30_000), (1, 1)):
            cut_small(monkeypatch, run_rows, piece)
            for threads in (1, 5):
                assert count(path, schema, grouping, threads=threads).digest == expected.digest
    assert count(path, schema, grouping, "numpy", threads=3) == expected


@BOTH
@FIXTURES
@given(st.integers(1, 15), st.data())
def test_parquet_files_of_any_cut_and_memory_agree(tmp_path, small_runs, whole, row_group, data):
    schema, grouping, tables = data.draw(several(2, whole=whole))
    folder = tmp_path / "t"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for at, table in enumerate(tables):
        written = chosen(table, range(table.num_rows))
        names = data.draw(st.permutations(written.column_names))
        try:
            pq.write_table(written.select(names), folder / f"{at}.parquet", row_group_size=row_group)
        except pa.ArrowException:
            return
    back = [pq.read_table(path).select(tables[0].column_names) for path in sorted(folder.iterdir())]
    if any(one.schema != back[0].schema for one in back):
        return
    expected = count(pa.concat_tables(back), schema, grouping)
    assert count(folder, schema, grouping, threads=data.draw(st.sampled_from([1, 3]))) == expected


@WHOLE_OR_DAILY
def test_files_with_other_orders_and_without_columns(tmp_path, small_runs, grouping):
    table = made(4000)
    schema = coarse(table)
    parts = [table.slice(start, 1000) for start in range(0, 4000, 1000)]
    parts[1] = parts[1].select(table.column_names[::-1])
    parts[2] = parts[2].drop_columns(["real", "kind"])
    parts[3] = parts[3].drop_columns(["t", "g"])
    for at, part in enumerate(parts):
        pq.write_table(part, tmp_path / f"{at}.parquet", row_group_size=300)
    expected = [count_batches(part.to_batches(), schema, grouping, table.schema) for part in parts]
    for threads in (1, 4):
        found = count(tmp_path, schema, grouping, threads=threads)
        assert found == grouped.GroupedProfile.sum(expected)
        assert found.total()["real"].special["absent"] == found.total()["kind"].special["absent"] == 1000
        if grouping:
            assert expected[3].starts == (NO_TIME,)
            assert expected[3].segments == (2,)  # (none)
            assert found.total() == count(tmp_path, schema, WHOLE).total()


@pytest.mark.parametrize("threads", [1, 3])
def test_columns_of_the_grouping_need_not_be_counted(tmp_path, small_runs, threads):
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=500)
    whole = profiled(tmp_path / "t.parquet", "t", "1d", ("g",), threads=threads)
    some = profiled(tmp_path / "t.parquet", "t", "1d", ("g",), ["count", "real"], threads=threads)
    assert some.schema.names == ("real", "count")  # in the order of the table, as gd.profile
    assert some == whole.select(["real", "count"])
    source = open_source(tmp_path / "t.parquet")
    again = count_source(source, whole.schema, whole.grouping, ["count", "real"], Settings(threads=threads))
    assert again == whole.select(["count", "real"])
    assert set(again.seen) == {"count", "real"}
    only_time = profiled(tmp_path / "t.parquet", "t", "1d", (), ["t"], threads=threads)
    assert only_time == profiled(table, "t", "1d").select(["t"])
    nothing = profiled(tmp_path / "t.parquet", "t", "1d", (), [], threads=threads)
    assert nothing.rows.tolist() == only_time.rows.tolist()
    assert not nothing.schema.columns


def test_every_door_gives_the_same(tmp_path):
    table = made(2500)
    expected = profiled(table, "t", "1d", ("g", "h"))
    assert expected.total() == count_source(open_source(table), expected.schema, WHOLE, None, Settings()).total()
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=600)
    pyarrow.feather.write_feather(table, tmp_path / "t.arrow", chunksize=400)
    with pa.ipc.new_stream(tmp_path / "t.arrows", table.schema) as stream:
        stream.write_table(table, max_chunksize=500)
    doors = {
        "parquet": lambda: tmp_path / "t.parquet",
        "ipc": lambda: tmp_path / "t.arrow",
        "stream": lambda: tmp_path / "t.arrows",
        "dataset": lambda: pa.dataset.dataset(tmp_path / "t.parquet"),
        "pandas, Arrow-backed": lambda: table.to_pandas(types_mapper=pd.ArrowDtype),
        "polars": lambda: pl.from_arrow(table),
        "reader": lambda: table.to_reader(max_chunksize=700),
        "dict": lambda: {name: table[name] for name in table.column_names},
    }
    for door, data in doors.items():
        assert profiled(data(), "t", "1d", ("g", "h")) == expected, door
        source = open_source(data())
        again = count_source(source, expected.schema, expected.grouping, None, Settings(threads=2))
        assert again == expected, door


def test_inputs_that_are_read_once_may_have_no_rows():
    table = made(50)
    reader = pa.RecordBatchReader.from_batches(table.schema, [])
    found = profiled(reader, "t", "1d", ("g",))
    assert len(found) == 0
    assert found == profiled(table[:0], "t", "1d", ("g",))
    assert found.total().rows == 0
    reader = pa.RecordBatchReader.from_batches(table.schema, [])
    schema = coarse(table)
    assert len(count_source(open_source(reader), schema, DAILY, None, Settings())) == 0
    assert found.longer("1w").merged_segments().select(["real"]).starts == ()


def test_csv_agrees_with_memory_and_may_lack_columns(tmp_path):
    """Texts in CSV are empty or missing alike, so the table is what Arrow reads back."""
    table = made(3000).select(["real", "count", "kind", "t", "g", "h"])
    for at, part in enumerate((table[:1000], table[1000:2500].drop_columns(["h"]), table[2500:])):
        pyarrow.csv.write_csv(part, tmp_path / f"{at}.csv")
    found = profiled(tmp_path, "t", "1d", ("g", "h"))
    lacking = table.set_column(
        5,
        "h",
        pa.chunked_array(
            [table["h"][:1000].combine_chunks(), pa.nulls(1500, pa.int64()), table["h"][2500:].combine_chunks()]
        ),
    )
    in_memory = profiled(lacking, "t", "1d", ("g", "h"))
    assert found.grouping == in_memory.grouping
    assert found.groups.tolist() == in_memory.groups.tolist()
    assert found.rows.tolist() == in_memory.rows.tolist()
    assert found.schema.names == in_memory.schema.names
    again = count_source(open_source(tmp_path), found.schema, found.grouping, None, Settings())
    assert again == found
    assert found.total() == count_source(open_source(tmp_path), found.schema, WHOLE, None, Settings()).total()


def test_csv_types_that_change_midway_are_read_again(tmp_path, monkeypatch):
    """Of a counted column, and of one that only makes segments: what the narrow reading found is forgotten."""
    monkeypatch.setattr(delimited, "CSV_BLOCK", 2_000)
    rows = 3_000
    lines = ["x,g,t", *(f"{at},0{at % 3},2024-01-0{1 + at * 3 // rows}" for at in range(rows)), "0.5,many,2024-01-04"]
    (tmp_path / "1.csv").write_text("\n".join(lines) + "\n")
    for name in ("0.csv", "2.csv"):
        (tmp_path / name).write_text("x,g,t\n7,2,2024-01-02\n")
    with_time = Windows.of(pa.date32(), "1d")
    grouping = Grouping("t", with_time, ("g",), (("00",), ("2",)))
    schema = coarse({"x": np.arange(3000.0) / 7})
    found = count_source(open_source(tmp_path), schema, grouping, None, Settings())
    assert int(found.rows.sum()) == rows + 3
    assert found.segment(0).rows == rows // 3
    assert found.segment(1).rows == 2
    assert found.segment(2).rows == rows - rows // 3 + 1
    assert found.total() == count_source(open_source(tmp_path), schema, WHOLE, None, Settings()).total()
    assert [found.window(start).rows for start in found.starts] == [1000, 1002, 1000, 1]


# --- one scan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(("every", "by"), [(None, ()), ("1h", ()), (None, ("g",)), ("1w", ("g", "h"))])
def test_every_chunk_of_every_column_is_read_once(tmp_path, monkeypatch, threads, every, by):
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    windows = None if every is None else Windows.of(pa.timestamp("us"), every)
    segments = tuple(dict.fromkeys(grouped.segments_of(table, by)))
    grouping = Grouping(None if every is None else "t", windows, by, segments if by else ())
    schema = coarse(table)
    expected = count(table, schema, grouping)
    for piece in (1, 20_000, 16 << 20):
        cut_small(monkeypatch, piece, piece)
        source = Counting(open_source(tmp_path / "t.parquet"))
        found = count_source(source, schema, grouping, None, Settings(threads=threads))
        assert found == expected
        assert source.read == {(part, name): 1 for part in range(5) for name in table.column_names}
    some = ["real", "t"]
    source = Counting(open_source(tmp_path / "t.parquet"))
    count_source(source, schema, grouping, some, Settings(threads=threads))
    assert source.read == {(part, name): 1 for part in range(5) for name in {*some, *grouping.columns}}


SCAN = """
import pathlib, sys
from gpudrift.execution.threads import count_source, fit_source
from gpudrift.windows.grouping import Grouping
from gpudrift.sources import open_source
from gpudrift.execution.settings import Settings
from gpudrift.fitting.columns import FitOptions
from gpudrift.windows.calendar import Windows
import pyarrow as pa

def read():
    return int(pathlib.Path("/proc/self/io").read_text().splitlines()[0].removeprefix("rchar: "))

schema = fit_source(open_source(sys.argv[1]), FitOptions(coarse=True), None, Settings(threads=1))
for every in ("1h", "1w"):
    windows = Windows.of(pa.timestamp("us"), every)
    grouping = Grouping("t", windows, ("g",), (("x",), ("y",)))
    count_source(open_source(sys.argv[1]), schema, grouping, None, Settings(threads=2))  # libraries are loaded
    before = read()
    count_source(open_source(sys.argv[1]), schema, grouping, None, Settings(threads=2))
    print(read() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_a_file_is_read_once_as_the_system_counts(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(made(60_000), path, row_group_size=10_000, compression="none")
    out = subprocess.run([sys.executable, "-c", SCAN, path], capture_output=True, text=True, check=True).stdout
    size = path.stat().st_size
    footers = 600_000
    for found in map(int, out.split()):
        assert size * 0.95 < found < size + footers < 1.6 * size


def test_profiling_reads_once_what_fits_into_memory_else_what_it_samples_and_then_once(tmp_path, monkeypatch):
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    request = GroupRequest("t", "1d", by=("g",))
    digests = set()
    for most_rows, times in ((1 << 20, {1}), (0, {2, 3})):
        monkeypatch.setattr(sampling, "MOST_HELD_ROWS", most_rows)
        source = Counting(open_source(tmp_path / "t.parquet"))
        digests.add(profile_source(source, request, FitOptions(), None, Settings(threads=2)).digest)
        for name in table.column_names:
            wanted = times if most_rows else {3 if name == "g" else 2}
            assert {source.read[part, name] for part in range(5)} == wanted
    assert len(digests) == 1


@WHOLE_OR_DAILY
def test_progress_ends_at_the_total(tmp_path, small_runs, grouping):
    pq.write_table(made(3000), tmp_path / "t.parquet", row_group_size=300)
    told: list[Progress] = []
    schema = coarse(made(3000))
    for threads in (1, 3):
        count_source(
            open_source(tmp_path / "t.parquet"), schema, grouping, None, Settings(threads=threads, progress=told.append)
        )
        assert (told[-1].values, told[-1].total) == (3000 * 9, 3000 * 9)
        assert all(a.values <= b.values for a, b in pairwise(told))
        told.clear()


# --- pieces, and room for them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouping", [WHOLE, TWO], ids=["whole", "groups"])
@pytest.mark.parametrize("workers", [None, 3])
@LIMITS
@given(st.integers(1, 10_000), st.integers(1, 200_000), st.data())
def test_pieces_are_all_columns_once_and_those_of_the_grouping_first(grouping, workers, rows, size, data):
    table = made(100)
    schema = coarse(table).select(data.draw(st.permutations(table.column_names))[: data.draw(st.integers(0, 9))])
    runs = [[Part("", rows, 0, ())]]
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch, rows, size)
        pieces = cut_pieces(open_source(table), runs, schema, grouping, "numba", workers)
    assert [piece.keys for piece in pieces] == [at == 0 and bool(grouping) for at in range(len(pieces))]
    keys = [name for name in grouping.columns if name in schema]
    assert not grouping or list(pieces[0].schema.names) == keys
    rest = [name for name in schema.names if name not in keys]
    assert [name for piece in pieces for name in piece.schema.names] == [*keys, *rest]


def test_more_groups_than_memory_shall_hold_are_refused(tmp_path, monkeypatch, small_runs):
    table = made(2000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=300)
    schema = coarse(table)
    room = 16 * schema.slots * 12

    def limited(*given):
        return GroupNumbering(*given, most_bytes=room)

    monkeypatch.setattr(chains, "GroupNumbering", limited)
    monkeypatch.setattr(tasks, "GroupNumbering", limited)
    for threads in (1, 3):
        with pytest.raises(ValueError, match="more than 12 windows and segments") as error:
            count(tmp_path / "t.parquet", schema, DAILY, threads=threads)
        one_line(error, "9 columns take", "take longer windows, fewer segments or fewer columns", "0 GB")
    assert len(count(tmp_path / "t.parquet", schema, Grouping(by=DAILY.by, segments=DAILY.segments))) == 4


def test_a_baseline_of_too_many_groups_is_noticed_when_its_columns_are_fitted(monkeypatch):
    """Before, only that no column has fewer slots than some is known."""
    table, request = made(3000), GroupRequest("t", "1d", by=("g",))
    whole = profile_source(open_source(table), request, FitOptions(), None, Settings(threads=2))
    for allowed, words in ((len(whole), None), (len(whole) - 1, rf"more than {len(whole) - 1} windows and segments")):
        monkeypatch.setattr(numbering, "MOST_BYTES", 16 * whole.schema.slots * allowed)
        if words is None:
            assert profile_source(open_source(table), request, FitOptions(), None, Settings(threads=2)) == whole
        else:
            with pytest.raises(ValueError, match=words):
                profile_source(open_source(table), request, FitOptions(), None, Settings(threads=2))
