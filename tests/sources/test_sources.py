"""Whatever door the data comes through, the same rows come out in their order, and troubles are one line."""

from __future__ import annotations

import bz2
import contextlib
import datetime as dt
import decimal
import gzip
import os
import pickle
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs, ipc

from gpudrift import sources
from gpudrift.counts.sealed import write_sealed
from gpudrift.errors import SourceChangedError
from gpudrift.sources import (
    CsvTypesChanged,
    Field,
    base,
    delimited,
    finding,
    is_saved_profile,
    memory,
    open_source,
    parquet,
    trouble,
)
from gpudrift.sources import ipc as ipc_files

ABSENT = "<absent>"


def readable(source):
    return [field.name for field in source.fields if field.problem is None]


def values(source, columns=None):
    """All rows of a source, as name -> list, and the law: every part yields its rows, whatever is asked."""
    columns = readable(source) if columns is None else columns
    result = {name: [] for name in columns}
    for index, part in enumerate(source.parts):
        assert part.index == index
        rows = 0
        for batch in source.batches(part, columns):
            assert isinstance(batch, pa.RecordBatch)
            assert batch.schema.names == [name for name in columns if name in batch.schema.names]
            rows += batch.num_rows
            for name in columns:
                here = name in batch.schema.names
                result[name] += batch.column(name).to_pylist() if here else [ABSENT] * batch.num_rows
        assert part.rows in (None, rows)
    return result


def count(source):
    """Number of rows when no column is asked for."""
    batches = [batch for part in source.parts for batch in source.batches(part, [])]
    assert all(batch.num_columns == 0 for batch in batches)
    return sum(batch.num_rows for batch in batches)


def settle(source):
    """Read everything as the engine does: again from the wider source whenever a type changed."""
    for changes in range(20):
        try:
            return source, values(source), changes
        except CsvTypesChanged as error:
            changed = pickle.loads(pickle.dumps(error))
        check_line(str(changed))
        source = changed.source
    raise AssertionError("types never settle")


def types(source):
    return {field.name: field.type for field in source.fields}


def one_line(error, *words):
    check_line(str(error.value), *words)


def check_line(message, *words):
    assert "\n" not in message
    assert message.isprintable()
    for word in words:
        assert word in message, message


TABLE = pa.table(
    {
        "i": pa.array([3, 1, None, 2, 5, 4], pa.int64()),
        "f": pa.array([0.5, float("inf"), -0.0, None, 1e300, 2.0]),
        "s": ["b", "a", None, "b", "", "é"],
        "t": pa.array([dt.datetime(2020, 1, day) for day in range(1, 7)], pa.timestamp("us")),
        "d": pa.array([decimal.Decimal("1.50")] * 6, pa.decimal128(5, 2)),
        "b": [True, None, False, True, True, False],
    }
)


def write(path, table=TABLE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if name.endswith((".parquet", ".pq", ".parq")) or "." not in name:
        pq.write_table(table, path, **options)
    elif name.endswith(".arrows"):
        with ipc.new_stream(path, table.schema) as sink:
            sink.write_table(table, **options)
    elif name.endswith((".arrow", ".feather", ".ipc")):
        with ipc.new_file(path, table.schema) as sink:
            sink.write_table(table, **options)
    else:
        pc.write_csv(table, path)
    return str(path)


# -------------------------------------------------------------------------------------------- files and paths


@pytest.mark.parametrize("name", ["a.parquet", "a.PQ", "a.parq", "noextension", "a.arrow", "a.feather", "a.arrows"])
def test_a_file_comes_back_as_it_was_written(tmp_path, name):
    path = tmp_path / name
    write(tmp_path / name.lower()).replace(name.lower(), name)
    (tmp_path / name.lower()).rename(path)
    source = open_source(path)
    assert source.label == str(path)
    assert source.files == (str(path),)
    assert values(source) == TABLE.to_pydict()
    assert types(source) == dict(zip(TABLE.schema.names, TABLE.schema.types, strict=True))
    assert source.rereadable
    assert source.columnar == (not name.endswith(".arrows"))
    assert source.rows == (None if name.endswith(".arrows") else 6)
    assert count(source) == 6
    assert source.with_types({"i": pa.string()}) is source
    assert values(pickle.loads(pickle.dumps(source))) == TABLE.to_pydict()
    for part in source.parts:
        assert part.label == str(path)


@pytest.mark.parametrize("columns", [["s"], ["f", "i"], ["i", "nope"], ["nope"], [], ["s", "s"]])
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows", "a.csv"])
def test_any_columns_in_any_order_with_all_rows(tmp_path, name, columns):
    source = open_source(write(tmp_path / name, TABLE.select(["i", "f", "s"])))
    result = values(source, list(dict.fromkeys(columns)))
    assert result.keys() == set(columns)
    for column, got in result.items():
        assert got == (TABLE[column].to_pylist() if column in TABLE.schema.names else [ABSENT] * 6)
    assert sum(b.num_rows for p in source.parts for b in source.batches(p, columns)) == 6


def test_parts_are_row_groups_and_come_in_file_order(tmp_path):
    write(tmp_path / "b.parquet", TABLE, row_group_size=4)
    write(tmp_path / "a.parquet", TABLE.slice(0, 3), row_group_size=2)
    source = open_source(tmp_path)
    names = ["a.parquet", "a.parquet", "b.parquet", "b.parquet"]
    assert [part.label for part in source.parts] == [str(tmp_path / name) for name in names]
    assert [part.rows for part in source.parts] == [2, 1, 4, 2]
    assert source.rows == 9
    assert values(source)["i"] == TABLE["i"].to_pylist()[:3] + TABLE["i"].to_pylist()


def test_a_row_group_with_no_rows_and_a_file_with_no_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, TABLE.schema) as writer:
        writer.write_table(TABLE.slice(0, 0))
        writer.write_table(TABLE)
    pq.ParquetWriter(tmp_path / "b.parquet", TABLE.schema).close()
    source = open_source(tmp_path)
    assert source.rows == 6
    assert values(source) == TABLE.to_pydict()
    assert open_source(tmp_path / "b.parquet").parts == ()


def test_folders_are_read_recursively_without_hidden_names(tmp_path):
    for name in ("b/x.parquet", "a/y.parquet", "a/deep/z.parquet", ".hidden/n.parquet", "_tmp/n.parquet"):
        write(tmp_path / name, TABLE.slice(0, 1))
    for name in ("_SUCCESS", ".part.crc", "README.md", "a/_metadata"):
        (tmp_path / name).write_bytes(b"no data")
    source = open_source(tmp_path)
    assert source.files == tuple(str(tmp_path / name) for name in ("a/deep/z.parquet", "a/y.parquet", "b/x.parquet"))


def test_labels_are_what_the_user_would_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data/x.parquet")
    assert open_source("data").files == ("data/x.parquet",)
    assert open_source("./data/").files == ("./data/x.parquet",)
    assert open_source(".").files == ("./data/x.parquet",)
    assert open_source("*/x.*").files == ("data/x.parquet",)
    assert open_source("data/../data/x.parquet").files == ("data/../data/x.parquet",)
    source = open_source(["data/x.parquet"])
    monkeypatch.chdir("/")
    assert values(source) == TABLE.to_pydict(), "the working directory may change"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a1.parquet", "a2.parquet", "b[1].parquet"]),
        ("a?.parquet", ["a1.parquet", "a2.parquet"]),
        ("a[2-9].parquet", ["a2.parquet"]),
        ("a[!2].parquet", ["a1.parquet"]),
        ("b[1].parquet", ["b[1].parquet"]),
        ("**/*.parquet", ["a1.parquet", "a2.parquet", "b[1].parquet", "sub/c.parquet", "sub/deep/d.parquet"]),
        ("**/**/c.parquet", ["sub/c.parquet"]),
        ("sub/**", ["sub/c.parquet", "sub/deep/d.parquet"]),
        ("su*", ["sub/c.parquet", "sub/deep/d.parquet"]),
        ("*/c.parquet", ["sub/c.parquet"]),
        ("*/deep/../deep/*", None),
        ("s*/d*/d*", ["sub/deep/d.parquet"]),
        ("_*/*", ["_h/h.parquet"]),
        ("?", None),
    ],
)
def test_globs(tmp_path, pattern, expected):
    for name in ("a1", "a2", "b[1]", "sub/c", "sub/deep/d", "_h/h", ".g/g"):
        write(tmp_path / f"{name}.parquet", TABLE.slice(0, 1))
    if expected is None:
        with pytest.raises(FileNotFoundError) as error:
            open_source(f"{tmp_path}/{pattern}")
        one_line(error, repr(f"{tmp_path}/{pattern}"))
    else:
        assert open_source(f"{tmp_path}/{pattern}").files == tuple(f"{tmp_path}/{name}" for name in expected)


def test_lists_of_files_folders_and_globs_are_sorted_by_path(tmp_path):
    for name in ("c", "b/x", "a1", "a2"):
        write(tmp_path / f"{name}.parquet", TABLE.slice(0, 1))
    source = open_source([tmp_path / "c.parquet", str(tmp_path / "b"), f"{tmp_path}/a*"])
    assert [os.path.relpath(file, tmp_path) for file in source.files] == [
        "a1.parquet", "a2.parquet", "b/x.parquet", "c.parquet",
    ]  # fmt: skip
    assert source.label == f"{tmp_path}/c.parquet and 2 more"
    assert open_source((tmp_path / "c.parquet",)).label == f"{tmp_path}/c.parquet"


def test_uris_and_odd_names(tmp_path):
    write(tmp_path / "with space é.parquet", TABLE)
    write(tmp_path / "plain.parquet", TABLE)
    assert open_source(f"file://{tmp_path}/plain.parquet").files == (f"file://{tmp_path}/plain.parquet",)
    assert values(open_source(f"file://{tmp_path}/with%20space%20%C3%A9.parquet")) == TABLE.to_pydict()
    assert values(open_source(f"{tmp_path}/with space é.parquet")) == TABLE.to_pydict()
    source = open_source(f"file://{tmp_path}/*%20*.parquet")
    assert source.files == (f"file://{tmp_path}/with space é.parquet",)
    assert open_source(f"file://{tmp_path}").rows == 12
    for uri in ("nosuch://bucket/x.parquet", "file:///a b"):
        with pytest.raises(ValueError, match="cannot read") as error:
            open_source(uri)
        one_line(error, repr(uri))


def test_a_file_given_twice_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet")
    for given_ in (
        [path, path],
        [path, str(tmp_path)],
        [path, f"{tmp_path}/./a.parquet"],
        [path, f"file://{path}"],
    ):
        with pytest.raises(ValueError, match="count twice") as error:
            open_source(given_)
        one_line(error, "a.parquet")
    (tmp_path / "link.parquet").symlink_to(path)
    with pytest.raises(ValueError, match="the same file as"):
        open_source(tmp_path)
    assert open_source(tmp_path / "link.parquet").files == (str(tmp_path / "link.parquet"),)


def test_links_to_folders_are_followed_once(tmp_path):
    write(tmp_path / "data/sub/a.parquet")
    write(tmp_path / "elsewhere/b.parquet")
    (tmp_path / "data/sub/up").symlink_to("..")
    (tmp_path / "data/other").symlink_to("../elsewhere")
    for given_ in ("data", "data/**/*.parquet"):
        files = open_source(tmp_path / given_).files
        assert [os.path.relpath(file, tmp_path) for file in files] == [
            "data/other/b.parquet",
            "data/sub/a.parquet",
        ]
    (tmp_path / "data/broken.parquet").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError) as error:
        open_source(tmp_path / "data")
    one_line(error, "broken.parquet")


def test_missing_things_are_file_not_found(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/README.md").write_text("hello")
    for given_ in ("nope", "nope.parquet", "nope/*.csv", "*.csv", "empty", "docs", "no\nline\x1b.csv"):
        with pytest.raises(FileNotFoundError) as error:
            open_source(f"{tmp_path}/{given_}")
        one_line(error, repr(f"{tmp_path}/{given_}"))
    with pytest.raises(ValueError, match="cannot read") as error:
        open_source("nul\0.csv")
    one_line(error, r"'nul\x00.csv'")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.parquet", b""),
        ("empty.csv", b""),
        ("empty.arrow", b""),
        ("notparquet.parquet", b"hello world, this is no parquet file at all"),
        ("notarrow.arrow", b"hello world, this is no arrow file at all.."),
        ("notarrow.arrows", b"hello world, this is no arrow file at all.."),
        ("blank.csv", b"\n\n\n"),
        ("utf16.csv", "a,b\n1,2\n".encode("utf-16")),
        ("latin.csv", b"a,b\n1,caf\xe9\n"),
        ("notgzip.csv.gz", b"a,b\n1,2\n"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 5000, mtime=0)[:-20]),
        ("odd.csv.parquet.gz", gzip.compress(b"a", mtime=0)),
        ("unknown.json", b"{}"),
        ("unknown", b"xx"),
        ("new\nline.json", b"{}"),
    ],
)
def test_unreadable_files_are_one_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"empty|cannot read|unknown format") as error:
        values(open_source(tmp_path / name))
    one_line(error, repr(str(tmp_path / name)), *["empty (0 bytes)"] * (not data))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
def test_no_prefix_of_a_file_reads_silently(tmp_path, name):
    table = pa.table({"x": np.arange(2000.0), "s": [f"text {i}" for i in range(2000)]})
    path = tmp_path / name
    write(path, table, **({} if name == "a.parquet" else {"max_chunksize": 1000}))
    raw = path.read_bytes()
    for stop in random.Random(1).sample(range(1, len(raw) - 8), 25):
        path.write_bytes(raw[:stop])
        if name == "a.arrows":  # a stream has no end mark that must be there: whole batches may be missing
            with contextlib.suppress(ValueError):
                assert values(open_source(path))["x"] in ([], list(range(1000)), list(range(2000)))
        else:
            with pytest.raises(ValueError, match="cannot read") as error:
                values(open_source(path))
            one_line(error, repr(str(path)))


def test_damage_inside_a_row_group_names_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    raw = bytearray((tmp_path / write(path, pa.table({"s": [f"text {i}" for i in range(5000)]}))).read_bytes())
    raw[100:4000] = b"\xff" * 3900
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="cannot read") as error:
        values(open_source(path))
    one_line(error, repr(str(path)))


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    path = write(tmp_path / "a.parquet", pa.table({"x": np.random.default_rng(0).random(100_000)}))
    source = open_source(path)
    os.truncate(path, 1000)
    with pytest.raises(SourceChangedError, match="changed while it was read") as error:
        values(source)
    one_line(error, repr(path))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(SourceChangedError, match="is gone"):
        values(pickle.loads(pickle.dumps(source)))


def test_rows_must_be_as_many_as_the_footer_says(tmp_path, monkeypatch):
    source = open_source(write(tmp_path / "a.parquet"))
    read = parquet.ParquetReader.read
    monkeypatch.setattr(parquet.ParquetReader, "read", lambda *args: (batch.slice(1) for batch in read(*args)))
    with pytest.raises(ValueError, match="5 rows where 6 should be") as error:
        values(source)
    one_line(error, "a.parquet")


def test_permission_and_system_errors_keep_their_type(tmp_path):
    with pytest.raises(PermissionError) as error, trouble.named("x\n"):
        raise PermissionError(13, "Failed to open local file")
    one_line(error, r"'x\n'")
    with pytest.raises(IsADirectoryError) as error, trouble.named("x"):
        raise IsADirectoryError(21, "Is a directory\nsecond line")
    one_line(error, "'x'")
    with pytest.raises(MemoryError), trouble.named("x"):
        raise pa.lib.ArrowMemoryError("malloc failed")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    path = write(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").chmod(0)
    with pytest.raises(PermissionError) as error:
        open_source(path)
    one_line(error, repr(path))


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for given_ in (tmp_path / "pipe.csv", tmp_path):
        with pytest.raises(ValueError, match="neither a file nor a folder") as error:
            open_source(given_)
        one_line(error, "pipe.csv")


def test_two_formats_are_refused(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.csv", TABLE.select(["i"]))
    with pytest.raises(ValueError, match="one format") as error:
        open_source(tmp_path)
    one_line(error, "a.parquet", "b.csv", "Parquet", "CSV")
    assert open_source(f"{tmp_path}/*.parquet").rows == 6
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ValueError, match="unknown format") as error:
        open_source(f"{tmp_path}/c*")
    one_line(error, "c.json", "Parquet", "CSV", "Arrow IPC")


def test_a_saved_profile_is_no_data(tmp_path):
    write(tmp_path / "a.parquet")
    profile = str(tmp_path / "base.parquet")
    write_sealed(profile, TABLE, {})
    assert is_saved_profile(profile)
    assert is_saved_profile(f"file://{profile}")
    for given_ in (tmp_path, f"{tmp_path}/*.parquet", [f"{tmp_path}/a.parquet", profile]):
        with pytest.raises(ValueError, match="saved profile, not data; leave it out") as error:
            open_source(given_)
        one_line(error, repr(profile))
    with pytest.raises(ValueError, match="saved profile, not data; compare it") as error:
        open_source(profile)
    one_line(error, repr(profile))
    raw = (tmp_path / "base.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(raw[:-20])
    for no in ("a.parquet", "nope.parquet", "*.parquet", "cut.parquet", "", "."):
        assert not is_saved_profile(f"{tmp_path}/{no}")
    assert not is_saved_profile("nul\0")
    assert not is_saved_profile("nosuch://x")


# ------------------------------------------------------------------------------------------------- partitions


def test_key_value_folders_become_columns(tmp_path):
    rows = {
        "year=2020/city=K%C3%B6ln": 1,
        "year=2021/city=a=b": 2,
        "year=__HIVE_DEFAULT_PARTITION__/city=": 1,
        ".": 1,
    }
    for number, (folder, size) in enumerate(rows.items()):
        write(tmp_path / folder / f"{number}.parquet", TABLE.select(["i"]).slice(0, size))
    source = open_source(tmp_path)
    assert source.fields[1:] == (Field("year", pa.int64()), Field("city", pa.string()))
    got = values(source)
    assert got["year"] == [ABSENT, 2020, 2021, 2021, None]
    assert got["city"] == [ABSENT, "Köln", "a=b", "a=b", ""]
    assert values(source, ["city"])["city"] == got["city"]
    assert open_source(f"{tmp_path}/year=*/*/*.parquet").fields == source.fields
    assert readable(open_source(f"{tmp_path}/year=2020/**")) == ["i", "city"], "keys above the wildcard are fixed"
    assert readable(open_source(f"{tmp_path}/year=2020/city=K%C3%B6ln/0.parquet")) == ["i"]
    assert source.column_bytes("year") == 5 * 8
    assert source.column_bytes("city") == 5 * 4


def test_partition_values_that_are_not_all_integers_are_text(tmp_path):
    for key in ("k=1", "k=x", "k=02"):
        write(tmp_path / key / "a.csv", pa.table({"i": [7]}))
        write(tmp_path / "ipc" / key / "a.arrow", pa.table({"i": [7]}))
    for source in (open_source(f"{tmp_path}/k*/*"), open_source(tmp_path / "ipc")):
        assert types(source) == {"i": pa.int64(), "k": pa.string()}
        assert values(source) == {"i": [7, 7, 7], "k": ["02", "1", "x"]}
        assert count(source) == 3
        assert values(source, ["k"])["k"] == ["02", "1", "x"]


def test_a_folder_key_that_is_always_missing(tmp_path):
    write(tmp_path / "k=__HIVE_DEFAULT_PARTITION__" / "a.parquet", pa.table({"i": [7]}))
    source = open_source(tmp_path)
    assert types(source)["k"] == pa.string()
    assert values(source)["k"] == [None]


def test_a_column_in_the_files_wins_over_a_folder(tmp_path):
    write(tmp_path / "i=5/a.parquet", TABLE.select(["i"]))
    source = open_source(tmp_path)
    assert [field.name for field in source.fields] == ["i"]
    assert values(source)["i"] == TABLE["i"].to_pylist()


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
    assert source.fields == (Field("x", pa.int64()), Field("y", pa.string()), Field("z", pa.bool_()))
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


# -------------------------------------------------------------------------------------------------------- CSV


def csv_file(tmp_path, text, name="a.csv"):
    data = text.encode() if isinstance(text, str) else text
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def test_csv_types_and_nulls(tmp_path):
    text = (
        "i,f,s,b,d,t,z,n,m\n"
        "1,1.5,x,true,2020-01-01,2020-01-01 10:00:00,2020-01-01T10:00:00Z,,NaN\n"
        'NA,NaN,"",false,,,,NULL,1\n'
        ",nan,,NULL,2020-01-02,2020-01-01 10:00:00.25,,,2\n"
    )
    source = open_source(csv_file(tmp_path, text))
    assert types(source) == {
        "i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "d": pa.date32(),
        "t": pa.timestamp("us"), "z": pa.timestamp("us", "UTC"), "n": pa.null(), "m": pa.int64(),
    }  # fmt: skip
    got = values(source)
    assert got["i"] == [1, None, None]
    assert got["f"] == [1.5, None, None], "pandas writes missing as NaN"
    assert got["s"] == ["x", "", None], "a quoted empty field is a text"
    assert got["b"] == [True, False, None]
    assert got["n"] == [None] * 3
    assert not source.columnar
    assert source.rows is None
    assert got["t"][2] == dt.datetime(2020, 1, 1, 10, 0, 0, 250_000)
    plain = open_source(csv_file(tmp_path, "t\n2020-01-01 10:00:00\n9999-12-31 00:00:00\n"))
    assert types(plain) == {"t": pa.timestamp("us")}, "so files with and without fractions agree"
    assert values(plain)["t"][1].year == 9999


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.csv", lambda raw: raw),
        ("a.txt", lambda raw: raw),
        ("a.CSV.GZ", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.zst", lambda raw: pa.Codec("zstd").compress(raw, asbytes=True)),
        ("bom.csv", lambda raw: b"\xef\xbb\xbf" + raw),
        ("crlf.csv", lambda raw: raw.replace(b"\n", b"\r\n")),
        ("noeol.csv", lambda raw: raw[:-1]),
        ("blank.csv", lambda raw: b"\n\r\n\n" + raw.replace(b"3,", b"\n3,")),
        ("a.tsv", lambda raw: raw.replace(b",", b"\t")),
        ("a.tsv.gz", lambda raw: gzip.compress(raw.replace(b",", b"\t"))),
        ("semicolon.csv", lambda raw: raw.replace(b",", b";")),
        ("tab.csv", lambda raw: raw.replace(b",", b"\t")),
        ("two.csv.gz", lambda raw: gzip.compress(raw[:10]) + gzip.compress(raw[10:])),
    ],
)
def test_csv_dialects(tmp_path, name, encode):
    raw = b'x,"long name",s\n1,2.5,"q ""quoted""\nline"\n3,4.5,b\n'
    source = open_source(csv_file(tmp_path, encode(raw), name))
    expected = {"x": [1, 3], "long name": [2.5, 4.5], "s": ['q "quoted"\nline', "b"]}
    got = values(source)
    assert {key: [str(v).replace("\r", "") for v in column] for key, column in got.items()} == {
        key: [str(v) for v in column] for key, column in expected.items()
    }
    assert count(source) == 2


def test_csv_headers(tmp_path):
    for text in ("a,b\n", "a,b", "a,b\r\n\r\n", "\ufeffa,b\n"):
        source = open_source(csv_file(tmp_path, text))
        assert source.fields == (Field("a", pa.null()), Field("b", pa.null()))
        assert values(source) == {"a": [], "b": []}
        assert count(source) == 0
    source = open_source(csv_file(tmp_path, '"a;b",c;d,"x\ny",\n1,2,3,4\n'))
    assert values(source) == {"a;b": [1], "c;d": [2], "x\ny": [3], "": [4]}
    assert values(open_source(csv_file(tmp_path, "only\n1\n2\n"))) == {"only": [1, 2]}
    for text in ("only\n1\n\n2\n", "\n\nonly\n1\n\n2", "only\r\n1\r\n\r\n2\r\n"):
        assert values(open_source(csv_file(tmp_path, text))) == {"only": [1, None, 2]}
    assert values(open_source(csv_file(tmp_path, "only\n\n\n"))) == {"only": [None, None]}
    assert count(open_source(csv_file(tmp_path, "only\n\n\n"))) == 2


@pytest.mark.parametrize(
    ("good", "bad", "first", "last"),
    [
        ("1", "2.5", pa.int64(), pa.float64()),
        ("1", "x", pa.int64(), pa.string()),
        ("1", "99999999999999999999", pa.int64(), pa.float64()),
        ("2.5", "x,y", pa.float64(), pa.string()),
        ("true", "maybe", pa.bool_(), pa.string()),
        ("2020-01-01", "2020-01-01 10:00:00", pa.date32(), pa.timestamp("us")),
        ("2020-01-01", "soon", pa.date32(), pa.string()),
        ("2020-01-01 10:00:00", "2020-01-01 10:00:00.123456789", pa.timestamp("us"), pa.timestamp("ns")),
        ("2020-01-01 10:00:00.5", "2020-01-01 10:00:00.123456789", pa.timestamp("us"), pa.timestamp("ns")),
        ("2020-01-01 10:00:00", "2020-01-01 10:00:00Z", pa.timestamp("us"), pa.string()),
        ("2020-01-01 10:00:00Z", "2020-01-01 10:00:00", pa.timestamp("us", "UTC"), pa.string()),
        ("12:00:00", "noon", pa.time32("s"), pa.string()),
        ("", "5", pa.null(), pa.int64()),
        ("", "2020-01-01", pa.null(), pa.date32()),
        ("", 'it\'s "odd"\nreally', pa.null(), pa.string()),
    ],
)
def test_csv_types_widen_when_a_later_block_needs_it(tmp_path, monkeypatch, good, bad, first, last):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 256)
    quoted = '"' + bad.replace('"', '""') + '"'
    text = "k,v,w\n" + "".join(f"{i},{good},a\n" for i in range(100)) + f"100,{quoted},b\n" + f"101,{good},c\n" * 2
    source = open_source(csv_file(tmp_path, text))
    assert types(source)["v"] == first
    final, got, changes = settle(source)
    assert changes == 1
    assert types(final) == {"k": pa.int64(), "v": last, "w": pa.string()}
    assert got["k"] == [*range(101), 101, 101]
    assert len(got["v"]) == 103
    assert got["v"][100] == (bad if last == pa.string() else got["v"][100])
    assert got["v"][100] is not None
    assert values(source, ["k"])["k"] == got["k"], "other columns do not need the change"
    assert types(source)["v"] == first, "a source never changes"


def test_csv_times_with_many_digits_and_many_years_are_text(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    texts = ["2020-01-01 10:00:00.1234567", "2020-01-01 10:00:00.1234567", "9999-12-31 00:00:00"]
    final, got, changes = settle(open_source(csv_file(tmp_path, "\n".join(["t", *texts, ""]))))
    assert (changes, types(final)["t"], got["t"]) == (2, pa.string(), texts)
    settled = pd.Series(texts[:2]).astype("datetime64[ns]")
    final, got, _ = settle(open_source(csv_file(tmp_path, "\n".join(["t", *texts[:2], ""]))))
    assert got["t"] == settled.to_list()


def test_csv_types_widen_step_by_step_and_over_files(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    csv_file(tmp_path, "v\n" + "1\n" * 50 + "2.5\n" * 50 + "x\n")
    csv_file(tmp_path, "v,new\n" + "7,2020-01-01\n" * 20, "b.csv")
    final, got, changes = settle(open_source(tmp_path))
    assert changes == 2
    assert types(final) == {"v": pa.string(), "new": pa.date32()}
    assert got["v"] == ["1"] * 50 + ["2.5"] * 50 + ["x"] + ["7"] * 20
    assert got["new"] == [ABSENT] * 101 + [dt.date(2020, 1, 1)] * 20


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-5, 5).map(str), st.floats(-9, 9).map(repr), st.just("")),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=5),
            st.sampled_from(["true", "2020-01-01", "2020-01-01 00:00:00", "1", "-"]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_csv_always_settles_and_keeps_every_row(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 128)
    lines = ["a,b,c"] + [f'{a},"{b.replace(chr(34), chr(34) * 2)}",{c}' for a, b, c in rows]
    _, got, _ = settle(open_source(csv_file(tmp_path, "\n".join(lines) + "\n")))
    assert len(got["a"]) == len(got["b"]) == len(got["c"]) == len(rows)
    assert [value is None for value in got["a"]] == [a == "" for a, _, _ in rows]
    if isinstance(next((text for text in got["b"] if text is not None), None), str):
        assert got["b"] == [
            text if value is not None else None for (_, text, _), value in zip(rows, got["b"], strict=True)
        ]


def test_csv_with_types_of_a_baseline(tmp_path):
    path = csv_file(tmp_path, "i,f,s,t,e,c,h,w\n1,2,3,2020-01-01,,4,1,1\n5,6,7,2020-01-02,,8,2,2\n")
    wanted = {
        "i": pa.int32(), "f": pa.float64(), "s": pa.large_string(), "t": pa.timestamp("us"), "e": pa.null(),
        "c": pa.dictionary(pa.int32(), pa.string()), "h": pa.float16(), "w": pa.list_(pa.int64()),
        "nope": pa.int64(),
    }  # fmt: skip
    source = open_source(path).with_types(wanted)
    assert types(source) == {
        "i": pa.int32(), "f": pa.float64(), "s": pa.string(), "t": pa.timestamp("us"), "e": pa.null(),
        "c": pa.string(), "h": pa.float64(), "w": pa.int64(),
    }  # fmt: skip
    got = values(source)
    assert got["f"] == [2.0, 6.0]
    assert got["s"] == ["3", "7"]
    assert got["c"] == ["4", "8"]


@pytest.mark.parametrize(
    ("wanted", "text", "last"),
    [
        (pa.int8(), "300", pa.int64()),
        (pa.int32(), "2.5", pa.float64()),
        (pa.uint8(), "-1", pa.int64()),
        (pa.decimal128(5, 2), "1.005", pa.float64()),
        (pa.decimal128(5, 2), "x", pa.string()),
        (pa.timestamp("us"), "5", pa.string()),
        (pa.date32(), "2020-01-01 10:00:00", pa.timestamp("us")),
        (pa.float32(), "x", pa.string()),
        (pa.bool_(), "7", pa.string()),
        (pa.duration("s"), "1 days", pa.string()),
        (pa.time64("us"), "noon", pa.string()),
    ],
)
def test_csv_wanted_types_that_do_not_fit_are_widened(tmp_path, wanted, text, last):
    source = open_source(csv_file(tmp_path, f"k,v\n1,{text}\n")).with_types({"v": wanted})
    assert types(source)["v"] == wanted
    final, got, _ = settle(source)
    assert types(final)["v"] == last
    assert got["k"] == [1]


def test_csv_that_quotes_everything(tmp_path, monkeypatch):
    source = open_source(csv_file(tmp_path, '"i","s"\n"1","x"\n"",""\n'))
    assert types(source) == {"i": pa.int64(), "s": pa.string()}
    assert values(source) == {"i": [1, None], "s": ["x", None]}
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    text = '"i","s"\n' + '"1","x"\n' * 50 + '"","y"\n'
    final, got, changes = settle(open_source(csv_file(tmp_path, text)))
    assert (changes, types(final)["i"]) == (1, pa.int64())
    assert got["i"] == [1] * 50 + [None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", ["Expected 2 columns, got 1"]),
        ("a,b\n1,2\n3,4,5\n", ["Expected 2 columns, got 3"]),
        (b"a,b\n1,x\n2,\xff\n", ["'b'", "UTF-8"]),
        (b"a\xff,b\n1,x\n", ["header", "UTF-8"]),
    ],
)
def test_csv_troubles_name_the_file(tmp_path, text, words):
    path = csv_file(tmp_path, text)
    with pytest.raises(ValueError, match="cannot read") as error:
        values(open_source(path))
    one_line(error, repr(str(path)), *words)


def test_csv_invalid_utf8_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    source = open_source(csv_file(tmp_path, b"a,b\n" + b"1,x\n" * 100 + b"2,\xff\n"))
    with pytest.raises(ValueError, match="UTF8") as error:
        values(source)
    one_line(error, "a.csv")
    assert values(source, ["a"])["a"][-1] == 2, "only that column is affected"
    assert count(source) == 101


def test_csv_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 1 << 16)
    path = csv_file(tmp_path, "a,b\n" + "12345678,some text\n" * 400_000)
    source = open_source(path)
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() - before for part in source.parts for _ in source.batches(part, ["a", "b"]))
    assert peak < 4 << 20


# ---------------------------------------------------------------------------------------------- Arrow, memory


def test_arrow_objects():
    for data in (TABLE, TABLE.combine_chunks().to_batches()[0]):
        source = open_source(data)
        assert values(source) == TABLE.to_pydict()
        assert source.label == f"Arrow {type(data).__name__}"
        assert source.parts[0].label == f"the Arrow {type(data).__name__}"
        assert (source.rows, source.columnar, source.rereadable, source.files) == (6, True, True, ())
        assert values(pickle.loads(pickle.dumps(source))) == TABLE.to_pydict()
    chunked = pa.concat_tables([TABLE, TABLE.slice(2, 3)])
    assert values(open_source(chunked)) == chunked.to_pydict()
    batch = next(open_source(TABLE).batches(open_source(TABLE).parts[0], ["f"]))
    assert batch.column("f").buffers()[1].address == TABLE["f"].chunk(0).buffers()[1].address


def test_long_tables_are_cut_into_parts(monkeypatch):
    monkeypatch.setattr(memory, "PART_ROWS", 4)
    frame = pd.DataFrame({"x": np.arange(10.0), "s": list("abcdefghij"), "c": pd.Categorical(list("aabbccddee"))})
    for data in (pa.table(frame), frame, pl.DataFrame(frame), dict(frame), frame.to_dict("list")):
        source = open_source(data)
        assert [part.rows for part in source.parts] == [4, 4, 2]
        assert values(source) == frame.to_dict("list")


def test_tables_without_rows_or_columns():
    for data in (
        TABLE.slice(0, 0),
        pd.DataFrame({"a": []}),
        {"a": []},
        pl.DataFrame({"a": []}),
        {},
        pa.table({}),
    ):
        source = open_source(data)
        assert source.rows == 0
        assert all(column == [] for column in values(source).values())
        assert count(source) == 0
    frame = pd.DataFrame(index=range(5))
    assert open_source(frame).rows == 5
    assert count(open_source(frame)) == 5
    assert count(open_source(TABLE.select([]))) == 6


def test_empty_chunks_are_left_out():
    texts = pa.array(["x", "y"], pa.string_view())
    column = pa.chunked_array([texts.slice(2), texts, texts.slice(1, 0)])
    assert memory._arrow_rows(column, 0, 2).num_chunks == 1
    assert values(open_source({"s": column, "i": [1, 2]})) == {"s": ["x", "y"], "i": [1, 2]}
    for empty in (column.slice(2), texts.slice(1, 0), pa.chunked_array([], pa.string())):
        assert values(open_source({"s": empty})) == {"s": []}


def test_batches_without_columns_cost_nothing():
    batch = base.empty_rows(10**15)
    assert batch.num_rows == 10**15
    assert batch.num_columns == 0


def test_datasets(tmp_path):
    for number in range(3):
        write(tmp_path / f"k={number}" / "a.parquet", TABLE)
    dataset = ds.dataset(tmp_path, partitioning="hive")
    source = open_source(dataset)
    assert source.rows == 18
    assert len(source.files) == 3
    assert (source.columnar, source.rereadable) == (True, True)
    assert values(source)["k"] == [0] * 6 + [1] * 6 + [2] * 6
    assert values(source, ["s", "i"])["i"] == TABLE["i"].to_pylist() * 3
    assert count(source) == 18
    assert source.column_bytes("f") == 18 * 8
    assert open_source(dataset.filter(ds.field("i") > 3)).rows == 6
    assert values(open_source(dataset.filter(ds.field("i") > 3)), ["i"])["i"] == [5, 4] * 3
    os.truncate(tmp_path / "k=1" / "a.parquet", 100)
    with pytest.raises(ValueError, match="cannot read") as error:
        values(source)
    one_line(error, "the Arrow FileSystemDataset")


def test_a_reader_is_read_once():
    source = open_source(TABLE.to_reader(max_chunksize=4))
    assert (source.rows, source.columnar, source.rereadable) == (None, False, False)
    assert values(source, ["s", "i"]) == TABLE.select(["s", "i"]).to_pydict()
    with pytest.raises(ValueError, match="only once") as error:
        values(source)
    one_line(error)
    assert count(open_source(TABLE.to_reader())) == 6


def test_anything_that_exports_an_arrow_stream():
    class Capsule:
        def __arrow_c_stream__(self, requested_schema=None):
            return TABLE.__arrow_c_stream__(requested_schema)

    class OneBatch:
        def __arrow_c_array__(self, requested_schema=None):
            return TABLE.combine_chunks().to_batches()[0].__arrow_c_array__(requested_schema)

    for data in (Capsule(), OneBatch()):
        assert values(open_source(data)) == TABLE.to_pydict()
    assert open_source(Capsule()).label == "test_sources Capsule"


def test_polars():
    frame = pl.DataFrame(
        {
            "i": [1, None, 3],
            "f": [1.0, float("nan"), None],
            "s": ["a", None, "c"],
            "c": pl.Series(["x", "y", None], dtype=pl.Categorical),
            "t": [dt.datetime(2020, 1, 1), None, None],
            "o": pl.Series([object(), None, object()], dtype=pl.Object),
        }
    )
    source = open_source(frame)
    assert source.label == "Polars DataFrame"
    problems = {field.name: field.problem for field in source.fields if field.problem}
    assert problems == {"o": "Polars keeps Python objects here"}
    got = values(source)
    assert np.isnan(got["f"][1])
    assert got["f"][2] is None, "NaN and null are not the same"
    assert (got["i"], got["s"], got["c"]) == ([1, None, 3], ["a", None, "c"], ["x", "y", None])
    for field in source.fields:
        assert field.type is None or "view" not in str(field.type)
    for batch in source.batches(source.parts[0], readable(source)):
        assert "view" not in str(batch.schema)
    assert values(open_source({"s": frame["s"]}))["s"] == ["a", None, "c"]
    with pytest.raises(TypeError, match=r"\.collect\(\)"):
        open_source(frame.lazy())


# ----------------------------------------------------------------------------------------------------- pandas


def batch_of(data, name):
    source = open_source(data)
    (part,) = source.parts
    (batch,) = source.batches(part, [name])
    return batch


def test_numpy_backed_pandas_columns_share_their_memory_and_mark_nan():
    frame = pd.DataFrame({name: np.arange(5.0) for name in "abc"} | {"i": range(5)})
    frame.loc[1, "b"] = np.nan
    batch = batch_of(frame, "b")
    assert batch.schema.field("b").metadata == {b"gpudrift.nan": b"null"}
    assert batch.column(0).null_count == 0, "no bitmap is built"
    assert np.isnan(batch.column(0).to_pylist()[1])
    assert batch.column(0).buffers()[1].address == frame["b"].to_numpy().ctypes.data
    assert batch_of(frame, "i").schema.field("i").metadata is None
    assert batch_of({"b": frame["b"]}, "b").schema.field("b").metadata == {b"gpudrift.nan": b"null"}
    assert batch_of({"b": frame["b"].to_numpy()}, "b").schema.field("b").metadata is None
    before = pa.total_allocated_bytes()
    source = open_source(pd.DataFrame(np.zeros((1000, 200), order="C")))
    assert pa.total_allocated_bytes() == before, "nothing is converted before it is read"
    assert values(source, ["7"])["7"] == [0.0] * 1000


@pytest.mark.parametrize(
    ("series", "kind", "expected"),
    [
        (pd.Series([1, None], dtype="Int64"), pa.int64(), [1, None]),
        (pd.Series([1.5, None], dtype="Float64"), pa.float64(), [1.5, None]),
        (pd.Series([True, None], dtype="boolean"), pa.bool_(), [True, None]),
        (pd.Series([True, False]), pa.bool_(), [True, False]),
        (pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float32())), pa.float32(), [1.5, None]),
        (pd.Series(["a", None], dtype="string[python]"), pa.string(), ["a", None]),
        (pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string_view())), pa.large_string(), ["a", None]),
        (pd.Series(["a", 5, None], dtype=object).iloc[[0, 2]], pa.string(), ["a", None]),
        (pd.Series([1, None, np.nan], dtype=object), pa.int64(), [1, None, None]),
        (pd.Series([None, None], dtype=object), pa.null(), [None, None]),
        (pd.Series([decimal.Decimal("1.5"), None]), pa.decimal128(2, 1), [decimal.Decimal("1.5"), None]),
        (pd.Series([dt.date(2020, 1, 1), None]), pa.date32(), [dt.date(2020, 1, 1), None]),
        (pd.Series([b"x", None]), pa.binary(), [b"x", None]),
        (pd.Series([1, 2], dtype="float16"), pa.float16(), [1.0, 2.0]),
        (pd.Series(pd.arrays.SparseArray([0, 1, 0])), pa.int64(), [0, 1, 0]),
        (pd.Series(pd.arrays.SparseArray([True, False])), pa.bool_(), [True, False]),
        (
            pd.Series(pd.to_datetime(["2020-01-01", None])),
            pa.timestamp("us"),
            [dt.datetime(2020, 1, 1), None],
        ),
        (pd.Series(pd.to_timedelta(["1s", None])), pa.duration("us"), [dt.timedelta(seconds=1), None]),
    ],
)
def test_pandas_types(series, kind, expected):
    frame = pd.DataFrame({"x": series.reset_index(drop=True), 5: 1})
    source = open_source(frame)
    assert source.label == "pandas DataFrame"
    assert source.parts[0].label == "the pandas DataFrame"
    assert source.fields == (Field("x", kind), Field("5", pa.int64()))
    assert values(source)["x"] == expected
    assert batch_of(frame, "x").schema.field("x").type == kind
    assert source.column_bytes("x") > 0
    assert values(pickle.loads(pickle.dumps(source)))["x"] == expected


def test_pandas_sparse_floats_are_marked_too():
    frame = pd.DataFrame({"x": pd.arrays.SparseArray([0.0, 1.0, np.nan])})
    batch = batch_of(frame, "x")
    assert batch.schema.field("x").metadata == {b"gpudrift.nan": b"null"}
    assert batch.column(0).to_pylist()[:2] == [0.0, 1.0]
    assert open_source(frame).column_bytes("x") == 24


def test_pandas_keeps_nan_and_null_apart_where_it_can():
    series = pd.Series(pa.array([float("nan"), None, 1.0]), dtype=pd.ArrowDtype(pa.float64()))
    batch = batch_of(pd.DataFrame({"x": series}), "x")
    assert batch.schema.field("x").metadata is None
    assert batch.column(0).null_count == 1
    assert np.isnan(batch.column(0).to_pylist()[0])


def test_pandas_text_zones_and_categories():
    frame = pd.DataFrame(
        {
            "s": ["a", None],
            "c": pd.Categorical(["x", None]),
            "z": pd.to_datetime(["2020-01-01 12:00", None]).tz_localize("Europe/Berlin"),
        }
    )
    source = open_source(frame)
    assert pa.types.is_large_string(types(source)["s"])
    assert pa.types.is_dictionary(types(source)["c"])
    assert types(source)["z"] == pa.timestamp("us", "Europe/Berlin")
    got = values(source)
    assert (got["s"], got["c"]) == (["a", None], ["x", None])
    assert got["z"][0].utctimetuple()[3] == 11


def test_pandas_columns_that_cannot_be_converted_are_problems_not_failures():
    frame = pd.DataFrame({"bad": ["a", 5], "worse": [1j, 2j], "ugly": pd.Categorical(["a", 1]), "good": [1, 2]})
    frame["dates"] = pd.Series([dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 10)], dtype=object)
    frame["objects"] = [object(), object()]
    frame["surrogate"] = pd.Series(["\udcff", "x"], dtype=object)
    frame["big"] = pd.Series([2**70, 1], dtype=object)
    source = open_source(frame)
    problems = {field.name: field.problem for field in source.fields if field.problem}
    assert problems.keys() == {"bad", "worse", "ugly", "dates", "objects", "surrogate", "big"}
    for problem in problems.values():
        assert "\n" not in problem
    assert all(field.type is None for field in source.fields if field.problem)
    assert values(source) == {"good": [1, 2]}
    assert values(source, ["bad"]) == {"bad": [ABSENT, ABSENT]}


def test_pandas_views_strides_and_odd_labels():
    frame = pd.DataFrame(np.arange(30.0).reshape(10, 3), columns=[("a", 1), None, 2.5])
    source = open_source(frame[::3])
    assert [field.name for field in source.fields] == [str(label) for label in frame.columns]
    assert values(source)["('a', 1)"] == [0.0, 9.0, 18.0, 27.0]
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]), index=["row"])
    assert values(open_source(levels)) == {"('a', 'x')": [1], "('a', 'y')": [2]}


# ----------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("array", "kind", "expected"),
    [
        (np.array([1, 2], np.int8), pa.int8(), [1, 2]),
        (np.array([1, 2], np.uint64), pa.uint64(), [1, 2]),
        (np.array([True, False]), pa.bool_(), [True, False]),
        (np.array([1, 2.5], np.float16), pa.float16(), [1.0, 2.5]),
        (np.array([1, 2.5], np.float32), pa.float32(), [1.0, 2.5]),
        (np.array([1, 2.5], ">f8"), pa.float64(), [1.0, 2.5]),
        (np.array([1, 2], ">i2"), pa.int16(), [1, 2]),
        (np.arange(10.0)[::-4], pa.float64(), [9.0, 5.0, 1.0]),
        (np.array(["ab", "é"]), pa.string(), ["ab", "é"]),
        (np.array(["ab", "é"]).astype(">U2"), pa.string(), ["ab", "é"]),
        (np.array([b"ab", "é".encode()]), pa.string(), ["ab", "é"]),
        (np.array(["ab", "é"], np.dtypes.StringDType()), pa.string(), ["ab", "é"]),
        (np.array(["ab", None], np.dtypes.StringDType(na_object=None)), pa.string(), ["ab", None]),
        (np.array([1, None, np.nan], object), pa.int64(), [1, None, None]),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.array(["2020-01", "NaT"], "M8[M]"), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.array(["2020", "NaT"], "M8[Y]"), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.array(["2020-01-02", "NaT"], "M8[W]"), pa.date32(), [dt.date(2020, 1, 2), None]),
        (np.array(["2020-01-01T05", "NaT"], "M8[h]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1, 5), None]),
        (np.array(["2020-01-01T05:06"], ">M8[m]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1, 5, 6)]),
        (np.array(["2020-01-01", "NaT"], "M8[s]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1), None]),
        (np.array(["2020-01-01", "NaT"], ">M8[ms]"), pa.timestamp("ms"), [dt.datetime(2020, 1, 1), None]),
        (np.array(["2020-01-01", "NaT"], "M8[10s]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1), None]),
        (np.array([2, "NaT"], "m8[D]"), pa.duration("s"), [dt.timedelta(2), None]),
        (np.array([2, "NaT"], "m8[W]"), pa.duration("s"), [dt.timedelta(14), None]),
        (np.array([2, "NaT"], "m8[h]"), pa.duration("s"), [dt.timedelta(hours=2), None]),
        (np.array([2, "NaT"], "m8[us]"), pa.duration("us"), [dt.timedelta(microseconds=2), None]),
        (np.ma.array([1.5, 2.5], mask=[True, False]), pa.float64(), [None, 2.5]),
        (np.ma.array([1, 2], dtype=">i4", mask=[True, False]), pa.int32(), [None, 2]),
        (np.ma.array(["a", "b"], mask=[True, False]), pa.string(), [None, "b"]),
        (np.ma.array(["a", 5], dtype=object, mask=[False, True]), pa.string(), ["a", None]),
        (np.ma.array(["2020", "2021"], dtype="M8[Y]", mask=[0, 1]), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.ma.array([1, 2]), pa.int64(), [1, 2]),
        ([1, None, 3], pa.int64(), [1, None, 3]),
        (("a", None), pa.string(), ["a", None]),
        ([b"a", b"\xff"], pa.binary(), [b"a", b"\xff"]),
        (range(3), pa.int64(), [0, 1, 2]),
        ([dt.datetime(2020, 1, 1, 5), None], pa.timestamp("us"), [dt.datetime(2020, 1, 1, 5), None]),
        (pa.array([1, 2]), pa.int64(), [1, 2]),
        (pa.chunked_array([[1], [2]]), pa.int64(), [1, 2]),
        (pd.Series([1, 2], index=[9, 8]), pa.int64(), [1, 2]),
        (pd.Categorical(["a"]), pa.string(), ["a"]),
        (pl.Series([1, None]), pa.int64(), [1, None]),
        (memoryview(np.array([1, 2])), None, None),
    ],
)  # fmt: skip
def test_dicts_of_arrays(array, kind, expected):
    if kind is None:
        with pytest.raises(TypeError, match="expected a one-dimensional array, got memoryview"):
            open_source({"x": array})
        return
    source = open_source({"x": array})
    assert source.label == "dict of arrays"
    assert source.fields == (Field("x", kind),)
    assert values(source) == {"x": expected}
    assert values(pickle.loads(pickle.dumps(source))) == {"x": expected}
    assert source.column_bytes("x") > 0


def test_nan_in_numpy_is_nan_and_memory_is_shared():
    array = np.array([np.nan, 1.0, 2.0])
    batch = batch_of({"x": array}, "x")
    assert batch.column(0).null_count == 0
    assert batch.column(0).buffers()[1].address == array.ctypes.data
    masked = batch_of({"x": np.ma.array([np.nan, 1.0], mask=[False, True])}, "x").column(0)
    assert masked.is_null().to_pylist() == [False, True]
    assert np.isnan(batch_of({"x": [np.nan, 1.0]}, "x").column(0).to_pylist()[0])


@pytest.mark.parametrize(
    "array",
    [
        np.array([1j]),
        np.zeros(1, "V8"),
        np.zeros(1, [("a", int)]),
        np.array([b"ok", b"\xff"]),
        np.array(["\udcff"]),
        np.array([1, "a"], object),
        np.array([1], "m8[M]"),
        np.array([1], "m8[Y]"),
        np.array([1], "m8[ps]"),
        np.array(["2020"], "M8[as]"),
        np.array([2**40], "M8[D]"),
        np.array([-(2**31)], "M8[D]"),
        np.array([2**62], "M8[h]"),
        np.array([2**60], "M8[Y]"),
        [1, "a"],
        [2**70],
        [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 10)],
    ],
    ids=str,
)
def test_arrays_that_cannot_be_counted_are_problems(array):
    source = open_source({"bad": array, "good": range(len(array))})
    assert source.fields[0].problem
    assert "\n" not in source.fields[0].problem
    assert source.fields[0].type is None
    assert values(source) == {"good": list(range(len(array)))}


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a longdouble is a double here")
def test_longdouble_is_a_problem():
    assert "float" in open_source({"x": np.zeros(2, np.longdouble)}).fields[0].problem


def test_shapes_and_lengths():
    with pytest.raises(ValueError, match="equally long") as error:
        open_source({"a": [1, 2], "b\n": np.arange(2), "c": np.arange(3)})
    one_line(error, "'a' has 2 rows", "'c' has 3")
    for shape in ((2, 2), ()):
        with pytest.raises(ValueError, match="one-dimensional") as error:
            open_source({"a\n": np.zeros(shape)})
        one_line(error, r"'a\n'", str(shape))
    with pytest.raises(TypeError, match="got str"):
        open_source({"a": "text"})


def test_mappings_and_names_that_are_no_text():
    class Columns(dict):
        pass

    source = open_source(Columns({1: [1], "1": [2], None: [3]}))
    assert [(field.name, field.problem) for field in source.fields] == [
        ("1", "the name occurs 2 times"),
        ("None", None),
    ]
    assert values(source) == {"None": [3]}


@pytest.mark.parametrize(
    "data",
    [None, 5, [], [1], [TABLE], np.arange(3), pd.Series([1]), pl.Series([1]), pa.array([1]), object(), b"x"],
)
def test_anything_else_is_a_type_error(data):
    with pytest.raises(TypeError, match="expected a path") as error:
        open_source(data)
    one_line(error)


def test_importing_sources_stays_light():
    heavy = "('pandas', 'polars', 'dask', 'pyarrow.dataset', 'pyarrow.csv', 'pyarrow.parquet')"
    code = f"import sys, gpudrift.sources; sys.exit(any(m in sys.modules for m in {heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(sources.__file__).parents[1])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 50),
    cuts=st.lists(st.integers(0, 50), max_size=3),
    group=st.integers(1, 20),
    columns=st.lists(st.sampled_from(["x", "s", "x.y", "nope"]), unique=True),
)
def test_any_cut_of_the_rows_gives_the_same_rows(tmp_path_factory, rows, cuts, group, columns):
    table = pa.table({"x": range(rows), "s": [str(i % 3) for i in range(rows)], "x.y": [i / 2 for i in range(rows)]})
    folder = tmp_path_factory.mktemp("cut")
    bounds = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    for at, (start, stop) in enumerate(zip(bounds, bounds[1:] or bounds, strict=False)):
        write(folder / f"{at}.parquet", table.slice(start, stop - start), row_group_size=group)
    source = open_source(folder)
    assert source.rows == rows
    got = values(source, columns)
    assert got == {name: table[name].to_pylist() if name != "nope" else [ABSENT] * rows for name in columns}


def test_other_file_systems_than_the_local_one(tmp_path, monkeypatch):
    for name in ("k=1/a.parquet", "k=2/b.parquet", "_tmp/c.parquet", "d.txt/e.csv"):
        write(tmp_path / name, TABLE.select(["i"]))
    locate = finding.locate

    def remote(given_):
        place, _, pattern = given_.removeprefix("mem://").partition("|")
        filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        return finding.Location(filesystem, place, given_, f"mem://{place}", tuple(pattern.split("/")) * bool(pattern))

    monkeypatch.setattr(
        finding, "locate", lambda given_, options: remote(given_) if "mem://" in given_ else locate(given_)
    )
    assert open_source("mem://k=1").files == ("mem://k=1/a.parquet",)
    source = open_source("mem://|k*/*.parquet")
    assert values(source)["k"] == [1] * 6 + [2] * 6
    assert open_source("mem://|**/*.parquet").rows == 12
    assert values(open_source("mem://d.txt/e.csv"))["i"] == TABLE["i"].to_pylist()
    with pytest.raises(ValueError, match="count twice"):
        open_source(["mem://k=1", "mem://k=1/a.parquet"])


def test_file_names_that_are_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text("a\n1\n")
    for given_ in (tmp_path, tmp_path / os.fsdecode(b"\xff.csv")):
        with pytest.raises(ValueError, match="cannot read") as error:
            open_source(given_)
        one_line(error, str(tmp_path))


def test_rows_of_ipc_files_with_an_older_pyarrow(tmp_path):
    class Older:
        def __init__(self, reader):
            self.get_batch, self.num_record_batches = reader.get_batch, reader.num_record_batches

    write(tmp_path / "a.arrow", TABLE, max_chunksize=4)
    assert ipc_files._ipc_rows(Older(ipc.open_file(tmp_path / "a.arrow"))) == 6


def test_polars_types_that_arrow_has_not():
    source = open_source(pl.DataFrame({"wide": pl.Series([1, None], dtype=pl.Int128), "x": [1, 2]}))
    assert source.fields[0].problem
    assert values(source) == {"x": [1, 2]}
