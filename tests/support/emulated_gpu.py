"""A device made of g++: the kernels as they are, run on the CPU by emulation/cuda_on_cpu.h."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import subprocess
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gpudrift.backends.counters import count_frame
from gpudrift.backends.cuda import launch as cuda_launch
from gpudrift.backends.cuda.layout import SharedMemory
from gpudrift.backends.cuda.staging import DeviceState, SlabPool
from gpudrift.backends.numpy import NumpyKernels
from gpudrift.columns.schema import Schema
from gpudrift.counts.profiles import Profile

if TYPE_CHECKING:
    import pytest

EMULATION = Path(__file__).resolve().parent / "emulation"
KERNELS = Path(__file__).resolve().parents[2] / "kernels"
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-fno-fast-math", "-Wall", "-Werror")
QUIET = ("-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable")
FORWARD, REVERSE, SHUFFLED = range(3)
ONE_AT_A_TIME = Lock()
"""The emulation has one set of fibers."""


H200, RTX, T4 = SharedMemory(227 << 10, 228 << 10), SharedMemory(99 << 10, 100 << 10), SharedMemory(64 << 10, 64 << 10)
"""Shared memory of sm_90, of sm_86 and sm_120, of sm_75; kernels are compiled for it."""
FLUSH = "-DGD_FLUSH"
"""As CuPy has them compiled: subnormals of float32 are zero to whatever C++ does with them."""
ROOMS: dict[Path, SharedMemory] = {}
"""Of libraries that were built in this process."""


def build(folder: Path, *more: str, room: SharedMemory = H200, change: Callable[[str, str], str] | None = None) -> Path:
    """Compile the kernels to a shared library; ``change`` gets the name and text of each file and gives its text."""
    sources = {path.name: path.read_text() for path in sorted(KERNELS.glob("*.cu*"))}
    if change is not None:
        sources = {name: change(name, text) for name, text in sources.items()}
    more = (*room.options, *more)
    key = hashlib.sha256(repr((sources, more)).encode()).hexdigest()[:16]
    own = folder / key
    library = own / "kernels.so"
    ROOMS[library] = room
    if not library.exists():
        own.mkdir(parents=True, exist_ok=True)
        for name, text in sources.items():
            (own / name).write_text(text)
        command = ["g++", *FLAGS, *QUIET, *more, f"-I{own}", f"-I{EMULATION}", str(EMULATION / "emulate.cpp")]
        done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return library


def build_fault(
    folder: Path, fault: Callable[[str, str], str], *more: str, room: SharedMemory = H200, stored: str = "float64"
) -> Path:
    """Compile a planted fault, of the counting kernels only one: in a quarter of the time."""

    def change(name: str, text: str) -> str:
        return fault(name, re.sub(rf"^GD_KERNEL\((?!{stored}\b).*\n", "", text, flags=re.MULTILINE))

    return build(folder, "-O1", f"-DONLY=gd_count_{stored}", *more, room=room, change=change)


def shared(factory: pytest.TempPathFactory, *more: str, room: SharedMemory = H200) -> Path:
    """The kernels as they are, compiled once for all processes of a test run; three seconds of a core."""
    own = factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with (folder / "emulation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build(folder / "emulation", *more, room=room)


class Array:
    def __init__(self, contents: np.ndarray) -> None:
        self.contents = np.ascontiguousarray(contents).reshape(-1).view(np.uint8).copy()

    @property
    def pointer(self) -> int:
        return self.contents.ctypes.data

    def read(self) -> np.ndarray:
        return self.contents.copy()


class Slab:
    """Host and device memory apart, as on a machine with a GPU; what is not sent is not there."""

    def __init__(self, size: int) -> None:
        self.host = np.zeros(size, np.uint8)
        self.device = np.full(size + 64, 0xCD, np.uint8)
        self.sent: list[int] = []

    @property
    def pointer(self) -> int:
        return -(-self.device.ctypes.data // 64) * 64

    def send(self, size: int) -> None:
        start = self.pointer - self.device.ctypes.data
        self.device[start : start + size] = self.host[:size]
        self.host[:] = 0xAB  # whatever is read of it later was not meant to be
        self.sent.append(size)

    def wait(self) -> None:
        return


class Kernels:
    """The kernels of a library that was built here, by name."""

    def __init__(self, library: Path, order: int = FORWARD) -> None:
        self._launch = ctypes.CDLL(os.fspath(library)).emulated_launch
        self.order, self.number = order, 0

    def launch(self, kernel: str, grid: tuple[int, int, int], threads: int, shared: int, arguments: Sequence) -> None:
        """Run a kernel; arguments are NumPy scalars."""
        assert threads <= 1024
        assert 0 < grid[0] < 2**31
        assert 0 < grid[1] <= 65_535
        assert 0 < grid[2] <= 65_535
        held = [np.array(one) for one in arguments]
        addresses = (ctypes.c_void_p * len(held))(*[one.ctypes.data for one in held])
        told = ctypes.create_string_buffer(512)
        sizes = ((ctypes.c_uint * 3)(*grid), ctypes.c_uint(threads), ctypes.c_size_t(shared))
        how = (ctypes.c_int(self.order), ctypes.c_uint(self.number))
        with ONE_AT_A_TIME:
            failed = self._launch(kernel.encode(), *sizes, *how, addresses, told, ctypes.c_size_t(512))
        assert not failed, told.value.decode()
        self.number += 1


class EmulatedDevice:
    """Implements `Device` of gpudrift.backends.cuda.launch, and `Memory` of gpudrift.columns.device."""

    def __init__(self, library: Path, order: int = FORWARD, memory: int = 1 << 40) -> None:
        self.kernels = Kernels(library, order)
        self.multiprocessors, self.shared_memory = 2, ROOMS.get(library, H200)
        self.memory = memory
        self.launched: list[tuple[str, tuple[int, int, int], int, int]] = []

    def array(self, contents: np.ndarray) -> Array:
        return Array(contents)

    def zeros(self, size: int) -> Array:
        return Array(np.zeros(size, np.uint8))

    def slab(self, size: int) -> Slab:
        if size > self.memory:
            raise MemoryError(f"{size} bytes")
        self.memory -= size
        made = Slab(size)
        weakref.finalize(made, self._give_back, size)
        return made

    def _give_back(self, size: int) -> None:
        self.memory += size

    def fetch(self, pointer: int, size: int) -> np.ndarray:
        return np.frombuffer(ctypes.string_at(pointer, size), np.uint8)

    def rows(
        self, pointer: int, size: int, stride: int, rows: int, chosen: np.ndarray | None = None
    ) -> cuda_launch.DeviceArray:
        return cuda_launch.take_rows(self, pointer, size, stride, rows, chosen)

    def finish(self) -> None:
        return

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        arguments: Sequence[Any],
        slab: Slab | None = None,
    ) -> None:
        assert shared <= self.shared_memory.block
        given = [np.uint64(one.pointer) if hasattr(one, "pointer") else one for one in arguments]
        self.kernels.launch(kernel, grid, threads, shared, given)
        self.launched.append((kernel, grid, threads, shared))


def count_on(device: EmulatedDevice, table: pa.Table, schema: Schema, budget: int, pairs: int = 1) -> Profile:
    """Count a table as a whole on a device, through slabs of so many bytes together."""
    pool = SlabPool(device, budget, pairs)
    return count_frame(table.to_batches(), schema, lambda own: DeviceState(own, device, NumpyKernels(), pool))


def replaced(name: str, old: str, new: str, times: int = 1) -> Callable[[str, str], str]:
    def change(its_name: str, text: str) -> str:
        if its_name != name:
            return text
        assert text.count(old) == times, old
        return text.replace(old, new)

    return change
