"""Everything that takes a GPU, in one command: the tests of the backend, then ``gpudrift bench``, then its variants.

    python benchmarks/device.py [--output benchmarks/results/device-NAME.json] [--quick]

The tests are ``pytest -m gpu --require-gpu``; if one fails nothing is measured. *Variants* change one constant of
gpudrift/backends/cuda_launch.py at a time, on float32 columns of three shapes, so that what was kept can be told from
what was tried. One JSON holds device, driver, versions, commit, date, tests and figures; update_readme.py makes the
README's GPU figures of the newest one.

Exit status: 0 done, 1 tests failed (the JSON says which), 3 there is no GPU that can be used.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import end_to_end

from gpudrift import bench
from gpudrift.backends import cuda_launch, why_not_cuda
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
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--require-gpu", f"--junitxml={report}"]
        done = subprocess.run([*command, "tests/test_gpu.py"], cwd=ROOT, check=False)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="default: device-NAME.json in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="small columns, to see that it works")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each figure (default 5)")
    parser.add_argument("--no-variants", action="store_true")
    given = parser.parse_args()
    why = why_not_cuda()
    if why is not None:
        print(f"device.py: nothing can be measured here: {why}", file=sys.stderr)
        sys.exit(3)
    tests = run_tests()
    document: dict[str, Any] = {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.quick,
        "tests": tests,
    }
    if tests["status"] == 0:
        found = bench.run(
            "cuda",
            quick=given.quick,
            repeat=given.repeat,
            begin=lambda result: print(f"{result.device}: a copy {result.copy_bytes_per_second / 1e9:,.0f} GB/s"),
            tell=lambda one: print(f"{one.part} {one.who} {one.dtype} {one.shape}: {one.share:.1%}", flush=True),
        )
        document["bench"] = found.document()
        if not given.no_variants:
            document["variants"] = measure_variants(quick=given.quick, repeat=given.repeat)
        name = re.sub("[^a-z0-9]+", "-", found.device.lower()).strip("-")
    else:
        name = "failed"
    output = given.output or RESULTS / f"device-{name}.json"
    write_whole(output, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    print(f"wrote {output}")
    sys.exit(1 if tests["status"] else 0)


if __name__ == "__main__":
    main()
