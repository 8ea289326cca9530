"""Dask DataFrames on a cluster: each partition is counted where it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpudrift.columns.schema import Schema
from gpudrift.counts.profiles import Profile
from gpudrift.errors import UnknownColumnError
from gpudrift.execution import tasks
from gpudrift.execution.asked import seen_types
from gpudrift.execution.cluster.graph import SMALL_SHARE, Cluster, Place, Tally, _add, shared_whole, sum_tree
from gpudrift.execution.cuts import BYTES_PER_SLOT, FAN_IN, column_slots
from gpudrift.execution.reading import partition_batches
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import StreamSampler
from gpudrift.sources import Field, open_source


def partition_rows(partition: Any) -> int:
    """Rows of a partition."""
    return len(partition)


def thin_partition(
    partition: Any, names: Sequence[str], before: int, span: tuple[int, int], columns: int, backend: str = "numba"
) -> StreamSampler:
    """What may be sampled of a partition that begins after so many rows, of a table with so many columns."""
    sampler = StreamSampler(columns, before)
    for batch in partition_batches(partition, names, span[0], on_gpu=backend == "cuda"):
        sampler.add(batch)
    return sampler


def join_samplers(samplers: Sequence[StreamSampler]) -> StreamSampler:
    """Samplers of consecutive rows as one."""
    first = StreamSampler(samplers[0].columns)
    for sampler in samplers:
        first.join(sampler)
    return first


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


def frame_of(data: Any, columns: Sequence[str] | None, what: str = "the Dask DataFrame") -> Frame:
    """Only the columns that are asked for are read, where Dask can leave the others out."""
    given = [str(name) for name in data.columns]
    repeated = next((name for name in given if given.count(name) > 1), None) if len(set(given)) < len(given) else None
    if repeated is not None:
        raise ValueError(f"{what}: the name {repeated!r} occurs more than once")
    wanted = set(given if columns is None else columns)
    places = [at for at, name in enumerate(given) if name in wanted]
    frame = data if len(places) == len(given) else data[[data.columns[at] for at in places]]
    types = {one.name: one for one in open_source(_empty_frame(frame)).fields}
    fields = tuple(types[given[at]] for at in places)
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


def profile_frame(cluster: Cluster, data: Any, options: FitOptions, columns: Sequence[str] | None) -> Profile:
    """Partitions are read twice: for the sample, each once it is known how many rows lie before it, and counted."""
    check_options(data, options, columns)
    frame = frame_of(data, columns)
    fitted = cluster.task(Place("edges"), tasks.fit_sampler, sampler_of(cluster, frame), frame.fields, options)
    schema: Schema = dict(cluster.results(cluster.start([fitted])))[0]
    return _count_partitions(cluster, frame, schema, frame.fields)


def sampler_of(cluster: Cluster, frame: Frame) -> Any:
    """A task of what is sampled of all partitions."""
    cluster.names = lambda place: f"sample partition {place.start} of the Dask DataFrame"
    names = cluster.submit(Place("names"), tuple, frame.names)
    places = [Place("sample", 0, number, number + 1) for number in range(len(frame.partitions))]
    befores: list[Any] = [cluster.submit(Place("before"), int)]
    for number, partition in enumerate(frame.partitions[:-1]):
        befores.append(cluster.task(Place("rows", 0, number, number + 1), _rows_after, partition, befores[-1]))
    inputs = [[partition, names, before] for partition, before in zip(frame.partitions, befores, strict=True)]
    samplers = cluster.many(places, thin_partition, inputs, frame.columns, cluster.settings.backend)
    level = 0
    while len(samplers) > 1:
        level += 1
        samplers = [
            cluster.task(Place("join", 0, level, start), _join, *samplers[start : start + 4 * FAN_IN])
            for start in range(0, len(samplers), 4 * FAN_IN)
        ]
    return samplers[0]


def _rows_after(partition: Any, before: int) -> int:
    return before + partition_rows(partition)


def _join(*samplers: Any) -> Any:
    return join_samplers(samplers)


def count_frame(cluster: Cluster, data: Any, schema: Schema, columns: Sequence[str] | None) -> Profile:
    """Count a Dask DataFrame under a schema, computing each partition once."""
    schema = schema if columns is None else schema.select(columns)
    given = {str(name) for name in data.columns}
    shown = frame_of(data, [name for name in schema.names if name in given])
    everything = shown.fields if columns is not None else all_fields(data)
    return _count_partitions(cluster, shown, schema, everything)


def all_fields(data: Any) -> tuple[Field, ...]:
    """All columns of a Dask DataFrame."""
    return tuple(open_source(_empty_frame(data)).fields)


def check_options(data: Any, options: FitOptions, columns: Sequence[str] | None) -> None:
    """Raise ``ValueError`` for names that a Dask DataFrame has not."""
    check_names("columns", columns or (), data)
    check_names("kinds", options.kinds, data)
    check_names("edges", options.edges, data)


def check_names(what: str, names: Any, data: Any) -> None:
    """Raise ``ValueError`` for the first of the names that a Dask DataFrame has not."""
    given = {str(name): None for name in data.columns}
    for name in names:
        if name not in given:
            raise UnknownColumnError(what, name, "the Dask DataFrame", given)


def _count_partitions(cluster: Cluster, frame: Frame, schema: Schema, shown: Sequence[Field]) -> Profile:
    """One task for each partition, which counts all of its columns: for each block it would be computed anew."""
    cluster.progress = Tally(cluster.settings.progress, (len(schema),), None)
    cluster.names = lambda place: f"{place.stage} partition {place.start} of the Dask DataFrame"
    slots = column_slots([Field(name, None) for name in schema.names], schema)
    whole = shared_whole(cluster, schema, slots)
    names = cluster.submit(Place("names", 1), tuple, frame.names)
    places = [Place("count", 0, number, number + 1) for number in range(len(frame.partitions))]
    inputs = [[partition, names, whole] for partition in frame.partitions]
    leaves = cluster.many(places, tasks.count_partition, inputs, cluster.settings.backend)
    packet = dict(cluster.results(cluster.start([sum_tree(cluster, 0, leaves, _add)])))[0]
    if packet.parts != ((0, len(frame.partitions)),):
        raise ValueError(f"the Dask DataFrame: not every partition was counted, only {packet.parts}")
    share = cluster.sent / max(cluster.read, 1)
    if share > SMALL_SHARE and len(leaves) > 1:
        each = cluster.read // len(leaves) / 1e6
        wanted = BYTES_PER_SLOT * sum(slots) / 1e6
        warnings.warn(
            f"results are {share:.1%} of the bytes that were counted, because the partitions of the Dask DataFrame are "
            f"small ({each:,.1f} MB each): repartition(partition_size='{wanted:,.0f}MB') makes it less than 1 %",
            stacklevel=2,
        )
    profile: Profile = packet.profile(schema)
    cluster.progress.done(profile.rows, len(profile))
    provenance = {"source": "the Dask DataFrame", "files": [], "cluster": cluster.described()}
    return replace(profile, seen=seen_types(shown)).with_provenance(**provenance)
