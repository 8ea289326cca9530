"""From Parquet files to a report, beside the bare reader: ``gpudrift bench --files``.

Measured in turn, several times, after a whole run and a library's read that are not counted:

read        every column of a table is read and dropped, by two readers: by the *engine's*, which is the engine itself
            (its reader, blocks of columns, runs of row groups and threads) with the counting left out; and by a
            *library* alone, ``cudf.read_parquet`` on a GPU, ``pyarrow.parquet.read_table`` on cores with its own
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

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_backend
from gpudrift.backends.contract import NULL
from gpudrift.bench.clock import Clock, TimedSource, replaced
from gpudrift.bench.engines import cpu_engine, cuda_engine
from gpudrift.bench.shapes import column_of
from gpudrift.bench.surroundings import surroundings
from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Schema
from gpudrift.counts.profiles import Profile
from gpudrift.execution import tasks
from gpudrift.execution import threads as thread_engine
from gpudrift.execution.cuts import obstacle
from gpudrift.execution.forecast import size_text
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, fit_source, placed, profile_source
from gpudrift.files import write_whole
from gpudrift.fitting.columns import FitOptions
from gpudrift.judging.report import Report
from gpudrift.judging.verdicts import judge_comparison
from gpudrift.report.text import counted
from gpudrift.sources import Source, open_source
from gpudrift.statistics.comparison import compare_profiles
from gpudrift.windows.grouping import WHOLE, GroupRequest

__all__ = ["FORMAT", "SPLIT", "FilesResult", "Measured", "Table", "lines", "measure_files", "write_tables"]

FORMAT = "gpudrift/bench-files/1"
SPLIT = ("open", "read", "copy", "fit", "count", "merge", "compare")
CHECKED_VALUES = 4_000_000
"""That two backends count before anything is timed; NumPy takes about a second."""
SHOWN = 20
"""Columns of a report that are shown in full."""
MADE_ROWS, MADE_COLUMNS = 1 << 20, 32
"""Of a table that is made where none is given: some 200 MB in memory."""
MEMORY_SHARE = 0.5
"""Of the memory that is available, for a table that a library reads at once."""

Paths = Sequence[str]
Work = Callable[[], object]


@dataclass(frozen=True)
class Table:
    """A table that is measured: what it is called, and its size."""

    label: str
    rows: int
    columns: int
    files: int
    parts: int
    bytes: int
    """Of the columns in memory."""


@dataclass(frozen=True)
class Measured:
    """One line of the result.

    Parameters
    ----------
    what : {"read", "profile", "compare", "to profile", "to report"}
        The last two are the reference and the current table together, without and with comparing.
    table : {"reference", "current", "both"}
    who : str
        engine, a library, or gpudrift.
    seconds : float
        The median.
    all_seconds : list of float
    bytes : int
        Of the columns in memory; 0 where nothing is read.
    over_engine, over_library : float or None
        Seconds over those of the bare read of the same table, the median of neighbours.
    """

    what: str
    table: str
    who: str
    seconds: float
    all_seconds: list[float]
    bytes: int
    over_engine: float | None
    over_library: float | None

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"bytes_per_second": self.bytes_per_second}


@dataclass
class FilesResult:
    """All that was measured.

    Parameters
    ----------
    head : mapping
        Format, date, machine, device, versions.
    threads : int
    tables : mapping of "reference" and "current" to Table
    checked : mapping
        Rows and columns that two backends counted alike, and which other backend.
    measured : list of Measured
    split : mapping
        ``seconds`` and ``share`` of each part, ``wall_seconds``, ``busy``.
    memory : mapping
    digests : mapping
        Of the two profiles.
    library : str
        The library's read, in words; empty if there is none.
    missing : dict
        What was not measured, and why.
    """

    head: Mapping[str, Any]
    threads: int
    tables: Mapping[str, Table]
    checked: Mapping[str, Any] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    split: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self.head) | {
            "threads": self.threads,
            "tables": {side: asdict(table) for side, table in self.tables.items()},
            "checked": dict(self.checked),
            "library": self.library,
            "measured": [one.described() for one in self.measured],
            "split": dict(self.split),
            "memory": dict(self.memory),
            "digests": dict(self.digests),
            "missing": self.missing,
        }

    def save(self, path: str) -> None:
        """Write the JSON; the file appears whole or not at all."""
        write_whole(path, (json.dumps(self.document(), indent=1, allow_nan=False) + "\n").encode())


def measure_files(
    reference: str | Paths,
    current: str | Paths | None = None,
    *,
    backend: str,
    threads: int = 0,
    repeat: int = 5,
    quick: bool = False,
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

    Raises
    ------
    ValueError
        For data whose columns cannot be read on their own, or no round.
    AssertionError
        If two backends or two rounds did not give the same profile.
    """
    if repeat < 1:
        raise ValueError(f"bench: at least 1 round, not {repeat}")
    return _Files(reference, reference if current is None else current, Settings(backend, threads)).measure(
        repeat, quick=quick
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
            raise ValueError(f"bench: {source.label}: Parquet files were expected")
        settings = self.settings if not backend else replace(self.settings, backend=backend)
        return placed(source, settings)[0]

    def measure(self, repeat: int, *, quick: bool) -> FilesResult:
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
        library = self.library(found)
        rounds = [self.round(library) for _ in range(repeat)]
        found.measured = list(self.summed(rounds, found.library.partition(",")[0]))
        found.split = self.split()
        found.digests = dict(self.digests)
        return found

    # --- what is timed ---

    def read(self, side: str) -> None:
        """Every column, by the engine with the counting left out."""
        columns = tuple(Column(name, "categorical", "text") for name in self.names[side])
        module = import_module(f"gpudrift.backends.{self.settings.backend}")
        with replaced([(module, "count", lambda _: _drop)]):
            count_source(self.opened(side), Schema(columns), WHOLE, self.names[side], self.settings)
        if self.on_gpu:
            _cuda_bench().synchronize()

    def library(self, found: FilesResult) -> dict[str, Work]:
        """What reads each table with a library alone, if one is there and has the memory; tried once."""
        name = "cudf.read_parquet" if self.on_gpu else "pyarrow.parquet.read_table"
        works, how = {}, ""
        try:
            for side, table in self.tables.items():
                reading = _cuda_bench().read_with_cudf if self.on_gpu else _read_with_pyarrow
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
        timed = Clock() if clock is None else clock

        def opened(side: str) -> Source:
            with timed.part("open"):
                source = self.opened(side)
            return source if clock is None else cast("Source", TimedSource(source, clock))

        reference = profile_source(opened("reference"), GroupRequest(), FitOptions(), None, self.settings).total()
        profiled = time.perf_counter()
        current = count_source(opened("current"), reference.schema, WHOLE, None, self.settings).total()
        both = time.perf_counter()
        with timed.part("compare"):
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
        with replaced(self.steps(clock)):
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

    def steps(self, clock: Clock) -> Iterator[tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]]:
        """What is timed inside."""
        backend = import_module(f"gpudrift.backends.{self.settings.backend}")
        steps: list[tuple[Any, str, str]] = [
            (tasks, "take_sample", "fit"),
            (tasks, "fit_block", "fit"),
            (thread_engine, "fit_block", "fit"),
            (backend, "count", "count"),
            (Profile, "__add__", "merge"),
            (Profile, "concatenate", "merge"),
        ]
        for place, name, part in [*steps, *(_cuda_bench().STEPS if self.on_gpu else ())]:
            yield place, name, partial(clock.timed, part)

    def memory(self) -> dict[str, Any]:
        """Peaks of one run, the first one."""
        with _host_peak() as peak:
            if not self.on_gpu:
                self.run()
                return {"host_peak_bytes": peak()}
            budget = _cuda_bench().budget()
            with _cuda_bench().watched() as watched:
                self.run()
            return {
                "host_peak_bytes": peak(),
                "gpu_peak_bytes": watched.used_bytes,
                "gpu_allocated_peak_bytes": watched.allocated_bytes,
                "gpu_budget_bytes": budget,
                "gpu_peak_over_budget": watched.used_bytes / budget,
            }


def _cuda_bench() -> Any:
    return import_module("gpudrift.backends.cuda.benching")


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


def _drop(frame: Iterable[pa.RecordBatch], schema: Schema) -> Profile:
    """In the place of a backend's count: take the batches and drop them; all rows are null, in six slots a column."""
    rows = sum(batch.num_rows for batch in frame)
    empty = Profile.empty(schema)
    empty.counts[schema.offsets[1:] - (len(SPECIAL_SLOTS) - NULL)] = rows
    return replace(empty, rows=rows)


def _read_with_pyarrow(files: Paths, names: Paths, size: int) -> tuple[Work, str]:
    """What reads columns with pyarrow alone, on its own threads, and drops them, and in words how.

    Raises
    ------
    RuntimeError
        If a file takes more memory than there is.
    """
    from pyarrow import parquet

    room = _available() * MEMORY_SHARE
    whole = size <= room
    if not whole and size / len(files) > room:
        raise RuntimeError(f"{size_text(size / len(files))} in a file are more than memory has room for")
    calls = [list(files)] if whole else [[file] for file in files]

    def read() -> None:
        for paths in calls:
            parquet.read_table(paths, columns=list(names))

    return read, "at once" if whole else "one file after the other"


def _available() -> float:
    """Bytes of memory that are available; without end where the system does not say."""
    with suppress(OSError):
        told = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
        if told:
            return int(told[1]) * 1024
    return float("inf")


@contextmanager
def _host_peak() -> Iterator[Callable[[], int]]:
    """Gives what says the peak memory of this process since here; where that cannot be set back, since its start."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")

    def peak() -> int:
        with suppress(OSError):
            told = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
            if told:
                return int(told[1]) * 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    yield peak


# --- tables of its own -----------------------------------------------------------------------------------------------


def write_tables(folder: Path, rows: int = MADE_ROWS, columns: int = MADE_COLUMNS) -> tuple[str, str]:
    """Write a reference and a current table as Parquet with pyarrow's defaults; their paths.

    Columns take turns in shape and type (float64, float32, int32); every fourth one has moved in the current table.
    """
    from pyarrow import parquet

    shapes, dtypes = ("normal", "uniform", "one bin", "zipf", "nan"), ("float64", "float32", "float64", "int32")
    made: dict[str, npt.NDArray[Any]] = {}
    for at in range(columns):
        dtype = dtypes[at % 4]
        made[f"c{at}"] = column_of("normal" if dtype == "int32" else shapes[at % 5], dtype, rows)
    moved = {name: values + values.dtype.type(1) for name, values in list(made.items())[::4]}
    paths = folder / "reference.parquet", folder / "current.parquet"
    for path, content in zip(paths, (made, made | moved), strict=True):
        parquet.write_table(pa.table(content), path)
    return str(paths[0]), str(paths[1])


# --- for people ------------------------------------------------------------------------------------------------------


def lines(found: FilesResult) -> Iterator[str]:
    """The result as lines of text."""
    yield f"{found.head['backend']} on {found.head['device']}, {found.threads} threads; {found.head['repeat']} rounds"
    for side, table in found.tables.items():
        same = side == "current" and table == found.tables["reference"]
        size = f"{counted(table.rows, 'row')} x {counted(table.columns, 'column')}, {size_text(table.bytes)} in memory"
        parts = f"{counted(table.parts, 'row group')} in {counted(table.files, 'file')}"
        yield f"{side:<10} {'the same' if same else f'{table.label}: {size}, {parts}'}"
    checked = found.checked
    alike = f"{counted(checked['rows'], 'row')} x {counted(checked['columns'], 'column')}"
    yield f"checked    {alike}: counted alike by {checked['by']}"
    library = found.library.partition(",")[0]
    yield f"library    {found.library}" if library else "library    none"
    yield ""
    yield f"{'':<40} {'seconds':>9} {'GB/s':>8} {'x engine':>9} {'x library':>10}"
    for one in found.measured:
        words = _words(one)
        rate = f"{one.bytes_per_second / 1e9:,.2f}" if one.bytes else ""
        ratios = [f"{ratio:.2f}" if ratio is not None else "" for ratio in (one.over_engine, one.over_library)]
        yield f"{words:<40} {one.seconds:>9.3f} {rate:>8} {ratios[0]:>9} {ratios[1]:>10}".rstrip()
    for name, why in found.missing.items():
        yield f"{name:<40} not measured: {why}"
    yield ""
    yield f"{'where the time of one run goes':<40} {'seconds':>9} {'share':>8}"
    for name in SPLIT:
        yield f"{name:<40} {found.split['seconds'][name]:>9.3f} {found.split['share'][name]:>8.1%}"
    wall, busy = found.split["wall_seconds"], found.split["busy"]
    yield f"all threads together, of {found.threads} x {wall:.3f} s: {busy:.0%}"
    yield ""
    memory = found.memory
    yield f"memory     {size_text(memory['host_peak_bytes'])} of this process at its peak"
    if "gpu_peak_bytes" in memory:
        allocated = memory["gpu_allocated_peak_bytes"]
        exact = "" if allocated is None else f"; {size_text(allocated)} by RMM's count"
        yield (
            f"GPU memory {size_text(memory['gpu_peak_bytes'])} at its peak, {memory['gpu_peak_over_budget']:.2f} x its "
            f"budget of {size_text(memory['gpu_budget_bytes'])}{exact}"
        )


def _words(one: Measured) -> str:
    if one.what == "read":
        table = "both tables" if one.table == "both" else f"the {one.table} table"
        return f"read {table}: {'engine' if one.who == 'engine' else 'library'}"
    if one.what == "profile":
        return "reference: choose bins and count" if one.table == "reference" else "current: count"
    return {"compare": "compare, judge, report", "to profile": "Parquet to profiles"}.get(one.what, "Parquet to report")
