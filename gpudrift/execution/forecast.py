"""What a run will take, told before it begins: tasks, bytes, network, memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpudrift.execution.cuts import AT_ONCE, FAN_IN, FILES_AT_ONCE, REQUESTS, Cut
from gpudrift.sources import Field, Source

TRAVELLING, EDGES = 4, 8
"""Bytes of a slot in a result (3.5 measured, rounded up) and in a schema."""


COUNTING = 64
"""Bytes of a slot while it is counted: counts, sums, edges, the guide that finds the bin, the profile made of them."""


READING = 3
"""Times the columns that are read at once that a task holds: compressed, decoded, and the next ones."""


@dataclass(frozen=True)
class Rates:
    """What a benchmark measured, to tell how long a run will take.

    Parameters
    ----------
    bytes_per_second : float
        Bytes of columns in memory that a thread reads from Parquet and counts.
    task_seconds : float
        Of the scheduler for each task.
    start_seconds : float
        Until the first task runs.
    process_bytes : int
        Memory of a worker that has counted nothing yet.
    made_on : str
        Machine and date.
    """

    bytes_per_second: float
    task_seconds: float
    start_seconds: float
    process_bytes: int
    made_on: str


@dataclass(frozen=True)
class TablePlan:
    """What counting one table will take.

    Parameters
    ----------
    label : str
    rows : int or None
        None where they are not known before they are read.
    columns, files : int
    bytes : int
        Of the columns in memory.
    readings : int
        Times that they are read, at most.
    tasks : int
    task_bytes : int
        That the largest task reads.
    sent : int
        Bytes of results, edges and samples that cross the network; 0 on threads.
    held : int
        Bytes that a task holds at once.
    """

    label: str
    rows: int | None
    columns: int
    files: int
    bytes: int
    readings: int
    tasks: int
    task_bytes: int
    sent: int
    held: int

    @property
    def is_known(self) -> bool:
        """False for queries and streams, which tell neither rows nor bytes before they are read."""
        return self.rows is not None or self.files > 0


@dataclass(frozen=True)
class Plan:
    """What a run will take: tasks, bytes, network, memory and time. ``str(plan)`` says it to people.

    ``gpus`` are the names of those that will count, "" if none will.
    """

    tables: tuple[TablePlan, ...]
    where: str
    workers: int
    threads: int
    rates: Rates | None
    gpus: str = ""

    @property
    def worker_bytes(self) -> int:
        """Memory that a worker needs."""
        base = 0 if self.rates is None else self.rates.process_bytes
        held = max((table.held for table in self.tables), default=0)
        return base + held * -(-self.threads // max(self.workers, 1))

    @property
    def seconds(self) -> float | None:
        """About how long it takes; None where nothing was measured, or a table tells no size."""
        if self.rates is None or self.gpus or not all(table.is_known for table in self.tables):
            return None
        size = sum(table.bytes * table.readings for table in self.tables)
        tasks = sum(table.tasks for table in self.tables)
        counting = size / self.rates.bytes_per_second / max(self.threads, 1)
        return self.rates.start_seconds + max(counting, tasks * self.rates.task_seconds)

    def __str__(self) -> str:
        lines = []
        for table in self.tables:
            rows = "rows not known yet" if table.rows is None else f"{table.rows:,} rows"
            files = f" in {table.files:,} file{'s' * (table.files != 1)}" if table.files else ""
            lines.append(f"{table.label}: {rows} x {table.columns:,} columns{files}")
            times = "once" if table.readings == 1 else f"at most {table.readings} times"
            each = f", the largest reads {size_text(table.task_bytes)}" if table.tasks and table.is_known else ""
            size = f"{size_text(table.bytes)} in memory" if table.is_known else "size not known yet"
            lines.append(f"  {size}, read {times}; {table.tasks:,} tasks{each}")
        whole = sum(table.bytes for table in self.tables)
        sent = sum(table.sent for table in self.tables)
        each = f"{self.workers:,} x {-(-self.threads // max(self.workers, 1)):,} threads"
        if self.gpus:
            each = f"{self.threads:,} GPU{'s' * (self.threads != 1)} ({self.gpus})"
        lines.append(f"where    {self.where}: {each}")
        share = (
            f" ({sent / whole:.2%} of what is read)"
            if whole and sent and all(table.is_known for table in self.tables)
            else ""
        )
        lines.append(f"network  {size_text(sent)}{share}" if sent else "network  nothing")
        lines.append(f"memory   about {size_text(self.worker_bytes)} for each process")
        lines.append(f"time     {self._time()}")
        return "\n".join(lines)

    def _time(self) -> str:
        unknown = [table.label for table in self.tables if not table.is_known]
        if unknown:
            return f"not known: nothing tells how many rows {unknown[0]} has before they are read"
        if self.rates is None or self.seconds is None:
            return f"not known: nothing was measured{' on a GPU' * bool(self.gpus)}"
        seconds = self.seconds
        said = (
            f"{seconds:.0f} s"
            if seconds < 120
            else f"{seconds / 60:.0f} min"
            if seconds < 7200
            else f"{seconds / 3600:.1f} h"
        )
        rate = f"{size_text(int(self.rates.bytes_per_second))}/s a thread"
        return f"about {said}, if the disks keep up ({rate}, measured on {self.rates.made_on})"


def size_text(size: float) -> str:
    """A size in memory as people read it."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError


def plan_table(source: Source, fields: Sequence[Field], cut: Cut, *, workers: int, fits: bool, held: bool) -> TablePlan:
    """What counting a table takes that is cut so.

    Parameters
    ----------
    source, fields, cut
    workers : int
        Of a cluster; 0 for threads, whose results stay where they are.
    fits : bool
        Whether bins are chosen first.
    held : bool
        Whether a task holds its columns whole, so that this takes no reading of its own.
    """
    pairs = list(zip(cut.bytes, cut.slots, cut.runs, strict=True))
    largest = max((size // max(len(runs), 1) for size, _, runs in pairs), default=0)
    slots = max(cut.slots, default=0)
    widest = max((part.rows or 0 for part in source.parts), default=0)
    at_once = [source.column_bytes(one.name) * widest // max(source.rows or 1, 1) for one in fields]
    # Each part that is on its way is a batch that waits and one that is being read.
    ahead = 2 * REQUESTS if source.remote and source.columnar else 0
    reads = largest if held else (READING + ahead) * max(AT_ONCE, *at_once, 0)
    sent = 0
    if workers:
        sent = sum(
            TRAVELLING * slots * (len(runs) + additions(len(runs))) + EDGES * slots * workers
            for _, slots, runs in pairs
        )
        if fits and not held:
            rows = min(source.rows or 0, 65_536)
            sent += sum(source.column_bytes(one.name) * rows // max(source.rows or 1, 1) for one in fields)
    readings = 2 if fits and not held else 1
    return TablePlan(
        source.label,
        source.rows,
        len(fields),
        len(source.files),
        sum(cut.bytes),
        readings,
        _cluster_tasks(source, cut, fits=fits, held=held) if workers else cut.tasks * readings,
        largest,
        sent,
        reads + COUNTING * slots,
    )


def _cluster_tasks(source: Source, cut: Cut, *, fits: bool, held: bool) -> int:
    """Tasks on a cluster: the first ones find and open the files."""
    blocks, opening = len(cut.columns), 2 + -(-len(source.files) // FILES_AT_ONCE)
    if held:
        return opening + blocks
    samples = 0 if not fits else cut.tasks if source.columnar else 2
    return opening + blocks + samples + cut.tasks + sum(additions(len(runs)) for runs in cut.runs)


def additions(leaves: int) -> int:
    """Tasks that add the results of so many others."""
    tasks = 0
    while leaves > 1:
        leaves = -(-leaves // FAN_IN)
        tasks += leaves
    return tasks


def measured_rates() -> Rates | None:
    """What the last benchmark measured, as it ships with the package."""
    import json
    from importlib.resources import files

    kept = files("gpudrift") / "data" / "rates.json"
    return Rates(**json.loads(kept.read_text("utf-8"))) if kept.is_file() else None
