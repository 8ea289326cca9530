"""Sources that travel: pickled to other processes, of files that change meanwhile, behind credentials."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import fs, ipc
from support.fake_stores import KEY, QUOTED, SECRET, FakeS3, Vault

import gpudrift
from gpudrift.counts.sealed import write_sealed
from gpudrift.errors import SourceChangedError
from gpudrift.sources import datafile, delimited, footers, is_saved_profile, is_uri, open_source, parquet, trouble

TABLE = pa.table({"i": range(3000), "s": [f"text {i % 7}" for i in range(3000)], "u": [f"{i:09}" for i in range(3000)]})
CHILD = """
import pickle, sys
from gpudrift.sources import footers
source = pickle.load(sys.stdin.buffer)
names = [field.name for field in source.fields]
rows = [[batch.to_pydict() for batch in source.batches(part, names)] for part in source.parts]
sizes = [source.column_bytes(name) for name in names]
pickle.dump((rows, sizes, repr(source), source.fingerprint, len(footers.KEPT)), sys.stdout.buffer)
"""


def rows_of(source):
    names = [field.name for field in source.fields]
    return [[batch.to_pydict() for batch in source.batches(part, names)] for part in source.parts]


def sizes_of(source):
    return [source.column_bytes(field.name) for field in source.fields]


def in_a_child(source):
    """What another process makes of a pickled source."""
    path = os.pathsep.join([str(Path(gpudrift.__file__).parents[1]), str(Path(__file__).resolve().parents[1])])
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps(source),
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return pickle.loads(child.stdout)


def again(source):
    return pickle.loads(pickle.dumps(source))


def write(path, table=TABLE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, **{"row_group_size": 1000} | options)
    elif path.suffix == ".arrow":
        with ipc.new_file(path, table.schema) as sink:
            sink.write_table(table, **{"max_chunksize": 1000} | options)
    else:
        pc.write_csv(table, path)
    return path


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    assert text.isprintable()
    for word in words:
        assert word in text, text


@pytest.fixture
def kept(monkeypatch):
    """The footers of a process that has not read anything."""
    fresh = footers.Footers()
    monkeypatch.setattr(footers, "KEPT", fresh)
    return fresh


# -------------------------------------------------------------------------------------------------- pickles


def test_a_pickle_holds_no_footers(tmp_path):
    table = pa.table({f"column_{i}": [float(i)] if i % 2 else [f"text {i}"] for i in range(50)})
    content = write(tmp_path / "0.parquet", table).read_bytes()
    for number in range(1, 200):
        (tmp_path / f"{number}.parquet").write_bytes(content)
    source = open_source(tmp_path)
    dumped = pickle.dumps(source)
    assert len(dumped) < 200 * 250, "of a footer of 8,000 bytes a file"
    assert len(dumped) - len(pickle.dumps(open_source(f"{tmp_path}/1*.parquet"))) < 89 * 250
    travelled = again(source)
    assert len(pickle.dumps(travelled)) <= len(dumped)
    assert len(set(map(id, travelled.reader.texts))) == len(set(map(id, travelled.places))) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.arrow"])
def test_files_of_one_layout_share_it_in_a_pickle(tmp_path, name):
    table = pa.table({f"some_column_{i}": [i] for i in range(50)})
    for number in range(100):
        write(tmp_path / f"k={number % 3}" / f"{number}{name}", table)
    assert len(pickle.dumps(open_source(tmp_path))) < 100 * 400


def test_ten_thousand_parts_are_a_small_pickle(tmp_path):
    write(tmp_path / "a.parquet", pa.table({"x": range(10_000)}), row_group_size=1)
    source = open_source(tmp_path)
    assert len(source.parts) == 10_000
    assert len(pickle.dumps(source)) < 300_000
    assert again(source).parts == source.parts


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv"])
def test_another_process_reads_the_same(tmp_path, name):
    for number in range(2):
        write(tmp_path / f"k={number}" / name)
    source = open_source(tmp_path)
    rows, sizes, shown, fingerprint, held = in_a_child(source)
    assert rows == rows_of(source)
    assert sizes == sizes_of(source)
    assert fingerprint == source.fingerprint
    assert name in shown
    assert held == (2 if name == "a.parquet" else 0)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv"])
def test_sizes_of_columns_need_no_file(tmp_path, name):
    path = write(tmp_path / name)
    write(tmp_path / f"b{path.suffix}", TABLE.select(["u"]))
    source = open_source(tmp_path)
    sizes, dumped = sizes_of(source), pickle.dumps(open_source(tmp_path))
    for file in tmp_path.iterdir():
        file.unlink()
    travelled = pickle.loads(dumped)
    assert sizes_of(travelled) == sizes
    assert sizes_of(again(travelled)) == sizes
    assert all(sizes)
    assert travelled.column_bytes("nope") == 0


def test_footers_are_parsed_once_in_the_process_that_opened_them(tmp_path, kept):
    write(tmp_path / "a.parquet")
    rows_of(open_source(tmp_path))
    assert len(kept) == 0


def count_loads(monkeypatch):
    loads, load = [], footers.arrow_module
    monkeypatch.setattr(footers, "arrow_module", lambda module: loads.append(module) or load(module))
    return loads


def test_footers_are_loaded_once_a_process(tmp_path, kept, monkeypatch):
    loads = count_loads(monkeypatch)
    for number in range(3):
        write(tmp_path / f"{number}.parquet")
    dumped = pickle.dumps(open_source(tmp_path))
    expected = rows_of(open_source(tmp_path))
    barrier = threading.Barrier(4)

    def read(_):
        barrier.wait(5)
        return rows_of(pickle.loads(dumped))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(4))) == [expected] * 4
    assert len(loads) == len(kept) == 3


@pytest.mark.parametrize(("bound", "held"), [(1, 1), (9, 1), (18, 2), (20, 2), (1000, 4)])
def test_only_so_many_footers_are_kept(tmp_path, kept, monkeypatch, bound, held):
    monkeypatch.setattr(footers, "CHUNKS_KEPT", bound)
    for number in range(4):
        write(tmp_path / f"{number}.parquet")  # 3 row groups of 3 columns
    source = open_source(tmp_path)
    for _ in range(2):
        for part in source.parts:
            travelled = again(source)
            (batch,) = travelled.batches(part, ["i"])
            assert batch.num_rows == 1000
            assert len(kept) <= held
    assert rows_of(again(source)) == rows_of(source)
    assert len(kept) == held


def test_the_footers_used_last_are_kept(tmp_path, kept, monkeypatch):
    loads = count_loads(monkeypatch)
    monkeypatch.setattr(footers, "CHUNKS_KEPT", 18)
    for number in range(3):
        write(tmp_path / f"{number}.parquet")  # 3 row groups of 3 columns
    first, second, third = open_source(tmp_path).origins
    for file in (first, second, first, third, first):
        assert kept.of(file).num_rows == 3000
    assert len(loads) == 3
    kept.of(second)
    assert len(loads) == 4


def test_a_footer_that_cannot_be_loaded_is_asked_for_again(tmp_path, kept):
    path = write(tmp_path / "a.parquet")
    source, content = again(open_source(path)), path.read_bytes()
    before = path.stat()
    path.write_bytes(content[:-4] + b"none")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="cannot read") as error:
        rows_of(source)
    one_line(error, repr(str(path)))
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rows_of(source) == rows_of(open_source(path))


def test_files_of_one_path_in_two_stores_have_their_own_footers(tmp_path, kept):
    write(tmp_path / "one/a.parquet", TABLE.slice(0, 1000))
    write(tmp_path / "two/a.parquet", TABLE.slice(1000, 1000))
    one, two = (fs.SubTreeFileSystem(f"{tmp_path}/{name}", fs.LocalFileSystem()) for name in ("one", "two"))
    files = [datafile.File(store, "a.parquet", "x", "Parquet", 1, None, ()) for store in (one, two, one)]
    found = [kept.of(file) for file in files]
    assert [footer.row_group(0).column(0).statistics.min for footer in found] == [0, 1000, 0]
    assert len(kept) == 1


# -------------------------------------------------------------------------------------------------- changes


def deleted(path):
    path.unlink()


def replaced(path):
    """Another file of the same size takes its place."""
    copy = path.with_name(f"_{path.name}")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(0, path.stat().st_mtime_ns + 1000))
    copy.replace(path)


def appended(path):
    with path.open("ab") as file:
        file.write(b"1,2,3\n")


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


CHANGES = {
    deleted: "is gone: it was there when the run began",
    replaced: " when the run began, ",
    appended: " now; let its writer finish and run again",
    truncated: "changed while it was read: ",
}


@pytest.mark.parametrize("travel", [lambda source: source, again], ids=["here", "there"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize("when", ["before", "between parts", "between batches"])
def test_a_file_that_changes_is_named(tmp_path, monkeypatch, kept, when, name, change, travel):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 1000)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1024)
    options = {"row_group_size": 2500} if name == "parquet" else {}
    path = {at: write(tmp_path / f"{at}.{name}", **options) for at in "abc"}["b"]
    source = travel(open_source(tmp_path))
    parts = [part for part in source.parts if part.label == str(path)]
    names = ["i", "s", "u"]
    rest = None
    if when == "between parts":
        assert sum(batch.num_rows for batch in source.batches(parts[0], names))
    elif when == "between batches":
        rest = source.batches(parts[0], names)
        assert next(rest).num_rows
    change(path)
    for batches in filter(None, (rest, source.batches(parts[-1], names))):
        with pytest.raises(SourceChangedError) as error:
            list(batches)
        one_line(error, repr(str(path)), CHANGES[change])
    for part in source.parts:
        if part.label != str(path):
            assert sum(batch.num_rows for batch in source.batches(part, names))


def test_a_truncated_file_says_changed_where_the_reader_fails(tmp_path, monkeypatch):
    """The check before sees nothing, the reader fails, the check after finds out why."""
    path = write(tmp_path / "a.arrow")
    source = open_source(path)
    checks, check = [], datafile.File.check

    def cut_after_the_first(self):
        check(self)
        if not checks:
            os.truncate(path, 100)
        checks.append(self)

    monkeypatch.setattr(datafile.File, "check", cut_after_the_first)
    with pytest.raises(SourceChangedError, match="changed while it was read"):
        rows_of(source)
    assert len(checks) == 1


def test_a_change_is_described(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv")
    second = 1_700_000_000 * 10**9
    os.utime(path, ns=(0, second + 5000))
    size = path.stat().st_size
    source = open_source(path)
    appended(path)
    os.utime(path, ns=(0, second + 61 * 10**9))
    with pytest.raises(SourceChangedError) as error:
        rows_of(source)
    pattern = f"{size:,} bytes of 2023-11-1_ __:__:20 when the run began, {size + 6:,} bytes of 2023-11-1_ __:__:21 now"
    shown = str(error.value).partition("read: ")[2].partition(";")[0]
    assert len(shown) == len(pattern)
    assert all(want in ("_", got) for want, got in zip(pattern, shown, strict=True))
    os.truncate(path, size)
    os.utime(path, ns=(0, second + 6000))
    with pytest.raises(SourceChangedError, match=rf"{size:,} bytes of \S+ \S+\.000005 .* \S+\.000006 now"):
        rows_of(source)
    os.utime(path, ns=(0, second + 5000))
    assert rows_of(source), "as it was"
    assert pickle.loads(pickle.dumps(error.value)).args == error.value.args


def test_file_systems_without_times_compare_sizes():
    info = fs.FileInfo("a", fs.FileType.File, size=5)
    local = fs.LocalFileSystem()
    assert datafile.state_of(local, info) == (5, None)
    timed = fs.FileInfo("a", fs.FileType.File, size=5, mtime_ns=1_999_999_999)
    assert datafile.state_of(local, timed) == (5, 1_999_999_999)
    assert datafile.state_of(fs.SubTreeFileSystem("/", local), timed) == (5, 1_000_000_000)
    file = datafile.File(local, __file__, "x", "CSV", 1, None, ())
    with pytest.raises(SourceChangedError, match="1 bytes when the run began"):
        file.check()


@pytest.mark.parametrize("rows", [1500, 3000])
def test_other_row_groups_of_the_same_size_and_time(tmp_path, monkeypatch, kept, rows):
    path = write(tmp_path / "a.parquet")
    source = again(open_source(path))
    write(path, row_group_size=rows)
    monkeypatch.setattr(datafile.File, "check", lambda self: None)
    with pytest.raises(SourceChangedError, match="row groups have changed") as error:
        rows_of(source)
    one_line(error, repr(str(path)))


def test_without_columns_of_its_own_a_part_is_not_looked_at(tmp_path):
    path = write(tmp_path / "k=1/a.parquet")
    source = open_source(tmp_path)
    path.unlink()
    assert [sum(b.num_rows for b in source.batches(part, ["k"])) for part in source.parts] == [1000] * 3


def test_whoever_stops_reading_hears_no_complaint(tmp_path):
    path = write(tmp_path / "a.csv")
    source = open_source(path)
    batches = source.batches(source.parts[0], ["i"])
    next(batches)
    path.unlink()
    batches.close()


# ---------------------------------------------------------------------------------------------- fingerprints


@pytest.mark.parametrize("name", ["parquet", "arrow", "csv"])
def test_equal_fingerprints_for_the_same_files(tmp_path, name):
    paths = [write(tmp_path / f"{at}.{name}") for at in "abc"]
    source = open_source(tmp_path)
    for given in (paths, paths[::-1], f"{tmp_path}/*.{name}", [paths[2], f"{tmp_path}/[ab].*"], f"{tmp_path}/./"):
        assert open_source(given).fingerprint == source.fingerprint
    assert again(source).fingerprint == source.fingerprint
    assert len(source.fingerprint) == 16
    assert int(source.fingerprint, 16)
    seen = {source.fingerprint, open_source(paths[:2]).fingerprint}
    replaced(paths[1])
    seen.add(open_source(tmp_path).fingerprint)
    appended_table = pa.concat_tables([TABLE, TABLE])
    write(paths[1], appended_table)
    seen.add(open_source(tmp_path).fingerprint)
    paths[1].rename(tmp_path / f"d.{name}")
    seen.add(open_source(tmp_path).fingerprint)
    assert len(seen) == 5


def test_fingerprints_see_rows_names_and_types(tmp_path):
    tables = [TABLE, TABLE.rename_columns(["i", "s", "v"]), TABLE.slice(1), TABLE.select(["s", "i", "u"])]
    tables.append(TABLE.set_column(0, "i", TABLE["i"].cast(pa.int32())))
    assert len({open_source(table).fingerprint for table in tables}) == len(tables)
    seen = set()
    for table in tables:
        path = write(tmp_path / "a.parquet", table, compression="none")
        os.utime(path, ns=(0, 0))
        seen.add(open_source(path).fingerprint)
    assert len(seen) == len(tables)
    assert open_source(TABLE).fingerprint == open_source(TABLE.combine_chunks()).fingerprint
    frame = TABLE.to_pandas()
    assert open_source(frame).fingerprint == open_source(frame.copy()).fingerprint
    assert open_source(frame).fingerprint != open_source({"i": range(3000)}).fingerprint
    csv = open_source(write(tmp_path / "a.csv"))
    assert csv.with_types({"i": pa.float64()}).fingerprint != csv.fingerprint
    assert open_source(TABLE.to_reader()).fingerprint


# ----------------------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a@b/c", "s3://***@bucket/a@b/c"),
        ("s3://KEY:SEC/RET@bucket/a@b", "s3://***@bucket/a@b"),
        ("s3://KEY:S@T@bucket/a", "s3://***@bucket/a"),
        ("s3://KEY@bucket/a", "s3://***@bucket/a"),
        ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
        ("http://host:80/a@b/c", "http://host:80/a@b/c"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("abfs://container:pass@account.dfs.core.windows.net/x", "abfs://***@account.dfs.core.windows.net/x"),
        ("s3://b/x?a=1&Session_Token=x&b=2&sig=y", "s3://b/x?a=1&Session_Token=***&b=2&sig=***"),
        ("https://h/x?X-Amz-Signature=1&X-Amz-Credential=2", "https://h/x?X-Amz-Signature=***&X-Amz-Credential=***"),
        ("https://h/x?sec%72et=1", "https://h/x?sec%72et=***"),
        ("Cannot parse 's3://K:S@b/x y'", "Cannot parse 's3://***@b/x y'"),
        ("no URI: a@b", "no URI: a@b"),
    ],
)
def test_what_is_hidden(text, shown):
    assert trouble.hidden(text) == shown
    assert trouble.hidden(shown) == shown


def test_secrets_that_are_looked_for():
    assert trouble.uri_secrets("s3://mykey:my%2Fsecret@b/x?token=to%20ken&region=there&key=abc") == (
        "my%2Fsecret", "my/secret", "to%20ken", "to ken", "mykey",
    )  # fmt: skip
    assert trouble.uri_secrets("abfs://container@account/x") == ()
    options = {"key": "12345", "anon": False, "deep": {"list": [b"abcd", ("efgh",)], "port": 80}, "short": "abc"}
    assert trouble.option_secrets(options) == ("12345", "abcd", "efgh")


def test_messages_of_a_whole_chain_are_scrubbed():
    uri = "s3://key:{}@bucket".format("word")

    def fail():
        try:
            raise KeyError("the secret abcdef")
        except KeyError as error:
            raise OSError(5, "abcdef is wrong", uri) from error

    with pytest.raises(OSError, match=r"cannot read 'x': .*\*\*\* is wrong") as error, trouble.named("x", ("abcdef",)):
        fail()
    printed = "".join(traceback.format_exception(error.value))
    assert "the secret ***" in printed
    assert "s3://***@bucket" in printed
    assert uri not in printed


def secretless(*shown):
    """No text shows the key or the secret, nor an error with all it came from."""
    for text in shown:
        if isinstance(text, BaseException):
            assert "\n" not in str(text)
            text = "".join(traceback.format_exception(text))  # noqa: PLW2901
        for secret in (KEY, SECRET, QUOTED, "fakesecret"):
            assert secret not in text, text


@pytest.fixture
def s3(tmp_path):
    server = FakeS3(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def test_credentials_in_a_uri_are_used_and_not_shown(tmp_path, s3):
    for number in range(2):
        write(tmp_path / f"bucket/data/k={number}/{number}.parquet", TABLE.slice(number, 1001))
    given = s3.uri("bucket/data/")
    source = open_source(given)
    assert source.label == f"s3://***@bucket/data/?{given.partition('?')[2]}"
    assert source.files == tuple(f"s3://***@bucket/data/k={number}/{number}.parquet" for number in range(2))
    expected = rows_of(open_source(tmp_path / "bucket/data"))
    assert rows_of(source) == expected
    assert s3.authorizations
    assert all(f"Credential={KEY}/" in line for line in s3.authorizations)
    s3.authorizations.clear()
    rows, sizes, shown, fingerprint, _ = in_a_child(source)
    assert rows == expected
    assert sizes == sizes_of(source)
    assert fingerprint == source.fingerprint
    assert s3.authorizations
    assert all(f"Credential={KEY}/" in line for line in s3.authorizations)
    secretless(source.label, repr(source), repr(source.parts), repr(source.origins), *source.files, shown)
    secretless(repr(again(source)), repr(again(source).origins))
    one = open_source(s3.uri("bucket/data/k=0/0.parquet"))
    assert rows_of(one) == [
        [{name: got for name, got in batch.items() if name != "k"} for batch in part] for part in expected[:2]
    ]
    both = open_source([s3.uri("bucket/data/k=*/*.parquet")])
    assert both.fingerprint == source.fingerprint, "listing and asking for one file tell the same time"
    listed = open_source([s3.uri(f"bucket/data/k={at}/{at}.parquet") for at in (0, 1)])
    assert listed.origins[0].filesystem is listed.origins[1].filesystem, "and its connections, and its pickle"


def test_errors_of_a_store_show_no_credentials(tmp_path, s3):
    path = write(tmp_path / "bucket/data/a.parquet")
    write(tmp_path / "bucket/data/b.parquet")
    for given, kind, words in (
        (s3.uri("bucket/nope"), FileNotFoundError, ["no such file", "s3://***@bucket/nope?endpoint"]),
        (s3.uri("bucket/*.csv"), FileNotFoundError, ["no file matches", "s3://***@bucket/*.csv"]),
        (s3.uri("forbidden/x"), ValueError, ["ACCESS_DENIED", "s3://***@forbidden/x"]),
        (s3.uri("bucket/data") + "&token=" + SECRET, ValueError, ["cannot read", "&token=***", "'token'"]),
        (f"s3://{KEY}:{SECRET}@bucket/data", ValueError, ["cannot read 's3://***@bucket/data'"]),
        (f"s3://{KEY}:{QUOTED}@bucket/da ta", ValueError, ["cannot read 's3://***@bucket/da ta'"]),
        ([s3.uri("bucket/data/a.parquet"), s3.uri("bucket/data")], ValueError, ["count twice"]),
    ):
        with pytest.raises(kind) as error:
            open_source(given)
        one_line(error, *words)
        secretless(error.value)
        assert not isinstance(given, str) or not is_saved_profile(given)
    for source in (open_source(s3.uri("bucket/data")), again(open_source(s3.uri("bucket/data")))):
        appended(path)
        with pytest.raises(SourceChangedError) as error:
            rows_of(source)
        one_line(error, "'s3://***@bucket/data/a.parquet' changed while it was read")
        secretless(error.value)
        write(path)
    source = open_source(s3.uri("bucket/data"))
    path.unlink()
    with pytest.raises(SourceChangedError, match="is gone") as error:
        rows_of(source)
    secretless(error.value)


# ---------------------------------------------------------------------------------------------------- fsspec


OPTIONS = {"secret": SECRET}


@pytest.mark.parametrize("name", ["parquet", "arrow", "csv"])
def test_uris_with_options_go_through_fsspec(tmp_path, name):
    for number in range(2):
        write(tmp_path / f"k={number}/{number}.{name}", TABLE.slice(number, 500))
    write(tmp_path / f"_hidden/x.{name}")
    expected = rows_of(open_source(tmp_path))
    uri = f"vault://{tmp_path}"
    for given in (uri, f"{uri}/k=*/*.{name}", [f"{uri}/k=1", f"{uri}/k=0/0.{name}"], f"{uri}/**/*.{name}"):
        source = open_source(given, OPTIONS)
        assert source.files == tuple(f"{uri}/k={number}/{number}.{name}" for number in range(2))
        shown = (source.label, repr(source), repr(source.parts), repr(again(source)), repr(source.origins))
        secretless(*shown, repr(source.origins[0].filesystem), repr(source.origins[0].filesystem.handler))
        if isinstance(given, str):
            assert source.label == given
            assert rows_of(source) == rows_of(again(source)) == expected
    source = open_source(uri, OPTIONS)
    rows, sizes, shown, fingerprint, _ = in_a_child(source)
    assert (rows, sizes, fingerprint) == (expected, sizes_of(source), source.fingerprint)
    secretless(shown)
    assert source.origins[0].modified % 10**9 == 0
    assert source.origins[0].modified > 10**18
    assert again(source).origins[0].filesystem.handler.fs.storage_options == OPTIONS
    for change in (appended, deleted):
        change(tmp_path / f"k=1/1.{name}")
        with pytest.raises(SourceChangedError) as error:
            rows_of(source)
        one_line(error, f"'{uri}/k=1/1.{name}' ")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"secret": "denied at once"}, PermissionError, ["no permission to read 'vault://"]),
        ({"secret": "invalid at once"}, ValueError, ["cannot read 'vault://", "the secret '***' is wrong"]),
        ({"secret": "refused later"}, ValueError, ["cannot read 'vault://", "the secret '***' is wrong"]),
        ({}, ValueError, ["cannot read 'vault://", "argument: 'secret'"]),
        ({"secret": SECRET, "nonsense\n": 1}, ValueError, ["no such file"]),
    ],
)
def test_options_that_are_not_taken(tmp_path, options, kind, words):
    uri = f"vault://{tmp_path}/nope.parquet"
    expected = FileNotFoundError if "no such file" in words else kind
    with pytest.raises(expected) as error:
        open_source(uri, options)
    one_line(error, *words)
    printed = "".join(traceback.format_exception(error.value))
    assert str(options.get("secret")) not in printed
    assert not is_saved_profile(uri, options)


def test_options_that_are_refused_later(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet")
    source = again(open_source(f"vault://{path}", OPTIONS))
    monkeypatch.setattr(Vault, "expired", True)
    with pytest.raises(ValueError, match=r"cannot read 'vault://.*the secret '\*\*\*' is wrong") as error:
        rows_of(source)
    one_line(error)
    secretless(error.value)


def test_options_are_for_uris(tmp_path):
    path = write(tmp_path / "a.parquet")
    for given in (path, str(path), [path, f"vault://{path}"], f"{tmp_path}/*"):
        for options in (OPTIONS, {}):
            with pytest.raises(ValueError, match=r"storage_options are for URIs .* is a local path") as error:
                open_source(given, options)
            one_line(error, repr(str(tmp_path))[1:-1])
    for data in (TABLE, pd.DataFrame({"x": [1]}), {"x": np.arange(2)}, TABLE.to_reader()):
        with pytest.raises(ValueError, match="storage_options are for URIs"):
            open_source(data, OPTIONS)
    assert rows_of(open_source(f"file://{path}", {})) == rows_of(open_source(path))
    assert is_uri("s3://x")
    assert not is_uri(path)
    assert not is_uri("s3:/x")


def test_saved_profiles_behind_options(tmp_path):
    write_sealed(str(tmp_path / "base.parquet"), TABLE, {})
    write(tmp_path / "a.parquet")
    assert is_saved_profile(f"vault://{tmp_path}/base.parquet", OPTIONS)
    assert not is_saved_profile(f"vault://{tmp_path}/a.parquet", OPTIONS)
    assert is_saved_profile(str(tmp_path / "base.parquet"), OPTIONS), "a local one needs none"
    with pytest.raises(ValueError, match="saved profile, not data") as error:
        open_source(f"vault://{tmp_path}", OPTIONS)
    one_line(error, "base.parquet")


def test_packages_that_are_missing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="cannot read 'nosuch://x': Protocol not known"):
        open_source("nosuch://x", {})
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ModuleNotFoundError, match="cannot open 's3://\\*\\*\\*@bucket/x': Install s3fs") as error:
        open_source(f"s3://{KEY}:{QUOTED}@bucket/x", OPTIONS)
    secretless(error.value)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(
        ModuleNotFoundError, match="storage_options need the library fsspec: pip install fsspec"
    ) as error:
        open_source("s3://bucket/x", OPTIONS)
    one_line(error, "s3fs")


def test_listings_that_a_library_keeps_hide_no_change(tmp_path):
    path = write(tmp_path / "a.parquet")
    source = open_source(f"vault://{tmp_path}", OPTIONS)
    handler = source.origins[0].filesystem.handler
    calls = []
    handler.fs.invalidate_cache = calls.append
    try:
        rows_of(source)
        assert set(calls) == {str(path)}
        assert len(calls) == 2 * len(source.parts)
    finally:
        del handler.fs.invalidate_cache


def test_names_of_the_modification_time():
    from datetime import UTC, datetime

    from gpudrift.sources.remote import _Handler

    time = datetime(2026, 11, 23, tzinfo=UTC)
    for described in ({"LastModified": time}, {"last_modified": time}, {"mtime": time.timestamp()}, {"updated": time}):
        info = _Handler._create_file_info("x", {"size": 5, "type": "file", **described})
        assert info.mtime_ns == int(time.timestamp()) * 10**9
    assert _Handler._create_file_info("x", {"size": 5, "type": "file", "mtime": "noon"}).mtime_ns is None
