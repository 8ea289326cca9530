"""Where work goes: to threads of this process or, with a client, to the workers of a Dask cluster.

A table is opened once, wherever it lies, and everything is asked of what was opened: its types, a schema, counts, or
what counting it would take. On a cluster (:mod:`gpudrift.execution.cluster.dask`) the workers find, read and count the
files (:mod:`gpudrift.execution.cluster.files`); what comes back is small (:mod:`gpudrift.counts.packets`), and the same
to the bit as from threads.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa

from gpudrift.backends import choose_backend, gpu_column
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.asked import check_names
from gpudrift.execution.cluster.clients import check_client, with_client
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.cluster.files import count_files, fit_files, profile_files
from gpudrift.execution.cluster.finding import Files, open_files
from gpudrift.execution.cluster.graph import described
from gpudrift.execution.cluster.partitions import all_fields, count_frame, fit_frame, profile_frame
from gpudrift.execution.forecast import TablePlan
from gpudrift.execution.planning import planned
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, fit_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.hiding import hidden
from gpudrift.logs import LOGGER, Clock, info, many
from gpudrift.sources import Field, Source, is_lake_table, is_parquet, is_query, is_uri, lies_on_gpu, open_source
from gpudrift.windows.grouping import Grouping, GroupRequest

__all__ = ["Table", "opened_table", "planned_place"]


class Table(Protocol):
    """A table that was opened, once: what can be asked of it."""

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The Arrow types of its columns, as far as they can be read; no data is."""

    def fit(self, options: FitOptions, columns: Sequence[str] | None) -> Schema:
        """Fit a schema without counting."""

    def profile(self, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None) -> GroupedProfile:
        """Fit a schema, freeze segments, and count under it: windows and segments, or all rows as one group."""

    def count(self, schema: Schema, grouping: Grouping, columns: Sequence[str] | None) -> GroupedProfile:
        """Count under a schema, in the order of its columns; see :meth:`profile`."""

    def plan(
        self, schema: Schema | None, grouping: Grouping | GroupRequest, columns: Sequence[str] | None, *, fits: bool
    ) -> TablePlan:
        """What counting (and, with ``fits``, choosing bins) would take; no data is read."""


@contextmanager
def opened_table(data: Any, settings: Settings) -> Iterator[Table]:
    """Open a table, wherever it lies; it can be asked until the context ends.

    Files and Dask DataFrames are read by the workers of ``settings.client``; a table in memory lies in this process and
    is counted here. The backend is chosen where the data enters, of what counts there.
    """
    check_client(settings.client)
    clock = Clock()
    if _is_dask_frame(data):
        with DaskCluster(with_client(settings)) as cluster:
            yield _Told(_Frame(cluster, data), "a Dask DataFrame", None, clock)
    elif settings.client is not None and (_names_files(data) or is_lake_table(data)):
        with DaskCluster(settings) as cluster:
            files = open_files(cluster, data, settings)
            yield _Told(_Distant(cluster, files), files.source.label, files.source, clock)
    else:
        source = _opened_here(data, settings)
        yield _Told(_Here(source, settings, on_gpu=lies_on_gpu(data)), source.label, source, clock)


class _Told:
    """A table, and what the log is told of it: what was opened, which backend counted what, how long it took."""

    def __init__(self, table: Table, label: str, source: Source | None, clock: Clock) -> None:
        self.table, self.label, self.source = table, label, source
        if not LOGGER.isEnabledFor(logging.INFO):
            return
        facts = [many(len(table.types) if source is None else len(source.fields), "column")]
        if source is not None:
            facts += [many(len(source.files), "file")] if source.files else []
            facts += ["rows not known before they are read" if source.rows is None else many(source.rows, "row")]
            facts += [many(len(source.parts), "part")]
        info("opened %s: %s, in %s", label, ", ".join(facts), clock)

    @property
    def types(self) -> dict[str, pa.DataType]:
        return self.table.types

    def fit(self, options: FitOptions, columns: Sequence[str] | None) -> Schema:
        clock = Clock()
        schema = self.table.fit(options, columns)
        info("fitted %s of %s, in %s", many(len(schema), "column"), self.label, clock)
        return schema

    def profile(self, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None) -> GroupedProfile:
        clock = Clock()
        return self._counted("fitted and counted", self.table.profile(request, options, columns), clock)

    def count(self, schema: Schema, grouping: Grouping, columns: Sequence[str] | None) -> GroupedProfile:
        clock = Clock()
        return self._counted("counted", self.table.count(schema, grouping, columns), clock)

    def plan(
        self, schema: Schema | None, grouping: Grouping | GroupRequest, columns: Sequence[str] | None, *, fits: bool
    ) -> TablePlan:
        return self.table.plan(schema, grouping, columns, fits=fits)

    def _counted(self, what: str, profile: GroupedProfile, clock: Clock) -> GroupedProfile:
        if not LOGGER.isEnabledFor(logging.INFO):
            return profile
        facts = [many(int(profile.rows.sum()), "row"), many(len(profile.schema), "column")]
        if self.source is not None:
            facts.append(f"about {self._bytes(profile.schema.names) / 1e6:,.1f} MB in memory")
        if profile.grouping:
            facts.append(f"{len(profile.groups):,} windows and segments")
        backend, why = (profile.provenance.get(name, "unknown") for name in ("backend", "backend_reason"))
        info("%s %s: %s, in %s, by %s (%s)", what, self.label, ", ".join(facts), clock, backend, why)
        return profile

    def _bytes(self, names: Sequence[str]) -> int:
        assert self.source is not None
        there = {one.name for one in self.source.fields}
        return sum(self.source.column_bytes(name) for name in names if name in there)


@dataclass(frozen=True)
class _Here:
    """A table that threads of this process read."""

    source: Source
    settings: Settings
    on_gpu: bool

    @property
    def types(self) -> dict[str, pa.DataType]:
        return _types(self.source.fields)

    def fit(self, options: FitOptions, columns: Sequence[str] | None) -> Schema:
        return fit_source(self.source, options, columns, self._chosen()[0])

    def profile(self, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None) -> GroupedProfile:
        settings, why = self._chosen()
        profile = described(profile_source(self.source, request, options, columns, settings), self.source)
        return profile.with_provenance(backend=settings.backend, backend_reason=why)

    def count(self, schema: Schema, grouping: Grouping, columns: Sequence[str] | None) -> GroupedProfile:
        settings, why = self._chosen()
        names = _in_order(columns, schema, grouping)
        profile = described(count_source(self.source, schema, grouping, names, settings), self.source)
        return profile.with_provenance(backend=settings.backend, backend_reason=why)

    def plan(
        self, schema: Schema | None, grouping: Grouping | GroupRequest, columns: Sequence[str] | None, *, fits: bool
    ) -> TablePlan:
        return planned(self.source, schema, grouping, columns, self.settings, 0, fits=fits)

    def _chosen(self) -> tuple[Settings, str]:
        """With the backend that this process will run, and why."""
        chosen, why = choose_backend(self.settings.backend, on_gpu=self.on_gpu, parquet=is_parquet(self.source))
        return replace(self.settings, backend=chosen), why


@dataclass(frozen=True)
class _Distant:
    """Files that the workers of a cluster read."""

    cluster: DaskCluster
    files: Files

    @property
    def types(self) -> dict[str, pa.DataType]:
        return _types(self.files.source.fields)

    def fit(self, options: FitOptions, columns: Sequence[str] | None) -> Schema:
        self.cluster.begin()
        return fit_files(self.cluster, self.files, options, columns)

    def profile(self, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None) -> GroupedProfile:
        self.cluster.begin()
        return self.cluster.signed(profile_files(self.cluster, self.files, request, options, columns))

    def count(self, schema: Schema, grouping: Grouping, columns: Sequence[str] | None) -> GroupedProfile:
        self.cluster.begin()
        names = _in_order(columns, schema, grouping)
        return self.cluster.signed(count_files(self.cluster, self.files, schema, grouping, names))

    def plan(
        self, schema: Schema | None, grouping: Grouping | GroupRequest, columns: Sequence[str] | None, *, fits: bool
    ) -> TablePlan:
        cluster = self.cluster
        settings = replace(cluster.settings, threads=cluster.threads, budget=cluster.budget)
        return planned(self.files.source, schema, grouping, columns, settings, cluster.workers, fits=fits)


@dataclass(frozen=True)
class _Frame:
    """A Dask DataFrame."""

    cluster: DaskCluster
    data: Any

    @property
    def types(self) -> dict[str, pa.DataType]:
        return _types(all_fields(self.data))

    def fit(self, options: FitOptions, columns: Sequence[str] | None) -> Schema:
        self.cluster.begin()
        return fit_frame(self.cluster, self.data, options, columns)

    def profile(self, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None) -> GroupedProfile:
        self.cluster.begin()
        return self.cluster.signed(profile_frame(self.cluster, self.data, request, options, columns))

    def count(self, schema: Schema, grouping: Grouping, columns: Sequence[str] | None) -> GroupedProfile:
        self.cluster.begin()
        return self.cluster.signed(
            count_frame(self.cluster, self.data, schema, grouping, _in_order(columns, schema, grouping))
        )

    def plan(
        self, schema: Schema | None, grouping: Grouping | GroupRequest, columns: Sequence[str] | None, *, fits: bool
    ) -> TablePlan:
        return planned(open_source(self.data), schema, grouping, columns, self.cluster.settings, 0, fits=fits)


def planned_place(settings: Settings) -> tuple[str, int, int, str]:
    """Where the work would be done: its name, workers, threads of all of them, and their GPUs in words if those count.

    To be asked after the tables were planned, which checks the client.
    """
    if settings.client is None:
        return "threads of this process", 1, settings.workers, ""
    check_client(settings.client)
    cluster = DaskCluster(settings)
    cluster.choose()
    where = f"cluster {hidden(settings.client.scheduler.address)}"
    return where, cluster.workers, cluster.threads, ", ".join(sorted({one.name for one in cluster.gpus.values()}))


def _in_order(columns: Sequence[str] | None, schema: Schema, grouping: Grouping) -> Sequence[str] | None:
    """The columns, if the schema has them.

    Of windows and segments in the order of the schema, whatever the order they were asked for, so that profiles of the
    same columns add; of a whole as they were asked for, for its digest is a promise.
    """
    if columns is None:
        return None
    check_names(columns, schema.names, "columns", "the schema")
    return [name for name in schema.names if name in set(columns)] if grouping else columns


def _types(fields: Sequence[Field]) -> dict[str, pa.DataType]:
    return {one.name: one.type for one in fields if one.type is not None}


def _opened_here(data: Any, settings: Settings) -> Source:
    options = settings.storage_options
    remote = options is not None and _names_files(data) and any(map(_in_store, _listed(data)))
    return open_source(data, options if remote else None, gpu_column=gpu_column, csv=settings.csv)


def _in_store(path: Any) -> bool:
    return is_uri(os.fsdecode(path)) and not is_query(os.fsdecode(path))


def _listed(data: Any) -> Sequence[Any]:
    return data if isinstance(data, list | tuple) else [data]


def _names_files(data: Any) -> bool:
    listed = _listed(data)
    return bool(listed) and all(isinstance(path, str | os.PathLike) for path in listed)


def _is_dask_frame(data: Any) -> bool:
    return isinstance(data, getattr(sys.modules.get("dask.dataframe"), "DataFrame", ()))
