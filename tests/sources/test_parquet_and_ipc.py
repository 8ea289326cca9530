"""Parquet and Arrow IPC: the same rows come out in their order, and errors are one line."""

from __future__ import annotations

import decimal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc
from support.sources import ABSENT, TABLE, count, one_line, types, values, write

from gpudrift.sources import (
    Field,
    open_source,
    parquet,
)

# ---------------------------------------------------------------------------------------------------- Parquet


@pytest.mark.parametrize("limit", [0, 1 << 23])
def test_names_with_dots_and_prefixes_are_read_exactly(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(parquet, "GROUP_ROWS", limit)
    table = pa.table(
        {
            "a": [1, 2],
            "a.b": [3, 4],
            "s": pa.array([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
            "s.a": [5, 6],
            "s.b": ["p", "q"],
            "": [7, 8],
            "new\nline": [9, 10],
        }
    )
    source = open_source(write(tmp_path / "a.parquet", table))
    for name in table.schema.names:
        assert values(source, [name]) == {name: table[name].to_pylist()}
    batch = next(source.batches(source.parts[0], ["a"]))
    assert batch.schema.names == ["a"]
    assert values(source, ["s.a", "a"]) == {"s.a": [5, 6], "a": [1, 2]}
    assert values(open_source(ds.dataset(tmp_path / "a.parquet"))) == table.to_pydict()


def test_huge_row_groups_come_in_batches(tmp_path, monkeypatch):
    table = pa.table({"a": range(5000), "a.b": [f"v{i % 7}" for i in range(5000)]})
    path = write(tmp_path / "a.parquet", table)
    for limit in ("GROUP_ROWS", "GROUP_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(parquet, limit, 1000)
            patch.setattr(parquet, "BATCH_ROWS", 1024)
            source = open_source(path)
            assert values(source) == table.to_pydict()
            assert len(list(source.batches(source.parts[0], ["a"]))) == 5


def test_wide_files_are_read_some_columns_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "COLUMNS_AT_ONCE", 3)
    table = pa.table({f"c{i}": [i, i + 1] for i in range(10)})
    assert values(open_source(write(tmp_path / "a.parquet", table))) == table.to_pydict()


def test_text_is_read_as_dictionaries_where_the_pages_are(tmp_path):
    few = [None if i % 11 == 0 else f"v{i % 50}" for i in range(40_000)]
    many = [f"identifier {i * 7919:032d}" for i in range(40_000)]
    table = pa.table(
        {
            "few": few,
            "large": pa.array(few, pa.large_string()),
            "many": many,
            "nested": [[text] for text in few],
            "plain": few,
            "category": pa.array(few).dictionary_encode(),
            "view": pa.array(few, pa.string_view()),
        }
    )
    names = [name for name in table.schema.names if name != "plain"]
    path = write(tmp_path / "a.parquet", table, use_dictionary=names, row_group_size=30_000, data_page_size=20_000)
    source = open_source(path)
    batch = next(source.batches(source.parts[0], table.schema.names))
    dictionaries = {name for name in table.schema.names if pa.types.is_dictionary(batch.schema.field(name).type)}
    assert dictionaries >= {"few", "large", "category"}
    assert not dictionaries & {"many", "nested", "plain"}
    assert not pa.types.is_string_view(batch.schema.field("view").type)
    assert types(source)["few"] == pa.string()
    assert types(source)["large"] == pa.large_string()
    assert values(source) == table.to_pydict()


def test_a_dictionary_that_was_given_up_half_way_reads_right(tmp_path, monkeypatch):
    texts = [f"v{i % 5}" for i in range(20_000)] + [f"only once {i:040d}" for i in range(20_000)]
    path = write(tmp_path / "a.parquet", pa.table({"s": texts}), dictionary_pagesize_limit=1000, data_page_size=5000)
    source = open_source(path)
    forced = replace(source.reader, texts=(("s",),))
    batch = next(forced.read(source, source.parts[0], source.places[0]))
    assert pa.types.is_dictionary(batch.column(0).type)
    assert batch.column(0).to_pylist() == texts
    assert values(source)["s"] == texts


def test_files_may_disagree(tmp_path):
    write(tmp_path / "a.parquet", pa.table({"x": [1, 2], "y": ["p", "q"]}))
    write(tmp_path / "b.parquet", pa.table({"z": [True], "x": [0.5]}))
    source = open_source(tmp_path)
    assert source.fields == (Field("x", pa.float64()), Field("y", pa.string()), Field("z", pa.bool_()))
    assert values(source) == {"x": [1, 2, 0.5], "y": ["p", "q", ABSENT], "z": [ABSENT, ABSENT, True]}
    assert [batch.schema.field("x").type for part in source.parts for batch in source.batches(part, ["x"])] == [
        pa.int64(),
        pa.float64(),
    ]
    assert source.column_bytes("x") == 24


DUPLICATED = pa.table([[1, 2], [3, 4], ["x", "y"], [5, 6]], names=["a", "a", "b", "c"])


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows", "a.csv", None])
def test_duplicate_names_are_a_problem_of_that_name_only(tmp_path, name):
    source = open_source(write(tmp_path / name, DUPLICATED) if name else DUPLICATED)
    assert [field.name for field in source.fields] == ["a", "b", "c"]
    assert source.fields[0] == Field("a", None, "the name occurs 2 times")
    assert values(source, ["b", "c"]) == {"b": ["x", "y"], "c": [5, 6]}
    assert values(source, ["a", "c"]) == {"a": [ABSENT, ABSENT], "c": [5, 6]}
    assert count(source) == 2


def test_duplicates_elsewhere(tmp_path):
    write(tmp_path / "a.parquet", pa.table({"a": [0], "b": ["z"]}))
    write(tmp_path / "b.parquet", DUPLICATED)
    source = open_source(tmp_path)
    assert source.fields[0].problem == "the name occurs 2 times"
    assert values(source)["b"] == ["z", "x", "y"]
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", 1, "1"])
    assert [field.problem for field in open_source(frame).fields] == [None, "the name occurs 2 times"]
    reader = open_source(DUPLICATED.to_reader())
    assert values(reader) == {"b": ["x", "y"], "c": [5, 6]}
    assert values(open_source(ds.InMemoryDataset(TABLE))) == TABLE.to_pydict()


def test_every_type_keeps_its_type(tmp_path):
    table = pa.table(
        {
            "f16": pa.array(np.array([1, 2], np.float16)),
            "tz": pa.array([1, 2], pa.timestamp("ns", "Europe/Berlin")),
            "time": pa.array([1, 2], pa.time64("us")),
            "span": pa.array([1, 2], pa.duration("ms")),
            "date": pa.array([1, 2], pa.date32()),
            "u64": pa.array([1, 2**64 - 1], pa.uint64()),
            "bin": pa.array([b"a", b"b"]),
            "null": pa.nulls(2),
            "list": pa.array([[1], []]),
            "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
            "uuid": pa.array([b"0" * 16, b"1" * 16], pa.uuid()),
            "wide": pa.array([decimal.Decimal(1), None], pa.decimal256(50, 3)),
        }
    )
    for name in ("a.parquet", "a.arrow"):
        source = open_source(write(tmp_path / name, table))
        assert types(source) == dict(zip(table.schema.names, table.schema.types, strict=True))
        assert values(source) == table.to_pydict()
        assert all(source.column_bytes(field.name) > 0 for field in source.fields)
    leaves = parquet.leaves_of(table.schema)
    assert leaves["wide"].stop == pq.read_metadata(tmp_path / "a.parquet").num_columns


def test_column_bytes(tmp_path):
    table = pa.table(
        {
            "x": np.arange(10_000),
            "b": [True] * 10_000,
            "s": ["abcdefgh" * 5] * 10_000,
            "u": [f"{i:020}" for i in range(10_000)],
        }
    )
    for data in (
        write(tmp_path / "a.parquet", table, row_group_size=100),
        write(tmp_path / "a.arrow", table),
        table,
    ):
        source = open_source(data)
        assert source.column_bytes("x") == 80_000
        assert source.column_bytes("b") == 10_000
        assert source.column_bytes("s") >= 40_000
        assert 150_000 < source.column_bytes("u") < 700_000
        assert source.column_bytes("nope") == 0
    source = open_source(write(tmp_path / "a.csv", table))
    assert source.column_bytes("u") == (tmp_path / "a.csv").stat().st_size // 4


def test_many_files_need_few_descriptors(tmp_path):
    for number in range(60):
        write(tmp_path / f"{number:03}.parquet", pa.table({"x": [number]}))
    source = open_source(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert values(source)["x"] == list(range(60))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + parquet.OPEN_FILES
    del source
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_threads_may_read_the_same_part_at_once(tmp_path):
    generator = np.random.default_rng(5)
    table = pa.table({f"c{i}": generator.integers(0, 9, 20_000).astype(str if i % 2 else float) for i in range(8)})
    paths = [write(tmp_path / name, table) for name in ("a.parquet", "a.arrow", "a.csv")]
    for data in (*paths, table.to_pandas(), table):
        source = open_source(data)
        barrier = threading.Barrier(2)

        def read(name, source=source, barrier=barrier):
            barrier.wait(5)
            return [values(source, [name])[name] for _ in range(3)]

        with ThreadPoolExecutor(2) as pool:
            for first in range(0, 8, 2):
                names = [f"c{first}", f"c{first + 1}"]
                for name, got in zip(names, pool.map(read, names), strict=True):
                    expected = values(source, [name])[name]
                    assert got == [expected] * 3
                    assert [float(value) for value in expected] == [float(value) for value in table[name].to_pylist()]


# -------------------------------------------------------------------------------------------------------- IPC


def test_ipc_dictionaries_that_grow_or_change(tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string())
    parts = [["a", "b"], ["a", "b", "c"], ["z"]]
    batches = [pa.record_batch([pa.array(texts).dictionary_encode().cast(kind)], names=["d"]) for texts in parts]
    with ipc.new_stream(tmp_path / "a.arrows", batches[0].schema) as sink:
        for batch in batches:
            sink.write_batch(batch)
    assert values(open_source(tmp_path / "a.arrows")) == {"d": ["a", "b", "a", "b", "c", "z"]}
    options = ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with ipc.new_file(tmp_path / "a.arrow", batches[0].schema, options=options) as sink:
        for batch in batches[:2]:
            sink.write_batch(batch)
    assert values(open_source(tmp_path / "a.arrow")) == {"d": ["a", "b", "a", "b", "c"]}


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_ipc(tmp_path, codec):
    with ipc.new_file(tmp_path / "a.arrow", TABLE.schema, options=ipc.IpcWriteOptions(compression=codec)) as sink:
        sink.write_table(TABLE, max_chunksize=2)
    source = open_source(tmp_path / "a.arrow")
    assert source.rows == 6
    assert values(source) == TABLE.to_pydict()


def test_damaged_indices_never_reach_whoever_counts(tmp_path):
    wild = pa.DictionaryArray.from_arrays(pa.array([0, 99, 1], pa.int32()), pa.array(["a", "b"]), safe=False)
    with ipc.new_file(tmp_path / "a.arrow", pa.schema([("d", wild.type)])) as sink:
        sink.write_batch(pa.record_batch([wild], names=["d"]))
    with pytest.raises(ValueError, match="cannot read") as error:
        list(open_source(tmp_path / "a.arrow").batches(open_source(tmp_path / "a.arrow").parts[0], ["d"]))
    one_line(error, "a.arrow")


def test_ipc_files_and_streams_together(tmp_path):
    write(tmp_path / "a.arrow", TABLE)
    write(tmp_path / "b.arrows", TABLE)
    source = open_source(tmp_path)
    assert source.rows is None
    assert not source.columnar
    assert values(source)["i"] == TABLE["i"].to_pylist() * 2
