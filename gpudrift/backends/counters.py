"""Counting windows and segments: the loop of :mod:`gpudrift.backends.contract` with a group for every row.

Groups are numbered from 0 in the order in which they appear; counters grow with them. A row is counted where its
group's counters are, whatever rows came before: rows in time order stay in the cache, others wander through counters of
one column, 1 kB a group. Columns are counted one after the other so that those of one column are all that is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.backends.contract import (
    ABSENT,
    NAN,
    NEGATIVE_INFINITY,
    NULL,
    PACKED_SUM,
    POSITIVE_INFINITY,
    Kernels,
    says_nan_is_null,
)
from gpudrift.columns.buffers import arrow_integers, arrow_texts, numbers, validity_booleans
from gpudrift.columns.conversion import NumericValues, coded_values, numeric_values
from gpudrift.columns.device import host_array
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, SPECIAL_SLOTS, Column, Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.tails import Integers, Tail
from gpudrift.errors import IncompatibleColumnError
from gpudrift.windows.grouping import Grouping

__all__ = ["GroupCounters", "GroupKernels", "GroupState", "GroupsCounted", "TailCounter", "lengthened"]

MOST_DENSE = 16
"""Cells of a table for each row that are quicker to fill than the rows are to sort."""
MOST_PACKED = 1 << 23
"""Rows that a word for count and sum has room for: its highest bit is the sign."""

GroupNumbers = npt.NDArray[np.int32]


class GroupKernels(Kernels, Protocol):
    """The arithmetic of a backend, for rows of many groups. Each function adds to the arrays it is given."""

    def numeric_groups(
        self,
        values: NumericValues,
        prepared: Any,
        groups: GroupNumbers,
        cells: Integers,
        special: Integers,
        low: Integers,
        high: Integers,
    ) -> None:
        """Count rows into ``cells`` (shape (groups, bins)) and ``special`` (shape (groups, 5)).

        A cell holds a sum of residuals in its lower ``PACKED_SUM`` bits and a count in the others.

        ``low`` and ``high`` (shape (groups,)) are keys that order like the values; see ``Kernels.numeric``.
        """

    def coded_groups(
        self,
        codes: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
        listed: npt.NDArray[np.int32],
        groups: GroupNumbers,
        counts: Integers,
        special: Integers,
    ) -> tuple[GroupNumbers, npt.NDArray[np.int32]]:
        """Count rows by the bin of their code, which is the last where it is -1; returns group and code of these."""

    def scatter(self, groups: GroupNumbers, numbers: npt.NDArray[np.int64], table: Integers) -> None:
        """Count rows into ``table`` (shape (groups, numbers))."""


class GroupsCounted:
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
        self.filled: set[int] = set()

    def take(self, state: GroupState) -> None:
        """Add what was counted of some columns of some rows; its counters are let go, column after column."""
        state.settle()
        place = self.place[: state.rows.size]
        for own, column in enumerate(state.schema.columns):
            counters = state.counters.pop(own, None)
            if counters is None:
                continue
            counters.grow(place.size)
            position = self.schema.index[column.name]
            start = int(self.schema.offsets[position])
            bins = slice(start, start + column.bins)
            special = slice(bins.stop, bins.stop + len(SPECIAL_SLOTS))
            if column.is_numeric:
                counts, sums = counters.unpacked(place.size)
                _put(self.sums, place, bins, sums, fresh=position not in self.filled)
            else:
                counts = counters.cells[: place.size]
                for group, tail in state.tails.pop(own).tails():
                    key = int(place[group]), position
                    self.tails[key] = self.tails[key] + tail if key in self.tails else tail
            _put(self.counts, place, bins, counts, fresh=position not in self.filled)
            _put(self.counts, place, special, counters.special[: place.size], fresh=position not in self.filled)
            self.filled.add(position)
            low, high = counters.low[: place.size], counters.high[: place.size]
            self.low[place, position] = np.minimum(self.low[place, position], low)
            self.high[place, position] = np.maximum(self.high[place, position], high)
        for mine, theirs in ((self.skipped, state.skipped), (self.findings, state.findings)):
            for name, text in theirs.items():
                mine[name] = min(text, mine.get(name, text))

    def take_rows(self, state: GroupState) -> None:
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
            self.tails, self.skipped, self.findings,
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


class GroupState:
    """Counters of some columns for all groups: added to in place, handed out once.

    Parameters
    ----------
    schema : Schema
    kernels : GroupKernels
    """

    def __init__(self, schema: Schema, kernels: GroupKernels) -> None:
        self.schema, self.kernels = schema, kernels
        self.counters: dict[int, GroupCounters] = {
            at: GroupCounters(column) for at, column in enumerate(schema.columns) if column.family != "skipped"
        }
        self.tails = {at: TailCounter(c.sketch) for at, c in enumerate(schema.columns) if c.family == "categorical"}
        self.rows = np.zeros(0, np.int64)
        self.prepared: dict[int, Any] = {}
        self.skipped: dict[str, str] = {}
        self.findings: dict[str, str] = {}

    def add(self, batch: pa.RecordBatch, groups: GroupNumbers, known: int, sizes: Integers | None = None) -> None:
        """Count a batch.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
        groups : ndarray of int32, shape (rows,)
            Group of each row.
        known : int
            Groups so far: their numbers are lower.
        sizes : ndarray of int64, optional
            Rows of each group, if they are known: counting them for each of 25 columns took a quarter of all time.
        """
        if batch.num_rows >= MOST_PACKED:
            for start in range(0, batch.num_rows, MOST_PACKED // 2):
                stop = start + MOST_PACKED // 2
                self.add(batch.slice(start, MOST_PACKED // 2), groups[start:stop], known)
            return
        here = np.bincount(groups, minlength=known) if sizes is None else lengthened(sizes, known)
        if known > self.rows.size:
            self.rows = np.concatenate([self.rows, np.zeros(known - self.rows.size, np.int64)])
        self.rows[:known] += here
        self._add_columns(batch, groups, here)

    def _add_columns(self, batch: pa.RecordBatch, groups: GroupNumbers, here: Integers) -> None:
        """Count the columns of a batch; ``here`` are the rows of each group."""
        known = here.size
        fields = {one.name: (position, one) for position, one in enumerate(batch.schema)}
        for position, column in enumerate(self.schema.columns):
            if column.family == "skipped" or column.name in self.skipped:
                continue
            counters = self.counters[position]
            counters.grow(known)
            if column.name not in fields:
                counters.special[:known, ABSENT] += here
                continue
            index, one = fields[column.name]
            try:
                if column.is_numeric:
                    self._add_numeric(position, batch.column(index), one, groups)
                else:
                    self._add_categorical(position, batch.column(index), groups)
            except IncompatibleColumnError as error:
                self.skip(column.name, error.reason, error.finding)

    def settle(self) -> None:
        """Have all that was counted in ``counters``, and hold no memory of a device any more."""

    def skip(self, name: str, reason: str, finding: str) -> None:
        """Give a column up, and the memory of its counters."""
        self.skipped[name] = min(reason, self.skipped.get(name, reason))
        self.findings[name] = min(finding, self.findings.get(name, finding))
        self.counters.pop(self.schema.index[name], None)
        self.tails.pop(self.schema.index[name], None)

    def _add_numeric(self, position: int, array: Any, one: pa.Field, groups: GroupNumbers) -> None:
        column, counters = self.schema.columns[position], self.counters[position]
        array = host_array(array)
        nan_is_null = says_nan_is_null(one)
        values = numeric_values(array, column, nan_is_null=nan_is_null)
        if position not in self.prepared:
            self.prepared[position] = self.kernels.prepare(column)
        counters.spill(len(array))
        if any(values.infinities):
            self._add_infinities(position, array, groups)
        nan_before = counters.special[:, NAN].copy() if values.nan_is_null else None
        self.kernels.numeric_groups(
            values,
            self.prepared[position],
            groups,
            counters.cells,
            counters.special,
            counters.low,
            counters.high,
        )
        if nan_before is not None:
            counters.special[:, NULL] += counters.special[:, NAN] - nan_before
            counters.special[:, NAN] = nan_before

    def _add_infinities(self, position: int, array: pa.Array, groups: GroupNumbers) -> None:
        """Of floats that entered an integer column, where they look like nulls."""
        plain = pc.run_end_decode(array) if pa.types.is_run_end_encoded(array.type) else array
        values = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
        special = self.counters[position].special
        for slot, infinity in ((NEGATIVE_INFINITY, -np.inf), (POSITIVE_INFINITY, np.inf)):
            found = np.bincount(groups[values == infinity], minlength=len(special))
            special[:, slot] += found
            special[:, NULL] -= found

    def _add_categorical(self, position: int, array: Any, groups: GroupNumbers) -> None:
        column, counters = self.schema.columns[position], self.counters[position]
        coded = coded_values(host_array(array), column)
        listed = self._listed(position, column, coded.texts)
        rest, codes = self.kernels.coded_groups(
            coded.codes, coded.valid, listed, groups, counters.cells, counters.special
        )
        if rest.size:
            self.tails[position].add(
                rest, codes, self.kernels.hashes(coded.texts), coded.texts, len(counters.cells), self.kernels
            )

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


def _repeats(hashes: npt.NDArray[np.uint64]) -> int:
    """Texts more than hashes."""
    return int(hashes.size - np.unique(hashes).size)


class TailCounter:
    """The sketches of one categorical column, of all groups.

    What is kept of each group in the end are its ``size`` values of smallest (hash, bytes). As long as there are few
    values, all of them are counted in a table of groups and values: nothing is sorted but once, in the end. Where the
    table would grow beyond ``most_cells``, pairs of group and value are kept instead: a value whose hash is larger than
    ``size`` others of its group can never be among them again, so it is let go at once.
    """

    most_waiting = 1 << 20
    most_cells = 1 << 22
    most_sorted = 1 << 17
    """Cells of the table that are put in the order of hashes at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bound = np.zeros(0, np.uint64)
        """Of each group: larger hashes are not wanted any more."""
        self.numbers: dict[bytes, int] = {}
        self.known: dict[int, bytes] = {}
        self.collided = False
        """Whether two texts have one hash (of 2**64): then their bytes decide."""
        self.texts: list[bytes] = []
        self.hashes: list[int] = []
        self.table: Integers | None = np.zeros((0, 0), np.int64)
        """Rows of each group and text; None since there are too many."""
        self.waiting: list[tuple[npt.NDArray[Any], ...]] = []
        self.kept = 0
        self.entries = 0

    def add(
        self,
        groups: GroupNumbers,
        codes: npt.NDArray[np.int32],
        hashes: npt.NDArray[np.uint64],
        texts: pa.Array,
        known: int,
        kernels: GroupKernels,
    ) -> None:
        """Count rows of some groups whose codes stand for texts."""
        if known > self.bound.size:
            largest = np.full(known - self.bound.size, np.iinfo(np.uint64).max, np.uint64)
            self.bound = np.concatenate([self.bound, largest])
        if self.table is not None:
            used = np.zeros(len(texts), np.bool_)
            used[codes] = True
            if known * int(used.sum()) <= self.most_cells:
                number = self._number(np.flatnonzero(used), hashes, texts)
                if known * len(self.texts) <= self.most_cells:
                    self._grow(known)
                    kernels.scatter(groups, number.take(codes), self.table)  # number[codes] takes three times as long
                    return
                self._grow(known)  # the table is written down with all texts that have a number
            self.waiting = [self._sorted_table()]
            self.entries = self.kept = self.waiting[0][0].size
            self.table = None
        wanted = hashes[codes] <= self.bound[groups]
        if not wanted.all():
            groups, codes = groups[wanted], codes[wanted]
        if not groups.size:
            return
        groups, pairs, counts = self._pairs(groups, codes, hashes)
        number = self._number(np.unique(pairs), hashes, texts)
        self.waiting.append((groups, hashes[pairs], number[pairs], counts))
        self.entries += groups.size
        if self.entries > self.most_waiting + 2 * self.kept:
            self._compact()

    def _number(
        self, used: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64], texts: pa.Array
    ) -> npt.NDArray[np.int64]:
        """The number of each text that is used, new ones included; shape (texts,)."""
        number = np.zeros(len(texts), np.int64)
        values = texts.take(arrow_integers(used.astype(np.int64))).to_pylist()
        for code, text, value in zip(used.tolist(), values, hashes[used].tolist(), strict=True):
            found = self.numbers.setdefault(text, len(self.texts))
            if found == len(self.texts):
                self.texts.append(text)
                self.hashes.append(value)
                self.collided |= self.known.setdefault(value, text) != text
            number[code] = found
        return number

    def _grow(self, known: int) -> None:
        """Room for so many groups, and for all texts; both double."""
        assert self.table is not None
        rows, columns = self.table.shape
        if known > rows or len(self.texts) > columns:
            shape = (
                max(known, 2 * rows) if known > rows else rows,
                len(self.texts) * 5 // 4 + 8 if len(self.texts) > columns else columns,  # most come early
            )
            larger = np.zeros(shape, np.int64)
            larger[:rows, :columns] = self.table
            self.table = larger

    def _sorted_table(self) -> tuple[npt.NDArray[Any], ...]:
        """Group, hash, number and rows of what each group keeps of the table, in the order of groups and hashes."""
        assert self.table is not None
        hashes = np.array(self.hashes, np.uint64)
        keys = (hashes,) if not self.collided else (self._ranks(), hashes)
        order = np.lexsort(keys) if hashes.size else np.zeros(0, np.int64)
        # Some groups at a time, for temporaries of the whole table took 90 MB; and flat, because numpy.nonzero of two
        # axes and masks take six times as long. 3,650 groups x 940 texts: 142 ms before, 34 now.
        parts = [(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
        step = max(1, self.most_sorted // max(order.size, 1))
        for start in range(0, self.bound.size, step):
            table = np.take(self.table[start : min(start + step, self.bound.size)], order, axis=1)
            found = np.flatnonzero(table > 0)
            ends = np.searchsorted(found, np.arange(1, len(table) + 1) * order.size)
            sizes = np.diff(ends, prepend=0)
            if order.size > self.size:
                found = found[np.arange(found.size) - np.repeat(ends - sizes, sizes) < self.size]
                sizes = np.minimum(sizes, self.size)
            groups = np.repeat(np.arange(start, start + len(table), dtype=np.int32), sizes)
            parts.append((groups, order[found % max(order.size, 1)], table.ravel()[found]))
        groups, texts, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return groups, hashes[texts], texts, counts

    def _pairs(
        self, groups: GroupNumbers, codes: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint64]
    ) -> tuple[GroupNumbers, npt.NDArray[np.int64], Integers]:
        """How often which code is in which group; of each group, codes of more hashes than it keeps may be left out."""
        seen = np.zeros(self.bound.size, np.bool_)
        seen[groups] = True
        present = np.flatnonzero(seen)
        if present.size * hashes.size > MOST_DENSE * max(groups.size, 1 << 16):
            pairs, counts = np.unique(groups.astype(np.int64) * hashes.size + codes, return_counts=True)
            return (pairs // hashes.size).astype(np.int32), pairs % hashes.size, counts.astype(np.int64)
        # A table of groups and codes, these in the order of their hashes: sorting a million rows takes 140 ms, this 10.
        order = np.argsort(hashes, kind="stable")
        rank = np.empty(order.size, np.int64)
        rank[order] = np.arange(order.size)
        row = np.zeros(self.bound.size, np.int64)
        row[present] = np.arange(present.size)
        table = np.bincount(row[groups] * order.size + rank[codes], minlength=present.size * order.size)
        table = table.reshape(present.size, order.size)
        if order.size > self.size:
            # Two texts of one hash (of 2**64) are both kept or neither: `size` hashes are `size` texts, or more.
            table[np.cumsum(table > 0, axis=1) > self.size + _repeats(hashes)] = 0
        own, place = np.nonzero(table)
        return present[own].astype(np.int32), order[place], table[own, place].astype(np.int64)

    def _compact(self) -> None:
        """Add up what waits, keep the smallest of each group, forget texts that nobody keeps."""
        if not self.waiting:
            return
        groups, hashes, texts, counts = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        # Sorted by hashes alone, equal texts stand side by side, unless two of them share a hash.
        keys = (hashes, groups) if not self.collided else (self._ranks()[texts], hashes, groups)
        order = np.lexsort(keys)
        groups, hashes, texts, counts = groups[order], hashes[order], texts[order], counts[order]
        new = np.ones(groups.size, np.bool_)
        new[1:] = (groups[1:] != groups[:-1]) | (texts[1:] != texts[:-1])
        first = np.flatnonzero(new)
        counts = np.add.reduceat(counts, first)
        groups, hashes, texts = groups[first], hashes[first], texts[first]
        begins = np.zeros(groups.size, np.int64)  # of each entry's group
        begins[1:] = np.where(groups[1:] != groups[:-1], np.arange(1, groups.size), 0)
        place = np.arange(groups.size) - np.maximum.accumulate(begins)
        last = place == self.size - 1
        self.bound[groups[last]] = hashes[last]
        keep = place < self.size
        groups, hashes, texts, counts = groups[keep], hashes[keep], texts[keep], counts[keep]
        is_used = np.zeros(len(self.texts), np.bool_)
        is_used[texts] = True
        renumbered = np.cumsum(is_used) - 1
        self.hashes = [value for value, used in zip(self.hashes, is_used.tolist(), strict=True) if used]
        self.texts = [text for text, used in zip(self.texts, is_used.tolist(), strict=True) if used]
        self.numbers = {text: number for number, text in enumerate(self.texts)}
        self.known = {value: text for value, text in self.known.items() if text in self.numbers}
        self.waiting = [(groups, hashes, renumbered[texts], counts)]
        self.kept = self.entries = groups.size

    def _ranks(self) -> npt.NDArray[np.int64]:
        """The place of each text in the order of their bytes."""
        ranks = np.zeros(len(self.texts), np.int64)
        ranks[sorted(range(len(self.texts)), key=self.texts.__getitem__)] = np.arange(len(self.texts))
        return ranks

    def tails(self) -> Iterable[tuple[int, Tail]]:
        """The sketch of each group that has one."""
        if self.table is not None:
            groups, hashes, texts, counts = self._sorted_table()
        else:
            self._compact()
            [(groups, hashes, texts, counts)] = self.waiting
        if not groups.size:
            return
        begins = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])[: groups.size]).tolist()
        ends = [*begins[1:], groups.size]
        named = np.empty(len(self.texts), object)
        named[:] = self.texts
        values = named[texts].tolist()
        for start, end in zip(begins, ends, strict=True):
            own = slice(start, end)
            yield int(groups[start]), Tail(hashes[own], tuple(values[own]), counts[own], self.size)
