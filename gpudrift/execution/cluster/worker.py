"""What runs on a worker of a Dask cluster: the tasks themselves, and the offer of its GPU when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from socket import gethostname
from typing import Any

import pyarrow as pa

from gpudrift.backends import shrink_cuda
from gpudrift.counts.packets import Packet
from gpudrift.errors import SourceChangedError
from gpudrift.execution.cluster.graph import TaskName
from gpudrift.version import __version__

__all__ = ["RESOURCE", "OutOfMemory", "Work", "answer", "gpu_plugin", "version_trouble"]

RESOURCE = "gpudrift-gpu"
"""Of Dask's resources: workers that can use a GPU have one, and a task that uses it takes it."""


class OutOfMemory(MemoryError):
    """A task had no memory, of the host or of the GPU; which one its name says."""

    def __init__(self, task: TaskName, worker: str, on_gpu: bool) -> None:
        super().__init__(f"no memory for {task} on {worker}")
        self.task, self.worker, self.on_gpu = task, worker, on_gpu

    def __reduce__(self) -> tuple[type[OutOfMemory], tuple[TaskName, str, bool]]:
        return type(self), (self.task, self.worker, self.on_gpu)


class Work:
    """What a task runs: a function, with the version checked before and progress told afterwards.

    One object stands behind thousands of tasks, which so carry little more than their task: with each argument in
    each task, 50,000 of them took 9 s to build and 4 without.

    Parameters
    ----------
    topic : str
        Where progress is told.
    function : callable
    constants : tuple
        Last arguments of the function, the same for all tasks.
    spanned : bool
        Whether the function takes the span of the task, after the task's own arguments.
    on_gpu : bool
        Whether it counts on a GPU. Where that has no memory left, it is tried again in smaller steps.
    """

    __name__ = "gpudrift"

    def __init__(
        self,
        topic: str,
        function: Callable[..., Any],
        constants: tuple[Any, ...] = (),
        *,
        spanned: bool = False,
        on_gpu: bool = False,
    ):
        self.topic, self.version = topic, __version__
        self.function, self.constants, self.spanned, self.on_gpu = function, constants, spanned, on_gpu

    def __repr__(self) -> str:
        return f"<gpudrift {getattr(self.function, '__name__', 'work')}>"

    def __call__(self, task: str, *arguments: Any) -> Any:
        worker = _worker()
        here = "this process" if worker is None else worker.address
        if self.version != __version__:
            raise ValueError(version_trouble(here, "gpudrift", __version__, self.version))
        at = TaskName.of(task)
        span = ((at.start, at.stop),) if self.spanned else ()
        try:
            result = self._result((*arguments, *span, *self.constants), worker)
        except MemoryError as error:
            raise OutOfMemory(at, here, self.on_gpu and not isinstance(error, pa.ArrowException)) from None
        except SourceChangedError as error:
            if worker is None:
                raise
            raise SourceChangedError(f"{error} (on worker {here}, host {gethostname()})") from None
        except FileNotFoundError as error:
            if at.stage not in ("find", "footers", "open") or worker is None:
                raise
            raise FileNotFoundError(f"{error} on worker {here}; workers read the files themselves") from None
        packet = result[1] if isinstance(result, tuple) and len(result) > 1 else result
        if worker is not None and isinstance(packet, Packet):
            worker.log_event(self.topic, (task, at.block, packet.rows, packet.read))
        return result

    def _result(self, arguments: tuple[Any, ...], worker: Any) -> Any:
        """What the function returns; where the GPU has no memory for its steps, with half of it, and so on.

        Nothing of a try that failed is left: counters are of one call.
        """
        while True:
            try:
                return self.function(*arguments)
            except MemoryError as error:
                # Those of CuPy and RMM are of the device, Arrow's are of the host, where smaller steps help nobody.
                budget = shrink_cuda() if self.on_gpu and not isinstance(error, pa.ArrowException) else 0
                if not budget:
                    raise
                if worker is not None:
                    worker.log_event(self.topic, {"worker": worker.address, "gpu_memory": budget})


_ASKED: dict[tuple[str, str], asyncio.Future[Any]] = {}
"""Questions that are not answered yet, by their key and the worker: several may share a process."""


async def answer(
    key: str, seconds: float, function: Callable[..., Any], arguments: tuple[Any, ...], dask_worker: Any = None
) -> tuple[Any] | None:
    """What a function returns here, beside the tasks; None if that takes longer: then to be asked again, by its key."""
    name = key, dask_worker.address
    if name not in _ASKED:
        _ASKED[name] = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    done, _ = await asyncio.wait({_ASKED[name]}, timeout=seconds)
    return (_ASKED.pop(name).result(),) if done else None


def _worker() -> Any:
    """The worker that runs this task; None for Dask's scheduler of threads, which has none."""
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def version_trouble(who: str, package: str, theirs: str | None, ours: str) -> str:
    """In words that one process of a cluster has another version of a package than this one, or none."""
    has = "has none" if theirs is None else f"has {theirs}"
    who = who if who.startswith("the ") else f"worker {who}"
    return f"{package} {ours} is here, {who} {has}: install the same version on the scheduler and every worker"


@cache
def gpu_plugin() -> Any:
    """What a worker does when it starts, for as long as the scheduler lives: it offers its GPU, if it has one.

    A class within a function is sent whole. Of one that is sent by name, a worker without gpudrift that joins the
    cluster later could not even start.
    """
    from distributed import WorkerPlugin

    class OffersGpu(WorkerPlugin):  # type: ignore[misc] # Dask's types are not followed
        name, idempotent = RESOURCE, True

        async def setup(self, worker: Any) -> None:
            import asyncio  # a class that is sent whole brings its imports along

            from distributed import Status

            from gpudrift.backends import probe

            if (await asyncio.to_thread(probe)).why_not is not None:
                return
            await worker.set_resources(**{RESOURCE: 1})
            # The scheduler looks at tasks that no worker could run when a worker comes or goes on after a pause, but
            # not when one offers something new: with the only GPU of a cluster killed and started again they waited
            # forever (distributed 2026.7.1 and 2026.8.0).
            if worker.status == Status.running:
                worker.status = Status.paused
                worker.status = Status.running

    return OffersGpu()
