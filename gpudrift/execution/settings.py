"""How the work is done: backend, threads, memory, a cluster; no number in a result depends on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from gpudrift.sources.csv_options import CsvOptions

__all__ = ["BUDGET", "Progress", "Settings", "Timing", "usable_cores"]

Timing = Callable[[str], AbstractContextManager[Any]]
"""Opens a context for a named part of the work: "fit", "count" or "merge"; reading is timed by a wrapped source."""


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Parameters
    ----------
    values : int
        Values counted so far, rows times columns.
    total : int or None
        Of how many; None where rows are not known before they are read.
    bytes : int
        Bytes of columns in memory that workers of a cluster have counted so far.
    block, blocks : int
        The block of columns that has just advanced, from 0, and how many there are.
    rows, all_rows : int, int or None
        Rows of that block that are counted, and its rows.
    """

    values: int
    total: int | None
    bytes: int = 0
    block: int = 0
    blocks: int = 1
    rows: int = 0
    all_rows: int | None = None


BUDGET = 192 << 20
"""Bytes that one task may hold in memory. A column of 20 million float64 fits."""


@dataclass(frozen=True)
class Settings:
    """How the work is done; no number in the result depends on it.

    Parameters
    ----------
    backend : {"auto", "cuda", "numba", "numpy"}
        "auto" until it is known where the data lies and what counts there; see :mod:`gpudrift.api.engine`.
    threads : int
        0 means one for each core that this process may use.
    progress : callable, optional
    budget : int
        Bytes that one task may hold.
    client : dask.distributed.Client, optional
        Of the cluster that reads and counts; threads of this process do without one.
    storage_options : mapping, optional
        Of the file system that a URI names, as fsspec knows them; shown nowhere.
    csv : CsvOptions, optional
        How CSV files are written, as far as it should not be found.
    timing : callable
        Is entered around each part of the work on threads, for benchmarks; any number of threads at a time, and parts
        may be nested.
    """

    backend: str = "numba"
    threads: int = 0
    progress: Callable[[Progress], None] | None = None
    budget: int = BUDGET
    client: Any = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    csv: CsvOptions | None = None
    timing: Timing = nullcontext

    @property
    def workers(self) -> int:
        return self.threads or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
