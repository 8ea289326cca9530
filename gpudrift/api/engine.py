"""Where work goes: to threads of this process or, with a client, to the workers of a Dask cluster.

Here it is only decided. On a cluster (:mod:`gpudrift.execution.cluster.dask`) the workers find, read and count the
files (:mod:`gpudrift.execution.cluster.graph`); what comes back is small (:mod:`gpudrift.counts.packed`), and the same
to the bit as from threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from gpudrift.backends import choose_backend
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.errors import UnknownColumnError
from gpudrift.execution.asked import selected_fields
from gpudrift.execution.cluster.dask import DaskCluster, check_client, with_client
from gpudrift.execution.cluster.files import count_files, open_files, profile_files, whole_rows
from gpudrift.execution.cluster.graph import described
from gpudrift.execution.cluster.group_graphs import (
    count_groups_files,
    count_groups_frame,
    profile_groups_files,
    profile_groups_frame,
)
from gpudrift.execution.cluster.partitions import count_frame, profile_frame
from gpudrift.execution.cuts import column_slots, cut_for_cluster, cut_for_threads, obstacle
from gpudrift.execution.forecast import TablePlan, plan_table
from gpudrift.execution.group_threads import count_groups_source, profile_groups_source
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, fit_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import Field, Source, is_parquet, is_uri, lies_on_gpu, open_source
from gpudrift.windows.grouping import Grouping, GroupRequest

__all__ = [
    "Settings",
    "column_types",
    "count_data",
    "count_groups",
    "fit_data",
    "plan_data",
    "planned_place",
    "profile_data",
    "profile_groups",
]


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
    check_client(settings.client)
    if _is_dask_frame(data):
        with DaskCluster(with_client(settings)) as cluster:
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
    check_client(settings.client)
    _check_columns(columns, schema)
    if _is_dask_frame(data):
        with DaskCluster(with_client(settings)) as cluster:
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
    check_client(settings.client)
    if _is_dask_frame(data):
        with DaskCluster(with_client(settings)) as cluster:
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
    check_client(settings.client)
    _check_columns(columns, schema)
    # In the order of the schema, whatever the order they were asked for: so that profiles of the same columns add.
    columns = None if columns is None else [name for name in schema.names if name in set(columns)]
    if _is_dask_frame(data):
        with DaskCluster(with_client(settings)) as cluster:
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
        raise UnknownColumnError("columns", unknown[0], "the schema", schema.names)


def _chosen_here(settings: Settings, data: Any, source: Source) -> tuple[Settings, str]:
    """With the backend that this process will run, and why."""
    chosen, why = choose_backend(settings.backend, on_gpu=lies_on_gpu(data), parquet=is_parquet(source))
    return replace(settings, backend=chosen), why


def column_types(
    data: Any, settings: Settings, storage_options: Mapping[str, Any] | None = None
) -> dict[str, pa.DataType]:
    """The Arrow types of a table's columns, as far as they can be read; no data is."""
    check_client(settings.client)
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
    check_client(settings.client)
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
    check_client(settings.client)
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


def _listed(data: Any) -> Sequence[Any]:
    return data if isinstance(data, list | tuple) else [data]


def _names_files(data: Any) -> bool:
    listed = _listed(data)
    return bool(listed) and all(isinstance(path, str | os.PathLike) for path in listed)


def _is_dask_frame(data: Any) -> bool:
    return isinstance(data, getattr(sys.modules.get("dask.dataframe"), "DataFrame", ()))
