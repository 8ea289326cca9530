"""The CUDA engine: kernels/count.cu on an NVIDIA GPU through CuPy; the only module that imports cupy.

Numbers are counted by our kernels. Categories in GPU memory are counted by cuDF, others by the compiled CPU engine.
What is counted is equal to the other backends to the bit; :mod:`gpudrift.backends.cuda.launch` says how the work is
laid out, kernels/count.cu how it is done.

One process counts on one device: CUDA's first, of those that ``CUDA_VISIBLE_DEVICES`` leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, cached_property, wraps
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from socket import gethostname
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gpudrift.backends import Gpu
from gpudrift.backends.counters import State
from gpudrift.backends.cuda.cudf import Cudf
from gpudrift.backends.cuda.groups import CounterRoom, DeviceGroupState
from gpudrift.backends.cuda.launch import USUAL_SHARED, DeviceArray, Slab, kernel_source, take_rows
from gpudrift.backends.cuda.layout import SharedMemory
from gpudrift.backends.cuda.memory import TO_DEVICE, Lent, asked_budget, first_line, memory_missing, use_pool
from gpudrift.backends.cuda.memory import Array as _Array
from gpudrift.backends.cuda.memory import Slab as _Slab
from gpudrift.backends.cuda.memory import Stream as _Stream
from gpudrift.backends.cuda.staging import DeviceState, SlabPool
from gpudrift.columns.device import ColumnReader, DeviceColumn, DeviceTexts, device_column
from gpudrift.columns.schema import Schema

__all__ = ["CupyDevice", "column_of", "column_reader", "device", "probe", "state", "why_not"]

OPTIONS = ("--std=c++17", "--fmad=false")
"""Contraction would round differences once less than the slot rule does."""
SHARE = 0.25
"""Of the free memory of a device, for values on their way. A quarter of that is what is being read from files, a
quarter what is held for two uses, a quarter what comes from host memory; the rest is for counters, edges and what was
not foreseen. Of windows and segments counters may fill that rest; columns that are put in order for them are in the
quarter of what is held, which they do not need."""
MOST_STAGED = 512 << 20
"""Bytes for columns from host memory: beyond some hundred megabytes a copy is as fast as it gets, and as much
page-locked host memory is taken."""
LEAST = 16 << 20
"""Bytes below which the budget is not halved any more: whoever lacks those lacks all."""
TO_HOST, ON_DEVICE = 2, 3
"""cudaMemcpyKind."""
INSTALL = "pip install 'gpudrift[cuda13]', or cuda12 for drivers older than 580"

_Function = TypeVar("_Function", bound=Callable[..., Any])


@cache
def why_not() -> str | None:
    """Why this engine cannot run here, in words; None where it can."""
    try:
        cupy = _cupy()
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        why = "CuPy is not installed" if missing else f"CuPy cannot be imported ({error})"
        return f"{why}: {INSTALL}"
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # of the driver, and of libraries that it lacks
        return f"no GPU can be used ({first_line(error)})"
    if not devices:
        return "this machine has no GPU"
    return None if _has_headers() else f"CuPy finds no headers of CUDA and compiles nothing without them: {INSTALL}"


def _has_headers() -> bool:
    """Whether CuPy will find what it will not compile without, even where nothing is included: so since version 14."""
    try:
        found: Any = import_module("cuda.pathfinder")
        return found.find_nvidia_header_directory("cudart") is not None
    except Exception:  # another version, which looks for them in another way, and will say what it lacks
        return True


def probe() -> Gpu:
    """The device of this process, or why there is none; raises nothing, compiles nothing, takes no memory."""
    why = why_not()
    if why is not None:
        return Gpu(why)
    try:
        cupy = _cupy()
        runtime = cupy.cuda.runtime
        with cupy.cuda.Device(0):
            free, _ = runtime.memGetInfo()
            found = runtime.getDeviceProperties(0)
            driver = int(runtime.driverGetVersion())
        return Gpu(
            name=str(found["name"].decode()),
            capability=f"{found['major']}.{found['minor']}",
            versions=f"driver {driver // 1000}.{driver % 1000 // 10}, CuPy {cupy.__version__}, {_cudf_version()}",
            free=int(free),
            budget=asked_budget() or int(SHARE * free),
            # CuPy cuts a UUID at its first zero byte, and slices of a GPU (MIG) have its bus in common.
            place=f"{gethostname()} {runtime.deviceGetPCIBusId(0)} {found['uuid'].hex()}",
        )
    except Exception as error:  # a device that is busy with another process alone, or broken, or a budget of no size
        return Gpu(f"no GPU can be used ({first_line(error)})")


def _cudf_version() -> str:
    """Of what reads files onto the device."""
    if find_spec("pylibcudf") is None:
        return "no cuDF"
    for name in ("pylibcudf-cu13", "pylibcudf-cu12", "pylibcudf"):
        with suppress(PackageNotFoundError):
            return f"cuDF {version(name)}"
    return "cuDF"


def state(schema: Schema, *, grouped: bool) -> State:
    """Counters of some columns, those of numbers on the GPU; see :mod:`gpudrift.backends.counters`.

    Raises
    ------
    RuntimeError
        If there is no GPU that can be used.
    """
    from gpudrift.backends.numba import NumbaKernels

    own = device()
    if grouped:
        return DeviceGroupState(schema, own, NumbaKernels(), own.pool, own.room)
    return DeviceState(schema, own, NumbaKernels(), own.pool)


def column_of(values: Any) -> DeviceColumn | DeviceTexts | str:
    """The column of an array that lies on a GPU, or why it cannot be counted.

    Parameters
    ----------
    values : object
        With ``__cuda_array_interface__``, or with DLPack's methods; or a cuDF Series of numbers, times, texts or
        categories.

    Raises
    ------
    ValueError
        If there is no GPU that can be used, if the array lies on another one, or has not one dimension.
    """
    why = why_not()
    if why is not None:
        raise ValueError(f"it lies on a GPU, which gpudrift cannot use: {why}")
    try:
        column: DeviceColumn | DeviceTexts | str
        if hasattr(values, "to_pylibcudf"):
            column = device().cudf.series(values)
        elif hasattr(values, "__cuda_array_interface__"):
            column = device_column(values, device())
        else:
            column = device_column(_cupy().from_dlpack(values), device())
    except (BufferError, RuntimeError, TypeError) as error:  # a tensor that wants its gradient, for instance
        return first_line(error)
    if isinstance(column, DeviceColumn) and column.rows:
        device().check_place(column.pointer)
    return column


def column_reader() -> tuple[ColumnReader, int] | None:
    """What reads files into the memory of the device, and bytes that it may take, and hold; None without cuDF.

    Raises
    ------
    RuntimeError
        If there is no GPU that can be used.
    """
    if find_spec("pylibcudf") is None:
        return None
    own = device()
    return own.cudf, own.budget // 4


def _cupy() -> Any:
    import cupy

    return cupy


_making = Lock()


def device() -> CupyDevice:
    """The device of this process.

    Raises
    ------
    RuntimeError
        If there is none that can be used.
    """
    why = why_not()
    if why is not None:
        raise RuntimeError(f"backend cuda: {why}")
    with _making:  # many threads ask first
        return _device()


@cache
def _device() -> CupyDevice:
    return CupyDevice()


def _there(function: _Function) -> _Function:
    """The same with the device as the current one of the thread, whose memory comes from the device's own stream.

    That there is none is a MemoryError, of which CuPy says so only where its pool finds out.
    """

    @wraps(function)
    def called(self: CupyDevice, *arguments: Any, **options: Any) -> Any:
        try:
            with self._cupy.cuda.Device(self.number), self._stream:
                return function(self, *arguments, **options)
        except RuntimeError as error:
            if memory_missing(error):
                raise MemoryError(first_line(error)) from error
            raise

    return cast("_Function", called)


class CupyDevice:
    """A GPU; implements :class:`gpudrift.backends.cuda.launch.Device` and `gpudrift.columns.device.Memory`.

    Parameters
    ----------
    number : int
        As CUDA counts those that this process may see.

    Attributes
    ----------
    budget : int
        Bytes of its memory that a task may hold: what the environment asks for, or a quarter of what is free at first.
    """

    def __init__(self, number: int = 0) -> None:
        self._cupy = cupy = _cupy()
        self.number = number
        with cupy.cuda.Device(number) as own:
            attributes = own.attributes
            self.multiprocessors = int(attributes["MultiProcessorCount"])
            names = "MaxSharedMemoryPerBlockOptin", "MaxSharedMemoryPerMultiprocessor"
            self.shared_memory = SharedMemory(*(int(attributes[name]) for name in names))
            self._stream = cupy.cuda.Stream(non_blocking=True)
            # CuPy compiles for this very device and keeps what it compiled in its cache on disk.
            self._module = cupy.RawModule(
                code=kernel_source("count.cu"), options=(*OPTIONS, *self.shared_memory.options)
            )
        self._kernels: dict[str, Any] = {}
        self._largest: dict[str, int] = {}
        self._lock = Lock()
        self._lent = Lent()
        self.budget = asked_budget() or self._share()
        self.pool = self._slabs()
        self.room = CounterRoom(self.budget // 4)

    @property
    def name(self) -> str:
        return str(self._cupy.cuda.runtime.getDeviceProperties(self.number)["name"].decode())

    @_there
    def _share(self) -> int:
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(SHARE * free)

    @cached_property
    def cudf(self) -> Cudf:
        """cuDF, at work on this device.

        Raises
        ------
        ImportError
            If it is not installed.
        """
        with self._cupy.cuda.Device(self.number):
            use_pool(self.number, self.budget)
            return Cudf(self)

    @_there
    def stream_of(self) -> Any:
        """A new stream, for work that this device's own does not wait for."""
        return _Stream(self._cupy.cuda.Stream(non_blocking=True))

    def finish(self) -> None:
        with self._lent.waited():
            self._stream.synchronize()

    @_there
    def shrink(self) -> int:
        """Halve the budget, for good, because memory ran out.

        Slabs are made anew, smaller; those that are in use go when their count ends.

        Returns
        -------
        int
            The new budget; 0 where it was too small to be halved.
        """
        with self._lock:
            if self.budget < 2 * LEAST:
                return 0
            self.budget //= 2
            self.pool = self._slabs()
            self.room.size = self.budget // 4
        self._cupy.get_default_memory_pool().free_all_blocks()
        return self.budget

    def _slabs(self) -> SlabPool:
        return SlabPool(self, min(self.budget // 4, MOST_STAGED))

    def check_place(self, pointer: int) -> None:
        """Refuse memory of another device.

        Raises
        ------
        ValueError
        """
        place = int(self._cupy.cuda.runtime.pointerGetAttributes(pointer).device)
        if place != self.number:
            raise ValueError(
                f"it lies on GPU {place}, and this process counts on GPU {self.number}: "
                f"start it with CUDA_VISIBLE_DEVICES={place}"
            )
        # Whoever made the array may have a stream of its own; this happens once a column.
        self.synchronize()

    @_there
    def empty(self, size: int) -> _Array:
        """So many bytes, whatever is in them."""
        return _Array(self, self._cupy.cuda.alloc(max(size, 1)), size)

    @_there
    def array(self, contents: npt.NDArray[Any]) -> _Array:
        flat = np.ascontiguousarray(contents)
        made = self.empty(flat.nbytes)
        if flat.nbytes:
            runtime = self._cupy.cuda.runtime
            runtime.memcpyAsync(made.pointer, flat.ctypes.data, flat.nbytes, TO_DEVICE, self._stream.ptr)
            if self._lent.add(flat):
                self.finish()
        return made

    @_there
    def zeros(self, size: int) -> _Array:
        made = self.empty(size)
        if size:
            self._cupy.cuda.runtime.memsetAsync(made.pointer, 0, size, self._stream.ptr)
        return made

    @_there
    def slab(self, size: int) -> _Slab:
        # Memory that the pool hands on may still be read by kernels of our stream, and slabs have streams of their own.
        self.finish()
        # What a pool holds back may be what is missing.
        self._cupy.get_default_memory_pool().free_all_blocks()
        return _Slab(self._cupy, size)

    @_there
    def fetch(self, pointer: int, size: int) -> npt.NDArray[np.uint8]:
        runtime = self._cupy.cuda.runtime
        self.synchronize()
        host = np.empty(size, np.uint8)
        if size:
            runtime.memcpyAsync(host.ctypes.data, pointer, size, TO_HOST, self._stream.ptr)
            self._stream.synchronize()
        return host

    def rows(
        self, pointer: int, size: int, stride: int, rows: int, chosen: npt.NDArray[np.int64] | None = None
    ) -> DeviceArray:
        return take_rows(self, pointer, size, stride, rows, chosen)

    def synchronize(self) -> None:
        """Wait for all work that was begun."""
        with self._cupy.cuda.Device(self.number), self._lent.waited():
            self._cupy.cuda.runtime.deviceSynchronize()

    # --- for benchmarks ---

    @_there
    def free(self) -> int:
        """Bytes of memory that are free, those that CuPy's pool holds back too."""
        self._cupy.get_default_memory_pool().free_all_blocks()
        return int(self._cupy.cuda.runtime.memGetInfo()[0])

    @_there
    def copy(self, target: _Array, source: _Array) -> None:
        """Begin to copy an array to another one of the same size."""
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(target.pointer, source.pointer, source.size, ON_DEVICE, self._stream.ptr)

    @_there
    def timed(self, work: Callable[[], None]) -> float:
        """Seconds from where the device begins with some work to where it ends; without what comes before."""
        cuda = self._cupy.cuda
        start, end = cuda.Event(), cuda.Event()
        start.record(self._stream)
        work()
        end.record(self._stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(start, end)) / 1000

    def versions(self) -> dict[str, Any]:
        """Of the driver and of CUDA, and the compute capability."""
        runtime = self._cupy.cuda.runtime
        properties = runtime.getDeviceProperties(self.number)
        return {
            "compute_capability": f"{properties['major']}.{properties['minor']}",
            "driver": int(runtime.driverGetVersion()),
            "runtime": int(runtime.runtimeGetVersion()),
        }

    @_there
    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        arguments: Sequence[Any],
        slab: Slab | None = None,
    ) -> None:
        given = tuple(np.uint64(one.pointer) if isinstance(one, _Array) else one for one in arguments)
        stream = self._stream
        if slab is not None:
            own = cast("_Slab", slab)
            stream = own.stream
            stream.wait_event(self._stream.record())
            own.alive.append(arguments)
        with stream:
            self._kernel(kernel, shared)(grid, (threads, 1, 1), given, shared_mem=shared)

    def _kernel(self, name: str, shared: int) -> Any:
        with self._lock:
            if name not in self._kernels:
                self._kernels[name] = self._compiled(name)
                # Else the driver decides how much of the cache is shared memory, maybe too little for a second block.
                self._kernels[name].preferred_shared_memory_carveout = 100
            kernel = self._kernels[name]
            if shared > self._largest.get(name, USUAL_SHARED):
                kernel.max_dynamic_shared_size_bytes = self._largest[name] = shared
            return kernel

    def _compiled(self, name: str) -> Any:
        """A kernel of the module, which CuPy compiles when the first one is asked for.

        Raises
        ------
        RuntimeError
            If it cannot be compiled; most often because a library or headers of CUDA are missing.
        """
        try:
            return self._module.get_function(name)
        except Exception as error:  # of CuPy, its compiler, and the driver
            if memory_missing(error):
                raise
            raise RuntimeError(
                f"backend cuda: its kernels cannot be compiled ({first_line(error)}): {INSTALL}"
            ) from error
