"""Memory of a GPU at its edges: which pool it comes from, where it begins, how long copies read it, and none left."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from support import fake_cupy, fake_rmm
from support.device_tables import numbers, same, write

import gpudrift as gd
from gpudrift.backends import probe
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda.memory import Lent, memory_missing
from gpudrift.columns.device import DeviceColumn, device_column

# --- the pool of cuDF --------------------------------------------------------------------------------------------


def test_cudf_takes_memory_from_the_drivers_pool(plc, monkeypatch):
    """RMM begins with plain cudaMalloc; only workers of a cluster were given a pool."""
    rmm = fake_rmm.made()
    monkeypatch.setitem(sys.modules, "rmm", rmm)
    assert cuda.device().cudf.plc is plc
    pool = rmm.mr.get_per_device_resource(0)
    assert isinstance(pool, fake_rmm.CudaAsyncMemoryResource)
    assert pool.release_threshold == cuda.device().budget


class Own(fake_rmm.CudaMemoryResource):
    """An application's own, made of the plain one."""


@pytest.mark.parametrize(
    "chosen",
    [
        Own(),
        fake_rmm.CudaAsyncMemoryResource(),
        fake_rmm.StatisticsResourceAdaptor(fake_rmm.CudaMemoryResource()),
    ],
)
def test_whoever_has_chosen_a_resource_keeps_it(plc, monkeypatch, chosen):
    rmm = fake_rmm.made(chosen)
    monkeypatch.setitem(sys.modules, "rmm", rmm)
    assert cuda.device().cudf.plc is plc
    assert rmm.mr.get_per_device_resource(0) is chosen


def test_a_driver_without_pools_and_a_cudf_without_rmm_go_on_as_they_are(with_cudf, monkeypatch, tmp_path):
    rmm = fake_rmm.made(pools=False)
    for module in (rmm, None):
        with_cudf()
        monkeypatch.setitem(sys.modules, "rmm", module)
        same(write(tmp_path / "a.parquet", numbers(2_000)))
    assert type(rmm.mr.get_per_device_resource(0)) is fake_rmm.CudaMemoryResource


# --- where memory begins -----------------------------------------------------------------------------------------


def misplaced(values: np.ndarray, by: int) -> np.ndarray:
    """The same values at an address that is so many bytes beyond one where a GPU reads anything."""
    octets = np.zeros(values.nbytes + 64, np.uint8)
    start = -octets.ctypes.data % 32 + by
    own = octets[start : start + values.nbytes].view(values.dtype)
    own[:] = values
    return own


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u4", "i2", "M8[s]"])
@pytest.mark.parametrize("asked", [{}, {"by": "k"}], ids=["whole", "groups"])
def test_values_at_an_odd_address_are_copied(cupy, dtype, asked):
    """A GPU that reads eight bytes at an address that is no multiple of 8 stops, and with it the process's context."""
    values = np.arange(1_000).astype("i8" if dtype == "M8[s]" else dtype).astype(dtype)
    size = values.itemsize
    host = {"x": values, "k": np.arange(1_000) % 7}
    for by in sorted({1, size // 2}):
        there = {"x": fake_cupy.Array(misplaced(values, by)), "k": host["k"]}
        assert gd.profile(there, **asked) == gd.profile(host, **asked)
    assert any(name == "gd_take" for name, _, _ in cupy.told)


def test_decimals_begin_at_multiples_of_sixteen(cupy):
    words = np.zeros(200, np.int64)
    words[::2] = np.arange(100)
    rows = DeviceColumn(pa.decimal128(12, 2), 100, misplaced(words, 8).ctypes.data, 16, cuda.device(), words)
    moved = misplaced(words, 8)
    column = DeviceColumn(rows.type, 100, moved.ctypes.data, 16, cuda.device(), moved)
    packed = column.packed()
    assert packed.pointer % 16 == 0
    assert packed.to_arrow().equals(column.to_arrow())
    assert [int(one.scaleb(2)) for one in packed.to_arrow().to_pylist()] == list(range(100))


def test_what_is_in_its_place_is_not_copied(cupy):
    values = np.arange(9, dtype=np.float32)
    column = device_column(fake_cupy.Array(values), cuda.device())
    assert column.packed() is column
    assert column.slice(3, 9).packed().pointer == values[3:].ctypes.data


def test_the_double_refuses_what_a_gpu_refuses(cupy):
    values = misplaced(np.arange(10.0), 4)
    column = device_column(fake_cupy.Array(values), cuda.device())
    schema = gd.fit({"x": np.arange(10.0)})
    from gpudrift.backends.cuda.launch import Counters, device_values

    with pytest.raises(AssertionError, match="gd_count_float64: misaligned address"):
        Counters(cuda.device(), schema).add(device_values([(0, "float64", 10, column.pointer, 0, 0, False)]))


# --- how long copies read ----------------------------------------------------------------------------------------


def test_arrays_of_the_host_live_until_they_are_copied(install):
    """Memory that is let go is handed on by NumPy to whoever asks for as much."""
    install(late=True)
    device = cuda.device()
    made, wanted = [], []
    for at in range(50):
        made.append(device.array(np.full(100, at, np.int64)))
        wanted.append(at)
    noise = [np.full(100, -1, np.int64) for _ in range(200)]
    assert [int(one.read().view(np.int64)[0]) for one in made] == wanted
    assert len(noise) == 200


@pytest.mark.parametrize("wait", ["finish", "synchronize", "slab", "fetch"])
def test_they_are_let_go_when_somebody_has_waited(install, wait):
    install(late=True)
    device = cuda.device()
    made = device.array(np.arange(1_000))
    assert [one.nbytes for one in device._lent.arrays] == [8_000]
    calls = {"slab": lambda: device.slab(1 << 16), "fetch": made.read}
    calls.get(wait, getattr(device, wait))()
    assert device._lent.arrays == []
    assert device._lent.size == 0
    assert np.array_equal(made.read().view(np.int64), np.arange(1_000))


def test_no_more_than_so_many_bytes_are_kept(install):
    install(late=True)
    device = cuda.device()
    device._lent = Lent(100_000)
    for at in range(100):
        device.array(np.full(1_000, at))
        assert device._lent.size <= 100_000 + 8_000


def test_one_that_is_lent_while_another_thread_waits_is_kept():
    lent = Lent()
    lent.add(np.zeros(1))
    with lent.waited():
        lent.add(np.ones(2))
    assert [one.size for one in lent.arrays] == [2]
    assert lent.size == 16


def test_columns_on_the_gpu_live_until_they_are_counted(install):
    """Kernels and copies run late, and memory that is freed is overwritten before the next ones."""
    install(late=True)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5_000, 6))
    host = {f"c{at}": matrix[:, at] for at in range(6)} | {"k": rng.integers(0, 9, 5_000)}
    there = {name: fake_cupy.Array(own) for name, own in host.items() if name != "k"} | {"k": host["k"]}
    for asked in ({}, {"by": "k"}):
        for threads in (1, 3):
            found = gd.profile(there, backend="cuda", threads=threads, **asked)
            assert found == gd.profile(host, **asked)
    gc.collect()


# --- there is none left ------------------------------------------------------------------------------------------

NO_MEMORY = [
    "std::bad_alloc: out_of_memory: CUDA error at: memory.hpp:69: cudaErrorMemoryAllocation out of memory",
    "std::bad_alloc: out_of_memory: RMM failure at: pool.hpp:1: Maximum pool size exceeded (failed to allocate 1 GiB)",
    "RMM failure at: limiting_resource_adaptor.hpp:150: Exceeded memory limit (failed to allocate 5 MiB)",
    "CUDA error at: reader_impl.cu:3: cudaErrorMemoryAllocation out of memory",
    "for_each: failed to synchronize: cudaErrorMemoryAllocation: out of memory",
    "temporary_buffer::allocate: get_temporary_buffer failed",
    "CUDA driver error at: buffer.cpp:12: CUDA_ERROR_OUT_OF_MEMORY(out of memory)",
    "cudaErrorMemoryAllocation: out of memory",
]
OTHER = [
    "cudaErrorIllegalAddress: an illegal memory access was encountered",
    "cudaErrorMisalignedAddress: misaligned address",
    "CUDF failure at: reader_impl.cu:1: Unsupported page encoding",
    "cudaErrorInvalidDevice: invalid device ordinal",
]


@pytest.mark.parametrize("text", NO_MEMORY)
def test_what_says_that_there_is_no_memory(text):
    assert memory_missing(RuntimeError(text))


@pytest.mark.parametrize("text", OTHER)
def test_what_says_something_else(text):
    assert not memory_missing(RuntimeError(text))
    assert memory_missing(MemoryError(text))


@pytest.mark.parametrize("name", ["memsetAsync", "memcpyAsync"])
@pytest.mark.parametrize(("text", "kind"), [(NO_MEMORY[-1], MemoryError), (OTHER[0], fake_cupy.CUDARuntimeError)])
def test_calls_of_cuda_that_lack_memory_raise_memory_error(cupy, monkeypatch, name, text, kind):
    device = cuda.device()

    def fails(*_arguments: object) -> None:
        raise fake_cupy.CUDARuntimeError(text)

    monkeypatch.setattr(cupy.cuda.runtime, name, fails)
    with pytest.raises(kind, match=text):
        device.zeros(8) if name == "memsetAsync" else device.array(np.zeros(8))


def test_a_slab_that_fails_otherwise_says_how(cupy, monkeypatch):
    def fails(_size: int) -> None:
        raise fake_cupy.CUDARuntimeError(OTHER[0])

    monkeypatch.setattr(cupy.cuda, "alloc_pinned_memory", fails)
    with pytest.raises(fake_cupy.CUDARuntimeError, match="illegal memory access"):
        cuda.device().slab(1 << 16)


# --- kernels that cannot be compiled -----------------------------------------------------------------------------


def test_without_headers_of_cuda_there_is_no_gpu_and_a_line_says_what_to_install(install):
    """CuPy compiles nothing without them; it would say so when the first column is counted."""
    install(headers=False)
    words = "CuPy finds no headers of CUDA and compiles nothing without them: pip install 'gpudrift[cuda13]'"
    assert cuda.why_not().startswith(words)
    assert probe().why_not == cuda.why_not()
    with pytest.raises(ValueError, match=r"^backend 'cuda': CuPy finds no headers"):
        gd.profile({"x": [1.0]}, backend="cuda")
    assert gd.profile({"x": [1.0]}).provenance["backend"] == "numba"


@pytest.mark.parametrize("pathfinder", [None, SimpleNamespace(), SimpleNamespace(find_nvidia_header_directory=len)])
def test_kernels_that_cannot_be_compiled_say_so_in_a_line(install, monkeypatch, pathfinder):
    """Where headers are looked for in another way, or something else is missing."""
    cupy = install(headers=False)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    if pathfinder is not None and vars(pathfinder):
        why = "libnvrtc.so.13: cannot open shared object file\nand more"
        module = SimpleNamespace(get_function=lambda _name: (_ for _ in ()).throw(OSError(why)))
        monkeypatch.setattr(cupy, "RawModule", lambda **_options: module)
    assert cuda.why_not() is None
    words = r"^backend cuda: its kernels cannot be compiled \((Failed to find CUDA headers|libnvrtc.so.13).*\): pip "
    with pytest.raises(RuntimeError, match=words) as caught:
        gd.profile({"x": np.arange(9.0)}, backend="cuda")
    assert "\n" not in str(caught.value)
