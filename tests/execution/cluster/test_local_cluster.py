"""Which cluster ``--scheduler local`` starts: plain worker processes, or dask-cuda's where its library and a GPU are.

What dask-cuda's own cluster does is in tests/test_cuda_cluster.py.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import types
from collections.abc import Collection

import distributed
import pytest
from support.command import fails

from gpudrift.execution.cluster import scheduler as dask_scheduler


class Recorded(distributed.LocalCluster):
    """Stands for dask-cuda's cluster, of which it is the base class; it keeps what it was asked."""

    asked: dict[str, object]

    def __init__(self, *, device_memory_limit, **options):
        type(self).asked = {"device_memory_limit": device_memory_limit, **options}
        for own in ("rmm_async", "rmm_allocator_external_lib_list"):
            options.pop(own, None)
        super().__init__(processes=False, **options)


@pytest.fixture(autouse=True)
def _all_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def dask_cuda(monkeypatch):
    """The library is installed, the machine has a GPU, and CuPy can use it."""
    module, utils = types.ModuleType("dask_cuda"), types.ModuleType("dask_cuda.utils")
    module.LocalCUDACluster = Recorded
    utils.get_n_gpus = lambda: 2
    module.__spec__ = types.SimpleNamespace(name="dask_cuda")
    monkeypatch.setitem(sys.modules, "dask_cuda", module)
    monkeypatch.setitem(sys.modules, "dask_cuda.utils", utils)
    monkeypatch.setattr(dask_scheduler, "GPU_DEVICE", "/dev/null")
    monkeypatch.setattr(dask_scheduler, "why_not_cuda", lambda: None)


@pytest.mark.parametrize("backend", ["auto", "cuda"])
def test_with_a_gpu_and_dask_cuda_it_is_theirs(dask_cuda, backend):
    with dask_scheduler.open_cluster("local", workers=1, backend=backend) as client:
        assert isinstance(client.cluster, Recorded)
        assert client.submit(int, "3").result() == 3
    assert Recorded.asked["n_workers"] == Recorded.asked["threads_per_worker"] == 1
    assert "processes" not in Recorded.asked  # dask-cuda starts one for each GPU and takes no such option


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_cpu_engines_have_plain_workers(dask_cuda, backend):
    assert_plain(backend)


def test_without_the_drivers_file_auto_is_plain_and_asks_nobody(dask_cuda, monkeypatch):
    monkeypatch.setattr(dask_scheduler, "GPU_DEVICE", "/nowhere")
    monkeypatch.setattr(dask_scheduler, "why_not_cuda", lambda: 1 / 0)
    assert_plain("auto")


def assert_plain(backend: str, hidden: Collection[str | None] = (None,)) -> None:
    with dask_scheduler.open_cluster("local", workers=1, threads=1, backend=backend) as client:
        assert type(client.cluster) is distributed.LocalCluster
        assert set(client.run(os.getenv, "CUDA_VISIBLE_DEVICES").values()) == set(hidden)


WITHOUT = "dask-cuda, which starts a worker for each GPU, is not installed: pip install 'gpudrift[cuda13]' or cuda12"


@pytest.fixture(params=["no dask-cuda", "no CuPy"])
def why(request, dask_cuda, monkeypatch) -> str:
    """What is missing beside a GPU."""
    if request.param == "no CuPy":
        monkeypatch.setattr(dask_scheduler, "why_not_cuda", lambda: "CuPy is not installed: …")
        return "CuPy is not installed: …"
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dask_cuda" else find(name))
    return WITHOUT


def test_a_gpu_that_is_not_used_is_mentioned_and_hidden(why):
    """Each of the plain workers would take the same one."""
    with pytest.warns(UserWarning, match=re.escape(f"the GPU of this machine is not used: {why}")):
        assert_plain("auto", hidden={""})


def test_one_that_is_asked_for_is_an_error(why, tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    options = ["--scheduler", "local", "--backend", "cuda"]
    assert fails("compare", tmp_path / "a.csv", tmp_path / "a.csv", *options) == f"backend 'cuda': {why}"
