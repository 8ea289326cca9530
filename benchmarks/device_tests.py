"""The tests that need a GPU, file after file, and the pytest plugin that writes down each outcome when it is known.

Every file is a pytest process of its own, named, without ``-x``: collecting all of tests/ takes what the test extra
installs, which a machine with a GPU need not have. A file that needs a package that is missing is not run, and says
which; a test that skips itself is counted as skipped, none as passed. A run that is resumed runs the tests that have no
outcome yet, and the one that was running when it was stopped at the end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_processes import run_limited
from device_sheet import Sheet, plain

if TYPE_CHECKING:
    import pytest

__all__ = ["TEST_FILES", "TestFile", "failed_in", "run_tests", "unfinished"]

SHEET, FILE = "GPUDRIFT_DEVICE_SHEET", "GPUDRIFT_DEVICE_FILE"
"""Environment that tells the plugin where to write, and what to call the file."""
PASSED, FAILED, ERROR, SKIPPED = "passed", "failed", "error", "skipped"
KEPT_MESSAGES = 100


@dataclass(frozen=True)
class TestFile:
    """A file of tests, packages that it cannot do without, its time limit, and what of it ``--quick`` runs (-k)."""

    __test__ = False  # pytest takes this module as a plugin

    path: str
    needs: tuple[str, ...]
    seconds: float
    quick: str


TEST_FILES = (
    TestFile("tests/backends/cuda/test_gpu.py", ("hypothesis",), 170, "the_zoo and (tiny or empty)"),
    TestFile("tests/backends/cuda/test_gpu_files.py", ("pylibcudf",), 70, "test_encodings"),
    TestFile("tests/execution/cluster/test_gpu_cluster.py", ("distributed", "dask_cuda"), 50, "none_of_them"),
)
"""In this order; a test in tests/benchmarks says whether any is missing here. The quick ones are those that an emulated
GPU can run: a cluster takes NVIDIA's driver."""
NEEDED = ("pytest", "numpy", "pyarrow", "numba", "scipy", "xxhash")
"""By all of them: the doubles of tests/support, which their conftest imports, take the last one."""
NO_TESTS = 5
"""Exit status of pytest where none was chosen."""


def missing_of(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if find_spec(name) is None]


def why_not_run(file: TestFile) -> str:
    """What it needs and is not there, in words."""
    missing = missing_of(NEEDED + file.needs)
    return f"needs {', '.join('cuDF (pylibcudf)' if name == 'pylibcudf' else name for name in missing)}" * bool(missing)


def run_tests(sheet: Sheet, *, quick: bool) -> None:
    """Run what has no outcome yet, each file under its own time limit."""
    tests: dict[str, Any] = sheet.document.setdefault("tests", {"files": {}, "outcomes": {}})
    # Up front, so that a run which is cut says this too.
    for file in TEST_FILES:
        why = why_not_run(file)
        told = tests["files"].setdefault(file.path, {"state": "not run"})
        told["state"] = why or (told["state"] if told["state"] == "done" else "not run")
    tests |= counted(tests)
    sheet.save()
    for file in TEST_FILES:
        if tests["files"][file.path]["state"] != "not run":
            print(f"{file.path}: {tests['files'][file.path]['state']}", flush=True)
            continue
        where = {SHEET: os.fspath(sheet.path), FILE: file.path}
        ended = run_limited(
            command_of(file, quick=quick), file.seconds, tell=lambda line: print(line, flush=True), **where
        )
        written = Sheet.read(sheet.path)
        assert written is not None
        sheet.document = written.document
        tests = sheet.document["tests"]
        tests["files"][file.path] = {"seconds": ended.seconds, **state_of(ended.status, ended.why, ended.end)}
        tests |= counted(tests)
        sheet.save()


def state_of(status: int | None, why: str, end: str) -> dict[str, Any]:
    """Of a file: done, whether or not tests failed, or with what else pytest ended."""
    if status in (0, 1, NO_TESTS):
        return {"state": "done"}
    return {"state": "cut" if status is None else "crashed", "why": why, "end": end[-2000:]}


def unfinished(tests: Mapping[str, Any]) -> str:
    """Files that did not come to their end, or why none could be run, in words."""
    files = tests["files"]
    told = [f"{path}: {one['why']}" for path, one in files.items() if one["state"] in ("cut", "crashed")]
    if not told and all(one["state"] != "done" for one in files.values()):
        told = [f"{path}: {one['state']}" for path, one in files.items()]
    return "; ".join(told)


def command_of(file: TestFile, *, quick: bool) -> list[str]:
    # The options of pyproject.toml are for machines with the test extra; warnings of foreign libraries are no failures.
    options = ["-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider", "-p", "device_tests"]
    serial = ["-n", "0"] if find_spec("xdist") is not None else []
    chosen = ["-k", file.quick] if quick else []
    return [sys.executable, "-m", "pytest", "-q", *serial, *options, "-m", "gpu", "--require-gpu", *chosen, file.path]


def counted(tests: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of tests by outcome, and the messages of those that failed."""
    outcomes = [one["outcome"] for one in tests["outcomes"].values()]
    failed = {name: one["message"] for name, one in tests["outcomes"].items() if one["outcome"] in (FAILED, ERROR)}
    unfinished = [path for path, one in tests["files"].items() if one["state"] in ("cut", "crashed")]
    return {
        "tests": len(outcomes),
        "failures": outcomes.count(FAILED),
        "errors": outcomes.count(ERROR),
        "skipped": outcomes.count(SKIPPED),
        "failed": dict(list(failed.items())[:KEPT_MESSAGES]),
        "status": int(bool(failed or unfinished)),
    }


def failed_in(document: Mapping[str, Any] | None) -> list[str]:
    """Tests that failed, by name."""
    outcomes = (document or {}).get("tests", {}).get("outcomes", {})
    return [name for name, one in outcomes.items() if one["outcome"] in (FAILED, ERROR)]


# --- the plugin ------------------------------------------------------------------------------------------------------


def _sheet() -> Sheet:
    found = Sheet.read(Path(os.environ[SHEET]))
    assert found is not None
    return found


def _named(nodeid: str) -> str:
    return f"{Path(os.environ[FILE]).name}::{nodeid.partition('::')[2]}"


def _written(name: str, outcome: str, message: str = "") -> None:
    sheet = _sheet()
    tests = sheet.document["tests"]
    tests["outcomes"][name] = {"outcome": outcome} | ({"message": message} if message else {})
    tests["running"] = None
    sheet.add(tests=tests | counted(tests))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHEET in os.environ:
        tests = _sheet().document["tests"]
        items[:] = [one for one in items if _named(one.nodeid) not in tests["outcomes"]]
        items.sort(key=lambda one: _named(one.nodeid) == tests.get("running"))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file that cannot be imported has no tests."""
    if SHEET in os.environ and report.failed:
        _written(f"{_named(report.nodeid)}(import)", ERROR, plain(report.longreprtext.strip().rpartition("\n")[2]))


def pytest_runtest_logstart(nodeid: str) -> None:
    if SHEET in os.environ:
        sheet = _sheet()
        sheet.document["tests"]["running"] = _named(nodeid)
        sheet.save()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if SHEET not in os.environ:
        return
    name = _named(report.nodeid)
    if report.when == "call" and report.passed:
        _written(name, PASSED)
    elif report.skipped:
        _written(name, SKIPPED, plain(str(next(_reasons(report), ""))))
    elif report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash is not None else report.longreprtext
        _written(name, FAILED if report.when == "call" else ERROR, plain(message) or "no message")


def _reasons(report: pytest.TestReport) -> Iterator[str]:
    if isinstance(report.longrepr, tuple):
        yield report.longrepr[2]
