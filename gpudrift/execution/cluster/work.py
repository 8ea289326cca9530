"""What the tasks on a cluster do: small arguments in, small results out. Each reads its rows once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from gpudrift.backends import load_state
from gpudrift.columns.device import host_batch
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.packets import Packet
from gpudrift.errors import SourceChangedError
from gpudrift.execution.asked import asked_windows, segment_columns
from gpudrift.execution.cuts import Block, obstacle
from gpudrift.execution.reading import (
    Reading,
    columns_at_once,
    partition_batches,
    read_ahead,
    readable_by,
    sample_stream,
    typed_again,
)
from gpudrift.execution.sampling import fit_block, fit_held_block, sample_parts
from gpudrift.execution.tasks import Fitted, HeldGroups, count_run, gathered
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sample, Sampled, StreamSampler, as_batches, chunks_of
from gpudrift.sources import Field, Source
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import WHOLE, Grouping, GroupRequest, Segment
from gpudrift.windows.numbering import GroupNumbering, TooManyGroupsError
from gpudrift.windows.segments import frequent_segments, segment_tally


@dataclass(frozen=True, repr=False)
class Opened:
    """A source as the workers of a cluster share it, and the columns that were asked for, all of them in order."""

    source: Source
    fields: tuple[Field, ...]

    def checked(self, fingerprint: str) -> Opened:
        """The same, if its files are still those that were found first: with its worker it is lost, and opened anew."""
        if self.source.fingerprint != fingerprint:
            raise SourceChangedError(
                f"{self.source.label}: files were added, removed or changed after the run began; "
                "let their writer finish and run again"
            )
        return self


def with_fields(opened: Opened, names: Sequence[str]) -> Opened:
    """The same with some of its columns."""
    wanted = set(names)
    return replace(opened, fields=tuple(one for one in opened.fields if one.name in wanted))


def retyped(opened: Opened, source: Source) -> Opened:
    """The same with other types."""
    return replace(opened, source=source)


# --- sampling and fitting --------------------------------------------------------------------------------------------


def sample_run(
    opened: Opened,
    parts: tuple[int, int],
    columns: tuple[int, int],
    sample: Sample,
    fingerprint: str,
    backend: str = "numba",
) -> tuple[list[pa.RecordBatch], dict[str, str]]:
    """The sampled rows of a run as batches of one column and type, and the columns that cannot be read."""
    fields = opened.fields[slice(*columns)]
    names = [one.name for one in fields if obstacle(one) is None]
    source = readable_by(opened.checked(fingerprint).source, backend)
    sampled, broken = sample_parts(source, source.parts[slice(*parts)], names, sample)
    return as_batches(sampled), broken


def sample_segments(
    opened: Opened, parts: tuple[int, int], names: Sequence[str], sample: Sample, fingerprint: str
) -> tuple[list[pa.RecordBatch], Counter[Segment]]:
    """The sampled rows of a run's columns of segments, as :func:`sample_run` has them, and a tally of the segments."""
    source = opened.checked(fingerprint).source
    columns = segment_columns(source.fields, source.label, Grouping(by=tuple(names)))
    sampled, broken = sample_parts(source, source.parts[slice(*parts)], names, sample)
    if broken:
        name = min(broken)
        raise ValueError(f"segments: column {name!r} of {source.label} cannot be read: {broken[name]}")
    return as_batches(sampled), segment_tally(columns, chunks_of(sampled, names))


def fit_samples(opened: Opened, columns: tuple[int, int], options: FitOptions, *samples: Any) -> Fitted:
    """What a block of the columns is counted under, from the samples of all runs in order."""
    return fit_batches(opened.fields[slice(*columns)], samples, options), WHOLE


def fit_batches(
    fields: Sequence[Field], samples: Iterable[tuple[Sequence[pa.RecordBatch], dict[str, str]]], options: FitOptions
) -> Schema:
    """Fit some columns from the samples of all runs in order."""
    sampled: Sampled = {one.name: [] for one in fields}
    broken: dict[str, str] = {}
    for batches, reasons in samples:
        broken = reasons | broken
        for batch in batches:
            sampled[batch.schema.names[0]].append((batch.column(0), batch.schema.field(0)))
    return fit_block(fields, sampled, options, broken)


def fit_stream(
    opened: Opened, fields: Sequence[Field], request: GroupRequest, options: FitOptions
) -> tuple[Source, Fitted, int]:
    """What files that are read from front to back are counted under; the source with the types it needs, and its rows.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there.
    """
    read = opened.source.fields if request else fields
    names = [one.name for one in read if obstacle(one) is None]
    source, sampler, _ = sample_stream(opened.source, names, 0)
    by = segment_columns(source.fields, source.label, request)
    windows = asked_windows(source.fields, source.label, request)
    return source, fit_sampler(sampler, typed_again(fields, source), by, windows, request, options), sampler.rows


def fit_sampler(
    sampler: StreamSampler,
    fields: Sequence[Field],
    by: Sequence[Column],
    windows: Windows | None,
    request: GroupRequest,
    options: FitOptions,
) -> Fitted:
    """Fit the columns of a table and choose its segments, both from its sampler."""
    sampled = sampler.sampled([column.name for column in by])
    segments = frequent_segments(by, chunks_of(sampled, list(sampled)), request.segments) if by else ()
    schema = fit_block(fields, sampler.sampled([one.name for one in fields]), options)
    return schema, Grouping(request.time, windows, request.by, segments)


def fit_and_count(
    opened: Opened,
    columns: tuple[int, int],
    sample: Sample,
    request: GroupRequest,
    options: FitOptions,
    backend: str,
    fingerprint: str,
) -> tuple[Schema, Packet, Grouping]:
    """Fit and count a block of columns whose rows fit into memory, reading them once, some columns at a time.

    The columns of the grouping are read first, by every task: they are few, and say the same to each.
    """
    source, fields = readable_by(opened.checked(fingerprint).source, backend), opened.fields[slice(*columns)]
    sizes = [source.column_bytes(one.name) for one in fields]
    blocks = [Block(fields[start:stop], 0) for start, stop in columns_at_once(source, source.parts, sizes)]
    parts, reading = source.joined(source.parts), Reading()
    pieces = [block.readable for block in blocks] + [list(request.columns)] * bool(request)
    keys = len(blocks)
    steps = [(part, at) for at in ([keys] * bool(request) + list(range(keys))) for part in parts]
    states = []
    with read_ahead(source, pieces, steps) as ahead:

        def batches(at: int) -> Iterator[pa.RecordBatch]:
            return (batch for part in parts for batch in reading(ahead.batches(part, at)))

        read = [(part, [host_batch(one) for one in reading(ahead.batches(part, keys))]) for part in parts if request]
        groups = HeldGroups(source, request, sample, read, len(source.fields))
        read.clear()
        for at, block in enumerate(blocks):
            held, schema, _ = fit_held_block(source, block, sample, options, batches(at))
            states.append(groups.count(held, schema, backend))
    schema = Schema.concatenate([state.schema for state in states])
    groups.numbering.limit(len(schema), schema.slots)
    profile = gathered(schema, groups.grouping, groups.numbering, [states])
    everything = ((0, len(source.parts)),) if source.parts else ()
    return schema, Packet.of(profile, everything, reading.bytes), groups.grouping


# --- counting --------------------------------------------------------------------------------------------------------


def count_parts(opened: Opened, fitted: Fitted, parts: tuple[int, int], backend: str, fingerprint: str) -> Packet:
    """Count the columns of a schema in some parts of a table."""
    source, reading = readable_by(opened.checked(fingerprint).source, backend), Reading()
    profile = count_run(source, source.parts[slice(*parts)], fitted, backend, reading)
    return Packet.of(profile, (parts,), reading.bytes)


def count_partition(
    partition: Any, names: Sequence[str], fitted: Fitted, span: tuple[int, int], by: Sequence[Column], backend: str
) -> Packet:
    """Count all columns of a partition of a Dask DataFrame."""
    schema, grouping = fitted
    reading, numbering = Reading(), GroupNumbering(grouping, by, schema)
    state = load_state(backend)(schema, grouped=bool(grouping))
    try:
        for batch in reading(partition_batches(partition, names, span[0], on_gpu=backend == "cuda")):
            state.add(batch, numbering.of(batch) if grouping else None, numbering.known)
        state.settle()
    except ValueError as error:
        if isinstance(error, pa.ArrowException | TooManyGroupsError) or "the Dask DataFrame" in str(error):
            raise
        raise ValueError(f"partition {span[0]} of the Dask DataFrame: {error}") from None
    finally:
        state.pause()
    return Packet.of(gathered(schema, grouping, numbering, [[state]]), (span,), reading.bytes)


def thin_partition(
    partition: Any, names: Sequence[str], before: int, span: tuple[int, int], columns: int, backend: str = "numba"
) -> StreamSampler:
    """What may be sampled of a partition that begins after so many rows, of a table with so many columns."""
    sampler = StreamSampler(columns, before)
    for batch in partition_batches(partition, names, span[0], on_gpu=backend == "cuda"):
        sampler.add(batch)
    return sampler


def join_samplers(*samplers: StreamSampler) -> StreamSampler:
    """Samplers of consecutive rows as one."""
    first = StreamSampler(samplers[0].columns)
    for sampler in samplers:
        first.join(sampler)
    return first


def rows_after(partition: Any, before: int) -> int:
    """Rows before a partition, and its own."""
    return before + len(partition)
