"""Counting windows and segments of some parts of a table: what threads and tasks on a cluster have in common.

The columns of a table are cut into pieces, the first of which holds the columns that say to which group a row belongs.
Each part is asked for its groups once; pieces are then counted one after the other, with the groups of its rows. So
every column is read exactly once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_groups
from gpudrift.backends.counters import GroupsCounted, GroupState
from gpudrift.columns.device import host_batch
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import GroupPacket
from gpudrift.execution.cuts import DEVICE_BLOCK, DEVICE_COLUMNS, LARGEST_BLOCK, RUN, cut_columns, obstacle
from gpudrift.execution.reading import (
    READING_ERRORS,
    Opened,
    Reading,
    counted_names,
    partition_batches,
    readable_by,
    stream_sampler,
    typed_again,
    unreadable_columns,
)
from gpudrift.execution.tasks import fit_sampler
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sample, Sampled, StreamSampler, as_batches, take_sample
from gpudrift.sources import CsvTypesChanged, Field, Part, Source
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import Grouping, GroupRequest, Segment
from gpudrift.windows.numbering import GroupNumbering, TooManyGroupsError, most_groups, too_many_groups
from gpudrift.windows.segments import frequent_segments, segment_column, segment_tally

__all__ = [
    "PartGroups",
    "Piece",
    "count_groups_of_run",
    "count_groups_of_stream",
    "cut_pieces",
    "said_of",
    "segment_columns",
]

RUN_ROWS = 1 << 20
"""Rows of which the groups are held at a time: 4 MB."""
FILES_HELD = 8
"""Text files whose windows wait to be added to those before."""
BLOCK = LARGEST_BLOCK // 2
"""Bytes of the columns that are counted together on a CPU."""


def segment_columns(source: Source, grouping: Grouping | GroupRequest) -> list[Column]:
    """How the columns of the segments are read from a source.

    Raises
    ------
    ValueError
        If one is not there, or its values make no segments.
    """
    types = {one.name: one.type for one in source.fields}
    known = types if isinstance(grouping, GroupRequest) else None
    return [segment_column(name, types.get(name), source.label, known) for name in grouping.by]


def asked_windows(fields: Sequence[Field], label: str, request: GroupRequest) -> Windows | None:
    """The windows of a request, if the data has what they need.

    Raises
    ------
    ValueError
        If the time column is not there, or holds no times.
    """
    types = {one.name: one.type for one in fields}
    return None if request.time is None else request.windows(types.get(request.time), label, types)


def check_windows(fields: Sequence[Field], label: str, grouping: Grouping) -> None:
    """Raise ``ValueError`` unless the data has the time column of the windows, with times of their kind."""
    if grouping.time is None or grouping.windows is None:
        return
    if any(one.name == grouping.time and one.type is not None and pa.types.is_null(one.type) for one in fields):
        return  # without a single value it is of no kind: no row has a time
    every, zone = str(grouping.windows.every), grouping.windows.zone
    own = next((one.type for one in fields if one.name == grouping.time), None)
    if GroupRequest(grouping.time, every, zone).windows(own, label) != grouping.windows:
        raise ValueError(
            f"time: column {grouping.time!r} of {label} is {own}, "
            f"and the windows are of a column of {grouping.windows.axis} times"
        )


@dataclass(frozen=True)
class Piece:
    """Some columns of a table.

    Parameters
    ----------
    schema : Schema
    keys : bool
        Whether they are those of the grouping, which are read to find the groups.
    """

    schema: Schema
    keys: bool = False

    @property
    def names(self) -> list[str]:
        return counted_names(self.schema)


def cut_pieces(source: Source, schema: Schema, grouping: Grouping, rows: int, backend: str) -> list[Piece]:
    """The columns of a schema in pieces of some megabytes for so many rows; those of the grouping first."""
    keys = [name for name in grouping.columns if name in schema]
    rest = [name for name in schema.names if name not in keys]
    share = min(rows / max(source.rows or rows, 1), 1.0)
    sizes = [int(source.column_bytes(name) * share) for name in rest]
    pieces = [Piece(schema.select(keys), keys=True)]
    # Few columns at a time, so that the counters of one column stay in the cache and memory is used again. A device
    # gets many: their rows are put in order together, and it works on all of them at a time.
    limits = (DEVICE_BLOCK if source.on_device else RUN, DEVICE_COLUMNS) if backend == "cuda" else (BLOCK, 64)
    # Texts take longest: each alone, so that threads share them.
    slots = [limits[1] if schema[name].family == "categorical" else 1 for name in rest]
    for start, stop in cut_columns(sizes, slots if backend != "cuda" else [1] * len(rest), *limits):
        pieces.append(Piece(schema.select(rest[start:stop])))
    return pieces


@dataclass
class _Entry:
    """The groups of a part, and its columns that they were made of."""

    groups: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]
    batches: list[pa.RecordBatch]


class PartGroups:
    """The groups of the rows of each part: found once, kept until every piece has had them.

    Parameters
    ----------
    source : Source
    numbering : GroupNumbering
    pieces : int
    reading : Reading, optional
        Weighs all that is read, also the other columns.
    """

    def __init__(self, source: Source, numbering: GroupNumbering, pieces: int, reading: Reading | None = None) -> None:
        self.source, self.numbering, self.pieces = source, numbering, pieces
        self.reading = reading or Reading()
        self.entries: dict[int, _Entry] = {}
        self.locks: dict[int, Lock] = {}
        self.lock = Lock()
        self.given: dict[int, int] = {}

    def of(self, part: Part) -> _Entry:
        """The group of each row, rows of each group, and the batches of the columns of the grouping."""
        with self.lock:
            own = self.locks.setdefault(part.index, Lock())
        with own:
            entry = self.entries.get(part.index)
            if entry is None:
                entry = self._found(part)
                if part.index not in self.given:  # else a piece that began anew asks again: nobody else will
                    self.entries[part.index] = entry
            self.given[part.index] = self.given.get(part.index, 0) + 1
            if self.given[part.index] >= self.pieces:
                self.entries.pop(part.index, None)
            return entry

    def _found(self, part: Part) -> _Entry:
        names = self.numbering.grouping.columns
        with said_of(part):
            batches = [host_batch(batch) for batch in self.reading(self.source.batches(part, names))]
            groups = [self.numbering.of(batch) for batch in batches]
        together = np.concatenate([np.zeros(0, np.int32), *groups])
        return _Entry(together, np.bincount(together), batches)


@contextmanager
def said_of(part: Part) -> Iterator[None]:
    """Let an error name the file that it is about, unless it is of the whole table."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, pa.ArrowException | TooManyGroupsError) or part.label in str(error):
            raise
        raise ValueError(f"{part.label}: {error}") from None


def count_piece(source: Source, parts: Iterable[Part], piece: Piece, groups: PartGroups, state: GroupState) -> None:
    """Add some parts of a piece to its counters.

    Raises
    ------
    ValueError
        If a part has other rows than were grouped.
    """
    for part in parts:
        found = groups.of(part)
        numbers, row = found.groups, 0
        batches: Iterable[pa.RecordBatch] = found.batches
        if not piece.keys:
            # Columns that were given up are not read again.
            batches = groups.reading(source.batches(part, [n for n in piece.names if n not in state.skipped]))
        for batch in batches:
            sizes = found.sizes if batch.num_rows == numbers.size else None
            state.add(batch, numbers[row : row + batch.num_rows], groups.numbering.known, sizes)
            row += batch.num_rows
        if row != numbers.size:
            raise ValueError(f"{part.label}: {row} rows were read where {numbers.size} were found before")


def recounted(
    source: Source, parts: Sequence[Part], piece: Piece, groups: PartGroups, backend: str, error: Exception
) -> GroupState:
    """Count a piece from the beginning without the columns that cannot be read; what concerns none of them is raised.

    What was counted of its other columns may hold a part of the rows that failed, so it is thrown away.
    """
    broken: dict[str, str] = {}
    while True:
        names = [name for name in piece.names if name not in broken]
        found = {} if piece.keys else unreadable_columns(source, parts, names, error)
        if not found:
            raise error
        broken |= found
        state = load_groups(backend)(piece.schema)
        for name, why in broken.items():
            state.skip(name, why, "unreadable")
        try:
            count_piece(source, parts, piece, groups, state)
            return state
        except READING_ERRORS as again:
            error = again


def count_groups_of_run(
    source: Source,
    parts: Sequence[Part],
    schema: Schema,
    grouping: Grouping,
    backend: str,
    reading: Reading | None = None,
) -> GroupedProfile:
    """Count the windows and segments of some parts, a million rows at a time, one piece of the columns after the other.

    ``reading`` weighs what is read.
    """
    if not source.columnar:
        return count_groups_of_stream(source, parts, schema, grouping, backend, reading)
    numbering = GroupNumbering(grouping, segment_columns(source, grouping), schema)
    runs = list(runs_of(parts))
    rows = max((sum(part.rows or 0 for part in run) for run in runs), default=0)
    pieces = cut_pieces(source, schema, grouping, rows, backend)
    groups = PartGroups(source, numbering, len(pieces), reading)
    states = [load_groups(backend)(piece.schema) for piece in pieces]
    for done, run in enumerate(runs, 1):
        for at, piece in enumerate(pieces):
            try:
                count_piece(source, run, piece, groups, states[at])
            except READING_ERRORS as error:
                before = [part for one in runs[:done] for part in one]
                states[at] = recounted(source, before, piece, groups, backend, error)
    return together(schema, grouping, numbering, [states])


def count_groups_of_stream(
    source: Source,
    parts: Iterable[Part],
    schema: Schema,
    grouping: Grouping,
    backend: str,
    reading: Reading | None = None,
) -> GroupedProfile:
    """The same of files that are read from front to back; where a value does not fit, again with a wider type."""
    names = list(dict.fromkeys([*schema.names, *grouping.columns]))
    reading = reading or Reading()
    counted = [GroupedProfile.empty(schema, grouping)]
    for part in parts:
        typed = source
        while True:
            numbering = GroupNumbering(grouping, segment_columns(typed, grouping), schema)
            state = load_groups(backend)(schema)
            try:
                for batch in reading(typed.batches(part, names)):
                    state.add(batch, numbering.of(batch), numbering.known)
                break
            except CsvTypesChanged as changed:
                typed = changed.source
        state.settle()
        counted.append(together(schema, grouping, numbering, [[state]]))
        if len(counted) > FILES_HELD:  # a thousand files must not hold a thousand times the counters
            counted = [GroupedProfile.sum(counted)]
            if len(counted[0]) > most_groups(schema.slots):
                raise too_many_groups(most_groups(schema.slots), len(schema), schema.slots)
    return GroupedProfile.sum(counted)


def together(
    schema: Schema,
    grouping: Grouping,
    numbering: GroupNumbering,
    states: Sequence[Sequence[GroupState]],
    do: Callable[[Callable[[GroupState], None], Sequence[GroupState]], Iterable[None]] = map,
) -> GroupedProfile:
    """What was counted of stripes of rows, each in pieces of columns, as one.

    Raises
    ------
    ValueError
        If the pieces of a stripe did not count the same rows.
    """
    whole = GroupsCounted(schema, numbering.groups)
    for pieces in states:
        rows = {tuple(np.trim_zeros(state.rows, "b").tolist()) for state in pieces}
        if len(rows) > 1:
            raise ValueError("windows: pieces of columns with different rows")
        whole.take_rows(pieces[0])
        list(do(whole.take, pieces))  # each of other columns
    return whole.profile(grouping)


def runs_of(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Consecutive parts of about ``RUN_ROWS`` rows."""
    run: list[Part] = []
    rows = 0
    for part in parts:
        if run and rows + (part.rows or 0) > RUN_ROWS:
            yield run
            run, rows = [], 0
        run.append(part)
        rows += part.rows or 0
    if run:
        yield run


# --- tasks on a cluster: small arguments in, small results out ------------------------------------------------------


Fitted = tuple[Schema, Grouping]
"""What a table is counted under."""


def sample_segments(
    opened: Opened, parts: tuple[int, int], names: Sequence[str], sample: Sample, fingerprint: str
) -> tuple[list[pa.RecordBatch], Counter[Segment]]:
    """The sampled rows of a run's columns of segments, as batches, and a tally of the segments in them."""
    source = opened.checked(fingerprint).source
    columns = segment_columns(source, Grouping(by=tuple(names)))
    sampled: Sampled = {name: [] for name in names}
    chunks: list[list[pa.Array]] = [[] for _ in names]
    start = sum(part.rows or 0 for part in source.parts[: parts[0]])
    for part in source.parts[slice(*parts)]:
        stop = start + (part.rows or 0)
        if sample.positions(start, stop).size:
            for batch in source.batches(part, names):
                positions = sample.positions(start, start + batch.num_rows)
                take_sample(batch, positions, sampled)
                held = batch.schema.names if positions.size else ()
                for own, name in zip(chunks, names, strict=True):
                    own.append(sampled[name][-1][0] if name in held else pa.nulls(positions.size))
                start += batch.num_rows
        start = stop
    return as_batches(sampled), segment_tally(columns, chunks)


def fit_groups_stream(
    source: Source, fields: Sequence[Field], request: GroupRequest, options: FitOptions
) -> tuple[Source, Schema, Grouping, int]:
    """Schema and grouping of files that are read from front to back; the source with the types it needs, and its rows.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there.
    """
    names = [one.name for one in source.fields if obstacle(one) is None]
    source, sampler, _ = stream_sampler(source, names, 0)
    windows, by = asked_windows(source.fields, source.label, request), segment_columns(source, request)
    schema, grouping = fit_groups_sampler(sampler, typed_again(fields, source), by, windows, request, options)
    return source, schema, grouping, sampler.rows


def fit_groups_sampler(
    sampler: StreamSampler,
    fields: Sequence[Field],
    by: Sequence[Column],
    windows: Windows | None,
    request: GroupRequest,
    options: FitOptions,
) -> Fitted:
    """Fit the columns of a table and choose its segments, both from its sampler."""
    chunks = sampler.aligned([column.name for column in by])
    segments = frequent_segments(by, chunks, request.segments) if by else ()
    return fit_sampler(sampler, fields, options), Grouping(request.time, windows, request.by, segments)


def count_group_parts(
    opened: Opened, fitted: Fitted, parts: tuple[int, int], backend: str, fingerprint: str
) -> GroupPacket:
    """Count all columns of the windows and segments in some parts of a table."""
    source, reading = readable_by(opened.checked(fingerprint).source, backend), Reading()
    run = source.joined(source.parts[slice(*parts)])
    profile = count_groups_of_run(source, run, *fitted, backend, reading)
    return GroupPacket.of(profile, (parts,), reading.bytes)


def count_group_partition(
    partition: Any, names: Sequence[str], fitted: Fitted, span: tuple[int, int], by: Sequence[Column], backend: str
) -> GroupPacket:
    """Count all columns of the windows and segments of a partition of a Dask DataFrame."""
    schema, grouping = fitted
    reading, numbering = Reading(), GroupNumbering(grouping, by, schema)
    state = load_groups(backend)(schema)
    try:
        for batch in reading(partition_batches(partition, names, span[0], on_gpu=backend == "cuda")):
            state.add(batch, numbering.of(batch), numbering.known)
        state.settle()
    except ValueError as error:
        if isinstance(error, pa.ArrowException | TooManyGroupsError) or "the Dask DataFrame" in str(error):
            raise
        raise ValueError(f"partition {span[0]} of the Dask DataFrame: {error}") from None
    return GroupPacket.of(together(schema, grouping, numbering, [[state]]), (span,), reading.bytes)
