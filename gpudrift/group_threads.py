"""Windows and segments in one process: runs of rows follow each other, the columns of each are counted on all threads.

A piece of the columns has its counters, and goes through the runs one after the other; which thread counts it next does
not matter. Pieces advance together, so that the groups of few rows are held at a time. With fewer pieces than threads
can take, the table is cut into stripes of rows with counters of their own, which are added in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from gpudrift.backends import load_groups
from gpudrift.backends.grouped import GroupState
from gpudrift.fitting import FitOptions, Sample, sample_blocks
from gpudrift.group_tasks import (
    PartGroups,
    Piece,
    asked_windows,
    check_windows,
    count_groups_of_stream,
    count_piece,
    cut_pieces,
    fit_groups_stream,
    recounted,
    runs_of,
    segment_columns,
    together,
)
from gpudrift.grouping import GroupNumbering, GroupRequest, frequent_segments
from gpudrift.groups import GroupedProfile, Grouping
from gpudrift.planning import Progress, obstacle
from gpudrift.schema import Schema
from gpudrift.sources import Part, Source, open_source
from gpudrift.tasks import READING_ERRORS
from gpudrift.threads import (
    Settings,
    arrow_types,
    fit_source,
    placed,
    seen_types,
    selected_fields,
)

__all__ = ["count_groups_source", "fit_grouping", "profile_groups_source", "with_readable"]


def profile_groups_source(
    source: Source, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None, settings: Settings
) -> GroupedProfile:
    """Fit a coarse schema to a table, freeze its segments, and count its windows and segments.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there, or nothing could be read.
    """
    options = replace(options, coarse=True)
    fields = selected_fields(source, columns, options)
    asked_windows(source.fields, source.label, request)
    segment_columns(source, request)
    if not source.rereadable:
        source = _held(source)
    if source.columnar and source.rows is not None:
        grouping = fit_grouping(source, request)
        schema = fit_source(source, options, columns, settings)
    else:
        source, schema, grouping, _ = fit_groups_stream(source, fields, request, options)
    return count_groups_source(source, schema, grouping, None if columns is None else schema.names, settings)


def _held(source: Source) -> Source:
    """The same rows in memory: they can be read only once."""
    readable = [one for one in source.fields if obstacle(one) is None]
    batches = [batch for part in source.parts for batch in source.batches(part, [one.name for one in readable])]
    schema = batches[0].schema if batches else pa.schema([(one.name, one.type) for one in readable])
    return open_source(pa.Table.from_batches(batches, schema))


def fit_grouping(source: Source, request: GroupRequest) -> Grouping:
    """The windows and segments that a request means for a table whose columns can be read on their own.

    Segments are the most frequent of the sample that bins are chosen from; only their columns are read.
    """
    windows, by = asked_windows(source.fields, source.label, request), segment_columns(source, request)
    segments: tuple[Any, ...] = ()
    if by:
        sample = sample_blocks(source.rows or 0, len(source.fields))
        segments = frequent_segments(by, _sampled(source, request.by, sample), request.segments)
    return Grouping(request.time, windows, request.by, segments)


def _sampled(source: Source, names: Sequence[str], sample: Sample) -> list[list[pa.Array]]:
    """The sampled rows of some columns, side by side; nulls where a file lacks one."""
    chunks: list[list[pa.Array]] = [[] for _ in names]
    start = 0
    for part in source.parts:
        stop = start + (part.rows or 0)
        if sample.positions(start, stop).size:
            for batch in source.batches(part, names):
                rows = pa.array(sample.positions(start, start + batch.num_rows))
                for own, name in zip(chunks, names, strict=True):
                    place = batch.schema.get_field_index(name)
                    own.append(pa.nulls(len(rows)) if place < 0 else batch.column(place).take(rows))
                start += batch.num_rows
        start = stop
    return chunks


def count_groups_source(
    source: Source, schema: Schema, grouping: Grouping, columns: Sequence[str] | None, settings: Settings
) -> GroupedProfile:
    """Count the windows and segments of a table under a schema, reading it once.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there, rows were lost, or there are more groups than memory shall hold.
    """
    if columns is not None:
        unknown = [name for name in columns if name not in schema]
        if unknown:
            raise ValueError(f"columns: no column {unknown[0]!r} in the schema")
        schema = schema.select(columns)
    source, settings = placed(source.with_types(arrow_types(schema)), settings)
    check_windows(source.fields, source.label, grouping)
    if source.columnar and source.rows is not None:
        profile = _Threads(source, schema, grouping, settings).count()
        if int(profile.rows.sum()) != source.rows:
            raise ValueError(
                f"{source.label}: {int(profile.rows.sum())} rows were counted, its files hold {source.rows}"
            )
    else:
        profile = count_groups_of_stream(source, source.parts, schema, grouping, settings.backend)
    return with_readable(profile, source, columns)


def with_readable(profile: GroupedProfile, source: Source, columns: Sequence[str] | None) -> GroupedProfile:
    """The profile with what its source says of its columns: their types, and which of them cannot be read."""
    shown = source.fields if columns is None else [one for one in source.fields if one.name in set(columns)]
    reasons = {one.name: one.problem for one in shown if one.problem is not None and one.name in profile.schema}
    if reasons:
        profile = profile.skip(reasons, dict.fromkeys(reasons, "unreadable"))
    return replace(profile, seen=seen_types(shown))


@dataclass
class _Chain:
    """A piece of the columns on its way through a stripe of rows."""

    piece: Piece
    runs: list[list[Part]]
    state: GroupState
    done: int = 0


class _Threads:
    """One count: chains of tasks, each begun when the one before it has ended."""

    def __init__(self, source: Source, schema: Schema, grouping: Grouping, settings: Settings) -> None:
        self.source, self.schema, self.grouping, self.settings = source, schema, grouping, settings
        self.numbering = GroupNumbering(grouping, segment_columns(source, grouping), schema)
        parts = list(source.joined(source.parts))
        runs = list(runs_of(parts))
        rows = max((sum(part.rows or 0 for part in run) for run in runs), default=0)
        pieces = cut_pieces(source, schema, grouping, rows, settings.backend)
        # Some pieces more than threads, so that none waits long for the last one.
        stripes = max(1, min(len(runs), -(-2 * settings.workers // len(pieces)))) if settings.workers > 1 else 1
        self.groups = PartGroups(source, self.numbering, len(pieces))
        make = load_groups(settings.backend)
        self.stripes = [
            [_Chain(piece, own, make(piece.schema)) for piece in pieces]
            for own in (runs[at * len(runs) // stripes : (at + 1) * len(runs) // stripes] for at in range(stripes))
        ]
        self.values = 0

    def count(self) -> GroupedProfile:
        """Run everything."""
        with ThreadPoolExecutor(self.settings.workers, "gpudrift") as pool:
            waiting: dict[Future[None], _Chain] = {}

            def begin(chain: _Chain) -> None:
                if chain.done < len(chain.runs):
                    waiting[pool.submit(partial(self._step, chain))] = chain

            try:
                for stripe in self.stripes:
                    for chain in stripe:
                        begin(chain)
                while waiting:
                    finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in finished:
                        chain = waiting.pop(future)
                        future.result()
                        self._tell(chain)
                        begin(chain)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            states = [[chain.state for chain in stripe] for stripe in self.stripes]
            self.stripes = []
            return together(self.schema, self.grouping, self.numbering, states, pool.map)

    def _step(self, chain: _Chain) -> None:
        run = chain.runs[chain.done]
        try:
            count_piece(self.source, run, chain.piece, self.groups, chain.state)
        except READING_ERRORS as error:
            parts = [part for one in chain.runs[: chain.done + 1] for part in one]
            chain.state = recounted(self.source, parts, chain.piece, self.groups, self.settings.backend, error)
        chain.done += 1
        if chain.done == len(chain.runs):
            chain.state.settle()  # others may have the memory of the device that it had

    def _tell(self, chain: _Chain) -> None:
        rows = sum(part.rows or 0 for part in chain.runs[chain.done - 1])
        self.values += rows * len(chain.piece.schema)
        if self.settings.progress is not None:
            self.settings.progress(Progress(self.values, (self.source.rows or 0) * len(self.schema)))
