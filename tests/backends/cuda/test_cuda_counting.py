"""Windows and segments counted by the kernels, on the CPU: equal to the other backends whatever the order of groups."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import device_tables, emulated_gpu, fake_cupy, strategies, tables
from support.emulated_gpu import replaced

import gpudrift as gd
from gpudrift.backends import load_groups
from gpudrift.backends.counters import GroupsCounted, GroupState
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda import groups as cuda_groups
from gpudrift.backends.cuda.groups import CounterRoom, DeviceGroupState
from gpudrift.backends.cuda.launch import take_bits, take_rows
from gpudrift.backends.cuda.staging import SlabPool
from gpudrift.backends.numba import NumbaKernels
from gpudrift.columns.device import DeviceBatch, DeviceColumn, device_column
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.group_tasks import count_groups_of_run
from gpudrift.execution.group_threads import count_groups_source, fit_grouping, profile_groups_source
from gpudrift.execution.reading import readable_by
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import fit_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.grouping import Grouping, GroupRequest

Batch = tuple[object, np.ndarray, int]
"""A batch, the group of each row, and how many groups there are so far."""

quietly = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def counted(state: GroupState, batches: Iterable[Batch]) -> GroupedProfile:
    """What a state makes of some batches."""
    for batch, groups, known in batches:
        state.add(batch, groups, known)
    size = state.rows.size
    whole = GroupsCounted(state.schema, [(0, number) for number in range(size)])
    whole.take_rows(state)
    whole.take(state)
    own = np.flatnonzero(whole.rows)
    assert whole.counts.sum() == whole.counts[own].sum()
    tails = {(int(np.searchsorted(own, group)), column): tail for (group, column), tail in whole.tails.items()}
    return GroupedProfile.blanked(
        whole.schema,
        Grouping(by=("k",), segments=tuple((str(one),) for one in range(size))),
        *(one[own] for one in (whole.keys, whole.rows, whole.counts, whole.sums, whole.low, whole.high)),
        tails,
        whole.skipped,
        whole.findings,
    )


def same(
    schema: Schema, batches: Sequence[Batch], *, there: Sequence[Batch] | None = None, state: GroupState | None = None
) -> GroupedProfile:
    """What CUDA counts, which equals what the others do; ``there`` are the same batches for it."""
    own = state or load_groups("cuda")(schema)
    assert isinstance(own, DeviceGroupState)
    found = counted(own, there or batches)
    for backend in ("numpy", "numba"):
        wanted = counted(load_groups(backend)(schema), batches)
        assert np.array_equal(found.counts, wanted.counts)
        assert np.array_equal(found.sums, wanted.sums)
        assert np.array_equal(found.low, wanted.low)
        assert np.array_equal(found.high, wanted.high)
        assert found == wanted
        assert found.digest == wanted.digest
    return found


def orders(rng: np.random.Generator, rows: int, groups: int) -> dict[str, np.ndarray]:
    """Groups of some rows: in order, nearly so, backwards, in any order, all in one."""
    ascending = np.sort(rng.integers(0, groups, rows)).astype(np.int32)
    near = ascending[np.argsort(np.arange(rows) + rng.integers(0, 4, rows))]
    return {
        "ascending": ascending,
        "nearly": near,
        "backwards": ascending[::-1].copy(),
        "any": rng.permutation(ascending),
        "one": np.full(rows, groups - 1, np.int32),
    }


@st.composite
def batches_of(draw: Callable, table: pa.Table, most: int = 9) -> list[Batch]:
    """Cuts of a table, empty ones and slices among them, in some order of groups; groups come late."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.sampled_from(["ascending", "nearly", "backwards", "any", "one"]))
    late = draw(st.booleans())
    made: list[Batch] = []
    known = 0
    for piece in draw(strategies.partitions(table)):
        for batch in piece.to_batches() or [pa.RecordBatch.from_pylist([], schema=piece.schema)]:
            limit = max(min(known + 2, most), 1) if late else most
            groups = orders(rng, batch.num_rows, limit)[order]
            known = max([known, *(groups + 1).tolist()])
            made.append((batch, groups, known + int(rng.integers(0, 2))))
            known = made[-1][2]
    return made


# --- the same result ---------------------------------------------------------------------------------------------


@quietly
@given(first=strategies.tables(max_rows=60), data=st.data())
def test_tables_of_every_type_equal_the_cpu(cupy, first, data):
    schema = gd.fit(first)
    other = data.draw(strategies.like(first, 60))
    for table in (first, other):
        same(schema, data.draw(batches_of(table)))


@pytest.mark.parametrize("type_", strategies.TYPES, ids=str)
def test_each_type(cupy, type_):
    @settings(deadline=None, max_examples=5)
    @given(table=strategies.tables([type_], min_rows=1, max_rows=60, max_columns=2), data=st.data())
    def check(table, data):
        same(gd.fit(table), data.draw(batches_of(table)))

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
    found = same(schema, [(batch, groups.astype(np.int32), known) for batch, groups, known in made])
    assert set(found.skipped) == {"n", "x"}
    assert found.counts[:, schema.offsets[1] : schema.offsets[2]].sum() == 0


def test_infinities_and_gaps_of_floats_in_a_column_of_integers(cupy):
    rng = np.random.default_rng(0)
    schema = gd.fit({"n": rng.integers(0, 50, 500)})
    values = rng.integers(0, 50, 500).astype(float)
    values[::7], values[::11], values[::13] = np.nan, np.inf, -np.inf
    array = pa.array(values, mask=rng.random(500) < 0.1)
    batch = pa.RecordBatch.from_arrays([array.slice(3)], names=["n"])
    found = same(schema, [(batch, rng.integers(0, 40, 497).astype(np.int32), 40)])
    special = found.counts.sum(axis=0)[-5:]
    assert np.array_equal(special > 0, [True, True, False, True, False])


def test_nan_of_pandas_is_null(cupy):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": np.where(rng.random(300) < 0.3, np.nan, rng.normal(size=300)), "k": rng.integers(0, 9, 300)}
    )
    request, options = GroupRequest(by=("k",)), FitOptions()
    profiles = [
        profile_groups_source(open_source(frame), request, options, None, Settings(backend))
        for backend in ("cuda", "numpy", "numba")
    ]
    assert len({one.digest for one in profiles}) == 1
    assert profiles[0].total()["x"].special["null"] == frame["x"].isna().sum()


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
        "f2": pa.array(half),
        "flag": pa.array(flag),
        "when": pa.array(when),
        **{name: pa.array(own) for name, own in whole.items()},
    }
    made = {name: device_column(own, cuda.device()) for name, own in there.items()}
    assert all(isinstance(one, DeviceColumn) for one in made.values())
    made["masked"] = made["masked"].slice(shift, shift + rows)
    return made, host


def both(rows: int, seed: int = 0, *, mixed: bool = False) -> tuple[DeviceBatch, pa.RecordBatch]:
    made, host = matrix(rows, seed)
    if mixed:
        made |= {name: host[name] for name in ("masked", "i2", "flag", "f2")}
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
    same(
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
        assert counted(load_groups(backend)(schema), [(there, groups, 7)]) == wanted


def test_rows_in_order_stay_where_they_are(cupy):
    there, here = both(400)
    schema = gd.fit(pa.Table.from_batches([here]))
    ordered = orders(np.random.default_rng(0), 400, 9)
    for order, takes in (("ascending", 2), ("any", 13)):
        cupy.told.clear()
        same(schema, [(here, ordered[order], 9)], there=[(there, ordered[order], 9)])
        names = [name for name, _, _ in cupy.told]
        assert names.count("gd_take") == takes  # the two that are not packed; all that numbers are in
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
    state = load_groups("cuda")(schema)
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
@pytest.mark.parametrize("places", [0, 1, 3, 50])
def test_more_groups_than_places(cupy, order, places):
    there, here = both(900, mixed=True)
    schema = gd.fit(pa.Table.from_batches([here]))
    groups = orders(np.random.default_rng(2), 900, 40)[order]
    state = load_groups("cuda")(schema)
    state.room = CounterRoom(places * state.bytes)
    made: list[int] = []
    whole = state._make
    state._make = lambda groups: (whole(groups), made.append(state.capacity))[0]
    cuts = list(pairwise(range(0, 901, 300)))
    same(
        schema,
        [(here.slice(a, b - a), groups[a:b], 40) for a, b in cuts],
        there=[(there.slice(a, b - a), groups[a:b], 40) for a, b in cuts],
        state=state,
    )
    assert max(made) <= max(places, 1)
    if places < 2:
        assert len(made) >= 40


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
    for order, groups in orders(rng, rows, 200).items():
        device = emulated_gpu.EmulatedDevice(library)
        room = CounterRoom(1 << 20)
        state = DeviceGroupState(schema, device, NumbaKernels(), SlabPool(device, 1 << 19, pairs=4), room)
        assert state.pool.size == 1 << 16
        same(schema, [(batch, groups, 200)], state=state)
        grids = [grid[2] for name, grid, _, _ in device.launched if name.startswith("gd_count")]
        if order == "ascending":
            assert max(grids) < 100  # of each cut only its own groups


def test_less_memory_than_was_granted(install):
    cupy = install()
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=1_000)})
    schema = gd.fit(table)
    state = load_groups("cuda")(schema)
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
            counted(load_groups("cuda")(schema), [(table.to_batches()[0], np.zeros(1_000, np.int32), 1)])


def test_states_share_the_room(cupy):
    schema = gd.fit({"x": np.arange(100.0)})
    device = cuda.device()
    device.room.size = 1 << 20
    states = [load_groups("cuda")(schema) for _ in range(4)]
    assert [device.room.take(one, 1 << 30, 100) for one in states] == [1 << 18] * 4
    states[0].settle()
    assert device.room.take(states[1], 1 << 30, 100) == (1 << 20) // 3
    states[2].settle()
    assert device.room.take(states[1], 1 << 30, 100) == 1 << 19
    del states[3]
    late = load_groups("cuda")(schema)
    assert device.room.take(late, 1 << 30, 100) == (1 << 20) // 2
    assert device.room.take(states[0], 1 << 30, 100) == 100  # nothing is left, and it must count
    assert load_groups("cuda")(gd.fit({"text": ["a", "b"]})) not in device.room.states
    device.shrink()
    assert device.room.size == device.budget // 4


def test_a_state_that_has_settled_goes_on(cupy):
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=500)})
    schema = gd.fit(table)
    state = load_groups("cuda")(schema)
    (batch,) = table.to_batches()
    groups = rng.integers(0, 20, 500).astype(np.int32)
    state.add(batch, groups, 20)
    state.settle()
    state.settle()
    assert state.there is None
    found = counted(state, [(batch, groups, 20)])
    assert found == counted(load_groups("numpy")(schema), [(batch, groups, 20)] * 2)


# --- the public path ---------------------------------------------------------------------------------------------


def profiles(source: Callable[[], object], request: GroupRequest, **options) -> GroupedProfile:
    """What CUDA makes of a table, which equals what the others do."""
    made = {
        backend: profile_groups_source(source(), request, FitOptions(), None, Settings(backend, **options))
        for backend in ("cuda", "numpy", "numba")
    }
    assert made["cuda"] == made["numpy"] == made["numba"]
    assert len({one.digest for one in made.values()}) == 1
    return made["cuda"]


REAL = {
    "bike_sharing": GroupRequest("timestamp", "1mo", None, ("weekday", "holiday"), 5),
    "hotel_bookings": GroupRequest(by=("hotel", "arrival_date_month"), segments=9),
    "nycflights_planes": GroupRequest(by=("manufacturer",), segments=6),
    "occupancy": GroupRequest("timestamp", "1h"),
}


@pytest.mark.skipif(not tables.available(), reason="the shared tables are not here")
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("threads", [1, 3])
def test_real_tables(plc, name, threads, monkeypatch):
    monkeypatch.setattr("gpudrift.execution.group_tasks.RUN_ROWS", 5_000)
    path = str(tables.path(name))
    request = REAL[name]
    found = profiles(lambda: open_source(path), request, threads=threads)
    assert len(found) > 3
    assert any(isinstance(one, tuple) for one in plc.told)  # read onto the device
    held = pq.read_table(path)
    assert profiles(lambda: open_source(held), request, threads=threads) == found


def dated(rows: int, seed: int = 0) -> pa.Table:
    """Columns of every kind with a time, whose rows are nearly in its order, and segments."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 40 * 86_400, rows)) + rng.integers(0, 9_000, rows)
    table = device_tables.everything(rows)
    table = table.append_column("when", pa.array(times.astype("M8[s]"), mask=rng.random(rows) < 0.02))
    return table.append_column("segment", pa.array([f"s{one}" for one in rng.zipf(1.5, rows) % 40]))


def test_files_with_columns_of_every_kind(plc, tmp_path):
    for number in range(2):
        device_tables.write(tmp_path / f"{number}.parquet", dated(1_000, number), row_group_size=300)
    request = GroupRequest("when", "3d", None, ("segment",), 4)
    found = profiles(lambda: open_source(str(tmp_path)), request, threads=2)
    assert len(found) > 50
    assert {"list", "a", "bytes"} == {one.name for one in found.schema.columns if one.kind == "skipped"}
    assert list(found.schema.names) == dated(1).column_names


def test_a_budget_with_room_for_few_groups(with_cudf, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "1MB")
    with_cudf()
    path = device_tables.write(tmp_path / "a.parquet", dated(6_000), row_group_size=1_500)
    made: list[int] = []
    whole = DeviceGroupState._make

    def make(state: DeviceGroupState, groups: int) -> None:
        whole(state, groups)
        made.append(sum(one.granted for one in state.room.states))

    monkeypatch.setattr(DeviceGroupState, "_make", make)
    profiles(lambda: open_source(path), GroupRequest("when", "1d", None, ("segment",), 4), threads=2)
    assert len(made) > 6
    assert max(made) <= 250_000


def test_memory_lives_until_it_is_counted(with_cudf, tmp_path, monkeypatch):
    """Kernels run late, and memory that is given back is overwritten."""
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "4MiB")
    with_cudf(late=True)
    table = device_tables.numbers(30_000)
    days = np.random.default_rng(0).integers(0, 9, 30_000)
    table = table.append_column("day", pa.array(days)).append_column("h", table["f"].cast(pa.float16()))
    path = device_tables.write(tmp_path / "a.parquet", table, row_group_size=9_000)
    for threads in (1, 3):
        profiles(lambda: open_source(path), GroupRequest(by=("day",)), threads=threads)


def test_text_files_and_what_is_read_only_once(cupy, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{at},{rng.normal():.3f},{'ab'[at % 2]}" for at in range(3_000)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["n,x,k", *lines]))
    profiles(lambda: open_source(str(path)), GroupRequest(by=("k",)))


def test_a_column_that_cannot_be_read_is_skipped(plc, tmp_path, monkeypatch):
    reader = plc.io.parquet.ChunkedParquetReader

    class Fails(reader):
        def __init__(self, options, *arguments, **named):
            if 1 in options.places:
                raise RuntimeError("CUDF failure at: reader_impl.cu:1: Unsupported page encoding\nmore")
            super().__init__(options, *arguments, **named)

    monkeypatch.setattr(plc.io.parquet, "ChunkedParquetReader", Fails)
    path = device_tables.write(tmp_path / "a.parquet", device_tables.numbers())
    schema, request = gd.fit(device_tables.numbers()), GroupRequest(by=("n",))
    grouping = fit_grouping(open_source(path), request)
    found, wanted = (
        count_groups_source(open_source(path), schema, grouping, None, Settings(one)) for one in ("cuda", "numpy")
    )
    assert "cuDF: CUDF failure at: reader_impl.cu:1: Unsupported page encoding" in found.skipped["f"]
    rest = [name for name in schema.names if name != "f"]
    assert found.select(rest).digest == wanted.select(rest).digest


def test_tasks_of_a_cluster(plc, tmp_path):
    path = device_tables.write(tmp_path / "a.parquet", dated(3_000))
    source, request = open_source(path), GroupRequest("when", "1d", None, ("segment",), 3)
    grouping = fit_grouping(source, request)
    schema = fit_source(source, FitOptions(coarse=True), None, Settings("numpy"))
    made = [
        count_groups_of_run(own, own.joined(own.parts), schema, grouping, backend)
        for backend, own in (("cuda", readable_by(source, "cuda")), ("numpy", source))
    ]
    assert made[0] == made[1]


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    fake_cupy.forget()
    try:
        with pytest.raises(RuntimeError, match=r"^backend cuda: CuPy "):
            load_groups("cuda")(gd.fit({"x": [1.0]}))
    finally:
        fake_cupy.forget()


# --- the proof can fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from = first + rows[8 * at + bit]", "from = first + 8 * at + bit"),
        ("source + (rows ? rows[at] : at) * stride", "source + at * stride"),
        ("column.bounds + (first_group + blockIdx.z)", "column.bounds + (blockIdx.z)"),
    ],
)
def test_kernels_that_are_wrong_are_caught(tmp_path, monkeypatch, old, new):
    broken = emulated_gpu.build(tmp_path, change=replaced("count.cu", old, new))
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.made(broken))
    fake_cupy.forget()
    try:
        there, here = both(300)
        schema = gd.fit(pa.Table.from_batches([here]))
        groups = orders(np.random.default_rng(0), 300, 20)["any"]
        batches = [
            (one.slice(at, 150), groups[at : at + 150] + 20 * (at > 0), 40) for at in (0, 150) for one in (here,)
        ]
        own = [(there.slice(at, 150), groups, known) for at, (_, groups, known) in zip((0, 150), batches, strict=True)]
        state = load_groups("cuda")(schema)
        state.capacity = 40  # so that the second batch has its places behind those of the first
        with pytest.raises(AssertionError):
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


# --- on a real one -----------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("order", ["ascending", "any"])
def test_a_gpu_equals_the_cpu(order):
    cupy = pytest.importorskip("cupy")
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
        own = device_column(values, cuda.device())
        bitmap = None if mask is None else cupy.asarray(np.frombuffer(mask, np.uint8))
        columns.append(own if bitmap is None else replace(own, validity=bitmap.data.ptr, owner=(values, bitmap)))
    cuda.device().synchronize()
    there = DeviceBatch(columns, batch.schema)
    groups = orders(rng, rows, 3_000)[order]
    wanted = counted(load_groups("numba")(schema), [(batch, groups, 3_000)])
    for own in (batch, there):
        state = load_groups("cuda")(schema)
        assert counted(state, [(own, groups, 3_000)]) == wanted
        state = load_groups("cuda")(schema)
        state.room = CounterRoom(700 * state.bytes)
        assert counted(state, [(own, groups, 3_000)]) == wanted
