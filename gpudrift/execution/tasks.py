"""What one task does: read some columns of some parts, and sample, fit or count them.

Nothing here knows where it runs. Threads of this process call these functions, and so do the workers of a cluster;
they take sources, names and schemas, and return samples, columns, profiles or packets. Each reads its rows once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pyarrow as pa

from gpudrift.backends import load_backend
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.packed import Packet
from gpudrift.counts.profiles import Profile, total
from gpudrift.execution.cuts import Block, obstacle
from gpudrift.execution.reading import (
    READING_ERRORS,
    Opened,
    Reading,
    _at_once,
    counted_names,
    partition_batches,
    pieces_of,
    read_parts,
    readable_by,
    unreadable_columns,
)
from gpudrift.fitting.columns import FitOptions, fit_column
from gpudrift.fitting.samples import (
    Sample,
    Sampled,
    StreamSampler,
    as_batches,
    take_sample,
)
from gpudrift.sources import CsvTypesChanged, Field, Part, Source

T = TypeVar("T")
Count = Callable[[Iterator[pa.RecordBatch], Schema], T]


# --- sampling and fitting --------------------------------------------------------------------------------------------


def sample_parts(
    source: Source, parts: Sequence[Part], names: Sequence[str], sample: Sample
) -> tuple[Sampled, dict[str, str]]:
    """Read the sampled rows of some consecutive parts; those without any are not read.

    Returns
    -------
    Sampled
    dict of column name to reason
        Columns that cannot be read; nothing of them is sampled.
    """
    try:
        return _sampled(source, parts, names, sample), {}
    except READING_ERRORS as error:
        broken = unreadable_columns(source, parts, names, error)
        if not broken:
            raise
        return _sampled(source, parts, [name for name in names if name not in broken], sample), broken


def _sampled(source: Source, parts: Sequence[Part], names: Sequence[str], sample: Sample) -> Sampled:
    sampled: Sampled = {name: [] for name in names}
    start = sum(part.rows or 0 for part in source.parts[: parts[0].index]) if parts else 0
    for part in parts:
        stop = start + (part.rows or 0)
        if sample.positions(start, stop).size:
            for batch in source.batches(part, names):
                take_sample(batch, sample.positions(start, start + batch.num_rows), sampled)
                start += batch.num_rows
        start = stop
    return sampled


def fit_block(
    fields: Iterable[Field], sampled: Sampled, options: FitOptions, broken: Mapping[str, str] | None = None
) -> tuple[Column, ...]:
    """Fit some columns from their samples; what cannot be read is skipped with its reason."""
    columns = []
    for one in fields:
        why = obstacle(one) or (broken or {}).get(one.name)
        if why is not None:
            columns.append(Column(one.name, "skipped", "unsupported", reason=why))
        else:
            kind = pa.null() if one.type is None else one.type
            columns.append(fit_column(one.name, kind, sampled.get(one.name, []), options))
    return tuple(columns)


# --- counting --------------------------------------------------------------------------------------------------------


def fit_held_block(
    source: Source,
    block: Block,
    sample: Sample,
    options: FitOptions,
    count: Count[T],
    reading: Iterable[pa.RecordBatch] | None = None,
) -> tuple[T, Schema, dict[str, str]]:
    """One block of the reference: read once, held, sampled, fitted, counted; and what could not be read, and why.

    ``reading`` are its batches, if somebody reads them already.
    """
    readable, broken = block.readable, {}
    try:
        batches = list(read_parts(source, source.parts, readable) if reading is None else reading)
    except READING_ERRORS as error:
        broken = unreadable_columns(source, source.parts, readable, error)
        readable = [name for name in readable if name not in broken]
        batches = list(read_parts(source, source.parts, readable))
    sampled: Sampled = {name: [] for name in readable}
    start = 0
    for batch in batches:
        take_sample(batch, sample.positions(start, start + batch.num_rows), sampled)
        start += batch.num_rows
    schema = Schema(fit_block(block.fields, sampled, options, broken))
    return count(iter(batches), schema), schema, broken


def count_run(
    source: Source,
    run: Sequence[Part],
    schema: Schema,
    count: Count[T],
    count_now: Callable[[Iterator[pa.RecordBatch], Schema], Profile],
    reading: Iterator[pa.RecordBatch] | None = None,
) -> tuple[T | Profile, dict[str, str]]:
    """Count some columns of some parts; a column that cannot be read is skipped, with its reason.

    ``count`` is told first, of ``reading`` if somebody reads already; ``count_now`` where that failed and the readable
    columns are counted again.
    """
    names = counted_names(schema)
    try:
        return count(read_parts(source, run, names) if reading is None else reading, schema), {}
    except READING_ERRORS as error:
        broken = unreadable_columns(source, run, names, error)
        if not broken:
            raise
        rest = [name for name in names if name not in broken]
        profile = count_now(read_parts(source, run, rest), schema)
        return profile.skip(broken, dict.fromkeys(broken, "unreadable")), broken


# --- tasks on a cluster: small arguments in, small results out ------------------------------------------------------


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
    return Schema(fit_block(fields, sampled, options, broken))


def fit_and_count(
    opened: Opened, columns: tuple[int, int], sample: Sample, options: FitOptions, backend: str, fingerprint: str
) -> tuple[Schema, Packet]:
    """Fit and count a block of columns whose rows fit into memory, reading them once, some columns at a time."""
    source, fields = readable_by(opened.checked(fingerprint).source, backend), opened.fields[slice(*columns)]
    sizes = [source.column_bytes(one.name) for one in fields]
    blocks = [Block(fields[start:stop], 0) for start, stop in _at_once(source, source.parts, sizes)]
    reading, load = Reading(), load_backend(backend)
    with pieces_of(source, source.parts, [block.readable for block in blocks]) as ahead:
        done = [
            fit_held_block(
                source,
                block,
                sample,
                options,
                lambda batches, schema: load(reading(batches), schema),
                ahead.batches(number),
            )
            for number, block in enumerate(blocks)
        ]
    schema = Schema.concatenate([schema for _, schema, _ in done])
    profile = Profile.concatenate([profile for profile, _, _ in done])
    everything = ((0, len(source.parts)),) if source.parts else ()
    return schema, Packet.of(profile, everything, reading.bytes, schema.digest)


def count_parts(opened: Opened, schema: Schema, parts: tuple[int, int], backend: str, fingerprint: str) -> Packet:
    """Count the columns of a schema in some parts of a table."""
    source, reading, load = readable_by(opened.checked(fingerprint).source, backend), Reading(), load_backend(backend)

    def count(batches: Iterable[pa.RecordBatch], schema: Schema) -> Profile:
        return load(reading(batches), schema)

    run = source.parts[slice(*parts)]
    if not source.columnar:
        profile = total((count_text(source, part, schema, count) for part in run), schema)
        return Packet.of(profile, (parts,), reading.bytes, schema.digest)
    widest = max((part.rows or 0 for part in run), default=0) / max(source.rows or 1, 1)
    sizes = [int(source.column_bytes(name) * widest) for name in schema.names]
    pieces = [schema.select(schema.names[start:stop]) for start, stop in _at_once(source, run, sizes)]
    with pieces_of(source, run, [counted_names(piece) for piece in pieces]) as ahead:
        counted = [
            count_run(source, run, piece, count, count, ahead.batches(number))[0] for number, piece in enumerate(pieces)
        ]
    profile = replace(Profile.concatenate(counted), schema=schema)
    return Packet.of(profile, (parts,), reading.bytes, schema.digest)


def count_text(
    source: Source,
    part: Part,
    schema: Schema,
    count: Count[Profile],
    seen: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] = iter,
) -> Profile:
    """Count a file that is read from front to back; where a value does not fit, again with a wider type.

    Each file begins with the types that the source has, so that it does not matter which ones came before.
    """
    while True:
        try:
            return count(seen(source.batches(part, list(schema.names))), schema)
        except CsvTypesChanged as changed:
            source = changed.source


# --- the partitions of a Dask DataFrame ------------------------------------------------------------------------------


def fit_sampler(sampler: StreamSampler, fields: Sequence[Field], options: FitOptions) -> Schema:
    """Fit the columns of a table from its sampler."""
    return Schema(fit_block(fields, sampler.sampled([one.name for one in fields]), options))


def count_partition(
    partition: Any, names: Sequence[str], schema: Schema, span: tuple[int, int], backend: str
) -> Packet:
    """Count all columns of a partition."""
    reading = Reading()
    batches = partition_batches(partition, names, span[0], on_gpu=backend == "cuda")
    profile = load_backend(backend)(reading(batches), schema)
    return Packet.of(profile, (span,), reading.bytes, schema.digest)
