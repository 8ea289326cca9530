"""RMM as far as gpudrift uses it: which resource gives the memory of each device."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace


class CudaMemoryResource:
    """Plain cudaMalloc: what RMM begins with."""


class CudaAsyncMemoryResource:
    """The driver's pool."""

    supported = True

    def __init__(
        self,
        initial_pool_size: int | str | None = None,
        release_threshold: int | None = None,
        enable_ipc: bool = False,
        enable_fabric: bool = False,
    ) -> None:
        if not self.supported:
            raise RuntimeError("RMM failure at: cuda_async.cpp:32: cudaMallocAsync not supported with this CUDA driver")
        self.release_threshold = release_threshold


class StatisticsResourceAdaptor:
    """Counts what another one gives."""

    def __init__(self, upstream_mr: object) -> None:
        self.upstream_mr = upstream_mr


def made(resource: object = None, *, pools: bool = True) -> ModuleType:
    """The module, on a driver with pools or without, where device 0 has a resource."""
    rmm = ModuleType("rmm")
    resources = {0: CudaMemoryResource() if resource is None else resource}
    pool = type("CudaAsyncMemoryResource", (CudaAsyncMemoryResource,), {"supported": pools})

    def get_per_device_resource(device: int) -> object:
        return resources[device]

    def set_per_device_resource(device: int, mr: object) -> None:
        resources[device] = mr

    rmm.mr = SimpleNamespace(
        CudaMemoryResource=CudaMemoryResource,
        CudaAsyncMemoryResource=pool,
        StatisticsResourceAdaptor=StatisticsResourceAdaptor,
        get_per_device_resource=get_per_device_resource,
        set_per_device_resource=set_per_device_resource,
    )
    return rmm
