"""The first minutes on a device: do the kernels compile, load and count right there, and what does its hardware do.

Each figure is taken even if the one before failed: then it says so in its place. ``python benchmarks/device_probe.py
float32,float64 100000`` counts two columns and compares them, for NVIDIA's tools to look at.
"""

from __future__ import annotations

import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from device_processes import run_limited
from device_sheet import Sheet, on_path, said
from device_wavefronts import measure_wavefronts

__all__ = ["ncu_text", "run_probe", "wrong_in"]

PACKAGES = (
    *(
        "numpy",
        "scipy",
        "pyarrow",
        "numba",
        "cupy-cuda13x",
        "cupy-cuda12x",
        "nvidia-cuda-nvrtc",
        "pytest",
        "hypothesis",
    ),
    *("pylibcudf-cu13", "cudf-cu13", "rmm-cu13", "dask", "distributed", "dask-cuda", "torch"),
)
ATTRIBUTES = {
    "registers": "num_regs",
    "local_bytes": "local_size_bytes",
    "shared_bytes": "shared_size_bytes",
    "most_dynamic_shared_bytes": "max_dynamic_shared_size_bytes",
    "binary_version": "binary_version",
}
OTHER_KERNELS = ("gd_build_guides", "gd_take", "gd_take_bits", "gd_check_texts")
ROWS = 100_000
MANY_BINS = 2_700
TOOL_SECONDS = 40.0
TOOLS = ("memcheck", "racecheck")


def run_probe(sheet: Sheet, *, quick: bool) -> None:
    """Every figure that is not there yet."""
    found: dict[str, Any] = sheet.document.setdefault("probe", {})

    def add(name: str, content: Any) -> None:
        found[name] = content
        print(f"{name}: {content if len(str(content)) < 300 else f'{str(content)[:300]} …'}", flush=True)
        sheet.add(probe=found)

    for name, figure in figures(quick=quick):
        if name not in found:
            add(name, attempted(figure))
    waves = found.setdefault("wavefronts", {})
    if "error" not in waves:
        try:
            for name, content in measure_wavefronts(set(waves), quick=quick):
                waves[name] = content
                print(f"{name}: {content['cycles']:.2f} cycles", flush=True)
                sheet.add(probe=found)
        except Exception as error:  # of the compiler, of the driver
            waves["error"] = said(error)
            print(f"wavefronts: {waves['error']}", flush=True)
            sheet.add(probe=found)
    for tool in TOOLS:
        if tool not in found:
            add(tool, attempted(lambda tool=tool: sanitized(tool)))


def attempted(figure: Callable[[], Any]) -> Any:
    try:
        return figure()
    except Exception as error:  # whatever a device does for the first time
        return {"error": said(error)}


def wrong_in(document: dict[str, Any]) -> list[str]:
    """Figures of a probe that counted wrongly or could not, in words; what was not there is not wrong."""
    told = []
    for name, one in document.get("probe", {}).items():
        if name in TOOLS:
            if one.get("ran") and one["found"]:
                told.append(f"{name} found {one['found']}")
        elif name not in ("wavefronts", "versions"):
            if "error" in one:
                told.append(f"{name}: {one['error']}")
            elif one.get("equal") is False:
                told.append(f"{name} differs: {one['different']}")
    return told


def figures(*, quick: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    from gpudrift.backends.cuda.launch import STORED

    yield "versions", versions
    yield "kernels", kernels
    yield "float32 subnormals", subnormals
    for stored in STORED:
        yield f"column of {stored}", lambda stored=stored: column(stored)
    yield "above 48 KiB of shared memory", lambda: above_48_kib(2_000 if quick else ROWS)


def versions() -> dict[str, Any]:
    from gpudrift.backends import probe
    from gpudrift.backends.cuda.device import device

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    own, gpu = device(), probe()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": packages,
        "device": {
            "name": own.name,
            "multiprocessors": own.multiprocessors,
            "shared_bytes_of_a_block": own.shared_memory.block,
            "shared_bytes_of_a_multiprocessor": own.shared_memory.multiprocessor,
        },
        "gpu": str(gpu),
        "free_bytes": gpu.free,
        "budget_bytes": own.budget,
        **own.versions(),
        "programs": on_path("nvcc", "ncu", "compute-sanitizer", "cuobjdump", "nvidia-smi"),
    }


def kernels() -> dict[str, Any]:
    """What the driver says of each kernel, as CuPy compiled it."""
    from gpudrift.backends.cuda.device import device
    from gpudrift.backends.cuda.launch import STORED

    start = time.perf_counter()
    own = device()
    told: dict[str, Any] = {}
    for name in (*(f"gd_count_{stored}" for stored in STORED), *OTHER_KERNELS):
        kernel = own._kernel(name, 0)
        told[name] = {what: number(getattr(kernel, name, None)) for what, name in ATTRIBUTES.items()}
    return {"seconds": time.perf_counter() - start, "of": told}


def number(value: Any) -> int | None:
    return None if value is None else int(value)


def same(values: Any, schema: Any = None) -> dict[str, Any]:
    """A column counted here and by NumPy: equal, or in what they differ."""
    import pyarrow as pa

    import gpudrift as gd
    from gpudrift.backends import load_backend

    table = pa.table({"x": values})
    schema = schema if schema is not None else gd.fit(table)
    found, wanted = (load_backend(backend)(table.to_batches(), schema) for backend in ("cuda", "numpy"))
    parts = [name for name in ("counts", "sums", "low", "high") if not np.array_equal(*both(found, wanted, name))]
    if not parts and found.digest == wanted.digest:
        return {"equal": True, "rows": table.num_rows, "slots": schema.slots}
    at = np.flatnonzero(found.counts != wanted.counts)
    some = [f"slot {slot}: {found.counts[slot]} for {wanted.counts[slot]}" for slot in at[:4].tolist()]
    return {"equal": False, "different": ", ".join([*(parts or ["digest"]), *some])}


def both(found: Any, wanted: Any, name: str) -> tuple[Any, Any]:
    return getattr(found, name), getattr(wanted, name)


def subnormals() -> dict[str, Any]:
    """Numbers that a device which flushes to zero would count as zeros, in bins of their own size."""
    tiny = np.arange(1, 2_001, dtype=np.uint32).view(np.float32)
    values = np.concatenate([tiny, -tiny, np.float32([0.0, -0.0, 1.4e-45, 1.1754944e-38]), tiny[::3]])
    return same(values)


def column(stored: str, rows: int = ROWS) -> dict[str, Any]:
    """Normal values, a tenth of them missing."""
    import pyarrow as pa

    rng = np.random.default_rng(7)
    mask = rng.random(rows) < 0.1
    if stored == "decimal128":
        cents = rng.integers(-(10**9), 10**9, rows)
        return same(pa.array(cents, mask=mask).cast(pa.decimal128(19, 0)))
    normal = rng.standard_normal(rows)
    dtype = np.dtype(stored)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        normal = rng.integers(limits.min, limits.max, rows, dtype=dtype, endpoint=True)
    return same(pa.array(normal.astype(dtype), mask=mask))


def above_48_kib(rows: int) -> dict[str, Any]:
    """So many bins that a block asks for more shared memory than it has unasked."""
    from gpudrift.backends.cuda.device import device
    from gpudrift.backends.cuda.launch import USUAL_SHARED
    from gpudrift.backends.cuda.layout import layout_of
    from gpudrift.bench import schema_of

    schema = schema_of(np.random.default_rng(1).standard_normal(200_000), MANY_BINS)
    edges = schema.columns[0].edges
    assert edges is not None
    shared = layout_of(edges, device().shared_memory, narrow=False)[1].shared
    if shared <= USUAL_SHARED:
        return {"error": f"{MANY_BINS} bins take only {shared} bytes"}
    return {"shared_bytes": shared} | same(np.random.default_rng(2).standard_normal(rows), schema)


# --- NVIDIA's tools --------------------------------------------------------------------------------------------------


def script(dtypes: str, rows: int) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), dtypes, str(rows)]


def sanitized(tool: str) -> dict[str, Any]:
    """What compute-sanitizer says of two columns: whether it ran, and how many errors or hazards it found."""
    program = on_path("compute-sanitizer")["compute-sanitizer"]
    if program is None:
        return {"not there": "compute-sanitizer is not on the PATH"}
    ended = run_limited([program, "--tool", tool, *script("float32,float64", ROWS)], TOOL_SECONDS)
    summary = re.search(r"SUMMARY: (\d+) (?:error|hazard)", ended.end)
    found = int(summary[1]) if summary is not None else None
    # Where the tool refuses the device the script does not come to its end: that says nothing about the kernels.
    ran = "equal" in ended.end.splitlines()
    clean = ran and found == 0
    told = {"ran": ran, "found": found, "seconds": ended.seconds, "why": ended.why}
    return told | ({} if clean else {"end": ended.end[-3000:]})


NCU_METRICS = (
    "gpu__time_duration.sum",
    "sm__cycles_elapsed.max",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__inst_executed.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_atom.sum",
    "l1tex__data_pipe_lsu_wavefronts.avg.pct_of_peak_sustained_elapsed",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "launch__occupancy_limit_shared_mem",
    "launch__registers_per_thread",
)


def ncu_text(dtype: str, rows: int, limit: float) -> dict[str, str]:
    """A few counters of the counting kernel, as ncu prints them; or why there are none."""
    program = on_path("ncu")["ncu"]
    if program is None:
        return {"not there": "ncu is not on the PATH"}
    # The clocks of a machine that is not ours are left as they are. The first launch warms up.
    options = [
        "--clock-control",
        "none",
        "--kernel-name",
        "regex:gd_count",
        "--launch-skip",
        "1",
        "--launch-count",
        "1",
    ]
    ended = run_limited([program, *options, "--metrics", ",".join(NCU_METRICS), *script(dtype, rows)], limit)
    return {"text": ended.end[-4000:]} | ({"why": ended.why} if ended.why else {})


def main() -> None:
    """Count normal columns of so many rows, three times each, and compare them with NumPy's counts."""
    dtypes, rows = sys.argv[1].split(","), int(sys.argv[2])
    values = np.random.default_rng(3).standard_normal(rows)
    found = [same(values.astype(dtype)) for dtype in dtypes for _ in range(3)]
    wrong = [one["different"] for one in found if not one["equal"]]
    print(wrong or "equal")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
