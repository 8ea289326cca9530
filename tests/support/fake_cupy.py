"""CuPy as far as gpudrift uses it, on a machine without a GPU: memory is the host's, kernels run by the emulation.

What is asked of it here must exist in CuPy: test_real_packages.py compares it with the real one where that is
installed. Where ``late``, kernels, copies and fillings run when somebody waits for their stream and not before, in its
order: a copy then reads the host's memory as it is by that time. Memory that is freed is overwritten, as by whoever has
it next: behind what its stream was asked for before, and at once where nothing is late.

What it does not do, so that no test of this kind can fail for it:

* refuse code that does not compile: tests/kernels compile all of it with CUDA's own compiler;
* wait, as ``free_all_blocks`` and page-locked memory that is freed may: what a test sees is what is not waited for;
* hand on the addresses of freed memory: they are overwritten instead, which shows the same mistakes;
* run two kernels at a time, of one stream or of two; blocks of a kernel run one after the other.
"""

from __future__ import annotations

import ctypes
import re
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock, local
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda.launch import COLUMN
from support import emulated_gpu

NO_HEADERS = (
    "Failed to find CUDA headers. Please install CUDA toolkit headers (e.g., pip install cupy-cuda12x[ctk]) or specify "
    "CUDA_PATH environment variable."
)
POISON = 0xCD
ALIGNED = 512
"""Bytes, of which the address of each piece of memory is a multiple."""
WIDTHS = {f"{kind}{bits}": bits // 8 for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)}
WIDTHS["decimal128"] = 16


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Pointer:
    """Memory of a stream, which gets it back."""

    def __init__(self, size: int, stream: PlainStream, work: Work) -> None:
        memory = np.full(size + ALIGNED, POISON, np.uint8)
        self.ptr = -(-memory.ctypes.data // ALIGNED) * ALIGNED
        work.live[id(self)] = size
        weakref.finalize(self, work.free, id(self), stream, memory)


class Current(local):
    """Streams that a thread uses, the innermost last."""

    def __init__(self) -> None:
        self.streams: list[Any] = []


CURRENT = Current()


STREAMS: weakref.WeakValueDictionary[int, PlainStream] = weakref.WeakValueDictionary()
"""By the number that C code knows them by."""


class PlainStream:
    work: Work

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        assert non_blocking, "others wait for the default stream, and it for them"
        self.ptr = id(self)
        STREAMS[self.ptr] = self

    def __enter__(self) -> PlainStream:
        CURRENT.streams.append(self)
        return self

    def __exit__(self, *_error: object) -> None:
        assert CURRENT.streams.pop() is self

    def synchronize(self) -> None:
        return

    def record(self) -> PlainStream:
        return self

    def begin(self, work: Callable[[], object]) -> None:
        """Run something on it, as libraries other than CuPy do."""
        self.work.begin(work, self)

    def wait_event(self, event: PlainStream) -> None:
        assert isinstance(event, PlainStream)


class Event:
    def record(self, stream: PlainStream) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        assert self.time


class Function:
    def __init__(self, kernels: emulated_gpu.Kernels, name: str, told: list[Any], work: Work) -> None:
        self.kernels, self.name, self.told, self.work = kernels, name, told, work
        self.max_dynamic_shared_size_bytes = 48 << 10
        self.preferred_shared_memory_carveout = -1

    def __call__(self, grid: tuple, block: tuple, args: Sequence[Any], *, shared_mem: int = 0) -> None:
        assert CURRENT.streams, "kernels are launched on a stream of their own"
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        assert all(isinstance(one, np.generic) for one in args)
        self.work.begin(partial(self._run, grid, block[0], shared_mem, args))
        self.told.append((self.name, grid, shared_mem))

    def _run(self, grid: tuple, threads: int, shared: int, args: Sequence[Any]) -> None:
        """Run it, unless it would read numbers at addresses where a GPU has none: those are no multiples of a size."""
        if self.name.startswith("gd_count_"):
            columns = np.frombuffer(ctypes.string_at(int(args[0]), grid[1] * COLUMN.itemsize), COLUMN)
            width = WIDTHS[self.name.removeprefix("gd_count_")]
            assert not (columns["values"] % width).any(), f"{self.name}: misaligned address"
        if self.name == "gd_check_texts":
            assert int(args[1]) % (8 if args[2] else 4) == 0, f"{self.name}: misaligned address"
        self.kernels.launch(self.name, grid, threads, shared, args)


class Array:
    """A CuPy array as others see it."""

    def __init__(self, values: np.ndarray, mask: np.ndarray | None = None, stream: int | None = 1) -> None:
        self.values, self.mask, self.stream = values, mask, stream

    def __len__(self) -> int:
        return len(self.values)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        found = dict(self.values.__array_interface__)
        found |= {"version": 3, "stream": self.stream}
        found.pop("descr")
        if self.mask is not None:
            shown = dict(self.mask.__array_interface__) | {"shape": self.values.shape, "typestr": "<t1"}
            found["mask"] = SimpleNamespace(__cuda_array_interface__=shown)
        return found


class Tensor:
    """An array that speaks DLPack only."""

    def __init__(self, values: np.ndarray, device: tuple[int, int] = (2, 0)) -> None:
        self.values, self.device = values, device

    def __len__(self) -> int:
        return len(self.values)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **_options: Any) -> Any:
        raise NotImplementedError


def put(cupy: ModuleType, into: Callable[[dict, str, Any], None] = dict.__setitem__) -> None:
    """Put the double, and what it finds CUDA's headers with, in the place of the real ones; tests do by monkeypatch."""
    into(sys.modules, "cupy", cupy)
    into(sys.modules, "cuda.pathfinder", cupy.pathfinder)
    forget()


def forget() -> None:
    """Have gpudrift look again whether there is a GPU."""
    cuda.why_not.cache_clear()
    cuda._device.cache_clear()


class Work:
    """Kernels and copies that were begun; where ``late``, they run when somebody waits for them and not before."""

    def __init__(self, late: bool) -> None:
        self.late = late
        self.begun: list[Any] = []
        self.lock = Lock()
        """A thread that waits waits for kernels, too, that another one is running."""
        self.live: dict[int, int] = {}
        """Bytes of what is not freed."""
        self.freed: deque[tuple[PlainStream, np.ndarray]] = deque()
        """Not overwritten yet: it may be let go in any thread at any time, also in the middle of a call of this."""

    def begin(self, work: Callable[[], object], stream: PlainStream | None = None) -> None:
        """Run something on a stream, or on the current one of the thread."""
        if self.late:
            with self.lock:
                self._take_freed()
                self.begun.append((stream or CURRENT.streams[-1], work))
        else:
            work()

    def free(self, number: int, stream: PlainStream, memory: np.ndarray) -> None:
        del self.live[number]
        if self.late:
            self.freed.append((stream, memory))
        else:
            memory.fill(POISON)

    def _take_freed(self) -> None:
        while self.freed:
            stream, memory = self.freed.popleft()
            self.begun.append((stream, partial(memory.fill, POISON)))

    def wait(self, stream: PlainStream, other: PlainStream) -> None:
        """What comes on a stream waits for what was begun on another one."""
        if self.late:
            with self.lock:
                self._take_freed()
                self.begun.append((stream, other))

    def finish(self, stream: Any = None) -> None:
        """Run what was begun on a stream and what that waits for, or all of it."""
        with self.lock:
            self._take_freed()
            begun, self.begun = self.begun, []
            waited = {stream}
            wanted = []
            for own, kernel in reversed(begun):
                wanted.append(stream is None or own in waited)
                if wanted[-1] and isinstance(kernel, PlainStream):
                    waited.add(kernel)
            for (own, kernel), its in zip(begun, reversed(wanted), strict=True):
                if not its:
                    self.begun.append((own, kernel))
                elif not isinstance(kernel, PlainStream):
                    kernel()


def made(
    library: Path,
    *,
    devices: int = 1,
    memory: int = 1 << 30,
    locked: int = 1 << 30,
    place: int = 0,
    late: bool = False,
    uuid: bytes = bytes(16),
    headers: bool = True,
) -> ModuleType:
    """The module, with so many devices and bytes of memory, and of page-locked memory; arrays lie on device ``place``.

    ``pathfinder`` is what it looks for CUDA's headers with, and whether it finds any; see :func:`put`.
    """
    cupy = ModuleType("cupy")
    kernels = emulated_gpu.Kernels(library)
    told: list[Any] = []
    work = Work(late)
    made_work = work

    class Stream(PlainStream):
        work = made_work

        def synchronize(self) -> None:
            work.finish(self)

        def wait_event(self, event: PlainStream) -> None:
            super().wait_event(event)
            work.wait(self, event)

    class Device:
        def __init__(self, device: int = 0) -> None:
            self.id = device
            self.attributes = {
                "MultiProcessorCount": 3,
                "MaxSharedMemoryPerBlockOptin": emulated_gpu.H200.block,
                "MaxSharedMemoryPerMultiprocessor": emulated_gpu.H200.multiprocessor,
            }

        def __enter__(self) -> Device:
            return self

        def __exit__(self, *_error: object) -> None:
            return

    class RawModule:
        def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
            assert isinstance(options, tuple)
            assert "#include" not in code
            assert {"--fmad=false", *emulated_gpu.H200.options} <= set(options)
            # Those that a macro makes have their type there, behind the rest of the name.
            self.names = set(re.findall(r"\w+", code))

        def get_function(self, name: str) -> Function:
            if not headers:
                raise RuntimeError(NO_HEADERS)
            assert {name, name.rpartition("_")[2]} & self.names, f"CUDA_ERROR_NOT_FOUND: {name}"
            return Function(kernels, name, told, work)

    def alloc(size: int) -> Pointer:
        assert CURRENT.streams, "memory is taken on the stream that uses it"
        if size + sum(list(work.live.values())) > memory:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        return Pointer(size, CURRENT.streams[-1], work)

    def alloc_pinned_memory(size: int) -> Any:
        if size > locked:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        return (ctypes.c_uint8 * size)()

    def memcpy_async(dst: int, src: int, size: int, kind: int, stream: int) -> None:
        assert kind in (1, 2, 3)
        work.begin(partial(ctypes.memmove, dst, src, size), STREAMS[stream])

    def memset_async(ptr: int, value: int, size: int, stream: int) -> None:
        work.begin(partial(ctypes.memset, ptr, value, size), STREAMS[stream])

    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=Event,
        get_elapsed_time=lambda start_event, end_event: 1000 * (end_event.time - start_event.time),
        alloc=alloc,
        alloc_pinned_memory=alloc_pinned_memory,
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: devices,
            getDeviceProperties=lambda device: {"name": b"Emulated GPU", "major": 9, "minor": 0, "uuid": uuid},
            deviceGetPCIBusId=lambda device: "0000:01:00.0",
            memGetInfo=lambda: (memory, memory),
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000,
            memcpyAsync=memcpy_async,
            memsetAsync=memset_async,
            deviceSynchronize=partial(work.finish, None),
            pointerGetAttributes=lambda ptr: SimpleNamespace(device=place),
        ),
    )
    cupy.RawModule = RawModule
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    cupy.from_dlpack = lambda array: Array(array.values)
    cupy.told = told
    cupy.pathfinder = ModuleType("cuda.pathfinder")
    cupy.pathfinder.find_nvidia_header_directory = lambda name: {"cudart": "include"}[name] if headers else None
    cupy.__version__ = "14.0.0"
    return cupy
