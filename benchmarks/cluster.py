"""A local Dask cluster on generated files: how it scales, what it costs beside reading, its memory, and each task.

Cases, each written to ``cluster-<case>.json``:

- ``workers``: the same table on one worker and on two, in turn, beside the same workers only reading it; beside the
  same counting in processes that have no scheduler, and beside plain arithmetic, which say what two busy cores of this
  machine can do at most;
- ``wide``: a table larger than memory, read and dropped, profiled, read and dropped, counted, and so on in turn;
- ``rows``: tables of more and more rows, each on a fresh cluster: peak memory of a worker must not grow with them;
- ``graph``: a job of tens of thousands of tasks built and submitted, nothing done;
- ``overhead``: what a task, an opened file, a packet and a byte cost; makes gpudrift/data/rates.json, and feeds
  scale_model.py.

*Reading* is the engine's own graph with the counting left out: the same cluster, cut, row groups and columns, through
the same readers with footers kept, each batch dropped when the next one comes. That is the fastest bare read there is
here: a ``ParquetFile`` opened anew in each task parses the footer each time.

Peaks are what the kernel says of a process (VmHWM), set back before each measurement. The scheduler lives in the
client's process. Network bytes are what crosses the loopback device, whoever sends it: heartbeats as well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import end_to_end
import generate
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.counts.packets import Packet, add_packets
from gpudrift.execution import cuts
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.files import open_files, open_found
from gpudrift.execution.cluster.graph import Place
from gpudrift.execution.cluster.work import Opened, count_parts
from gpudrift.execution.cuts import AT_ONCE, FAN_IN, column_slots, cut_columns, cut_for_cluster, obstacle
from gpudrift.execution.forecast import Rates, plan_table
from gpudrift.execution.settings import Settings
from gpudrift.execution.tasks import fit_block
from gpudrift.execution.threads import count_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sampled, take_sample
from gpudrift.sources import find_source, open_source
from gpudrift.windows.grouping import WHOLE

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RATES = ROOT / "gpudrift" / "data" / "rates.json"
FORMAT = "gpudrift/cluster/1"
MEMORY = Path("/proc/meminfo")

# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A table as files of so many rows, in row groups of so many.

    Float columns take turns as in generate.py; every second one is rounded to two decimals, as prices and measurements
    are, and takes 1 to 2 bytes a value in the file instead of up to 10.
    """

    rows: int
    floats: int
    strings: tuple[int, ...] = ()
    file_rows: int = 1_000_000
    group_rows: int = 250_000

    @property
    def files(self) -> int:
        return -(-self.rows // self.file_rows)

    def folder(self, within: Path) -> Path:
        """Tables of other lengths share their files."""
        return within / f"{self.floats}+{'-'.join(map(str, self.strings)) or 0}-{self.file_rows}-{self.group_rows}"


def group(shape: Shape, rows: int, *seed: int) -> pa.Table:
    """One row group."""
    rng = np.random.default_rng([shape.floats, *seed])
    columns = {}
    for at in range(shape.floats):
        values = generate.floats(rng, at, rows, 0.0)
        columns[f"f{at}"] = pa.array(np.round(values, 2) if at % 2 else values)
    for at, distinct in enumerate(shape.strings):
        texts = pa.array([f"value-{i:06d}" for i in range(distinct)])
        columns[f"s{at}"] = generate.strings(rng, texts, rows, 0.0)
    return pa.table(columns)


def write(shape: Shape, path: Path, number: int) -> None:
    """Write one file, unless it is there."""
    if path.exists():
        return
    temporary = path.with_suffix(".unfinished")
    writer: pq.ParquetWriter | None = None
    rows = min(shape.file_rows, shape.rows - number * shape.file_rows)
    for start in range(0, rows, shape.group_rows):
        piece = group(shape, min(shape.group_rows, rows - start), number, start)
        writer = writer or pq.ParquetWriter(temporary, piece.schema)
        writer.write_table(piece, row_group_size=piece.num_rows)
    assert writer is not None
    writer.close()
    temporary.rename(path)


WRITTEN_HERE = 2_000_000
"""Values of a table up to which starting processes takes longer than writing it."""


def prepare(shape: Shape, within: Path) -> list[str]:
    """Paths of the files of a table, made unless they are there: a large one by processes of their own."""
    folder = shape.folder(within)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.parquet" for number in range(shape.files)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing and shape.rows * (shape.floats + len(shape.strings)) <= WRITTEN_HERE:
        for number in missing:
            write(shape, paths[number], number)
    elif missing:
        say(f"writing {len(missing)} files to {folder}")
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1), mp_context=spawn) as pool:
            done = [pool.submit(write, shape, paths[number], number) for number in missing]
            for one in done:
                one.result()
    return [str(path) for path in paths]


def table_entry(shape: Shape, paths: Sequence[str]) -> dict[str, Any]:
    groups = sum(pq.read_metadata(path).num_row_groups for path in paths)
    return {
        "rows": shape.rows,
        "floats": shape.floats,
        "strings": list(shape.strings),
        "files": len(paths),
        "row_groups": groups,
        "file_bytes": sum(Path(path).stat().st_size for path in paths),
    }


# --- clusters --------------------------------------------------------------------------------------------------------


@contextmanager
def local_cluster(workers: int, threads: int = 1) -> Iterator[Any]:
    """Worker processes on this machine, and a client of theirs that is nobody's default."""
    from distributed import Client, LocalCluster

    shape = {"n_workers": workers, "threads_per_worker": threads, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(host="127.0.0.1", **shape) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def peak_bytes() -> int:
    """Peak memory of this process since it was last set back."""
    return status_bytes("VmHWM")


def resident_bytes() -> int:
    return status_bytes("VmRSS")


def status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def loopback_bytes() -> int:
    """Bytes that were sent through the loopback device since the machine started."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next((int(line.partition(":")[2].split()[8]) for line in lines if line.strip().startswith("lo:")), 0)


def observed(client: Any, work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Do something on a cluster: seconds, peaks, what crossed the network, and what the profile says it took."""
    client.run(forget_peak)
    forget_peak()
    before, start = loopback_bytes(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    entry = {"seconds": seconds, "network_bytes": loopback_bytes() - before}
    entry |= {"worker_peak_bytes": max(client.run(peak_bytes).values()), "client_peak_bytes": peak_bytes()}
    if isinstance(result, gd.Profile):
        told = result.provenance["cluster"]
        entry |= {name: told[name] for name in ("workers", "threads", "tasks", "bytes_counted", "bytes_sent")}
        entry["share_sent"] = told["bytes_sent"] / told["bytes_counted"]
        entry["share_network"] = entry["network_bytes"] / told["bytes_counted"]
    else:
        entry["bytes_read"] = result
    return entry, result


# --- what is measured ------------------------------------------------------------------------------------------------


def profile(client: Any, paths: Sequence[str]) -> gd.Profile:
    """Fit and count."""
    return gd.profile(list(paths), client=client)


def count(client: Any, paths: Sequence[str], schema: gd.Schema) -> gd.Profile:
    """Count under a schema that is known, as the table is counted that is compared with a reference."""
    return gd.profile(list(paths), schema=schema, client=client)


def read(client: Any, paths: Sequence[str], schema: gd.Schema | None = None) -> int:
    """The graph of :func:`count` (with a schema) or :func:`profile` with nothing but reading in it; bytes in memory."""
    with DaskCluster(Settings(client=client)) as cluster:
        files = open_files(cluster, list(paths), None)
        source, fields = files.source, files.source.fields
        sizes = [source.column_bytes(one.name) for one in fields if obstacle(one) is None]
        whole = schema is None and max(sizes, default=0) <= cluster.budget
        held = cluster.budget if whole else None
        cut = cut_for_cluster(source, fields, column_slots(fields, schema), cluster.threads, held=held)
        roots = [
            cluster.task(Place("read", block, *run), read_parts, files.shared, span, run, whole)
            for block, span in enumerate(cut.columns)
            for run in cut.runs[block]
        ]
        return sum(size for _, size in cluster.results(cluster.start(roots)))


def read_parts(opened: Opened, columns: tuple[int, int], parts: tuple[int, int], whole: bool) -> int:
    """Read some columns of some parts as the tasks of the engine do, and drop them."""
    source, run = opened.source, opened.source.parts[slice(*parts)]
    names = [one.name for one in opened.fields[slice(*columns)] if obstacle(one) is None]
    widest = max((part.rows or 0 for part in run), default=0) / max(source.rows or 1, 1)
    sizes = [int(source.column_bytes(name) * widest) for name in names]
    spans = [(0, len(names))] if whole else cut_columns(sizes, [0] * len(sizes), AT_ONCE, 1)
    size = 0
    for start, stop in spans:
        for part in run:
            for batch in source.batches(part, names[start:stop]):
                size += batch.nbytes
    return size


def same_bytes(found: int, counted: int) -> None:
    """A bare read that reads something else measures nothing."""
    if found != counted:
        sys.exit(f"the bare read took {found:,} bytes, counting {counted:,}")


def arithmetic(client: Any, rounds: int) -> float:
    """Seconds for two pieces of arithmetic within a core's own cache, however many workers share them."""
    start = time.perf_counter()
    client.gather([client.submit(sort_often, rounds, number, pure=False) for number in range(2)])
    return time.perf_counter() - start


def sort_often(rounds: int, number: int) -> int:
    values = np.random.default_rng(number).normal(size=20_000)
    return sum(int(np.sort(values).size) for _ in range(rounds))


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median seconds, the largest of all else."""
    least = {name: max(run[name] for run in runs) for name in runs[0] if name != "seconds"}
    seconds = [run["seconds"] for run in runs]
    return {"seconds": median(seconds), "all_seconds": seconds, **least}


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Ratios of neighbours, of the medians, and of the sums."""
    pairs = [a / b for a, b in zip(over, under, strict=True)]
    whole = sum(over) / sum(under)
    return {"median": median(pairs), "all": pairs, "of_medians": median(over) / median(under), "of_sums": whole}


# --- two workers beside one ------------------------------------------------------------------------------------------


class PlainProcesses:
    """Processes that count a table between them and know nothing of Dask: what two of them gain is the machine's."""

    runs = 16
    """Of parts, as many as the engine cuts for two workers."""

    def __init__(self, number: int, paths: Sequence[str], schema: gd.Schema) -> None:
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # as Dask starts its workers
        spawn = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(number, spawn, _open_here, (list(paths), schema))
        parts = len(open_source(paths).parts)
        ends = [parts * at // self.runs for at in range(self.runs + 1)]
        self.spans = list(pairwise(ends))

    def __enter__(self) -> PlainProcesses:
        return self

    def __exit__(self, *_error: object) -> None:
        self.pool.shutdown()

    def seconds(self) -> float:
        start = time.perf_counter()
        add_packets(self.pool.map(_count_here, self.spans))
        return time.perf_counter() - start


_here: list[Any] = []


def _open_here(paths: list[str], schema: gd.Schema) -> None:
    source = open_source(paths)
    _here[:] = [Opened(source, source.fields), (schema, WHOLE)]


def _count_here(span: tuple[int, int]) -> Packet:
    opened, fitted = _here
    return count_parts(opened, fitted, span, "numba", opened.source.fingerprint)


def workers_case(given: argparse.Namespace) -> dict[str, Any]:
    """Speed-up of two workers, of one thread each, over one."""
    shape: Shape = given.sizes.workers
    paths = prepare(shape, given.folder)
    with ExitStack() as stack:
        clients = {number: stack.enter_context(local_cluster(number)) for number in (1, 2)}
        schema = profile(clients[1], paths).schema
        jobs: dict[str, Callable[[Any], Any]] = {
            "profile": lambda client: profile(client, paths),
            "read_profile": lambda client: read(client, paths),
            "count": lambda client: count(client, paths, schema),
            "read_count": lambda client: read(client, paths, schema),
        }
        entry: dict[str, Any] = {"table": table_entry(shape, paths), "target": 1.8}
        for job in jobs.values():
            for client in clients.values():
                job(client)
        alone = [stack.enter_context(PlainProcesses(number, paths, schema)) for number in clients]
        for processes in alone:
            processes.seconds()
        runs: dict[str, dict[int, list[dict[str, Any]]]] = {name: {1: [], 2: []} for name in jobs}
        plain: dict[str, list[list[float]]] = {"processes": [], "arithmetic": []}
        for _ in range(given.pairs):
            for name, job in jobs.items():
                for number, client in clients.items():
                    runs[name][number].append(observed(client, partial(job, client))[0])
            plain["processes"].append([processes.seconds() for processes in alone])
            plain["arithmetic"].append([arithmetic(client, given.sizes.rounds) for client in clients.values()])
    for name, found in runs.items():
        one, two = ([run["seconds"] for run in found[number]] for number in (1, 2))
        entry[name] = {str(number): summary(some) for number, some in found.items()} | {"ratio": ratios(one, two)}
        say(f"{name:<14} {median(one):8.2f} s with one, {median(two):8.2f} s with two: {said(entry[name]['ratio'])}")
    for name, seconds in plain.items():
        one, two = zip(*seconds, strict=True)
        entry[name] = {"1": {"all_seconds": one}, "2": {"all_seconds": two}, "ratio": ratios(one, two)}
        say(f"{name:<14} {median(one):8.2f} s in one, {median(two):8.2f} s in two: {said(entry[name]['ratio'])}")
    same_bytes(entry["read_count"]["1"]["bytes_read"], entry["count"]["1"]["bytes_counted"])
    return entry


def said(ratio: dict[str, Any]) -> str:
    pairs = ", ".join(f"{one:.2f}" for one in ratio["all"])
    return f"{ratio['median']:.2f} ({pairs}; all together {ratio['of_sums']:.2f})"


# --- larger than memory ----------------------------------------------------------------------------------------------


@contextmanager
def crowded(room: int) -> Iterator[int]:
    """Leave the page cache only so much room, with a process that holds the rest of the memory; its bytes.

    Files that are a little smaller than memory are read from it the second time, and from the disk the first: the same
    reading took 65 s and 18. Of a table larger than memory next to nothing is ever there.
    """
    free = next(int(line.split()[1]) * 1024 for line in MEMORY.read_text().splitlines() if "MemAvailable" in line)
    size = max(free - room, 0)
    spawn = multiprocessing.get_context("spawn")
    held, done = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_hold, args=(size, held, done), daemon=True)
    process.start()
    held.wait()
    try:
        yield size
    finally:
        done.set()
        process.join()


def _hold(size: int, held: Any, done: Any) -> None:
    memory = np.ones(size, np.uint8)
    held.set()
    done.wait()
    del memory


def wide_case(given: argparse.Namespace) -> dict[str, Any]:
    """Fitting and counting, each after the bare read through its own cut; the page cache cannot hold the table."""
    shape: Shape = given.sizes.wide
    paths = prepare(shape, given.folder)
    entry: dict[str, Any] = {"table": table_entry(shape, paths), "target": 1.5}
    entry["fits_into_memory"] = shape.rows * shape.floats * 8 < end_to_end.machine()["memory_bytes"]
    with ExitStack() as stack:
        client = stack.enter_context(local_cluster(2))
        if not entry["fits_into_memory"]:
            room = entry["table"]["file_bytes"] // 2
            entry["held_bytes"] = stack.enter_context(crowded(room))
        warm_up(client, given)
        runs: dict[str, list[dict[str, Any]]] = {"read_profile": [], "profile": [], "read_count": [], "count": []}
        for _ in range(given.pairs):
            for name, job in (("read_profile", read), ("profile", profile)):
                found, result = observed(client, partial(job, client, paths))
                runs[name].append(found)
                say(f"{name:<14} {found['seconds']:8.2f} s")
            schema = result.schema
            for name, job in (("read_count", read), ("count", count)):
                found, result = observed(client, partial(job, client, paths, schema))
                runs[name].append(found)
                say(f"{name:<14} {found['seconds']:8.2f} s")
    for name, found in runs.items():
        entry[name] = summary(found)
    for name in ("profile", "count"):
        same_bytes(entry[f"read_{name}"]["bytes_read"], entry[name]["bytes_counted"])
        seconds = ([run["seconds"] for run in runs[which]] for which in (name, f"read_{name}"))
        entry[name]["ratio"] = ratios(*seconds)
        shares = f"results {entry[name]['share_sent']:.3%}, network {entry[name]['share_network']:.3%} of the bytes"
        say(f"{name:<14} {said(entry[name]['ratio'])} times the read; {shares}")
    return entry


def warm_up(client: Any, given: argparse.Namespace) -> None:
    """Have the workers import everything and load compiled code."""
    paths = prepare(given.sizes.tiny, given.folder)
    count(client, paths, profile(client, paths).schema)


# --- more and more rows ----------------------------------------------------------------------------------------------


def rows_case(given: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of a worker from few rows to many; the first table is smaller than the work of one task."""
    entry: dict[str, Any] = {"target": 1.25, "sizes": {}}
    for shape in given.sizes.rows:
        paths = prepare(shape, given.folder)
        found: dict[str, Any] = {"table": table_entry(shape, paths)}
        with local_cluster(2) as client:
            warm_up(client, given)
            found["profile"], counted = observed(client, partial(profile, client, paths))
            found["count"], _ = observed(client, partial(count, client, paths, counted.schema))
            found["read_count"], _ = observed(client, partial(read, client, paths, counted.schema))
        same_bytes(found["read_count"]["bytes_read"], found["count"]["bytes_counted"])
        for name in ("profile", "count"):
            one = found[name]
            one["rows_per_second"] = shape.rows / one["seconds"]
            say(
                f"{shape.rows:>12,} rows  {name:<8} {one['seconds']:8.2f} s  "
                f"worker {one['worker_peak_bytes'] / 1e6:6.0f} MB  client {one['client_peak_bytes'] / 1e6:6.0f} MB  "
                f"network {one['share_network']:.3%}"
            )
        say(f"{shape.rows:>12,} rows  read     {found['read_count']['seconds']:8.2f} s")
        entry["sizes"][str(shape.rows)] = found
    *_, before, last = entry["sizes"].values()
    for name in ("profile", "count"):
        entry[f"{name}_memory_ratio"] = last[name]["worker_peak_bytes"] / before[name]["worker_peak_bytes"]
        say(f"{name}: memory of a worker at the last size over the one before: {entry[f'{name}_memory_ratio']:.2f}")
    return entry


# --- many tasks ------------------------------------------------------------------------------------------------------


class Submitted(Exception):
    """The graph is at the scheduler, and nobody waits for it."""


def graph_case(given: argparse.Namespace) -> dict[str, Any]:
    """A task for each row group and column of a table: from opened files to what the scheduler has been given."""
    shape: Shape = given.sizes.graph
    paths = prepare(shape, given.folder)
    entry: dict[str, Any] = {"table": table_entry(shape, paths), "target": 10}
    schema = gd.fit(group(shape, 50_000, 0))
    runs = []
    for _ in range(given.pairs):
        # A fresh one each time: a scheduler that has just dropped so many tasks is busy for a while.
        with local_cluster(1) as client:
            warm_up(client, given)
            most = entry["table"]["row_groups"] * shape.floats
            finest = {"BYTES_PER_SLOT": 0, "SMALLEST_BLOCK": 0, "TASKS_PER_THREAD": most, "MOST_TASKS": 10 * most}
            with mock.patch.multiple(cuts, **finest):
                runs.append(submitted(partial(count, client, paths, schema)))
            while client.run_on_scheduler(lambda dask_scheduler: bool(dask_scheduler.tasks)):
                time.sleep(0.1)
            say(f"{runs[-1]['tasks']:,} tasks built and submitted in {runs[-1]['seconds']:.1f} s")
    return entry | summary(runs)


def submitted(work: Callable[[], Any]) -> dict[str, Any]:
    """Seconds, and processor seconds of client and scheduler, until everything is submitted; then it is given up."""
    told: dict[str, Any] = {}
    began: list[float] = []
    real_open = engine.open_files

    def opening(*given: Any) -> Any:
        found = real_open(*given)
        began.extend((time.perf_counter(), time.process_time()))
        return found

    def stopping(cluster: DaskCluster, _futures: Sequence[Any]) -> Any:
        told["seconds"], told["cpu_seconds"] = time.perf_counter() - began[0], time.process_time() - began[1]
        told["tasks"] = cluster.submitted
        raise Submitted

    with (
        mock.patch.object(engine, "open_files", opening),
        mock.patch.object(DaskCluster, "results", stopping),
        suppress(Submitted),
    ):
        work()
    return told


# --- what each thing costs -------------------------------------------------------------------------------------------


def overhead_case(given: argparse.Namespace) -> dict[str, Any]:
    """Costs of tasks, files, packets and bytes, for scale_model.py; and the rates that ship with the package."""
    entry: dict[str, Any] = {}
    with local_cluster(2) as client:
        entry["start"] = first_task(client, given)
        entry["process_bytes"] = max(client.run(resident_bytes).values())
        entry["reading"] = speeds(client, given)
        entry["busy_process_bytes"] = beside_what_is_held(client, given)
        entry["nothing"] = nothing_tasks(client, given)
        entry["tiny"] = tiny_tasks(client, given)
        entry["opening"] = openings(client, given)
    with local_cluster(1) as client:
        entry["reading_alone"] = speeds(client, given)
    entry["packets"] = packets(given)
    entry["columns"] = column_costs(given)
    entry["costs"] = costs(entry)
    rates = rates_of(entry, f"{end_to_end.machine()['cpu']}, {datetime.now(UTC).date().isoformat()}")
    entry["rates"] = asdict(rates)
    if given.rates is not None:
        given.rates.write_text(json.dumps(asdict(rates), indent=1) + "\n")
        say(f"wrote {given.rates}")
    for name, value in entry["costs"].items():
        say(f"{name:<28} {value:.4g}")
    return entry


def timed(work: Callable[[], Any], times: int = 1) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def first_task(client: Any, given: argparse.Namespace) -> dict[str, float]:
    """How long workers that have imported nothing yet take longer than others: imports, and Numba's compiled code."""
    paths = prepare(given.sizes.tiny, given.folder)
    first, second = timed(lambda: profile(client, paths)), timed(lambda: profile(client, paths), 3)
    return {"first_seconds": first, "again_seconds": second}


def speeds(client: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Bytes of columns in memory that each thread reads, and reads and counts, in a second, from the page cache."""
    threads = sum(client.nthreads().values())
    tiny = prepare(given.sizes.tiny, given.folder)
    fixed = timed(lambda: profile(client, tiny), 3)
    found: dict[str, Any] = {"threads": threads, "fixed_seconds": fixed}
    for name, shape in (("float64", given.sizes.floats), ("string", given.sizes.texts)):
        paths = prepare(shape, given.folder)
        schema = profile(client, paths).schema
        size = count(client, paths, schema).provenance["cluster"]["bytes_counted"]
        seconds = {
            "count": timed(partial(count, client, paths, schema), given.pairs),
            "read": timed(partial(read, client, paths, schema), given.pairs),
        }
        found[name] = {"bytes": size, "table": table_entry(shape, paths)}
        for job, its_seconds in seconds.items():
            # A toy table can take less than the fixed part of it.
            each = size / max(its_seconds - fixed, its_seconds / 10) / threads
            found[name][job] = {"seconds": its_seconds, "bytes_per_second": each}
            say(f"{name}: {job} {each / 1e6:.0f} MB/s a thread, {threads} busy")
    return found


def beside_what_is_held(client: Any, given: argparse.Namespace) -> float:
    """Peak memory of a worker that counts, less what a plan says that it holds.

    That is the process with all libraries and what allocators keep for the next use: after 32 row groups Arrow held
    nothing, had held at most 14 MB, and gave 57 MB back to the system when asked to.
    """
    paths = prepare(given.sizes.floats, given.folder)
    schema = profile(client, paths).schema
    found, _ = observed(client, partial(count, client, paths, schema))
    source = open_source(paths)
    cut = cut_for_cluster(source, source.fields, column_slots(source.fields, schema), found["threads"])
    plan = plan_table(source, source.fields, cut, workers=found["workers"], fits=False, held=False)
    each = found["threads"] // found["workers"]
    return float(max(found["worker_peak_bytes"] - each * plan.held, 0))


def nothing(*_results: Any) -> None:
    """The work of a task that is measured itself."""


def nothing_tasks(client: Any, given: argparse.Namespace) -> dict[str, float]:
    """Trees of tasks that do nothing: built, submitted, done."""
    runs, blocks = given.sizes.nothing
    with DaskCluster(Settings(client=client)) as cluster:
        used, start = time.process_time(), time.perf_counter()
        roots = []
        for block in range(blocks):
            places = [Place("count", block, at, at + 1) for at in range(runs)]
            level, leaves = 0, cluster.many(places, nothing, [[]] * runs)
            while len(leaves) > 1:
                level += 1
                leaves = [
                    cluster.task(Place("add", block, level, at), nothing, *leaves[at : at + FAN_IN])
                    for at in range(0, len(leaves), FAN_IN)
                ]
            roots += leaves
        built = time.perf_counter()
        futures = cluster.start(roots)
        submitted = time.perf_counter()
        for _ in cluster.results(futures):
            pass
        done = time.perf_counter()
        number = cluster.submitted
    return {
        "tasks": number,
        "build_seconds": built - start,
        "submit_seconds": submitted - built,
        "seconds": done - start,
        "seconds_per_task": (done - start) / number,
        "client_and_scheduler_cpu_per_task": (time.process_time() - used) / number,
    }


def lowered() -> Any:
    """Let the engine cut as finely as there are parts."""
    return mock.patch.multiple(cuts, BYTES_PER_SLOT=0, CLUSTER_TASK=1, SMALLEST_BLOCK=1)


def tiny_tasks(client: Any, given: argparse.Namespace) -> dict[str, float]:
    """Counting the same tiny row groups in thousands of tasks and in a few."""
    paths = prepare(given.sizes.many_groups, given.folder)
    schema = profile(client, paths).schema
    few, few_seconds = count(client, paths, schema), timed(lambda: count(client, paths, schema), 3)
    with lowered():
        many, many_seconds = count(client, paths, schema), timed(lambda: count(client, paths, schema), 3)
    numbers = [one.provenance["cluster"]["tasks"] for one in (few, many)]
    if few.digest != many.digest:
        sys.exit("the cut changed the counts")
    return {
        "few_tasks": numbers[0],
        "few_seconds": few_seconds,
        "many_tasks": numbers[1],
        "many_seconds": many_seconds,
        "seconds_per_task": max(many_seconds - few_seconds, 0.0) / max(numbers[1] - numbers[0], 1),
    }


def openings(client: Any, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """What it takes to read footers, which many tasks do, to put them together, which one does, and to send the source.

    Seconds of this process's processor, since footers are read by several threads of a task.
    """
    found = {}
    shapes = {
        "tiny": given.sizes.tiny,
        "files": given.sizes.many_files,
        "parts": given.sizes.many_groups,
        "chunks": given.sizes.many_columns,
    }
    for name, shape in shapes.items():
        paths = prepare(shape, given.folder)
        table = table_entry(shape, paths)
        listed = find_source(paths)
        footers = partial(listed.summaries, 0, len(listed.files))
        join = partial(joined, paths, footers())
        opened = join()
        packed = pickle.dumps(opened, protocol=pickle.HIGHEST_PROTOCOL)
        tracemalloc.start()
        again = pickle.loads(packed)  # made above
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del again
        found[name] = {
            "files": table["files"],
            "parts": table["row_groups"],
            "chunks": table["row_groups"] * (table["floats"] + len(table["strings"])),
            "footer_seconds": busy(footers, 5),
            "join_seconds": busy(join, 5),
            "packed_bytes": len(packed),
            "held_bytes": held,
            "footer_bytes": footer_bytes(client, paths),
        }
    return found


def joined(paths: Sequence[str], footers: Sequence[Any]) -> Opened:
    """What is done once, after all footers were read: find the files, and make a source of everything."""
    return open_found(find_source(paths), footers)


def busy(work: Callable[[], Any], times: int) -> float:
    """Median seconds of this process's processor."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return median(seconds)


def footer_bytes(client: Any, paths: Sequence[str]) -> int:
    """Memory that a worker takes for the footers of files that it has opened."""
    return int(client.submit(opened_bytes, list(paths), pure=False).result())


def opened_bytes(paths: list[str]) -> int:
    import gc

    gc.collect()
    pa.default_memory_pool().release_unused()
    before = resident_bytes()
    footers = [pq.read_metadata(path) for path in paths for _ in range(4)]
    after = resident_bytes()
    return max(after - before, 0) // 4 if footers else 0


def packets(given: argparse.Namespace) -> list[dict[str, float]]:
    """Results of one task over more and more rows; what it costs to add them, and to make a profile of one."""
    paths = prepare(given.sizes.floats, given.folder)
    chosen = [one.name for one in open_source(paths).fields[:16]]
    schema = gd.fit(paths, columns=chosen)
    found, number = [], 1
    while number <= len(paths):
        counted = count_source(open_source(paths[:number]), schema, WHOLE, chosen, Settings())
        one = Packet.of(counted, ((number, 2 * number),), 0)
        sizes = {"rows": one.rows, "slots": one.slots, "bytes": one.nbytes}
        found.append(sizes | {"bytes_per_slot": one.nbytes / one.slots})
        number *= 2
    several = [replace(one, parts=((at, at + 1),)) for at in range(FAN_IN)]
    adding = timed(partial(add_packets, several), 5) / len(several)
    unpacking = timed(partial(one.profile, schema, WHOLE), 5)
    found[-1] |= {"add_seconds_per_slot": adding / one.slots, "profile_seconds_per_slot": unpacking / one.slots}
    return found


def column_costs(given: argparse.Namespace) -> dict[str, float]:
    """What a column costs whatever its rows: fitting it from a full sample, and preparing it in a task."""
    source = open_source(prepare(given.sizes.floats, given.folder))
    fields = source.fields[:16]
    batches = list(source.batches(source.parts[0], [one.name for one in fields]))
    sampled: Sampled = {one.name: [] for one in fields}
    take_sample(batches[0], np.arange(min(batches[0].num_rows, 65_536)), sampled)
    fitting = timed(lambda: fit_block(fields, sampled, FitOptions()), 3) / len(fields)
    schema = fit_block(fields, sampled, FitOptions())
    few = pa.Table.from_batches(batches).slice(0, 10)
    counting = timed(lambda: gd.profile(few, schema=schema, threads=1), 5) / len(fields)
    return {"fit_seconds": fitting, "prepare_seconds": counting}


def costs(entry: dict[str, Any]) -> dict[str, float]:
    """The figures that scale_model.py takes, each in one unit of what it is for."""
    opening, packed, reading = entry["opening"], entry["packets"], entry["reading"]
    chunk = per_unit(opening, "chunks", "footer_seconds", {})
    part = per_unit(opening, "parts", "footer_seconds", {"chunks": chunk})
    join_part = per_unit(opening, "parts", "join_seconds", {})
    part_bytes = per_unit(opening, "parts", "packed_bytes", {})
    held = per_unit(opening, "parts", "held_bytes", {})
    floats = reading["float64"]
    return {
        "bytes_per_second": floats["count"]["bytes_per_second"],
        "read_bytes_per_second": floats["read"]["bytes_per_second"],
        "string_bytes_per_second": reading["string"]["count"]["bytes_per_second"],
        "string_read_bytes_per_second": reading["string"]["read"]["bytes_per_second"],
        "stored_share": floats["table"]["file_bytes"] / floats["bytes"],
        "start_seconds": entry["start"]["first_seconds"],
        "task_seconds": entry["nothing"]["seconds_per_task"],
        "fixed_seconds": reading["fixed_seconds"],
        "footer_chunk_seconds": chunk,
        "footer_part_seconds": part,
        "footer_file_seconds": per_unit(opening, "files", "footer_seconds", {"chunks": chunk, "parts": part}),
        "join_part_seconds": join_part,
        "join_file_seconds": per_unit(opening, "files", "join_seconds", {"parts": join_part}),
        "source_part_bytes": part_bytes,
        "source_file_bytes": per_unit(opening, "files", "packed_bytes", {"parts": part_bytes}),
        "held_part_bytes": held,
        "held_file_bytes": per_unit(opening, "files", "held_bytes", {"parts": held}),
        "footer_chunk_bytes": opening["chunks"]["footer_bytes"] / opening["chunks"]["chunks"],
        "packet_rows": packed[-1]["rows"],
        "packet_slot_bytes": packed[-1]["bytes_per_slot"],
        "add_slot_seconds": packed[-1]["add_seconds_per_slot"],
        "client_slot_seconds": packed[-1]["profile_seconds_per_slot"],
        "fit_column_seconds": entry["columns"]["fit_seconds"],
        "column_seconds": entry["columns"]["prepare_seconds"],
        "process_bytes": entry["busy_process_bytes"],
    }


def per_unit(opening: dict[str, dict[str, float]], unit: str, what: str, known: dict[str, float]) -> float:
    """What one more file, part or chunk takes, of the table that has most of them, once the known units are off."""
    many, few = opening[unit], opening["tiny"]
    rest = many[what] - few[what] - sum((many[one] - few[one]) * each for one, each in known.items())
    return max(rest, 0.0) / max(many[unit] - few[unit], 1)


def rates_of(entry: dict[str, Any], made_on: str) -> Rates:
    """What plans take: a thread's speed while all cores are busy, which is how a cluster runs."""
    found = entry["costs"]
    return Rates(
        bytes_per_second=round(found["bytes_per_second"]),
        task_seconds=found["task_seconds"],
        start_seconds=found["start_seconds"],
        process_bytes=round(found["process_bytes"]),
        made_on=made_on,
    )


# --- the command -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Tables of all cases; ``nothing`` is runs and blocks of tasks that do nothing."""

    workers: Shape = Shape(16_000_000, 50, end_to_end.DISTINCT, 500_000, 125_000)
    rounds: int = 5_000
    wide: Shape = Shape(1_000_000, 5_000, (), 100_000, 100_000)
    rows: tuple[Shape, ...] = tuple(Shape(rows, 20) for rows in (1_000_000, 10_000_000, 100_000_000))
    graph: Shape = Shape(10_000, 5, (), 200, 1)
    tiny: Shape = Shape(1_000, 2, (5,), 1_000, 1_000)
    floats: Shape = Shape(4_000_000, 48, (), 500_000, 250_000)
    texts: Shape = Shape(4_000_000, 0, end_to_end.DISTINCT, 500_000, 250_000)
    nothing: tuple[int, int] = (10_000, 5)
    many_groups: Shape = Shape(200_000, 5, (), 20_000, 100)
    many_files: Shape = Shape(40_000, 5, (), 100, 100)
    many_columns: Shape = Shape(3_200, 1_000, (), 800, 100)


QUICK = Sizes(
    workers=Shape(20_000, 6, (5, 500), 5_000, 2_500),
    rounds=20,
    wide=Shape(4_000, 120, (), 1_000, 1_000),
    rows=tuple(Shape(rows, 4, (), 5_000, 1_250) for rows in (5_000, 20_000)),
    graph=Shape(400, 5, (), 100, 1),
    floats=Shape(80_000, 16, (), 20_000, 10_000),
    texts=Shape(80_000, 0, (5, 500), 20_000, 10_000),
    nothing=(40, 2),
    many_groups=Shape(4_000, 5, (), 1_000, 100),
    many_files=Shape(2_000, 5, (), 100, 100),
    many_columns=Shape(400, 200, (), 200, 100),
)
CASES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "workers": workers_case,
    "wide": wide_case,
    "rows": rows_case,
    "graph": graph_case,
    "overhead": overhead_case,
}
PAIRS = {"workers": 5, "wide": 2, "rows": 1, "graph": 3, "overhead": 3}
"""Measurements of each, unless told otherwise."""


def say(text: str) -> None:
    print(text, flush=True)


def versions() -> dict[str, str]:
    found = end_to_end.versions()
    for name in ("dask", "distributed"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="CASE", help="of " + ", ".join(CASES))
    parser.add_argument("--folder", type=Path, help="where the data lies or is put, and stays; temporary by default")
    parser.add_argument(
        "--pairs",
        type=int,
        help="measurements of each (default: " + ", ".join(f"{name} {number}" for name, number in PAIRS.items()) + ")",
    )
    parser.add_argument("--output", type=Path, help="folder of the results; benchmarks/results, or none with --quick")
    parser.add_argument("--rates", type=Path, help="file for the rates; the package's, or none with --quick")
    parser.add_argument("--quick", action="store_true", help="toy tables, to see that it works")
    given = parser.parse_args()
    if given.pairs is not None and given.pairs < 1:
        parser.error("--pairs: at least 1")
    given.asked = given.pairs
    given.sizes = QUICK if given.quick else Sizes()
    if not given.quick:
        given.output, given.rates = given.output or RESULTS, given.rates or RATES
    return given


def main() -> None:
    given = options()
    with ExitStack() as stack:
        given.folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpudrift-")))
        for name in given.cases:
            given.pairs = given.asked or PAIRS[name]
            say(f"--- {name}")
            result = CASES[name](given)
            document = {
                "format": FORMAT,
                "script": "benchmarks/cluster.py",
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "commit": end_to_end.commit(),
                "quick": given.quick,
                "repeat": given.pairs,
                "machine": end_to_end.machine(),
                "versions": versions(),
                "case": name,
                "result": result,
            }
            if given.output is not None:
                given.output.mkdir(parents=True, exist_ok=True)
                path = given.output / f"cluster-{name}.json"
                path.write_text(json.dumps(document, indent=1) + "\n")
                say(f"wrote {path}")


if __name__ == "__main__":
    main()
