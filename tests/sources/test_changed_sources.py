"""Sources in other processes, and files that change while they are read."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from pyarrow import fs
from support.stored_sources import TABLE, again, appended, deleted, in_a_child, one_line, rows_of, sizes_of, write

from gpudrift.errors import SourceChangedError
from gpudrift.sources import datafile, delimited, footers, open_source, parquet

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


def replaced(path):
    """Another file of the same size takes its place."""
    copy = path.with_name(f"_{path.name}")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(0, path.stat().st_mtime_ns + 1000))
    copy.replace(path)


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
