"""Everything that takes a GPU, in one command: tests of the backend, kernels, variants, files, a cluster of one GPU.

    python benchmarks/device.py [--only kernels] [--output benchmarks/results/device-NAME.json] [--quick]

Parts, all of them or those of ``--only``, each of which takes less than ten minutes:

- ``tests``: ``pytest -m gpu --require-gpu``, one after the other; if one fails nothing else is measured;
- ``kernels``: ``gpudrift bench``;
- ``variants``: one constant of gpudrift/backends/cuda/launch.py is changed at a time, on float32 columns of three
  shapes, so that what was kept can be told from what was tried;
- ``files``: ``gpudrift bench --files`` on tables that are generated, each deleted before the next: from Parquet to a
  report beside ``pylibcudf.read_parquet``, and the peak of memory beside the budget (``--cases`` takes some of them);
- ``cluster``: the same counting by a cluster of one worker on this GPU and by this process, in turn, to the same bit.

One JSON holds device, driver, versions, commit, date and what was measured; update_readme.py takes the newest result of
each part. The parts of ``--only`` name the file.

Exit status: 0 done, 1 tests failed (the JSON says which), 3 there is no GPU that can be used.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import end_to_end
from cluster_runs import Shape, prepare, table_entry

import gpudrift as gd
from gpudrift import bench
from gpudrift.backends import why_not_cuda
from gpudrift.backends.cuda import launch as cuda_launch
from gpudrift.bench.files import measure_files
from gpudrift.bench.files_result import lines
from gpudrift.execution.cluster.scheduler import open_cluster
from gpudrift.files import write_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FORMAT = "gpudrift/device/1"
VARIANTS: dict[str, tuple[int, ...]] = {
    "THREADS": (128, 256, 512),
    "COPIES": (1, 2, 4, 8),
    "MOST_BITS": (5, 6, 7, 8, 9, 10),
    "LEAST_ROWS": (1 << 13, 1 << 15, 1 << 17),
}
VARIED_SHAPES = ("normal", "drifted to a bin", "zipf")


def run_tests() -> dict[str, Any]:
    """Numbers of tests by outcome, and what failed, with the first line of the reason."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-m",
            "gpu",
            "--require-gpu",
            f"--junitxml={report}",
        ]
        done = subprocess.run([*command, "tests/backends/cuda/test_gpu.py"], cwd=ROOT, check=False)
        suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    failed = {}
    for case in suite.iter("testcase"):
        for problem in (*case.iter("failure"), *case.iter("error")):
            failed[f"{case.get('name')}"] = (problem.get("message") or "").partition("\n")[0]
    outcomes = {name: int(suite.get(name) or 0) for name in ("tests", "failures", "errors", "skipped")}
    return outcomes | {"status": done.returncode, "failed": failed}


@contextmanager
def changed(constant: str, value: int) -> Iterator[None]:
    """A constant of cuda_launch that is another one for a while."""
    before = getattr(cuda_launch, constant)
    setattr(cuda_launch, constant, value)
    try:
        yield
    finally:
        setattr(cuda_launch, constant, before)


def measure_variants(*, quick: bool, repeat: int) -> list[dict[str, Any]]:
    told = []
    for constant, values in VARIANTS.items():
        kept = getattr(cuda_launch, constant)
        for value in values:
            with changed(constant, value):
                found = bench.run(
                    "cuda", parts=["shapes"], shapes=VARIED_SHAPES, dtypes=["float32"], quick=quick, repeat=repeat
                )
            for one in found.measured:
                entry = {"constant": constant, "value": value, "kept": value == kept, **one.described()}
                told.append(entry | {"copy_bytes_per_second": found.copy_bytes_per_second})
                print(f"{constant} = {value}: {one.shape} {one.share:.1%} of the copy", flush=True)
    return told


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
    "wide": Case(Shape(1_000_000, 5_000, file_rows=50_000, group_rows=50_000), repeat=3),
}
"""0.4, 4, 16, 16 and 40 GB of float64 in memory, some 60 % of that on the disk, of 1e9 a tenth. The wide one in row
groups of 2 GB: whole files of it are made by one process each, which hold them."""
QUICK_CASES = {
    "1e6": Case(Shape(2_000, 6, file_rows=1_000, group_rows=500), repeat=1),
    "1e9": Case(Shape(1_000, 2, file_rows=500, group_rows=250), repeat=1, copies=3),
    "wide": Case(Shape(500, 60, file_rows=250, group_rows=250), repeat=1),
}


def measure_file_cases(cases: dict[str, Case], *, quick: bool, backend: str = "cuda") -> dict[str, Any]:
    """``gpudrift bench --files`` on each table, beside itself; the table is deleted before the next one is made."""
    told = {}
    for name, case in cases.items():
        with tempfile.TemporaryDirectory(prefix="gpudrift-device-") as folder:
            start = time.perf_counter()
            paths = case.prepare(Path(folder))
            made = time.perf_counter() - start
            found = measure_files(paths, backend=backend, repeat=case.repeat, quick=quick)
            table = table_entry(case.shape, paths)
        print(f"\n{name} (made in {made:.0f} s)", *lines(found), sep="\n", flush=True)
        table |= {"rows": case.shape.rows * case.copies, "copies": case.copies}
        told[name] = {"table": table, **found.document()}
    return told


def measure_cluster(case: Case, *, quick: bool, backend: str = "cuda") -> dict[str, Any]:
    """The same counting by one worker of a cluster and by this process, in turn; warm, and equal to the bit."""
    with tempfile.TemporaryDirectory(prefix="gpudrift-device-") as folder:
        paths = prepare(case.shape, Path(folder))
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
        table = table_entry(case.shape, paths)
    assert len(digests) == 1, f"the cluster and this process counted differently: {digests}"
    over = [a / b for a, b in zip(took["cluster"], took["process"], strict=True)]
    told = {
        "table": table,
        "workers": len(workers),
        "threads": sum(workers.values()),
        "digest": digests.pop(),
        "seconds": {who: median(all_of_them) for who, all_of_them in took.items()},
        "all_seconds": took,
        "ratio": median(over),
    }
    print(f"a cluster of one: {told['seconds']['cluster']:.2f} s, {told['ratio']:.2f} x this process", flush=True)
    return told


# --- the command -----------------------------------------------------------------------------------------------------

PARTS = ("tests", "kernels", "variants", "files", "cluster")


def measure(parts: Sequence[str], cases: dict[str, Case], *, quick: bool, repeat: int) -> dict[str, Any]:
    """What the parts find, by their names in the JSON."""
    found: dict[str, Any] = {}
    if "tests" in parts:
        found["tests"] = run_tests()
        if found["tests"]["status"]:
            return found
    if "kernels" in parts:
        result = bench.run(
            "cuda",
            quick=quick,
            repeat=repeat,
            begin=lambda result: print(f"{result.device}: a copy {result.copy_bytes_per_second / 1e9:,.0f} GB/s"),
            tell=lambda one: print(f"{one.part} {one.who} {one.dtype} {one.shape}: {one.share:.1%}", flush=True),
        )
        found["bench"] = result.document()
    if "variants" in parts:
        found["variants"] = measure_variants(quick=quick, repeat=repeat)
    if "files" in parts:
        found["files"] = measure_file_cases(cases, quick=quick)
    if "cluster" in parts:
        found["cluster"] = measure_cluster((QUICK_CASES if quick else CASES)["1e6"], quick=quick)
    return found


def chosen(text: str | None, known: Sequence[str], parser: argparse.ArgumentParser, option: str) -> list[str]:
    names = text.split(",") if text else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"{option}: unknown {unknown[0]!r}; choose from {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="A,B", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--cases", metavar="A,B", help=f"of files: some of {', '.join(CASES)}; all by default")
    parser.add_argument("--output", type=Path, help="default: device-NAME.json in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="small columns, to see that it works")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each figure (default 5)")
    given = parser.parse_args()
    parts = chosen(given.only, PARTS, parser, "--only")
    known = QUICK_CASES if given.quick else CASES
    cases = {name: known[name] for name in chosen(given.cases, tuple(known), parser, "--cases")}
    why = why_not_cuda()
    if why is not None:
        print(f"device.py: nothing can be measured here: {why}", file=sys.stderr)
        sys.exit(3)
    from gpudrift.backends.cuda.device import device

    document: dict[str, Any] = {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.quick,
        "device": device().name,
        **measure(parts, cases, quick=given.quick, repeat=given.repeat),
    }
    failed = document.get("tests", {}).get("status", 0) != 0
    name = "failed" if failed else re.sub("[^a-z0-9]+", "-", device().name.lower()).strip("-")
    some = "" if given.only is None else "-" + "-".join(parts)
    some += "" if given.cases is None else "-" + "-".join(cases)
    output = given.output or RESULTS / f"device-{name}{some}.json"
    write_whole(output, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    print(f"wrote {output}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
