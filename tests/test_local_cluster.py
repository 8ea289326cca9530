"""Which cluster ``--scheduler local`` starts: worker processes, or dask-cuda's where its library and a GPU are."""

from __future__ import annotations

import sys
import types

import distributed
import pytest

from gpudrift import engine


class Recorded(distributed.LocalCluster):
    """Stands for dask-cuda's cluster, of which it is the base class; it keeps what it was asked."""

    asked: dict[str, object]

    def __init__(self, **options):
        type(self).asked = dict(options)
        super().__init__(processes=False, **options)


@pytest.fixture
def dask_cuda(monkeypatch):
    module = types.ModuleType("dask_cuda")
    module.LocalCUDACluster = Recorded
    module.__spec__ = types.SimpleNamespace(name="dask_cuda")
    monkeypatch.setitem(sys.modules, "dask_cuda", module)


def test_with_a_gpu_and_dask_cuda_it_is_theirs(dask_cuda, monkeypatch):
    monkeypatch.setattr(engine, "GPU_DEVICE", "/dev/null")
    with engine.open_cluster("local", workers=1, threads=1) as client:
        assert isinstance(client.cluster, Recorded)
        assert client.submit(int, "3").result() == 3
    assert Recorded.asked["n_workers"] == 1
    assert "processes" not in Recorded.asked  # dask-cuda starts one for each GPU and takes no such option


@pytest.mark.parametrize("device", ["/dev/null", "/nowhere"])
def test_without_one_of_the_two_it_is_plain(dask_cuda, monkeypatch, device):
    monkeypatch.setattr(engine, "GPU_DEVICE", device)
    if device == "/dev/null":
        monkeypatch.delitem(sys.modules, "dask_cuda")
    with engine.open_cluster("local", workers=1, threads=1) as client:
        assert type(client.cluster) is distributed.LocalCluster
        assert client.nthreads().values()
