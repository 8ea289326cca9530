"""Where work goes: to threads of this process or, with a client, to the workers of a Dask cluster.

This is the only module that imports Dask, and only when there is a cluster to talk to. On a cluster the workers find,
read and count the files (:mod:`gpudrift.graphs`); what comes back is small (:mod:`gpudrift.packed`), and the same to
the bit as from threads.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa

from gpudrift.backends import Gpu, choose_backend, choose_for_workers, probe, shrink_cuda, why_not_cuda
from gpudrift.fitting import FitOptions
from gpudrift.graphs import (
    Counted,
    Place,
    Tally,
    count_files,
    count_frame,
    described,
    open_files,
    profile_files,
    profile_frame,
    schema_bytes,
    whole_rows,
)
from gpudrift.group_graphs import (
    count_groups_files,
    count_groups_frame,
    profile_groups_files,
    profile_groups_frame,
)
from gpudrift.group_packed import GroupPacket
from gpudrift.group_threads import count_groups_source, profile_groups_source
from gpudrift.grouping import GroupRequest
from gpudrift.groups import GroupedProfile, Grouping
from gpudrift.packed import Packet
from gpudrift.planning import TablePlan, column_slots, cut_for_cluster, cut_for_threads, obstacle, plan_table
from gpudrift.profiles import Profile
from gpudrift.schema import Schema
from gpudrift.sources import Field, Source, is_parquet, is_uri, lies_on_gpu, open_source
from gpudrift.threads import Settings, count_source, fit_source, profile_source, selected_fields
from gpudrift.version import __version__

__all__ = [
    "Settings",
    "column_types",
    "count_data",
    "count_groups",
    "fit_data",
    "open_cluster",
    "plan_data",
    "planned_place",
    "profile_data",
    "profile_groups",
]

CONNECT_SECONDS = 7
"""To reach a scheduler: what is not there is an error within ten seconds."""
GPU_DEVICE = "/dev/nvidiactl"
"""What NVIDIA's driver shows where there is a GPU."""
RETRIES = 3
"""Of a task that fails: a rebalance moves results away from tasks that are about to use them, which fail with it."""
GUESSED_THREADS = 8
"""Of a cluster that has no workers yet."""
RESOURCE = "gpudrift-gpu"
"""Of Dask's resources: workers that can use a GPU have one, and a task that uses it takes it."""
ON_GPU = frozenset({"sample", "rows", "fit", "count"})
"""Stages that read or count; they run where a GPU is, when one is to count. ``rows`` asks partitions of cuDF."""
LOST_SECONDS = 30.0
"""Without any news, until somebody looks whether there is still a worker with a GPU."""


# --- what the API calls ----------------------------------------------------------------------------------------------


def profile_data(
    data: Any,
    options: FitOptions,
    columns: Sequence[str] | None,
    settings: Settings,
    storage_options: Mapping[str, Any] | None = None,
) -> Profile:
    """Fit a schema to a table and count the table under it, wherever it lies.

    Files and Dask DataFrames are read by the workers of ``settings.client``; a table in memory lies in this process
    and is counted here. The backend is chosen where the data enters, of what counts there.
    """
    _check_client(settings.client)
    if _is_dask_frame(data):
        with DaskCluster(_with_client(settings)) as cluster:
            return cluster.signed(profile_frame(cluster, data, options, columns))
    if settings.client is not None and _names_files(data):
        with DaskCluster(settings) as cluster:
            return cluster.signed(profile_files(cluster, data, options, columns, storage_options))
    source = _opened_here(data, storage_options)
    settings, why = _chosen_here(settings, data, source)
    profile = described(profile_source(source, options, columns, settings), source)
    return profile.with_provenance(backend=settings.backend, backend_reason=why)


def count_data(
    data: Any,
    schema: Schema,
    columns: Sequence[str] | None,
    settings: Settings,
    storage_options: Mapping[str, Any] | None = None,
) -> Profile:
    """Count a table under a schema, wherever it lies; see :func:`profile_data`."""
    _check_client(settings.client)
    _check_columns(columns, schema)
    if _is_dask_frame(data):
        with DaskCluster(_with_client(settings)) as cluster:
            return cluster.signed(count_frame(cluster, data, schema, columns))
    if settings.client is not None and _names_files(data):
        with DaskCluster(settings) as cluster:
            return cluster.signed(count_files(cluster, data, schema, columns, storage_options))
    source = _opened_here(data, storage_options)
    settings, why = _chosen_here(settings, data, source)
    profile = described(count_source(source, schema, columns, settings), source)
    return profile.with_provenance(backend=settings.backend, backend_reason=why)


def profile_groups(
    data: Any,
    request: GroupRequest,
    options: FitOptions,
    columns: Sequence[str] | None,
    settings: Settings,
    storage_options: Mapping[str, Any] | None = None,
) -> GroupedProfile:
    """Fit a coarse schema to a table and count its windows and segments, wherever it lies; see :func:`profile_data`."""
    _check_client(settings.client)
    if _is_dask_frame(data):
        with DaskCluster(_with_client(settings)) as cluster:
            return cluster.signed(profile_groups_frame(cluster, data, request, options, columns))
    if settings.client is not None and _names_files(data):
        with DaskCluster(settings) as cluster:
            return cluster.signed(profile_groups_files(cluster, data, request, options, columns, storage_options))
    source = _opened_here(data, storage_options)
    settings, why = _chosen_here(settings, data, source)
    profile = described(profile_groups_source(source, request, options, columns, settings), source)
    return profile.with_provenance(backend=settings.backend, backend_reason=why)


def count_groups(
    data: Any,
    schema: Schema,
    grouping: Grouping,
    columns: Sequence[str] | None,
    settings: Settings,
    storage_options: Mapping[str, Any] | None = None,
) -> GroupedProfile:
    """Count the windows and segments of a table under a schema, wherever it lies; see :func:`profile_data`."""
    _check_client(settings.client)
    _check_columns(columns, schema)
    # In the order of the schema, whatever the order they were asked for: so that profiles of the same columns add.
    columns = None if columns is None else [name for name in schema.names if name in set(columns)]
    if _is_dask_frame(data):
        with DaskCluster(_with_client(settings)) as cluster:
            return cluster.signed(count_groups_frame(cluster, data, schema, grouping, columns))
    if settings.client is not None and _names_files(data):
        with DaskCluster(settings) as cluster:
            return cluster.signed(count_groups_files(cluster, data, schema, grouping, columns, storage_options))
    source = _opened_here(data, storage_options)
    settings, why = _chosen_here(settings, data, source)
    profile = described(count_groups_source(source, schema, grouping, columns, settings), source)
    return profile.with_provenance(backend=settings.backend, backend_reason=why)


def _check_columns(columns: Sequence[str] | None, schema: Schema) -> None:
    unknown = [name for name in columns or () if name not in schema]
    if unknown:
        raise ValueError(f"columns: no column {unknown[0]!r} in the schema")


def _chosen_here(settings: Settings, data: Any, source: Source) -> tuple[Settings, str]:
    """With the backend that this process will run, and why."""
    chosen, why = choose_backend(settings.backend, on_gpu=lies_on_gpu(data), parquet=is_parquet(source))
    return replace(settings, backend=chosen), why


def column_types(
    data: Any, settings: Settings, storage_options: Mapping[str, Any] | None = None
) -> dict[str, pa.DataType]:
    """The Arrow types of a table's columns, as far as they can be read; no data is."""
    _check_client(settings.client)
    if _is_dask_frame(data):
        data = data._meta
    elif settings.client is not None and _names_files(data):
        with DaskCluster(settings) as cluster:
            _, opened = open_files(cluster, data, storage_options, None, None, None)
            return {one.name: one.type for one in opened.source.fields if one.type is not None}
    source = _opened_here(data, storage_options)
    return {one.name: one.type for one in source.fields if one.type is not None}


def fit_data(data: Any, options: FitOptions, columns: Sequence[str] | None, settings: Settings) -> Schema:
    """Fit a schema to a table without counting it, on threads."""
    return fit_source(open_source(data), options, columns, settings)


def plan_data(
    data: Any,
    schema: Schema | None,
    columns: Sequence[str] | None,
    settings: Settings,
    storage_options: Mapping[str, Any] | None = None,
    *,
    fits: bool,
) -> TablePlan:
    """What counting a table (and, with ``fits``, choosing its bins) would take.

    Files are found and what they say of themselves is read, not their data.
    """
    _check_client(settings.client)
    if settings.client is not None and _names_files(data):
        with DaskCluster(settings) as cluster:
            _, opened = open_files(cluster, data, storage_options, None, None, None)
            settings = replace(cluster.settings, threads=cluster.threads, budget=cluster.budget)
            return _planned(opened.source, schema, columns, settings, cluster.workers, fits=fits)
    return _planned(_opened_here(data, storage_options), schema, columns, settings, 0, fits=fits)


def planned_place(settings: Settings) -> tuple[str, int, int, str]:
    """Where the work would be done: its name, workers, threads of all of them, and their GPUs in words if those count.

    To be asked after the tables were planned, which checks the client.
    """
    if settings.client is None:
        return "threads of this process", 1, settings.workers, ""
    _check_client(settings.client)
    cluster = DaskCluster(settings)
    cluster.choose()
    where = f"cluster {settings.client.scheduler.address}"
    return where, cluster.workers, cluster.threads, ", ".join(sorted({one.name for one in cluster.gpus.values()}))


def _planned(
    source: Source,
    schema: Schema | None,
    columns: Sequence[str] | None,
    settings: Settings,
    workers: int,
    *,
    fits: bool,
) -> TablePlan:
    if schema is None:
        known = None if fits else {one.name for one in source.fields}
        wanted = columns if known is None or columns is None else [name for name in columns if name in known]
        fields = tuple(selected_fields(source, wanted, FitOptions()))
    else:
        given = {one.name: one for one in source.fields}
        names = schema.names if columns is None else tuple(columns)
        fields = tuple(given.get(name, Field(name, pa.null())) for name in names)
    sizes = [source.column_bytes(one.name) for one in fields if obstacle(one) is None]
    threads, budget = settings.workers, settings.budget
    held = fits and source.columnar and max(sizes, default=0) <= budget
    slots = column_slots(fields, schema)
    if workers:
        gpus = settings.backend == "cuda"
        cut = cut_for_cluster(source, fields, slots, threads, held=budget if held else None, gpus=gpus)
        cut = cut if source.columnar else whole_rows(source, cut)
    else:
        cut = cut_for_threads(source, fields, slots, threads, held=held)
    return plan_table(source, fields, cut, workers=workers, fits=fits, held=held)


def _opened_here(data: Any, storage_options: Mapping[str, Any] | None) -> Source:
    remote = storage_options is not None and _names_files(data) and any(is_uri(os.fsdecode(p)) for p in _listed(data))
    return open_source(data, storage_options) if remote else open_source(data)


def _check_client(client: Any) -> None:
    """Refuse what no work can be given to, before anything is done."""
    if client is None:
        return
    kind = getattr(sys.modules.get("distributed"), "Client", None)
    if kind is None or not isinstance(client, kind):
        raise TypeError(
            f"client: expected a dask.distributed.Client (Client('tcp://host:8786') makes one), got {client!r:.80}"
        )
    if client.asynchronous:
        raise TypeError("client: an asynchronous Client cannot be waited for; give one without asynchronous=True")
    if client.status != "running":
        raise ValueError(f"client: it is {client.status}, a running one is expected")


def _listed(data: Any) -> Sequence[Any]:
    return data if isinstance(data, list | tuple) else [data]


def _names_files(data: Any) -> bool:
    listed = _listed(data)
    return bool(listed) and all(isinstance(path, str | os.PathLike) for path in listed)


def _with_client(settings: Settings) -> Settings:
    """With the client that Dask itself would compute a Dask DataFrame with, if there is one."""
    if settings.client is not None or "distributed" not in sys.modules:
        return settings
    from distributed import default_client

    with suppress(ValueError):
        return replace(settings, client=default_client())
    return settings


def _is_dask_frame(data: Any) -> bool:
    return isinstance(data, getattr(sys.modules.get("dask.dataframe"), "DataFrame", ()))


# --- a piece of work on a cluster ------------------------------------------------------------------------------------


class _OutOfMemory(MemoryError):
    """A task had no memory, of the host or of the GPU; which one is said by its place."""

    def __init__(self, place: Place, worker: str, on_gpu: bool) -> None:
        super().__init__(f"no memory for {place} on {worker}")
        self.place, self.worker, self.on_gpu = place, worker, on_gpu

    def __reduce__(self) -> tuple[type[_OutOfMemory], tuple[Place, str, bool]]:
        return type(self), (self.place, self.worker, self.on_gpu)


class _Work:
    """What a task runs: a function, with the version checked before and progress told afterwards.

    One object stands behind thousands of tasks, which so carry little more than their place: with each argument in
    each task, 50,000 of them took 9 s to build and 4 without.

    Parameters
    ----------
    topic : str
        Where progress is told.
    function : callable
    constants : tuple
        Last arguments of the function, the same for all tasks.
    spanned : bool
        Whether the function takes the span of the place, after the task's own arguments.
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

    def __call__(self, place: str, *arguments: Any) -> Any:
        worker = _worker()
        here = "this process" if worker is None else worker.address
        if self.version != __version__:
            raise ValueError(_version_trouble(here, "gpudrift", __version__, self.version))
        at = Place.of(place)
        span = ((at.start, at.stop),) if self.spanned else ()
        try:
            result = self._result((*arguments, *span, *self.constants), worker)
        except MemoryError as error:
            raise _OutOfMemory(at, here, self.on_gpu and not isinstance(error, pa.ArrowException)) from None
        except FileNotFoundError as error:
            if at.stage not in ("find", "footers", "open") or worker is None:
                raise
            raise FileNotFoundError(f"{error} on worker {here}; workers read the files themselves") from None
        packet = result[1] if isinstance(result, tuple) and len(result) > 1 else result
        if worker is not None and isinstance(packet, Packet | GroupPacket):
            worker.log_event(self.topic, (place, at.block, packet.rows, packet.read))
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


def _worker() -> Any:
    """The worker that runs this task; None for Dask's scheduler of threads, which has none."""
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def _version_trouble(who: str, package: str, theirs: str | None, ours: str) -> str:
    has = "has none" if theirs is None else f"has {theirs}"
    who = who if who.startswith("the ") else f"worker {who}"
    return f"{package} {ours} is here, {who} {has}: install the same version on the scheduler and every worker"


class DaskCluster:
    """Tasks of one table on the workers of a cluster: named, submitted, followed, and taken back if anything fails."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.client = settings, settings.client
        self.name = uuid.uuid4().hex[:12]
        self.futures: list[Any] = []
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.names: Callable[[Place], str] = str
        self.progress: Tally | None = None
        self.submitted = 0
        self.read, self.sent = 0, 0
        self.why = "asked for"
        """Why this backend."""
        self.probed: dict[str, Gpu] = {}
        """What each worker said of its GPU, if that was asked."""
        self.shrunk: dict[str, int] = {}
        """Bytes of GPU memory that workers go on with which had too little."""

    def __enter__(self) -> DaskCluster:
        if self.client is None:
            self.choose()
            return self
        _check_versions(self.client)
        self.choose()
        if self.settings.backend == "cuda":
            self.client.register_plugin(_gpu_plugin())
        if not self.client.nthreads():
            warnings.warn(f"{self.client.scheduler.address} has no workers yet: the work waits for them", stacklevel=4)
        self.client.subscribe_topic(self.name, lambda event: self.queue.put(event[1]))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: Any) -> None:
        if self.client is None:
            return
        with suppress(Exception):
            self.client.unsubscribe_topic(self.name)
        # What nobody wants any more the scheduler drops, running or not. Not client.cancel: where a cancelled task has
        # others that depend on it, an assertion in the scheduler ends the whole client (distributed 2026.8).
        for future in reversed(self.futures):
            with suppress(Exception):
                future.release()
        if isinstance(error, Exception):
            said = self._said(error)
            if said is not None:
                raise said from error

    def choose(self) -> None:
        """Decide what counts, of what the workers have."""
        asked = self.settings.backend
        if self.client is None:
            chosen, self.why = choose_backend(asked)
        else:
            if asked in ("auto", "cuda"):
                found = self.client.run(probe, on_error="return")
                self.probed = {a: one if isinstance(one, Gpu) else Gpu(repr(one)) for a, one in found.items()}
            chosen, self.why = choose_for_workers(asked, self.probed)
        self.settings = replace(self.settings, backend=chosen)

    def signed(self, profile: Counted) -> Counted:
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

    def key(self, place: Place) -> str:
        """The name of a task for Dask, the stage first.

        Dask takes tasks that agree up to a hexadecimal word for one group, learns how long those of a group take, and
        spreads a large group over all workers. With the name of the run first all stages were one group, and half of
        the workers began by waiting.
        """
        return f"gpudrift-{place.stage}-{self.name}-{place.block}-{place.start}-{place.stop}"

    def submit(self, place: Place, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of its own, whose result stays on its worker; with small arguments only."""
        if self.client is None:
            return self.task(place, function, *arguments)
        self.submitted += 1
        work = _Work(self.name, function, on_gpu=self._on_gpu(place))
        with self._annotated(work):
            future = self.client.submit(work, str(place), *arguments, key=self.key(place), pure=False, retries=RETRIES)
        self.futures.append(future)
        return future

    def task(self, place: Place, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of a graph that is not submitted yet."""
        from dask import delayed

        self.submitted += 1
        work = _Work(self.name, function, on_gpu=self._on_gpu(place))
        call = delayed(work, pure=False, traverse=False)
        with self._annotated(work):
            return call(str(place), *arguments, dask_key_name=self.key(place))

    def many(
        self, places: Sequence[Place], function: Callable[..., Any], inputs: Sequence[Sequence[Any]], *constants: Any
    ) -> list[Any]:
        """Tasks of a graph, each called with its inputs, the span of its place, and the constants."""
        from dask import delayed

        self.submitted += len(places)
        on_gpu = any(map(self._on_gpu, places))
        work = _Work(self.name, function, constants, spanned=True, on_gpu=on_gpu)
        call = delayed(work, pure=False, traverse=False)
        with self._annotated(work):
            return [
                call(str(place), *own, dask_key_name=self.key(place)) for place, own in zip(places, inputs, strict=True)
            ]

    def _on_gpu(self, place: Place) -> bool:
        return self.settings.backend == "cuda" and place.stage in ON_GPU

    def _annotated(self, work: _Work) -> AbstractContextManager[Any]:
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
        places = {future.key: at for at, future in enumerate(futures)}
        for future in futures:
            future.add_done_callback(self.queue.put)
        news = time.monotonic()
        while places:
            try:
                item = self.queue.get(timeout=1.0)
            except Empty:
                if self.settings.backend == "cuda" and time.monotonic() - news > LOST_SECONDS:
                    self._look_for_gpus(len(places))
                    news = time.monotonic()
                continue
            news = time.monotonic()
            if isinstance(item, tuple | dict):
                self._tell(item)
            elif item.key in places:
                result = item.result()
                self._weigh(result)
                yield places.pop(item.key), result
                self._forget(item)

    def _look_for_gpus(self, results: int) -> None:
        """Say so when tasks wait for a GPU that no worker has any more; Dask waits in silence, and forever."""
        if not any(one.get("resources", {}).get(RESOURCE) for one in self._workers().values()):
            address = self.client.scheduler.address
            warnings.warn(
                f"no worker of {address} has a GPU, and {results:,} results wait for one: start a worker there "
                f"(dask cuda worker {address}), or end this and run with the backend numba",
                stacklevel=1,
            )

    def result(self, future: Any) -> Any:
        """One result."""
        (_, result), *_ = self.results([future] if self.client is not None else self.start([future]))
        return result

    def _weigh(self, result: Any) -> None:
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, Packet | GroupPacket):
                self.read, self.sent = self.read + one.read, self.sent + one.made
            elif isinstance(one, Schema):
                self.sent += schema_bytes(one)

    def described(self) -> dict[str, Any]:
        """What the work took, for the provenance."""
        return {
            "scheduler": self.client.scheduler.address if self.client is not None else "threads",
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

        if isinstance(error, _OutOfMemory):
            who = f"the GPU of worker {error.worker}" if error.on_gpu else f"worker {error.worker}"
            return MemoryError(
                f"{who} has no memory left to {self._what(error.place)}; {_GPU_ADVICE if error.on_gpu else _ADVICE}"
            )
        if isinstance(error, KilledWorker):
            key = str(error.task)
            found = re.fullmatch(rf"gpudrift-([a-z]+)-{self.name}-(\d+)-(\d+)-(\d+)", key)
            place = Place(found[1], *map(int, found.groups()[1:])) if found else None
            worker = getattr(error.last_worker, "address", error.last_worker)
            tries = self._workers_lost(error)
            return MemoryError(
                f"{tries} died, one after the other and {worker} last, each while it was to {self._what(place)}: "
                f"they were killed, most often because memory ran out (or cannot import gpudrift); {_ADVICE}"
            )
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "gpudrift":
            return ValueError(f"a worker has no gpudrift: install gpudrift {__version__} on every worker")
        return None

    @staticmethod
    def _workers_lost(error: Any) -> str:
        lost = error.allowed_failures + 1
        return f"{lost} worker{'s' * (lost != 1)}"

    def _what(self, place: Place | None) -> str:
        return "compute a partition of the Dask DataFrame" if place is None else self.names(place)


_ADVICE = (
    "give workers more memory or fewer threads each, or write the files in smaller row groups "
    "(gpudrift compare … --dry-run shows what a task needs)"
)

_GPU_ADVICE = (
    "steps were made as small as they can be: end what else uses the GPU, let fewer workers share it, set "
    "GPUDRIFT_GPU_MEMORY (such as 1GB) where the workers start, or write the files in smaller row groups"
)


@cache
def _gpu_plugin() -> Any:
    """What a worker does when it starts, for as long as the scheduler lives: it offers its GPU, if it has one.

    A class within a function is sent whole. Of one that is sent by name, a worker without gpudrift that joins the
    cluster later could not even start.
    """
    from distributed import WorkerPlugin

    class OffersGpu(WorkerPlugin):  # type: ignore[misc] # Dask's types are not followed
        name, idempotent = RESOURCE, True

        async def setup(self, worker: Any) -> None:
            import asyncio

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


def _check_versions(client: Any) -> None:
    """Refuse a scheduler (which unpacks graphs) or workers with another gpudrift, or a Python that cannot read ours."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    versions = client.get_versions()
    for who, told in {"the scheduler": versions["scheduler"], **versions["workers"]}.items():
        theirs = ".".join(str(told["host"]["python"]).split(".")[:2])
        if theirs != python:
            raise ValueError(_version_trouble(who, "Python", theirs, python))
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
                _version_trouble(who, "gpudrift", version if isinstance(version, str) else None, __version__)
            )


# --- clusters to work on ---------------------------------------------------------------------------------------------


@contextmanager
def open_cluster(
    scheduler: str, workers: int = 0, threads: int = 0, *, backend: str = "auto", verbose: bool = False
) -> Iterator[Any]:
    """A client of the cluster that a word names, closed at the end.

    Parameters
    ----------
    scheduler : str
        "threads": no cluster, the client is None. "local": worker processes on this machine, with dask-cuda one for
        each GPU where there are any and the backend may use them. Else the address of a scheduler
        (``tcp://host:8786``; ``tls://`` through Dask's own configuration) or the path of a scheduler file.
    workers, threads : int
        Processes, and threads of each, of "local"; 0 leaves it to Dask. With GPUs: the first so many of them, and one
        thread.
    backend : {"auto", "cuda", "numba", "numpy"}
        What shall count there.
    verbose : bool
        Let Dask write its logs.

    Raises
    ------
    ConnectionError
        If no scheduler answers within seven seconds.
    ValueError, FileNotFoundError
        If the word names none; if GPUs are asked for that are not here, or without dask-cuda.
    ModuleNotFoundError
        Without Dask.
    """
    if scheduler == "threads":
        yield None
        return
    _need_dask(scheduler)
    from dask import config

    # A command says in one line what is wrong; tracebacks of workers would bury it.
    quiet: dict[str, Any] = {} if verbose else {"logging.distributed": "critical"}
    with config.set(quiet):
        if not verbose:
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
        opened = _local(workers, threads, backend, verbose) if scheduler == "local" else _reached(scheduler)
        with opened as client:
            yield client


def _need_dask(scheduler: str) -> None:
    try:
        import distributed  # noqa: F401 - only to see whether it is there
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"scheduler {scheduler!r}: Dask is not installed; pip install 'gpudrift[dask]'"
        ) from None


@contextmanager
def _local(workers: int, threads: int, backend: str, verbose: bool) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    shape: dict[str, Any] = {
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "n_workers": workers or None,
        "threads_per_worker": threads or None,
    }
    if not verbose:
        shape["silence_logs"] = logging.CRITICAL
    make: Any = LocalCluster
    if _on_local_gpus(backend):
        from dask_cuda import LocalCUDACluster

        make = LocalCUDACluster
        shape |= _gpu_shape(workers, threads)
    else:
        shape["processes"] = True
        if backend == "auto" and Path(GPU_DEVICE).exists():
            # Plain workers all see the same GPUs, of which each would take the first.
            shape["env"] = {"CUDA_VISIBLE_DEVICES": ""}
    opened = ExitStack()
    try:
        with _interrupt_held():
            cluster = opened.enter_context(make(**{name: value for name, value in shape.items() if value is not None}))
        yield opened.enter_context(Client(cluster))
    finally:
        with _interrupt_held():
            opened.close()


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end; threads that begin here, and processes that those start, never see it.

    A terminal sends it to worker processes too, and each would print a traceback; they end with this process. And a
    cluster that is interrupted while it starts or ends cannot be closed in order.
    """
    from multiprocessing import resource_tracker

    came: list[int] = []
    # Threads that are older than this (of BLAS, of a notebook) may take the signal, so the handler waits too.
    held = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if held else None
    resource_tracker.ensure_running()  # else the thread that starts it gets the signal back
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if held:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _on_local_gpus(backend: str) -> bool:
    """Whether worker processes of this machine shall have a GPU each.

    Raises
    ------
    ValueError
        If GPUs are asked for and that cannot be.
    """
    from importlib.util import find_spec

    # Without the driver's file CuPy need not be imported to know.
    if backend not in ("auto", "cuda") or (backend == "auto" and not Path(GPU_DEVICE).exists()):
        return False
    why = why_not_cuda()
    if why is None and find_spec("dask_cuda") is None:
        why = (
            "dask-cuda, which starts a worker for each GPU, is not installed: pip install 'gpudrift[cuda13]' or cuda12"
        )
    if why is not None and backend == "cuda":
        raise ValueError(f"backend 'cuda': {why}")
    if why is not None:
        warnings.warn(f"the GPU of this machine is not used: {why}", stacklevel=1)
    return why is None


def _gpu_shape(workers: int, threads: int) -> dict[str, Any]:
    """How dask-cuda starts its workers.

    Raises
    ------
    ValueError
        If there are fewer GPUs than workers.
    """
    from importlib.util import find_spec

    from dask_cuda.utils import get_n_gpus

    gpus = get_n_gpus()
    if workers > gpus:
        has = f"{gpus} GPU{'s' * (gpus != 1)}"
        raise ValueError(
            f"workers: {workers} were asked for, and this machine has {has}, one for each worker; "
            "with the backend numba workers need none"
        )
    shape: dict[str, Any] = {
        "threads_per_worker": threads or 1,
        "protocol": "tcp",  # what travels is in host memory
        "device_memory_limit": 0,  # between tasks nothing lies in device memory that could be moved out of it
    }
    if find_spec("rmm") is not None:  # it comes with cuDF
        # One pool for cuDF and CuPy, of the driver's own allocator, which does not break into pieces.
        shape |= {"rmm_async": True, "rmm_allocator_external_lib_list": ["cupy"]}
    return shape


@contextmanager
def _reached(scheduler: str) -> Iterator[Any]:
    import asyncio

    from distributed import Client, Security
    from distributed.comm import connect

    address = scheduler if "://" in scheduler else _address_in(scheduler)

    async def greet() -> None:
        """Say hello and hang up; a Client alone waits forever for whoever takes the call and says nothing."""
        called = connect(address, CONNECT_SECONDS - 0.5, **Security().get_connection_args("client"))
        (await asyncio.wait_for(called, CONNECT_SECONDS)).abort()

    try:
        asyncio.run(greet())
        client = Client(address, timeout=CONNECT_SECONDS, name="gpudrift")
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ConnectionError(f"scheduler {address!r} cannot be reached: {_why(error)}") from None
    with client:
        yield client


def _why(error: Exception) -> str:
    """Dask's reason, without the names of its objects."""
    if isinstance(error, TypeError) and "ssl_context" in str(error):
        return "no certificates; Dask's configuration names them: distributed.comm.tls.ca-file, client.cert, client.key"
    late = isinstance(error, TimeoutError) or str(error).startswith("Timed out")
    reason = " ".join(str(error.__cause__ or ("" if late else error)).split()).rpartition(">: ")[2][:200]
    reason = reason or ("" if late else type(error).__name__)
    return ", ".join([f"no answer within {CONNECT_SECONDS} s"] * late + [reason] * bool(reason))


def _address_in(path: str) -> str:
    """The address that a scheduler file holds."""
    import json

    expected = "expected threads, local, an address such as tcp://host:8786, or a scheduler file"
    if not Path(path).is_file():
        raise FileNotFoundError(f"scheduler {path!r}: no such file; {expected}")
    try:
        address = json.loads(Path(path).read_text("utf-8"))["address"]
    except (ValueError, KeyError, TypeError):
        address = None
    if not isinstance(address, str):
        raise ValueError(f"scheduler {path!r}: it is no scheduler file (JSON with an address); {expected}")
    return address
