"""The CUDA backend as far as it goes without a GPU: CuPy is a double whose kernels the emulation runs."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import gethostname
from threading import Event
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import emulated_gpu, fake_cupy

import gpudrift as gd
from gpudrift.backends import Gpu, load_backend, probe
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda.staging import SlabPool
from gpudrift.columns.device import DeviceColumn, device_column


def numbers(rows: int = 3_000, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=rows),
        "b": rng.normal(size=rows).astype(np.float32),
        "c": rng.integers(-50, 50, rows).astype(np.int16),
        "d": np.where(rng.random(rows) < 0.1, np.nan, rng.gamma(2, size=rows)),
        "e": rng.integers(0, 2**63, rows, dtype=np.uint64),
    }


# --- the same result ---------------------------------------------------------------------------------------------


def test_reports_are_the_same_and_say_what_counted(cupy, tmp_path):
    before, after = pa.table(numbers()), pa.table(numbers(seed=1))
    on_cpu, on_gpu = (gd.compare(before, after, backend=name) for name in ("numba", "cuda"))
    assert on_gpu.to_pandas().equals(on_cpu.to_pandas())
    assert gd.profile(before, backend="cuda").digest == gd.profile(before).digest
    assert gd.profile(before, backend="cuda").provenance["backend"] == "cuda"


def test_texts_and_booleans_are_counted_too(cupy):
    table = pa.table({"text": ["a", "b", None, "a"] * 50, "flag": [True, False, None, True] * 50, "x": range(200)})
    assert gd.profile(table, backend="cuda") == gd.profile(table)


def test_many_threads_share_the_slabs(install):
    cupy = install(memory=64 << 20)
    table = pa.table({f"c{at}": np.random.default_rng(at).normal(size=20_000) for at in range(40)})
    assert gd.profile(table, backend="cuda", threads=8) == gd.profile(table)
    assert cuda.device().pool.made <= cuda.device().pool.pairs
    assert {name for name, _, _ in cupy.told} == {"gd_build_guides", "gd_count_float64"}


def test_more_shared_memory_is_asked_for_once(cupy):
    edges = np.sort(np.random.default_rng(0).normal(size=3_000))
    table = pa.table({"x": np.random.default_rng(1).normal(size=1_000)})
    schema = gd.fit(table, edges={"x": edges})
    assert gd.profile(table, schema=schema, backend="cuda") == gd.profile(table, schema=schema)
    assert max(shared for _, _, shared in cupy.told) > 48 << 10


# --- columns on the GPU ------------------------------------------------------------------------------------------


def on_gpu(values: dict[str, np.ndarray]) -> dict[str, fake_cupy.Array]:
    return {name: fake_cupy.Array(own) for name, own in values.items()}


def test_columns_on_the_gpu_are_counted_where_they_are(cupy):
    values = numbers()
    found = gd.profile(on_gpu(values))
    assert found == gd.profile(values)
    assert (found.provenance["backend"], found.provenance["backend_reason"]) == ("cuda", "auto: the data lies on a GPU")
    counted = [grid for name, grid, _ in cupy.told if name.startswith("gd_count")]
    assert sum(columns for _, columns, _ in counted) == len(values)


def test_any_backend_counts_them(cupy):
    values = numbers()
    wanted = gd.profile(values)
    for backend in ("cuda", "numba", "numpy"):
        assert gd.profile(on_gpu(values), backend=backend) == wanted


def test_columns_of_one_type_share_a_launch(cupy):
    values = {f"c{at}": np.random.default_rng(at).normal(size=500) for at in range(30)}
    schema = gd.fit(values)
    cupy.told.clear()
    assert gd.profile(on_gpu(values), schema=schema, threads=1) == gd.profile(values, schema=schema)
    assert [grid[1] for name, grid, _ in cupy.told if name == "gd_count_float64"] == [30]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_strides_masks_and_offsets(cupy, data):
    rows = data.draw(st.integers(1, 300))
    rng = np.random.default_rng(rows)
    matrix = rng.normal(size=(rows, 3)).astype(data.draw(st.sampled_from([np.float32, np.float64])))
    valid = rng.random(rows) < 0.7
    bitmap = np.packbits(valid, bitorder="little")
    start = data.draw(st.integers(0, 17))
    columns = {
        "column of a matrix": fake_cupy.Array(matrix[:, 1]),
        "backwards": fake_cupy.Array(matrix[::-1, 2]),
        "masked": fake_cupy.Array(np.ascontiguousarray(matrix[:, 0]), bitmap),
    }
    host = {
        "column of a matrix": matrix[:, 1],
        "backwards": matrix[::-1, 2],
        "masked": pa.array(matrix[:, 0], mask=~valid),
    }
    assert gd.profile(columns) == gd.profile(host)
    column = device_column(columns["masked"], cuda.device()).slice(min(start, rows), rows)
    wanted = host["masked"].slice(min(start, rows))
    assert column.to_arrow().equals(wanted)
    chosen = rng.integers(0, max(len(wanted), 1), min(20, len(wanted)))
    assert column.take(pa.array(chosen)).equals(wanted.take(pa.array(chosen)))


def test_long_columns_are_read_in_parts(cupy, monkeypatch):
    monkeypatch.setattr("gpudrift.sources.memory.DEVICE_PART_ROWS", 701)
    values = numbers()
    assert gd.profile(on_gpu(values)) == gd.profile(values)


def test_host_and_device_columns_mix(cupy):
    values = numbers()
    mixed = on_gpu(values) | {"a": values["a"], "text": ["x", "y", "z"] * 1_000}
    assert gd.profile(mixed) == gd.profile(values | {"text": ["x", "y", "z"] * 1_000})


def test_times_and_booleans_on_the_gpu(cupy):
    rng = np.random.default_rng(0)
    values = {
        "when": rng.integers(0, 10**9, 400).astype("M8[s]"),
        "long": rng.integers(0, 10**9, 400).astype("m8[ms]"),
        "flag": rng.random(400) < 0.5,
    }
    assert gd.profile(on_gpu(values)) == gd.profile(values)


def test_dlpack(cupy):
    values = numbers()
    tensors = {name: fake_cupy.Tensor(own) for name, own in values.items()}
    assert gd.profile(tensors) == gd.profile(values)


def test_one_that_lies_in_host_memory_is_none(cupy):
    with pytest.raises(TypeError, match="expected a one-dimensional array"):
        gd.profile({"x": fake_cupy.Tensor(np.zeros(3), device=(1, 0))})


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            fake_cupy.Array(np.zeros((2, 2))),
            r"^column 'x': expected a one-dimensional array, got one of shape \(2, 2\)$",
        ),
        (fake_cupy.Array(np.zeros(4, np.complex64)), "<c8 is no type that can be counted"),
        (fake_cupy.Array(np.zeros(4, ">f8")), ">f8 is no type that can be counted"),
    ],
)
def test_columns_that_cannot_be_counted(cupy, column, message):
    good = np.zeros(len(column))
    if message.startswith("^"):
        with pytest.raises(ValueError, match=message):
            gd.profile({"x": column})
    else:
        found = gd.profile({"x": column, "y": good})
        assert found.schema["x"].kind == "skipped"
        assert message in found.schema["x"].reason


def test_a_mask_of_booleans_is_refused_by_name(cupy):
    masked = fake_cupy.Array(np.zeros(4), np.ones(4, np.bool_))
    kind = type("", (), {"__cuda_array_interface__": masked.mask.__array_interface__})()
    interface = masked.__cuda_array_interface__ | {"mask": kind}
    found = device_column(SimpleNamespace(__cuda_array_interface__=interface), cuda.device())
    assert found == "its mask is of type |b1; expected a bitmap, <t1"


def test_a_tensor_that_wants_its_gradient_is_a_problem_of_its_column(cupy):
    class Wants:
        def __len__(self) -> int:
            return 3

        @property
        def __cuda_array_interface__(self):
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    found = gd.profile({"x": Wants(), "y": [1.0, 2.0, 3.0]})
    assert "requires grad" in found.schema["x"].reason


def test_another_gpu_is_named(install):
    install(place=3)
    with pytest.raises(ValueError, match=r"^column 'x': it lies on GPU 3, and this process counts on GPU 0: start it"):
        gd.profile({"x": fake_cupy.Array(np.zeros(4))})


# --- memory ------------------------------------------------------------------------------------------------------


def test_a_smaller_step_where_memory_is_short(library, monkeypatch):
    device = emulated_gpu.EmulatedDevice(library, memory=1 << 20)
    pool = SlabPool(device, 64 << 20)
    with pool.pair() as first:
        assert first[0].host.size <= 1 << 19
    with pool.pair() as again:
        assert again is first


@pytest.mark.parametrize(
    ("asked", "size"),
    [("512MB", 512_000_000), ("1.5GiB", 3 << 29), ("4096", 4_096), ("640 kB", 640_000), ("800KiB", 800 << 10)],
)
def test_the_budget_may_be_asked_for(install, monkeypatch, asked, size):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", asked)
    install()
    own = cuda.device()
    assert own.budget == size
    assert own.pool.size == max(min(size // 4, 512 << 20) // (2 * own.pool.pairs), own.pool.smallest)


@pytest.mark.parametrize("asked", ["much", "-1", "1TB", "1e9", "5KB"])
def test_a_budget_that_is_no_size_is_refused(install, monkeypatch, asked):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", asked)
    install()
    with pytest.raises(ValueError, match=r"^GPUDRIFT_GPU_MEMORY: expected a size such as 512MB or 2GiB, got "):
        gd.profile({"x": [1.0]}, backend="cuda")


def test_the_budget_is_a_quarter_and_is_halved_down_to_a_floor(install):
    install(memory=1 << 30)
    device = cuda.device()
    assert device.budget == 256 << 20
    before, found = device.pool.size, []
    while budget := device.shrink():
        found.append(budget)
        assert device.budget == budget
    assert found == [128 << 20, 64 << 20, 32 << 20, 16 << 20]
    assert device.pool.size == before // 16
    table = numbers()
    assert gd.profile(table, backend="cuda") == gd.profile(table)


def test_slabs_shrink_with_a_budget_that_is_larger(install, monkeypatch):
    install(memory=8 << 30)
    pairs = 2 * cuda.device().pool.pairs
    assert cuda.device().pool.size * pairs == cuda.MOST_STAGED  # a quarter of 2 GB
    assert cuda.device().shrink() == 1 << 30
    assert cuda.device().pool.size * pairs == cuda.MOST_STAGED // 2


def test_a_budget_that_is_asked_for_is_halved_too(install, monkeypatch):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "40MiB")
    install()
    assert (cuda.device().budget, cuda.device().shrink(), cuda.device().shrink()) == (40 << 20, 20 << 20, 0)


def test_threads_wait_for_a_pair_of_slabs(library):
    pool = SlabPool(emulated_gpu.EmulatedDevice(library), 1 << 20, pairs=2)
    inside, most, leave = [], [], Event()

    def work() -> None:
        with pool.pair():
            inside.append(1)
            most.append(len(inside))
            leave.wait(0.01)
            inside.pop()

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work) for _ in range(16)]:
            done.result()
    assert max(most) == 2
    assert pool.made == 2


def test_slabs_come_back_after_an_error(library):
    pool = SlabPool(emulated_gpu.EmulatedDevice(library), 1 << 20, pairs=1)
    for _ in range(3):
        with pytest.raises(KeyError), pool.pair():
            raise KeyError
    assert len(pool.free) == 1


def test_pinned_memory_that_is_missing_is_an_error_of_memory(install):
    install(locked=60_000)
    with pytest.raises(MemoryError, match="page-locked"):
        gd.profile(numbers(), backend="cuda")


# --- what is told of a process ------------------------------------------------------------------------------------


def test_a_probe_says_what_there_is_and_takes_nothing(install, monkeypatch):
    cupy = install(memory=1 << 30, uuid=b"0123")
    monkeypatch.setattr(cupy, "RawModule", None)  # nothing is compiled
    found = probe()
    assert pickle.loads(pickle.dumps(found)) == found
    place = f"{gethostname()} 0000:01:00.0 {b'0123'.hex()}"
    assert found == Gpu(None, "Emulated GPU", "9.0", "driver 13.0, CuPy 14.0.0, no cuDF", 1 << 30, 256 << 20, place)
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "5MB")
    assert probe().budget == 5_000_000


def test_a_probe_raises_nothing(install, monkeypatch):
    cupy = install()
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "much")
    assert probe().why_not.startswith("no GPU can be used (GPUDRIFT_GPU_MEMORY: expected a size such as")
    monkeypatch.delenv("GPUDRIFT_GPU_MEMORY")

    def busy() -> None:
        raise fake_cupy.CUDARuntimeError("cudaErrorDevicesUnavailable: busy\nand more")

    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", busy)
    assert str(probe()) == "no GPU can be used (cudaErrorDevicesUnavailable: busy)"


def test_a_probe_without_cupy_says_so(without_cupy):
    assert probe() == Gpu(cuda.why_not())


# --- without a GPU -----------------------------------------------------------------------------------------------


@pytest.fixture
def without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    fake_cupy.forget()
    yield
    fake_cupy.forget()


def test_without_cupy_the_reason_is_one_line(without_cupy):
    assert cuda.why_not().startswith("CuPy ")
    assert "pip install 'gpudrift[cuda13]'" in cuda.why_not()
    with pytest.raises(ValueError, match=r"^backend 'cuda': CuPy .*$"):
        gd.profile({"x": [1.0]}, backend="cuda")
    with pytest.raises(RuntimeError, match=r"^backend cuda: CuPy .*$"):
        load_backend("cuda")([], gd.fit({"x": [1.0]}))
    with pytest.raises(ValueError, match=r"^column 'x': it lies on a GPU, which gpudrift cannot use: CuPy "):
        gd.profile({"x": fake_cupy.Array(np.zeros(3))})


class DriverTooOld(Exception):
    pass


@pytest.mark.parametrize(("devices", "why"), [(0, "this machine has no GPU"), (None, "no GPU can be used (driver")])
def test_without_a_device_the_reason_is_one_line(monkeypatch, devices, why):
    def number() -> int:
        if devices is None:
            raise DriverTooOld("driver is too old\nand more")
        return devices

    runtime = SimpleNamespace(getDeviceCount=number)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    fake_cupy.forget()
    try:
        assert cuda.why_not().startswith(why)
        assert "\n" not in cuda.why_not()
    finally:
        fake_cupy.forget()


def test_auto_is_a_cpu_engine(without_cupy):
    assert gd.profile({"x": [1.0, 2.0]}).provenance["backend"] == "numba"


def test_nothing_of_a_count_is_left_behind(cupy, monkeypatch):
    waited = []
    monkeypatch.setattr(cuda._Slab, "wait", lambda self: waited.append(self))  # noqa: PLW0108 - a method

    def fails() -> Iterator[pa.RecordBatch]:
        yield from pa.table(numbers()).to_batches()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load_backend("cuda")(fails(), gd.fit(numbers()))
    assert len(waited) >= 2
    assert len(cuda.device().pool.free) == 1


def test_device_columns_do_not_pretend_to_be_arrow():
    column = DeviceColumn(pa.int32(), 4, 64, 4, SimpleNamespace())
    assert (len(column), column.nbytes, column.width) == (4, 16, 4)
    assert column.slice(1, 3).pointer == 68
