"""What a cluster of GPUs would do, on paper: scale_model.py with the rates of a GPU; it prints and keeps the result.

The model, for a table that is cut as the engine cuts it for one worker a GPU, all GPUs together::

    time     = start + fixed + open + max(scan + sampling + fitting + adding, scheduler) + client
    scan     = max(storage, PCIe, decode, count) / busy share of the GPUs    (a batch while the next one is coming)
    storage  = bytes in files  / (nodes * bytes a second of a node's storage)
    PCIe     = bytes in files  / (GPUs * bytes a second of its PCIe link)       (files are decoded on the GPU)
    decode   = bytes in memory / (GPUs * bytes a second that the reader decodes)
    count    = bytes in memory / (GPUs * bytes a second that the kernels count)
    sampling = max(storage, PCIe, decode) * share of the row groups that hold sampled rows: they are read twice

All else (start, fixed, open, fitting, adding, client, scheduler = tasks * task_seconds) is what scale_model.py makes
of ``cluster-overhead.json``, which was measured on cores. ``apart`` is the same with scan as the sum of its four,
as if nothing overlapped; the truth lies between. The *bottleneck* is the largest of the four, the opening and the
scheduler.

Rates come from the newest results of device.py: counting is float64, normal, 1,024 quantile bins with sums; decoding is
cuDF's bare read of the widest table there, which lay in the page cache. Where there is no result the rate is an
assumption, is marked as one and says where it is from; nothing that follows from it is a measurement.

Assumed in any case: nodes of 8 GPUs, each with a PCIe link of its own; storage of so many bytes a second a node, which
is a parameter; a worker a GPU of so many threads, which open files and fit bins; float64; no worker lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GPUS = (8, 64)
GPUS_OF_A_NODE = 8
THREADS_OF_A_WORKER = 8
"""Of the cores that stand beside a GPU; 16 are usual."""
STORAGES = {"object store": 5e9, "local NVMe": 25e9, "parallel file system": 100e9, "page cache": 1000e9}
"""Bytes a second of a node: parameters to choose by, of no particular machine."""
STEPS = ("storage", "PCIe", "decode", "count")


@dataclass(frozen=True)
class Rate:
    """Bytes a second of one GPU or node; measured, or assumed, and where it is from."""

    bytes_per_second: float
    measured: bool
    source: str


def modelled_count() -> Rate:
    """Counting normal float64, of the committed result of kernel_model.py: in the middle of what it predicts."""
    document = json.loads((Path(__file__).resolve().parent / "results" / "kernel-model.json").read_text())
    wanted = {"dtype": "float64", "shape": "normal", "when": "now"}
    [own] = [one for one in document["predicted"] if wanted.items() <= one.items()]
    copy = document["assumed"]["copy_bytes_per_second"]
    share = (own["share_low"] + own["share_high"]) / 2
    source = (
        f"kernel_model.py, for an H200: {share:.0%} of its copy of {copy / 1e12:.1f} TB/s, limited by shared memory"
    )
    return Rate(share * copy, False, source)


ASSUMED = {
    "PCIe": Rate(64e9, False, "PCIe 5 x16, as published"),
    "decode": Rate(50e9, False, "published for an H100: below 50 GB/s for many types (NVIDIA/cudf#18350)"),
    "decode, files made for GPUs": Rate(
        125e9, False, "published for an A100: up to 125 GB/s, large row groups of 100 pages a chunk (arXiv 2602.17335)"
    ),
    "count": modelled_count(),
}


def rates_of(documents: Sequence[Mapping[str, Any]]) -> dict[str, Rate]:
    """Rates by name: measured where a result of device.py has them, the oldest first, else assumed."""
    found = dict(ASSUMED)
    for document in documents:
        made = f"{document.get('device') or document.get('bench', {}).get('device')}, {document['date'][:10]}"
        for one in document.get("bench", {}).get("measured", ()):
            if (one["part"], one["who"], one["dtype"], one["shape"]) == ("shapes", "gpudrift", "float64", "normal"):
                found["count"] = Rate(one["bytes_per_second"], True, made)
        whole = [case for case in document.get("files", {}).values() if case.get("whole", True)]
        cases = [case for case in whole if case["library"].startswith("pylibcudf")]
        if cases:
            widest = max(cases, key=lambda case: case["tables"]["reference"]["columns"])
            [read] = [one for one in widest["measured"] if key_of(one) == ("read", "both", "pylibcudf.read_parquet")]
            found["decode"] = Rate(read["bytes_per_second"], True, f"{made}, from the page cache")
    return found


def key_of(measured: Mapping[str, Any]) -> tuple[str, str, str]:
    return measured["what"], measured["table"], measured["who"]


def scan_seconds(
    size: float, stored: float, gpus: int, rates: Mapping[str, Rate], *, storage: float, decode: str
) -> dict[str, float]:
    """Seconds of each step of one reading, if it were the only one."""
    nodes = -(-gpus // GPUS_OF_A_NODE)
    return {
        "storage": stored / (nodes * storage),
        "PCIe": stored / (gpus * rates["PCIe"].bytes_per_second),
        "decode": size / (gpus * rates[decode].bytes_per_second),
        "count": size / (gpus * rates["count"].bytes_per_second),
    }


def whole(steps: Mapping[str, float], cores: Mapping[str, Any]) -> dict[str, Any]:
    """Time and bottleneck from the steps of the scan and what scale_model.py predicts for all else.

    Parameters
    ----------
    steps : mapping
        Of :func:`scan_seconds`.
    cores : mapping
        Of ``scale_model.predict``, for as many workers as GPUs.
    """
    seconds, again, busy = cores["seconds"], cores["readings"] - 1, cores["busy_share"]
    scan = max(steps.values()) / busy
    sampling = max(steps[name] for name in STEPS[:3]) * again
    apart = sum(steps.values()) / busy + sum(steps[name] for name in STEPS[:3]) * again
    around = seconds["start"] + seconds["fixed"] + seconds["open"] + seconds["client"]
    small = seconds["fitting"] + seconds["adding"]
    limits = dict(steps) | {"opening files": seconds["open"], "scheduler": cores["scheduler_seconds"]}
    return {
        "seconds": around + max(scan + sampling + small, cores["scheduler_seconds"]),
        "apart_seconds": around + max(apart + small, cores["scheduler_seconds"]),
        "scan": dict(steps),
        "sampling": sampling,
        "around": {name: seconds[name] for name in ("start", "fixed", "open", "fitting", "adding", "client")},
        "scheduler": cores["scheduler_seconds"],
        "busy_share": busy,
        "tasks": cores["tasks"],
        "task_bytes": cores["task_bytes"],
        "bottleneck": max(limits, key=limits.__getitem__),
    }


def predictions(
    tables: Mapping[str, Any],
    costs: Any,
    rates: Mapping[str, Rate],
    predict: Any,
    storages: Mapping[str, float] = STORAGES,
) -> dict[str, Any]:
    """Every table on every number of GPUs, with every storage, for files as they are and files made for GPUs.

    Parameters
    ----------
    tables : mapping of name to scale_model.Table
    costs : scale_model.Costs
    rates : mapping of name to Rate
    predict : callable
        ``scale_model.predict``.
    storages : mapping of name to bytes a second of a node
    """
    entries: list[dict[str, Any]] = []
    for name, table in tables.items():
        for gpus in GPUS:
            cores = predict(table, costs, gpus, THREADS_OF_A_WORKER, fits=True, gpus=True)
            for storage, speed in storages.items():
                for decode in ("decode", "decode, files made for GPUs"):
                    stored = table.bytes * costs.stored_share
                    steps = scan_seconds(table.bytes, stored, gpus, rates, storage=speed, decode=decode)
                    about = {"table": name, "gpus": gpus, "storage": storage, "decode": decode}
                    entries.append(about | {"bytes": table.bytes, "stored": stored, **whole(steps, cores)})
    return {
        "rates": {name: asdict(rate) for name, rate in rates.items()},
        "storages": dict(storages),
        "gpus_of_a_node": GPUS_OF_A_NODE,
        "threads_of_a_worker": THREADS_OF_A_WORKER,
        "stored_share": costs.stored_share,
        "on": entries,
    }


def lines(found: Mapping[str, Any], said: Any) -> list[str]:
    """For people; ``said`` puts seconds into words."""
    told = ["clusters of GPUs, on paper:"]
    for name, rate in found["rates"].items():
        how = "measured" if rate["measured"] else "not measured; assumed"
        told.append(f"  {name:<28} {rate['bytes_per_second'] / 1e9:>7,.0f} GB/s a GPU   {how}: {rate['source']}")
    for name, speed in found["storages"].items():
        told.append(f"  {name:<28} {speed / 1e9:>7,.0f} GB/s a node  a parameter")
    told.append(f"{'table':<13} {'GPUs':>5}  {'storage':<21} {'files':<13} {'time':>10} {'apart':>10}  bottleneck")
    for one in found["on"]:
        files = "made for GPUs" if one["decode"] != "decode" else "as they are"
        told.append(
            f"{one['table']:<13} {one['gpus']:>5}  {one['storage']:<21} {files:<13} {said(one['seconds']):>10} "
            f"{said(one['apart_seconds']):>10}  {one['bottleneck']} ({said(largest(one))})"
        )
    for name in dict.fromkeys(one["table"] for one in found["on"] if one["bottleneck"] == "scheduler"):
        one = next(one for one in found["on"] if (one["table"], one["bottleneck"]) == (name, "scheduler"))
        each = one["scheduler"] / one["tasks"]
        busy = one["task_bytes"] / found["rates"]["decode"]["bytes_per_second"]
        told.append(
            f"  - {name}: a task of {one['task_bytes'] / 1e9:,.1f} GB keeps a GPU busy for {1e3 * busy:.0f} ms and the "
            f"scheduler for {1e3 * each:.1f}: beyond {busy / each:.0f} GPUs tasks should be larger"
        )
    return told


def largest(entry: Mapping[str, Any]) -> float:
    """Seconds of the bottleneck."""
    limits = dict(entry["scan"]) | {"opening files": entry["around"]["open"], "scheduler": entry["scheduler"]}
    return float(limits[entry["bottleneck"]])


def checked_storages(text: str) -> dict[str, float]:
    """``NAME=GB/s`` pairs, separated by commas.

    Raises
    ------
    ValueError
        For anything else.
    """
    found = {}
    for pair in text.split(","):
        name, _, number = (word.strip() for word in pair.partition("="))
        speed = float(number) if re.fullmatch(r"\d+(\.\d+)?", number) else 0.0
        if not name or speed <= 0:
            raise ValueError(f"expected NAME=GB/s, got {pair!r}")
        found[name] = 1e9 * speed
    return found
