"""The contract of the backends on a real GPU: equal to NumPy and Numba to the bit.

``pytest -m gpu --require-gpu`` runs these, and fails where there is no GPU. Without the option they are skipped there;
tests/kernels and the other files of this folder run the same kernels on the CPU everywhere.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies
from support.installed import installed
from support.numbered import counted, groups_of, orders
from support.zoo import ZOO

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.backends.cuda.device import device
from gpudrift.backends.cuda.groups import CounterRoom
from gpudrift.backends.cuda.launch import Counters, device_values
from gpudrift.bench.shapes import SHAPES, column_of
from gpudrift.columns.device import DeviceBatch, device_column
from gpudrift.columns.schema import MAX_BINS, Schema
from gpudrift.counts.profiles import Profile

pytestmark = pytest.mark.gpu


def same_everywhere(table: pa.Table, schema: Schema) -> Profile:
    found = load_backend("cuda")(table.to_batches(), schema)
    for backend in ("numba", "numpy"):
        wanted = load_backend(backend)(table.to_batches(), schema)
        assert np.array_equal(found.counts, wanted.counts)
        assert np.array_equal(found.sums, wanted.sums)
        assert found == wanted
    return found


@settings(deadline=None, max_examples=200)
@given(first=strategies.tables(max_rows=80), data=st.data())
def test_tables_of_every_type(first, data):
    schema = gd.fit(first)
    for table in (first, data.draw(strategies.like(first, 80))):
        same_everywhere(table, schema)


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name):
    reference, current = ZOO[name](np.random.default_rng(2), 300_000)
    same_everywhere(pa.table({"x": pa.array(current)}), gd.fit({"x": reference}))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_ten_million_rows(shape, dtype):
    values = column_of(shape, dtype, 10_000_000)
    same_everywhere(pa.table({"x": values}), gd.fit({"x": values}))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integers_with_nulls(dtype):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, 3_000_001, dtype=dtype, endpoint=True)
    table = pa.table({"x": pa.array(values, mask=rng.random(values.size) < 0.3)})
    same_everywhere(table.slice(3), gd.fit(table))


def test_subnormals_of_float32():
    """CuPy compiles with -ftz=true: what C++ did with them would be zero."""
    tiny = np.arange(1, 20_001, dtype=np.uint32).view(np.float32)
    values = np.concatenate([tiny, -tiny, np.float32([0.0, -0.0, 1.1754944e-38])])
    same_everywhere(pa.table({"x": values}), gd.fit({"x": values}))


@pytest.mark.parametrize(
    ("dtype", "edges"), [("int32", [-(2**31), 5, 2**31 - 1, 2**31, 2**40]), ("float32", [0.1, 1e39])]
)
def test_edges_that_a_narrow_type_does_not_have(dtype, edges):
    rng = np.random.default_rng(0)
    largest = np.iinfo(dtype).max if dtype == "int32" else np.finfo(dtype).max
    values = rng.integers(-100, 100, 1_000_000).astype(dtype)
    values[:4] = [largest, -largest, largest, 0]
    table = pa.table({"x": values})
    same_everywhere(table, gd.fit(table, edges={"x": edges}))


def test_the_most_bins():
    inner = np.sort(np.random.default_rng(0).normal(size=MAX_BINS - 3))
    table = pa.table({"x": np.random.default_rng(1).normal(size=2_000_000)})
    same_everywhere(table, gd.fit(table, edges={"x": inner}))


def test_columns_in_gpu_memory():
    cupy = installed("cupy")
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(500_000, 4)).astype(np.float32)
    there = cupy.asarray(matrix)
    host = {f"c{at}": matrix[:, at] for at in range(4)} | {"whole": rng.integers(0, 99, 500_000)}
    device = {f"c{at}": there[:, at] for at in range(4)} | {"whole": cupy.asarray(host["whole"])}
    found = gd.profile(device)
    assert found.provenance["backend"] == "cuda"
    assert found == gd.profile(host)


def test_cudf_columns():
    cudf = installed("cudf")
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=100_000), mask=rng.random(100_000) < 0.2),
            "n": pa.array(rng.integers(0, 9, 100_000)),
            "t": pa.array(rng.integers(0, 10**15, 100_000).astype("M8[us]")),
            "s": pa.array(["a", "b", None, "c"] * 25_000),
        }
    )
    assert gd.profile(cudf.DataFrame.from_arrow(table)) == gd.profile(table)


def test_many_columns_on_many_threads():
    rng = np.random.default_rng(0)
    table = pa.table({f"c{at}": rng.normal(size=200_000) for at in range(200)})
    assert gd.profile(table, backend="cuda") == gd.profile(table)


def test_more_rows_than_32_bits_hold():
    """The same million values, so many times: counts and sums add up."""
    values = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    schema = gd.fit({"x": values})
    counters, held, times = Counters(device(), schema), device().array(values), 5_000
    one = [(0, "float32", values.size, held.pointer, 0, 0, False)]
    for _ in range(times // 50):
        counters.add(device_values(one * 50))
    counts, sums, _, _ = counters.read()
    wanted = gd.profile({"x": values}, schema=schema)
    assert np.array_equal(counts[0], wanted.counts * times)
    assert np.array_equal(sums[0], wanted.sums * times)


@pytest.mark.parametrize("order", ["ascending", "any"])
def test_groups_in_any_order_and_with_room_for_few(order):
    cupy = installed("cupy")
    rng = np.random.default_rng(0)
    rows = 3_000_000
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
            "f": pa.array(rng.gamma(2, size=rows).astype(np.float32)),
            "n": pa.array(rng.integers(-9, 9, rows).astype(np.int16), mask=rng.random(rows) < 0.5),
        }
    )
    schema = gd.fit(table)
    (batch,) = table.combine_chunks().to_batches()
    columns = []
    for array in batch.columns:
        values = cupy.asarray(np.frombuffer(array.buffers()[1], array.type.to_pandas_dtype()))
        mask = array.buffers()[0]
        own = device_column(values, device())
        bitmap = None if mask is None else cupy.asarray(np.frombuffer(mask, np.uint8))
        columns.append(own if bitmap is None else replace(own, validity=bitmap.data.ptr, owner=(values, bitmap)))
    device().synchronize()
    there = DeviceBatch(columns, batch.schema)
    groups = orders(rng, rows, 3_000)[order]
    wanted = counted(groups_of("numba", schema), [(batch, groups, 3_000)])
    for own in (batch, there):
        state = groups_of("cuda", schema)
        assert counted(state, [(own, groups, 3_000)]) == wanted
        state = groups_of("cuda", schema)
        state.room = CounterRoom(700 * state.bytes)
        assert counted(state, [(own, groups, 3_000)]) == wanted
