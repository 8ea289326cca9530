"""Workers of a cluster that find the GPU which g++ made, and what is asked of them where they run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from distributed import LocalCluster

from gpudrift.backends.cuda.device import device
from support import fake_cupy
from support.clusters import wait_until


@contextlib.contextmanager
def processes(cluster: LocalCluster, command: list[str], workers: int = 1, **environment: str) -> Iterator[list[str]]:
    """A command that starts so many workers; their addresses. At the end it is killed, and they are gone."""
    before = set(cluster.scheduler.workers)
    running = subprocess.Popen(
        [sys.executable, "-m", *command, cluster.scheduler_address, "--nthreads=1", "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len(set(cluster.scheduler.workers) - before) == workers, "workers")
        yield sorted(set(cluster.scheduler.workers) - before)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait(timeout=20)
        wait_until(lambda: set(cluster.scheduler.workers) <= before, "its workers are gone")


GPU_WORKER = ["distributed.cli.dask_worker", "--preload=support.preload_gpu"]
with_gpu = partial(processes, command=[*GPU_WORKER, "--no-nanny"])


def fresh_gpu(budget: str | None = None) -> None:
    """Let a worker find its GPU anew, with the memory that it had in the beginning or is asked to use."""
    os.environ.pop("GPUDRIFT_GPU_MEMORY", None)
    if budget is not None:
        os.environ["GPUDRIFT_GPU_MEMORY"] = budget
    fake_cupy.forget()


def budget_of() -> int:
    """Of the GPU that a worker counts on."""
    return device().budget


def read_since() -> list:
    """What cuDF's double has read in a worker since it was asked last."""
    told = getattr(sys.modules.get("pylibcudf"), "told", [])
    found = [one for one in told if isinstance(one, tuple)]
    told.clear()
    return found
