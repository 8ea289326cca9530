"""The cut that a run will make of a table, told before it begins: by the very functions that cut it then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa

from gpudrift.columns.schema import Schema
from gpudrift.columns.types import arrow_types, listed_texts
from gpudrift.execution.asked import check_names, selected_fields
from gpudrift.execution.cluster.files import cut_known, cut_sample, rows_only
from gpudrift.execution.cluster.graph import schema_pieces
from gpudrift.execution.cuts import (
    FILES_AT_ONCE,
    Block,
    Cut,
    block_columns,
    column_slots,
    cut_for_cluster,
    cut_for_threads,
    cut_parts,
)
from gpudrift.execution.forecast import TablePlan, additions, plan_table
from gpudrift.execution.sampling import fit_block, may_hold
from gpudrift.execution.settings import Settings
from gpudrift.execution.tasks import cut_pieces, runs_of
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import Field, Source
from gpudrift.windows.grouping import Grouping, GroupRequest

__all__ = ["planned"]


def planned(
    source: Source,
    schema: Schema | None,
    grouping: Grouping | GroupRequest,
    columns: Sequence[str] | None,
    settings: Settings,
    workers: int,
    *,
    fits: bool,
) -> TablePlan:
    """What counting a table would take.

    Parameters
    ----------
    source : Source
    schema : Schema, optional
        It is counted under; None where it is not known yet.
    grouping : Grouping or GroupRequest
        Windows and segments.
    columns : sequence of str, optional
    settings : Settings
    workers : int
        Of a cluster, whose threads are those of the settings; 0 for threads of this process.
    fits : bool
        Whether bins are chosen first.
    """
    if schema is None:
        known = None if fits else {one.name for one in source.fields}
        wanted = columns if known is None or columns is None else [name for name in columns if name in known]
        fields = tuple(selected_fields(source.fields, source.label, wanted, FitOptions()))
    else:
        if columns is not None:
            check_names(columns, schema.names, "columns", "the schema")
            schema = schema.select(columns)
        given = {one.name: one for one in source.fields}
        fields = tuple(given.get(name, Field(name, pa.null())) for name in schema.names)
    request = grouping if isinstance(grouping, GroupRequest) else GroupRequest()
    held = fits and source.columnar and may_hold(source, fields, request, settings.budget, settings.backend)
    make = _on_cluster if workers else _on_threads
    cut, tasks = make(source, fields, schema, grouping, columns, settings, fits=fits, held=held)
    return replace(plan_table(source, fields, cut, workers=workers, fits=fits, held=held), tasks=tasks)


def _on_cluster(
    source: Source,
    fields: tuple[Field, ...],
    schema: Schema | None,
    grouping: Grouping | GroupRequest,
    columns: Sequence[str] | None,
    settings: Settings,
    *,
    fits: bool,
    held: bool,
) -> tuple[Cut, int]:
    """The cut of the counting, and all tasks: the first ones find and open the files."""
    threads, gpus = settings.workers, settings.backend == "cuda"
    tasks = 2 + -(-len(source.files) // FILES_AT_ONCE) + (fits and source.columnar and columns is not None)
    slots = column_slots(fields, schema, coarse=bool(grouping))
    if held:
        cut = cut_for_cluster(source, fields, slots, threads, held=settings.budget, gpus=gpus)
        return cut, tasks + cut.tasks
    if fits and source.columnar:
        request = grouping if isinstance(grouping, GroupRequest) else GroupRequest()
        sample = cut_sample(source, fields, request, threads, gpus=gpus)
        names = [one.name for one in fields]
        counting = rows_only(source, names, request.columns, sum(slots), threads, settings.backend)
        cut = counting if request else sample.cut
        tasks += sample.tasks + bool(request)
    else:
        cut = cut_known(source, fields, slots, grouping.columns, threads, settings.backend)
        # Files that are read from front to back are sampled by one task; others take up what types it found.
        tasks += (
            2
            if fits
            else schema is not None and source.with_types(arrow_types(schema), listed_texts(schema)) is not source
        )
        for start, stop in cut.columns:
            pieces = 1 if schema is None else len(schema_pieces(schema.select(schema.names[start:stop])))
            tasks += pieces + (pieces > 1)
    return cut, tasks + cut.tasks + sum(additions(len(runs)) for runs in cut.runs)


def _on_threads(
    source: Source,
    fields: tuple[Field, ...],
    schema: Schema | None,
    grouping: Grouping | GroupRequest,
    columns: Sequence[str] | None,
    settings: Settings,
    *,
    fits: bool,
    held: bool,
) -> tuple[Cut, int]:
    """The cut of the counting, and all tasks: a run of a piece of the columns, or a block of them, is one."""
    slots = column_slots(fields, schema, coarse=bool(grouping))
    if not source.columnar or source.rows is None:
        size = sum(source.column_bytes(one.name) for one in fields)
        runs = tuple((at, at + 1) for at in range(len(source.parts)))
        cut = Cut(((0, len(fields)),), (size,), (sum(slots),), (runs,))
        return cut, cut.tasks * (1 + fits)
    if held:
        keys = tuple(one for one in source.fields if one.name in grouping.columns)
        rest = [(one, own) for one, own in zip(fields, slots, strict=True) if one.name not in grouping.columns]
        cut = cut_for_threads(source, [one for one, _ in rest], [own for _, own in rest], settings.workers, held=True)
        if keys:
            size = sum(source.column_bytes(one.name) for one in keys)
            own = sum(slots) - sum(cut.slots)
            everything = ((0, len(source.parts)),)
            cut = Cut((*cut.columns, (0, 0)), (*cut.bytes, size), (*cut.slots, own), (*cut.runs, everything))
        return cut, cut.tasks
    cut = _counted_by_threads(source, fields, schema, grouping, settings)
    if not fits:
        return cut, cut.tasks
    blocks = block_columns(source, fields, settings.workers, settings.budget)
    if grouping:
        return cut, cut.tasks + _sampled_by_threads(source, blocks, settings)
    short = [one for block in blocks if block.bytes <= settings.budget for one in block.fields]
    tasks = len(block_columns(source, short, settings.workers, settings.budget))
    for block in blocks:
        if block.bytes > settings.budget:
            tasks += _sampled_by_threads(source, [block], settings)
            tasks += _counted_by_threads(source, block.fields, None, grouping, settings).tasks
    return cut, tasks


def _sampled_by_threads(source: Source, blocks: Sequence[Block], settings: Settings) -> int:
    """Tasks that read blocks of columns for the sample."""
    whole = len(blocks) >= settings.workers
    return sum(1 if whole else len(cut_parts(source, block)) for block in blocks)


def _counted_by_threads(
    source: Source,
    fields: Sequence[Field],
    schema: Schema | None,
    grouping: Grouping | GroupRequest,
    settings: Settings,
) -> Cut:
    """The pieces of the columns and the runs of the rows that are counted."""
    slots = dict(zip((one.name for one in fields), column_slots(fields, schema, coarse=bool(grouping)), strict=True))
    # Which columns hold texts is known without their values, and nothing else of a schema decides the cut.
    schema = schema or fit_block(fields, {}, FitOptions(coarse=bool(grouping)))
    runs = runs_of(source.joined(source.parts))
    pieces = cut_pieces(source, runs, schema, grouping, settings.backend, settings.workers)
    read = [grouping.columns if piece.keys else piece.schema.names for piece in pieces]
    ends = [sum(len(piece.schema) for piece in pieces[:at]) for at in range(len(pieces) + 1)]
    spans = tuple((run[0].index, run[-1].index + 1) for run in runs)
    return Cut(
        tuple(pairwise(ends)),
        tuple(sum(map(source.column_bytes, names)) for names in read),
        tuple(sum(slots[name] for name in piece.schema.names) for piece in pieces),
        (spans,) * len(pieces),
    )
