"""Tables of lakes on a cluster: the workers read the files, and the counts are those of threads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from support.lakes import delta_by_hand, iceberg_catalog, iceberg_deletes

import gpudrift


def test_delta_on_a_cluster(client, tmp_path, monkeypatch):
    rows = pa.table({"x": np.linspace(0, 1, 999), "day": np.arange(999) % 3})
    write_deltalake(str(tmp_path / "t"), rows, partition_by=["day"])
    write_deltalake(str(tmp_path / "t"), rows, mode="append")
    DeltaTable(tmp_path / "t").delete("x < 0.25")
    monkeypatch.chdir(tmp_path)
    for address in ("t", "delta:t@0", "delta:t@2", f"delta://{tmp_path}/t@1"):
        here, there = gpudrift.profile(address), gpudrift.profile(address, client=client)
        assert here.digest == there.digest
        assert here.provenance["table"] == there.provenance["table"]
        assert here.provenance["fingerprint"] == there.provenance["fingerprint"]
    table = DeltaTable(tmp_path / "t", version=1)
    on_cluster = gpudrift.profile(table, client=client)
    assert on_cluster.digest == gpudrift.profile(table).digest
    assert "cluster" in on_cluster.provenance, "also of a table that cannot be pickled"


def test_deletes_and_names_on_a_cluster(client, tmp_path):
    table = pa.table({"c1": pa.array(range(40), pa.int32()), "c2": [f"t{n % 3}" for n in range(40)]})
    folder = delta_by_hand(
        str(tmp_path / "t"),
        [("a.parquet", table, {}, [0, 7, 8, 39]), ("b.parquet", table, {}, [])],
        [("n", "long", "c1"), ("s", "string", "c2")],
        features=["columnMapping", "deletionVectors"],
        mode="name",
    )
    counted = gpudrift.profile(folder, client=client)
    assert counted.rows == 76
    assert counted.digest == gpudrift.profile(folder).digest

    catalog = iceberg_catalog(tmp_path)
    iceberg = catalog.create_table("n.t", schema=table.schema)
    iceberg.append(table)
    [task] = iceberg.scan().plan_files()
    iceberg_deletes(iceberg, {task.file.file_path: [1, 2, 3]})
    counted = gpudrift.profile(iceberg, client=client)
    assert counted.rows == 37
    assert counted.digest == gpudrift.profile(iceberg.location().removeprefix("file://")).digest
    catalog.close()


def test_a_table_without_files_and_an_empty_path(client, tmp_path):
    DeltaTable.create(str(tmp_path / "t"), schema=pa.schema([("x", pa.float64())]))
    assert gpudrift.profile(tmp_path / "t", client=client).rows == 0
