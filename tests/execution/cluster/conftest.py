"""Clusters that the tests of this folder share, and cuts that make many tasks of small tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from distributed import Client
from support.clusters import assert_nothing_left, local_cluster

from gpudrift.execution import cuts
from gpudrift.execution.cluster.dask import DaskCluster

# Rebalancing moves nothing while less than 30 % of a worker's memory is in use; here it is to move whatever it finds.
EAGER = {
    "distributed.worker.memory.rebalance.measure": "managed",
    "distributed.worker.memory.rebalance.sender-min": 0.0,
    "distributed.worker.memory.rebalance.recipient-max": 1.0,
    "distributed.worker.memory.rebalance.sender-recipient-gap": 0.0,
}


@pytest.fixture(scope="package")
def running() -> Iterator[Client]:
    with local_cluster(2, **EAGER) as client:
        yield client


@pytest.fixture
def client(running: Client) -> Iterator[Client]:
    """The cluster, on which a test leaves nothing behind."""
    yield running
    assert_nothing_left(running)


@pytest.fixture(scope="package")
def mortal() -> Iterator[Client]:
    """Four workers.

    By default a task is given up when four workers died that were to run it. Here five are killed within seconds, and
    the same task may wait at each of them; that it is then an error which says so is tested elsewhere.
    """
    with local_cluster(4, **{"distributed.scheduler.allowed-failures": 20}) as client:
        yield client


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and many runs, even for small tables: cutting is done here, in the client."""
    monkeypatch.setattr(cuts, "BYTES_PER_SLOT", 0)
    monkeypatch.setattr(cuts, "SMALLEST_BLOCK", 1)
    monkeypatch.setattr(cuts, "BLOCK_SLOTS", 9_000)
    monkeypatch.setattr(cuts, "TASKS_PER_THREAD", 16)


@pytest.fixture
def never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """No column fits into the memory of a worker: the reference is read for its sample, then counted."""
    monkeypatch.setattr(DaskCluster, "budget", 1)
