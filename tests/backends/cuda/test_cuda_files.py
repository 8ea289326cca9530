"""Parquet onto a GPU: with doubles of CuPy and pylibcudf, and emulated kernels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fake_pylibcudf, strategies, tables
from support.device_tables import AS_A_WHOLE_AND_IN_GROUPS, dated, everything, numbers, read_by, same, write
from support.installed import installed

import gpudrift as gd
from gpudrift.backends.cuda.groups import DeviceGroupState
from gpudrift.columns.device import DeviceColumn, DeviceTexts, host_array
from gpudrift.execution.cluster.work import Opened, count_parts, fit_and_count, fit_batches, sample_run
from gpudrift.execution.reading import readable_by
from gpudrift.execution.tasks import HeldGroups
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import sample_blocks
from gpudrift.sources import on_device, open_source
from gpudrift.windows.grouping import GroupRequest

whole_and_groups = pytest.mark.parametrize(
    "asked",
    [pytest.param(AS_A_WHOLE_AND_IN_GROUPS[0], marks=pytest.mark.slow), AS_A_WHOLE_AND_IN_GROUPS[1]],
    ids=["whole", "groups"],
)


# --- the same result ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=strategies.tables(max_rows=60), second=st.data())
def test_files_of_every_type_equal_the_cpu(plc, tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("files")
    other = second.draw(strategies.like(first, 60))
    try:
        before = write(folder / "before.parquet", first, row_group_size=7)
        after = write(folder / "after.parquet", other, row_group_size=11)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a type that Parquet has not
        return
    schema = same(before).schema
    same(after, schema=schema)


@whole_and_groups
def test_columns_of_every_kind(plc, tmp_path, asked):
    for number in range(2):
        write(tmp_path / f"{number}.parquet", dated(1_500, number), row_group_size=400)
    found = same(str(tmp_path), threads=2, **asked)
    names = dated(1).column_names
    assert list(found.schema.names) == names
    assert {"list", "a", "bytes"} == {one.name for one in found.schema.columns if one.kind == "skipped"}
    there = {names[place] for _, places, _ in read_by(plc) for place in places}
    host = {"half", "watch", "wider"}
    never = {"a", "list", "bytes", "nothing"}
    assert there == set(names) - host - never
    assert not asked or len(found) > 50


def test_files_with_other_columns_and_folders_that_are_columns(plc, tmp_path):
    write(tmp_path / "k=1" / "a.parquet", numbers())
    write(tmp_path / "k=2" / "a.parquet", numbers(seed=1).select(["n", "x"]))
    write(tmp_path / "k=3" / "a.parquet", numbers(0))
    found = same(str(tmp_path))
    assert found["f"].special["absent"] == 5_000
    same(str(tmp_path), columns=["k"])


def test_the_order_in_which_columns_are_asked_for(plc, tmp_path):
    path = write(tmp_path / "a.parquet", numbers())
    schema = gd.fit(numbers().select(["t", "f", "x"]))
    same(path, schema=schema)


REAL = {
    "adult": {},
    "bike_sharing": {"time": "timestamp", "every": "1mo", "by": ("weekday", "holiday"), "segments": 5},
    "hotel_bookings": {"by": ("hotel", "arrival_date_month"), "segments": 9},
    "nycflights_planes": {"by": "manufacturer", "segments": 6},
    "occupancy": {"time": "timestamp", "every": "1h"},
    "secom": {},
}


@pytest.mark.slow
@pytest.mark.skipif(not tables.available(), reason="the shared tables are not here")
@pytest.mark.parametrize("name", REAL)
def test_real_tables(plc, name, monkeypatch):
    monkeypatch.setattr("gpudrift.execution.tasks.RUN_ROWS", 5_000)
    path = str(tables.path(name))
    same(path)
    if REAL[name]:
        plc.told.clear()
        found = same(path, threads=3, **REAL[name])
        assert len(found) > 3
        assert gd.profile(pq.read_table(path), backend="cuda", threads=1, **REAL[name]) == found
    assert read_by(plc)


@whole_and_groups
def test_several_threads_and_blocks(plc, tmp_path, monkeypatch, asked):
    monkeypatch.setattr("gpudrift.execution.cuts.DEVICE_COLUMNS", 3)
    monkeypatch.setattr("gpudrift.execution.cuts.DEVICE_RUN", 30_000)
    path = write(tmp_path / "a.parquet", dated())
    found = same(path, threads=4, **asked)
    same(path, schema=found, threads=4)


def test_a_block_too_large_to_be_held_is_read_twice(plc, tmp_path, monkeypatch):
    monkeypatch.setattr("gpudrift.execution.threads.DEVICE_BLOCK", 1_000)
    same(write(tmp_path / "a.parquet", everything()))


# --- steps -------------------------------------------------------------------------------------------------------


def test_row_groups_are_read_in_one_go_and_footers_once(plc, tmp_path):
    schema = gd.fit(numbers())
    for number in range(3):
        write(tmp_path / f"{number}.parquet", numbers(seed=number))
    before = fake_pylibcudf.FileMetaData.parsed
    same(str(tmp_path), schema=schema)
    same(str(tmp_path), schema=schema, threads=1)
    assert fake_pylibcudf.FileMetaData.parsed - before == 3
    assert [groups for groups, _, _ in read_by(plc)] == [[0, 1, 2, 3, 4]] * 6


@pytest.mark.parametrize("rows", [1, 999, 2_500, 10**9])
def test_row_groups_are_joined_up_to_so_many_rows(plc, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(on_device, "JOINED_ROWS", rows)
    for number in range(2):
        write(tmp_path / f"{number}.parquet", numbers(4_700))
    source = readable_by(open_source(str(tmp_path)), "cuda")
    joined = source.joined([part for part in source.parts if part.index != 2])
    assert [(part.detail[0], at) for part in joined for at in part.detail[1:]] == [
        part.detail for part in source.parts if part.index != 2
    ]
    assert all(part.rows <= max(rows, 1_000) for part in joined)
    wanted = {1: 9, 999: 9, 2_500: 5, 10**9: 3}[rows]
    assert len(joined) == wanted
    same(str(tmp_path), schema=gd.fit(numbers()))


def test_memory_of_a_step_stays_within_the_budget(with_cudf, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "8MiB")
    plc = with_cudf()
    schema = gd.fit(numbers(50_000))
    same(write(tmp_path / "a.parquet", numbers(50_000), row_group_size=20_000), schema=schema)
    chunk, scratch = read_by(plc)[0][2]
    assert 4 * chunk + 1.5 * scratch <= 2 << 20
    rows = [one for one in plc.told if isinstance(one, int)]
    assert sum(rows) == 50_000
    assert max(rows) * (8 + 4 + 2 + 8 + 8) <= chunk


@pytest.mark.parametrize("room", [200_000, 1_000_000, 3_000_000])
def test_a_step_that_finds_no_memory_is_made_again_smaller(with_cudf, tmp_path, monkeypatch, room):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "64MiB")
    plc = with_cudf(memory=room)
    table = pa.table({**{f"x{at}": np.random.default_rng(at).normal(size=60_000) for at in range(9)}})
    table = table.append_column("half", pa.array(np.arange(60_000) % 100, pa.float32()).cast(pa.float16()))
    path = write(tmp_path / "a.parquet", table, row_group_size=7_000)
    same(path, threads=1)
    tried = [limits for _, _, limits in read_by(plc)]
    assert len(set(tried)) > 2
    assert sum(tried[-1]) <= room


def test_no_memory_for_the_smallest_step_is_said(with_cudf, tmp_path):
    with_cudf(memory=1_000)
    path = write(tmp_path / "a.parquet", numbers(50_000), row_group_size=50_000)
    with pytest.raises(MemoryError):
        gd.profile(path, backend="cuda")


@pytest.mark.parametrize("asked", [{}, {"by": "day"}], ids=["whole", "groups"])
def test_columns_live_until_they_are_counted(with_cudf, tmp_path, monkeypatch, asked):
    """Kernels run late, and memory that is given back is overwritten."""
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "4MiB")
    with_cudf(late=True)
    table = numbers(40_000)
    table = table.append_column("day", pa.array(np.random.default_rng(0).integers(0, 9, 40_000)))
    table = table.append_column("h", table["f"].cast(pa.float16()))
    path = write(tmp_path / "a.parquet", table, row_group_size=14_000)
    found = same(path, **asked)
    for threads in (1, 3):
        same(path, schema=found, threads=threads)
    same(path, schema=found.select(["x", "f", "n", "u"]), threads=1)  # without a column that waits for a slab


def test_a_budget_with_room_for_few_groups(with_cudf, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "1MB")
    with_cudf()
    names = ["x", "f", "n", "text", "half", "price", "when", "segment"]
    path = write(tmp_path / "a.parquet", dated(4_000).select(names), row_group_size=1_000)
    made: list[int] = []
    whole = DeviceGroupState._make

    def make(state: DeviceGroupState, groups: int) -> None:
        whole(state, groups)
        made.append(sum(one.granted for one in state.room.states))

    monkeypatch.setattr(DeviceGroupState, "_make", make)
    same(path, time="when", every="1d", by="segment", segments=4, threads=2)
    assert len(made) > 6
    assert max(made) <= 250_000


@pytest.mark.parametrize("asked", [{}, {"by": "n"}], ids=["whole", "groups"])
def test_what_cudf_cannot_read_is_skipped_with_its_reason(plc, tmp_path, monkeypatch, asked):
    path = write(tmp_path / "a.parquet", numbers())
    wanted = gd.profile(path, backend="numpy", **asked)
    reader = plc.io.parquet.ChunkedParquetReader

    class Fails(reader):
        def __init__(self, options, *arguments, **named):
            if 1 in options.places:
                raise RuntimeError("CUDF failure at: reader_impl.cu:1: Unsupported page encoding\nmore")
            super().__init__(options, *arguments, **named)

    monkeypatch.setattr(plc.io.parquet, "ChunkedParquetReader", Fails)
    words = "cuDF: CUDF failure at: reader_impl.cu:1: Unsupported page encoding"
    rest = [name for name in wanted.schema.names if name != "f"]
    counted = gd.profile(path, schema=wanted, backend="cuda")
    assert words in counted.skipped["f"]
    fitted = gd.profile(path, backend="cuda", **asked)
    assert fitted.schema["f"].kind == "skipped"
    assert words in fitted.schema["f"].reason
    assert counted.select(rest).digest == fitted.select(rest).digest == wanted.select(rest).digest


def test_a_codec_that_only_arrow_knows(plc, tmp_path):
    same(write(tmp_path / "a.parquet", numbers(), compression="brotli"))
    assert not read_by(plc)


def test_a_file_that_changes_is_said(plc, tmp_path):
    path = write(tmp_path / "a.parquet", numbers())
    source = readable_by(open_source(path), "cuda")
    assert source.on_device
    write(tmp_path / "a.parquet", numbers(7_000))
    with pytest.raises(gd.SourceChangedError, match=r"changed while it was read"):
        list(source.batches(source.parts[0], ["x"]))


@pytest.mark.parametrize("wide", [False, True])
def test_batches_are_on_the_device_and_in_row_order(with_cudf, tmp_path, wide):
    """With Arrow's own types, whether cuDF has offsets of 32 bits or of 64."""
    with_cudf(wide=wide)
    table = everything()
    source = readable_by(open_source(write(tmp_path / "a.parquet", table)), "cuda")
    (part,) = source.joined(source.parts)
    assert part.rows == table.num_rows
    names = ["price", "half", "text", "large", "x"]
    batches = list(source.batches(part, names))
    kinds = [[type(one) for one in batch.columns] for batch in batches]
    assert {tuple(one) for one in kinds} == {(DeviceColumn, pa.HalfFloatArray, DeviceTexts, DeviceTexts, DeviceColumn)}
    read = pa.concat_tables(
        pa.table(dict(zip(names, map(host_array, batch.columns), strict=True))) for batch in batches
    )
    assert read.combine_chunks().equals(table.select(names).combine_chunks())


def test_without_cudf_arrow_reads(cupy, tmp_path):
    source = open_source(write(tmp_path / "a.parquet", numbers()))
    assert readable_by(source, "cuda") is source
    same(str(tmp_path))


@whole_and_groups
def test_other_files_and_tables_are_left_alone(plc, tmp_path, asked):
    table = dated(1_000)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    found = same(str(tmp_path / "a.arrow"), **asked)
    assert same(table, **asked) == found
    table.select(["n", "x", "text", "segment", "when"]).to_pandas().to_csv(tmp_path / "a.csv", index=False)
    same(str(tmp_path / "a.csv"), **asked)
    assert not read_by(plc)


@pytest.mark.parametrize("asked", [{}, {"by": "k"}], ids=["whole", "groups"])
def test_nan_of_pandas_is_null(cupy, asked):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": np.where(rng.random(300) < 0.3, np.nan, rng.normal(size=300)), "k": rng.integers(0, 9, 300)}
    )
    found = same(frame, **asked)
    whole = found.total() if asked else found
    assert whole["x"].special["null"] == frame["x"].isna().sum()


# --- stores ------------------------------------------------------------------------------------------------------


def test_stores_are_read_by_their_own_file_system(plc, tmp_path, monkeypatch):
    fsspec = installed("fsspec")
    monkeypatch.setattr(on_device, "REMOTE_PIECE", 5_000)
    memory = fsspec.filesystem("memory")
    path = write(tmp_path / "a.parquet", everything())
    memory.put(path, "/gpudrift/a.parquet")
    try:
        found = gd.profile("memory://gpudrift/a.parquet", backend="cuda", storage_options={})
        wanted = gd.profile("memory://gpudrift/a.parquet", backend="numba", storage_options={})
    finally:
        memory.rm("/gpudrift", recursive=True)
    assert found == wanted
    assert read_by(plc)


def test_only_what_is_needed_is_fetched(tmp_path):
    path = write(tmp_path / "a.parquet", numbers())
    origin = open_source(path).origins[0]
    whole = (tmp_path / "a.parquet").read_bytes()
    content = on_device.fetched(origin, [(100, 5_000), (20_000, 20_001)])
    assert type(content) is bytes
    assert len(content) == len(whole)
    assert content[100:5_000] == whole[100:5_000]
    assert content[20_000] == whole[20_000]
    assert content[30_000:] != whole[30_000:]


# --- tasks of a cluster ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [GroupRequest(), GroupRequest("when", "3d", None, ("segment",), 3)])
@pytest.mark.parametrize("held", [True, False])
def test_tasks_of_a_cluster_read_onto_the_device(plc, tmp_path, held, request_):
    for number in range(2):
        write(tmp_path / f"{number}.parquet", dated(900, number))
    source = open_source(str(tmp_path))
    fields = tuple(one for one in source.fields if one.problem is None)
    opened, sample = Opened(source, fields), sample_blocks(source.rows, len(source.fields))
    span, parts, mark = (0, len(fields)), (0, len(source.parts)), source.fingerprint
    options = FitOptions(coarse=bool(request_))
    keys = [(part, list(source.batches(part, request_.columns))) for part in source.parts if request_]
    grouping = HeldGroups(source, request_, sample, keys, len(fields)).grouping
    found = {}
    for backend in ("cuda", "numba"):
        if held:
            schema, packet, own = fit_and_count(opened, span, sample, request_, options, backend, mark)
            assert own == grouping
        else:
            schema = fit_batches(fields, [sample_run(opened, parts, span, sample, mark, backend)], options)
            packet = count_parts(opened, (schema, grouping), parts, backend, mark)
        found[backend] = packet.profile(schema, grouping)
    assert found["cuda"] == found["numba"]
    assert read_by(plc)
