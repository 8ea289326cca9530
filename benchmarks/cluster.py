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

What *reading* means, and what peaks and network bytes are: cluster_runs.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import end_to_end
import numpy as np
from cluster_costs import overhead_case
from cluster_runs import (
    QUICK,
    Clusters,
    Shape,
    Sizes,
    arithmetic,
    count,
    group,
    observed,
    prepare,
    profile,
    ratios,
    read,
    same_bytes,
    say,
    summary,
    table_entry,
)

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.counts.packets import Packet, add_packets
from gpudrift.execution import cuts
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.work import Opened, count_parts
from gpudrift.sources import open_source
from gpudrift.windows.grouping import WHOLE

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RATES = ROOT / "gpudrift" / "data" / "rates.json"
FORMAT = "gpudrift/cluster/1"
MEMORY = Path("/proc/meminfo")


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
        clients = {number: stack.enter_context(given.clusters.of(number)) for number in (1, 2)}
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
        client = stack.enter_context(given.clusters.of(2))
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
        with given.clusters.of(2) as client:
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
        with given.clusters.of(1) as client:
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


# --- the command -----------------------------------------------------------------------------------------------------


CASES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "workers": workers_case,
    "wide": wide_case,
    "rows": rows_case,
    "graph": graph_case,
    "overhead": overhead_case,
}
PAIRS = {"workers": 5, "wide": 2, "rows": 1, "graph": 3, "overhead": 3}
"""Measurements of each, unless told otherwise."""


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
        given.clusters = stack.enter_context(Clusters(kept=given.quick))
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
