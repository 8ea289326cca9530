"""What cluster.py and device.py share: generated tables, clusters of this machine, and runs that are observed.

*Reading* is the engine's own graph with the counting left out: the same cluster, cut, row groups and columns, through
the same readers with footers kept, each batch dropped when the next one comes. That is the fastest bare read there is
here: a ``ParquetFile`` opened anew in each task parses the footer each time.

Peaks are what the kernel says of a process (VmHWM), set back before each measurement. The scheduler lives in the
client's process. Network bytes are what crosses the loopback device, whoever sends it: heartbeats as well.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import end_to_end
import generate
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from device_processes import die_with_parent

import gpudrift as gd
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.finding import open_files
from gpudrift.execution.cluster.graph import TaskName
from gpudrift.execution.cluster.work import Opened
from gpudrift.execution.cuts import AT_ONCE, column_slots, cut_columns, cut_for_cluster, obstacle
from gpudrift.execution.settings import Settings

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
        with ProcessPoolExecutor(min(len(missing), os.cpu_count() or 1), spawn, die_with_parent) as pool:
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


class Clusters(ExitStack):
    """Clusters of this machine: a fresh one whenever one is wanted, or the same again where tables are toys."""

    def __init__(self, *, kept: bool) -> None:
        super().__init__()
        self.kept = kept
        self.clients: dict[int, Any] = {}

    @contextmanager
    def of(self, workers: int) -> Iterator[Any]:
        """A client of so many workers of one thread each."""
        if not self.kept:
            with local_cluster(workers) as client:
                yield client
            return
        if workers not in self.clients:
            self.clients[workers] = self.enter_context(local_cluster(workers))
        yield self.clients[workers]


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
    settings = Settings(client=client)
    with DaskCluster(settings) as cluster:
        files = open_files(cluster, list(paths), settings)
        source, fields = files.source, files.source.fields
        sizes = [source.column_bytes(one.name) for one in fields if obstacle(one) is None]
        whole = schema is None and max(sizes, default=0) <= cluster.budget
        held = cluster.budget if whole else None
        cut = cut_for_cluster(source, fields, column_slots(fields, schema), cluster.threads, held=held)
        roots = [
            cluster.task(TaskName("read", block, *run), read_parts, files.shared, span, run, whole)
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


# --- sizes -----------------------------------------------------------------------------------------------------------


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


def say(text: str) -> None:
    print(text, flush=True)
