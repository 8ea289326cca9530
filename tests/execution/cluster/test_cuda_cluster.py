"""Clusters of which some workers have a GPU, without any: dask-cuda's mocked workers, and the GPU that g++ made.

What is preloaded into a worker (preload_gpu.py) makes gpudrift find a GPU there, and count on it, by the kernels as
they are. test_gpu_cluster.py does the same with a real one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from distributed.protocol.pickle import dumps
from support import emulated_gpu
from support.blocked import BLOCKED, indented, on_workers
from support.clusters import assert_nothing_left, recorded, wait_until
from support.command import run
from support.gpu_workers import GPU_WORKER, budget_of, fresh_gpu, processes, read_since, with_gpu
from support.installed import installed

import gpudrift as gd
from gpudrift.counts.profiles import Profile
from gpudrift.execution import cuts as planning
from gpudrift.execution.cluster import dask as dask_cluster
from gpudrift.execution.cluster import scheduler as dask_scheduler
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.worker import RESOURCE, gpu_plugin
from gpudrift.execution.settings import Progress, Settings

TESTS = Path(__file__).resolve().parents[2]
QUIET: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
IN_GROUPS = {"by": "kind", "segments": 2}


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What workers inherit; and the logs as they were, which the command silences."""
    logger = logging.getLogger("distributed")
    level = logger.level
    with pytest.MonkeyPatch.context() as patched:
        library = emulated_gpu.shared(tmp_path_factory, emulated_gpu.FLUSH)  # as other tests have it
        patched.setenv("EMULATED_KERNELS", os.fspath(library))
        patched.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
        patched.setenv("DASK_CUDA_TEST_DISABLE_DEVICE_SPECIFIC", "1")
        yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def third() -> Iterator[contextlib.ExitStack]:
    """Ends the worker with a GPU, if there is one: it stays from one test to the next that wants it."""
    with contextlib.ExitStack() as ends:
        yield ends


@pytest.fixture
def plain(running: Client, third: contextlib.ExitStack) -> Iterator[Client]:
    """Two workers without a GPU."""
    third.close()
    yield running
    assert_nothing_left(running)


@pytest.fixture
def mixed(running: Client, third: contextlib.ExitStack) -> Iterator[tuple[Client, str]]:
    """The same two, and the address of a third worker, which has a GPU and is started again where it dies."""
    two = {nanny.worker_address for nanny in running.cluster.workers.values()}
    if set(running.cluster.scheduler.workers) == two:
        third.enter_context(processes(running.cluster, GPU_WORKER))
    [address] = set(running.cluster.scheduler.workers) - two
    running.run(fresh_gpu, workers=[address])
    yield running, address
    assert_nothing_left(running)


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and runs even of small tables."""
    for name in ("BYTES_PER_SLOT", "SMALLEST_BLOCK"):
        monkeypatch.setattr(planning, name, 1)
    monkeypatch.setattr(planning, "TASKS_PER_THREAD", 40)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    rows = 6_000
    return pa.table(
        {
            "real": rng.normal(size=rows),
            "float": pa.array(rng.gamma(2, size=rows).astype(np.float32), mask=rng.random(rows) < 0.1),
            "count": rng.integers(0, 50, rows),
            "when": rng.integers(0, 10**15, rows).astype("M8[us]"),
            "kind": rng.choice(["a", "b", "c"], rows),
            "other": rng.normal(size=rows),
        }
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    path = tmp_path_factory.mktemp("gpus") / "table.parquet"
    pq.write_table(table, path, row_group_size=300)
    return path


@pytest.fixture(scope="module")
def expected(table: pa.Table) -> Profile:
    return gd.profile(table, backend="numba")


# --- what is chosen --------------------------------------------------------------------------------------------------


def test_without_a_gpu_cuda_is_refused_with_a_worker_and_its_reason(plain, path):
    for data in (path, dd.from_pandas(pq.read_table(path).to_pandas(), npartitions=2)):
        with pytest.raises(ValueError, match=r"^backend 'cuda': none of 2 workers can use a GPU; worker ") as caught:
            gd.profile(data, client=plain, backend="cuda")
        assert min(plain.nthreads()) in str(caught.value)
        assert "pip install 'gpudrift[cuda13]'" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="backend 'hip': choose auto, cuda, numba or numpy"):
        gd.profile(path, client=plain, backend="hip")


def test_without_a_gpu_auto_says_why(plain, path, expected):
    found = gd.profile(path, client=plain)
    assert found.digest == expected.digest
    assert found.provenance["backend"] == "numba"
    assert found.provenance["backend_reason"].startswith(
        "auto: the compiled CPU engine; no worker can use a GPU (CuPy "
    )
    assert "gpus" not in found.provenance["cluster"]


# --- some workers have one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "asked"),
    [
        pytest.param("held", IN_GROUPS, id="held-groups"),
        pytest.param("sampled", {}, id="sampled-whole"),
        pytest.param("held", {}, id="held-whole", marks=pytest.mark.slow),
        pytest.param("sampled", IN_GROUPS, id="sampled-groups", marks=pytest.mark.slow),
    ],
)
def test_what_counts_runs_where_the_gpu_is(mixed, path, fine, fit, asked, monkeypatch):
    client, address = mixed
    expected = gd.profile(path, backend="numba", **asked)
    if fit == "sampled":
        monkeypatch.setattr(DaskCluster, "budget", 1)
    with recorded(client) as recorder:
        found = gd.profile(path, client=client, **asked)
        again = gd.profile(path, schema=expected, client=client, backend="cuda")
    for profile, why in ((found, "auto"), (again, "asked for")):
        assert profile.digest == expected.digest
        assert profile.provenance["backend"] == "cuda"
        assert profile.provenance["backend_reason"] == f"{why}: 1 of 3 workers has a GPU (Emulated GPU)"
        took = profile.provenance["cluster"]
        assert (took["workers"], took["threads"]) == (3, 1)
        assert took["gpus"] == {"Emulated GPU (compute capability 9.0, driver 13.0, CuPy 14.0.0, no cuDF)": 1}
    # Groups are put in order on a device batch by batch, so there a reference is never held.
    for stage in ("fit" if fit == "held" and not asked else "sample", "count"):
        assert recorder.places[stage] == {address}
    assert sum(map(len, recorder.spans("count").values())) > 10


@pytest.mark.slow
def test_workers_with_cudf_read_onto_their_gpu(plain, path, expected, monkeypatch):
    groups = gd.profile(path, backend="numba", **IN_GROUPS)
    with with_gpu(plain.cluster, EMULATED_CUDF="1"):
        for held, asked in ((True, {}), (True, {"schema": expected}), (False, {}), (False, IN_GROUPS)):
            if not held:
                monkeypatch.setattr(DaskCluster, "budget", 1)
            found = gd.profile(path, client=plain, **asked)
            assert found.digest == (groups if asked == IN_GROUPS else expected).digest
            (gpu,) = found.provenance["cluster"]["gpus"]
            assert gpu == "Emulated GPU (compute capability 9.0, driver 13.0, CuPy 14.0.0, cuDF)"
            assert sorted(map(bool, plain.run(read_since).values())) == [False, False, True]


def test_the_cpu_engine_counts_on_all_of_them(mixed, path, expected, fine):
    client, address = mixed
    with recorded(client) as recorder:
        found = gd.profile(path, schema=expected, client=client, backend="numba")
    assert found.digest == expected.digest
    assert recorder.places["count"] - {address}  # how many of them is Dask's choice
    assert not any(task.resource_restrictions for task in client.cluster.scheduler.tasks.values())


def test_partitions_of_a_dask_dataframe_are_counted_there_too(mixed, path, expected):
    client, address = mixed
    frame = dd.read_parquet(path, dtype_backend="pyarrow", split_row_groups=10)
    with recorded(client) as recorder, pytest.warns(UserWarning, match="results are"):
        found = gd.profile(frame, client=client)
    assert found.digest == expected.digest
    assert found.provenance["backend"] == "cuda"
    for stage in ("rows", "sample", "count"):
        assert recorder.places[stage] == {address}


def succeeds(*arguments: Any) -> str:
    outcome = run(*arguments)
    assert outcome.status == 0, outcome
    return outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("like", [True, False])
def test_the_only_one_is_killed_in_the_middle(mixed, path, expected, fine, like, monkeypatch):
    """Its nanny starts it again; meanwhile there is nobody who could do what is left."""
    client, address = mixed
    monkeypatch.setattr(DaskCluster, "budget", 1)
    pid, killed = client.run(os.getpid, workers=[address])[address], []

    def progress(now: Progress) -> None:
        if not killed and now.values > now.total / 3:
            os.kill(pid, signal.SIGKILL)
            killed.append(now.values)

    with recorded(client) as recorder:
        found = gd.profile(path, schema=expected if like else None, client=client, backend="cuda", progress=progress)
    assert found.digest == expected.digest
    assert killed
    assert len(recorder.places["count"]) == 2
    assert address not in client.nthreads()


@pytest.mark.slow
def test_one_that_is_gone_for_good_is_missed_and_one_that_comes_goes_on(plain, path, expected, fine, monkeypatch):
    monkeypatch.setattr(dask_cluster, "LOST_SECONDS", 3.0)  # a worker says every half second that it is there
    gone = contextlib.ExitStack()
    [address] = gone.enter_context(with_gpu(plain.cluster))
    coming = contextlib.ExitStack()

    def progress(now: Progress) -> None:
        if address in plain.nthreads() and now.values > now.total / 3:
            gone.close()

    def warned(message: str, *_: Any, **__: Any) -> None:
        told.append(message)
        coming.enter_context(with_gpu(plain.cluster))

    told: list[str] = []
    monkeypatch.setattr(dask_cluster, "warn", warned)
    with gone, coming:
        found = gd.profile(path, schema=expected, client=plain, progress=progress)
        assert_nothing_left(plain)
    assert found.digest == expected.digest
    where = plain.scheduler.address
    wanted = rf"no worker of {where} has a GPU, and [1-9] results wait for one: start .*dask cuda worker {where}"
    assert len(told) == 1
    assert re.match(wanted, told[0])


@pytest.mark.slow
def test_a_cluster_that_has_no_workers_yet_waits_for_one_with_a_gpu(path, expected):
    with LocalCluster(n_workers=0, **QUIET) as cluster, Client(cluster) as client, contextlib.ExitStack() as coming:

        def come() -> None:
            coming.enter_context(processes(cluster, command=["distributed.cli.dask_worker"]))
            coming.enter_context(with_gpu(cluster))

        starter = threading.Timer(0.5, come)
        starter.start()
        with recorded(client) as recorder, pytest.warns(UserWarning, match="has no workers yet: the work waits"):
            found = gd.profile(path, schema=expected, client=client, backend="cuda")
        starter.join()
        assert found.digest == expected.digest
        assert found.provenance["backend_reason"] == "asked for: there are no workers yet"
        [address] = recorder.places["count"]
        assert cluster.scheduler.workers[address].resources == {RESOURCE: 1}


def test_what_a_worker_is_given_needs_no_gpudrift(tmp_path):
    """One that joins later, without gpudrift, must be able to start: its own tasks then say what is wrong."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(names={"gpudrift"}), "utf-8")
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=dumps(gpu_plugin()),
        env=os.environ | {"PYTHONPATH": os.fspath(tmp_path)},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == RESOURCE


# --- how much fits, and what is said before --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_task_may_hold_a_quarter_of_the_smallest_gpu(plain):
    with (
        with_gpu(plain.cluster, EMULATED_MEMORY=str(40 << 20), EMULATED_NAME="one"),
        with_gpu(plain.cluster, EMULATED_MEMORY=str(64 << 20), EMULATED_NAME="two"),
        DaskCluster(Settings("cuda", client=plain)) as cluster,
    ):
        assert cluster.budget == (10 << 20) // 4
        assert (cluster.threads, cluster.workers) == (2, 2)
        with with_gpu(plain.cluster, EMULATED_MEMORY=str(64 << 20), EMULATED_NAME="two"):
            with DaskCluster(Settings("auto", client=plain)) as sharing:  # two processes on one GPU
                assert sharing.budget == (8 << 20) // 4
            with DaskCluster(Settings("numba", client=plain)) as other:
                assert other.threads == 5
                assert other.budget > 64 << 20


def test_a_budget_that_is_asked_for_counts(mixed):
    client, address = mixed
    client.run(fresh_gpu, "7MB", workers=[address])
    with DaskCluster(Settings("auto", client=client)) as cluster:
        assert cluster.budget == 7_000_000 // 4


def test_a_dry_run_counts_gpus(mixed, path):
    client, _ = mixed
    said = succeeds("compare", path, path, "--scheduler", client.scheduler.address, "--dry-run")
    assert f"where    cluster {client.scheduler.address}: 1 GPU (Emulated GPU)" in said
    assert "time     not known: nothing was measured on a GPU" in said
    said = succeeds("profile", path, "-o", path.parent / "p", "--scheduler", client.scheduler.address, "--dry-run",
                     "--backend", "numba")  # fmt: skip
    assert ": 3 x 1 threads" in said


# --- memory that runs out --------------------------------------------------------------------------------------------


NEEDS_LESS = """
from gpudrift.backends.cuda.device import device
if device().budget > 70 << 20:
    raise MemoryError("std::bad_alloc: out_of_memory")
"""


def test_steps_shrink_until_they_fit(mixed, path, expected, fine):
    client, address = mixed
    with on_workers(client, "execution.cluster.work.count_parts", indented(NEEDS_LESS)):
        found = gd.profile(path, schema=expected, client=client, backend="cuda")
    assert found.digest == expected.digest
    assert found.provenance["cluster"]["gpu_memory_shrunk"] == {address: 64 << 20}  # of 256


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("MemoryError('std::bad_alloc')", r"^the GPU of worker {} has no memory left to count 'real' .*table.parquet' "
                                          r"\([0-9,]+ rows\); steps .* GPUDRIFT_GPU_MEMORY .* smaller row groups$"),
        ("__import__('pyarrow').lib.ArrowMemoryError('malloc')", r"^worker {} has no memory left to count 'real' .*"
                                                                 r"table.parquet' .*; give workers more memory"),
    ],
)  # fmt: skip
def test_what_never_fits_is_named_with_what_to_change(mixed, path, expected, fine, error, words):
    client, address = mixed
    body = indented(f"raise {error}")
    with (
        on_workers(client, "execution.cluster.work.count_parts", body),
        pytest.raises(MemoryError, match=words.format(address)) as caught,
    ):
        gd.profile(path, schema=expected, columns=["real"], client=client, backend="cuda")
    assert "\n" not in str(caught.value)
    budget = client.run(budget_of, workers=[address])[address]
    assert (budget < 32 << 20) == ("GPU" in words.partition("{}")[0])  # of the host's memory half helps nobody


@pytest.mark.slow
def test_a_worker_with_a_gpu_that_dies_again_and_again_is_named(mixed, path, expected, fine, monkeypatch):
    client, _ = mixed
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    body = indented("os.kill(os.getpid(), signal.SIGKILL)")
    with (
        on_workers(client, "execution.cluster.work.count_parts", body),
        pytest.raises(
            MemoryError, match=r"1 worker died, .* to count 'real' .*table.parquet'.* give workers more memory"
        ),
    ):
        gd.profile(path, schema=expected, columns=["real"], client=client, backend="cuda")
    wait_until(lambda: len(client.nthreads()) == 3, "it was started again")


# --- dask-cuda -------------------------------------------------------------------------------------------------------


@pytest.fixture
def local_gpus(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """This machine seems to have two GPUs; the options that dask-cuda's cluster is started with."""
    dask_cuda = installed("dask_cuda")
    asked: list[dict[str, Any]] = []

    def make(**options: Any) -> Any:
        asked.append(options)
        return real(worker_class=utils_test.MockWorker, preload=["support.preload_gpu"], **options)

    from dask_cuda import utils_test

    real = dask_cuda.LocalCUDACluster
    monkeypatch.setattr(dask_cuda, "LocalCUDACluster", make)
    monkeypatch.setattr(dask_scheduler, "GPU_DEVICE", "/dev/null")
    monkeypatch.setattr(dask_scheduler, "why_not_cuda", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    return asked


@pytest.mark.slow
def test_a_local_cluster_has_a_worker_for_each_gpu(local_gpus, path, expected):
    with dask_scheduler.open_cluster("local", backend="auto") as client:
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        assert sorted(seen.values()) == ["0,1", "1,0"]
        assert list(client.nthreads().values()) == [1, 1]
        with recorded(client) as recorder:
            found = gd.profile(path, schema=expected, client=client)
        assert recorder.places["count"] <= set(client.nthreads())
    assert found.digest == expected.digest
    assert "2 of 2 workers have a GPU" in found.provenance["backend_reason"]
    [options] = local_gpus
    assert options["protocol"] == "tcp"
    assert options["device_memory_limit"] == 0
    assert "rmm_async" not in options  # RMM is not installed here


def test_the_asynchronous_allocator_is_used_where_rmm_is(monkeypatch):
    dask_cuda = installed("dask_cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json" if name == "rmm" else name))
    shape = dask_scheduler._gpu_shape(0, 0)
    assert shape["rmm_async"]
    assert shape["rmm_allocator_external_lib_list"] == ["cupy"]
    assert set(shape) <= set(inspect.signature(dask_cuda.LocalCUDACluster).parameters)


@pytest.mark.slow
def test_so_many_of_the_gpus(local_gpus, path, expected):
    with dask_scheduler.open_cluster("local", workers=1, backend="cuda") as client:
        assert len(client.nthreads()) == 1
        assert gd.profile(path, client=client).digest == expected.digest
    words = "^workers: 3 were asked for, and this machine has 2 GPUs, one for each worker; with the backend numba"
    with pytest.raises(ValueError, match=words), dask_scheduler.open_cluster("local", workers=3, backend="cuda"):
        pass


@pytest.mark.slow
def test_workers_that_dask_cuda_worker_starts(plain, path, expected, fine):
    installed("dask_cuda")
    command = [
        "dask",
        "cuda",
        "worker",
        "--worker-class=dask_cuda.utils_test.MockWorker",
        "--preload=support.preload_gpu",
    ]
    with (
        processes(plain.cluster, command, workers=2, CUDA_VISIBLE_DEVICES="0,1") as addresses,
        recorded(plain) as recorder,
    ):
        found = gd.profile(path, schema=expected, client=plain)
        assert_nothing_left(plain)
    assert found.digest == expected.digest
    assert found.provenance["backend_reason"] == "auto: 2 of 4 workers have a GPU (Emulated GPU)"
    assert set() < recorder.places["count"] <= set(addresses)
