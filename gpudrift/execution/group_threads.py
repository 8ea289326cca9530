"""Windows and segments in one process: runs of rows follow each other, the columns of each are counted on all threads.

A piece of the columns has its counters, and goes through the runs one after the other; which thread counts it next does
not matter. Pieces advance together, so that the groups of few rows are held at a time. With fewer pieces than threads
can take, the table is cut into stripes of rows with counters of their own, which are added in the end.

A baseline whose columns fit into memory is read once instead: the columns that say the groups first, then a block of
the others at a time, which is held, sampled, fitted and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_groups
from gpudrift.backends.counters import GroupState
from gpudrift.columns.conversion import arrow_types
from gpudrift.columns.device import host_batch
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.asked import seen_types, selected_fields
from gpudrift.execution.cuts import Block, block_columns, obstacle
from gpudrift.execution.group_tasks import (
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
    said_of,
    segment_columns,
    together,
)
from gpudrift.execution.reading import READING_ERRORS
from gpudrift.execution.settings import Progress, Settings
from gpudrift.execution.tasks import fit_held_block
from gpudrift.execution.threads import fit_source, placed
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sample, sample_blocks
from gpudrift.sources import Field, Part, Source, open_source, width_of
from gpudrift.windows.grouping import Grouping, GroupRequest, Segment
from gpudrift.windows.numbering import GroupNumbering
from gpudrift.windows.segments import frequent_segments

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
        source = _in_memory(source)
    if source.columnar and source.rows is not None:
        held = _Held.of(source, fields, request, options, settings)
        if held is not None:
            return with_readable(_accounted(held.profile(), source), source, columns)
        grouping = fit_grouping(source, request)
        schema = fit_source(source, options, columns, settings)
    else:
        source, schema, grouping, _ = fit_groups_stream(source, fields, request, options)
    return count_groups_source(source, schema, grouping, None if columns is None else schema.names, settings)


LEAST_SLOTS = 6
"""Of a column."""


class _Held:
    """A table of which each column fits into memory: read once, sampled, fitted and counted a block at a time.

    The columns of the grouping come first, all of their rows: so the group of every row is known to each block.
    """

    most_rows = 1 << 27
    """Of which the groups are held: half a gigabyte."""

    def __init__(
        self, source: Source, fields: Sequence[Field], request: GroupRequest, options: FitOptions, settings: Settings
    ) -> None:
        self.source, self.fields, self.options, self.settings = source, fields, options, settings
        self.sample = sample_blocks(source.rows or 0, len(source.fields))
        self.request, self.by = request, segment_columns(source, request)
        self.keys = list(dict.fromkeys(([] if request.time is None else [request.time]) + list(request.by)))

    @classmethod
    def of(
        cls, source: Source, fields: Sequence[Field], request: GroupRequest, options: FitOptions, settings: Settings
    ) -> _Held | None:
        """The same, if memory allows it; None where the table has to be read twice."""
        sizes = [source.column_bytes(one.name) for one in source.fields if obstacle(one) is None]
        small = max(sizes, default=0) <= settings.budget and (source.rows or 0) <= cls.most_rows
        return cls(source, fields, request, options, settings) if small and settings.backend != "cuda" else None

    def profile(self) -> GroupedProfile:
        """Read, fit and count."""
        given = {one.name: one for one in self.source.fields}
        asked = {one.name for one in self.fields}
        keys = Block(tuple(given[name] for name in self.keys if name in asked), 0)
        rest = [one for one in self.fields if one.name not in self.keys]
        blocks = block_columns(self.source, rest, self.settings.workers, self.settings.budget)
        tally, total = 0, (self.source.rows or 0) * len(self.fields)
        # Blocks with texts take longest: they begin first.
        blocks.sort(key=lambda block: -sum(width_of(one.type) == 0 for one in block.fields))
        with ThreadPoolExecutor(self.settings.workers, "gpudrift") as pool:
            batches, sizes = self._keys(pool)
            tasks = [pool.submit(self._block, keys, sizes, batches)]
            del batches  # of the columns of the grouping: let go as soon as they are counted
            tasks += [pool.submit(self._block, block, sizes) for block in blocks]
            try:
                for done in as_completed(tasks):
                    tally += (self.source.rows or 0) * len(done.result()[1])
                    if self.settings.progress is not None:
                        self.settings.progress(Progress(tally, total))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            counted = [task.result() for task in tasks]
            columns = {column.name: column for _, schema, _ in counted for column in schema.columns}
            schema = Schema(tuple(columns[one.name] for one in self.fields))
            self.numbering.limit(len(schema), schema.slots)
            states = [state for state, _, _ in counted]
            return together(schema, self.grouping, self.numbering, [states], pool.map)

    def _keys(self, pool: ThreadPoolExecutor) -> tuple[list[pa.RecordBatch], list[npt.NDArray[np.int64]]]:
        """Find the group of every row; the batches of the columns that say so, and the rows of each group in each."""
        windows = asked_windows(self.source.fields, self.source.label, self.request)

        def read(part: Part) -> list[pa.RecordBatch]:
            return [host_batch(batch) for batch in self.source.batches(part, self.keys)]

        parts = list(pool.map(read, self.source.parts))
        batches = [batch for own in parts for batch in own]
        segments: tuple[Segment, ...] = ()
        if self.by:
            chunks = _sampled_of(batches, self.request.by, self.sample)
            segments = frequent_segments(self.by, chunks, self.request.segments)
        self.grouping = Grouping(self.request.time, windows, self.request.by, segments)
        self.numbering = GroupNumbering(self.grouping, self.by, Schema(()))
        # Exactly it is known when all columns are fitted; none has fewer slots than these.
        self.numbering.limit(len(self.fields), LEAST_SLOTS * len(self.fields))

        self.starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self.groups = np.empty(self.starts[-1], np.int32)
        labels = [part for part, own in zip(self.source.parts, parts, strict=True) for _ in own]

        def number(part: Part, at: int) -> npt.NDArray[np.int64]:
            own = self.groups[self.starts[at] : self.starts[at + 1]]
            with said_of(part):
                own[:] = self.numbering.of(batches[at])
            return np.bincount(own)

        return batches, list(pool.map(number, labels, range(len(batches))))

    def _block(
        self, block: Block, sizes: Sequence[npt.NDArray[np.int64]], reading: Sequence[pa.RecordBatch] | None = None
    ) -> tuple[GroupState, Schema, dict[str, str]]:
        """Some columns: sampled, fitted and counted."""
        make = load_groups(self.settings.backend)

        def count(batches: Iterator[pa.RecordBatch], schema: Schema) -> GroupState:
            state, row = make(schema), 0
            for batch in batches:
                at = int(np.searchsorted(self.starts[:-1], row, side="right")) - 1
                alike = at >= 0 and self.starts[at] == row and self.starts[at + 1] == row + batch.num_rows
                numbers = self.groups[row : row + batch.num_rows]
                state.add(batch, numbers, self.numbering.known, sizes[at] if alike else None)
                row += batch.num_rows
            if row != self.groups.size:
                raise ValueError(
                    f"{self.source.label}: {row} rows were read where {self.groups.size} were found before"
                )
            return state

        return fit_held_block(self.source, block, self.sample, self.options, count, reading)


def _sampled_of(
    batches: Iterable[pa.RecordBatch], names: Sequence[str], sample: Sample, start: int = 0
) -> list[list[pa.Array]]:
    """The sampled rows of some columns of consecutive batches from row ``start`` on; nulls where one lacks one."""
    chunks: list[list[pa.Array]] = [[] for _ in names]
    for batch in batches:
        rows = pa.array(sample.positions(start, start + batch.num_rows))
        if len(rows):
            for own, name in zip(chunks, names, strict=True):
                place = batch.schema.get_field_index(name)
                own.append(pa.nulls(len(rows)) if place < 0 else batch.column(place).take(rows))
        start += batch.num_rows
    return chunks


def _in_memory(source: Source) -> Source:
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
    """The sampled rows of some columns, side by side; parts without any are not read."""
    chunks: list[list[pa.Array]] = [[] for _ in names]
    start = 0
    for part in source.parts:
        stop = start + (part.rows or 0)
        if sample.positions(start, stop).size:
            for own, more in zip(chunks, _sampled_of(source.batches(part, names), names, sample, start), strict=True):
                own.extend(more)
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
        profile = _accounted(_Threads(source, schema, grouping, settings).count(), source)
    else:
        profile = count_groups_of_stream(source, source.parts, schema, grouping, settings.backend)
    return with_readable(profile, source, columns)


def _accounted(profile: GroupedProfile, source: Source) -> GroupedProfile:
    """The profile, if no row was lost."""
    rows = int(profile.rows.sum())
    if rows != source.rows:
        raise ValueError(f"{source.label}: {rows} rows were counted, its files hold {source.rows}")
    return profile


def with_readable(profile: GroupedProfile, source: Source, columns: Sequence[str] | None) -> GroupedProfile:
    """The profile with what its source says of its columns: their types, and which of them cannot be read."""
    shown = source.fields if columns is None else [one for one in source.fields if one.name in set(columns)]
    reasons = {one.name: one.problem for one in shown if one.problem is not None and one.name in profile.schema}
    if reasons:
        profile = profile.skip(reasons, dict.fromkeys(reasons, "unreadable"))
    return profile.telling(seen=seen_types(shown))


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
            try:
                while True:
                    while len(waiting) < self.settings.workers:
                        chain = self._next(set(map(id, waiting.values())))
                        if chain is None:
                            break
                        waiting[pool.submit(partial(self._step, chain))] = chain
                    if not waiting:
                        break
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        chain = waiting.pop(future)
                        future.result()
                        self._tell(chain)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            states = [[chain.state for chain in stripe] for stripe in self.stripes]
            self.stripes = []
            return together(self.schema, self.grouping, self.numbering, states, pool.map)

    def _next(self, busy: set[int]) -> _Chain | None:
        """The chain to go on with: the one furthest behind, so that few groups are held.

        But first the one that finds the groups, up to a run ahead: all others would wait for it.
        """
        found: _Chain | None = None
        for stripe in self.stripes:
            keys, *others = stripe
            behind = min((chain.done for chain in others), default=len(keys.runs))
            if id(keys) not in busy and keys.done < len(keys.runs) and keys.done <= behind + 1:
                return keys
            for chain in others:
                left = id(chain) not in busy and chain.done < len(chain.runs)
                if left and (found is None or chain.done < found.done):
                    found = chain
        return found

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
