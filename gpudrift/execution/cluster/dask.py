"""A piece of work on a Dask cluster: tasks made, submitted and followed, their errors told in words of the data.

What a task does is in :mod:`gpudrift.execution.cluster.graph`; how a worker runs it, in
:mod:`gpudrift.execution.cluster.worker`. The workers must have the same gpudrift, and together they decide what counts.
Dask is imported only when there is a cluster to talk to.
"""

from __future__ import annotations

import re
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from gpudrift.backends import Gpu, choose_backend, choose_for_workers, probe
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import Packet
from gpudrift.execution.cluster.clients import readers
from gpudrift.execution.cluster.graph import Tally, TaskName, schema_bytes
from gpudrift.execution.cluster.worker import RESOURCE, OutOfMemory, Work, answer, gpu_plugin, version_trouble
from gpudrift.execution.settings import Settings
from gpudrift.hiding import hidden, shown_address
from gpudrift.logs import warn
from gpudrift.version import __version__

__all__ = ["DaskCluster"]

RETRIES = 3
"""Of a task that fails: a rebalance moves results away from tasks that are about to use them, which fail with it."""
GUESSED_THREADS = 8
"""Of a cluster that has no workers yet."""
ON_GPU = frozenset({"sample", "rows", "fit", "count"})
"""Stages that read or count; they run where a GPU is, when one is to count. ``rows`` asks partitions of cuDF."""
LOST_SECONDS = 30.0
"""Without any news, until those are named that are waited for: silent workers, none at all, none with a GPU."""


class DaskCluster:
    """Tasks of one table on the workers of a cluster: named, submitted, followed, and taken back if anything fails."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.client = settings, settings.client
        self.name = uuid.uuid4().hex[:12]
        """Of the work at hand, for keys; see :meth:`begin`."""
        self.topic = self.name
        self.futures: list[Any] = []
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.names: Callable[[TaskName], str] = str
        self.progress: Tally | None = None
        self.submitted = 0
        self.read, self.sent = 0, 0
        self.why = "asked for"
        """Why this backend."""
        self.said: set[str] = set()
        self.known: set[str] = set()
        """The workers that were there when somebody last looked."""
        self.probed: dict[str, Gpu] = {}
        """What each worker said of its GPU, if that was asked."""
        self.shrunk: dict[str, int] = {}
        """Bytes of GPU memory that workers go on with which had too little."""

    def __enter__(self) -> DaskCluster:
        if self.client is None:
            self.choose()
            return self
        self.asked(lambda: _check_versions(self.client))
        self.choose()
        if self.settings.backend == "cuda":
            self.client.register_plugin(gpu_plugin())
        self.known = set(self.client.nthreads())
        if not self.known:
            warn(f"{hidden(self.client.scheduler.address)} has no workers yet: the work waits for them")
        self.client.subscribe_topic(self.topic, lambda event: self.queue.put(event[1]))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: Any) -> None:
        if self.client is None:
            return
        with suppress(Exception):
            self.client.unsubscribe_topic(self.topic)
        # What nobody wants any more the scheduler drops, running or not. Not client.cancel: where a cancelled task has
        # others that depend on it, an assertion in the scheduler ends the whole client (distributed 2026.8).
        for future in reversed(self.futures):
            with suppress(Exception):
                future.release()
        if isinstance(error, Exception):
            said = self._said(error)
            if said is not None:
                raise said from error

    def begin(self) -> None:
        """Begin another piece of work on what was opened before: its tasks have other keys, its own progress."""
        self.name = uuid.uuid4().hex[:12]
        self.progress = None
        self.read, self.sent = 0, 0

    def choose(self) -> None:
        """Decide what counts, of what the workers have."""
        asked = self.settings.backend
        if self.client is None:
            chosen, self.why = choose_backend(asked)
        else:
            if asked in ("auto", "cuda"):
                found = self.asked(lambda: self.client.run(probe, on_error="return"))
                self.probed = {a: one if isinstance(one, Gpu) else Gpu(repr(one)) for a, one in found.items()}
            chosen, self.why = choose_for_workers(asked, self.probed)
        self.settings = replace(self.settings, backend=chosen)

    def signed(self, profile: GroupedProfile) -> GroupedProfile:
        """The profile, with what counted it."""
        return profile.with_provenance(backend=self.settings.backend, backend_reason=self.why)

    @property
    def gpus(self) -> dict[str, Gpu]:
        """Those that will count, by worker."""
        if self.settings.backend != "cuda":
            return {}
        return {address: one for address, one in self.probed.items() if one.why_not is None}

    @property
    def workers(self) -> int:
        """Workers that count, one at least."""
        return max(len(self.gpus) or len(self.client.nthreads()), 1)

    @property
    def threads(self) -> int:
        if self.client is None:
            return self.settings.workers
        if self.gpus:  # a GPU does one task at a time
            return len(self.gpus)
        return int(sum(self.client.nthreads().values())) or GUESSED_THREADS

    @property
    def budget(self) -> int:
        """Bytes that a task may hold: a quarter of what a thread of the smallest worker has, at most.

        On a GPU it is a quarter of the budget, of the smallest and by each of those that share it.
        """
        workers, gpus = self._workers(), self.gpus
        if gpus:
            sharing = Counter(one.place for one in gpus.values())
            shares = [one.budget // 4 // sharing[one.place] for one in gpus.values()]
            limits = [workers[address]["memory_limit"] for address in gpus if address in workers]
            return int(min(shares + [limit // 4 for limit in limits if limit]))
        shares = [
            one["memory_limit"] // max(one["nthreads"], 1) // 4 for one in workers.values() if one["memory_limit"]
        ]
        return int(min([self.settings.budget, *shares]))

    def _workers(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"] if self.client else {}
        return found

    def key(self, task: TaskName) -> str:
        """The name of a task for Dask, the stage first.

        Dask takes tasks that agree up to a hexadecimal word for one group, learns how long those of a group take, and
        spreads a large group over all workers. With the name of the run first all stages were one group, and half of
        the workers began by waiting.
        """
        return f"gpudrift-{task.stage}-{self.name}-{task.block}-{task.start}-{task.stop}"

    def submit(self, task: TaskName, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of its own, whose result stays on its worker; with small arguments only."""
        if self.client is None:
            return self.task(task, function, *arguments)
        self.submitted += 1
        work = Work(self.topic, function, on_gpu=self._on_gpu(task))
        with self._annotated(work):
            future = self.client.submit(work, str(task), *arguments, key=self.key(task), pure=False, retries=RETRIES)
        self.futures.append(future)
        return future

    def task(self, task: TaskName, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of a graph that is not submitted yet."""
        from dask import delayed

        self.submitted += 1
        work = Work(self.topic, function, on_gpu=self._on_gpu(task))
        call = delayed(work, pure=False, traverse=False)
        with self._annotated(work):
            return call(str(task), *arguments, dask_key_name=self.key(task))

    def many(
        self,
        tasks: Sequence[TaskName],
        function: Callable[..., Any],
        inputs: Sequence[Sequence[Any]],
        *constants: Any,
    ) -> list[Any]:
        """Tasks of a graph, each called with its inputs, the span of its name, and the constants."""
        from dask import delayed

        self.submitted += len(tasks)
        on_gpu = any(map(self._on_gpu, tasks))
        work = Work(self.topic, function, constants, spanned=True, on_gpu=on_gpu)
        call = delayed(work, pure=False, traverse=False)
        with self._annotated(work):
            return [
                call(str(task), *own, dask_key_name=self.key(task)) for task, own in zip(tasks, inputs, strict=True)
            ]

    def _on_gpu(self, task: TaskName) -> bool:
        return self.settings.backend == "cuda" and task.stage in ON_GPU

    def _annotated(self, work: Work) -> AbstractContextManager[Any]:
        """Where tasks are made that only a worker with a GPU may run.

        By resource and not by address: a worker that was started again has another address, and the same GPU.
        """
        if not work.on_gpu or self.client is None:
            return nullcontext()
        from dask import annotate

        annotated: AbstractContextManager[Any] = annotate(resources={RESOURCE: 1})
        return annotated

    def start(self, roots: Sequence[Any]) -> list[Any]:
        """Submit a graph; its roots as futures, which :meth:`results` waits for."""
        if self.client is None:
            import dask

            return list(dask.compute(*roots, scheduler="threads", num_workers=self.settings.workers))
        futures = self.client.compute(list(roots), optimize_graph=False, retries=RETRIES)
        self.futures += futures
        return list(futures)

    def results(self, futures: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Results as they come in, with the number of each; meanwhile progress is told."""
        if self.client is None:
            for at, result in enumerate(futures):
                self._weigh(result)
                yield at, result
            return
        tasks = {future.key: at for at, future in enumerate(futures)}
        for future in futures:
            future.add_done_callback(self.queue.put)
        news = time.monotonic()
        while tasks:
            try:
                item = self.queue.get(timeout=1.0)
            except Empty:
                if time.monotonic() - news > LOST_SECONDS:
                    self._look_around(len(tasks))
                    news = time.monotonic()
                continue
            news = time.monotonic()
            if isinstance(item, tuple | dict):
                self._tell(item)
            elif item.key in tasks:
                result = item.result()
                self._weigh(result)
                yield tasks.pop(item.key), result
                self._forget(item)

    def asked(self, question: Callable[[], Any]) -> Any:
        """The answer to what every worker is asked, who answers in their own time; who does not is named meanwhile.

        Raises
        ------
        Exception
            What the question raises.
        """
        answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put((question(), None))
            except BaseException as error:
                answers.put((None, error))

        threading.Thread(target=ask, daemon=True, name="gpudrift-asking").start()
        while True:
            try:
                answer, error = answers.get(timeout=LOST_SECONDS)
            except Empty:
                self._look_around(0)
                continue
            if error is not None:
                raise error
            return answer

    def waited(self, future: Any) -> Any:
        """One result, which stays on its worker; who keeps it waiting is named."""
        return self.asked(future.result)

    @property
    def patience(self) -> float:
        """Seconds, after which those are named that keep others waiting."""
        return LOST_SECONDS

    def everyone(
        self, function: Callable[..., Any], *arguments: Any, workers: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """What a function returns on each worker that may be given tasks, or on some; who is lost answers nothing.

        It runs beside the tasks: a worker may be busy for hours with those of others.
        """
        from dask import get_annotations

        key, annotations, answers = uuid.uuid4().hex, get_annotations(), dict[str, Any]()

        def ask(whom: Sequence[str] | None) -> dict[str, Any]:
            while whom is None or not whom:
                whom = readers(self.client, annotations)
                time.sleep(0 if whom else 0.2)
            given = key, LOST_SECONDS, function, arguments
            return dict(self.client.run(answer, *given, workers=list(whom), on_error="return"))

        waiting = workers
        while waiting is None or waiting:
            found = self.asked(partial(ask, waiting))
            self.known |= set(found)
            for address, one in found.items():
                if isinstance(one, Exception) and not isinstance(one, OSError):  # which it is where a worker is lost
                    raise one
                if isinstance(one, tuple):
                    [answers[address]] = one
            waiting = [address for address, one in found.items() if one is None]
            if waiting:
                self._say_once(
                    f"no list of files from worker {_few(waiting)} after {LOST_SECONDS:.0f} s, and the work waits: it "
                    "goes on when the worker has looked, or when it is ended"
                )
            elif workers is None and not answers:
                waiting = None
        return answers

    def _look_around(self, results: int) -> None:
        """Say what nobody else says: Dask waits for workers in silence, and forever."""
        workers, address = self._workers(), hidden(self.client.scheduler.address)
        now = time.time()
        silent = [name for name, one in workers.items() if now - one.get("last_seen", now) > LOST_SECONDS / 2]
        if not workers:
            what = f"has lost all of its workers ({_few(self.known)})" if self.known else "has no workers"
            self._say_once(
                f"{address} {what}, no result came for {LOST_SECONDS:.0f} s, and the work waits: it goes on when a "
                f"worker is started there (dask worker {address})"
            )
        elif silent:
            self._say_once(
                f"no word from worker {_few(silent)} for {LOST_SECONDS:.0f} s, and the work waits: it goes on when the "
                "worker does, or when it is ended"
            )
        elif self.settings.backend == "cuda" and results:
            self._look_for_gpus(results)
        self.known = set(workers) or self.known

    def _say_once(self, message: str) -> None:
        if message not in self.said:
            self.said.add(message)
            warn(message)

    def _look_for_gpus(self, results: int) -> None:
        """Say so when tasks wait for a GPU that no worker has any more; Dask waits in silence, and forever."""
        if not any(one.get("resources", {}).get(RESOURCE) for one in self._workers().values()):
            address = hidden(self.client.scheduler.address)
            warn(
                f"no worker of {address} has a GPU, and {results:,} results wait for one: start a worker there "
                f"(dask cuda worker {address}), or end this and run with the backend numba"
            )

    def result(self, future: Any) -> Any:
        """One result."""
        (_, result), *_ = self.results([future] if self.client is not None else self.start([future]))
        return result

    def _weigh(self, result: Any) -> None:
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, Packet):
                self.read, self.sent = self.read + one.read, self.sent + one.made
            elif isinstance(one, Schema):
                self.sent += schema_bytes(one)

    def described(self) -> dict[str, Any]:
        """What the work took, for the provenance."""
        return {
            "scheduler": hidden(self.client.scheduler.address) if self.client is not None else "threads",
            "workers": len(self.client.nthreads()) if self.client is not None else 1,
            "threads": self.threads,
            "tasks": self.submitted,
            "bytes_counted": self.read,
            "bytes_sent": self.sent,
            **({"gpus": dict(Counter(map(str, self.gpus.values())))} if self.gpus else {}),
            **({"gpu_memory_shrunk": dict(self.shrunk)} if self.shrunk else {}),
        }

    def _forget(self, future: Any) -> None:
        """Let the worker drop a result that was fetched."""
        self.futures.remove(future)
        future.release()

    def _tell(self, event: Sequence[Any] | Mapping[str, Any]) -> None:
        if isinstance(event, Mapping):
            self.shrunk[str(event["worker"])] = int(event["gpu_memory"])
        elif self.progress is not None:
            self.progress.add(*event)

    def _said(self, error: Exception) -> Exception | None:
        """The error in words of the data, where Dask speaks of tasks and workers."""
        from distributed.scheduler import KilledWorker

        if self._is_lost(error):
            return ConnectionError(
                f"scheduler {shown_address(self.client.scheduler.address)} was lost in the middle of the work, and "
                "nothing was written: see its log for why it ended, start it and its workers, and run again"
            )
        if isinstance(error, OutOfMemory):
            who = f"the GPU of worker {error.worker}" if error.on_gpu else f"worker {error.worker}"
            return MemoryError(
                f"{who} has no memory left to {self._what(error.task)}; {_GPU_ADVICE if error.on_gpu else _ADVICE}"
            )
        if isinstance(error, KilledWorker):
            key = str(error.task)
            found = re.fullmatch(rf"gpudrift-([a-z]+)-{self.name}-(\d+)-(\d+)-(\d+)", key)
            task = TaskName(found[1], *map(int, found.groups()[1:])) if found else None
            worker = getattr(error.last_worker, "address", error.last_worker)
            tries = self._workers_lost(error)
            return MemoryError(
                f"{tries} died, one after the other and {worker} last, each while it was to {self._what(task)}: "
                f"they were killed, most often because memory ran out (or cannot import gpudrift); {_ADVICE}"
            )
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "gpudrift":
            return ValueError(f"a worker has no gpudrift: install gpudrift {__version__} on every worker")
        return None

    def _is_lost(self, error: Exception) -> bool:
        """Whether it is the scheduler that is gone; Dask then cancels everything, and speaks of keys."""
        from concurrent.futures import CancelledError

        from distributed.comm import CommClosedError

        if "scheduler-connection-lost" in str(getattr(error, "reason", error)):
            return True
        return isinstance(error, CancelledError | CommClosedError | OSError) and self.client.status != "running"

    @staticmethod
    def _workers_lost(error: Any) -> str:
        lost = error.allowed_failures + 1
        return f"{lost} worker{'s' * (lost != 1)}"

    def _what(self, task: TaskName | None) -> str:
        return "compute a partition of the Dask DataFrame" if task is None else self.names(task)


def _few(workers: Iterable[str]) -> str:
    """Some of their addresses, and how many more there are."""
    ordered = sorted(workers)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


_ADVICE = (
    "give workers more memory or fewer threads each, or write the files in smaller row groups "
    "(gpudrift compare … --dry-run shows what a task needs)"
)

_GPU_ADVICE = (
    "steps were made as small as they can be: end what else uses the GPU, let fewer workers share it, set "
    "GPUDRIFT_GPU_MEMORY (such as 1GB) where the workers start, or write the files in smaller row groups"
)


def _check_versions(client: Any) -> None:
    """Refuse a scheduler (which unpacks graphs) or workers with another gpudrift, or a Python that cannot read ours."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    versions = client.get_versions()
    for who, told in {"the scheduler": versions["scheduler"], **versions["workers"]}.items():
        theirs = ".".join(str(told["host"]["python"]).split(".")[:2])
        if theirs != python:
            raise ValueError(version_trouble(who, "Python", theirs, python))
    # The package that is imported, not what the metadata of an installation says: it may be another one, or none. Asked
    # by a builtin, since a function of ours could not be unpacked where there is none.
    question = "__import__('gpudrift').__version__"
    found: dict[str, Any] = client.run(eval, question, {}, on_error="return")
    try:
        found["the scheduler"] = client.run_on_scheduler(eval, question, {})
    except ModuleNotFoundError:
        found["the scheduler"] = None
    for who, version in found.items():
        if version != __version__:
            raise ValueError(
                version_trouble(who, "gpudrift", version if isinstance(version, str) else None, __version__)
            )
