"""Delta tables: the rows of each version are those that deltalake reads, whatever happened to the table."""

from __future__ import annotations

import datetime as dt
import pickle
import shutil
from datetime import UTC

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_stores import KEY, SECRET, FakeS3
from support.lakes import delta_by_hand
from support.sources import count, one_line, values

import gpudrift
from gpudrift.sources import is_parquet, open_source

DAY = dt.date(2025, 1, 1)


def rows_of(source):
    """All rows in some order that does not depend on where they lie."""
    found = values(source)
    return sorted(map(repr, zip(*(found[name] for name in sorted(found)), strict=True)))


def library_rows(table):
    """The same, as the library reads them."""
    found = pa.table(table.scan()).to_pydict()
    return sorted(map(repr, zip(*(found[name] for name in sorted(found)), strict=True)))


def numbers(start, stop):
    return pa.table(
        {
            "n": pa.array(range(start, stop), pa.int64()),
            "x": np.linspace(0, 1, stop - start),
            "city": [("Rome", "Köln a/b", None)[n % 3] for n in range(start, stop)],
            "day": pa.array([DAY + dt.timedelta(n % 2) for n in range(start, stop)], pa.date32()),
        }
    )


def assert_same(folder, version):
    """A version is the same by path, by table and by its library, and so are its counts."""
    table = DeltaTable(folder, version=version)
    source = open_source(f"delta:{folder}@{version}")
    read = pa.table(table.scan())
    assert source.rows == read.num_rows == count(source)  # .count() of the library knows no deletion vectors
    assert rows_of(source) == library_rows(table)
    by_path, by_table = gpudrift.profile(f"delta:{folder}@{version}"), gpudrift.profile(table)
    assert by_path.digest == by_table.digest
    assert by_path.provenance["table"]["format"] == "Delta"
    assert by_path.provenance["table"]["version"] == str(version)
    assert by_path.provenance["source"] == f"{folder}@{version}"
    assert by_path.provenance["fingerprint"] == open_source(table).fingerprint
    # Under one schema: what is fitted may depend on the order of the rows, which the library does not promise.
    assert by_path.digest == gpudrift.profile(read, schema=by_path).digest


# append, overwrite, delete, add a column, optimize, checkpoint
STEPS = st.lists(
    st.sampled_from(["append", "overwrite", "delete", "widen", "compact", "checkpoint"]), min_size=1, max_size=6
)


def test_a_table_with_a_history(tmp_path):
    check_history(f"{tmp_path}/t", ["append", "delete", "widen", "checkpoint", "compact", "overwrite"], True)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(STEPS, st.booleans())
def test_every_version_has_the_rows_that_the_library_reads(tmp_path_factory, steps, partitioned):
    check_history(str(tmp_path_factory.mktemp("delta") / "t"), steps, partitioned)


def check_history(folder, steps, partitioned):
    by = ["city", "day"] if partitioned else None
    write_deltalake(folder, numbers(0, 20), partition_by=by)
    for at, step in enumerate(steps, 1):
        some = numbers(20 * at, 20 * at + 11)
        if step == "append":
            write_deltalake(folder, some, mode="append", schema_mode="merge")
        elif step == "overwrite":
            write_deltalake(folder, some, mode="overwrite", schema_mode="merge")
        elif step == "delete":
            DeltaTable(folder).delete("n % 4 = 1")
        elif step == "widen":
            more = some.append_column(f"new{at}", pa.array(range(11), pa.int32()))
            write_deltalake(folder, more, mode="append", schema_mode="merge")
        elif step == "compact":
            DeltaTable(folder).optimize.compact()
        else:
            DeltaTable(folder).create_checkpoint()
    latest = DeltaTable(folder).version()
    for version in range(latest + 1):
        assert_same(folder, version)
    assert open_source(folder).table == open_source(f"delta:{folder}@{latest}").table


def test_versions_by_time(tmp_path):
    folder = f"{tmp_path}/t"
    write_deltalake(folder, numbers(0, 3))
    between = dt.datetime.fromtimestamp(DeltaTable(folder).history(1)[0]["timestamp"] / 1000, UTC)
    for stamp in (between.isoformat(), between.isoformat().replace("+00:00", "Z"), "2100-01-01"):
        assert open_source(f"delta:{folder}@{stamp}").rows == 3
    for wrong, words in (
        ("2001-01-01", ["has no version of 2001-01-01", "its first one is of"]),
        ("7", ["has no version 7", "latest one is 0"]),
        ("last", ["'last' is no version", "expected a number such as 12"]),
        ("", ["ends with '@'"]),
    ):
        with pytest.raises(ValueError, match="version") as error:
            open_source(f"delta:{folder}@{wrong}")
        one_line(error, *words)


def test_a_version_whose_files_were_vacuumed_is_an_error_that_says_so(tmp_path):
    folder = f"{tmp_path}/t"
    write_deltalake(folder, numbers(0, 5))
    write_deltalake(folder, numbers(5, 9), mode="overwrite")
    DeltaTable(folder).vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert open_source(folder).rows == 4
    with pytest.raises(FileNotFoundError) as error:
        open_source(f"delta:{folder}@0")
    one_line(error, f"version 0 of {folder!r}", "vacuumed")


def test_deleted_rows_and_columns_of_other_names(tmp_path):
    first = pa.table({"c1": pa.array(range(20), pa.int32()), "c2": [f"t{n % 3}" for n in range(20)]})
    second = pa.table({"c2": ["z"] * 5})
    folder = delta_by_hand(
        str(tmp_path / "t"),
        [("a/1.parquet", first, {"p": "2025-01-03"}, [0, 6, 7, 8, 9, 10, 11, 12, 13, 19]),
         ("2.parquet", second, {"p": None}, [])],
        [("n", "long", "c1"), ("s", "string", "c2"), ("p", "date", "c3")],
        partitions=["p"], features=["columnMapping", "deletionVectors"], mode="name",
    )  # fmt: skip
    source = open_source(folder)
    assert not is_parquet(source), "columns are renamed while they are read"
    assert source.rows == 15 == count(source)
    assert [part.rows for part in source.parts] == [5, 5, 0, 5], "rows left of each row group"
    assert values(source) == {
        "n": [None] * 5 + [1, 2, 3, 4, 5, 14, 15, 16, 17, 18],
        "s": ["z"] * 5 + [f"t{n % 3}" for n in (1, 2, 3, 4, 5, 14, 15, 16, 17, 18)],
        "p": [None] * 5 + [dt.date(2025, 1, 3)] * 10,
    }
    batches = [batch for part in source.parts for batch in source.batches(part, ["n"])]
    assert {batch.schema.field("n").type for batch in batches} == {pa.int64()}, "also where the file has 32 bits"
    assert values(pickle.loads(pickle.dumps(source))) == values(source)
    assert rows_of(source) == rows_of(open_source(pa.table(DeltaTable(folder).scan()).select(["n", "s", "p"])))
    assert_same(folder, 0)


def test_the_fingerprint_tells_which_rows_are_deleted(tmp_path):
    found = []
    for deleted in ([1], [2], [1]):
        folder = tmp_path / "t"
        shutil.rmtree(folder, ignore_errors=True)
        table = pa.table({"x": [1.0, 2.0, 3.0]})
        delta_by_hand(folder, [("1.parquet", table, {}, deleted)], [("x", "double", "x")], features=["deletionVectors"])
        source = open_source(folder)
        found.append(source.table["rows"])
        assert values(source)["x"] == [x for row, x in enumerate([1.0, 2.0, 3.0]) if row not in deleted]
    assert found[0] == found[2] != found[1]


def test_features_that_are_not_known_are_refused(tmp_path):
    table = pa.table({"x": [1.0]})
    folder = delta_by_hand(
        tmp_path / "t", [("1.parquet", table, {}, [])], [("x", "double", "x")], features=["variantType"]
    )
    with pytest.raises(ValueError, match="variantType") as error:
        open_source(folder)
    one_line(error)


def test_plain_tables_are_read_as_parquet_with_their_footers(tmp_path):
    write_deltalake(str(tmp_path / "t"), numbers(0, 9))
    assert is_parquet(open_source(tmp_path / "t"))


def test_a_table_without_files(tmp_path):
    DeltaTable.create(str(tmp_path / "t"), schema=pa.schema([("x", pa.float64())]))
    source = open_source(tmp_path / "t")
    assert (source.rows, source.parts, [one.name for one in source.fields]) == (0, (), ["x"])
    assert gpudrift.profile(tmp_path / "t").rows == 0


def test_a_table_in_a_store(tmp_path):
    write_deltalake(str(tmp_path / "bucket/t"), numbers(0, 9), partition_by=["day"])
    write_deltalake(str(tmp_path / "bucket/t"), numbers(0, 2), mode="append")
    server = FakeS3(tmp_path)
    expected = rows_of(open_source(tmp_path / "bucket/t"))
    options = {"key": KEY, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{server.server_port}"}
    options |= {"client_kwargs": {"region_name": "us-east-1"}}
    try:
        source = open_source("delta:s3://bucket/t", options)
        assert source.remote
        assert rows_of(source) == expected
        assert rows_of(pickle.loads(pickle.dumps(source))) == expected
        assert open_source("delta:s3://bucket/t@0", options).rows == 9
        assert SECRET not in repr(source)
        by_uri = open_source(server.uri("bucket/t"))
        assert rows_of(by_uri) == expected
        assert KEY not in by_uri.label
        with pytest.raises(ValueError, match="has no version 5") as error:
            open_source("delta:s3://bucket/t@5", options)
        one_line(error)
        assert KEY in server.authorizations[-1]
    finally:
        server.shutdown()
        server.server_close()


def test_the_file_of_a_table_alone_is_a_file(tmp_path):
    write_deltalake(str(tmp_path / "t"), numbers(0, 9))
    [file] = DeltaTable(tmp_path / "t").file_uris()
    assert open_source(file).rows == 9
    pq.write_table(numbers(0, 1), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="is a Delta table") as error:
        open_source([file, tmp_path / "other.parquet"])
    one_line(error)
