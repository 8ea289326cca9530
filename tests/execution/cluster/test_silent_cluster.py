"""Workers that say nothing, or are gone: named after a stated time, and the work goes on when they return."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from support.blocked import QUIET
from support.clusters import wait_until, worker_pids
from support.gpu_workers import processes

import gpudrift as gd
from gpudrift.execution.cluster import dask as module

PLAIN_WORKER = ["distributed.cli.dask_worker", "--no-nanny"]
NEVER_ENDS = """
import time
from gpudrift.execution.cluster import work
work.fit_and_count = lambda *given: time.sleep(600)
"""
"""For workers that are to be lost in the middle: a task that they will not end."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"x": [float(value) for value in range(1000)]}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@contextmanager
def told() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread; what goes wrong there is raised at the end."""
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    assert not wrong, wrong


def says(caught: list[warnings.WarningMessage], words: str) -> list[str]:
    return [str(one.message) for one in list(caught) if words in str(one.message)]


def in_the_middle(cluster: LocalCluster) -> None:
    """Wait until a worker is at the task that will not end."""

    def working() -> bool:
        with suppress(RuntimeError):  # what changes while it is looked at is looked at again
            states: list[Any] = list(cluster.scheduler.workers.values())
            return any("gpudrift-fit" in str(task.key) for state in states for task in list(state.processing))
        return False

    wait_until(working, "the work is in the middle", seconds=120)


@pytest.mark.slow
def test_a_frozen_worker_is_named_and_the_work_goes_on_when_it_does(monkeypatch, path):
    monkeypatch.setattr(module, "LOST_SECONDS", 3.0)
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        frozen, pid = min(client.run(os.getpid).items())
        os.kill(pid, signal.SIGSTOP)
        with told() as caught:

            def thaw() -> None:
                try:
                    wait_until(lambda: says(caught, frozen), "it is named", seconds=120)
                finally:
                    os.kill(pid, signal.SIGCONT)

            with meanwhile(thaw):
                found = gd.profile(path, client=client)
    assert found.digest == gd.profile(path).digest
    named = says(caught, frozen)
    assert len(named) == 1
    assert named[0].startswith(f"no word from worker {frozen} for 3 s")


@pytest.mark.slow
def test_a_cluster_without_workers_is_named_and_the_work_goes_on_when_one_joins(monkeypatch, path):
    monkeypatch.setattr(module, "LOST_SECONDS", 1.0)
    with LocalCluster(n_workers=0, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        address = cluster.scheduler_address
        with told() as caught:

            def join() -> None:
                wait_until(lambda: says(caught, "no result came"), "it is named", seconds=120)
                cluster.scale(1)

            with meanwhile(join):
                found = gd.profile(path, client=client)
    assert found.digest == gd.profile(path).digest
    assert says(caught, "has no workers") == [
        f"{address} has no workers yet: the work waits for them",
        f"{address} has no workers, no result came for 1 s, and the work waits: it goes on when a worker is started "
        f"there (dask worker {address})",
    ]


@pytest.mark.slow
def test_workers_that_are_all_lost_are_named_and_the_work_goes_on_when_another_joins(monkeypatch, path):
    monkeypatch.setattr(module, "LOST_SECONDS", 2.0)
    with LocalCluster(n_workers=0, **QUIET) as cluster, Client(cluster) as client, ExitStack() as first:
        lost = [first.enter_context(processes(cluster, PLAIN_WORKER))[0] for _ in range(2)]
        client.run(exec, NEVER_ENDS, {})
        with ExitStack() as others, told() as caught:

            def lose_all_and_join() -> None:
                in_the_middle(cluster)
                first.close()
                wait_until(lambda: says(caught, "has lost all"), "they are named", seconds=120)
                others.enter_context(processes(cluster, PLAIN_WORKER))

            with meanwhile(lose_all_and_join):
                found = gd.profile(path, client=client)
    assert found.digest == gd.profile(path).digest
    address = cluster.scheduler_address
    assert says(caught, "has lost all") == [
        f"{address} has lost all of its workers ({', '.join(sorted(lost))}), no result came for 2 s, and the work "
        f"waits: it goes on when a worker is started there (dask worker {address})"
    ]


@pytest.mark.slow
def test_workers_that_are_all_killed_and_started_again_by_their_nannies_go_on(path):
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        client.run(exec, NEVER_ENDS, {})
        before = set(client.nthreads())

        def kill_all() -> None:
            in_the_middle(cluster)
            for pid in worker_pids(client):
                os.kill(pid, signal.SIGKILL)

        with meanwhile(kill_all):
            found = gd.profile(path, client=client)
        assert not before & set(client.nthreads())
    assert found.digest == gd.profile(path).digest
