"""Parquet onto a GPU, and what is counted there by value: with doubles of CuPy and pylibcudf, and emulated kernels."""

from __future__ import annotations

import pickle
import sys
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fake_pylibcudf, strategies, tables
from support.device_tables import everything, many, not_utf8, numbers, write

import gpudrift as gd
from gpudrift.backends.cuda import cudf as cuda_cudf
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda.launch import valid_texts
from gpudrift.columns.device import DeviceColumn, DeviceTexts, host_array
from gpudrift.execution.cluster.partitions import _empty_frame, join_samplers, thin_partition
from gpudrift.execution.reading import Opened, readable_by
from gpudrift.execution.tasks import count_partition, count_parts, fit_and_count, fit_batches, fit_sampler, sample_run
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import sample_blocks
from gpudrift.sources import on_device, open_source


def same(path, **options) -> gd.Profile:
    found = gd.profile(path, backend="cuda", **options)
    assert found == gd.profile(path, backend="numba", **options)
    return found


def read_by(plc) -> list:
    return [one for one in plc.told if isinstance(one, tuple)]


# --- the same result ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_columns_of_every_kind(plc, tmp_path):
    path = write(tmp_path / "a.parquet", everything())
    found = same(path)
    assert found.provenance["backend"] == "cuda"
    names = everything().column_names
    there = {names[place] for _, places, _ in read_by(plc) for place in places}
    host = {"half", "watch", "wider"}
    never = {"a", "list", "bytes", "nothing"}
    assert there == set(names) - host - never


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


@pytest.mark.skipif(not tables.available(), reason="the shared tables are not here")
@pytest.mark.parametrize("name", ["adult", "bike_sharing", "hotel_bookings", "nycflights_planes", "occupancy", "secom"])
def test_real_tables(plc, name):
    same(str(tables.path(name)))
    assert read_by(plc)


def test_several_threads_and_blocks(plc, tmp_path, monkeypatch):
    monkeypatch.setattr("gpudrift.execution.cuts.DEVICE_COLUMNS", 3)
    monkeypatch.setattr("gpudrift.execution.cuts.DEVICE_RUN", 30_000)
    path = write(tmp_path / "a.parquet", everything())
    same(path, threads=4)
    schema = gd.fit(everything())
    same(path, schema=schema, threads=4)


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


def test_columns_live_until_they_are_counted(with_cudf, tmp_path, monkeypatch):
    """Kernels run late, and memory that is given back is overwritten."""
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "4MiB")
    with_cudf(late=True)
    path = write(tmp_path / "a.parquet", numbers(60_000), row_group_size=20_000)
    schema = same(path).schema
    for threads in (1, 2):
        same(path, schema=schema, threads=threads)


def test_what_cudf_cannot_read_is_skipped_with_its_reason(plc, tmp_path, monkeypatch):
    reader = plc.io.parquet.ChunkedParquetReader

    class Fails(reader):
        def __init__(self, options, *arguments, **named):
            if 1 in options.places:
                raise RuntimeError("CUDF failure at: reader_impl.cu:1: Unsupported page encoding\nmore")
            super().__init__(options, *arguments, **named)

    monkeypatch.setattr(plc.io.parquet, "ChunkedParquetReader", Fails)
    found = gd.profile(write(tmp_path / "a.parquet", numbers()), backend="cuda")
    assert found.schema["f"].kind == "skipped"
    assert "cuDF: CUDF failure at: reader_impl.cu:1: Unsupported page encoding" in found.schema["f"].reason
    assert found.schema["x"].kind == "real"


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


def test_batches_are_on_the_device_and_in_row_order(plc, tmp_path):
    table = everything()
    source = readable_by(open_source(write(tmp_path / "a.parquet", table)), "cuda")
    (part,) = source.joined(source.parts)
    assert part.rows == table.num_rows
    names = ["price", "half", "text", "x"]
    batches = list(source.batches(part, names))
    kinds = [[type(one) for one in batch.columns] for batch in batches]
    assert {tuple(one) for one in kinds} == {(DeviceColumn, pa.HalfFloatArray, DeviceTexts, DeviceColumn)}
    read = pa.concat_tables(
        pa.table(dict(zip(names, map(host_array, batch.columns), strict=True))) for batch in batches
    )
    assert read.combine_chunks().equals(table.select(names).combine_chunks())


def test_without_cudf_arrow_reads(cupy, tmp_path):
    source = open_source(write(tmp_path / "a.parquet", numbers()))
    assert readable_by(source, "cuda") is source
    same(str(tmp_path))


def test_other_files_and_tables_are_left_alone(plc, tmp_path):
    table = numbers()
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    same(str(tmp_path / "a.arrow"))
    assert gd.profile(table, backend="cuda") == gd.profile(table)
    assert not read_by(plc)


# --- stores ------------------------------------------------------------------------------------------------------


def test_stores_are_read_by_their_own_file_system(plc, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
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


# --- by value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [None, 10])
def test_many_values_are_chosen_on_the_device(plc, tmp_path, monkeypatch, few):
    if few is not None:
        monkeypatch.setattr(cuda_cudf, "FEW_VALUES", few)
    table = many()
    path = write(tmp_path / "a.parquet", table, row_group_size=40_000)
    kinds = {"code": "categorical", "text": "categorical"}
    found = same(path, kinds=kinds)
    assert len(found.tails) == 3
    moved = many().set_column(1, "code", pa.array(np.arange(60_000)))
    same(write(tmp_path / "b.parquet", moved, row_group_size=40_000), schema=found.schema)


def test_floats_of_whole_numbers_in_a_column_of_codes(plc, tmp_path):
    schema = gd.fit(many(), kinds={"code": "categorical"})
    floats = many().set_column(1, "code", pa.array(np.arange(60_000) % 7, pa.float64()))
    same(write(tmp_path / "a.parquet", floats), schema=schema)


@pytest.mark.parametrize("good", [5, 20_000])
def test_a_text_that_is_no_text_is_unreadable(plc, tmp_path, good):
    """Whether it would be among those that come to the host or not."""
    schema = gd.fit({"s": [f"t{at}" for at in range(5_000)]}, kinds={"s": "categorical"})
    path = write(tmp_path / "a.parquet", pa.table({"s": not_utf8(good, b"\xc3")}), row_group_size=30_000)
    found = same(path, schema=schema)
    assert found.skipped == {"s": "a text is not valid UTF-8"}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=4).map(lambda own: own.encode())), max_size=8),
    wide=st.booleans(),
)
def test_utf8_is_what_python_says_it_is(cupy, texts, wide):
    assert checked(texts, wide) == all(map(is_utf8, texts))


def test_every_pair_of_bytes_after_every_lead(cupy):
    """The edges of Unicode's table 3-7."""
    bounds = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    for lead in range(256):
        texts = [bytes([lead])]
        texts += [bytes([lead, one]) for one in bounds]
        texts += [bytes([lead, one, other]) for one in bounds for other in (0x7F, 0x80, 0xBF, 0xC0)]
        texts += [bytes([lead, one, other, 0x80]) for one in bounds for other in (0x80, 0xBF)]
        good = [one for one in texts if is_utf8(one)]
        assert checked(good, False)
        for one in texts:
            if one not in good and lead in (0x80, 0xC1, 0xC2, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF):
                assert not checked([one], False), one


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def checked(texts: list[bytes], wide: bool) -> bool:
    content = np.frombuffer(b"".join(texts) + b"\x80", np.uint8).copy()
    starts = np.cumsum([0, *map(len, texts)]).astype(np.int64 if wide else np.int32)
    return valid_texts(cuda.device(), content.ctypes.data, starts.ctypes.data, len(texts), wide=wide)


# --- cuDF's own tables -------------------------------------------------------------------------------------------


class Series:
    """Of cuDF."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array
        coded = pa.types.is_dictionary(array.type)
        zoned = pa.types.is_timestamp(array.type) and array.type.tz
        named = "category" if coded else "datetime64[us, UTC]" if zoned else None
        self.dtype = named or np.dtype(array.type.to_pandas_dtype())

    def __len__(self) -> int:
        return len(self.array)

    def to_arrow(self) -> pa.Array:
        assert self.dtype == "datetime64[us, UTC]" or self.array.type == pa.decimal128(9, 2)
        return self.array

    def to_pylibcudf(self):
        return fake_pylibcudf.Column(self.array), {}

    @property
    def cat(self):
        codes = self.array.indices.fill_null(-1)
        return SimpleNamespace(codes=Series(codes), categories=SimpleNamespace(to_arrow=lambda: self.array.dictionary))


@pytest.fixture
def cudf_of(plc, monkeypatch):
    def frame(table: pa.Table):
        def column(_self, at):
            return Series(table.column(at[1]).combine_chunks())

        rows = SimpleNamespace() if table is None else type("", (), {"__getitem__": column})()
        body = {"columns": table.column_names, "iloc": rows, "__len__": lambda _self: table.num_rows}
        frames = type("DataFrame", (), body)
        monkeypatch.setitem(sys.modules, "cudf", SimpleNamespace(DataFrame=frames, Series=Series))
        return frames()

    return frame


def test_frames_of_cudf(cudf_of):
    rng = np.random.default_rng(0)
    table = numbers(3_000).append_column("text", pa.array(["x", "y", None] * 1_000))
    table = table.append_column("flag", pa.array([True, None, False] * 1_000))
    table = table.append_column("masked", pa.array(rng.normal(size=3_005), mask=rng.random(3_005) < 0.3).slice(5))
    table = table.append_column("coded", pa.array(["p", None, "q"] * 1_000).dictionary_encode())
    table = table.append_column("zoned", pa.array([datetime(2026, 1, 1)] * 3_000, pa.timestamp("us", "UTC")))
    table = table.append_column("price", pa.array([Decimal("1.25")] * 3_000, pa.decimal128(9, 2)))
    found = gd.profile(cudf_of(table))
    assert found == gd.profile(table)
    assert found.provenance["backend"] == "cuda"
    assert gd.profile(cudf_of(table), backend="numba") == found


@pytest.mark.parametrize("backend", ["cuda", "numba"])
def test_sliced_series_of_cudf(cudf_of, backend):
    rng = np.random.default_rng(0)
    arrays = {
        "x": pa.array(rng.normal(size=3_013), mask=rng.random(3_013) < 0.3),
        "n": pa.array(rng.integers(-9, 9, 3_013).astype(np.int16)),
        "text": pa.array(["x", "y", None] * 1_005)[:3_013],
        "flag": pa.array([True, None, False] * 1_005)[:3_013],
        "coded": pa.array(["p", None, "q"] * 1_005).dictionary_encode()[:3_013],
    }
    sliced = {name: array.slice(13) for name, array in arrays.items()}
    cudf_of(pa.table({"x": [1]}))
    there = {name: Series(array) for name, array in sliced.items()}
    assert gd.profile(there, kinds={"n": "categorical"}, backend=backend) == gd.profile(
        sliced, kinds={"n": "categorical"}
    )
    assert gd.profile(there, backend=backend) == gd.profile(sliced)


def test_the_double_has_what_the_real_one_has():
    plc = pytest.importorskip("pylibcudf")
    double = fake_pylibcudf.made()
    assert callable(plc.io.parquet.ChunkedParquetReader)
    assert callable(plc.io.parquet_metadata.FileMetaData.from_bytes)
    assert callable(plc.io.types.SourceInfo)
    for name, own in vars(double).items():
        if not name.startswith("_") and name != "told":
            assert hasattr(plc, name), name
            for inner in vars(own) if isinstance(own, SimpleNamespace) else ():
                assert hasattr(getattr(plc, name), inner), (name, inner)
    for kind in fake_pylibcudf.TypeId:
        assert hasattr(plc.TypeId, kind.name)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (pa.uint32(), pa.int64()),  # as files of version 1.0 keep them
        (pa.int8(), pa.int64()),
        (pa.duration("ns"), pa.duration("ns")),
        (pa.time64("us"), pa.time64("us")),
        (pa.float64(), None),
        (pa.timestamp("us"), None),
    ],
)
def test_whole_numbers_where_arrow_says_otherwise(plc, given, wanted):
    column = fake_pylibcudf.Column(pa.array([3, None, 5]))
    if wanted is None:
        with pytest.raises(ValueError, match=f"cuDF read int64 where Arrow says {given}".replace("[", r"\[")):
            cuda.device().cudf.column(column, given)
    else:
        found = cuda.device().cudf.column(column, given)
        assert found.type == wanted
        assert found.to_arrow().cast(pa.int64()).to_pylist() == [3, None, 5]


def test_a_column_of_cudf_without_rows(plc):
    empty = pa.array([], pa.float64())
    column = cuda.device().cudf.column(fake_pylibcudf.Column(empty), pa.float64())
    assert (column.rows, column.pointer) == (0, 0)


# --- tasks -------------------------------------------------------------------------------------------------------


def test_partitions_of_cudf_stay_on_the_device_and_nothing_of_it_leaves_a_task(cudf_of):
    table = many(9_000).append_column("x", pa.array(np.random.default_rng(0).normal(size=9_000)))
    names = table.column_names
    options = FitOptions({"code": "categorical"}, {})
    fields = open_source(table).fields
    samplers = [
        [
            thin_partition(frame, names, start, (at, at + 1), len(names), backend)
            for at, start in enumerate((0, 100, 5_000))
            for frame in [make(table.slice(start, (100, 4_900, 4_000)[at]))]
        ]
        for make, backend in ((cudf_of, "cuda"), (lambda own: own, "numba"))
    ]
    assert all(isinstance(batch, pa.RecordBatch) for _, batch in samplers[0][0].kept)
    pickle.dumps(samplers[0])
    schemas = [fit_sampler(join_samplers(own), fields, options) for own in samplers]
    assert schemas[0].digest == schemas[1].digest
    on_gpu = count_partition(cudf_of(table), names, schemas[0], (0, 1), "cuda")
    on_cpu = count_partition(table, names, schemas[0], (0, 1), "numba")
    assert on_gpu.profile(schemas[0]) == on_cpu.profile(schemas[0])


@pytest.mark.parametrize("held", [True, False])
def test_tasks_of_a_cluster_read_onto_the_device(plc, tmp_path, held):
    for number in range(2):
        write(tmp_path / f"{number}.parquet", everything(4_000))
    source = open_source(str(tmp_path))
    fields = tuple(one for one in source.fields if one.problem is None)
    opened, sample = Opened(source, fields), sample_blocks(source.rows, len(source.fields))
    span, parts, mark = (0, len(fields)), (0, len(source.parts)), source.fingerprint
    found = {}
    for backend in ("cuda", "numba"):
        if held:
            schema, packet = fit_and_count(opened, span, sample, FitOptions(), backend, mark)
        else:
            schema = fit_batches(fields, [sample_run(opened, parts, span, sample, mark, backend)], FitOptions())
            packet = count_parts(opened, schema, parts, backend, mark)
        found[backend] = packet.profile(schema)
    assert found["cuda"] == found["numba"]
    assert read_by(plc)


def test_types_of_cudfs_own_in_a_dask_dataframe():
    """Those of dask-cudf: what pandas has for them is what the columns are read as."""
    pd = pytest.importorskip("pandas")
    codes = SimpleNamespace(to_pandas=lambda: pd.CategoricalDtype(["a", "b"]))
    price = SimpleNamespace(to_arrow=lambda: pa.decimal128(9, 2))
    dtypes = {"x": np.dtype("f4"), "coded": codes, "price": price, "text": pd.StringDtype()}
    empty = _empty_frame(SimpleNamespace(columns=list(dtypes), dtypes=list(dtypes.values())))
    types = {one.name: one.type for one in open_source(empty).fields}
    assert types["x"] == pa.float32()
    assert pa.types.is_dictionary(types["coded"])
    assert types["price"] == pa.decimal128(9, 2)
    assert pa.types.is_string(types["text"]) or pa.types.is_large_string(types["text"])


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
