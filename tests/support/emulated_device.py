"""Processes that find the GPU which g++ made where they look for CuPy and cuDF: what benchmarks/device.py starts.

The doubles of support/fake_cupy.py and support/fake_pylibcudf.py stand in a folder of PYTHONPATH under the names of the
libraries, so that nothing in these processes knows of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support.scripts import BENCHMARKS, ROOT

CUPY = """
import os, signal, sys, time
from pathlib import Path
from support import fake_cupy

sys.modules["cupy"] = made = fake_cupy.made(Path(os.environ["EMULATED_KERNELS"]))
trouble, part, after = (os.environ.get("EMULATED_TROUBLE", "") + "::").split(":")[:3]
launches = [0]
launch = fake_cupy.Function.__call__

def troubled(self, *arguments, **options):
    launches[0] += 1
    if launches[0] > int(after):
        print("a launch in trouble", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV) if trouble == "crash" else time.sleep(600)
    launch(self, *arguments, **options)

if trouble and part in sys.argv:
    fake_cupy.Function.__call__ = troubled
"""
"""EMULATED_TROUBLE is crash or hang, a part and a number: after so many launches a process of that part does so."""
CUDF = """
import sys
from support import fake_pylibcudf

sys.modules["pylibcudf"] = fake_pylibcudf.made()
"""


def environment(folder: Path, library: Path, *, cudf: bool = True, trouble: str = "") -> dict[str, str]:
    """Of processes that shall find them."""
    site = folder / f"site-{cudf}"
    site.mkdir(exist_ok=True)
    (site / "cupy.py").write_text(CUPY)
    if cudf:
        (site / "pylibcudf.py").write_text(CUDF)
    more = {"EMULATED_TROUBLE": trouble} if trouble else {}
    return os.environ | {
        "EMULATED_KERNELS": os.fspath(library),
        "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "tests")]),
        "DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC": "1",
        **more,
    }


def command(folder: Path, *arguments: object) -> list[str]:
    """device.py, as quick as it can be."""
    script = [sys.executable, str(BENCHMARKS / "device.py"), "--quick", "--repeat", "1", "--folder", str(folder)]
    return [*script, *map(str, arguments)]


def run(command: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output."""
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, cwd="/"
    )
    return done.returncode, done.stdout + done.stderr


def killed(command: Sequence[str], environment: dict[str, str], when: Callable[[], bool]) -> None:
    """Run a command and kill its group, as ``kill -9`` does, once that is so; all it started must end with it."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    running = subprocess.Popen(
        command,
        env=environment | {"EMULATED_MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    try:
        wait(when, 120, lambda: running.poll() is None)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    wait(lambda: not marked(mark), 20)


def wait(until: Callable[[], bool], seconds: float, as_long_as: Callable[[], bool] = lambda: True) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert as_long_as(), "it ended before it could be killed"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def marked(mark: str) -> list[int]:
    """Processes that were started with a mark in their environment, or by one that was."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
