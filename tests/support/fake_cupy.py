"""CuPy as far as gpudrift uses it, on a machine without a GPU: memory is the host's, kernels run by the emulation.

What is asked of it here must exist in CuPy: test_cuda.py compares the names with the real one where that is installed.
Streams do nothing but check that what they are asked for makes sense; copies are made at once.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock, local
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from gpudrift.backends.cuda import device as cuda
from support import emulated_gpu


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Pointer:
    def __init__(self, size: int) -> None:
        self.memory = np.full(size, 0xCD, np.uint8)
        self.ptr = self.memory.ctypes.data


class Current(local):
    """Streams that a thread uses, the innermost last."""

    def __init__(self) -> None:
        self.streams: list[Any] = []


CURRENT = Current()


class PlainStream:
    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = id(self)

    def __enter__(self) -> PlainStream:
        CURRENT.streams.append(self)
        return self

    def __exit__(self, *_error: object) -> None:
        assert CURRENT.streams.pop() is self

    def synchronize(self) -> None:
        return

    def record(self) -> PlainStream:
        return self

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
        self.work.begin(partial(self.kernels.launch, self.name, grid, block[0], shared_mem, args))
        self.told.append((self.name, grid, shared_mem))


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


def forget() -> None:
    """Have gpudrift look again whether there is a GPU."""
    cuda.why_not.cache_clear()
    cuda._device.cache_clear()


class Work:
    """Kernels that were begun; where ``late``, they run when somebody waits for them and not before."""

    def __init__(self, late: bool) -> None:
        self.late = late
        self.begun: list[Any] = []
        self.lock = Lock()
        """A thread that waits waits for kernels, too, that another one is running."""
        self.memory: list[Pointer] = []
        """Kept: a pool would not hand it on before they are done, and another thread may be about to begin one."""

    def begin(self, kernel: Any) -> None:
        if self.late:
            with self.lock:
                self.begun.append((CURRENT.streams[-1], kernel))
        else:
            kernel()

    def wait(self, stream: PlainStream, other: PlainStream) -> None:
        """What comes on a stream waits for what was begun on another one."""
        if self.late:
            with self.lock:
                self.begun.append((stream, other))

    def finish(self, stream: Any = None) -> None:
        """Run what was begun on a stream and what that waits for, or all of it."""
        with self.lock:
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
    place: int = 0,
    late: bool = False,
    uuid: bytes = bytes(16),
) -> ModuleType:
    """The module, with so many devices and bytes of memory; arrays lie on device ``place``."""
    cupy = ModuleType("cupy")
    kernels = emulated_gpu.Kernels(library)
    told: list[Any] = []
    room = [memory]
    work = Work(late)

    class Stream(PlainStream):
        def synchronize(self) -> None:
            work.finish(self)

        def wait_event(self, event: PlainStream) -> None:
            super().wait_event(event)
            work.wait(self, event)

    class Device:
        def __init__(self, number: int = 0) -> None:
            self.id = number
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
            assert "#include" not in code
            assert {"--fmad=false", *emulated_gpu.H200.options} <= set(options)

        def get_function(self, name: str) -> Function:
            return Function(kernels, name, told, work)

    def alloc(size: int) -> Pointer:
        assert CURRENT.streams, "memory is taken on the stream that uses it"
        if size > room[0]:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        made = Pointer(size)
        if late:
            work.memory.append(made)
        return made

    def alloc_pinned_memory(size: int) -> Any:
        if 2 * size > memory:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        return (ctypes.c_uint8 * size)()

    def memcpy_async(target: int, source: int, size: int, kind: int, stream: int) -> None:
        assert kind in (1, 2, 3)
        if kind == 2:
            work.finish()
        ctypes.memmove(target, source, size)

    def memset_async(target: int, value: int, size: int, stream: int) -> None:
        ctypes.memset(target, value, size)

    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=Event,
        get_elapsed_time=lambda start, end: 1000 * (end.time - start.time),
        alloc=alloc,
        alloc_pinned_memory=alloc_pinned_memory,
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=lambda: devices,
            getDeviceProperties=lambda number: {"name": b"Emulated GPU", "major": 9, "minor": 0, "uuid": uuid},
            deviceGetPCIBusId=lambda number: "0000:01:00.0",
            memGetInfo=lambda: (memory, memory),
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000,
            memcpyAsync=memcpy_async,
            memsetAsync=memset_async,
            deviceSynchronize=work.finish,
            pointerGetAttributes=lambda pointer: SimpleNamespace(device=place),
        ),
    )
    cupy.RawModule = RawModule
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_all_blocks=lambda: None)
    cupy.from_dlpack = lambda tensor: Array(tensor.values)
    cupy.told = told
    cupy.__version__ = "14.0.0"
    return cupy
