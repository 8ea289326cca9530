"""The engine of one process: tasks run on threads that share memory.

To count a table its columns are cut into pieces and its parts (row groups, files) into runs; see
:mod:`gpudrift.execution.chains`. Pieces stand side by side, runs add up, so the result does not depend on the cut.

A reference is read once where its columns fit the memory budget: the columns that say to which group a row belongs
first, then a block of the others at a time, which is held, sampled, fitted and counted. Longer columns are read twice.
The table compared with it is read once.

Rows are accounted for: every piece must have counted the rows that its parts say they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Lock

import pyarrow as pa

from gpudrift.backends import device_reader
from gpudrift.backends.counters import State
from gpudrift.columns.device import host_batch
from gpudrift.columns.schema import Schema
from gpudrift.columns.types import arrow_types, listed_texts
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.asked import (
    accounted,
    asked_windows,
    check_windows,
    segment_columns,
    selected_fields,
    with_notes,
    with_readable,
)
from gpudrift.execution.chains import Chains
from gpudrift.execution.cuts import DEVICE_BLOCK, Block, block_columns, cut_parts, obstacle
from gpudrift.execution.pool import Later, Loading, Tally, all_results, run_tasks
from gpudrift.execution.reading import readable_by, sample_stream, typed_again
from gpudrift.execution.sampling import fit_block, fit_held_block, may_hold, sample_parts
from gpudrift.execution.settings import Settings, Timing
from gpudrift.execution.tasks import Fitted, HeldGroups, count_batches, count_stream, gathered
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sampled, chunks_of, sample_blocks
from gpudrift.logs import detail, many
from gpudrift.sources import Field, Part, Source, width_of
from gpudrift.windows.grouping import WHOLE, Grouping, GroupRequest, Segment
from gpudrift.windows.segments import frequent_segments

__all__ = ["count_source", "fit_source", "profile_source"]

DEVICE_THREADS = 2
"""That read onto a GPU: while one waits for its disk, the other one's columns are decoded."""


def profile_source(
    source: Source, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None, settings: Settings
) -> GroupedProfile:
    """Fit a schema to a table, freeze its segments, and count the table under it.

    Parameters
    ----------
    source : Source
    request : GroupRequest
        Windows and segments, counted on a coarse grid; or none, for one group on the fine grid.
    options : FitOptions
    columns : sequence of str or None
        Only these; None means all.
    settings : Settings

    Raises
    ------
    ValueError
        If the columns of the grouping are not there, nothing could be read, or rows were lost.
    """
    options = replace(options, coarse=options.coarse or bool(request))
    fields = selected_fields(source.fields, source.label, columns, options)
    asked_windows(source.fields, source.label, request)
    segment_columns(source.fields, source.label, request)
    loading = Loading(settings.backend)
    source, settings = placed(source, settings)
    if source.columnar and source.rows is not None:
        profile = _profile_columnar(source, fields, request, options, settings, loading)
    else:
        source, profile = _profile_stream(source, fields, request, options, settings)
    return with_notes(with_readable(profile, source.fields, columns, fitted=True), source)


def fit_source(source: Source, options: FitOptions, columns: Sequence[str] | None, settings: Settings) -> Schema:
    """Fit a schema to a table without counting it."""
    fields = selected_fields(source.fields, source.label, columns, options)
    if source.columnar and source.rows is not None:
        blocks = block_columns(source, fields, settings.workers)
        return Schema.concatenate(_fit_blocks(source, blocks, options, settings))
    tell = Tally(settings.progress, None, len(fields))
    names = [one.name for one in fields if obstacle(one) is None]
    with settings.timing("fit"):
        source, sampler, _ = sample_stream(source, names, 0, tell.set)
        fields = typed_again(fields, source)
        return fit_block(fields, sampler.sampled([one.name for one in fields]), options)


def count_source(
    source: Source, schema: Schema, grouping: Grouping, columns: Sequence[str] | None, settings: Settings
) -> GroupedProfile:
    """Count a table under a schema that was fitted to another one, reading it once.

    Columns that only the table has are named in ``seen``; columns that only the schema has are counted as absent.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there, rows were lost, or there are more groups than memory shall hold.
    """
    schema = schema if columns is None else schema.select(columns)
    check_windows(source.fields, source.label, grouping)
    loading = Loading(settings.backend)
    source, settings = placed(source.with_types(arrow_types(schema), listed_texts(schema)), settings)
    if source.columnar and source.rows is not None:
        profile = accounted(source, Chains(source, (schema, grouping), settings, loading).profile())
    else:
        profile = _counted_stream(source, (schema, grouping), settings)
    return with_notes(with_readable(profile, source.fields, columns, fitted=False), source)


def placed(source: Source, settings: Settings) -> tuple[Source, Settings]:
    """The source as the backend reads it, and how many threads do, each with how much memory."""
    found = device_reader(settings.backend)
    threads = min(settings.workers, DEVICE_THREADS)
    readable = readable_by(source, settings.backend, threads)
    if found is None or not readable.on_device:
        return readable, settings
    return readable, replace(settings, threads=threads, budget=min(DEVICE_BLOCK, found[1] // threads))


# --- tables whose columns can be read on their own -------------------------------------------------------------------


def _profile_columnar(
    source: Source,
    fields: Sequence[Field],
    request: GroupRequest,
    options: FitOptions,
    settings: Settings,
    loading: Loading,
) -> GroupedProfile:
    """Blocks that fit into memory are read once, others twice; of windows and segments all of them, or none."""
    tally = Tally(settings.progress, (source.rows or 0) * len(fields))
    if request:
        if may_hold(source, fields, request, settings.budget, settings.backend):
            return accounted(source, _Held(source, fields, request, options, settings, loading, tally).profile())
        blocks = block_columns(source, fields, settings.workers)
        schema = Schema.concatenate(_fit_blocks(source, blocks, options, settings))
        with settings.timing("fit"):
            fitted = schema, _fit_grouping(source, request)
        return accounted(source, Chains(source, fitted, settings, loading, tally).profile())
    blocks = block_columns(source, fields, settings.workers, settings.budget)
    held = [one for block in blocks if block.bytes <= settings.budget for one in block.fields]
    counted = [_Held(source, held, request, options, settings, loading, tally).profile()] if held or not blocks else []
    for block in blocks:
        if block.bytes > settings.budget:  # sampled and counted before the next: what was read first may be read faster
            [schema] = _fit_blocks(source, [block], options, settings)
            counted.append(Chains(source, (schema, WHOLE), settings, loading, tally).profile())
    whole = GroupedProfile.concatenate(counted)
    return accounted(source, whole if len(counted) == 1 else whole.select([one.name for one in fields]))


def _fit_blocks(source: Source, blocks: Sequence[Block], options: FitOptions, settings: Settings) -> list[Schema]:
    """Fit blocks of columns: a first reading takes the sample only."""
    sample = sample_blocks(source.rows or 0, len(source.fields))
    whole = len(blocks) >= settings.workers
    tasks: list[Callable[[], Schema | None]] = []
    for block in blocks:
        runs = [source.parts] if whole else cut_parts(source, block)
        together = _Samples(block, options, len(runs), settings.timing)
        for at, run in enumerate(runs):
            tasks.append(partial(together.add, at, partial(sample_parts, source, run, block.readable, sample)))
    return [schema for schema in all_results(tasks, settings) if schema is not None]


class _Samples:
    """The samples of the runs of a block, which is fitted as soon as the last one is there."""

    def __init__(self, block: Block, options: FitOptions, runs: int, timing: Timing) -> None:
        self.block, self.options, self.missing, self.timing = block, options, runs, timing
        self.found: dict[int, tuple[Sampled, dict[str, str]]] = {}
        self.lock = Lock()

    def add(self, run: int, sampled: Callable[[], tuple[Sampled, dict[str, str]]]) -> Schema | None:
        with self.timing("fit"):
            found = sampled()
        with self.lock:
            self.found[run] = found
            self.missing -= 1
            if self.missing:
                return None
        together: Sampled = {name: [] for name in self.block.readable}
        broken: dict[str, str] = {}
        for _, (chunks, reasons) in sorted(self.found.items()):
            broken = reasons | broken
            for name, own in chunks.items():
                together[name] += own
        with self.timing("fit"):
            return fit_block(self.block.fields, together, self.options, broken)


def _fit_grouping(source: Source, request: GroupRequest) -> Grouping:
    """The windows and segments that a request means for a table whose columns can be read on their own.

    Segments are the most frequent of the sample that bins are chosen from; only their columns are read.
    """
    windows = asked_windows(source.fields, source.label, request)
    by = segment_columns(source.fields, source.label, request)
    segments: tuple[Segment, ...] = ()
    if by:
        sample = sample_blocks(source.rows or 0, len(source.fields))
        sampled, broken = sample_parts(source, source.parts, request.by, sample)
        if broken:
            name = min(broken)
            raise ValueError(f"segments: column {name!r} of {source.label} cannot be read: {broken[name]}")
        segments = frequent_segments(by, chunks_of(sampled, request.by), request.segments)
    return Grouping(request.time, windows, request.by, segments)


class _Held:
    """Columns that fit into memory: read once, sampled, fitted and counted a block at a time.

    The columns of the grouping come first, all of their rows: so the group of every row is known to each block.
    """

    def __init__(
        self,
        source: Source,
        fields: Sequence[Field],
        request: GroupRequest,
        options: FitOptions,
        settings: Settings,
        loading: Loading,
        tally: Tally,
    ) -> None:
        self.source, self.fields, self.request, self.options = source, fields, request, options
        self.settings, self.loading, self.tally = settings, loading, tally
        self.sample = sample_blocks(source.rows or 0, len(source.fields))

    def profile(self) -> GroupedProfile:
        """Read, fit and count."""
        asked, keys = {one.name for one in self.fields}, self.request.columns
        given = {one.name: one for one in self.source.fields}
        rest = [one for one in self.fields if one.name not in keys]
        blocks = block_columns(self.source, rest, self.settings.workers, self.settings.budget)
        # Blocks with texts take longest: they begin first.
        blocks.sort(key=lambda block: -sum(one.type is not None and width_of(one.type) == 0 for one in block.fields))
        with ThreadPoolExecutor(self.settings.workers, "gpudrift") as pool:
            read = list(zip(self.source.parts, pool.map(self._keys, self.source.parts), strict=True)) if keys else []
            with self.settings.timing("fit"):
                groups = HeldGroups(self.source, self.request, self.sample, read, len(self.fields), pool.map)
            tasks = [partial(self._block, groups, block, None) for block in blocks]
            if keys:
                own = Block(tuple(given[name] for name in keys if name in asked), 0)
                tasks.insert(0, partial(self._block, groups, own, [batch for _, some in read for batch in some]))
            read.clear()
            states: dict[int, State] = {}

            def keep(place: int, state: State) -> None:
                states[place] = state
                size = many(self.source.rows or 0, "row"), many(len(state.schema), "column")
                detail("fitted and counted %s of %s, block %d", *size, place + 1)
                self.tally.add((self.source.rows or 0) * len(state.schema))

            run_tasks(tasks, pool, keep)
            columns = {column.name: column for state in states.values() for column in state.schema.columns}
            schema = Schema(tuple(columns[one.name] for one in self.fields))
            groups.numbering.limit(len(schema), schema.slots)
            with self.settings.timing("merge"):
                return gathered(schema, groups.grouping, groups.numbering, [list(states.values())], pool.map)

    def _keys(self, part: Part) -> list[pa.RecordBatch]:
        return [host_batch(batch) for batch in self.source.batches(part, self.request.columns)]

    def _block(self, groups: HeldGroups, block: Block, reading: list[pa.RecordBatch] | None) -> State | Later:
        """Some columns: sampled, fitted and counted."""
        with self.settings.timing("fit"):
            batches, schema, _ = fit_held_block(self.source, block, self.sample, self.options, reading)
        size = sum(batch.nbytes for batch in batches)
        if self.loading.may_wait(size):
            return Later(partial(self._waited, groups, batches, schema, size))
        return self._count(groups, batches, schema)

    def _waited(self, groups: HeldGroups, batches: list[pa.RecordBatch], schema: Schema, size: int) -> State:
        self.loading.waited(size)
        return self._count(groups, batches, schema)

    def _count(self, groups: HeldGroups, batches: list[pa.RecordBatch], schema: Schema) -> State:
        with self.settings.timing("count"):
            return groups.count(batches, schema, self.settings.backend)


# --- tables that can only be read from front to back -----------------------------------------------------------------


def _profile_stream(
    source: Source, fields: Sequence[Field], request: GroupRequest, options: FitOptions, settings: Settings
) -> tuple[Source, GroupedProfile]:
    """The profile, and the source with the types that its values turned out to have."""
    read = source.fields if request else fields
    names = [one.name for one in read if obstacle(one) is None]
    with settings.timing("fit"):
        source, sampler, held = sample_stream(
            source, names, settings.budget, Tally(settings.progress, None, len(names)).set
        )
    windows = asked_windows(source.fields, source.label, request)
    by = segment_columns(source.fields, source.label, request)
    chunks = chunks_of(sampler.sampled(request.by), request.by)
    grouping = Grouping(
        request.time, windows, request.by, frequent_segments(by, chunks, request.segments) if by else ()
    )
    fields = typed_again(fields, source)
    with settings.timing("fit"):
        schema = fit_block(fields, sampler.sampled([one.name for one in fields]), options)
    if held is not None:
        with settings.timing("count"):
            profile = count_batches(source.fields, source.label, held, (schema, grouping), settings.backend)
    else:
        profile = _counted_stream(source, (schema, grouping), settings)
    rows = int(profile.rows.sum())
    if rows != sampler.rows:
        raise ValueError(f"{source.label}: {sampler.rows} rows in the first reading, {rows} in the second")
    return source, profile


def _counted_stream(source: Source, fitted: Fitted, settings: Settings) -> GroupedProfile:
    rows = [0] * len(source.parts)
    tally = Tally(settings.progress, None, len(fitted[0]))

    def seen(batches: Iterable[pa.RecordBatch], part: Part) -> Iterator[pa.RecordBatch]:
        rows[part.index] = 0
        for batch in batches:
            rows[part.index] += batch.num_rows
            tally.set(sum(rows))
            yield batch

    # One file after the other: the CSV parser already uses every core.
    with settings.timing("count"):
        return count_stream(source, source.parts, fitted, settings.backend, seen)
