"""What is measured: a backend, with columns where it likes them best."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_backend
from gpudrift.backends.cuda.launch import Counters, DeviceArray, device_values
from gpudrift.columns.schema import Schema
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source
from gpudrift.sources import open_source
from gpudrift.windows.grouping import WHOLE

__all__ = ["Counting", "Engine", "cpu_engine", "cuda_engine"]

COPIED = 1 << 28
"""Bytes of a copy whose bandwidth is measured: beyond every cache."""


@dataclass(frozen=True)
class Counting:
    """Columns that are in place.

    Parameters
    ----------
    run : callable
        Count all of them once; returns when that is done.
    check : callable
        Raises AssertionError where the counts differ from another backend's.
    idle : callable or None
        Count once; the share of the seconds in which the GPU had nothing to do.
    held : object
        The columns, for as long as they are counted.
    """

    run: Callable[[], None]
    check: Callable[[], None]
    idle: Callable[[], float] | None = None
    held: Any = None


class Engine(Protocol):
    """A backend on its hardware."""

    name: str
    usual_rows: int
    copied: int
    """Bytes of the copy whose bandwidth is measured."""

    @property
    def usual_columns(self) -> int:
        """So that all of it has work."""

    @property
    def device(self) -> str:
        """In words."""

    @property
    def details(self) -> Mapping[str, Any]: ...

    @property
    def room(self) -> int:
        """Bytes that columns may take."""

    def copy_bandwidth(self) -> float:
        """Bytes read and written a second by a plain copy."""

    def counting(self, values: npt.NDArray[Any], schema: Schema, columns: int) -> Counting:
        """A column, so many times, each in memory of its own."""


def cpu_engine(backend: str, threads: int) -> Engine:
    """The cores of this process."""
    return _Cpu(backend, Settings(backend, threads))


def cuda_engine() -> Engine:
    """The GPU of this process.

    Raises
    ------
    RuntimeError
        If there is none that can be used.
    """
    from gpudrift.backends.cuda.device import device

    return _Cuda(device())


def _same(found: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], values: Any, schema: Schema, by: str) -> None:
    wanted = load_backend(by)(pa.table({"x": values}).to_batches(), schema)
    equal = np.array_equal(found[0], wanted.counts) and np.array_equal(found[1], wanted.sums)
    assert equal, f"the counts of {by} are others: this is a mistake in gpudrift, please report it"


@dataclass
class _Cpu:
    name: str
    settings: Settings
    usual_rows: int = 1 << 20
    copied: int = COPIED
    room: int = 4 << 30

    @property
    def usual_columns(self) -> int:
        return 8 * self.settings.workers

    @property
    def details(self) -> Mapping[str, Any]:
        return {"threads": self.settings.workers}

    @property
    def device(self) -> str:
        return f"{self.settings.workers} of {os.cpu_count()} cores"

    def copy_bandwidth(self) -> float:
        workers = self.settings.workers
        pairs = [np.ones((2, self.copied // workers // 8)) for _ in range(workers)]
        seconds = []
        with ThreadPoolExecutor(workers) as pool:
            for _ in range(5):
                start = time.perf_counter()
                list(pool.map(lambda pair: np.copyto(pair[0], pair[1]), pairs))
                seconds.append(time.perf_counter() - start)
        return sum(pair.nbytes for pair in pairs) / float(np.median(seconds))

    def counting(self, values: npt.NDArray[Any], schema: Schema, columns: int) -> Counting:
        names = ["x"] if columns == 1 else [f"x{at}" for at in range(columns)]
        table = pa.table({name: pa.array(values.copy()) for name in names})
        whole = _repeated(schema, names)
        source = open_source(table)
        counted = count_source(source, whole, WHOLE, None, self.settings).total()  # also loads the compiled loops

        def check() -> None:
            own = counted.select([names[-1]])
            _same((own.counts, own.sums), values, schema, "numpy" if self.name == "numba" else "numba")

        def run() -> None:
            count_source(source, whole, WHOLE, None, self.settings)

        return Counting(run, check)


@dataclass
class _Cuda:
    own: Any
    name: str = "cuda"
    usual_rows: int = 1 << 26
    usual_columns: int = 1
    copied: int = 1 << 30

    @property
    def device(self) -> str:
        return str(self.own.name)

    @property
    def room(self) -> int:
        return int(0.8 * self.own.free())

    @property
    def details(self) -> Mapping[str, Any]:
        return {
            "multiprocessors": self.own.multiprocessors,
            "shared_bytes_of_a_block": self.own.shared_memory.block,
            **self.own.versions(),
        }

    def copy_bandwidth(self) -> float:
        size = min(self.copied, self.room // 2)
        source, target = self.own.zeros(size), self.own.zeros(size)
        seconds = [self.own.timed(lambda: self.own.copy(target, source)) for _ in range(9)]
        return 2 * size / float(np.median(seconds[2:]))

    def counting(self, values: npt.NDArray[Any], schema: Schema, columns: int) -> Counting:
        names = ["x"] if columns == 1 else [f"x{at}" for at in range(columns)]
        whole = _repeated(schema, names)
        first = self.own.array(values)
        held: list[DeviceArray] = [first]
        for _ in range(columns - 1):
            held.append(self.own.empty(values.nbytes))
            self.own.copy(held[-1], first)
        stored = str(values.dtype)
        described = device_values((at, stored, values.size, one.pointer, 0, 0, False) for at, one in enumerate(held))
        counters = Counters(self.own, whole)

        def check() -> None:
            fresh = Counters(self.own, whole)
            fresh.add(described)
            counts, sums, _, _ = fresh.read()
            last = slice(int(whole.offsets[-2]), int(whole.offsets[-1]))
            _same((counts[0, last], sums[0, last]), values, schema, "numba")

        def run() -> None:
            counters.add(described)
            self.own.synchronize()

        def idle() -> float:
            self.own.synchronize()
            start = time.perf_counter()
            run()
            whole = time.perf_counter() - start
            # Behind another one, so that the device need not wait for the host when it comes to it.
            counters.add(described)
            return max(0.0, 1.0 - float(self.own.timed(lambda: counters.add(described))) / whole)

        return Counting(run, check, idle, held)


def _repeated(schema: Schema, names: list[str]) -> Schema:
    return schema if names == ["x"] else Schema(tuple(replace(schema.columns[0], name=name) for name in names))
