"""What one task counts: some columns of some parts, in their groups.

Nothing here knows where it runs. Threads of this process call these functions, and so do the workers of a cluster.

Rows are counted in groups: windows and segments, or all of them in one. The columns of a table are cut into pieces; of
windows and segments the first piece holds the columns that say to which group a row belongs. Each part is asked for its
groups once; pieces are then counted one after the other, with the groups of its rows. So every column is read exactly
once. Where a column cannot be read, its piece is counted again without it, and the others never stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_state
from gpudrift.backends.counters import Counted, State
from gpudrift.columns.device import host_batch
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.asked import asked_windows, segment_columns
from gpudrift.execution.cuts import (
    DEVICE_BLOCK,
    DEVICE_COLUMNS,
    LARGEST_BLOCK,
    RUN,
    block_columns,
    cut_columns,
)
from gpudrift.execution.reading import (
    READING_ERRORS,
    Read,
    Reading,
    columns_at_once,
    counted_names,
    read_ahead,
    unreadable_columns,
)
from gpudrift.execution.sampling import sample_batches
from gpudrift.fitting.samples import Sample, Sampled, chunks_of
from gpudrift.sources import Field, Part, Source, TypesChanged
from gpudrift.windows.grouping import Grouping, GroupRequest
from gpudrift.windows.numbering import GroupNumbering, TooManyGroupsError, most_groups, too_many_groups
from gpudrift.windows.segments import frequent_segments

__all__ = [
    "Fitted",
    "HeldGroups",
    "PartGroups",
    "Piece",
    "count_batches",
    "count_piece",
    "count_run",
    "count_stream",
    "cut_pieces",
    "gathered",
    "recounted",
    "runs_of",
]

RUN_ROWS = 1 << 20
"""Rows of which the groups are held at a time: 4 MB."""
FILES_HELD = 8
"""Text files whose counts wait to be added to those before."""
LEAST_SLOTS = 6
"""Of a column."""
BLOCK = LARGEST_BLOCK // 2
"""Bytes of the columns of windows and segments that are counted together on a CPU."""

Fitted = tuple[Schema, Grouping]
"""What a table is counted under."""


# --- which columns are counted together ------------------------------------------------------------------------------


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


def runs_of(parts: Sequence[Part]) -> list[list[Part]]:
    """Consecutive parts of about ``RUN_ROWS`` rows."""
    runs: list[list[Part]] = []
    rows = 0
    for part in parts:
        if not runs or rows + (part.rows or 0) > RUN_ROWS:
            runs.append([])
            rows = 0
        runs[-1].append(part)
        rows += part.rows or 0
    return runs


def cut_pieces(
    source: Source,
    runs: Sequence[Sequence[Part]],
    schema: Schema,
    grouping: Grouping | GroupRequest,
    backend: str,
    workers: int | None = None,
) -> list[Piece]:
    """The columns of a schema in pieces; those of the grouping first.

    Parameters
    ----------
    source, runs, schema, grouping, backend
        Pieces of windows and segments have some megabytes of a run.
    workers : int, optional
        Threads that count pieces at the same time; None where one task counts them one after the other.
    """
    keys = [name for name in grouping.columns if name in schema]
    rest = [name for name in schema.names if name not in keys]
    if not grouping:
        ranges = _whole_columns(source, [part for run in runs for part in run], rest, workers)
        return [Piece(schema.select(rest[start:stop])) for start, stop in ranges]
    rows = max((sum(part.rows or 0 for part in run) for run in runs), default=0)
    share = min(rows / max(source.rows or rows, 1), 1.0)
    sizes = [int(source.column_bytes(name) * share) for name in rest]
    # Few columns at a time, so that the counters of one column stay in the cache and memory is used again. A device
    # gets many: their rows are put in order together, and it works on all of them at a time.
    limits = (DEVICE_BLOCK if source.on_device else RUN, DEVICE_COLUMNS) if backend == "cuda" else (BLOCK, 64)
    # Texts take longest: each alone, so that threads share them.
    slots = [limits[1] if schema[name].family == "categorical" and backend != "cuda" else 1 for name in rest]
    ranges = cut_columns(sizes, slots, *limits)
    return [Piece(schema.select(keys), keys=True)] + [Piece(schema.select(rest[a:b])) for a, b in ranges]


def _whole_columns(
    source: Source, parts: Sequence[Part], names: Sequence[str], workers: int | None
) -> list[tuple[int, int]]:
    """Ranges of columns of which every row is in one group."""
    if workers is None:
        widest = max((part.rows or 0 for part in parts), default=0) / max(source.rows or 1, 1)
        return columns_at_once(source, parts, [int(source.column_bytes(name) * widest) for name in names])
    given = {one.name: one for one in source.fields}
    fields = [given.get(name, Field(name, pa.null())) for name in names]
    ends = np.cumsum([0, *(len(block.fields) for block in block_columns(source, fields, workers))]).tolist()
    return list(pairwise(ends))


# --- the groups of rows ----------------------------------------------------------------------------------------------


@contextmanager
def naming(part: Part) -> Iterator[None]:
    """Let an error name the file that it is about, unless it is of the whole table."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, pa.ArrowException | TooManyGroupsError) or part.label in str(error):
            raise
        raise ValueError(f"{part.label}: {error}") from None


class HeldGroups:
    """The group of every row of a table whose columns of the grouping are in memory, and the segments that are kept.

    Parameters
    ----------
    source : Source
    request : GroupRequest
    sample : Sample
        Of the table; its most frequent segments are kept apart.
    read : list of (Part, list of pyarrow.RecordBatch)
        The columns of the grouping of each part; none where nothing is asked for.
    columns : int
        That will be counted in each group.
    do : callable
        Runs a function for each of some arguments.
    """

    def __init__(
        self,
        source: Source,
        request: GroupRequest,
        sample: Sample,
        read: Sequence[tuple[Part, Sequence[pa.RecordBatch]]],
        columns: int,
        do: Callable[..., Iterable[Any]] = map,
    ) -> None:
        self.label = source.label
        by = segment_columns(source.fields, source.label, request)
        windows = asked_windows(source.fields, source.label, request)
        batches = [batch for _, own in read for batch in own]
        sampled: Sampled = {name: [] for name in request.by}
        sample_batches(batches, sample, sampled)
        segments = frequent_segments(by, chunks_of(sampled, request.by), request.segments) if by else ()
        self.grouping = Grouping(request.time, windows, request.by, segments)
        self.numbering = GroupNumbering(self.grouping, by, Schema(()))
        # Exactly it is known when all columns are fitted; none has fewer slots than these.
        self.numbering.limit(columns, LEAST_SLOTS * columns)
        self.groups: npt.NDArray[np.int32] | None = None
        """Of every row; None where all are in one."""
        if not self.grouping:
            return
        self.starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self.groups = np.empty(self.starts[-1], np.int32)
        parts = [part for part, own in read for _ in own]
        self.sizes = list(do(self._number, parts, range(len(batches)), batches))
        """Of each of these batches, the rows of each group."""

    def _number(self, part: Part, at: int, batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
        assert self.groups is not None
        own = self.groups[self.starts[at] : self.starts[at + 1]]
        with naming(part):
            own[:] = self.numbering.of(batch)
        return np.bincount(own)

    def count(self, batches: Iterable[pa.RecordBatch], schema: Schema, backend: str) -> State:
        """Count some columns of the table, all rows in their order.

        Raises
        ------
        ValueError
            If they are more or fewer rows than were grouped.
        """
        state, row = load_state(backend)(schema, grouped=bool(self.grouping)), 0
        try:
            for batch in batches:
                if self.groups is None:
                    state.add(batch)
                else:
                    at = int(np.searchsorted(self.starts[:-1], row, side="right")) - 1
                    alike = at >= 0 and self.starts[at] == row and self.starts[at + 1] == row + batch.num_rows
                    own = self.groups[row : row + batch.num_rows]
                    state.add(batch, own, self.numbering.known, self.sizes[at] if alike else None)
                row += batch.num_rows
            if self.groups is not None and row != self.groups.size:
                raise ValueError(f"{self.label}: {row} rows read, {self.groups.size} found before")
        finally:
            state.pause()
        state.settle()
        return state


# --- counting --------------------------------------------------------------------------------------------------------


@dataclass
class _Entry:
    """The groups of the rows of a part, None where all are in one, and the columns that they were made of."""

    groups: npt.NDArray[np.int32] | None
    sizes: npt.NDArray[np.int64] | None
    batches: list[pa.RecordBatch]


class PartGroups:
    """The groups of the rows of each part: found once, kept until every piece has had them.

    Parameters
    ----------
    numbering : GroupNumbering
    pieces : int
    read : callable
        Reads the columns of the grouping of a part.
    """

    def __init__(self, numbering: GroupNumbering, pieces: int, read: Read) -> None:
        self.numbering, self.pieces, self.read = numbering, pieces, read
        self.entries: dict[int, _Entry] = {}
        self.locks: dict[int, Lock] = {}
        self.lock = Lock()
        self.given: dict[int, int] = {}

    def of(self, part: Part) -> _Entry:
        """The group of each row, rows of each group, and the batches of the columns of the grouping."""
        if not self.numbering.grouping:
            return _Entry(None, None, [])
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
        with naming(part):
            batches = [host_batch(batch) for batch in self.read(part, self.numbering.grouping.columns)]
            groups = [self.numbering.of(batch) for batch in batches]
        rows = np.concatenate([np.zeros(0, np.int32), *groups])
        return _Entry(rows, np.bincount(rows), batches)


def count_piece(read: Read, parts: Iterable[Part], piece: Piece, groups: PartGroups, state: State) -> None:
    """Add some parts of a piece to its counters.

    Raises
    ------
    ValueError
        If a part has other rows than were grouped.
    """
    try:
        for part in parts:
            found, row = groups.of(part), 0
            batches: Iterable[pa.RecordBatch] = found.batches
            if not piece.keys:
                # Columns that were given up are not read again.
                batches = read(part, [name for name in piece.names if name not in state.skipped])
            for batch in batches:
                if found.groups is None:
                    state.add(batch)
                else:
                    sizes = found.sizes if batch.num_rows == found.groups.size else None
                    state.add(batch, found.groups[row : row + batch.num_rows], groups.numbering.known, sizes)
                row += batch.num_rows
            expected = part.rows if found.groups is None else found.groups.size
            if expected is not None and row != expected:
                raise ValueError(f"{part.label}: {row} rows read, {expected} found before")
    finally:
        state.pause()


def recounted(
    source: Source,
    parts: Sequence[Part],
    piece: Piece,
    groups: PartGroups,
    make: Callable[[Schema], State],
    error: Exception,
) -> State:
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
        state = make(piece.schema)
        for name, why in broken.items():
            state.skip(name, why, "unreadable")
        try:
            count_piece(source.batches, parts, piece, groups, state)
            return state
        except READING_ERRORS as again:
            error = again


def count_run(
    source: Source, parts: Sequence[Part], fitted: Fitted, backend: str, reading: Reading | None = None
) -> GroupedProfile:
    """Count some parts: of windows and segments a million rows at a time, one piece of the columns after the other.

    ``reading`` weighs what is read.
    """
    schema, grouping = fitted
    reading = reading or Reading()
    if not source.columnar:
        return count_stream(source, parts, fitted, backend, reading)
    parts = source.joined(parts)
    numbering = GroupNumbering(grouping, segment_columns(source.fields, source.label, grouping), schema)
    runs: Sequence[Sequence[Part]] = runs_of(parts) if grouping else [parts]
    pieces = cut_pieces(source, runs, schema, grouping, backend)

    def make(own: Schema) -> State:
        return load_state(backend)(own, grouped=bool(grouping))

    states = [make(piece.schema) for piece in pieces]
    steps = [(part, at) for run in runs for at in range(len(pieces)) for part in run]
    names = [list(grouping.columns) if piece.keys else piece.names for piece in pieces]
    with read_ahead(source, names, steps) as ahead:

        def read(at: int) -> Read:
            return lambda part, _names: reading(ahead.batches(part, at))

        asked: set[int] = set()

        def read_keys(part: Part, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
            """Read ahead the first time; a piece that is counted again asks for parts that have passed."""
            if part.index in asked:
                return reading(source.batches(part, names))
            asked.add(part.index)
            return reading(ahead.batches(part, 0))

        groups = PartGroups(numbering, len(pieces), read_keys)
        for done, run in enumerate(runs, 1):
            for at, piece in enumerate(pieces):
                try:
                    count_piece(read(at), run, piece, groups, states[at])
                except READING_ERRORS as error:
                    before = [part for one in runs[:done] for part in one]
                    states[at] = recounted(source, before, piece, groups, make, error)
    return gathered(schema, grouping, numbering, [states])


def count_stream(
    source: Source,
    parts: Iterable[Part],
    fitted: Fitted,
    backend: str,
    reading: Callable[[Iterable[pa.RecordBatch], Part], Iterable[pa.RecordBatch]],
) -> GroupedProfile:
    """The same of files that are read from front to back; where a value does not fit, again with a wider type.

    Each file begins with the types that the source has, so that it does not matter which ones came before.
    """
    schema, grouping = fitted
    names = list(dict.fromkeys([*schema.names, *grouping.columns]))
    counted = [GroupedProfile.empty(schema, grouping)]
    for part in parts:
        typed = source
        while True:
            try:
                batches = reading(typed.batches(part, names), part)
                counted.append(count_batches(typed.fields, typed.label, batches, fitted, backend))
                break
            except TypesChanged as changed:
                typed = changed.source
        if len(counted) > FILES_HELD:  # a thousand files must not hold a thousand times the counters
            counted = [GroupedProfile.sum(counted)]
            if len(counted[0]) > most_groups(schema.slots):
                raise too_many_groups(most_groups(schema.slots), len(schema), schema.slots)
    return GroupedProfile.sum(counted)


def count_batches(
    fields: Iterable[Field], label: str, batches: Iterable[pa.RecordBatch], fitted: Fitted, backend: str
) -> GroupedProfile:
    """Count batches that hold all columns, those of the grouping too."""
    schema, grouping = fitted
    numbering = GroupNumbering(grouping, segment_columns(fields, label, grouping), schema)
    state = load_state(backend)(schema, grouped=bool(grouping))
    try:
        for batch in batches:
            state.add(batch, numbering.of(batch) if grouping else None, numbering.known)
    finally:
        state.pause()
    return gathered(schema, grouping, numbering, [[state]])


def gathered(
    schema: Schema,
    grouping: Grouping,
    numbering: GroupNumbering,
    states: Sequence[Sequence[State]],
    do: Callable[[Callable[[State], None], Sequence[State]], Iterable[None]] = map,
) -> GroupedProfile:
    """What was counted of stripes of rows, each in pieces of columns, as one.

    Raises
    ------
    ValueError
        If the pieces of a stripe did not count the same rows.
    """
    counted = Counted(schema, numbering.groups)
    for pieces in states:
        rows = {tuple(np.trim_zeros(state.rows, "b").tolist()) for state in pieces}
        if len(rows) > 1:
            raise ValueError(f"{'windows' if grouping else 'profile'}: pieces of columns with different rows")
        if pieces:
            counted.take_rows(pieces[0])
        list(do(counted.take, pieces))  # each of other columns
    return counted.profile(grouping)
