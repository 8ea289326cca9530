"""Counting windows and segments of some parts of a table: what threads and tasks on a cluster have in common.

The columns of a table are cut into pieces, the first of which holds the columns that say to which group a row belongs.
Each part is asked for its groups once; pieces are then counted one after the other, with the groups of its rows. So
every column is read exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_groups
from gpudrift.backends.cuda_columns import host_batch
from gpudrift.backends.grouped import GroupsCounted, GroupState
from gpudrift.grouping import GroupNumbering, segment_column
from gpudrift.groups import GroupedProfile, Grouping
from gpudrift.planning import LARGEST_BLOCK, cut_columns
from gpudrift.schema import Column, Schema
from gpudrift.sources import CsvTypesChanged, Part, Source
from gpudrift.tasks import READING_ERRORS, counted_names, unreadable_columns

__all__ = [
    "PartGroups",
    "Piece",
    "count_groups_of_run",
    "count_groups_of_stream",
    "cut_pieces",
    "segment_columns",
]

RUN_ROWS = 1 << 20
"""Rows of which the groups are held at a time: 4 MB."""


def segment_columns(source: Source, grouping: Grouping) -> list[Column]:
    """How the columns of the segments are read from a source.

    Raises
    ------
    ValueError
        If one is not there, or its values make no segments.
    """
    types = {one.name: one.type for one in source.fields}
    return [segment_column(name, types.get(name), source.label) for name in grouping.by]


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


def cut_pieces(source: Source, schema: Schema, grouping: Grouping, rows: int) -> list[Piece]:
    """The columns of a schema in pieces of some megabytes for so many rows; those of the grouping first."""
    keys = [name for name in grouping.columns if name in schema]
    rest = [name for name in schema.names if name not in keys]
    share = min(rows / max(source.rows or rows, 1), 1.0)
    sizes = [int(source.column_bytes(name) * share) for name in rest]
    pieces = [Piece(schema.select(keys), keys=True)]
    # Few columns at a time, so that the counters of one column stay in the cache and memory is used again.
    for start, stop in cut_columns(sizes, [1] * len(sizes), LARGEST_BLOCK // 2, 64):
        pieces.append(Piece(schema.select(rest[start:stop])))
    return pieces


@dataclass
class _Entry:
    """The groups of a part, and its columns that they were made of."""

    groups: npt.NDArray[np.int32]
    batches: list[pa.RecordBatch]
    left: int


class PartGroups:
    """The groups of the rows of each part: found once, kept until every piece has had them.

    Parameters
    ----------
    source : Source
    numbering : GroupNumbering
    pieces : int
    """

    def __init__(self, source: Source, numbering: GroupNumbering, pieces: int) -> None:
        self.source, self.numbering, self.pieces = source, numbering, pieces
        self.entries: dict[int, _Entry] = {}
        self.locks: dict[int, Lock] = {}
        self.lock = Lock()
        self.given: dict[int, int] = {}

    def of(self, part: Part) -> tuple[npt.NDArray[np.int32], list[pa.RecordBatch]]:
        """The group of each row, and the batches of the columns of the grouping."""
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
            return entry.groups, entry.batches

    def _found(self, part: Part) -> _Entry:
        names = self.numbering.grouping.columns
        try:
            batches = [host_batch(batch) for batch in self.source.batches(part, names)]
            groups = [self.numbering.of(batch) for batch in batches]
        except ValueError as error:
            if isinstance(error, pa.ArrowException) or part.label in str(error):
                raise
            raise ValueError(f"{part.label}: {error}") from None
        return _Entry(np.concatenate([np.zeros(0, np.int32), *groups]), batches, self.pieces)


def count_piece(source: Source, parts: Iterable[Part], piece: Piece, groups: PartGroups, state: GroupState) -> None:
    """Add some parts of a piece to its counters.

    Raises
    ------
    ValueError
        If a part has other rows than were grouped.
    """
    for part in parts:
        numbers, keyed = groups.of(part)
        row = 0
        batches: Iterable[pa.RecordBatch] = keyed
        if not piece.keys:
            # Columns that were given up are not read again.
            batches = source.batches(part, [name for name in piece.names if name not in state.skipped])
        for batch in batches:
            state.add(batch, numbers[row : row + batch.num_rows], groups.numbering.known)
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
    source: Source, parts: Sequence[Part], schema: Schema, grouping: Grouping, backend: str
) -> GroupedProfile:
    """Count the windows and segments of some parts, one piece of the columns after the other."""
    if not source.columnar:
        return count_groups_of_stream(source, parts, schema, grouping, backend)
    numbering = GroupNumbering(grouping, segment_columns(source, grouping), schema)
    rows = sum(part.rows or 0 for part in parts)
    pieces = cut_pieces(source, schema, grouping, rows)
    groups = PartGroups(source, numbering, len(pieces))
    states = []
    for piece in pieces:
        state = load_groups(backend)(piece.schema)
        try:
            count_piece(source, parts, piece, groups, state)
        except READING_ERRORS as error:
            state = recounted(source, parts, piece, groups, backend, error)
        states.append(state)
    return together(schema, grouping, numbering, [states])


def count_groups_of_stream(
    source: Source, parts: Iterable[Part], schema: Schema, grouping: Grouping, backend: str
) -> GroupedProfile:
    """The same of files that are read from front to back; where a value does not fit, again with a wider type."""
    numbering = GroupNumbering(grouping, segment_columns(source, grouping), schema)
    names = list(dict.fromkeys([*schema.names, *grouping.columns]))
    states = []
    for part in parts:
        typed = source
        while True:
            numbering.columns = tuple(segment_columns(typed, grouping))
            state = load_groups(backend)(schema)
            try:
                for batch in typed.batches(part, names):
                    state.add(batch, numbering.of(batch), numbering.known)
                break
            except CsvTypesChanged as changed:
                typed = changed.source
        states.append([state])
    return together(schema, grouping, numbering, states or [[load_groups(backend)(schema)]])


def together(
    schema: Schema, grouping: Grouping, numbering: GroupNumbering, states: Sequence[Sequence[GroupState]]
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
        for state in pieces:
            whole.take(state)
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
