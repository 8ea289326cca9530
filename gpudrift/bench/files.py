"""From Parquet files to a report, beside the bare reader: ``gpudrift bench --files``.

Measured in turn, several times, after a whole run and a library's read that are not counted:

read        every column of a table is read and dropped, by two readers: by the *engine's*, which is the engine itself
            (its reader, blocks of columns, runs of row groups and threads) with the counting left out; and by a
            *library* alone, pylibcudf's ``read_parquet`` on a GPU, ``pyarrow.parquet.read_table`` on cores with its own
            threads. A library reads whole tables; where these take too much memory, file by file.
profile     the reference: bins are chosen and all is counted; the current table: all is counted in these bins
compare     the two profiles are compared and judged, and the report is made as ``gpudrift compare`` shows it: the 20
            columns that drifted most in full (``--json`` makes all in full, which takes as long again)

Files are opened anew each time. Bytes are those of the columns in memory, once, however often they are read: where a
column of the reference exceeds what a task may hold (192 MiB) it is read twice, and the ratio shows it. A ratio is the
median of those of neighbours: what was measured over the read of the same table in the same round.

Before anything is timed a part of the reference is counted by this backend and by another one, read by their own
readers, and the digests of the two profiles must be equal. All rounds must give the same digests.

The split
---------
One more run is timed inside; its figures are in none of the medians. Seconds of a part are those that threads spent in
it without the parts within it, all threads together, so shares are of the sum of the parts and add up to 1:

open        files are found, and their footers read
read        batches are made of row groups, and the system is asked for the next ones
copy        columns of host memory are brought to page-locked memory and sent to the GPU, and a slab is waited for,
            whose copy and count must have ended; 0 on cores and for columns that the reader leaves on the GPU
fit         rows are sampled and bins chosen
count       batches are counted; on a GPU kernels are begun and, at the end of a task, waited for
merge       profiles are added up and put side by side
compare     as above

``busy`` is that sum over the wall time of all threads that may count; what is missing to 1 are threads without work and
all that has no name here. The thread that merges comes on top of those that count, so it may exceed 1.

Memory
------
``host_peak_bytes`` is the peak of the whole process in one run, Python and libraries included, and ``gpu_peak_bytes``
what a run takes on the GPU beyond its context, beside the engine's budget for it
(:class:`gpudrift.backends.cuda.benching.Peak`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, cast

import pyarrow as pa

from gpudrift.backends import load_backend
from gpudrift.backends.cuda import benching
from gpudrift.bench.clock import Clock, TimedSource
from gpudrift.bench.engines import cpu_engine, cuda_engine
from gpudrift.bench.files_result import SPLIT, FilesResult, Measured, Table
from gpudrift.bench.memory import available, host_peak
from gpudrift.bench.surroundings import surroundings
from gpudrift.execution.cuts import block_columns, obstacle
from gpudrift.execution.forecast import size_text
from gpudrift.execution.settings import Settings
from gpudrift.execution.tasks import runs_of
from gpudrift.execution.threads import count_source, fit_source, placed, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.judging.report import Report
from gpudrift.judging.verdicts import judge_comparison
from gpudrift.sources import Part, Source, open_source
from gpudrift.statistics.comparison import compare_profiles
from gpudrift.windows.grouping import WHOLE, GroupRequest

__all__ = ["FORMAT", "measure_files"]

FORMAT = "gpudrift/bench-files/1"
CHECKED_VALUES = 4_000_000
"""That two backends count before anything is timed; NumPy takes about a second."""
SHOWN = 20
"""Columns of a report that are shown in full."""
MEMORY_SHARE = 0.5
"""Of the memory that is available, for a table that a library reads at once."""

Paths = Sequence[str]
Work = Callable[[], object]


def measure_files(
    reference: str | Paths,
    current: str | Paths | None = None,
    *,
    backend: str,
    threads: int = 0,
    repeat: int = 5,
    quick: bool = False,
    tell: Callable[[FilesResult], None] = lambda found: None,
) -> FilesResult:
    """Measure the way from Parquet files to a report beside the bare reader.

    Parameters
    ----------
    reference : path or sequence of paths
        Parquet files, a folder or a glob of them.
    current : path or sequence of paths, optional
        By default the reference itself.
    backend : {"cuda", "numba", "numpy"}
    threads : int
        0 means one for each core.
    repeat : int
        Rounds.
    quick : bool
        Only noted.
    tell : callable
        Called with what there is so far, after each step and each round.

    Raises
    ------
    ValueError
        For data whose columns cannot be read on their own, or no round.
    AssertionError
        If two backends or two rounds did not give the same profile.
    """
    if repeat < 1:
        raise ValueError(f"bench: expected at least 1 round, got {repeat}")
    return _Files(reference, reference if current is None else current, Settings(backend, threads)).measure(
        repeat, quick=quick, tell=tell
    )


class _Files:
    def __init__(self, reference: str | Paths, current: str | Paths, settings: Settings) -> None:
        self.settings = settings
        self.data = {"reference": reference, "current": current}
        self.digests: dict[str, str] = {}
        opened = {side: self.opened(side) for side in self.data}
        self.settings = placed(opened["reference"], settings)[1]
        self.tables = {side: _table(source) for side, source in opened.items()}
        self.names = {side: _readable(source) for side, source in opened.items()}
        self.paths = {side: source.files for side, source in opened.items()}

    @property
    def on_gpu(self) -> bool:
        return self.settings.backend == "cuda"

    def opened(self, side: str, backend: str = "") -> Source:
        """A table, opened anew, as a backend reads it; this one, or another."""
        data = self.data[side]
        source = open_source(data if isinstance(data, str) else list(data))
        if not source.files or not source.columnar or source.rows is None:
            raise ValueError(f"bench: {source.label}: expected Parquet files")
        settings = self.settings if not backend else replace(self.settings, backend=backend)
        return placed(source, settings)[0]

    def measure(
        self, repeat: int, *, quick: bool, tell: Callable[[FilesResult], None] = lambda found: None
    ) -> FilesResult:
        engine = cuda_engine() if self.on_gpu else cpu_engine(self.settings.backend, self.settings.threads)
        details = dict(engine.details) | {"threads": self.settings.workers}
        head = surroundings(
            FORMAT,
            quick=quick,
            repeat=repeat,
            device=engine.device,
            backend=self.settings.backend,
            details=details,
        )
        found = FilesResult(head, self.settings.workers, self.tables)
        found.checked = self.check()
        found.memory = self.memory()
        found.digests = dict(self.digests)
        tell(found)
        library = self.library(found)
        rounds = []
        for _ in range(repeat):
            rounds.append(self.round(library))
            found.measured = list(self.summed(rounds, found.library.partition(",")[0]))
            tell(found)
        found.split = self.split()
        return found

    # --- what is timed ---

    def read(self, side: str) -> None:
        """Read every column in the blocks and runs in which the engine counts them, and drop it."""
        source = self.opened(side)
        fields = [one for one in source.fields if obstacle(one) is None]
        blocks = block_columns(source, fields, self.settings.workers)
        runs = [(run, block.readable) for block in blocks for run in runs_of(source.joined(source.parts))]

        def drop(work: tuple[Sequence[Part], Sequence[str]]) -> None:
            run, names = work
            for part in run:
                for _ in source.batches(part, names):
                    pass

        with ThreadPoolExecutor(self.settings.workers, "gpudrift") as pool:
            list(pool.map(drop, runs))
        if self.on_gpu:
            benching.synchronize()

    def library(self, found: FilesResult) -> dict[str, Work]:
        """What reads each table with a library alone, if one is there and has the memory; tried once."""
        name = "pylibcudf.read_parquet" if self.on_gpu else "pyarrow.parquet.read_table"
        works, how = {}, ""
        try:
            for side, table in self.tables.items():
                reading = benching.read_with_cudf if self.on_gpu else _read_with_pyarrow
                works[side], how = reading(self.paths[side], self.names[side], table.bytes)
                works[side]()
        except Exception as error:  # whatever a library that is not ours does
            found.missing[name] = (str(error).splitlines() or [type(error).__name__])[0]
            return {}
        found.library = f"{name}, {how}"
        return works

    def run(self, clock: Clock | None = None) -> dict[str, float]:
        """The whole way; seconds until each of its three steps was done."""
        start = time.perf_counter()
        timing = nullcontext if clock is None else clock.part
        settings = replace(self.settings, timing=timing)

        def opened(side: str) -> Source:
            with timing("open"):
                source = self.opened(side)
            return source if clock is None else cast("Source", TimedSource(source, clock))

        reference = profile_source(opened("reference"), GroupRequest(), FitOptions(), None, settings).total()
        profiled = time.perf_counter()
        current = count_source(opened("current"), reference.schema, WHOLE, None, settings).total()
        both = time.perf_counter()
        with timing("compare"):
            comparison = compare_profiles(reference, current)
            Report(comparison, judge_comparison(comparison)).document(SHOWN)
        ended = time.perf_counter()
        for side, profile in (("reference", reference), ("current", current)):
            same = self.digests.setdefault(side, profile.digest) == profile.digest
            assert same, f"two runs counted the {side} table differently: this is a mistake, please report it"
        return {"reference": profiled - start, "current": both - profiled, "compare": ended - both}

    def round(self, library: Mapping[str, Work]) -> dict[tuple[str, str, str], float]:
        """Everything once; seconds by what, table and who."""
        took: dict[tuple[str, str, str], float] = {}
        for side in self.data:
            took["read", side, "engine"] = _seconds(partial(self.read, side))
            if side in library:
                took["read", side, "library"] = _seconds(library[side])
        ran = self.run()
        for who in ("engine", "library") if library else ("engine",):
            took["read", "both", who] = sum(took["read", side, who] for side in self.data)
        for side in self.data:
            took["profile", side, "gpudrift"] = ran[side]
        took["compare", "both", "gpudrift"] = ran["compare"]
        took["to profile", "both", "gpudrift"] = ran["reference"] + ran["current"]
        took["to report", "both", "gpudrift"] = sum(ran.values())
        return took

    # --- what is made of it ---

    def summed(self, rounds: Sequence[Mapping[tuple[str, str, str], float]], library: str) -> Iterator[Measured]:
        for what, table, who in rounds[0]:
            seconds = [took[what, table, who] for took in rounds]
            over = {
                reader: median(a / took["read", table, reader] for a, took in zip(seconds, rounds, strict=True))
                for reader in ("engine", "library")
                if ("read", table, reader) in rounds[0] and what != "compare"
            }
            sides = [table] if table in self.tables else list(self.tables)
            size = 0 if what == "compare" else sum(self.tables[side].bytes for side in sides)
            name = library if who == "library" else who
            ratios = over.get("engine"), over.get("library")
            yield Measured(what, table, name, median(seconds), seconds, size, *ratios)

    def check(self) -> dict[str, Any]:
        """Count a part of the reference with two backends, each from its own reader."""
        other = "numpy" if self.settings.backend == "numba" else "numba"
        plain, own = self.opened("reference", other), self.opened("reference")
        part = max(plain.parts, key=lambda one: one.rows or 0)
        names = self.names["reference"]
        step = max(1, -(-len(names) * (part.rows or 1) // CHECKED_VALUES))
        names = names[::step]
        sample = pa.Table.from_batches(list(plain.batches(part, names)))
        schema = fit_source(open_source(sample), FitOptions(), None, self.settings)
        wanted = load_backend(other)(plain.batches(part, names), schema)
        found = load_backend(self.settings.backend)(own.batches(part, names), schema)
        assert found.digest == wanted.digest, (
            f"{part.label}: {self.settings.backend} and {other} counted differently: "
            "this is a mistake in gpudrift, please report it"
        )
        return {"rows": part.rows, "columns": len(names), "by": other}

    def split(self) -> dict[str, Any]:
        """Where the time of one run goes."""
        clock = Clock()
        start = time.perf_counter()
        with benching.timed(clock.part) if self.on_gpu else nullcontext():
            self.run(clock)
        wall = time.perf_counter() - start
        seconds = {name: clock.seconds.get(name, 0.0) for name in SPLIT}
        spent = sum(seconds.values())
        return {
            "seconds": seconds,
            "share": {name: one / spent for name, one in seconds.items()},
            "wall_seconds": wall,
            "busy": spent / (wall * self.settings.workers),
        }

    def memory(self) -> dict[str, Any]:
        """Peaks of one run, the first one."""
        with host_peak() as peak:
            if not self.on_gpu:
                self.run()
                return {"host_peak_bytes": peak()}
            budget = benching.budget()
            with benching.watched() as watched:
                self.run()
            return {
                "host_peak_bytes": peak(),
                "gpu_peak_bytes": watched.used_bytes,
                "gpu_allocated_peak_bytes": watched.allocated_bytes,
                "gpu_budget_bytes": budget,
                "gpu_peak_over_budget": watched.used_bytes / budget,
            }


def _table(source: Source) -> Table:
    names = _readable(source)
    size = sum(source.column_bytes(name) for name in names)
    return Table(source.label, source.rows or 0, len(names), len(source.files), len(source.parts), size)


def _readable(source: Source) -> list[str]:
    return [one.name for one in source.fields if obstacle(one) is None]


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _read_with_pyarrow(files: Paths, names: Paths, size: int) -> tuple[Work, str]:
    """What reads columns with pyarrow alone, on its own threads, and drops them, and in words how.

    Raises
    ------
    RuntimeError
        If a file takes more memory than there is.
    """
    from pyarrow import parquet

    room = available() * MEMORY_SHARE
    whole = size <= room
    if not whole and size / len(files) > room:
        raise RuntimeError(f"a file takes {size_text(size / len(files))}, which is more than the available memory")
    calls = [list(files)] if whole else [[file] for file in files]

    def read() -> None:
        for paths in calls:
            parquet.read_table(paths, columns=list(names))

    return read, "at once" if whole else "one file after the other"
