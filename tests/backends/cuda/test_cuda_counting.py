"""What the kernels count of a whole and of its groups, on the CPU: equal to the other backends in any order of rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import emulated_gpu, fake_cupy, strategies
from support.emulated_gpu import replaced
from support.numbered import Batch, batches_of, counted, groups_of, orders

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.backends.counters import State
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda import groups as cuda_groups
from gpudrift.backends.cuda.groups import CounterRoom, DeviceGroupState
from gpudrift.backends.cuda.launch import take_bits, take_rows
from gpudrift.backends.cuda.staging import SlabPool
from gpudrift.backends.numba import NumbaKernels
from gpudrift.columns.device import DeviceBatch, DeviceColumn, device_column
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile

quietly = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(
    schema: Schema, batches: Sequence[Batch], *, there: Sequence[Batch] | None = None, state: State | None = None
) -> GroupedProfile:
    """What CUDA counts of the groups, which equals what the others do; ``there`` are the same batches for it."""
    own = state or groups_of("cuda", schema)
    assert isinstance(own, DeviceGroupState)
    found = counted(own, there or batches)
    for backend in ("numpy", "numba"):
        wanted = counted(groups_of(backend, schema), batches)
        assert np.array_equal(found.counts, wanted.counts)
        assert np.array_equal(found.sums, wanted.sums)
        assert np.array_equal(found.low, wanted.low)
        assert np.array_equal(found.high, wanted.high)
        assert found == wanted
        assert found.digest == wanted.digest
    return found


def also_as_a_whole(
    schema: Schema, batches: Sequence[Batch], *, there: Sequence[Batch] | None = None
) -> GroupedProfile:
    """The same, of the groups and of all rows as one group, which is the sum of the groups."""
    found = same(schema, batches, there=there)
    whole = load_backend("cuda")([batch for batch, _, _ in there or batches], schema)
    wanted = load_backend("numpy")([batch for batch, _, _ in batches], schema)
    assert np.array_equal(whole.counts, wanted.counts)
    assert np.array_equal(whole.sums, wanted.sums)
    assert whole == wanted == found.total()
    assert (whole.skipped, whole.findings) == (wanted.skipped, wanted.findings)
    return found


# --- the same result ---------------------------------------------------------------------------------------------


@quietly
@given(first=strategies.tables(max_rows=60), data=st.data())
def test_tables_of_every_type_equal_the_cpu(cupy, first, data):
    schema = gd.fit(first)
    other = data.draw(strategies.like(first, 60))
    for table in (first, other):
        also_as_a_whole(schema, data.draw(batches_of(table)))


@pytest.mark.parametrize("type_", strategies.TYPES, ids=str)
def test_each_type(cupy, type_):
    @settings(deadline=None, max_examples=3)
    @given(table=strategies.tables([type_], min_rows=1, max_rows=60, max_columns=2), data=st.data())
    def check(table, data):
        also_as_a_whole(gd.fit(table), data.draw(batches_of(table)))

    check()


def test_names_that_are_missing_and_columns_that_change_their_type(cupy):
    rng = np.random.default_rng(0)
    schema = gd.fit({"x": rng.normal(size=99), "n": rng.integers(0, 9, 99), "t": np.arange(99).astype("M8[s]")})
    batches = [
        {"x": rng.normal(size=20), "n": rng.integers(0, 9, 20), "t": np.arange(20).astype("M8[s]")},
        {"n": rng.integers(0, 9, 20).astype(np.int16), "other": np.arange(20)},
        {"x": rng.normal(size=20).astype(np.float32), "n": rng.normal(size=20)},
        {"x": rng.normal(size=20), "t": (1_000 * np.arange(20)).astype("M8[ms]")},
        {"x": ["a"] * 20, "t": np.arange(20).astype("M8[s]")},
    ]
    made = [
        (pa.RecordBatch.from_pydict({name: pa.array(own) for name, own in one.items()}), rng.integers(0, 5, 20), 5)
        for one in batches
    ]
    found = also_as_a_whole(schema, [(batch, groups.astype(np.int32), known) for batch, groups, known in made])
    assert set(found.skipped) == {"n", "x"}
    assert found.counts[:, schema.offsets[1] : schema.offsets[2]].sum() == 0


def test_infinities_and_gaps_of_floats_in_a_column_of_integers(cupy):
    rng = np.random.default_rng(0)
    schema = gd.fit({"n": rng.integers(0, 50, 500)})
    values = rng.integers(0, 50, 500).astype(float)
    values[::7], values[::11], values[::13] = np.nan, np.inf, -np.inf
    array = pa.array(values, mask=rng.random(500) < 0.1)
    batch = pa.RecordBatch.from_arrays([array.slice(3)], names=["n"])
    found = also_as_a_whole(schema, [(batch, rng.integers(0, 40, 497).astype(np.int32), 40)])
    special = found.counts.sum(axis=0)[-5:]
    assert np.array_equal(special > 0, [True, True, False, True, False])


# --- columns on the device ---------------------------------------------------------------------------------------


def matrix(rows: int, seed: int = 0) -> tuple[dict[str, fake_cupy.Array], dict[str, pa.Array]]:
    """Columns of all the ways in which one may lie on a device, and the same for the host."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 3)).astype(np.float32)
    valid, shift = rng.random(rows) < 0.7, int(rng.integers(0, 9))
    padded = np.concatenate([rng.random(shift) < 0.5, valid])
    whole = {name: rng.integers(0, 100, rows).astype(name) for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4")}
    large = rng.integers(0, 2**64, rows, dtype=np.uint64)
    half, flag = rng.normal(size=rows).astype(np.float16), rng.random(rows) < 0.5
    when = rng.integers(0, 10**9, rows).astype("M8[s]")
    bits = fake_cupy.Array(np.concatenate([np.zeros(shift), values[:, 0]]), np.packbits(padded, bitorder="little"))
    there = {
        "column of a matrix": fake_cupy.Array(values[:, 1]),
        "backwards": fake_cupy.Array(values[::-1, 2]),
        "masked": bits,
        "u8": fake_cupy.Array(large),
        "f8": fake_cupy.Array(values.astype(np.float64)[:, 2]),
        "f2": fake_cupy.Array(half),
        "flag": fake_cupy.Array(flag),
        "when": fake_cupy.Array(when),
        **{name: fake_cupy.Array(own) for name, own in whole.items()},
    }
    host = {
        "column of a matrix": pa.array(values[:, 1]),
        "backwards": pa.array(values[::-1, 2]),
        "masked": pa.array(values[:, 0].astype(np.float64), mask=~valid),
        "u8": pa.array(large),
        "f8": pa.array(values[:, 2].astype(np.float64)),
        "f2": pa.array(half),
        "flag": pa.array(flag),
        "when": pa.array(when),
        **{name: pa.array(own) for name, own in whole.items()},
    }
    made = {name: device_column(own, cuda.device()) for name, own in there.items()}
    assert all(isinstance(one, DeviceColumn) for one in made.values())
    made["masked"] = made["masked"].slice(shift, shift + rows)
    return made, host


def both(
    rows: int, seed: int = 0, *, mixed: bool = False, names: Sequence[str] | None = None
) -> tuple[DeviceBatch, pa.RecordBatch]:
    made, host = matrix(rows, seed)
    host = host if names is None else {name: host[name] for name in names}
    if mixed:
        made |= {name: host[name] for name in ("masked", "i2", "flag", "f2") if name in host}
    fields = pa.schema([pa.field(name, one.type) for name, one in host.items()])
    return DeviceBatch([made[name] for name in host], fields), pa.RecordBatch.from_arrays(
        list(host.values()), schema=fields
    )


@quietly
@given(
    data=st.data(),
    mixed=st.booleans(),
    rows=st.integers(1, 300),
    order=st.sampled_from(list(orders(np.random.default_rng(0), 1, 1))),
)
def test_columns_on_the_device(cupy, data, mixed, rows, order):
    there, here = both(rows, rows, mixed=mixed)
    schema = gd.fit(pa.table([both(500)[1].column(at) for at in range(here.num_columns)], schema=here.schema))
    groups = orders(np.random.default_rng(rows), rows, data.draw(st.integers(1, 40)))[order]
    cut = data.draw(st.integers(0, rows))
    parts = [(0, cut), (cut, rows - cut)]
    known = int(groups.max()) + 1
    also_as_a_whole(
        schema,
        [(here.slice(*one), groups[one[0] : sum(one)], known) for one in parts],
        there=[(there.slice(*one), groups[one[0] : sum(one)], known) for one in parts],
    )


def test_any_backend_counts_them(cupy, monkeypatch):
    monkeypatch.setattr("gpudrift.backends.counters.MOST_PACKED", 64)  # long batches are cut
    there, here = both(300, mixed=True)
    schema = gd.fit(pa.Table.from_batches([here]))
    groups = orders(np.random.default_rng(1), 300, 7)["any"]
    wanted = same(schema, [(here, groups, 7)], there=[(there, groups, 7)])
    for backend in ("numpy", "numba"):
        assert counted(groups_of(backend, schema), [(there, groups, 7)]) == wanted


def test_rows_in_order_stay_where_they_are(cupy):
    there, here = both(400)
    schema = gd.fit(pa.Table.from_batches([here]))
    ordered = orders(np.random.default_rng(0), 400, 9)
    for order, takes in (("ascending", 3), ("any", 14)):
        cupy.told.clear()
        same(schema, [(here, ordered[order], 9)], there=[(there, ordered[order], 9)])
        names = [name for name, _, _ in cupy.told]
        assert names.count("gd_take") == takes  # the three that are not packed; all that numbers are in
        assert names.count("gd_take_bits") == (order == "any")


def test_one_launch_for_all_groups_of_the_columns_of_a_type(cupy):
    rng = np.random.default_rng(0)
    values = {f"c{at}": rng.normal(size=2_000) for at in range(20)}
    schema, here = gd.fit(values), pa.RecordBatch.from_pydict(values)
    there = DeviceBatch([device_column(fake_cupy.Array(own), cuda.device()) for own in values.values()], here.schema)
    groups = rng.integers(0, 30, 2_000).astype(np.int32)
    for batch in (here, there):
        cupy.told.clear()
        same(schema, [(here, groups, 30)], there=[(batch, groups, 30)])
        assert [grid for name, grid, _ in cupy.told if name == "gd_count_float64"] == [(1, 20, 30)]


def test_columns_are_put_in_order_a_few_at_a_time(cupy, monkeypatch):
    monkeypatch.setattr(cuda_groups, "MOST_TAKEN", 5_000)
    there, here = both(400)
    schema = gd.fit(pa.Table.from_batches([here]))
    groups = orders(np.random.default_rng(0), 400, 9)["any"]
    same(schema, [(here, groups, 9)], there=[(there, groups, 9)])


@quietly
@given(data=st.data(), rows=st.integers(0, 200), size=st.sampled_from([1, 2, 3, 4, 8, 16]))
def test_chosen_rows_and_bits(library, data, rows, size):
    device = emulated_gpu.EmulatedDevice(library)
    stride, first = size * data.draw(st.integers(1, 3)) + data.draw(st.integers(0, 1)), data.draw(st.integers(0, 9))
    rng = np.random.default_rng(rows)
    source = rng.integers(0, 256, (64, stride), dtype=np.uint8)
    chosen = rng.integers(0, 64, rows)
    held, which = device.array(source), device.array(chosen)
    taken = take_rows(device, held.pointer, size, stride, rows, which).read()
    assert np.array_equal(taken.reshape(rows, size), source[chosen, :size])
    bits = np.unpackbits(source, bitorder="little")[first:]
    picked = np.packbits(bits[chosen], bitorder="little")
    assert np.array_equal(take_bits(device, held.pointer, first, rows, which).read(), picked)


# --- places ------------------------------------------------------------------------------------------------------


def test_places_grow_and_come_to_the_host(cupy):
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=4_000), "n": rng.integers(0, 9, 4_000).astype(np.int8)})
    schema = gd.fit(table)
    state = groups_of("cuda", schema)
    fetched: list[int] = []
    groups = (np.arange(4_000) // 40).astype(np.int32)
    batches = [(one, groups[at * 100 :][:100], at * 100 // 40 + 3) for at, one in enumerate(table.to_batches(100))]
    whole = state._fetch
    state._fetch = lambda: (fetched.append(state.used), whole())[1]
    same(schema, batches, state=state)
    assert fetched[0] == 0
    assert max(fetched[:-1]) <= 64
    assert sum(fetched) >= 100
    assert state.capacity == state.granted == 0


@pytest.mark.parametrize("order", ["ascending", "nearly", "backwards", "any"])
@pytest.mark.parametrize("places", [0, 1, 3, 30])
def test_more_groups_than_places(cupy, order, places):
    there, here = both(600, mixed=True, names=("backwards", "masked", "i8", "flag"))
    schema = gd.fit(pa.Table.from_batches([here]))
    groups = orders(np.random.default_rng(2), 600, 20)[order]
    state = groups_of("cuda", schema)
    state.room = CounterRoom(places * state.bytes)
    made: list[int] = []
    whole = state._make
    state._make = lambda groups: (whole(groups), made.append(state.capacity))[0]
    cuts = list(pairwise(range(0, 601, 200)))
    same(
        schema,
        [(here.slice(a, b - a), groups[a:b], 20) for a, b in cuts],
        there=[(there.slice(a, b - a), groups[a:b], 20) for a, b in cuts],
        state=state,
    )
    assert max(made) <= max(places, 1)
    if places < 2:
        assert len(made) >= 20


def test_columns_longer_than_a_slab(library):
    rng = np.random.default_rng(0)
    rows = 30_000
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.2),
            "n": pa.array(rng.integers(0, 9, rows).astype(np.int16)),
            "y": pa.array(rng.normal(size=rows)),
        }
    )
    schema = gd.fit(table)
    (batch,) = table.to_batches()
    for order, groups in orders(rng, rows, 60).items():
        device = emulated_gpu.EmulatedDevice(library)
        room = CounterRoom(1 << 30)  # for all groups: a step is all rows
        state = DeviceGroupState(schema, device, NumbaKernels(), SlabPool(device, 1 << 19, pairs=4), room)
        assert state.pool.size == 1 << 16
        same(schema, [(batch, groups, 60)], state=state)
        grids = [grid[2] for name, grid, _, _ in device.launched if name == "gd_count_float64"]
        assert len(grids) >= 2 * 30_000 * 8 // state.pool.size  # of the two that are cut
        if order == "ascending":
            assert max(grids) < 30  # of each cut only its own groups


def test_less_memory_than_was_granted(install):
    cupy = install()
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=1_000)})
    schema = gd.fit(table)
    state = groups_of("cuda", schema)
    alloc = cupy.cuda.alloc

    def short(size: int) -> object:
        if size > 20 * 8 * schema.slots:
            raise MemoryError
        return alloc(size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy.cuda, "alloc", lambda size: short(size) if size > 1 << 14 else alloc(size))
        same(schema, [(table.to_batches()[0], rng.integers(0, 300, 1_000).astype(np.int32), 300)], state=state)
        patch.setattr(cupy.cuda, "alloc", lambda size: alloc(2 << 30) if size > 400 else alloc(size))
        with pytest.raises(MemoryError):
            counted(groups_of("cuda", schema), [(table.to_batches()[0], np.zeros(1_000, np.int32), 1)])


def test_states_share_the_room(cupy):
    schema = gd.fit({"x": np.arange(100.0)})
    device = cuda.device()
    device.room.size = 1 << 20
    states = [groups_of("cuda", schema) for _ in range(4)]
    assert [device.room.take(one, 1 << 30, 100) for one in states] == [1 << 18] * 4
    states[0].settle()
    assert device.room.take(states[1], 1 << 30, 100) == (1 << 20) // 3
    states[2].settle()
    assert device.room.take(states[1], 1 << 30, 100) == 1 << 19
    del states[3]
    late = groups_of("cuda", schema)
    assert device.room.take(late, 1 << 30, 100) == (1 << 20) // 2
    assert device.room.take(states[0], 1 << 30, 100) == 100  # nothing is left, and it must count
    assert groups_of("cuda", gd.fit({"text": ["a", "b"]})) not in device.room.states
    device.shrink()
    assert device.room.size == device.budget // 4


def test_a_state_that_has_settled_goes_on(cupy):
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=500)})
    schema = gd.fit(table)
    state = groups_of("cuda", schema)
    (batch,) = table.to_batches()
    groups = rng.integers(0, 20, 500).astype(np.int32)
    state.add(batch, groups, 20)
    state.settle()
    state.settle()
    assert state.there is None
    found = counted(state, [(batch, groups, 20)])
    assert found == counted(groups_of("numpy", schema), [(batch, groups, 20)] * 2)


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    fake_cupy.forget()
    try:
        with pytest.raises(RuntimeError, match=r"^backend cuda: CuPy "):
            groups_of("cuda", gd.fit({"x": [1.0]}))
    finally:
        fake_cupy.forget()


# --- the proof can fail ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("take.cuh", "from = first", "from = first"),
        ("take.cuh", "from = first + rows[8 * at + bit]", "from = first + 8 * at + bit"),
        ("take.cuh", "source + (rows ? rows[at] : at) * stride", "source + at * stride"),
        ("count.cu", "gd_global(column.bounds) + group", "gd_global(column.bounds) + blockIdx.z"),
    ],
)
def test_kernels_that_are_wrong_are_caught(tmp_path, monkeypatch, file, old, new):
    """Built like the faults and without one (the first), they are right."""
    broken = emulated_gpu.build_fault(tmp_path, replaced(file, old, new))
    fake_cupy.put(fake_cupy.made(broken), monkeypatch.setitem)
    try:
        there, here = both(300, names=("masked", "f8"))
        schema = gd.fit(pa.Table.from_batches([here]))
        groups = orders(np.random.default_rng(0), 300, 20)["any"]
        batches = [(here.slice(at, 150), groups[at : at + 150] + 20 * (at > 0), 40) for at in (0, 150)]
        own = [(there.slice(at, 150), groups, known) for at, (_, groups, known) in zip((0, 150), batches, strict=True)]
        state = groups_of("cuda", schema)
        state.capacity = 40  # so that the second batch has its places behind those of the first
        with pytest.raises(AssertionError, match="array_equal") if old != new else nullcontext():
            same(schema, batches, there=own, state=state)
    finally:
        fake_cupy.forget()


def test_steps_that_are_wrong_are_caught(cupy, monkeypatch):
    there, here = both(300)
    schema = gd.fit(pa.Table.from_batches([here]))
    groups = orders(np.random.default_rng(0), 300, 20)["any"]

    def order(places: np.ndarray) -> np.ndarray:
        return np.argsort(-places, kind="stable")

    def forgetful(state: DeviceGroupState) -> None:
        state.there, state.used = None, 0
        state.places[:] = -1

    for name, wrong in (("_order", order), ("_fetch", forgetful)):
        with monkeypatch.context() as patch:
            patch.setattr(cuda_groups if name == "_order" else DeviceGroupState, name, wrong)
            with pytest.raises((AssertionError, ValueError)):
                same(schema, [(here, groups, 20)], there=[(there, groups, 20)])
