"""What device.py measures of speed: kernels, variants of their launch, cuDF, files, and a cluster of one GPU.

Each function takes the sheet of its part, measures what is not there yet, the most valuable first, and writes each
figure as it comes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
from cluster_runs import Shape, prepare, table_entry
from device_probe import ncu_text
from device_sheet import Sheet, said

import gpudrift as gd
from gpudrift import bench
from gpudrift.backends.cuda import launch, layout
from gpudrift.bench.files import measure_files
from gpudrift.bench.files_result import FilesResult, lines
from gpudrift.bench.shapes import SHAPES
from gpudrift.execution.cluster.scheduler import open_cluster

USUAL = ("normal", "uniform")
OTHERS = tuple(shape for shape in SHAPES if shape not in USUAL)
KERNEL_STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("usual shapes", {"parts": ["shapes"], "shapes": USUAL}),
    ("widths", {"parts": ["widths"]}),
    ("shapes of float32", {"parts": ["shapes"], "shapes": OTHERS, "dtypes": ["float32"]}),
    ("peers", {"parts": ["peers"]}),
    ("shapes of float64", {"parts": ["shapes"], "shapes": OTHERS, "dtypes": ["float64"]}),
    ("types", {"parts": ["dtypes"]}),
    ("bins", {"parts": ["bins"]}),
)
"""All of ``gpudrift bench``, what most questions are about first."""
NCU_ROWS = 1 << 24
NCU_SECONDS = 40.0
QUICK_ROWS = 500
"""An emulated GPU counts some 10,000 values a second for each column."""

VARIANTS: dict[str, tuple[int, ...]] = {
    "COPIES": (1, 2, 4, 8),
    "CELLS": (1 << 10, 1 << 11, 1 << 12, 1 << 13),
    "THREADS": (256, 512),
    "LEAST_ROWS": (1 << 13, 1 << 15, 1 << 17),
}
"""Values of constants of gpudrift/backends/cuda; the one that is there is always among them."""
VARIED_SHAPES = ("normal", "drifted to a bin", "zipf")


def measure_kernels(sheet: Sheet, *, quick: bool, repeat: int) -> None:
    """``gpudrift bench`` on the GPU, step by step, then what ncu says of two columns where it is there."""
    for step, chosen in KERNEL_STEPS:
        document = sheet.document.get("bench", {})
        measured, missing = document.get("measured", []), document.get("missing", {})
        have = sum(one["step"] == step for one in measured) + (len(missing) if step == "peers" else 0)

        begun: list[bench.Result] = []

        def begin(found: bench.Result, begun: list[bench.Result] = begun) -> None:
            begun.append(found)
            if "bench" not in sheet.document:
                sheet.document["bench"] = found.document()
                print(f"{found.device}: a copy {found.copy_bytes_per_second / 1e9:,.0f} GB/s", flush=True)

        def tell(one: bench.Measured, step: str = step, begun: list[bench.Result] = begun) -> None:
            sheet.document["bench"]["measured"].append({"step": step, **one.described()})
            sheet.document["bench"]["missing"] |= begun[0].missing
            sheet.add()
            print(f"{one.part} {one.who} {one.dtype} {one.shape}: {one.share:.1%}", flush=True)

        rows = QUICK_ROWS if quick else 0
        found = bench.run("cuda", rows=rows, quick=quick, repeat=repeat, begin=begin, tell=tell, skip=have, **chosen)
        sheet.document["bench"]["missing"] |= found.missing
        sheet.save()
    for dtype in ("float32", "float64"):
        if dtype not in sheet.document.setdefault("ncu", {}):
            told = ncu_text(dtype, QUICK_ROWS if quick else NCU_ROWS, NCU_SECONDS)
            print(f"ncu, {dtype}: {told.get('not there') or told.get('why') or 'there'}", flush=True)
            sheet.add(ncu=sheet.document["ncu"] | {dtype: told})


# --- variants --------------------------------------------------------------------------------------------------------


@contextmanager
def changed(constant: str, value: int) -> Iterator[None]:
    """A constant of gpudrift.backends.cuda that is another one for a while."""
    module = module_of(constant)
    before = getattr(module, constant)
    setattr(module, constant, value)
    try:
        yield
    finally:
        setattr(module, constant, before)


def module_of(constant: str) -> ModuleType:
    """Where a constant is that is varied."""
    return next(module for module in (layout, launch) if hasattr(module, constant))


def measure_variants(sheet: Sheet, *, quick: bool, repeat: int) -> None:
    """Every value of every constant, on float32 columns of three shapes; one that cannot run says why."""
    told = sheet.document.setdefault("variants", [])
    failed = sheet.document.setdefault("failed_variants", {})
    for constant, values in VARIANTS.items():
        kept = getattr(module_of(constant), constant)
        for value in sorted({*values, kept}):
            have = sum((one["constant"], one["value"]) == (constant, value) for one in told)
            name = f"{constant} = {value}"
            if have == len(VARIED_SHAPES) or name in failed:
                continue
            copies: list[float] = []

            def tell(one: bench.Measured, constant: str = constant, value: int = value, kept: int = kept) -> None:
                entry = {"constant": constant, "value": value, "kept": value == kept, **one.described()}
                told.append(entry | {"copy_bytes_per_second": copies[0]})  # noqa: B023 - called within the loop
                sheet.add()
                print(f"{constant} = {value}: {one.shape} {one.share:.1%} of the copy", flush=True)

            try:
                with changed(constant, value):
                    bench.run(
                        "cuda",
                        rows=QUICK_ROWS if quick else 0,
                        parts=["shapes"],
                        shapes=VARIED_SHAPES,
                        dtypes=["float32"],
                        quick=quick,
                        repeat=repeat,
                        begin=lambda found: copies.append(found.copy_bytes_per_second),  # noqa: B023 - as above
                        tell=tell,
                        skip=have,
                    )
            except Exception as error:  # too much shared memory, too many registers
                failed[name] = said(error)
                sheet.save()
                print(f"{name}: {failed[name]}", flush=True)


# --- cuDF ------------------------------------------------------------------------------------------------------------


def measure_cudf(sheet: Sheet, *, quick: bool) -> None:
    """One file read, and texts grouped, by cuDF: equal to the CPU, and how long it took; or that it is not there."""
    found: dict[str, Any] = sheet.document.setdefault("cudf", {})
    why = ""
    if find_spec("pylibcudf") is None:
        why = "pylibcudf is not installed"
    else:
        try:
            import pylibcudf  # noqa: F401 - only to see whether it can be
        except Exception as error:  # of a library that was built for another NumPy, for instance
            why = f"pylibcudf cannot be imported: {said(error)}"
    if why:
        print(why, flush=True)
        sheet.add(cudf={"not there": why})
        return
    rows = 2_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="gpudrift-device-") as folder:
        for name, shape in {
            "numbers": Shape(rows, 4, file_rows=rows, group_rows=rows // 2),
            "texts": Shape(rows, 0, (5, 500), file_rows=rows, group_rows=rows // 2),
        }.items():
            if name not in found:
                paths = prepare(shape, Path(folder))
                try:
                    found[name] = beside_the_cpu(paths)
                except Exception as error:  # whatever cuDF does where it was never tried
                    found[name] = {"error": said(error)}
                print(f"cuDF, {name}: {found[name]}", flush=True)
                sheet.add(cudf=found)


def beside_the_cpu(paths: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    first = gd.profile(paths, backend="cuda")
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    again = gd.profile(paths, backend="cuda", schema=first.schema)
    counted = time.perf_counter() - start
    wanted = gd.profile(paths, backend="numba", schema=first.schema)
    return {
        "equal": first.digest == again.digest == wanted.digest,
        "backend": first.provenance["backend"],
        "first_seconds": seconds,
        "count_seconds": counted,
        "rows": wanted.rows,
    }


# --- from files ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A table of one shape, in files, how often it is read, and of how many times these files it is made."""

    shape: Shape
    repeat: int = 5
    copies: int = 1

    def prepare(self, folder: Path) -> list[str]:
        """Write its files; those that are there again are links, which take no disk and no time."""
        made = [Path(path) for path in prepare(self.shape, folder)]
        links = [path.with_name(f"{copy}-{path.name}") for copy in range(1, self.copies) for path in made]
        for at, link in enumerate(links):
            link.hardlink_to(made[at % len(made)])
        return [str(path) for path in (*made, *links)]


CASES = {
    "1e6": Case(Shape(1_000_000, 50, file_rows=1_000_000, group_rows=1_000_000)),
    "1e7": Case(Shape(10_000_000, 50, file_rows=1_000_000, group_rows=1_000_000)),
    "1e8": Case(Shape(100_000_000, 20, file_rows=5_000_000, group_rows=1_000_000), repeat=3),
    "1e9": Case(Shape(100_000_000, 2, file_rows=5_000_000, group_rows=1_000_000), repeat=1, copies=10),
}
"""0.4, 4, 16 and 16 GB of float64 in memory, some 60 % of that on the disk, of 1e9 a tenth."""
WIDE = {"wide": Case(Shape(1_000_000, 5_000, file_rows=50_000, group_rows=50_000), repeat=3)}
"""40 GB in memory, in row groups of 2 GB: whole files of it are made by one process each, which hold them."""
QUICK_CASES = {
    "1e6": Case(Shape(2_000, 6, file_rows=1_000, group_rows=500), repeat=2),
    "1e9": Case(Shape(1_000, 2, file_rows=500, group_rows=250), repeat=1, copies=3),
}
QUICK_WIDE = {"wide": Case(Shape(500, 60, file_rows=250, group_rows=250), repeat=1)}


def measure_file_cases(sheet: Sheet, cases: Mapping[str, Case], *, quick: bool, backend: str = "cuda") -> None:
    """``gpudrift bench --files`` on each table, beside itself; the table is deleted before the next one is made.

    An entry whose ``whole`` is false was cut in the middle of its rounds, and is measured anew.
    """
    told: dict[str, Any] = sheet.document.setdefault("files", {})
    for name, case in cases.items():
        if told.get(name, {}).get("whole"):
            continue
        with tempfile.TemporaryDirectory(prefix="gpudrift-device-") as folder:
            start = time.perf_counter()
            paths = case.prepare(Path(folder))
            table = table_entry(case.shape, paths)
            table |= {"rows": case.shape.rows * case.copies, "copies": case.copies}
            print(f"{name}: made in {time.perf_counter() - start:.0f} s", flush=True)

            def tell(
                found: FilesResult, whole: bool = False, name: str = name, table: Mapping[str, Any] = table
            ) -> None:
                told[name] = {"table": dict(table), "whole": whole, **found.document()}
                sheet.add()

            found = measure_files(paths, backend=backend, repeat=case.repeat, quick=quick, tell=tell)
        tell(found, True)
        print("", *lines(found), sep="\n", flush=True)


# --- a cluster -------------------------------------------------------------------------------------------------------


def measure_cluster(sheet: Sheet, case: Case, *, quick: bool, backend: str = "cuda") -> str:
    """The same counting by one worker of a cluster and by this process, in turn; warm, and equal to the bit.

    Returns what it needs and is not there, in words.
    """
    missing = [name for name in ("distributed", "dask_cuda") if find_spec(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    with tempfile.TemporaryDirectory(prefix="gpudrift-device-") as folder:
        paths = prepare(case.shape, Path(folder))
        table = table_entry(case.shape, paths)
        with open_cluster("local", 1, 1 if quick else 0, verbose=True) as client:
            workers = client.nthreads()
            schema = gd.profile(paths, client=client, backend=backend).schema
            took: dict[str, list[float]] = {"cluster": [], "process": []}
            digests = set()
            for number in range(case.repeat + 1):
                for who, seconds in took.items():
                    start = time.perf_counter()
                    found = gd.profile(
                        paths, schema=schema, client=client if who == "cluster" else None, backend=backend
                    )
                    if number:  # the first round loads what there is to load
                        seconds.append(time.perf_counter() - start)
                    digests.add(found.digest)
                assert len(digests) == 1, f"the cluster and this process counted differently: {digests}"
                if number:
                    about = {"table": table, "workers": len(workers), "threads": sum(workers.values())}
                    sheet.add(cluster=about | summed(took) | {"digest": found.digest})
    told = sheet.document["cluster"]
    print(f"a cluster of one: {told['seconds']['cluster']:.2f} s, {told['ratio']:.2f} x this process", flush=True)
    return ""


def summed(took: Mapping[str, list[float]]) -> dict[str, Any]:
    over = [a / b for a, b in zip(took["cluster"], took["process"], strict=True)]
    return {
        "seconds": {who: float(np.median(all_of_them)) for who, all_of_them in took.items()},
        "all_seconds": {who: list(all_of_them) for who, all_of_them in took.items()},
        "ratio": median(over),
    }
