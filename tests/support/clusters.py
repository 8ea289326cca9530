"""Clusters of real processes for tests, and what they do: which tasks ran, what was read, what was left behind."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

WINDOWS = {"time": "when", "every": "1w", "by": ("country", "flag"), "segments": 5}
ASKED: dict[str, dict[str, Any]] = {"whole": {}, "windows": WINDOWS}
"""What is asked of the table of :mod:`support.layouts`."""
QUIETLY = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
"""What a cluster does for its dashboard is half of what it takes while nobody asks anything of it."""
KEY = re.compile(r"gpudrift-([a-z]+)-([0-9a-f]{12})-(\d+)-(\d+)-(\d+)")


@contextmanager
def local_cluster(workers: int, processes: bool = True, **configuration: Any) -> Iterator[Client]:
    """A scheduler in this process, and worker processes with one thread each, which nannies start again.

    Nothing uses its client that is not given it.
    """
    # By default a worker that is not back within 15 seconds is given up; a busy machine takes that to start one.
    configuration = QUIETLY | {"distributed.deploy.lost-worker-timeout": "1 hour"} | configuration
    levels = {name: logging.getLogger(name).level for name in ("distributed", "distributed.worker", "asyncio")}
    quiet = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    try:
        with (
            dask.config.set(configuration),
            LocalCluster(n_workers=workers, threads_per_worker=1, processes=processes, **quiet) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def assert_equal(found: Any, expected: Any) -> None:
    """Two profiles have the same digest, and the same of what the digest leaves out.

    Where several files hold values of other types, which of them is told of is no promise: after the first one the
    column is not read any more, and which is the first one depends on who reads what.
    """
    assert found.digest == expected.digest
    assert (found.skipped.keys(), found.findings) == (expected.skipped.keys(), expected.findings)
    for one, other in ((found.skipped, expected.skipped), (found.seen, expected.seen)):
        told = [name for name in one if found.findings.get(name) != "type changed"]
        assert {name: one[name] for name in told} == {name: other.get(name) for name in told}
        assert one.keys() == other.keys()


def wait_until(true: Callable[[], Any], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def tasks_of_ours(client: Client) -> list[str]:
    return client.run_on_scheduler(lambda dask_scheduler: [k for k in dask_scheduler.tasks if "gpudrift" in str(k)])


def assert_nothing_left(client: Client) -> None:
    """A moment after a run the scheduler knows none of its tasks."""
    wait_until(lambda: not tasks_of_ours(client), "the scheduler has dropped our tasks")


class Recorder(SchedulerPlugin):
    """Which tasks of ours the scheduler was given, how often each of them was finished, and when the last was."""

    name = "recorder"

    def __init__(self) -> None:
        self.given: set[str] = set()
        self.finished: Counter[str] = Counter()
        self.places: dict[str, set[str]] = {}
        """By stage, the workers that finished a task of it."""
        self.times: list[float] = []

    def update_graph(self, scheduler: Any, *, tasks: list[Any], **more: Any) -> None:
        # With those that it knew, where others need them. A new set, because others may be looking at the old one.
        self.given = self.given.union(key for key in tasks if KEY.fullmatch(str(key)))

    def transition(self, key: Any, start: str, finish: str, *arguments: Any, **more: Any) -> None:
        if finish == "memory" and start == "processing" and KEY.fullmatch(str(key)):
            self.finished[key] += 1
            self.places.setdefault(KEY.fullmatch(str(key))[1], set()).add(more["worker"])
            self.times.append(time.monotonic())

    def spans(self, stage: str) -> dict[int, list[tuple[int, int]]]:
        """For each block, the ranges of its tasks of a stage, in order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for key in self.given:
            own, _, block, start, stop = KEY.fullmatch(key).groups()
            if own == stage:
                found.setdefault(int(block), []).append((int(start), int(stop)))
        return {block: sorted(spans) for block, spans in found.items()}

    @property
    def repeated(self) -> list[str]:
        """Tasks that were finished more than once, because what they had made was lost."""
        return [key for key, times in self.finished.items() if times > 1]


@contextmanager
def recorded(client: Client) -> Iterator[Recorder]:
    """Watch the scheduler, which runs in this process."""
    recorder, scheduler = Recorder(), client.cluster.scheduler

    async def add() -> None:
        scheduler.add_plugin(recorder)

    async def remove() -> None:
        scheduler.remove_plugin(recorder.name)

    client.sync(add)
    try:
        yield recorder
    finally:
        client.sync(remove)


def assert_tiles(spans: list[tuple[int, int]], stop: int) -> None:
    """Ranges that follow each other from 0 to ``stop``: none twice, none missing."""
    assert spans[0][0] == 0
    assert spans[-1][1] == stop
    assert all(first[1] == second[0] for first, second in pairwise(spans))
    assert all(first < last for first, last in spans)


def worker_pids(client: Client) -> list[int]:
    """Of the workers that the scheduler knows."""
    known = client.cluster.scheduler.workers
    return [nanny.pid for nanny in client.cluster.workers.values() if nanny.pid and nanny.worker_address in known]


def kill_a_worker(client: Client, dead: list[int]) -> None:
    """Kill the worker that holds most results, as the kernel does without memory; ``dead`` are those that were."""
    wait_until(lambda: set(worker_pids(client)) - set(dead), "a worker that can be killed")
    known = client.cluster.scheduler.workers

    def held(nanny: Any) -> int:
        state = known.get(nanny.worker_address)
        return 0 if state is None else len(state.has_what)

    found = [(held(nanny), nanny.pid) for nanny in client.cluster.workers.values()]
    pid = max(one for one in found if one[1] and one[1] not in dead)[1]
    os.kill(pid, signal.SIGKILL)
    dead.append(pid)


def bytes_read(pids: list[int]) -> int:
    """Bytes that these processes have read from files (and pipes) so far; what comes from sockets is no part of it."""
    lines = [Path(f"/proc/{pid}/io").read_text().splitlines()[0] for pid in pids]
    return sum(int(line.removeprefix("rchar: ")) for line in lines)
