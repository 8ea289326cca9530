"""From rows to groups: which window and segment each row of a batch belongs to, and which segments are kept.

Groups are numbered in the order in which they appear, so that counters grow only with groups that have rows. The
numbers mean nothing beyond one count: in the end groups are put in the order of their windows and segments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_integers, arrow_texts, numbers, validity_booleans
from gpudrift.columns.conversion import coded_values, logical_type
from gpudrift.columns.device import host_array
from gpudrift.columns.schema import Column, Schema
from gpudrift.errors import IncompatibleColumnError
from gpudrift.groups import NO_TIME, Grouping, Segment
from gpudrift.windows import Windows

__all__ = [
    "MOST_SEGMENTS",
    "GroupNumbering",
    "GroupRequest",
    "TooManyGroupsError",
    "frequent_segments",
    "most_frequent",
    "most_groups",
    "segment_column",
    "segment_tally",
    "too_many_groups",
]

MOST_SEGMENTS = 32
"""Segments that are kept apart unless it is said otherwise."""
AT_ONCE = 1 << 17
"""Rows whose groups are looked up at a time."""
MOST_GROUPS = 1 << 22
"""Whatever they hold: each has a name and a place in lists."""
MOST_BYTES = 8 * 10**9
"""Of the counters of all groups: more is an error, before memory ends."""


@dataclass(frozen=True)
class GroupRequest:
    """Windows and segments as a user asks for them.

    Parameters
    ----------
    time : str, optional
        Name of the time column.
    every : str or int, optional
        Length of the windows; see :class:`gpudrift.windows.Every`.
    zone : str, optional
        IANA name of the time zone in which days begin.
    by : sequence of str
        Columns whose values make segments.
    segments : int
        Segments that are kept apart, the most frequent of the reference.
    """

    time: str | None = None
    every: str | int | None = None
    zone: str | None = None
    by: tuple[str, ...] = ()
    segments: int = MOST_SEGMENTS

    def __post_init__(self) -> None:
        if (self.time is None) != (self.every is None):
            given, lacks = ("every", "time") if self.time is None else ("time", "every")
            raise ValueError(f"windows: {given} is given without {lacks}: time='column' and every='1d' go together")
        if self.time is None and self.zone is not None:
            raise ValueError(f"windows: zone {self.zone!r} is given without a time column")
        if len(set(self.by)) != len(self.by):
            raise ValueError(f"segments: a column is named twice in {', '.join(self.by)}")
        if not 1 <= self.segments <= 4096:
            raise ValueError(f"segments: {self.segments} are to be kept, possible are 1 to 4096")

    def __bool__(self) -> bool:
        return self.time is not None or bool(self.by)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that decide to which group a row belongs."""
        return tuple(dict.fromkeys(([self.time] if self.time is not None else []) + list(self.by)))

    def windows(self, data_type: pa.DataType | None, label: str) -> Windows | None:
        """The windows of the time column, given its type.

        Raises
        ------
        ValueError
            If there is no such column, or it holds no times.
        """
        if self.time is None or self.every is None:
            return None
        if data_type is None:
            raise ValueError(f"time: no column {self.time!r} in {label}")
        try:
            return Windows.of(data_type, self.every, self.zone)
        except ValueError as error:
            raise ValueError(f"time: column {self.time!r}: {error}") from None


def segment_column(name: str, data_type: pa.DataType | None, label: str) -> Column:
    """How a column of segments is read: by value, like a categorical one.

    Raises
    ------
    ValueError
        If there is no such column, or its values make no segments.
    """
    if data_type is None:
        raise ValueError(f"segments: no column {name!r} in {label}")
    try:
        word, _ = logical_type(data_type)
    except IncompatibleColumnError as error:
        raise ValueError(f"segments: column {name!r}: {error.reason}") from None
    # pandas makes floats of integers with gaps; other floats are refused where they are read
    word = "integer" if word == "float" else word
    if word not in ("text", "boolean", "integer", "null"):
        raise ValueError(f"segments: column {name!r} of type {data_type}: texts, booleans or integers make segments")
    return Column(name, "categorical", word)


def frequent_segments(
    columns: Sequence[Column], chunks: Sequence[Sequence[pa.Array]], most: int
) -> tuple[Segment, ...]:
    """The most frequent segments of sampled rows; see :func:`segment_tally` and :func:`most_frequent`."""
    return most_frequent(segment_tally(columns, chunks), most)


def segment_tally(columns: Sequence[Column], chunks: Sequence[Sequence[pa.Array]]) -> Counter[Segment]:
    """How many of some rows are of each segment; those of a table's runs add up.

    Parameters
    ----------
    columns : sequence of Column
        See :func:`segment_column`.
    chunks : for each column a sequence of pyarrow.Array
        The same rows in each.
    """
    tally: Counter[Segment] = Counter()
    for arrays in zip(*chunks, strict=True):
        values = [_values(column, array) for column, array in zip(columns, arrays, strict=True)]
        codes = [codes for codes, _ in values]
        found, repeats = np.unique(np.stack(codes, axis=1), axis=0, return_counts=True)
        for row, times in zip(found.tolist(), repeats.tolist(), strict=True):
            tally[tuple(texts[code] for code, (_, texts) in zip(row, values, strict=True))] += times
    return tally


def most_frequent(tally: Mapping[Segment, int], most: int) -> tuple[Segment, ...]:
    """The most frequent segments; ties by their values, no value first."""
    ranked = sorted(tally, key=lambda one: (-tally[one], [(value is not None, value or "") for value in one]))
    return tuple(ranked[:most])


def _values(column: Column, array: pa.Array) -> tuple[npt.NDArray[np.int64], list[str | None]]:
    """A code for each row, and what each stands for; the last one for no value."""
    coded = _coded(column, array)
    texts: list[str | None] = [None if text is None else text.decode() for text in coded.texts.to_pylist()]
    codes = coded.codes.astype(np.int64)
    if coded.valid is not None:
        codes = np.where(coded.valid, codes, len(texts))
    return codes, [*texts, None]


def _coded(column: Column, array: Any) -> Any:
    array = host_array(array)
    if column.type == "null":  # the first file has only nulls
        column = segment_column(column.name, array.type, "")
    try:
        return coded_values(array, column)
    except IncompatibleColumnError as error:
        raise ValueError(f"segments: column {column.name!r}: {error.finding}: {error.reason}") from None


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
        self.groups: list[tuple[int, int]] = []
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
        return None if place < 0 else host_array(batch.column(place))

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
            raise ValueError(f"time: column {grouping.time!r}: {error.finding}: {error.reason}") from None
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
