"""Files and paths: which files are found, in which order, and how what is wrong with them is told."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import ABSENT, TABLE, count, one_line, readable, types, values, write

from gpudrift.counts.sealed import write_sealed
from gpudrift.errors import SourceChangedError
from gpudrift.places import trouble
from gpudrift.sources import (
    Field,
    is_saved_profile,
    open_source,
    parquet,
)

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
        ("wide.csv", b"a^b\n1^2\n"),
        ("notgzip.csv.gz", b"a,b\n1,2\n"),
        ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 5000, mtime=0)[:-20]),
        ("odd.csv.parquet.gz", gzip.compress(b"a", mtime=0)),
        ("unknown.yaml", b"a: 1"),
        ("unknown", b"xx"),
        ("new\nline.yaml", b"a: 1"),
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
    (tmp_path / "c.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match="unknown format") as error:
        open_source(f"{tmp_path}/c*")
    one_line(error, "c.yaml", "Parquet", "CSV", "Arrow IPC", "JSON lines")


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
