"""From the rows of a table to its bins: read the sampled ones, and fit columns to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from gpudrift.columns.schema import Column, Schema
from gpudrift.execution.cuts import Block, obstacle
from gpudrift.execution.reading import READING_ERRORS, reading_ahead, unreadable_columns
from gpudrift.fitting.columns import FitOptions, fit_column
from gpudrift.fitting.samples import Sample, Sampled, take_sample
from gpudrift.sources import Field, Part, Source
from gpudrift.windows.grouping import GroupRequest

__all__ = ["fit_block", "fit_held_block", "sample_parts"]


MOST_HELD_ROWS = 1 << 27
"""Of which the groups are held: half a gigabyte."""


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
    held: list[tuple[Part, int]] = []
    for part in parts:
        stop = start + (part.rows or 0)
        if sample.positions(start, stop).size:
            held.append((part, start))
        start = stop
    with reading_ahead(source, [part for part, _ in held], names) as read:
        for part, first in held:
            sample_batches(read(part, names), sample, sampled, first)
    return sampled


def sample_batches(batches: Iterable[pa.RecordBatch], sample: Sample, into: Sampled, start: int = 0) -> None:
    """Add the sampled rows of consecutive batches, from row ``start`` on, to each column's chunks."""
    for batch in batches:
        take_sample(batch, sample.positions(start, start + batch.num_rows), into)
        start += batch.num_rows


def fit_block(
    fields: Iterable[Field], sampled: Sampled, options: FitOptions, broken: Mapping[str, str] | None = None
) -> Schema:
    """Fit some columns from their samples; what cannot be read is skipped with its reason."""
    columns = []
    for one in fields:
        why = obstacle(one) or (broken or {}).get(one.name)
        if why is not None:
            columns.append(Column(one.name, "skipped", "unsupported", reason=why))
        else:
            kind = pa.null() if one.type is None else one.type
            columns.append(fit_column(one.name, kind, sampled.get(one.name, []), options))
    return Schema(tuple(columns))


def may_hold(source: Source, fields: Sequence[Field], request: GroupRequest, budget: int, backend: str) -> bool:
    """Whether a reference is read once: each of its columns can be held, and the group of each row.

    Rows are put in the order of their groups on a device batch by batch, so there no more than a batch is held.
    """
    read = [*fields, *(one for one in source.fields if one.name in request.columns)]
    small = max((source.column_bytes(one.name) for one in read if obstacle(one) is None), default=0) <= budget
    return small and not (request and (backend == "cuda" or (source.rows or 0) > MOST_HELD_ROWS))


def fit_held_block(
    source: Source,
    block: Block,
    sample: Sample,
    options: FitOptions,
    reading: Iterable[pa.RecordBatch] | None = None,
) -> tuple[list[pa.RecordBatch], Schema, dict[str, str]]:
    """One block of the reference: read once, held, sampled, fitted; and what could not be read, and why.

    ``reading`` are its batches, if somebody reads them already.
    """
    readable, broken = block.readable, {}
    try:
        batches = list(_all_parts(source, readable) if reading is None else reading)
    except READING_ERRORS as error:
        broken = unreadable_columns(source, source.parts, readable, error)
        readable = [name for name in readable if name not in broken]
        batches = list(_all_parts(source, readable))
    sampled: Sampled = {name: [] for name in readable}
    sample_batches(batches, sample, sampled)
    return batches, fit_block(block.fields, sampled, options, broken), broken


def _all_parts(source: Source, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    parts = source.joined(source.parts)
    with reading_ahead(source, parts, names) as read:
        for part in parts:
            yield from read(part, names)
