"""What a task, an opened file, a packet and a byte cost on a cluster: the case ``overhead`` of cluster.py."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import end_to_end
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cluster_runs import count, observed, prepare, profile, read, resident_bytes, say, table_entry

import gpudrift as gd
from gpudrift.counts.packets import Packet, add_packets
from gpudrift.execution import cuts
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.finding import open_found
from gpudrift.execution.cluster.graph import TaskName
from gpudrift.execution.cluster.work import Opened
from gpudrift.execution.cuts import FAN_IN, column_slots, cut_for_cluster
from gpudrift.execution.forecast import Rates, plan_table
from gpudrift.execution.sampling import fit_block
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sampled, take_sample
from gpudrift.sources import find_source, open_source
from gpudrift.windows.grouping import WHOLE


def overhead_case(given: argparse.Namespace) -> dict[str, Any]:
    """Costs of tasks, files, packets and bytes, for scale_model.py; and the rates that ship with the package."""
    entry: dict[str, Any] = {}
    with given.clusters.of(2) as client:
        entry["start"] = first_task(client, given)
        entry["process_bytes"] = max(client.run(resident_bytes).values())
        entry["reading"] = speeds(client, given)
        entry["busy_process_bytes"] = beside_what_is_held(client, given)
        entry["nothing"] = nothing_tasks(client, given)
        entry["tiny"] = tiny_tasks(client, given)
        entry["opening"] = openings(client, given)
    with given.clusters.of(1) as client:
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
            places = [TaskName("count", block, at, at + 1) for at in range(runs)]
            level, leaves = 0, cluster.many(places, nothing, [[]] * runs)
            while len(leaves) > 1:
                level += 1
                leaves = [
                    cluster.task(TaskName("add", block, level, at), nothing, *leaves[at : at + FAN_IN])
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
