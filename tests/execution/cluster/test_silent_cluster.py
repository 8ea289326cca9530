"""Workers that say nothing: named after a stated time, and the work goes on when they do."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import pytest
from support.blocked import QUIET

import gpudrift as gd
from gpudrift.execution.cluster import dask as module


@pytest.mark.slow
def test_a_frozen_worker_is_named_and_the_work_goes_on_when_it_does(monkeypatch, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from distributed import Client, LocalCluster

    monkeypatch.setattr(module, "LOST_SECONDS", 3.0)
    table = {"x": [float(value) for value in range(1000)]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster, Client(cluster) as client:
        pids = client.run(os.getpid)
        frozen, pid = min(pids.items())
        os.kill(pid, signal.SIGSTOP)
        again = threading.Timer(12, os.kill, (pid, signal.SIGCONT))
        again.start()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = gd.profile(tmp_path / "a.parquet", client=client)
        again.join()
    assert found.digest == gd.profile(tmp_path / "a.parquet").digest
    named = [str(one.message) for one in told if frozen in str(one.message)]
    assert len(named) == 1
    assert named[0].startswith(f"no word from worker {frozen} for 3 s")
