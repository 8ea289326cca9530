"""A cluster on one real GPU: dask-cuda's, killed and mixed with a worker that has none; equal to the CPU to the bit.

``pytest -m gpu --require-gpu`` runs these, and fails where there is no GPU; without the option they are skipped there.
tests/test_cuda_cluster.py does the same with emulated GPUs everywhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from support.clusters import assert_nothing_left, recorded, wait_until
from support.installed import installed

import gpudrift as gd
from gpudrift.backends import Gpu, probe
from gpudrift.counts.profiles import Profile
from gpudrift.execution import cuts as planning
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.scheduler import open_cluster
from gpudrift.execution.settings import Progress

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def local() -> Iterator[Client]:
    """dask-cuda's cluster on the first GPU, as ``--scheduler local --backend cuda --workers 1`` starts it."""
    installed("dask_cuda")
    with open_cluster("local", workers=1, backend="cuda") as client:
        yield client


@pytest.fixture
def client(local: Client) -> Iterator[Client]:
    yield local
    assert_nothing_left(local)


@pytest.fixture
def many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BYTES_PER_SLOT", "SMALLEST_BLOCK"):
        monkeypatch.setattr(planning, name, 1)
    monkeypatch.setattr(planning, "TASKS_PER_THREAD", 100)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng, rows = np.random.default_rng(0), 400_000
    return pa.table(
        {
            "real": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
            "float": rng.gamma(2, size=rows).astype(np.float32),
            "nan": np.where(rng.random(rows) < 0.2, np.nan, rng.standard_cauchy(rows)),
            "count": rng.integers(0, 5_000, rows).astype(np.int32),
            "wide": rng.integers(0, 2**63, rows, dtype=np.uint64),
            "when": rng.integers(0, 10**15, rows).astype("M8[us]"),
            "kind": rng.choice(["a", "b", "c"], rows),
        }
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "table.parquet"
    pq.write_table(table, path, row_group_size=4_000)
    return path


@pytest.fixture(scope="module")
def expected(table: pa.Table) -> Profile:
    return gd.profile(table, backend="numba")


def test_dask_cudas_cluster_has_one_worker_and_one_thread(client):
    assert type(client.cluster).__name__ == "LocalCUDACluster"
    assert list(client.nthreads().values()) == [1]
    [found] = client.run(probe).values()
    assert isinstance(found, Gpu)
    assert found.why_not is None
    assert found.budget == pytest.approx(found.free / 4, rel=0.01)
    assert found.place


def test_rmm_gives_the_memory_where_it_is_installed(client):
    installed("rmm")
    [(kind, allocator)] = client.run(allocators).values()
    assert kind == "CudaAsyncMemoryResource"
    assert allocator == "rmm_cupy_allocator"


def allocators() -> tuple[str, str]:
    import cupy
    import rmm

    return type(rmm.mr.get_current_device_resource()).__name__, cupy.cuda.get_allocator().__name__


@pytest.mark.parametrize("like", [True, False], ids=["like", "fit"])
@pytest.mark.parametrize("budget", [None, 1], ids=["held", "sampled"])
@pytest.mark.parametrize("backend", ["auto", "cuda"])
def test_equal_to_the_cpu_to_the_bit(client, path, expected, like, budget, backend, monkeypatch, many_tasks):
    if budget is not None:
        monkeypatch.setattr(DaskCluster, "budget", budget)
    found = gd.profile(path, schema=expected if like else None, client=client, backend=backend)
    assert found.digest == expected.digest
    assert found.provenance["backend"] == "cuda"
    assert "1 of 1 workers has a GPU" in found.provenance["backend_reason"]


def test_equal_after_its_worker_was_killed_in_the_middle(client, path, expected, many_tasks):
    [(address, pid)] = client.run(os.getpid).items()
    killed: list[int] = []

    def progress(now: Progress) -> None:
        if not killed and now.values > now.total / 3:
            os.kill(pid, signal.SIGKILL)
            killed.append(now.values)

    with recorded(client) as recorder:
        found = gd.profile(path, schema=expected, client=client, backend="cuda", progress=progress)
    assert killed
    assert address not in client.nthreads()
    assert len(recorder.places["count"]) == 2
    assert found.digest == expected.digest


def test_beside_a_worker_without_a_gpu_only_the_other_counts(client, path, expected, many_tasks):
    [address] = client.nthreads()
    command = [sys.executable, "-m", "distributed.cli.dask_worker", client.cluster.scheduler_address, "--nthreads=1"]
    plain = subprocess.Popen(
        [*command, "--no-dashboard", "--no-nanny"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(gd.__file__).parent.parent)},
    )
    try:
        wait_until(lambda: len(client.nthreads()) == 2, "the other worker")
        with recorded(client) as recorder:
            found = gd.profile(path, schema=expected, client=client)
        assert found.digest == expected.digest
        assert "1 of 2 workers has a GPU" in found.provenance["backend_reason"]
        assert recorder.places["count"] == {address}
    finally:
        plain.kill()
        plain.wait(timeout=20)
        wait_until(lambda: len(client.nthreads()) == 1, "it is gone")


def test_a_budget_that_is_halved_still_counts(client, path, expected, many_tasks):
    before, after = client.run(halved)[next(iter(client.nthreads()))]
    assert after == before // 2
    assert gd.profile(path, schema=expected, client=client).digest == expected.digest


def halved() -> tuple[int, int]:
    from gpudrift.backends.cuda import device as cuda

    return cuda.device().budget, cuda.device().shrink()
