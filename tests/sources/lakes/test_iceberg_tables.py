"""Iceberg tables: the rows of each snapshot are those that pyiceberg reads, with its deletes and changes of columns."""

from __future__ import annotations

import datetime as dt
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFileContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DateType, DoubleType, IntegerType, LongType, NestedField, StringType
from support.lakes import iceberg_catalog, iceberg_deletes
from support.sources import count, one_line, values

import gpudrift
from gpudrift.sources import is_parquet, open_source

SCHEMA = Schema(
    NestedField(1, "n", IntegerType(), required=False),
    NestedField(2, "x", DoubleType(), required=False),
    NestedField(3, "city", StringType(), required=False),
    NestedField(4, "day", DateType(), required=False),
)


@pytest.fixture
def catalog(tmp_path):
    made = iceberg_catalog(tmp_path)
    yield made
    made.close()


def numbers(table, start, stop):
    """Rows that fit the table as it is now."""
    ordered = range(start, stop)
    known = {
        1: list(ordered),
        2: [n / 7 for n in ordered],
        3: [("Rome", "Köln a/b", None)[n % 3] for n in ordered],
        4: [dt.date(2025, 1, 1 + n % 2) for n in ordered],
    }
    schema = table.schema().as_arrow()
    arrays = [
        pa.array(known.get(one.field_id, [f"new{n}" for n in ordered]), schema.field(one.name).type)
        for one in table.schema().fields
    ]
    return pa.table(arrays, names=schema.names)


def rows_of(found):
    return sorted(map(repr, zip(*(found[name] for name in sorted(found)), strict=True)))


def assert_same(table, address, snapshot):
    scan = table.scan(snapshot_id=snapshot)
    expected = scan.to_arrow()
    source = open_source(f"{address}@{snapshot}")
    assert source.rows == scan.count() == expected.num_rows == count(source)
    assert rows_of(values(source)) == rows_of(expected.to_pydict())
    assert values(pickle.loads(pickle.dumps(source))) == values(source)
    counted = gpudrift.profile(f"{address}@{snapshot}")
    assert counted.digest == gpudrift.profile(scan).digest
    # Under one schema: what is fitted may depend on the order of the rows, which the library does not promise.
    assert counted.digest == gpudrift.profile(expected, schema=counted).digest
    assert counted.provenance["table"]["version"] == str(snapshot)
    assert counted.provenance["table"]["format"] == "Iceberg"


STEPS = st.lists(
    st.sampled_from(["append", "overwrite", "delete", "positions", "rename", "add", "widen"]), min_size=1, max_size=6
)


def test_a_table_with_a_history(tmp_path):
    check_history(tmp_path, ["positions", "rename", "append", "widen", "add", "delete", "overwrite"], False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Delete operation did not match any records")  # some histories delete nothing
@settings(max_examples=15, deadline=None)
@given(STEPS, st.booleans())
def test_every_snapshot_has_the_rows_that_the_library_reads(tmp_path_factory, steps, partitioned):
    check_history(tmp_path_factory.mktemp("iceberg"), steps, partitioned)


def check_history(folder, steps, partitioned):
    made = iceberg_catalog(folder)
    spec = PartitionSpec(PartitionField(4, 1000, IdentityTransform(), "day")) if partitioned else PartitionSpec()
    table = made.create_table("n.t", SCHEMA, partition_spec=spec)
    table.append(numbers(table, 0, 20))
    for at, step in enumerate(steps, 1):
        if step == "append":
            table.append(numbers(table, 20 * at, 20 * at + 9))
        elif step == "overwrite":
            table.overwrite(numbers(table, 20 * at, 20 * at + 9))
        elif step == "delete":
            table.delete(f"{table.schema().find_column_name(1)} < {at * 3}")
        elif step == "positions" and not partitioned:
            files = [task.file for task in table.scan().plan_files()]
            iceberg_deletes(table, {file.file_path: list(range(0, file.record_count, 3)) for file in files})
        elif step in ("rename", "add", "widen"):
            with table.update_schema() as change:
                if step == "rename":
                    change.rename_column(table.schema().find_column_name(2), f"renamed{at}")
                elif step == "add":
                    change.add_column(f"new{at}", StringType())
                else:
                    change.update_column(table.schema().find_column_name(1), field_type=LongType())
    address = f"iceberg:{table.location().removeprefix('file://')}"
    for snapshot in table.snapshots():
        assert_same(table, address, snapshot.snapshot_id)
    assert rows_of(values(open_source(address))) == rows_of(table.scan().to_arrow().to_pydict()), (
        "with the last columns"
    )
    made.close()


def test_rows_deleted_by_position(catalog):
    table = catalog.create_table("n.t", SCHEMA)
    table.append(numbers(table, 0, 10))
    [task] = table.scan().plan_files()
    first = iceberg_deletes(table, {task.file.file_path: [0, 9]})
    second = iceberg_deletes(table, {task.file.file_path: [5, 9], "file:///another.parquet": [1]})
    folder = table.location().removeprefix("file://")
    assert values(open_source(folder), ["n"])["n"] == [1, 2, 3, 4, 6, 7, 8]
    assert values(open_source(f"iceberg:{folder}@{first}"), ["n"])["n"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert open_source(f"iceberg://{folder}@{second}").rows == 7
    iceberg_deletes(table, {task.file.file_path: [1]}, DataFileContent.EQUALITY_DELETES)
    with pytest.raises(ValueError, match="equality deletes") as error:
        open_source(folder)
    one_line(error)


def test_names_that_files_do_not_have_are_found_by_their_numbers(catalog):
    table = catalog.create_table("n.t", SCHEMA)
    table.append(numbers(table, 0, 4))
    assert is_parquet(open_source(table))
    with table.update_schema() as change:
        change.rename_column("x", "old")
        change.rename_column("n", "x")
    source = open_source(table)
    assert not is_parquet(source)
    assert values(source, ["x", "old"]) == {"x": [0, 1, 2, 3], "old": [n / 7 for n in range(4)]}


def test_files_without_numbers_go_by_the_mapping_of_names(catalog, tmp_path):
    pq.write_table(pa.table({"x": [0.5, 1.5], "n": pa.array([1, 2], pa.int32())}), tmp_path / "plain.parquet")
    table = catalog.create_table("n.t", SCHEMA)
    table.add_files([f"file://{tmp_path}/plain.parquet"])
    with table.update_schema() as change:
        change.rename_column("x", "y")
    assert values(open_source(table), ["y", "n", "city"]) == {"y": [0.5, 1.5], "n": [1, 2], "city": [None, None]}


def test_versions_by_time_branch_and_tag(catalog):
    table = catalog.create_table("n.t", SCHEMA)
    table.append(numbers(table, 0, 3))
    first = table.current_snapshot()
    table.manage_snapshots().create_tag(first.snapshot_id, "v1").commit()
    table.append(numbers(table, 3, 7))
    address = f"iceberg:{table.location().removeprefix('file://')}"
    stamp = dt.datetime.fromtimestamp(first.timestamp_ms / 1000, dt.UTC).isoformat()
    assert [open_source(f"{address}@{at}").rows for at in ("v1", "main", stamp, "2100-01-01")] == [3, 7, 3, 7]
    for wrong, words in (
        ("v2", ["no branch or tag 'v2'"]),
        ("12", ["no snapshot 12", str(first.snapshot_id)]),
        ("2001-01-01", ["no snapshot of 2001-01-01"]),
    ):
        with pytest.raises(ValueError, match="no ") as error:
            open_source(f"{address}@{wrong}")
        one_line(error, *words)


def test_without_a_catalog_the_newest_metadata_counts_if_there_is_one(catalog):
    table = catalog.create_table("n.t", SCHEMA)
    table.append(numbers(table, 0, 3))
    early = table.metadata_location
    table.append(numbers(table, 3, 7))
    folder = Path(table.location().removeprefix("file://"))
    assert open_source(folder).rows == 7
    assert open_source(early.removeprefix("file://")).rows == open_source(f"iceberg:{early}").rows == 3
    newest = Path(table.metadata_location.removeprefix("file://"))
    other = "b" if newest.name[6] == "c" else "c"  # a digit of a random number
    shutil.copy(newest, newest.with_name(newest.name[:6] + other + newest.name[7:]))
    with pytest.raises(ValueError, match="only its catalog knows") as error:
        open_source(folder)
    one_line(error, "iceberg:")
    (folder / "metadata/version-hint.text").write_text(early.rpartition("/")[2])
    assert open_source(folder).rows == 3


def test_a_table_without_rows_and_a_scan_with_a_filter(catalog):
    table = catalog.create_table("n.t", SCHEMA)
    assert (open_source(table).rows, open_source(table).table["version"]) == (0, "none")
    table.append(numbers(table, 0, 3))
    assert [one.name for one in open_source(table.scan(selected_fields=("x",))).fields] == ["x"]
    for scan in (table.scan("n > 1"), table.scan(limit=2)):
        with pytest.raises(ValueError, match="filter or a limit") as error:
            open_source(scan)
        one_line(error)
