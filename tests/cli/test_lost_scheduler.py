"""A scheduler that is lost while it works: one line that names it, and nothing that was not there before."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from distributed import Client
from support.clusters import wait_until
from support.command import FAILED

SCHEDULER = """
import asyncio, sys
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=int(sys.argv[1]), dashboard=False) as made:
        await made.finished()
asyncio.run(main())
"""


WORKER = """
import asyncio, sys, time
from distributed import Worker
from gpudrift.execution.cluster import work
work.fit_and_count = lambda *given: time.sleep(600)
async def main():
    async with Worker(sys.argv[1], nthreads=1, dashboard=False) as made:
        await made.finished()
asyncio.run(main())
"""
"""One that will not end what it counts."""


def reached(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "profile"])
def test_a_scheduler_that_is_killed_is_one_line(folder, tmp_path, command):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    data, out = folder / "a.parquet", tmp_path / "out"
    given = [data, folder / "b.parquet", "--json", out] if command == "compare" else [data, "-o", out]
    arguments = [sys.executable, "-m", "gpudrift", command, *map(str, given), "--scheduler", address]
    with subprocess.Popen([sys.executable, "-c", SCHEDULER, str(port)], stderr=subprocess.DEVNULL) as scheduler:
        deadline = time.monotonic() + 60
        while not reached(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr is not None
            waits = running.stderr.readline()  # the work has begun: there are no workers
            assert "has no workers yet" in waits
            time.sleep(1)
            scheduler.kill()
            said, told = running.communicate(timeout=120)
    assert running.returncode == FAILED
    assert said == ""
    assert told.startswith(
        f"gpudrift: error: scheduler '{address}' was lost in the middle of the work, and nothing was"
    )
    assert told.count("\n") == 1
    assert not out.exists()


@pytest.mark.slow
def test_a_scheduler_that_is_killed_while_a_worker_counts_is_one_line(folder, tmp_path):
    """No traceback, and no key of a task."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address, out = f"tcp://127.0.0.1:{port}", tmp_path / "out"
    command = [sys.executable, "-m", "gpudrift", "profile", str(folder / "a.parquet"), "-o", str(out)]
    with ExitStack() as stack:

        def started(*words: str) -> subprocess.Popen[bytes]:
            running = stack.enter_context(subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL))
            stack.callback(running.kill)
            return running

        scheduler = started("-c", SCHEDULER, str(port))
        wait_until(lambda: reached(port), "the scheduler answers")
        started("-c", WORKER, address)
        with Client(address, set_as_default=False) as watching:
            watching.wait_for_workers(1, timeout=60)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            running = stack.enter_context(subprocess.Popen([*command, "--scheduler", address], **pipes))
            stack.callback(running.kill)
            wait_until(
                lambda: any("gpudrift-fit" in str(key) for keys in watching.processing().values() for key in keys),
                "a worker counts",
            )
        scheduler.kill()
        said, told = running.communicate(timeout=120)
    assert running.returncode == FAILED
    assert said == ""
    assert told == (
        f"gpudrift: error: scheduler '{address}' was lost in the middle of the work, and nothing was written: see its "
        "log for why it ended, start it and its workers, and run again\n"
    )
    assert not out.exists()
