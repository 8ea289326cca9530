"""Windows and segments on a device: the loop of :mod:`gpudrift.backends.counters`, with numbers counted by its kernels.

The rows of a batch are put in the order of their groups, once for all columns; then a launch counts every group of
every column of one type. Rows that are in order already, as those of most tables with a time are, stay where they are.
Columns on the device are ordered there, those of host memory before they travel.

A group gets its counters, a *place*, when it appears. Where there is no room for another one, all of them come to the
host, are added to 64-bit totals, and their places are free again; so memory of the device is bounded, whatever the
number of groups, and groups that come no more take none of it. A batch of more groups than there are places is counted
in several steps.

Texts and their like are counted on the host, as all categorical columns of the CPU backends are: where they lie on the
device, they are brought here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends.contract import GroupNumbers, Integers, Kernels, says_nan_is_null
from gpudrift.backends.counters import GroupCounters, GroupState, lengthened
from gpudrift.backends.cuda.launch import Counters, Device, DeviceArray, Slab, device_values, take_bits, take_rows
from gpudrift.backends.cuda.staging import Placed, SlabPool, Stager, Timing
from gpudrift.columns.conversion import NumericValues, stored_type, stored_values
from gpudrift.columns.device import DeviceColumn, host_array
from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Schema

__all__ = ["CounterRoom", "DeviceGroupState"]

FEWEST_PLACES = 8
"""That are made at first, if memory allows."""
MOST_TAKEN = 256 << 20
"""Bytes of columns that are put in order on the device at a time."""
SHORT = 1 << 16
"""Numbers below it are sorted by their digits, in one pass: 7 to 16 ms a million, any others 53 to 140."""


class CounterRoom:
    """Device memory for counters of groups, shared by all who count at a time in this process.

    Parameters
    ----------
    size : int
        Bytes. One place of each state is granted beyond them: without it nothing could be counted.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.states: WeakSet[DeviceGroupState] = WeakSet()
        self.lock = Lock()

    def enter(self, state: DeviceGroupState) -> None:
        """Leave a share for a state; it has it until it leaves, or nobody knows it any more."""
        with self.lock:
            self.states.add(state)

    def leave(self, state: DeviceGroupState) -> None:
        """Divide its share among the others."""
        with self.lock:
            self.states.discard(state)
            state.granted = 0

    def take(self, state: DeviceGroupState, wanted: int, least: int) -> int:
        """Bytes that a state may use from now on, all in all: at most what it wants, its share, and what is left."""
        with self.lock:
            self.states.add(state)
            others = sum(one.granted for one in self.states if one is not state)
            state.granted = max(min(wanted, self.size // len(self.states), self.size - others), least)
            return state.granted


class _Totals(GroupCounters):
    """What came of one numeric column from the device; its cells are not used."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.cells = np.zeros((0, 0), np.int64)

    def receive(self, groups: npt.NDArray[np.intp], found: Sequence[Integers]) -> None:
        """Add counts with their special ones, sums, lows and highs of some groups."""
        counts, sums, low, high = found
        self.grow(int(groups.max()) + 1)
        self._reach(len(self.low))
        self.counts[groups] += counts[:, : self.bins]
        self.special[groups] += counts[:, self.bins :]
        self.sums[groups] += sums
        self.low[groups] = np.minimum(self.low[groups], low)
        self.high[groups] = np.maximum(self.high[groups], high)

    def unpacked(self, size: int) -> tuple[Integers, Integers]:
        self._reach(size)
        return self.counts[:size], self.sums[:size]

    def _reach(self, groups: int) -> None:
        """Totals of so many groups; while nothing came of them they are zeros that take no memory."""
        if groups > len(self.counts):
            self.counts, self.sums = lengthened(self.counts, groups), lengthened(self.sums, groups)


class _Waiting(NamedTuple):
    """A numeric column of the batch at hand, in memory of the host or of the device."""

    position: int
    """Among the numeric ones."""
    stored: str
    values: NumericValues | DeviceColumn


@dataclass(frozen=True)
class _Ordered:
    """Rows in the order of their places.

    Parameters
    ----------
    order : ndarray of int64 or None
        Which row is the first, the second, …; None where all of them are in order.
    starts : ndarray of int64, shape (places + 1,)
        First row of each of consecutive places, and the end of the last one.
    first : int
        The first one of them.
    """

    order: npt.NDArray[np.int64] | None
    starts: npt.NDArray[np.int64]
    first: int


class DeviceGroupState(GroupState):
    """Counters of some columns for all groups, those of numbers on a device.

    Parameters
    ----------
    schema : Schema
    device : Device
    host : Kernels
        For categorical columns.
    pool : SlabPool
        That columns of host memory pass through; held for a batch, not longer, for there are many states.
    room : CounterRoom
        That counters are made in.
    """

    def __init__(self, schema: Schema, device: Device, host: Kernels, pool: SlabPool, room: CounterRoom) -> None:
        super().__init__(schema, host)
        self.device, self.pool, self.room = device, pool, room
        numeric = [at for at, column in enumerate(schema.columns) if column.is_numeric]
        self.positions = {at: place for place, at in enumerate(numeric)}
        self.numeric = Schema(tuple(schema.columns[at] for at in numeric))
        self.counters |= {at: _Totals(schema.columns[at]) for at in numeric}
        self.bytes = 16 * max(self.numeric.slots, 1) + 16 * max(len(numeric), 1)
        """Of a place: counts, sums and bounds."""
        self.granted = 0
        self.there: Counters | None = None
        self.capacity = self.used = 0
        """Places that there are, and that groups have."""
        self.places = np.zeros(0, np.int32)
        """Of each group; -1 where it has none."""
        self.waiting: list[_Waiting] = []
        if numeric:
            room.enter(self)

    def settle(self) -> None:
        super().settle()
        self._fetch()
        self.capacity = 0
        self.room.leave(self)

    # --- what is counted ---

    def _add_columns(self, batch: pa.RecordBatch, groups: GroupNumbers | None, here: Integers) -> None:
        assert groups is not None
        self.waiting = []
        super()._add_columns(batch, groups, here)
        waiting, self.waiting = self.waiting, []
        if waiting:
            for rows in self._ordered(groups, here):
                self._count(waiting, rows)

    def _add_numeric(self, position: int, array: Any, one: pa.Field, groups: GroupNumbers, known: int) -> None:
        column = self.schema.columns[position]
        self.counters[position].grow(known)
        if isinstance(array, DeviceColumn):
            stored = stored_type(array.type, column)
            if stored is not None:
                self.waiting.append(_Waiting(self.positions[position], stored, array))
                return
        array = host_array(array)
        stored, values = stored_values(array, column, nan_is_null=says_nan_is_null(one))
        self._add_elsewhere(position, values, groups)
        self.waiting.append(_Waiting(self.positions[position], stored, values))

    def _count(self, waiting: Sequence[_Waiting], rows: _Ordered) -> None:
        """Count columns in the order of their groups; nothing of them is used any more when this returns."""
        taken: list[DeviceColumn] = []
        try:
            self._count_there([one for one in waiting if isinstance(one.values, DeviceColumn)], rows, taken)
            here = [one for one in waiting if isinstance(one.values, NumericValues)]
            if here:
                with self.pool.pair() as slabs:
                    stager = _GroupStager(self._counters(), slabs, rows, self.pool.timing)
                    for position, stored, values in here:
                        assert isinstance(values, NumericValues)
                        stager.add(position, stored, values if rows.order is None else _taken(values, rows.order))
                    stager.flush()
        finally:
            # A state rests until its next batch, maybe long: it must not hold the memory of this one until then.
            self.device.finish()
            taken.clear()

    def _count_there(self, waiting: Sequence[_Waiting], rows: _Ordered, taken: list[DeviceColumn]) -> None:
        """Begin to count columns that lie on the device; ``taken`` gets what kernels read and nobody else keeps."""
        if not waiting:
            return
        order = None if rows.order is None else self.device.array(rows.order)
        most = min(MOST_TAKEN, self.room.size)
        counted: list[Placed] = []
        for position, stored, column in waiting:
            assert isinstance(column, DeviceColumn)
            own = column.packed() if order is None else self._taken_there(column, order, int(rows.starts[-1]))
            if own is not column:
                taken.append(own)
            counted.append((position, stored, own.rows, own.pointer, own.validity, own.validity_bit, False))
            if sum(one.nbytes for one in taken) >= most:
                self._counters().add(device_values(counted), groups=rows.starts, first=rows.first)
                self.device.finish()
                counted = []
                taken.clear()
        if counted:
            self._counters().add(device_values(counted), groups=rows.starts, first=rows.first)

    def _taken_there(self, column: DeviceColumn, order: DeviceArray, rows: int) -> DeviceColumn:
        values = take_rows(self.device, column.pointer, column.width, column.stride, rows, order)
        valid = take_bits(self.device, column.validity, column.validity_bit, rows, order) if column.validity else None
        return replace(
            column,
            rows=rows,
            pointer=values.pointer,
            stride=column.width,
            owner=(values, valid),
            validity=valid.pointer if valid is not None else 0,
            validity_bit=0,
            texts=None,
        )

    def _ordered(self, groups: GroupNumbers, here: Integers) -> Iterator[_Ordered]:
        """The rows of a batch in the order of their places, as many groups at a time as there are places."""
        present = np.flatnonzero(here)
        done = 0
        while done < present.size:
            own = present[done : done + self._place(present[done:])]
            places = self.places[own]
            first, last = int(places.min()), int(places.max())
            sizes = np.zeros(last - first + 1, np.int64)
            sizes[places - first] = here[own]
            starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
            if own.size == present.size:
                order = _order(self.places[groups] - first)
            else:
                among = np.zeros(here.size, np.bool_)
                among[own] = True
                rows = np.flatnonzero(among[groups])
                order = _order(self.places[groups[rows]] - first)
                order = rows if order is None else rows[order]
            yield _Ordered(order, starts, first)
            done += own.size

    # --- where it is counted ---

    def _counters(self) -> Counters:
        assert self.there is not None
        return self.there

    def _place(self, wanted: npt.NDArray[np.intp]) -> int:
        """Give a place to each of some groups, or to as many as there is room for; returns to how many."""
        if int(wanted[-1]) >= self.places.size:
            size = max(int(wanted[-1]) + 1, 2 * self.places.size)
            self.places = np.concatenate([self.places, np.full(size - self.places.size, -1, np.int32)])
        new = wanted[self.places[wanted] < 0]
        if self.there is None or self.used + new.size > self.capacity:
            self._fetch()
            self._make(wanted.size)
            wanted = new = wanted[: self.capacity]
        self.places[new] = np.arange(self.used, self.used + new.size)
        self.used += new.size
        return int(wanted.size)

    def _make(self, groups: int) -> None:
        """New counters, twice as many as before, and more where a batch has more groups; fewer where memory is short.

        Raises
        ------
        MemoryError
            If the device has not even memory for those of one group.
        """
        places = max(groups, 2 * self.capacity, FEWEST_PLACES)
        places = self.room.take(self, places * self.bytes, self.bytes) // self.bytes
        while True:
            try:
                self.there = Counters(self.device, self.numeric, places)
            except MemoryError:
                if places == 1:
                    raise
                places = self.room.take(self, places // 2 * self.bytes, self.bytes) // self.bytes
            else:
                self.capacity = places
                return

    def _fetch(self) -> None:
        """Bring what was counted to the host; all places are free then, and the memory of their counters too."""
        if self.there is None:
            return
        counts, sums, low, high = self.there.read(self.used)
        self.there, self.used = None, 0
        groups = np.flatnonzero(self.places >= 0)
        if not groups.size:
            return
        order = self.places[groups]
        self.places[groups] = -1
        for at, position in self.positions.items():
            totals = self.counters.get(at)
            if isinstance(totals, _Totals):  # else the column was given up
                start = int(self.numeric.offsets[position])
                slots = slice(start, start + totals.bins + len(SPECIAL_SLOTS))
                bins = slice(start, start + totals.bins)
                found = counts[order, slots], sums[order, bins], low[order, position], high[order, position]
                totals.receive(groups, found)


class _GroupStager(Stager):
    """Brings columns to the device whose rows are in the order of their groups."""

    def __init__(self, counters: Counters, slabs: tuple[Slab, Slab], rows: _Ordered, timing: Timing) -> None:
        super().__init__(counters, slabs, timing)
        self.ordered = rows

    def _count(self, slab: Slab) -> None:
        cuts: dict[tuple[int, int], list[Placed]] = {}
        for row, placed in zip(self.rows, self.waiting, strict=True):
            cuts.setdefault((row, placed[2]), []).append(placed)
        starts = self.ordered.starts
        for (row, rows), waiting in cuts.items():
            # Of a column that is longer than a slab, only the groups that these rows are of.
            first = int(np.searchsorted(starts, row, side="right")) - 1
            last = int(np.searchsorted(starts, row + rows, side="left"))
            own = np.clip(starts[first : last + 1] - row, 0, rows)
            self.counters.add(device_values(waiting), slab, own, self.ordered.first + first)


def _taken(values: NumericValues, order: npt.NDArray[np.int64]) -> NumericValues:
    """Some rows; those that are counted elsewhere have been."""
    validity = None if values.validity is None else np.packbits(values.valid()[order], bitorder="little")
    return NumericValues(values.values.take(order), validity, 0, values.nan_is_null)


def _order(places: npt.NDArray[np.int32]) -> npt.NDArray[np.int64] | None:
    """What sorts places of rows, which keep their order within a place; None where they are sorted."""
    if (places[1:] >= places[:-1]).all():
        return None
    order: npt.NDArray[np.int64] = np.argsort(places.astype(np.uint16), kind="stable")
    if int(places.max()) >= SHORT:
        order = order[np.argsort((places >> 16).astype(np.uint16)[order], kind="stable")]
    return order
