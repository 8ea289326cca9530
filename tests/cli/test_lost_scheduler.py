"""A scheduler that is lost while it works: one line that names it, and nothing that was not there before."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest
from support.command import FAILED

SCHEDULER = """
import asyncio, sys
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=int(sys.argv[1]), dashboard=False) as made:
        await made.finished()
asyncio.run(main())
"""


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
