"""Counting: batches in, the counts of every column out; columns of one group, or of many.

A frame is any number of Arrow record batches. Columns that a batch does not have are counted as absent; columns that
cannot be counted under the schema are skipped with their reason, and never stop the others. The walk over them is the
same for all backends, which supply the arithmetic (:class:`gpudrift.backends.contract.Kernels`), and for any number of
groups; what is added to differs.

*One group* (a table as a whole) has one flat array for all columns. *Many groups* (windows, segments) are numbered
from 0 in the order in which they appear; counters grow with them. A row is counted where its group's counters are,
whatever rows came before: rows in time order stay in the cache, others wander through counters of one column, 1 kB a
group. Columns are counted one after the other so that those of one column are all that is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.backends.contract import (
    ABSENT,
    NAN,
    NULL,
    PACKED_SUM,
    GroupNumbers,
    Kernels,
    says_nan_is_null,
)
from gpudrift.backends.sketches import TailCounter, tail_of
from gpudrift.columns.buffers import arrow_texts, numbers, validity_booleans
from gpudrift.columns.conversion import CELL, NumericValues, coded_values, numeric_values, takes_all, utf8_texts
from gpudrift.columns.device import DeviceColumn, DeviceTexts, host_array
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, SPECIAL_SLOTS, Column, Schema
from gpudrift.columns.types import logical_type
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.tails import Integers, Tail
from gpudrift.errors import IncompatibleColumnError
from gpudrift.windows.grouping import WHOLE, Grouping

__all__ = ["ColumnCounts", "Counted", "GroupState", "State", "WholeState", "count_frame", "lengthened"]

MOST_PACKED = 1 << 23
"""Rows that a word for count and sum has room for: its highest bit is the sign."""


def count_frame(frame: Iterable[pa.RecordBatch], schema: Schema, make: Callable[[Schema], State]) -> Profile:
    """Count a frame as a whole; see :mod:`gpudrift.columns.schema` for the rule.

    Parameters
    ----------
    frame : iterable of pyarrow.RecordBatch
        In any order and of any sizes; the result does not depend on either.
    schema : Schema
    make : callable
        Makes counters of one group.

    Returns
    -------
    Profile
    """
    state = make(schema)
    try:
        for batch in frame:
            state.add(batch)
    finally:
        state.pause()
    counted = Counted(schema, [(0, 0)])
    counted.take_rows(state)
    counted.take(state)
    return counted.profile(WHOLE).total()


class ColumnCounts(NamedTuple):
    """What was counted of one column: of each group a row of each array, and its sketch if it has one."""

    counts: Integers
    sums: Integers | None
    special: Integers
    low: Integers
    high: Integers
    tails: Iterable[tuple[int, Tail]]


class State:
    """Counters of some columns: added to in place, taken once.

    Where rows are added is said by :class:`WholeState` and :class:`GroupState`; here it is not implemented.

    Parameters
    ----------
    schema : Schema
    kernels : Kernels
    """

    def __init__(self, schema: Schema, kernels: Kernels) -> None:
        self.schema, self.kernels = schema, kernels
        self.rows = np.zeros(0, np.int64)
        """Of each group."""
        self.prepared: dict[int, Any] = {}
        self.skipped: dict[str, str] = {}
        self.findings: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        """Types of columns that were given up because of them."""

    def add(
        self, batch: pa.RecordBatch, groups: GroupNumbers | None = None, known: int = 1, sizes: Integers | None = None
    ) -> None:
        """Count a batch.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
        groups : ndarray of int32, shape (rows,), optional
            Group of each row; None where there is one group.
        known : int
            Groups so far: their numbers are lower.
        sizes : ndarray of int64, optional
            Rows of each group, if they are known: counting them for each of 25 columns took a quarter of all time.
        """
        raise NotImplementedError

    def release(self, position: int, groups: int) -> ColumnCounts | None:
        """What was counted of a column, in so many groups, which is let go; None of a column that was given up."""
        raise NotImplementedError

    def pause(self) -> None:
        """Hold nothing that others wait for until the next batch."""

    def settle(self) -> None:
        """Have all that was counted in memory of the host, and nothing else: no more batches will come."""
        self.pause()
        self.prepared.clear()

    def skip(self, name: str, reason: str, finding: str) -> None:
        """Give a column up."""
        self.skipped[name] = min(reason, self.skipped.get(name, reason))
        self.findings[name] = min(finding, self.findings.get(name, finding))

    def _add_columns(self, batch: pa.RecordBatch, groups: GroupNumbers | None, here: Integers) -> None:
        """Count the columns of a batch; ``here`` are the rows of each group."""
        fields = {one.name: (index, one) for index, one in enumerate(batch.schema)}
        for position, column in enumerate(self.schema.columns):
            if column.family == "skipped" or column.name in self.skipped:
                continue
            if column.name not in fields:
                self._add_absent(position, here)
                continue
            index, one = fields[column.name]
            try:
                if column.is_numeric:
                    self._add_numeric(position, batch.column(index), one, groups, here.size)
                else:
                    self._add_categorical(position, batch.column(index), groups, here.size)
            except IncompatibleColumnError as error:
                cell = (one.metadata or {}).get(CELL)
                reason = error.reason if cell is None else f"{error.reason}: {cell.decode()}"
                self.skip(column.name, reason, error.finding)
                if error.finding in ("type changed", "unit changed"):  # of another file, it may be another type
                    told = str(one.type.value_type if pa.types.is_dictionary(one.type) else one.type)
                    self.seen[column.name] = min(told, self.seen.get(column.name, told))

    def _add_absent(self, position: int, here: Integers) -> None:
        raise NotImplementedError

    def _add_numeric(self, position: int, array: Any, one: pa.Field, groups: Any, known: int) -> None:
        raise NotImplementedError

    def _add_categorical(self, position: int, array: Any, groups: Any, known: int) -> None:
        raise NotImplementedError

    def _prepared(self, position: int) -> Any:
        """What helps to count a numeric column fast."""
        if position not in self.prepared:
            self.prepared[position] = self.kernels.prepare(self.schema.columns[position])
        return self.prepared[position]

    def _listed(self, position: int, column: Column, texts: pa.Array) -> npt.NDArray[np.int32]:
        """The bin of each text; -1 for those that have none."""
        listed = np.full(len(texts), -1, np.int32)
        if column.categories and len(texts):
            if position not in self.prepared:
                self.prepared[position] = arrow_texts(column.categories)
            found = pc.index_in(texts, value_set=self.prepared[position].cast(texts.type))
            is_listed = validity_booleans(found)
            listed = numbers(found).astype(np.int32)
            if is_listed is not None:
                listed[~is_listed] = -1
        return listed


class WholeState(State):
    """Counters of some columns for one group: one flat array for all of them."""

    def __init__(self, schema: Schema, kernels: Kernels) -> None:
        super().__init__(schema, kernels)
        self.rows = np.zeros(1, np.int64)
        self.counts = np.zeros(schema.slots, np.int64)
        self.sums = np.zeros(schema.slots, np.int64)
        self.low = np.full(len(schema), LARGEST_INTEGER, np.int64)
        self.high = np.full(len(schema), SMALLEST_INTEGER, np.int64)
        self.tails: dict[int, Tail] = {}

    def add(
        self, batch: pa.RecordBatch, groups: GroupNumbers | None = None, known: int = 1, sizes: Integers | None = None
    ) -> None:
        """Count a batch; every row is in the one group."""
        self.rows += batch.num_rows
        self._add_columns(batch, None, np.array([batch.num_rows]))

    def release(self, position: int, groups: int) -> ColumnCounts | None:
        column = self.schema.columns[position]
        if column.family == "skipped" or column.name in self.skipped:
            return None
        tail = self.tails.pop(position, None)
        bins, one = self._bins(position), slice(position, position + 1)
        rest = self._special(position)[None], self.low[one], self.high[one], [] if tail is None else [(0, tail)]
        return ColumnCounts(self.counts[None, bins], self.sums[None, bins] if column.is_numeric else None, *rest)

    def _bins(self, position: int) -> slice:
        start = int(self.schema.offsets[position])
        return slice(start, start + self.schema.columns[position].bins)

    def _special(self, position: int) -> Integers:
        stop = int(self.schema.offsets[position + 1])
        return self.counts[stop - len(SPECIAL_SLOTS) : stop]

    def _add_absent(self, position: int, here: Integers) -> None:
        self._special(position)[ABSENT] += here.sum()

    def _add_numeric(self, position: int, array: Any, one: pa.Field, groups: Any, known: int) -> None:
        values = numeric_values(host_array(array), self.schema.columns[position], nan_is_null=says_nan_is_null(one))
        bins, here = self._bins(position), np.zeros(len(SPECIAL_SLOTS), np.int64)
        prepared = self._prepared(position)
        low, high = self.kernels.numeric(values, prepared, self.counts[bins], self.sums[bins], here)
        for slot, rows in values.elsewhere:
            found = int(np.count_nonzero(rows))
            here[SPECIAL_SLOTS.index(slot)] += found
            here[NULL] -= found
        if values.nan_is_null:
            here[NULL] += here[NAN]
            here[NAN] = 0
        special = self._special(position)
        special += here
        self.low[position] = min(int(self.low[position]), low)
        self.high[position] = max(int(self.high[position]), high)

    def _add_categorical(self, position: int, array: Any, groups: Any, known: int) -> None:
        column = self.schema.columns[position]
        values = array.texts if isinstance(array, DeviceColumn) else array
        if isinstance(values, DeviceTexts) and _by_text(values.type, column):
            grouped = values.grouped(column.categories, column.sketch)
            texts, by_code, others = utf8_texts(grouped.values), grouped.counts, grouped.others
        else:
            coded = coded_values(host_array(array), column)
            texts, others = coded.texts, 0
            by_code = self.kernels.codes(coded.codes, coded.valid, len(coded.texts))
        counts, listed = self.counts[self._bins(position)], self._listed(position, column, texts)
        frequent = listed >= 0
        np.add.at(counts, listed[frequent], by_code[frequent])
        rest = np.flatnonzero(~frequent & (by_code > 0))
        if rest.size:
            counts[-1] += int(by_code[rest].sum()) + others
            tail = tail_of(texts, rest, by_code, column.sketch, self.kernels)
            self.tails[position] = self.tails[position] + tail if position in self.tails else tail
        self._special(position)[NULL] += len(array) - int(by_code.sum()) - others


class GroupState(State):
    """Counters of some columns for many groups, each column with arrays of its own."""

    def __init__(self, schema: Schema, kernels: Kernels) -> None:
        super().__init__(schema, kernels)
        self.counters: dict[int, GroupCounters] = {
            at: GroupCounters(column) for at, column in enumerate(schema.columns) if column.family != "skipped"
        }
        self.tails = {at: TailCounter(c.sketch) for at, c in enumerate(schema.columns) if c.family == "categorical"}

    def add(
        self, batch: pa.RecordBatch, groups: GroupNumbers | None = None, known: int = 1, sizes: Integers | None = None
    ) -> None:
        groups = np.zeros(batch.num_rows, np.int32) if groups is None else groups
        if batch.num_rows >= MOST_PACKED:
            for start in range(0, batch.num_rows, MOST_PACKED // 2):
                stop = start + MOST_PACKED // 2
                self.add(batch.slice(start, MOST_PACKED // 2), groups[start:stop], known)
            return
        here = np.bincount(groups, minlength=known) if sizes is None else lengthened(sizes, known)
        if known > self.rows.size:
            self.rows = lengthened(self.rows, known)
        self.rows[:known] += here
        self._add_columns(batch, groups, here)

    def release(self, position: int, groups: int) -> ColumnCounts | None:
        counters = self.counters.pop(position, None)
        if counters is None:
            return None
        counters.grow(groups)
        numeric = self.schema.columns[position].is_numeric
        counts, sums = counters.unpacked(groups) if numeric else (counters.cells[:groups], None)
        tails = [] if numeric else self.tails.pop(position).tails()
        low, high = counters.low[:groups], counters.high[:groups]
        return ColumnCounts(counts, sums, counters.special[:groups], low, high, tails)

    def skip(self, name: str, reason: str, finding: str) -> None:
        """Give a column up, and the memory of its counters."""
        super().skip(name, reason, finding)
        self.counters.pop(self.schema.index[name], None)
        self.tails.pop(self.schema.index[name], None)

    def _add_absent(self, position: int, here: Integers) -> None:
        counters = self.counters[position]
        counters.grow(here.size)
        counters.special[: here.size, ABSENT] += here

    def _add_numeric(self, position: int, array: Any, one: pa.Field, groups: GroupNumbers, known: int) -> None:
        column, counters = self.schema.columns[position], self.counters[position]
        counters.grow(known)
        array = host_array(array)
        nan_is_null = says_nan_is_null(one)
        values = numeric_values(array, column, nan_is_null=nan_is_null)
        counters.spill(len(array))
        self._add_elsewhere(position, values, groups)
        nan_before = counters.special[:, NAN].copy() if values.nan_is_null else None
        self.kernels.numeric_groups(
            values,
            self._prepared(position),
            groups,
            counters.cells,
            counters.special,
            counters.low,
            counters.high,
        )
        if nan_before is not None:
            counters.special[:, NULL] += counters.special[:, NAN] - nan_before
            counters.special[:, NAN] = nan_before

    def _add_elsewhere(self, position: int, values: NumericValues, groups: GroupNumbers) -> None:
        """Of rows that look like nulls to the kernels and are none."""
        special = self.counters[position].special
        for slot, rows in values.elsewhere:
            found = np.bincount(groups[rows], minlength=len(special))
            special[:, SPECIAL_SLOTS.index(slot)] += found
            special[:, NULL] -= found

    def _add_categorical(self, position: int, array: Any, groups: GroupNumbers, known: int) -> None:
        column, counters = self.schema.columns[position], self.counters[position]
        counters.grow(known)
        coded = coded_values(host_array(array), column)
        listed = self._listed(position, column, coded.texts)
        rest, codes = self.kernels.coded_groups(
            coded.codes, coded.valid, listed, groups, counters.cells, counters.special
        )
        if rest.size:
            hashes = self.kernels.hashes(coded.texts)
            self.tails[position].add(rest, codes, hashes, coded.texts, len(counters.cells), self.kernels)


def _by_text(given: pa.DataType, column: Column) -> bool:
    """Whether the values of a type are counted by their texts, so that cuDF may group them."""
    word, _ = logical_type(given)
    return word in ("text", "integer", "boolean") and (word == column.type or takes_all(column))


class GroupCounters:
    """Of one column: they grow by doubling; memory of groups that never come is not touched."""

    def __init__(self, column: Column) -> None:
        self.bins, self.packed = column.bins, column.is_numeric
        self.cells = np.zeros((0, column.bins), np.int64)
        self.pending = 0
        """Rows in the cells of a numeric column; 2**23 would flow over."""
        self.counts = np.zeros((0, column.bins), np.int64)
        self.sums = np.zeros((0, column.bins), np.int64)
        self.special = np.zeros((0, len(SPECIAL_SLOTS)), np.int64)
        self.low = np.zeros(0, np.int64)
        self.high = np.zeros(0, np.int64)

    def grow(self, groups: int) -> None:
        if groups <= self.low.size:
            return
        size = max(groups, 2 * self.low.size, 8)
        old = self.low.size
        self.cells, self.special = lengthened(self.cells, size), lengthened(self.special, size)
        self.low = np.concatenate([self.low, np.full(size - old, LARGEST_INTEGER, np.int64)])
        self.high = np.concatenate([self.high, np.full(size - old, SMALLEST_INTEGER, np.int64)])

    def spill(self, rows: int) -> None:
        """Make room for so many rows in the packed cells."""
        self.pending += rows
        if self.pending >= MOST_PACKED:
            self.counts, self.sums = self.unpacked(len(self.cells))
            self.cells[:] = 0
            self.pending = rows

    def unpacked(self, size: int) -> tuple[Integers, Integers]:
        """Counts and sums of so many groups."""
        counts, sums = self.cells[:size] >> PACKED_SUM, self.cells[:size] & ((1 << PACKED_SUM) - 1)
        counts[: len(self.counts)] += self.counts[:size]
        sums[: len(self.sums)] += self.sums[:size]
        return counts, sums


def lengthened(array: Integers, size: int) -> Integers:
    """The same with zeros behind it; rows that nobody writes to take no memory."""
    longer = np.zeros((size, *array.shape[1:]), np.int64)
    longer[: len(array)] = array
    return longer


class Counted:
    """Where the counts of all columns come together, groups in the order of their keys; it becomes a GroupedProfile.

    Parameters
    ----------
    schema : Schema
        Of all columns.
    groups : sequence of (start, segment)
        In the order of their numbers.
    """

    def __init__(self, schema: Schema, groups: Sequence[tuple[int, int]]) -> None:
        self.schema = schema
        self.keys = np.array(groups, np.int64).reshape(-1, 2)
        order = np.lexsort((self.keys[:, 1], self.keys[:, 0]))
        self.keys = self.keys[order]
        self.place = np.argsort(order)
        """Of each number, in the order of the keys."""
        size = len(order)
        self.rows = np.zeros(size, np.int64)
        self.counts, self.sums = np.zeros((size, schema.slots), np.int64), np.zeros((size, schema.slots), np.int64)
        self.low = np.full((size, len(schema)), LARGEST_INTEGER, np.int64)
        self.high = np.full((size, len(schema)), SMALLEST_INTEGER, np.int64)
        self.tails: dict[tuple[int, int], Tail] = {}
        self.skipped: dict[str, str] = {}
        self.findings: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.filled: set[int] = set()

    def take(self, state: State) -> None:
        """Add what was counted of some columns of some rows; its counters are let go, column after column."""
        state.settle()
        place = self.place[: state.rows.size]
        for own, column in enumerate(state.schema.columns):
            counts = state.release(own, place.size)
            if counts is None:
                continue
            position = self.schema.index[column.name]
            start = int(self.schema.offsets[position])
            bins = slice(start, start + column.bins)
            special = slice(bins.stop, bins.stop + len(SPECIAL_SLOTS))
            fresh = position not in self.filled
            self.filled.add(position)
            if counts.sums is not None:
                _put(self.sums, place, bins, counts.sums, fresh=fresh)
            _put(self.counts, place, bins, counts.counts, fresh=fresh)
            _put(self.counts, place, special, counts.special, fresh=fresh)
            self.low[place, position] = np.minimum(self.low[place, position], counts.low)
            self.high[place, position] = np.maximum(self.high[place, position], counts.high)
            for group, tail in counts.tails:
                key = int(place[group]), position
                self.tails[key] = self.tails[key] + tail if key in self.tails else tail
        texts = (self.skipped, state.skipped), (self.findings, state.findings), (self.seen, state.seen)
        for mine, theirs in texts:
            for name, text in theirs.items():
                mine[name] = min(text, mine.get(name, text))

    def take_rows(self, state: State) -> None:
        """Add the rows that were counted, of one state for each row."""
        self.rows[self.place[: state.rows.size]] += state.rows

    def profile(self, grouping: Grouping) -> GroupedProfile:
        """The profile of the groups, which takes the arrays over.

        A group may have no rows: it was seen in a part that was then read anew, with wider types.
        """
        if self.rows.size and not self.rows.all():
            self._forget_groups_without_rows()
        return GroupedProfile.blanked(
            self.schema, grouping, self.keys, self.rows, self.counts, self.sums, self.low, self.high,
            self.tails, self.skipped, self.findings, self.seen,
        )  # fmt: skip

    def _forget_groups_without_rows(self) -> None:
        kept = np.flatnonzero(self.rows)
        self.tails = {(int(np.searchsorted(kept, group)), p): tail for (group, p), tail in self.tails.items()}
        self.keys, self.rows, self.counts = self.keys[kept], self.rows[kept], self.counts[kept]
        self.sums, self.low, self.high = self.sums[kept], self.low[kept], self.high[kept]


def _put(into: Integers, place: Integers, slots: slice, values: Integers, *, fresh: bool) -> None:
    """Add to some slots of some groups; where nothing is there yet, without reading it first."""
    if fresh:
        into[place, slots] = values
    else:
        into[place, slots] += values
