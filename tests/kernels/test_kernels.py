"""The CUDA kernels, run on the CPU: equal to NumPy to the bit, in every order of threads, and the proof can fail."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import emulated_gpu, reference, strategies
from support.emulated_gpu import count_on
from support.zoo import ZOO

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.backends.cuda.launch import STORED, Counters, device_values
from gpudrift.backends.cuda.layout import shared_bytes
from gpudrift.backends.cuda.staging import SlabPool, Stager
from gpudrift.columns.conversion import NumericValues
from gpudrift.columns.schema import MAX_BINS, SPECIAL_SLOTS, Column, Schema
from gpudrift.counts.profiles import Profile

MORE = settings(deadline=None, max_examples=75)
ORDERS = {"forward": emulated_gpu.FORWARD, "reverse": emulated_gpu.REVERSE, "shuffled": emulated_gpu.SHUFFLED}
BUDGET = 1 << 20


COMPILED = {
    "as CuPy compiles": (emulated_gpu.H200, emulated_gpu.FLUSH),
    "without flushing": (emulated_gpu.H200,),
    "sm_86": (emulated_gpu.RTX, emulated_gpu.FLUSH),
    "sm_75": (emulated_gpu.T4,),
}
"""The kernels as devices get them; those of sm_90 with and without flush to zero of what C++ does with float32."""
USUAL, *OTHERS = COMPILED
WAYS = [USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@pytest.fixture(params=WAYS, scope="session")
def library(request, tmp_path_factory) -> Path:
    memory, *options = COMPILED[request.param]
    return emulated_gpu.shared(tmp_path_factory, *options, room=memory)


def count(table: pa.Table, schema: Schema, library: Path, order: str = "forward", budget: int = BUDGET) -> Profile:
    return count_on(emulated_gpu.EmulatedDevice(library, ORDERS[order]), table, schema, budget)


def expected(table: pa.Table, schema: Schema, backend: str = "numpy") -> Profile:
    return load_backend(backend)(table.to_batches(), schema)


def same(found: Profile, wanted: Profile) -> bool:
    return (
        np.array_equal(found.counts, wanted.counts)
        and np.array_equal(found.sums, wanted.sums)
        and np.array_equal(found.low, wanted.low)
        and np.array_equal(found.high, wanted.high)
        and found == wanted
    )


# --- equal to the other backends ---------------------------------------------------------------------------------


@st.composite
def tables_of_a_schema(draw):
    first = draw(strategies.tables(max_rows=80))
    return gd.fit(first), [first, draw(strategies.like(first, 80))]


@MORE
@given(given_tables=tables_of_a_schema(), order=st.sampled_from(list(ORDERS)))
def test_every_type_equals_numpy(library, given_tables, order):
    schema, tables = given_tables
    for table in tables:
        found = count(table, schema, library, order)
        assert same(found, expected(table, schema))
        assert same(found, expected(table, schema, "numba"))


@MORE
@given(data=st.data(), family=st.sampled_from(["real", "integer"]))
def test_values_at_edges_equal_the_plain_loop(library, data, family):
    types = [pa.float64(), pa.float32(), pa.float16()] if family == "real" else [pa.int64(), pa.int8(), pa.uint16()]
    table = data.draw(strategies.tables(types=types, max_columns=1, max_rows=60))
    rows = table["c0"].to_pylist()
    edges = strategies.full_edges(data.draw(strategies.edges(family, near=[x for x in rows if x is not None])), family)
    column = Column("c0", family, "float" if family == "real" else "integer", None, edges)
    counter = reference.count_real if family == "real" else reference.count_integer
    wanted = counter([0 if x is None else x for x in rows], [x is not None for x in rows], edges.tolist())
    found = count(table, Schema((column,)), library)["c0"]
    assert found.counts.tolist() == wanted.bins
    assert [found.special[slot] for slot in SPECIAL_SLOTS] == list(wanted.specials.values())
    assert found.sums.tolist() == wanted.sums
    assert (found.low, found.high) == (wanted.low, wanted.high)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_equals_numpy(library, name, order):
    reference_rows, current = ZOO[name](np.random.default_rng(2), 20_000)
    schema = gd.fit({"x": reference_rows})
    table = pa.table({"x": pa.array(current)})
    assert same(count(table, schema, library, order), expected(table, schema))


def skewed(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    normal = rng.normal(size=rows)
    return {
        "normal": normal,
        "constant": np.full(rows, 7.25),
        "one bin": np.where(rng.random(rows) < 0.9, rng.uniform(0.5, 0.5 + 1e-6, rows), normal),
        "sorted": np.sort(normal),
        "zipf": np.minimum(rng.zipf(1.5, rows), 10**9).astype(np.float64),
        "nan": np.where(rng.random(rows) < 0.5, np.nan, normal),
    }


@pytest.mark.parametrize("order", ORDERS)
def test_skewed_columns_longer_than_a_flush(library, order):
    columns = skewed(300_000)
    schema = gd.fit({name: np.random.default_rng(0).normal(size=10_000) for name in columns})
    table = pa.table(columns)
    found = count(table, schema, library, order, budget=64 << 20)
    assert same(found, expected(table, schema))


INT32 = np.iinfo(np.int32)


@MORE
@given(data=st.data())
def test_edges_that_a_narrow_type_does_not_have(library, data):
    """Integers of 32 bits against edges of 64, at their limits and beyond; float32 between and beyond its numbers."""
    near = [INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max]
    integers = st.sampled_from(near) | st.integers(INT32.min, INT32.max)
    wide = st.sampled_from([*near, INT32.min - 1, INT32.max + 1, 2**40, -(2**40), 2**63 - 2]) | integers
    single = st.floats(width=32, allow_nan=False, allow_infinity=False)
    real = st.floats(allow_nan=False, allow_infinity=False) | single.map(lambda x: float(np.nextafter(x, np.inf)))
    largest = float(np.finfo(np.float32).max)
    kinds = [
        ("integer", "int32", integers, wide, [INT32.min, INT32.max]),
        ("real", "float32", single, real | single, [-largest, largest, 1e-45, -0.0]),
    ]
    family, dtype, values, inner, always = data.draw(st.sampled_from(kinds))
    edges = data.draw(st.lists(inner, min_size=1, max_size=40))
    rows = np.array([*always, *data.draw(st.lists(values, max_size=60))], dtype)
    full = strategies.full_edges(np.array(edges, np.int64 if family == "integer" else np.float64), family)
    schema = Schema((Column("x", family, "integer" if family == "integer" else "float", None, full),))
    table = pa.table({"x": rows})
    assert same(count(table, schema, library), expected(table, schema))


# --- steps -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_step_and_any_slice_gives_the_same(library, data):
    rows = data.draw(st.integers(1, 5_000))
    rng = np.random.default_rng(rows)
    whole = pa.table(
        {
            "a": pa.array(rng.normal(size=rows).astype(np.float32), mask=rng.random(rows) < 0.2),
            "b": pa.array(rng.integers(-100, 100, rows), mask=rng.random(rows) < 0.5),
            "c": pa.array(rng.normal(size=rows)),
        }
    )
    start = data.draw(st.integers(0, rows))
    table = whole.slice(start, data.draw(st.integers(0, rows - start)))
    schema = gd.fit(whole)
    device = emulated_gpu.EmulatedDevice(library)
    size = data.draw(st.integers(128, 20_000))
    smallest, SlabPool.smallest = SlabPool.smallest, 128
    try:
        found = count_on(device, table, schema, 2 * size)
    finally:
        SlabPool.smallest = smallest
    assert same(found, expected(table, schema))


def test_a_smaller_step_where_memory_is_short(library):
    table = pa.table({"a": np.random.default_rng(0).normal(size=100_000)})
    schema = gd.fit(table)
    device = emulated_gpu.EmulatedDevice(library, memory=300_000)
    assert same(count_on(device, table, schema, 1 << 30), expected(table, schema))
    launches = [one for one in device.launched if one[0] == "gd_count_float64"]
    assert len(launches) > 4
    starved = emulated_gpu.EmulatedDevice(library, memory=1_000)
    with pytest.raises(MemoryError):
        count_on(starved, table, schema, 1 << 30)


def test_columns_of_a_type_share_a_launch(library):
    rng = np.random.default_rng(0)
    table = pa.table({f"c{at}": rng.normal(size=1_000).astype(np.float32) for at in range(40)})
    schema = gd.fit(table)
    device = emulated_gpu.EmulatedDevice(library)
    assert same(count_on(device, table, schema, BUDGET), expected(table, schema))
    grids = [one[1] for one in device.launched if one[0] == "gd_count_float32"]
    assert [columns for _, columns, _ in grids] == [40]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_the_most_bins_fit_the_shared_memory_of_every_architecture(library, dtype):
    """sm_75 has 64 KiB a block, sm_86 and sm_120 99, sm_90 and sm_100 227."""
    inner, values = np.random.default_rng(0).normal(size=MAX_BINS - 3), np.random.default_rng(1).normal(size=200_000)
    unit = 1e8 if dtype.startswith("int") else 1.0
    table = pa.table({"x": (unit * values).astype(dtype)})
    schema = gd.fit(table, edges={"x": np.unique((unit * inner).astype(dtype))})
    assert schema.columns[0].bins > 3000
    device = emulated_gpu.EmulatedDevice(library)
    assert same(count_on(device, table, schema, 16 << 20), expected(table, schema))
    assert max(shared for _, _, _, shared in device.launched) <= device.shared_memory.block


def test_narrow_columns_take_little_shared_memory(library):
    values = np.random.default_rng(0).normal(size=10_000)
    schema = gd.fit({"x": values}, edges={"x": [-1.0, 0.0, 1.0]})
    device = emulated_gpu.EmulatedDevice(library)
    assert same(count_on(device, pa.table({"x": values}), schema, BUDGET), expected(pa.table({"x": values}), schema))
    assert max(shared for _, _, _, shared in device.launched) < 4 << 10


@pytest.mark.parametrize("copies", [1, 2, 8, 32])
@pytest.mark.parametrize("threads", [32, 64, 256, 512])
def test_any_block_and_number_of_copies(library, monkeypatch, threads, copies):
    monkeypatch.setattr("gpudrift.backends.cuda.launch.THREADS", threads)
    monkeypatch.setattr("gpudrift.backends.cuda.layout.COPIES", copies)
    table = pa.table(skewed(70_000))
    schema = gd.fit(table)
    assert same(count(table, schema, library, "shuffled"), expected(table, schema))


def test_values_that_lie_on_the_device_already(library):
    values = np.random.default_rng(0).normal(size=100_001)
    schema = gd.fit({"x": values})
    device = emulated_gpu.EmulatedDevice(library)
    counters = Counters(device, schema)
    held = device.array(values)
    # Not from a boundary of 16 bytes, and in two pieces.
    starts = [held.pointer + 8, held.pointer + 8 * 50_001]
    counters.add(device_values([(0, "float64", 50_000, start, 0, 0, False) for start in starts]))
    counts, sums, low, high = counters.read()
    wanted = expected(pa.table({"x": values[1:]}), schema)
    assert np.array_equal(counts[0], wanted.counts)
    assert np.array_equal(sums[0], wanted.sums)
    assert np.array_equal([low[0], high[0]], [wanted.low, wanted.high])


def test_more_rows_than_a_32_bit_counter_add_up(library):
    """Totals are 64 bits: what 2**33 rows would leave is there before the last of them are counted."""
    schema = gd.fit({"x": np.arange(100.0)})
    device = emulated_gpu.EmulatedDevice(library)
    counters = Counters(device, schema)
    counters.counts.contents.view(np.int64)[:] = 2**33
    counters.sums.contents.view(np.int64)[:] = 2**47
    with SlabPool(device, BUDGET).pair() as slabs:
        stager = Stager(counters, slabs)
        stager.add(0, "float64", NumericValues(np.full(1_000, 5.0), None))
        stager.flush()
    counts, _, _, _ = counters.read()
    assert counts.max() == 2**33 + 1_000
    assert np.sort(counts[0])[-2] == 2**33


# --- groups ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(data=st.data(), order=st.sampled_from(list(ORDERS)))
def test_each_group_equals_its_rows_alone(library, data, order):
    ends = np.cumsum(data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=12)))
    rows = int(ends[-1])
    rng = np.random.default_rng(rows)
    table = pa.table(
        {
            "a": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.2),
            "b": pa.array(rng.integers(-5, 5, rows).astype(np.int16)),
        }
    )
    schema = gd.fit({"a": rng.normal(size=500), "b": rng.integers(-6, 6, 500).astype(np.int16)})
    device = emulated_gpu.EmulatedDevice(library, ORDERS[order])
    counters = Counters(device, schema, groups=ends.size)
    columns = [table.column(at).combine_chunks() for at in range(2)]
    held = [device.array(np.frombuffer(one.buffers()[1], np.uint8)) for one in columns if rows]
    mask = columns[0].buffers()[0] if rows else None
    bitmap = device.array(np.frombuffer(mask, np.uint8)) if mask else None
    starts = np.concatenate([[0], ends]).astype(np.int64)
    if rows:
        values = [
            (0, "float64", rows, held[0].pointer, bitmap.pointer if bitmap else 0, 0, False),
            (1, "int16", rows, held[1].pointer, 0, 0, False),
        ]
        counters.add(device_values(values), groups=starts)
    counts, sums, low, high = counters.read()
    assert counts.shape == (ends.size, schema.slots)
    for number, (start, stop) in enumerate(pairwise(starts.tolist())):
        wanted = expected(table.slice(start, stop - start), schema)
        assert np.array_equal(counts[number], wanted.counts)
        assert np.array_equal(sums[number], wanted.sums)
        assert np.array_equal(low[number], wanted.low)
        assert np.array_equal(high[number], wanted.high)


def test_more_groups_than_a_grid_has(library, monkeypatch):
    monkeypatch.setattr("gpudrift.backends.cuda.launch.MOST_GROUPS", 7)
    values = np.random.default_rng(0).normal(size=400)
    schema = gd.fit({"x": values})
    device = emulated_gpu.EmulatedDevice(library)
    counters = Counters(device, schema, groups=40)
    held = device.array(values)
    counters.add(device_values([(0, "float64", 400, held.pointer, 0, 0, False)]), groups=np.arange(0, 401, 10))
    counts = counters.read()[0]
    assert [int(one.sum()) for one in counts] == [10] * 40
    assert np.array_equal(counts[17], expected(pa.table({"x": values[170:180]}), schema).counts)
    assert len([one for one in device.launched if one[0] == "gd_count_float64"]) == 6


# --- layouts -----------------------------------------------------------------------------------------------------


def test_shared_memory_is_as_large_as_it_is_said_to_be():
    words = 4 * 9 + 4 * 3 + 4 * 8 + 4 * 6
    assert shared_bytes(bins=3, cells=9, copies=2, narrow=False) == 8 * 4 + words
    assert shared_bytes(bins=3, cells=9, copies=2, narrow=True) == 12 * 4 + words
    assert shared_bytes(bins=3, cells=9, copies=2, narrow=False, scales=False) == 8 * 4 + words - 4 * 3


def test_a_bin_fits_the_guide():
    text = (emulated_gpu.KERNELS / "slots.cuh").read_text()
    assert "GD_BIN_MASK = 0xFFF" in text
    assert MAX_BINS <= 0xFFF


def test_there_is_a_kernel_for_every_stored_type():
    text = (emulated_gpu.KERNELS / "count.cu").read_text()
    assert {name for name in STORED if f"GD_KERNEL({name}," in text} == set(STORED)
    assert text.count("\nGD_KERNEL(") == len(STORED)
