"""Dask DataFrames on a cluster: each partition is counted where it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import Packet
from gpudrift.execution.asked import asked_windows, check_windows, seen_types, segment_columns, selected_fields
from gpudrift.execution.cluster import work
from gpudrift.execution.cluster.graph import SMALL_SHARE, Cluster, Tally, TaskName, shared_fitted, sum_tree
from gpudrift.execution.cuts import BYTES_PER_SLOT, FAN_IN, column_slots
from gpudrift.execution.tasks import Fitted
from gpudrift.fitting.columns import FitOptions
from gpudrift.logs import warn
from gpudrift.sources import Field, open_source
from gpudrift.windows.grouping import Grouping, GroupRequest

__all__ = ["all_fields", "count_frame", "fit_frame", "profile_frame"]

FRAME = "the Dask DataFrame"


@dataclass(frozen=True)
class Frame:
    """A Dask DataFrame as its partitions, and the columns of them that are read."""

    partitions: Sequence[Any]
    fields: tuple[Field, ...]
    columns: int
    """Of the whole data frame."""

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.fields]


def frame_of(data: Any, columns: Sequence[str] | None) -> Frame:
    """Only the columns that are asked for are read, where Dask can leave the others out."""
    given = [str(name) for name in data.columns]
    repeated = next((name for name in given if given.count(name) > 1), None) if len(set(given)) < len(given) else None
    if repeated is not None:
        raise ValueError(f"{FRAME}: column name {repeated!r} is not unique")
    wanted = set(given if columns is None else columns)
    tasks = [at for at, name in enumerate(given) if name in wanted]
    frame = data if len(tasks) == len(given) else data[[data.columns[at] for at in tasks]]
    types = {one.name: one for one in open_source(_empty_frame(frame)).fields}
    fields = tuple(types[given[at]] for at in tasks)
    return Frame(frame.to_delayed(), fields, len(given))


def _empty_frame(frame: Any) -> Any:
    """A data frame without rows that has the columns and types that Dask says; on the host."""
    import pandas as pd

    types = {str(name): _host_type(dtype) for name, dtype in zip(frame.columns, frame.dtypes, strict=True)}
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in types.items()})


def _host_type(dtype: Any) -> Any:
    """The type that pandas has for one of cuDF's own (categories, decimals, lists)."""
    import pandas as pd

    if hasattr(dtype, "to_pandas"):
        return dtype.to_pandas()
    return pd.ArrowDtype(dtype.to_arrow()) if hasattr(dtype, "to_arrow") else dtype


def profile_frame(
    cluster: Cluster, data: Any, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None
) -> GroupedProfile:
    """Partitions are read twice: for the sample, each once it is known how many rows lie before it, and counted."""
    options = replace(options, coarse=options.coarse or bool(request))
    fitted, frame, by, shown = _fitted(cluster, data, request, options, columns)
    return _counted(cluster, frame, fitted, by, shown)


def fit_frame(cluster: Cluster, data: Any, options: FitOptions, columns: Sequence[str] | None) -> Schema:
    """Fit a schema to a Dask DataFrame without counting it."""
    return _fitted(cluster, data, GroupRequest(), options, columns)[0][0]


def count_frame(
    cluster: Cluster, data: Any, schema: Schema, grouping: Grouping, columns: Sequence[str] | None
) -> GroupedProfile:
    """Count a Dask DataFrame under a schema, computing each partition once."""
    schema = schema if columns is None else schema.select(columns)
    given = all_fields(data)
    check_windows(given, FRAME, grouping)
    by = segment_columns(given, FRAME, grouping)
    frame = _frame_with(data, [one.name for one in given if one.name in schema], grouping.columns)
    shown = given if columns is None else [one for one in given if one.name in set(columns)]
    return _counted(cluster, frame, (schema, grouping), by, shown)


def _fitted(
    cluster: Cluster, data: Any, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None
) -> tuple[Fitted, Frame, Sequence[Column], Sequence[Field]]:
    """What a Dask DataFrame is counted under, and what is read of it."""
    given = all_fields(data)
    fields = selected_fields(given, FRAME, columns, options)
    windows, by = asked_windows(given, FRAME, request), segment_columns(given, FRAME, request)
    frame = _frame_with(data, columns, request.columns)
    fitting = work.fit_sampler, sampler_of(cluster, frame), fields, by, windows, request, options
    fitted: Fitted = dict(cluster.results(cluster.start([cluster.task(TaskName("edges"), *fitting)])))[0]
    return fitted, frame, by, fields


def _frame_with(data: Any, columns: Sequence[str] | None, keys: Sequence[str]) -> Frame:
    """Some columns of a Dask DataFrame, and those that say which group a row belongs to."""
    return frame_of(data, None if columns is None else list(dict.fromkeys([*columns, *keys])))


def sampler_of(cluster: Cluster, frame: Frame) -> Any:
    """A task of what is sampled of all partitions."""
    cluster.names = lambda task: f"sample partition {task.start} of {FRAME}"
    names = cluster.submit(TaskName("names"), tuple, frame.names)
    tasks = [TaskName("sample", 0, number, number + 1) for number in range(len(frame.partitions))]
    befores: list[Any] = [cluster.submit(TaskName("before"), int)]
    for number, partition in enumerate(frame.partitions[:-1]):
        befores.append(cluster.task(TaskName("rows", 0, number, number + 1), work.rows_after, partition, befores[-1]))
    inputs = [[partition, names, before] for partition, before in zip(frame.partitions, befores, strict=True)]
    samplers = cluster.many(tasks, work.thin_partition, inputs, frame.columns, cluster.settings.backend)
    level = 0
    while len(samplers) > 1:
        level += 1
        samplers = [
            cluster.task(TaskName("join", 0, level, start), work.join_samplers, *samplers[start : start + 4 * FAN_IN])
            for start in range(0, len(samplers), 4 * FAN_IN)
        ]
    return samplers[0]


def all_fields(data: Any) -> tuple[Field, ...]:
    """All columns of a Dask DataFrame."""
    return tuple(open_source(_empty_frame(data)).fields)


def _counted(
    cluster: Cluster, frame: Frame, fitted: Fitted, by: Sequence[Column], shown: Sequence[Field]
) -> GroupedProfile:
    """One task for each partition, which counts all of its columns: for each block it would be computed anew."""
    schema, grouping = fitted
    cluster.progress = Tally(cluster.settings.progress, (len(schema),), None)
    cluster.names = lambda task: f"{task.stage} partition {task.start} of {FRAME}"
    shared = shared_fitted(cluster, 0, schema, grouping)
    names = cluster.submit(TaskName("names", 1), tuple, frame.names)
    tasks = [TaskName("count", 0, number, number + 1) for number in range(len(frame.partitions))]
    inputs = [[partition, names, shared] for partition in frame.partitions]
    leaves = cluster.many(tasks, work.count_partition, inputs, tuple(by), cluster.settings.backend)
    packet: Packet = dict(cluster.results(cluster.start([sum_tree(cluster, 0, leaves)])))[0]
    if packet.parts != ((0, len(frame.partitions)),):
        raise ValueError(f"{FRAME}: not every partition was counted, only {packet.parts}")
    _warn_of_small_partitions(cluster, len(leaves), fitted)
    profile = packet.profile(schema, grouping)
    profile = profile.telling(seen=seen_types(shown, profile.seen))
    cluster.progress.done(int(profile.rows.sum()), len(schema))
    return profile.with_provenance(source=FRAME, files=[], cluster=cluster.described())


def _warn_of_small_partitions(cluster: Cluster, partitions: int, fitted: Fitted) -> None:
    schema, grouping = fitted
    share = cluster.sent / max(cluster.read, 1)
    if share <= SMALL_SHARE or partitions < 2:
        return
    each = cluster.read // partitions / 1e6
    if grouping:
        advice = "or hold many windows and segments each; larger ones, or rows in the order of time, make it less"
    else:
        slots = sum(column_slots([Field(name, None) for name in schema.names], schema))
        advice = f"repartition(partition_size='{BYTES_PER_SLOT * slots / 1e6:,.0f}MB') makes it less than 1 %"
    warn(
        f"results are {share:.1%} of the bytes that were counted, because the partitions of {FRAME} are small "
        f"({each:,.1f} MB each){', ' if grouping else ': '}{advice}"
    )
