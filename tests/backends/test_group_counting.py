"""Counting windows and segments: no backend, thread, file, cut or order of rows changes a number; one scan is all."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
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
from gpudrift.execution.group_tasks import cut_pieces
from gpudrift.execution.group_threads import count_groups_source, profile_groups_source
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import grouped, strategies
from support.grouped import DAILY, TWO, chosen, coarse, count, count_batches, is_right, made, several

from gpudrift.backends import BACKENDS, load_backend, load_groups
from gpudrift.backends import counters as grouped_backend
from gpudrift.columns.conversion import NAN_IS_NULL
from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Schema, complete_edges
from gpudrift.errors import SourceChangedError
from gpudrift.execution import group_tasks, group_threads
from gpudrift.execution.settings import Progress, Settings
from gpudrift.execution.threads import count_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import delimited, open_source
from gpudrift.windows import numbering as grouping_module
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME, Grouping, GroupRequest
from gpudrift.windows.numbering import GroupNumbering

LIMITS = settings(deadline=None, max_examples=40)
MORE = settings(deadline=None, max_examples=80)
FIXTURES = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
EVERY_DAY = Windows.of(pa.timestamp("us"), "1d")
ONE = Grouping(by=("g",), segments=())


def integer(name="x") -> Column:
    return Column(name, "integer", "integer", None, complete_edges([-3, 5, 6, 100], "integer"))


def real(name="x") -> Column:
    return Column(name, "real", "float", None, complete_edges([-3.0, 0.5, 6.0], "real"))


def profiled(data, time=None, every=None, by=(), columns=None, threads=1, **request):
    made_request = GroupRequest(time, every, by=by, **request)
    return profile_groups_source(open_source(data), made_request, FitOptions(), columns, Settings(threads=threads))


def one_line(error, *words) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# --- backends --------------------------------------------------------------------------------------------------------


@MORE
@given(several(2), st.data())
def test_backends_agree_to_the_bit(drawn, data):
    """Of every type, in any order of batches, which bring new groups late, with empty ones between."""
    schema, grouping, tables = drawn
    pieces = [piece for table in tables for piece in data.draw(strategies.partitions(table))]
    pieces = [pieces[at] for at in data.draw(st.permutations(range(len(pieces))))]
    batches = [batch for piece in pieces for batch in (*piece.to_batches(), *piece[:0].to_batches())]
    found = [count_batches(batches, schema, grouping, tables[0].schema, backend) for backend in BACKENDS]
    for name in ("groups", "rows", "counts", "sums", "low", "high"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name)), name
    assert found[0] == found[1]
    assert found[0].skipped == found[1].skipped
    assert found[0].findings == found[1].findings
    if not found[0].skipped:
        assert found[0].total() == load_backend("numpy")(batches, schema)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_floats_that_enter_integer_columns_keep_their_infinities(backend, data):
    pool = [math.nan, math.inf, -math.inf, None, 0.0, -0.0, 3.0, -7.0, 2.0**53]
    rows = data.draw(st.lists(st.tuples(st.sampled_from(pool), st.integers(0, 3)), max_size=60))
    kind = data.draw(st.sampled_from([pa.float64(), pa.float32()]))
    values = pa.array([value for value, _ in rows], kind)
    if data.draw(st.booleans()):
        values = values.dictionary_encode()
    elif data.draw(st.booleans()):
        ends = pa.array(range(1, len(rows) + 1), pa.int32())
        values = pa.RunEndEncodedArray.from_arrays(ends, values) if rows else values
    batch = pa.record_batch([values, pa.array([group for _, group in rows], pa.int8())], names=["x", "g"])
    grouping = Grouping(by=("g",), segments=(("1",), ("3",)))
    cut = data.draw(st.integers(0, len(rows)))
    found = count_batches([batch[:cut], batch[cut:]], Schema((integer(),)), grouping, batch.schema, backend)
    assert not found.skipped
    for number in range(3):
        own = [value for value, group in rows if {1: 0, 3: 1}.get(group, 2) == number]
        special = found.segment(number)["x"].special
        assert special["-inf"] == own.count(-math.inf)
        assert special["+inf"] == own.count(math.inf)
        assert special["nan"] == special["absent"] == 0
        assert special["null"] == sum(value is None or value != value for value in own)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_null_where_the_container_cannot_tell(backend):
    values, groups = pa.array([1.0, math.nan, None, math.nan, math.inf, 2.0]), pa.array([0, 0, 0, 1, 1, 2])
    plain = pa.schema([("x", pa.float64()), ("g", pa.int64())])
    cannot_tell = pa.schema([pa.field("x", pa.float64(), metadata=NAN_IS_NULL), ("g", pa.int64())])
    batches = [pa.RecordBatch.from_arrays([values, groups], schema=one) for one in (plain, cannot_tell, plain)]
    found = count_batches(batches, Schema((real(),)), Grouping(by=("g",), segments=(("0",), ("1",))), plain, backend)
    specials = [[found.segment(at)["x"].special[slot] for slot in SPECIAL_SLOTS] for at in range(3)]
    assert specials == [[0, 0, 2, 4, 0], [0, 3, 2, 1, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_columns_of_batches(backend):
    """Beyond int64, nulls in dictionaries, no type at all, no such column, and one that comes later."""
    schema = Schema((integer(), Column("k", "categorical", "text", categories=(b"a",), sketch=2)))
    grouping = Grouping(by=("g",), segments=(("u",),))
    with_null = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None], pa.int8()), pa.array(["a", None, "b"]))
    names, groups = ["x", "k", "g"], pa.array(["u", "v", "u", "v"])
    batches = [
        pa.record_batch([pa.array([2**64 - 1, 2**63, 0, 7], pa.uint64()), with_null, groups], names=names),
        pa.record_batch([pa.nulls(4), pa.nulls(4), groups], names=names),
        pa.record_batch([groups], names=["g"]),
        pa.record_batch([pa.array([5, 5, -(2**63), 5]), groups, groups], names=names),
        pa.record_batch([pa.array([1, 1]), pa.array(["b", "c"])], names=["x", "k"]),  # nobody's segment
    ]
    found = count_batches(batches, schema, grouping, batches[0].schema, backend)
    assert not found.skipped
    kept, other = found.segment(0), found.segment(1)
    assert (kept.rows, other.rows) == (8, 10)
    assert kept["x"].counts.tolist() == [1, 0, 1, 0, 1, 0, 1]  # ..-3..0..1..5..6..100..
    assert other["x"].counts.tolist() == [0, 0, 0, 2, 2, 1, 1]
    assert [side["x"].special["null"] for side in (kept, other)] == [2, 2]
    assert [side["x"].special["absent"] for side in (kept, other)] == [2, 2]
    assert [side["k"].special["null"] for side in (kept, other)] == [2, 4]
    assert dict(zip(kept["k"].tail.values, kept["k"].tail.counts.tolist(), strict=True)) == {b"b": 1, b"u": 2}
    assert kept["k"].counts.tolist() == [1, 3]
    assert (found.low[0, 0], found.high[0, 0]) == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sign_of_zero_is_lost_in_every_group(backend):
    rows = pa.record_batch({"x": [-0.0, 0.0, -0.0, -5e-324, 5e-324, -1.0], "g": [0, 0, 1, 2, 2, 3]})
    grouping = Grouping(by=("g",), segments=(("0",), ("1",), ("2",)))
    found = count_batches([rows], Schema((real(),)), grouping, rows.schema, backend)
    assert [(found.profile(at)["x"].low, found.profile(at)["x"].high) for at in range(4)] == [
        (0.0, 0.0),
        (0.0, 0.0),
        (-5e-324, 5e-324),
        (-1.0, -1.0),
    ]
    assert [math.copysign(1, found.profile(at)["x"].low) for at in range(2)] == [1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=25)
@given(several(1, max_rows=60), st.integers(1, 9), st.integers(1, 20))
def test_packed_words_that_are_full_are_emptied_in_time(backend, drawn, most, size):
    schema, grouping, (table,) = drawn
    batches = chosen(table, range(table.num_rows)).to_batches(max_chunksize=size)
    expected = count_batches(batches, schema, grouping, table.schema, backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped_backend, "MOST_PACKED", most + 1)
        assert count_batches(batches, schema, grouping, table.schema, backend) == expected


@pytest.mark.parametrize(("backend", "value"), [("numba", 0), ("numba", 2**16), ("numpy", 2**16)])
def test_many_millions_of_rows_in_one_bin_of_one_group(backend, value):
    """A word has room for 2**23 rows of the largest residual, and its sign for none: see MOST_PACKED."""
    column = Column("x", "integer", "integer", None, complete_edges([2**16 + 1], "integer"))
    size = 1 << 22
    state = load_groups(backend)(Schema((column,)))
    batch, groups = pa.record_batch({"x": np.full(size, value)}), np.zeros(size, np.int32)
    for _ in range(3):
        state.add(batch, groups, 1)
    whole = grouped_backend.GroupsCounted(state.schema, [(0, 0)])
    whole.take_rows(state)
    whole.take(state)
    profile = whole.profile(Grouping(by=("g",))).total()
    expected = load_backend("numpy")([batch], state.schema)
    assert profile["x"].counts.tolist() == (3 * expected["x"].counts).tolist()
    assert profile["x"].sums.tolist() == (3 * expected["x"].sums).tolist()


def test_a_batch_longer_than_a_word_has_room_for_is_cut():
    table = made(3000, days=3)
    schema = coarse(table)
    expected = count(table, schema, DAILY)
    (batch,) = table.combine_chunks().to_batches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped_backend, "MOST_PACKED", 700)
        assert count_batches([batch], schema, DAILY, table.schema) == expected


def test_counters_grow_with_groups_that_come_late():
    """From none to 1 to 8 to hundreds, and back to early ones; skipped columns give theirs up."""
    counters = grouped_backend.GroupCounters(integer())
    sizes = []
    for groups in (0, 1, 5, 8, 9, 9, 16, 17, 400):
        counters.grow(groups)
        sizes.append(counters.low.size)
        assert len(counters.cells) == len(counters.special) == counters.low.size == counters.high.size >= groups
    assert sizes == [0, 8, 8, 8, 16, 16, 16, 32, 400]
    rng = np.random.default_rng(4)
    batches = [
        pa.record_batch({"x": rng.integers(-9, 9, 50), "r": rng.normal(size=50), "g": rng.integers(0, last, 50)})
        for last in (1, 2, 7, 8, 9, 40, 300, 3, 1)
    ]
    schema, table = Schema((integer(), real("r"))), pa.Table.from_batches(batches)
    grouping = Grouping(by=("g",), segments=tuple((str(at),) for at in range(299)))
    for backend in BACKENDS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grouped_backend, "MOST_PACKED", 120)
            found = count_batches(batches, schema, grouping, batches[0].schema, backend)
        assert is_right(found, table)


# --- threads, pieces, files ------------------------------------------------------------------------------------------


@pytest.fixture
def small_runs(monkeypatch):
    """Many runs, many pieces and so many stripes, even for small tables."""
    monkeypatch.setattr(group_tasks, "RUN_ROWS", 700)
    monkeypatch.setattr(group_tasks, "LARGEST_BLOCK", 20_000)


@pytest.mark.parametrize("grouping", [DAILY, TWO, Grouping("t", EVERY_DAY), replace(TWO, time=None, windows=None)])
def test_threads_runs_and_pieces_change_nothing(tmp_path, monkeypatch, grouping):
    table = made(6000)
    schema = coarse(table)
    expected = count(table, schema, grouping)
    assert is_right(expected, table)
    for row_group in (6000, 1300, 250):
        path = tmp_path / f"{row_group}.parquet"
        pq.write_table(table, path, row_group_size=row_group)
        for run_rows, piece in ((1 << 20, 16 << 20), (1500, 30_000), (1, 1)):
            monkeypatch.setattr(group_tasks, "RUN_ROWS", run_rows)
            monkeypatch.setattr(group_tasks, "LARGEST_BLOCK", piece)
            for threads in (1, 2, 5):
                assert count(path, schema, grouping, threads=threads).digest == expected.digest
    assert count(path, schema, grouping, "numpy", threads=3) == expected


@FIXTURES
@given(several(2), st.integers(1, 15), st.data())
def test_parquet_files_of_any_cut_and_memory_agree(tmp_path, small_runs, drawn, row_group, data):
    schema, grouping, tables = drawn
    folder = tmp_path / "t"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for at, table in enumerate(tables):
        plain = chosen(table, range(table.num_rows))
        names = data.draw(st.permutations(plain.column_names))
        try:
            pq.write_table(plain.select(names), folder / f"{at}.parquet", row_group_size=row_group)
        except pa.ArrowException:
            return
    back = [pq.read_table(path).select(tables[0].column_names) for path in sorted(folder.iterdir())]
    if any(one.schema != back[0].schema for one in back):
        return
    expected = count(pa.concat_tables(back), schema, grouping)
    assert count(folder, schema, grouping, threads=data.draw(st.sampled_from([1, 3]))) == expected


def test_files_with_other_orders_and_without_columns(tmp_path, small_runs):
    table = made(4000)
    schema = coarse(table)
    parts = [table.slice(start, 1000) for start in range(0, 4000, 1000)]
    parts[1] = parts[1].select(table.column_names[::-1])
    parts[2] = parts[2].drop_columns(["real", "kind"])
    parts[3] = parts[3].drop_columns(["t", "g"])
    for at, part in enumerate(parts):
        pq.write_table(part, tmp_path / f"{at}.parquet", row_group_size=300)
    expected = grouped.GroupedProfile.sum([count(part, schema, DAILY) for part in parts[:3]])
    for threads in (1, 4):
        found = count(tmp_path, schema, DAILY, threads=threads)
        assert found.window(NO_TIME).rows >= 1000
        late = count_batches(parts[3].to_batches(), schema, DAILY, table.schema)
        assert late.starts == (NO_TIME,)
        assert late.segments == (2,)  # (none)
        assert found == expected + late
        assert found.total()["real"].special["absent"] == found.total()["kind"].special["absent"] == 1000
        assert found.total() == count_source(open_source(tmp_path), schema, None, Settings())


@pytest.mark.parametrize("threads", [1, 3])
def test_columns_of_the_grouping_need_not_be_counted(tmp_path, small_runs, threads):
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=500)
    whole = profiled(tmp_path / "t.parquet", "t", "1d", ("g",), threads=threads)
    some = profiled(tmp_path / "t.parquet", "t", "1d", ("g",), ["count", "real"], threads=threads)
    assert some.schema.names == ("real", "count")  # in the order of the table, as gd.profile
    assert some == whole.select(["real", "count"])
    source = open_source(tmp_path / "t.parquet")
    again = count_groups_source(source, whole.schema, whole.grouping, ["count", "real"], Settings(threads=threads))
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
    assert expected.total() == count_source(open_source(table), expected.schema, None, Settings())
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
        again = count_groups_source(source, expected.schema, expected.grouping, None, Settings(threads=2))
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
    assert len(count_groups_source(open_source(reader), schema, DAILY, None, Settings())) == 0
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
    again = count_groups_source(open_source(tmp_path), found.schema, found.grouping, None, Settings())
    assert again == found
    assert found.total() == count_source(open_source(tmp_path), found.schema, None, Settings())


def test_csv_types_that_change_midway_are_read_again(tmp_path, monkeypatch):
    """Of a counted column, and of one that only makes segments: what the narrow reading found is forgotten."""
    monkeypatch.setattr(delimited, "CSV_BLOCK", 2_000)
    rows = 3_000
    lines = ["x,g,t", *(f"{at},0{at % 3},2024-01-0{1 + at * 3 // rows}" for at in range(rows)), "0.5,many,2024-01-04"]
    (tmp_path / "1.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "2.csv").write_text("x,g,t\n7,2,2024-01-02\n")
    with_time = Windows.of(pa.date32(), "1d")
    grouping = Grouping("t", with_time, ("g",), (("00",), ("2",)))
    schema = coarse({"x": np.arange(3000.0) / 7})
    found = count_groups_source(open_source(tmp_path), schema, grouping, None, Settings())
    assert int(found.rows.sum()) == rows + 2
    assert found.segment(0).rows == rows // 3
    assert found.segment(1).rows == 1
    assert found.segment(2).rows == rows - rows // 3 + 1
    assert found.total() == count_source(open_source(tmp_path), schema, None, Settings())
    assert [found.window(start).rows for start in found.starts] == [1000, 1001, 1000, 1]


# --- one scan --------------------------------------------------------------------------------------------------------


class Counting:
    """A source that counts how often each column of each part was read."""

    def __init__(self, source):
        self.source, self.read, self.lock = source, {}, threading.Lock()

    def __getattr__(self, name):
        return getattr(self.source, name)

    def with_types(self, types):
        return self

    def joined(self, parts):
        return parts

    def batches(self, part, columns):
        with self.lock:
            for name in columns:
                self.read[part.index, name] = self.read.get((part.index, name), 0) + 1
        return self.source.batches(part, columns)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("every", ["1h", "1w", None])
@pytest.mark.parametrize("by", [(), ("g",), ("g", "h")])
def test_every_chunk_of_every_column_is_read_once(tmp_path, monkeypatch, threads, every, by):
    if every is None and not by:
        return
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    windows = None if every is None else Windows.of(pa.timestamp("us"), every)
    segments = tuple(dict.fromkeys(grouped.segments_of(table, by)))
    grouping = Grouping(None if every is None else "t", windows, by, segments if by else ())
    schema = coarse(table)
    expected = count(table, schema, grouping)
    for piece in (1, 20_000, 16 << 20):
        monkeypatch.setattr(group_tasks, "LARGEST_BLOCK", piece)
        monkeypatch.setattr(group_tasks, "RUN_ROWS", piece)
        source = Counting(open_source(tmp_path / "t.parquet"))
        found = count_groups_source(source, schema, grouping, None, Settings(threads=threads))
        assert found == expected
        assert source.read == {(part, name): 1 for part in range(5) for name in table.column_names}
    some = ["real", "t"]
    source = Counting(open_source(tmp_path / "t.parquet"))
    count_groups_source(source, schema, grouping, some, Settings(threads=threads))
    assert source.read == {(part, name): 1 for part in range(5) for name in {*some, *grouping.columns}}


SCAN = """
import pathlib, sys
from gpudrift.execution.group_threads import count_groups_source
from gpudrift.counts.groups import Grouping
from gpudrift.sources import open_source
from gpudrift.execution.threads import Settings, fit_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.windows.calendar import Windows
import pyarrow as pa

def read():
    return int(pathlib.Path("/proc/self/io").read_text().splitlines()[0].removeprefix("rchar: "))

schema = fit_source(open_source(sys.argv[1]), FitOptions(coarse=True), None, Settings(threads=1))
for every in ("1h", "1w"):
    windows = Windows.of(pa.timestamp("us"), every)
    grouping = Grouping("t", windows, ("g",), (("x",), ("y",)))
    count_groups_source(open_source(sys.argv[1]), schema, grouping, None, Settings(threads=2))  # libraries are loaded
    before = read()
    count_groups_source(open_source(sys.argv[1]), schema, grouping, None, Settings(threads=2))
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
        monkeypatch.setattr(group_threads._Held, "most_rows", most_rows)
        source = Counting(open_source(tmp_path / "t.parquet"))
        digests.add(profile_groups_source(source, request, FitOptions(), None, Settings(threads=2)).digest)
        for name in table.column_names:
            wanted = times if most_rows else {3 if name == "g" else 2}
            assert {source.read[part, name] for part in range(5)} == wanted
    assert len(digests) == 1


def test_progress_ends_at_the_total(tmp_path, small_runs):
    pq.write_table(made(3000), tmp_path / "t.parquet", row_group_size=300)
    told: list[Progress] = []
    schema = coarse(made(3000))
    for threads in (1, 3):
        count_groups_source(
            open_source(tmp_path / "t.parquet"), schema, DAILY, None, Settings(threads=threads, progress=told.append)
        )
        assert (told[-1].values, told[-1].total) == (3000 * 9, 3000 * 9)
        assert all(a.values <= b.values for a, b in pairwise(told))
        told.clear()


# --- what cannot be read ---------------------------------------------------------------------------------------------


def damaged(path, table, column) -> None:
    """Bytes in the middle of a compressed column of the last row group: its page does not decompress."""
    pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=table.num_rows // 2)
    chunk = pq.read_metadata(path).row_group(1).column(table.column_names.index(column))
    content = bytearray(path.read_bytes())
    for at in range(chunk.data_page_offset + 60, chunk.data_page_offset + chunk.total_compressed_size - 60, 20):
        content[at] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("column", ["real", "key"])
def test_a_column_that_cannot_be_read_is_skipped_and_the_others_are_right(tmp_path, small_runs, threads, column):
    table = made(6000)
    damaged(tmp_path / "t.parquet", table, column)
    schema = coarse(table)
    for grouping in (DAILY, TWO):
        found = count(tmp_path / "t.parquet", schema, grouping, threads=threads)
        assert set(found.skipped) == {column}
        assert found.skipped[column]
        assert "\n" not in found.skipped[column]
        assert found.findings == {column: "unreadable"}
        assert found == count(table, schema, grouping).skip(found.skipped, found.findings)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_of_a_part_that_failed_are_not_counted_twice(tmp_path, small_runs, threads):
    """The other columns of the piece had batches of the part before the bad one failed; two columns fail in turn."""
    table = made(5000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1000)

    class Broken(Counting):
        def batches(self, part, columns):
            for at, batch in enumerate(self.source.batches(part, columns)):
                if part.index == 3 and "count" in columns:
                    yield batch[: batch.num_rows // 2]
                    raise OSError("Corrupt page\nsecond line")
                if part.index == 4 and "flag" in columns:
                    raise pa.ArrowInvalid("Corrupt too")
                yield batch
                assert at < 100

    schema = coarse(table)
    for piece in (1, 20_000, 16 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(group_tasks, "LARGEST_BLOCK", piece)
            source = Broken(open_source(tmp_path / "t.parquet"))
            found = count_groups_source(source, schema, DAILY, None, Settings(threads=threads))
        assert found.skipped == {"count": "Corrupt page", "flag": "Corrupt too"}
        assert found == count(table, schema, DAILY).skip(found.skipped, {})


def test_a_column_of_the_grouping_that_cannot_be_read_ends_the_run(tmp_path, small_runs):
    table = made(5000)
    damaged(tmp_path / "t.parquet", table, "t")
    for threads in (1, 3):
        with pytest.raises((OSError, ValueError), match=r"t\.parquet"):
            count(tmp_path / "t.parquet", coarse(table), DAILY, threads=threads)


def test_files_that_change_and_rows_that_are_lost_are_noticed(tmp_path, small_runs):
    table = made(3000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    schema = coarse(table)

    class Changed(Counting):
        def batches(self, part, columns):
            if "real" in columns and part.index == 2:
                raise SourceChangedError("t.parquet was changed")
            return self.source.batches(part, columns)

    class Losing(Counting):
        def batches(self, part, columns):
            return (batch.slice(1) for batch in self.source.batches(part, columns))

    class LosingLater(Counting):
        def batches(self, part, columns):
            return (batch.slice(int("real" in columns)) for batch in self.source.batches(part, columns))

    for kind, words in (
        (Changed, "was changed"),
        (Losing, "rows were counted, its files hold"),
        (LosingLater, "rows were read where"),
    ):
        for threads in (1, 3):
            with pytest.raises(ValueError, match=words) as error:
                count_groups_source(
                    kind(open_source(tmp_path / "t.parquet")), schema, DAILY, None, Settings(threads=threads)
                )
            one_line(error, "t.parquet")


def test_columns_that_changed_their_type_and_names_that_occur_twice_are_skipped():
    table = made(500)
    schema = coarse(table)
    twice = pa.table([*table.columns, table["flag"]], names=[*table.column_names, "flag"])
    found = count(twice, schema, DAILY)
    assert found.findings == {"flag": "unreadable"}
    changed = table.set_column(0, "real", table["kind"]).set_column(3, "kind", table["real"])
    found = count(changed, schema, DAILY)
    assert found.findings == {"real": "type changed", "kind": "type changed"}
    assert found == count(table, schema, DAILY).skip(found.skipped, {})
    assert found.seen["real"] == "string"


# --- rows without a time, segments of all kinds ----------------------------------------------------------------------


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
        (("text", "1d"), ["time: column 'text'", "string has no windows"]),
        (("x", "1d"), ["time: column 'x'", "double has no windows"]),
        (("t", "1 day"), ["time: column 't'", "'1 day' is no length of windows"]),
        (("t", "100"), ["time: column 't'", "expected a unit"]),
        (("n", "1d"), ["time: column 'n'", "expected a whole number"]),
        (("day", "1h"), ["time: column 'day'", "expected days or longer"]),
        (("t", "1d", "Europe/Berlin"), ["time: column 't'", "zone 'Europe/Berlin'", "times without a zone"]),
        (("aware", "1d", "Europe/Nowhere"), ["time: column 'aware'", "no known time zone"]),
        ((None, None, None, ("gone",)), ["segments: no column 'gone' in Arrow Table"]),
        ((None, None, None, ("x",)), ["segments: column 'x'", "type changed", "not all whole numbers"]),
        ((None, None, None, ("t",)), ["segments: column 't'", "texts, booleans or integers make segments"]),
        ((None, None, None, ("list",)), ["segments: column 'list'", "nested type"]),
    ],
    ids=str,
)
def test_what_cannot_be_grouped_is_refused_in_one_line(request_, words):
    with pytest.raises(ValueError, match=r"^(time|segments): ") as error:
        profile_groups_source(open_source(TABLE), GroupRequest(*request_), FitOptions(), ["n"], Settings(threads=1))
    one_line(error, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time": "t"}, "time is given without every"),
        ({"every": "1d"}, "every is given without time"),
        ({"zone": "UTC"}, "zone 'UTC' is given without a time column"),
        ({"by": ("g", "g")}, "a column is named twice in g, g"),
        ({"by": ("g",), "segments": 0}, "0 are to be kept, possible are 1 to 4096"),
        ({"by": ("g",), "segments": 4097}, "4097 are to be kept"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        GroupRequest(**options)
    assert not GroupRequest()
    assert GroupRequest("t", "1d")
    assert GroupRequest(by=("g",))


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
    with pytest.raises(ValueError, match="the windows are of a column of naive times") as error:
        count(aware, schema, DAILY)
    one_line(error, "timestamp[us, tz=UTC]")
    with pytest.raises(ValueError, match="string has no windows"):
        count(table.set_column(6, "t", table["kind"]), schema, DAILY)
    with pytest.raises(ValueError, match="column 'g' of type timestamp"):
        count(table.set_column(7, "g", table["t"]), schema, DAILY)
    with pytest.raises(ValueError, match="columns: no column 'gone' in the schema"):
        count_groups_source(open_source(table), schema, DAILY, ["gone"], Settings())
    with pytest.raises(ValueError, match="columns: no column 'gone' in Arrow Table"):
        profiled(table, "t", "1d", columns=["gone"])


def test_a_type_of_time_that_changes_between_files_is_refused_with_the_file(tmp_path, small_runs):
    table = made(600)
    pq.write_table(table, tmp_path / "1.parquet")
    pq.write_table(table.set_column(6, "t", table["t"].cast(pa.timestamp("us", "UTC"))), tmp_path / "2.parquet")
    for threads in (1, 3):
        with pytest.raises(ValueError, match="type changed") as error:
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


def test_more_groups_than_memory_shall_hold_are_refused(tmp_path, monkeypatch, small_runs):
    table = made(2000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=300)
    schema = coarse(table)
    room = 16 * schema.slots * 12

    def limited(*given):
        return GroupNumbering(*given, most_bytes=room)

    monkeypatch.setattr(group_threads, "GroupNumbering", limited)
    monkeypatch.setattr(group_tasks, "GroupNumbering", limited)
    for threads in (1, 3):
        with pytest.raises(ValueError, match="more than 12 windows and segments") as error:
            count(tmp_path / "t.parquet", schema, DAILY, threads=threads)
        one_line(error, "9 columns take", "take longer windows, fewer segments or fewer columns", "0 GB")
    assert len(count(tmp_path / "t.parquet", schema, Grouping(by=DAILY.by, segments=DAILY.segments))) == 4


def test_segments_whose_values_would_make_too_large_a_table_are_refused():
    segments = tuple((str(at), str(at), str(at)) for at in range(500))
    with pytest.raises(ValueError, match="too many values in a, b, c: keep fewer segments"):
        GroupNumbering(Grouping(by=("a", "b", "c"), segments=segments), [], Schema(()))


# --- pieces ----------------------------------------------------------------------------------------------------------


@LIMITS
@given(st.integers(1, 10_000), st.integers(1, 200_000), st.data())
def test_pieces_are_all_columns_once_and_those_of_the_grouping_first(rows, block, data):
    table = made(100)
    schema = coarse(table).select(data.draw(st.permutations(table.column_names))[: data.draw(st.integers(0, 9))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_tasks, "BLOCK", block)
        pieces = cut_pieces(open_source(table), schema, TWO, rows, "numba")
    assert pieces[0].keys
    assert not any(piece.keys for piece in pieces[1:])
    assert set(pieces[0].schema.names) == {"t", "g", "h"} & set(schema.names)
    assert sorted(name for piece in pieces for name in piece.names) == sorted(schema.names)


def test_a_baseline_of_too_many_groups_is_noticed_when_its_columns_are_fitted(monkeypatch):
    """Before, only that no column has fewer slots than some is known."""
    table, request = made(3000), GroupRequest("t", "1d", by=("g",))
    whole = profile_groups_source(open_source(table), request, FitOptions(), None, Settings(threads=2))
    for allowed, words in ((len(whole), None), (len(whole) - 1, rf"more than {len(whole) - 1} windows and segments")):
        monkeypatch.setattr(grouping_module, "MOST_BYTES", 16 * whole.schema.slots * allowed)
        if words is None:
            assert profile_groups_source(open_source(table), request, FitOptions(), None, Settings(threads=2)) == whole
        else:
            with pytest.raises(ValueError, match=words):
                profile_groups_source(open_source(table), request, FitOptions(), None, Settings(threads=2))
