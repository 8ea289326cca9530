"""Memory of a GPU: how much may be taken, what CuPy makes of it, where cuDF has it from, and how a lack of it is told.

CuPy and libcudf have many ways to say that there is no memory. To the engine there is one, MemoryError: whoever catches
it takes smaller steps.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Lent", "Slab", "Stream", "asked_budget", "first_line", "memory_missing", "use_pool"]

BUDGET = "GPUDRIFT_GPU_MEMORY"
"""Environment variable that says how much memory may be taken, for instance 2GB."""
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
MISSING = re.compile(
    r"out.?of.?memory|bad_alloc|MemoryAllocation|pool size exceeded|memory limit|get_temporary_buffer failed", re.I
)
"""In the messages of CUDA, whoever hands them on, of RMM's pools and limits, and of Thrust."""
MOST_LENT = 32 << 20
"""Bytes of host arrays that wait for their copies."""
TO_DEVICE = 1
"""cudaMemcpyKind."""


def asked_budget() -> int | None:
    """Bytes that the environment asks for.

    Raises
    ------
    ValueError
        If it says something that is no size.
    """
    asked = os.environ.get(BUDGET)
    if not asked:
        return None
    read = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([kMG]|[KMG]i|)B?", asked.strip())
    if read is None:
        raise ValueError(f"{BUDGET}: expected a size such as 512MB or 2GiB, got {asked!r}")
    return int(float(read[1]) * UNITS[read[2]])


def first_line(error: BaseException) -> str:
    """Of its message; the kind of error where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def memory_missing(error: BaseException) -> bool:
    """Whether an error of CUDA's libraries, whatever its type, says that there is no memory."""
    return isinstance(error, MemoryError) or MISSING.search(str(error)) is not None


def use_pool(number: int, kept: int) -> None:
    """Have RMM, which cuDF takes its memory from, use the driver's pool on a device, the current one.

    It begins with plain cudaMalloc and cudaFree, which wait for all work of the device: for each buffer of each column
    of each chunk. Whoever has chosen something else keeps it, and plain it stays where the driver has no pool.

    Parameters
    ----------
    number : int
    kept : int
        Bytes that the pool holds back for the next time; what is free beyond them others may have.
    """
    try:
        import rmm
    except ImportError:  # it comes with cuDF; whoever has that without RMM has a cuDF that does not work
        return
    if type(rmm.mr.get_per_device_resource(number)) is rmm.mr.CudaMemoryResource:
        with suppress(RuntimeError):
            pool = rmm.mr.CudaAsyncMemoryResource(release_threshold=kept)
            rmm.mr.set_per_device_resource(number, pool)


class Lent:
    """Host arrays that copies on a stream may still read: CUDA may leave pageable memory where it is.

    It does so on systems where the GPU reads all memory of the host; on others it has copied it when the call returns.

    Parameters
    ----------
    most : int
        Bytes beyond which :meth:`add` says that it is time to wait.
    """

    def __init__(self, most: int = MOST_LENT) -> None:
        self.most, self.size = most, 0
        self.arrays: list[npt.NDArray[Any]] = []
        self.lock = Lock()

    def add(self, array: npt.NDArray[Any]) -> bool:
        """Keep an array whose copy was begun; whether there are so many that somebody should wait for them."""
        with self.lock:
            self.arrays.append(array)
            self.size += array.nbytes
            return self.size > self.most

    @contextmanager
    def waited(self) -> Iterator[None]:
        """Let go of those that are here now at the end of the context, which waits for the stream."""
        with self.lock:  # another thread may begin a copy while this one waits
            held, self.arrays, self.size = self.arrays, [], 0
        yield
        held.clear()


class Array:
    """See :class:`gpudrift.backends.cuda.launch.DeviceArray`."""

    def __init__(self, device: Any, memory: Any, size: int) -> None:
        self.device, self.memory, self.size = device, memory, size

    @property
    def pointer(self) -> int:
        return int(self.memory.ptr)

    def read(self) -> npt.NDArray[np.uint8]:
        found: npt.NDArray[np.uint8] = self.device.fetch(self.pointer, self.size)
        return found


class Slab:
    """See :class:`gpudrift.backends.cuda.launch.Slab`; copies and kernels of a slab have a stream of their own."""

    def __init__(self, cupy: Any, size: int) -> None:
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._cupy = cupy
        self._memory = cupy.cuda.alloc(size)
        try:
            self._locked = cupy.cuda.alloc_pinned_memory(size)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            if not memory_missing(error):
                raise
            raise MemoryError(f"{size} bytes of page-locked host memory: {error}") from error
        self.host = np.frombuffer(self._locked, np.uint8, size)
        self.alive: list[Any] = []
        """What kernels of this stream still read."""

    @property
    def pointer(self) -> int:
        return int(self._memory.ptr)

    def send(self, size: int) -> None:
        runtime = self._cupy.cuda.runtime
        runtime.memcpyAsync(self.pointer, self.host.ctypes.data, size, TO_DEVICE, self.stream.ptr)

    def wait(self) -> None:
        self.stream.synchronize()
        self.alive.clear()


class Stream:
    """A stream of CuPy's as cuDF takes it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(self.stream.ptr)

    def synchronize(self) -> None:
        """Wait for all work that was begun on it."""
        self.stream.synchronize()
