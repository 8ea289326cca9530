"""From rows to groups: which window and segment each row of a batch belongs to, and which segments are kept.

Groups are numbered in the order in which they appear, so that counters grow only with groups that have rows. The
numbers mean nothing beyond one count: in the end groups are put in the order of their windows and segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_integers, arrow_texts, numbers, validity_booleans
from gpudrift.columns.device import host_array
from gpudrift.columns.schema import Column, Schema
from gpudrift.errors import IncompatibleColumnError
from gpudrift.windows.grouping import NO_TIME, Grouping
from gpudrift.windows.segments import _coded

__all__ = ["GroupNumbering", "TooManyGroupsError", "most_groups", "too_many_groups"]

AT_ONCE = 1 << 17
"""Rows whose groups are looked up at a time."""
MOST_GROUPS = 1 << 22
"""Whatever they hold: each has a name and a place in lists."""
MOST_BYTES = 8 * 10**9
"""Of the counters of all groups: more is an error, before memory ends."""


def most_groups(slots: int, most_bytes: int | None = None) -> int:
    """Groups of so many slots whose counters memory shall hold."""
    return min(max((MOST_BYTES if most_bytes is None else most_bytes) // (16 * max(slots, 1)), 1), MOST_GROUPS)


class TooManyGroupsError(ValueError):
    """More groups than memory shall hold; of the whole table, whichever part was being read."""


def too_many_groups(most: int, columns: int, slots: int, most_bytes: int | None = None) -> TooManyGroupsError:
    """What is said where there are more."""
    limit = MOST_BYTES if most_bytes is None else most_bytes
    return TooManyGroupsError(
        f"windows: more than {most:,} windows and segments: {columns:,} columns take {16 * slots / 1e6:,.2f} MB a "
        f"group, and the limit is {limit / 1e9:,.0f} GB; take longer windows, fewer segments or fewer columns"
    )


class GroupNumbering:
    """Numbers of the groups of one count; several threads may ask at once.

    Parameters
    ----------
    grouping : Grouping
    columns : sequence of Column
        Of the segments; see :func:`segment_column`.
    schema : Schema
        What is counted in each group, for the limit.
    most_bytes : int, optional
        Of the counters of all groups; None means ``MOST_BYTES``.
    """

    def __init__(
        self, grouping: Grouping, columns: Sequence[Column], schema: Schema, most_bytes: int | None = None
    ) -> None:
        self.grouping, self.columns = grouping, tuple(columns)
        self.groups: list[tuple[int, int]] = [] if grouping else [(0, 0)]
        self.numbers: dict[tuple[int, int], int] = {}
        self.lock = Lock()
        self.most_bytes = most_bytes
        self.limit(len(schema), schema.slots)
        self.values = [
            {value: at for at, value in enumerate(dict.fromkeys(segment[k] for segment in grouping.segments))}
            for k in range(len(grouping.by))
        ]
        """Number of each value of each column that occurs in a kept segment."""
        self.texts = [arrow_texts([v.encode() for v in values if v is not None]) for values in self.values]
        sizes = [len(values) + 1 for values in self.values]
        if int(np.prod(sizes, dtype=np.float64)) > 1 << 26:
            raise ValueError(f"segments: too many values in {', '.join(grouping.by)}: keep fewer segments")
        self.segment_of = np.full(sizes, grouping.other, np.int32)
        for number, segment in enumerate(grouping.segments):
            place = tuple(values[value] for values, value in zip(self.values, segment, strict=True))
            self.segment_of[place] = number

    def limit(self, columns: int, slots: int) -> None:
        """Allow as many groups as memory shall hold of so many columns and slots.

        Raises
        ------
        TooManyGroupsError
            If there are more already.
        """
        self.columns_counted, self.slots, self.most = columns, slots, most_groups(slots, self.most_bytes)
        if self.known > self.most:
            raise too_many_groups(self.most, columns, slots, self.most_bytes)

    @property
    def known(self) -> int:
        """Groups so far."""
        return len(self.groups)

    def of(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32]:
        """The group of each row of a batch that has the columns of the grouping.

        Raises
        ------
        ValueError
            If a column changed its type, or there are more groups than memory shall hold.
        """
        segments, times = self._segments(batch), self._times(batch)
        known: dict[int, int] = {}
        pairs = np.empty(batch.num_rows, np.int32)
        width = self.grouping.other + 1
        # A slice at a time stays in the cache: a million rows at once had temporaries of 60 MB, and took 28 ms instead
        # of 17. The values of a dictionary are looked up once.
        whole = times is not None and not pa.types.is_primitive(times.type)
        step = max(batch.num_rows, 1) if whole else AT_ONCE
        slices = [slice(at, min(at + step, batch.num_rows)) for at in range(0, batch.num_rows, step)]
        for own in slices:
            starts, window = self._windows(None if times is None else times[own], own.stop - own.start)
            first = np.array([width * known.setdefault(start, len(known)) for start in starts.tolist()], np.int32)
            np.add(first[window], 0 if segments is None else segments[own], out=pairs[own])
        seen = np.zeros(len(known) * width, np.bool_)
        for own in slices:
            seen[pairs[own].astype(np.int64)] = True  # by int32 NumPy takes five times as long
        table, named = np.zeros(seen.size, np.int32), list(known)
        found = np.flatnonzero(seen)
        table[found] = self._numbers([(named[one // width], one % width) for one in found.tolist()])
        for own in slices:
            pairs[own] = table[pairs[own].astype(np.int64)]
        return pairs

    def _numbers(self, keys: Sequence[tuple[int, int]]) -> list[int]:
        with self.lock:
            for key in keys:
                if key not in self.numbers:
                    if len(self.groups) >= self.most:
                        raise too_many_groups(self.most, self.columns_counted, self.slots, self.most_bytes)
                    self.numbers[key] = len(self.groups)
                    self.groups.append(key)
            return [self.numbers[key] for key in keys]

    def _times(self, batch: pa.RecordBatch) -> pa.Array | None:
        """The column of times; None where the batch or the grouping has none."""
        if self.grouping.windows is None or self.grouping.time is None:
            return None
        place = batch.schema.get_field_index(self.grouping.time)
        try:
            return None if place < 0 else host_array(batch.column(place))
        except IncompatibleColumnError as error:
            raise self._unusable_time(error) from None

    def _unusable_time(self, error: IncompatibleColumnError) -> ValueError:
        return ValueError(f"time: column {self.grouping.time!r}: {error.what}")

    def _windows(self, times: pa.Array | None, rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The windows of some rows, at least one, and which of them each is in."""
        grouping = self.grouping
        if grouping.windows is None:
            return np.zeros(1, np.int64), np.zeros(rows, np.int64)
        if times is None:
            return np.array([NO_TIME]), np.zeros(rows, np.int64)
        try:
            starts, valid = grouping.windows.starts(times)
        except IncompatibleColumnError as error:
            raise self._unusable_time(error) from None
        if not valid.all():
            starts = np.where(valid, starts, NO_TIME)
        first = np.flatnonzero(starts[1:] != starts[:-1]) + 1
        if first.size * 16 < rows:  # nearly in the order of time: a run of one window after the other
            first = np.concatenate([[0], first])
            return starts[first], np.repeat(np.arange(first.size), np.diff(first, append=rows))
        coded = pc.dictionary_encode(arrow_integers(starts))
        return numbers(coded.dictionary), numbers(coded.indices).astype(np.int64)

    def _segments(self, batch: pa.RecordBatch) -> npt.NDArray[np.int32] | None:
        """The segment of each row; None where there are no segments."""
        if not self.columns:
            return None
        places = []
        for column, values, texts in zip(self.columns, self.values, self.texts, strict=True):
            nobody = len(values)
            missing = values.get(None, nobody)
            place = batch.schema.get_field_index(column.name)
            if place < 0:
                places.append(np.full(batch.num_rows, missing, np.int64))
                continue
            coded = _coded(column, batch.column(place))
            own = np.array([at for value, at in values.items() if value is not None] + [nobody], np.int64)
            found = pc.index_in(coded.texts, value_set=texts.cast(coded.texts.type))
            listed = validity_booleans(found)
            at = numbers(found).astype(np.int64)
            at = own[at if listed is None else np.where(listed, at, len(own) - 1)]
            if at.size == 0:
                places.append(np.full(batch.num_rows, missing, np.int64))
                continue
            rows = at.take(coded.codes if coded.valid is None else np.where(coded.valid, coded.codes, 0))
            places.append(rows if coded.valid is None else np.where(coded.valid, rows, missing))
        result: npt.NDArray[np.int32] = self.segment_of[tuple(places)]
        return result


def batch_of(columns: Iterable[tuple[pa.Field, Any]], rows: int) -> pa.RecordBatch:
    """A batch on the host of some columns, which may be none."""
    listed = [(one, host_array(array)) for one, array in columns]
    if not listed:
        return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None]))
    return pa.RecordBatch.from_arrays([array for _, array in listed], schema=pa.schema([one for one, _ in listed]))
