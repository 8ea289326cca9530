"""How long, and on how many machines? Measured costs of tasks, bytes and files, put together; checked against runs.

The model, for a table that is cut as the engine cuts it (``gpudrift.execution.cuts.cut_for_cluster`` on a made-up
source)::

    time     = start + fixed + open + max(sampling + fitting + counting + adding, tasks * task_seconds) + client
    open     = footers + join
    footers  = files * footer_file + parts * footer_part + chunks * footer_chunk, in tasks of 32 files
    join     = files * join_file + parts * join_part                        (one task, the others wait for it)
    counting = waves * mean task;  waves = tasks / threads, rounded up
    task     = its bytes / (bytes a second of a thread) + its columns * column_seconds
    sampling = the same for reading alone, of the parts that hold sampled rows            (profiles of long tables)
    traffic  = packets and their sums + edges to every worker + samples + the opened source to every worker
    memory   = process + the opened source + threads * (what a task holds, as plans say)

A packet's bytes grow with its rows: twice the rows make a count and a sum one bit longer, 0.25 bytes a slot.

Costs come from ``benchmarks/results/cluster-overhead.json``; the runs that the model is checked against are those of
``cluster-rows.json``, ``cluster-workers.json`` and ``cluster-wide.json``, on other tables than the costs.

Assumed: machines with cores like the measured ones, one worker of ``--threads`` threads each; storage and network that
keep up (the bandwidth it takes is printed); files of the shape that is printed; no worker lost; one scheduler, as quick
as the measured one while it shared two cores with two workers.

What clusters of GPUs would do is put together by gpu_model.py, whose head has its formula: ``"gpus"`` in the JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, log2
from pathlib import Path
from typing import Any

import end_to_end
import gpu_model
import pyarrow as pa
from cluster import versions
from scale_text import said, show_checks, show_prediction

from gpudrift.execution.cuts import FAN_IN, FILES_AT_ONCE, MOST_TASKS, Cut, column_slots, cut_for_cluster
from gpudrift.execution.forecast import COUNTING, EDGES, additions, plan_table
from gpudrift.execution.settings import BUDGET
from gpudrift.fitting.samples import sample_blocks
from gpudrift.sources import Field, Part

RESULTS = Path(__file__).resolve().parent / "results"
FORMAT = "gpudrift/scale-model/1"
FOOTERS_AT_ONCE = 8
"""That a task holds while it reads those of its files, as in sources/parquet.py."""
MOST_PARTS = 1 << 15
"""Of a made-up source: the cut looks at each part once a block, and coarser parts give the same number of tasks."""
LARGEST_SLOT = 16
"""Bytes of a slot that no packet exceeds: a count and a sum of 64 bits."""
MACHINE_MEMORY = 64e9
"""Of the machines that are asked for; only what does not fit is told."""
MACHINES = (1, 10, 100, 1_000)
HOUR = 3600.0


@dataclass(frozen=True)
class Costs:
    """What cluster.py measured; seconds and bytes of one unit each."""

    bytes_per_second: float
    read_bytes_per_second: float
    string_bytes_per_second: float
    string_read_bytes_per_second: float
    stored_share: float
    """Bytes in the file of a byte in memory."""
    start_seconds: float
    task_seconds: float
    fixed_seconds: float
    """Of a table that has next to no data: finding it, its profile, and the way there and back."""
    footer_chunk_seconds: float
    footer_part_seconds: float
    footer_file_seconds: float
    join_part_seconds: float
    join_file_seconds: float
    source_part_bytes: float
    source_file_bytes: float
    held_part_bytes: float
    held_file_bytes: float
    footer_chunk_bytes: float
    packet_rows: float
    packet_slot_bytes: float
    add_slot_seconds: float
    client_slot_seconds: float
    fit_column_seconds: float
    column_seconds: float
    process_bytes: float


@dataclass(frozen=True)
class Table:
    """A table in files of equal shape; ``string_bytes`` are those of all text columns in memory."""

    rows: int
    floats: int
    strings: int = 0
    string_bytes: int = 0
    files: int = 1
    parts: int = 1

    @property
    def columns(self) -> int:
        return self.floats + self.strings

    @property
    def bytes(self) -> int:
        return 8 * self.rows * self.floats + self.string_bytes


TABLES = {
    "1e9 x 1,000": Table(10**9, 1_000, files=1_000, parts=10_000),
    "1e12 x 5,000": Table(10**12, 5_000, files=1_000_000, parts=10_000_000),
}


class MadeUp:
    """A source that has no data: what the cut asks for, and nothing else."""

    columnar, remote = True, False
    label = "made up"

    def __init__(self, table: Table) -> None:
        self.table, self.rows = table, table.rows
        self.fields = tuple(
            Field(f"c{at}", pa.float64() if at < table.floats else pa.string()) for at in range(table.columns)
        )
        number = min(table.parts, MOST_PARTS)
        self.parts = (Part("made up", table.rows // number, 0, (0, 0)),) * number
        self.files = range(table.files)

    def column_bytes(self, name: str) -> int:
        at = int(name[1:])
        return 8 * self.rows if at < self.table.floats else self.table.string_bytes // self.table.strings


@lru_cache(maxsize=8)
def cut_of(table: Table, threads: int, *, fits: bool, gpus: bool = False) -> tuple[MadeUp, Cut, bool]:
    """The cut that the engine would make, and whether each task then holds its columns whole."""
    source = MadeUp(table)
    held = fits and max(source.column_bytes(one.name) for one in source.fields) <= BUDGET
    slots = column_slots(source.fields, None)
    cut = cut_for_cluster(source, source.fields, slots, threads, held=BUDGET if held else None, gpus=gpus)
    return source, cut, held


def waves(tasks: int, threads: int) -> int:
    return -(-tasks // max(threads, 1))


def packet_bytes(costs: Costs, rows: float) -> float:
    """Bytes of a slot in the result of a task that counted so many rows."""
    longer = 0.25 * log2(max(rows, 1) / costs.packet_rows)
    return min(max(costs.packet_slot_bytes + longer, 0.5), LARGEST_SLOT)


def predict(
    table: Table, costs: Costs, workers: int, threads_each: int, *, fits: bool, warm: bool = False, gpus: bool = False
) -> dict[str, Any]:
    """What counting a table (and, with ``fits``, choosing its bins first) takes on so many workers.

    Parameters
    ----------
    table, costs
    workers, threads_each : int
    fits : bool
    warm : bool
        Whether the workers have loaded everything.
    gpus : bool
        Whether each worker samples and counts on a GPU, one task at a time.
    """
    threads = workers * threads_each
    counting = workers if gpus else threads
    source, cut, held = cut_of(table, counting, fits=fits, gpus=gpus)
    runs, adds = [len(own) for own in cut.runs], sum(additions(len(own)) for own in cut.runs)
    columns = [stop - start for start, stop in cut.columns]

    # Seconds of work, all threads together.
    busy = 8 * table.rows * table.floats / costs.bytes_per_second + table.string_bytes / costs.string_bytes_per_second
    busy += sum(map(int.__mul__, columns, runs)) * costs.column_seconds
    reading = 8 * table.rows * table.floats / costs.read_bytes_per_second
    reading += table.string_bytes / costs.string_read_bytes_per_second
    sampled = sampled_parts(table) if fits and not held else 0
    sampling_tasks = sum(min(own, sampled) for own in runs)
    fitting = table.columns * costs.fit_column_seconds if fits else 0.0

    seconds = {
        "start": 0.0 if warm else costs.start_seconds,
        "fixed": costs.fixed_seconds,
        "open": opening(table, costs, threads),
        "sampling": in_waves(reading * sampled / table.parts, sampling_tasks, counting),
        "fitting": in_waves(fitting, len(runs), threads),
        "counting": in_waves(busy, cut.tasks, counting),
        "adding": sum(map(int.__mul__, cut.slots, runs)) * costs.add_slot_seconds / threads if adds else 0.0,
        "client": sum(cut.slots) * costs.client_slot_seconds,
    }
    tasks = cut.tasks + sampling_tasks + adds + len(runs) + footer_tasks(table) + 2
    scheduler = tasks * costs.task_seconds
    work = sum(seconds[name] for name in ("sampling", "fitting", "counting", "adding"))
    total = sum(seconds[name] for name in ("start", "fixed", "open", "client")) + max(work, scheduler)

    traffic = traffic_of(table, costs, cut, workers, sampled=bool(sampled))
    sent = sum(traffic.values())
    plan = plan_table(source, source.fields, cut, workers=workers, fits=fits, held=held)
    opened = table.parts * costs.held_part_bytes + table.files * costs.held_file_bytes
    footers = min(FOOTERS_AT_ONCE, table.files) * table.parts / table.files * table.columns * costs.footer_chunk_bytes
    stored = table.bytes * costs.stored_share
    return {
        "workers": workers,
        "threads": threads,
        "tasks": tasks,
        "counting_tasks": cut.tasks,
        "task_bytes": table.bytes / max(cut.tasks, 1),
        "task_seconds": busy / max(cut.tasks, 1),
        "bytes": table.bytes,
        "readings": 1 + sampled / table.parts,
        "traffic": traffic | {"all": sent, "share": sent / table.bytes},
        "worker_bytes": costs.process_bytes + opened + threads_each * plan.held,
        "counted_bytes_per_slot": COUNTING,
        "opening_bytes": costs.process_bytes + opened + threads_each * footers,
        "scheduler_seconds": scheduler,
        "scheduler_load": scheduler / max(work, scheduler),
        "waves": waves(cut.tasks, counting),
        "busy_share": busy / max(in_waves(busy, cut.tasks, counting) * counting, 1e-300),
        "bandwidth_per_worker": stored * (1 + sampled / table.parts) / max(work, scheduler) / workers,
        "seconds": seconds | {"all": total},
    }


def in_waves(busy: float, tasks: int, threads: int) -> float:
    """Seconds that equal tasks take which are so much work together."""
    return waves(tasks, threads) * busy / tasks if tasks else 0.0


def opening(table: Table, costs: Costs, threads: int) -> float:
    """Seconds until the table is known: many tasks read footers, then one puts together what they found."""
    footers = table.files * costs.footer_file_seconds + table.parts * costs.footer_part_seconds
    footers += table.parts * table.columns * costs.footer_chunk_seconds
    return in_waves(footers, footer_tasks(table), threads) + joining(table, costs)


def joining(table: Table, costs: Costs) -> float:
    return table.files * costs.join_file_seconds + table.parts * costs.join_part_seconds


def footer_tasks(table: Table) -> int:
    return -(-table.files // FILES_AT_ONCE)


def sampled_parts(table: Table) -> int:
    """Parts that hold sampled rows: one for each block of the sample, where parts are not longer than its stride."""
    sample = sample_blocks(table.rows, table.columns)
    return min(table.parts, -(-table.rows // sample.stride))


def traffic_of(table: Table, costs: Costs, cut: Cut, workers: int, *, sampled: bool) -> dict[str, float]:
    """Bytes that cross the network, at most: as if nothing lay where it is needed."""
    packets = 0.0
    for slots, own in zip(cut.slots, cut.runs, strict=True):
        level, rows = len(own), table.rows / max(len(own), 1)
        packets += level * slots * packet_bytes(costs, rows)
        while level > 1:
            rows, level = min(rows * FAN_IN, table.rows), -(-level // FAN_IN)
            packets += level * slots * packet_bytes(costs, rows)
    sample = sample_blocks(table.rows, table.columns)
    share = min(1.0, sample.length * -(-table.rows // sample.stride) / max(table.rows, 1))
    source = table.parts * costs.source_part_bytes + table.files * costs.source_file_bytes
    return {
        "packets": packets,
        "edges": EDGES * sum(cut.slots) * (workers + 2.0),  # to every worker, and to and from the client
        "samples": share * table.bytes if sampled else 0.0,
        "source": source * (workers + 1),
    }


def machines_for(table: Table, costs: Costs, threads_each: int, seconds: float, *, fits: bool) -> int | None:
    """Fewest machines that finish in time, to 5 %; None where no number of them does."""

    def enough(machines: int) -> bool:
        return bool(predict(table, costs, machines, threads_each, fits=fits)["seconds"]["all"] <= seconds)

    few, many = 0, 1
    while not enough(many):
        if many * threads_each > max(MOST_TASKS, table.parts) or joining(table, costs) > seconds:
            return None
        few, many = many, 2 * many
    while many - few > max(1, many // 20):
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def limits(table: Table, found: dict[str, Any]) -> list[str]:
    """What would go wrong first, in words with numbers."""
    told, seconds = [], found["seconds"]
    if found["opening_bytes"] > MACHINE_MEMORY:
        told.append(
            f"{found['opening_bytes'] / 1e9:,.0f} GB in each worker while it reads footers "
            f"({table.parts * table.columns // table.files:,} column chunks in each)"
        )
    if seconds["open"] > 60:
        told.append(f"opening {table.files:,} files takes {said(seconds['open'])}, and all else waits for it")
    if found["worker_bytes"] > MACHINE_MEMORY:
        told.append(
            f"{found['worker_bytes'] / 1e9:,.0f} GB in each worker, most of it the list of {table.parts:,} parts"
        )
    if found["counting_tasks"] >= MOST_TASKS * 0.9 and found["task_seconds"] > 300:
        told.append(
            f"{found['counting_tasks']:,} tasks, as many as one table may have, of "
            f"{found['task_bytes'] / 1e9:,.0f} GB: each takes {said(found['task_seconds'])} on any number of machines, "
            "and again where a worker is lost"
        )
    if found["busy_share"] < 0.8:
        told.append(
            f"{found['counting_tasks']:,} tasks on {found['threads']:,} threads: in {found['waves']} waves only "
            f"{found['busy_share']:.0%} of the threads are busy"
        )
    if found["scheduler_load"] > 0.5:
        told.append(f"the scheduler is busy {found['scheduler_load']:.0%} of the time")
    if found["traffic"]["share"] > 0.01:
        told.append(f"traffic is {found['traffic']['share']:.1%} of what is read")
    return told


# --- checked against runs --------------------------------------------------------------------------------------------


def runs_of(documents: dict[str, dict[str, Any]]) -> dict[str, tuple[Table, int, bool, dict[str, Any]]]:
    """Measured runs: table, workers of one thread each, whether bins were chosen, and what was observed."""
    found = {}
    if "rows" in documents:
        for size, entry in documents["rows"]["sizes"].items():
            for job in ("profile", "count"):
                found[f"rows {float(size):.0e} {job}".replace("e+0", "e")] = one_run(entry["table"], entry[job], 2, job)
    if "workers" in documents:
        for job in ("profile", "count"):
            entry = documents["workers"]
            found[f"workers {job}"] = one_run(entry["table"], entry[job]["2"], 2, job)
    if "wide" in documents:
        for job in ("profile", "count"):
            found[f"wide {job}"] = one_run(documents["wide"]["table"], documents["wide"][job], 2, job)
    return found


def one_run(
    described: dict[str, Any], run: dict[str, Any], workers: int, job: str
) -> tuple[Table, int, bool, dict[str, Any]]:
    # Arrow adds a bit a value for missing ones, which counts as text only beside texts.
    texts = run["bytes_counted"] - 8 * described["rows"] * described["floats"] if described["strings"] else 0
    sizes = described["floats"], len(described["strings"]), max(texts, 0)
    return Table(described["rows"], *sizes, described["files"], described["row_groups"]), workers, job == "profile", run


def checks(documents: dict[str, dict[str, Any]], costs: Costs) -> dict[str, dict[str, float]]:
    """Prediction, measurement and error of every run; workers were warm in all of them."""
    told = {}
    for name, (table, workers, fits, run) in runs_of(documents).items():
        found = predict(table, costs, workers, 1, fits=fits, warm=True)
        told[name] = {"rows": table.rows, "columns": table.columns}
        told[name] |= compared("seconds", found["seconds"]["all"], run["seconds"])
        told[name] |= compared("worker_bytes", found["worker_bytes"], run["worker_peak_bytes"])
        told[name] |= compared("network_bytes", found["traffic"]["all"], run["network_bytes"])
    return told


def compared(what: str, predicted: float, measured: float) -> dict[str, float]:
    return {f"predicted_{what}": predicted, f"measured_{what}": measured, f"error_of_{what}": predicted / measured - 1}


def largest_error(found: dict[str, dict[str, float]]) -> float:
    return max((abs(one["error_of_seconds"]) for one in found.values()), default=float("nan"))


# --- the command -----------------------------------------------------------------------------------------------------


def load(folder: Path) -> tuple[Costs, dict[str, dict[str, Any]], list[str]]:
    """Costs, the results of the runs there are, and which there are not."""
    path = folder / "cluster-overhead.json"
    if not path.exists():
        sys.exit(f"{path} is missing: python benchmarks/cluster.py overhead")
    measured = json.loads(path.read_text())["result"]["costs"]
    costs = Costs(**{one.name: measured[one.name] for one in fields(Costs)})
    names = ("rows", "workers", "wide")
    paths = {name: folder / f"cluster-{name}.json" for name in names}
    documents = {name: json.loads(path.read_text())["result"] for name, path in paths.items() if path.exists()}
    missing = [
        f"{paths[name]} is missing: python benchmarks/cluster.py {name}" for name in names if name not in documents
    ]
    return costs, documents, missing


def device_results(folder: Path) -> list[dict[str, Any]]:
    """What device.py has measured, the oldest first; toy runs are none, and those whose tests failed."""
    found = [json.loads(path.read_text()) for path in folder.glob("device-*.json")]
    wanted = [one for one in found if not one["quick"] and not one.get("tests_failed")]
    return sorted(wanted, key=lambda one: one["date"])


def prediction(table: Table, costs: Costs, threads_each: int) -> dict[str, Any]:
    """A profile (the dearer of the two) on clusters of several sizes."""
    found = {machines: predict(table, costs, machines, threads_each, fits=True) for machines in MACHINES}
    work = found[1]["task_seconds"] * found[1]["counting_tasks"]
    return {
        "table": asdict(table),
        "bytes": table.bytes,
        "on": {str(machines): one for machines, one in found.items()},
        "machines_for_an_hour": machines_for(table, costs, threads_each, HOUR, fits=True),
        "machines_of_work": ceil(work / HOUR / threads_each),
        "limits": limits(table, found[MACHINES[-1]]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results of cluster.py")
    parser.add_argument("--output", type=Path, help="default: scale-model.json in that folder")
    parser.add_argument("--threads", type=int, default=16, help="of each machine (default 16)")
    parser.add_argument(
        "--storage",
        type=gpu_model.checked_storages,
        default=gpu_model.STORAGES,
        metavar="NAME=GB/s,...",
        help="of a node of 8 GPUs (default: "
        + ", ".join(f"{k}={v / 1e9:.0f}" for k, v in gpu_model.STORAGES.items())
        + ")",
    )
    given = parser.parse_args()
    costs, documents, missing = load(given.results)
    for text in missing:
        print(text)
    checked = checks(documents, costs)
    if checked:
        show_checks(checked)
        print(f"largest error of time: {largest_error(checked):.0%}")
    predictions = {name: prediction(table, costs, given.threads) for name, table in TABLES.items()}
    for name, entry in predictions.items():
        show_prediction(name, entry)
    rates = gpu_model.rates_of(device_results(given.results))
    gpus = gpu_model.predictions(TABLES, costs, rates, predict, given.storage)
    print("", *gpu_model.lines(gpus, said), sep="\n")
    overhead = json.loads((given.results / "cluster-overhead.json").read_text())
    document = {
        "format": FORMAT,
        "script": "benchmarks/scale_model.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": overhead["quick"],
        "repeat": overhead["repeat"],
        "machine": overhead["machine"],
        "versions": versions(),
        "threads_of_a_machine": given.threads,
        "costs": asdict(costs),
        "checks": checked,
        "largest_error_of_seconds": largest_error(checked) if checked else None,
        "predictions": predictions,
        "gpus": gpus,
    }
    output = given.output or given.results / "scale-model.json"
    output.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nwrote {output}")


if __name__ == "__main__":
    main()
