"""Files read by cuDF on a GPU: equal to the CPU to the bit, within the memory that was allowed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import device_tables, tables
from support.device_tables import AS_A_WHOLE_AND_IN_GROUPS, same
from support.installed import installed

import gpudrift as gd
from gpudrift.backends.cuda.device import device

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _cudf():
    installed("pylibcudf")


@pytest.mark.skipif(not tables.available(), reason="the shared tables are not here")
@pytest.mark.parametrize("name", tables.FILES)
def test_real_tables(name):
    same(str(tables.path(name)))


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("asked", AS_A_WHOLE_AND_IN_GROUPS, ids=["whole", "groups"])
def test_columns_of_every_kind(tmp_path, compression, version, asked):
    path = tmp_path / "a.parquet"
    table = device_tables.dated(30_000)
    pq.write_table(table, path, row_group_size=7_000, compression=compression, data_page_version=version)
    found = same(str(path), **asked)
    same(str(path), schema=found)


@pytest.mark.parametrize("encoding", ["DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN"])
def test_encodings(tmp_path, encoding):
    rng = np.random.default_rng(0)
    whole = pa.array(rng.integers(-(10**9), 10**9, 50_000), mask=rng.random(50_000) < 0.1)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": whole}), path, use_dictionary=False, column_encoding={"n": encoding})
    same(str(path))


def test_many_values_and_texts_that_are_none(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(device_tables.many(300_000), path, row_group_size=100_000)
    same(str(path), kinds={"code": "categorical", "text": "categorical"})
    schema = gd.fit({"s": [f"t{at}" for at in range(5_000)]}, kinds={"s": "categorical"})
    pq.write_table(pa.table({"s": device_tables.not_utf8(50_000, b"\xe2\x82")}), path)
    assert same(str(path), schema=schema).skipped == {"s": "a text is not valid UTF-8"}


def test_frames_of_cudf(tmp_path):
    cudf = installed("cudf")
    table = device_tables.everything(20_000).select(["x", "f", "n", "u", "t", "text", "large", "flag", "a.b"])
    frame = cudf.DataFrame.from_arrow(table)
    frame["coded"] = frame["text"].astype("category")
    host = table.append_column("coded", table.column("text").dictionary_encode())
    assert gd.profile(frame) == gd.profile(host)
    assert gd.profile(frame.iloc[13:9_000]) == gd.profile(host.slice(13, 8_987))


@pytest.mark.parametrize("rows", [1_000_000, 100_000_000])
def test_long_tables_within_the_budget(tmp_path, monkeypatch, rows):
    """The peak that RMM and CuPy record together is below what was allowed, however long the table is."""
    rmm = installed("rmm")
    path = str(tmp_path / "a.parquet")
    rng = np.random.default_rng(0)
    step = min(rows, 10_000_000)
    fields = pa.schema({"x": pa.float32(), "n": pa.int32()})
    with pq.ParquetWriter(path, fields, compression="snappy") as writer:
        for _ in range(0, rows, step):
            arrays = [rng.normal(size=step).astype(np.float32), rng.integers(0, 10**6, step, dtype=np.int32)]
            writer.write_table(pa.table(arrays, schema=fields), row_group_size=1_000_000)
    before = rmm.mr.get_current_device_resource()
    told = rmm.mr.StatisticsResourceAdaptor(rmm.mr.CudaAsyncMemoryResource())
    monkeypatch.setattr(device(), "budget", 256 << 20)
    rmm.mr.set_current_device_resource(told)
    try:
        found = gd.profile(path, backend="cuda")
    finally:
        rmm.mr.set_current_device_resource(before)
    assert told.allocation_counts.peak_bytes <= 256 << 20
    assert found == gd.profile(path, backend="numba")
