"""From batches to a profile on a device: in which steps columns are brought there and counted.

Columns that lie in host memory travel through *slabs*: page-locked memory that is filled while the device still copies
and counts the one before. A column longer than a slab is cut; counts add, so no number depends on where. Columns that
lie on the device are counted where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Condition
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends.contract import NULL, GroupNumbers, Integers, Kernels, says_nan_is_null
from gpudrift.backends.counters import WholeState
from gpudrift.backends.cuda.launch import Counters, Device, Slab, device_values
from gpudrift.columns.conversion import NumericValues, stored_type, stored_values
from gpudrift.columns.device import DeviceColumn, host_array
from gpudrift.columns.schema import SPECIAL_SLOTS, Schema

__all__ = ["DeviceState", "SlabPool", "Stager"]

Placed = tuple[int, str, int, int, int, int, bool]
Timing = Callable[[str], AbstractContextManager[Any]]


class SlabPool:
    """Pairs of slabs that all threads of a process share, kept for the next count: locking pages is slow.

    Parameters
    ----------
    device : Device
    budget : int
        Bytes of device memory for all of them. Where it is more than there is, half of it is tried, and so on.
    pairs : int
        At most so many threads stage columns at a time; others wait.

    Attributes
    ----------
    timing : callable
        Is entered around each part of the work, "copy" or "count" within it; benchmarks replace it.
    """

    smallest = 1 << 16

    def __init__(self, device: Device, budget: int, pairs: int = 4) -> None:
        self.device, self.pairs = device, pairs
        self.size = max(budget // (2 * pairs), self.smallest)
        self.made = 0
        self.timing: Timing = nullcontext
        self.free: list[tuple[Slab, Slab]] = []
        self.changed = Condition()

    @contextmanager
    def pair(self) -> Iterator[tuple[Slab, Slab]]:
        """Two slabs, for as long as the context lasts.

        Raises
        ------
        MemoryError
            If there is not even memory for the smallest pair.
        """
        pair = self._take()
        try:
            yield pair
        finally:
            for slab in pair:  # whoever takes part in a count that failed lets go of memory that kernels still write
                slab.wait()
            with self.changed:
                self.free.append(pair)
                self.changed.notify()

    def _take(self) -> tuple[Slab, Slab]:
        with self.changed:
            while True:
                if self.free:
                    return self.free.pop()
                if self.made < self.pairs:
                    try:
                        pair = self.device.slab(self.size), self.device.slab(self.size)
                    except MemoryError:
                        if self.made:  # do with those that there are
                            self.pairs = self.made
                            continue
                        if self.size <= self.smallest:
                            raise
                        self.size = max(self.size // 2, self.smallest)
                    else:
                        self.made += 1
                        return pair
                else:
                    self.changed.wait()


class Stager:
    """Brings columns of host memory to the device, a slab at a time, and has each slab counted.

    Parameters
    ----------
    counters : Counters
    slabs : (Slab, Slab)
    timing : callable
        See :class:`SlabPool`.
    """

    def __init__(self, counters: Counters, slabs: tuple[Slab, Slab], timing: Timing = nullcontext) -> None:
        self.counters, self.slabs, self.timing = counters, slabs, timing
        self.turn = 0
        self.used = 0
        self.waiting: list[Placed] = []
        self.rows: list[int] = []
        """Of each column that is waiting, the row that it begins with."""

    def add(self, position: int, stored: str, values: NumericValues) -> None:
        """Take a column; what is handed in is copied before this returns."""
        with self.timing("copy"):
            self._add(position, stored, values)

    def _add(self, position: int, stored: str, values: NumericValues) -> None:
        size = values.values.dtype.itemsize
        room = self.slabs[0].host.size
        row = 0
        while row < values.values.size:
            # A row takes its bytes and a bit; 48 bytes are lost to alignment and to bits of other rows at most.
            rows = min((room - self.used - 48) * 8 // (8 * size + 1), values.values.size - row)
            if rows <= 0 or (rows < values.values.size - row and self.used):
                self._flush()
                continue
            self._place(position, stored, values, row, rows)
            row += rows

    def _place(self, position: int, stored: str, values: NumericValues, row: int, rows: int) -> None:
        slab = self.slabs[self.turn]
        if not self.used:
            slab.wait()
        pointer, validity, bit = slab.pointer + self.used, 0, 0
        self._copy(slab, values.values[row : row + rows].view(np.uint8))
        if values.validity is not None:
            first, last = values.offset + row, values.offset + row + rows
            validity, bit = slab.pointer + self.used, first & 7
            self._copy(slab, values.validity[first >> 3 : (last + 7) >> 3])
        self.waiting.append((position, stored, rows, pointer, validity, bit, values.nan_is_null))
        self.rows.append(row)

    def _copy(self, slab: Slab, content: npt.NDArray[np.uint8]) -> None:
        slab.host[self.used : self.used + content.size] = content
        self.used += -(-content.size // 16) * 16

    def flush(self) -> None:
        """Send what is waiting, have it counted, and go on in the other slab."""
        with self.timing("copy"):
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            slab = self.slabs[self.turn]
            slab.send(self.used)
            with self.timing("count"):
                self._count(slab)
            self.turn = 1 - self.turn
        self.used = 0
        self.waiting, self.rows = [], []

    def _count(self, slab: Slab) -> None:
        """Begin to count what is waiting, which lies in a slab."""
        self.counters.add(device_values(self.waiting), slab)


class DeviceState(WholeState):
    """Counters of some columns for one group: those of numbers are on a device until they are settled.

    Parameters
    ----------
    schema : Schema
    device : Device
    host : Kernels
        For categorical columns.
    pool : SlabPool
        That columns of host memory pass through; held until the next pause.

    Raises
    ------
    MemoryError
        When a batch is added and the device has no memory for the smallest step.
    """

    def __init__(self, schema: Schema, device: Device, host: Kernels, pool: SlabPool) -> None:
        super().__init__(schema, host)
        self.device, self.pool = device, pool
        self.counters: Counters | None = None
        self.held = ExitStack()
        self.stager: Stager | None = None
        self.there: list[Placed] = []
        """Columns of the batch at hand that lie on the device."""
        self.kept: list[DeviceColumn] = []
        """The same, for as long as kernels read them."""

    def add(
        self, batch: Any, groups: GroupNumbers | None = None, known: int = 1, sizes: Integers | None = None
    ) -> None:
        before, self.kept = self.kept, []
        super().add(batch)
        if before:
            # Counted while the batch at hand was read; only now may its memory be taken again.
            self.device.finish()
        if self.there:
            self._counters().add(device_values(self.there))
            self.there = []

    def pause(self) -> None:
        try:
            if self.stager is not None:
                self.stager.flush()
        finally:
            self.stager = None
            self.held.close()
            if self.counters is not None:
                self.device.finish()  # columns outlive their kernels, whatever happens
            self.kept.clear()

    def settle(self) -> None:
        super().settle()
        if self.counters is not None:
            counts, sums, low, high = (one[0] for one in self.counters.read())
            self.counters = None
            self.counts += counts
            self.sums += sums
            np.minimum(self.low, low, out=self.low)
            np.maximum(self.high, high, out=self.high)

    def _counters(self) -> Counters:
        if self.counters is None:
            self.counters = Counters(self.device, self.schema)
        return self.counters

    def _add_numeric(self, position: int, array: Any, one: pa.Field, groups: Any, known: int) -> None:
        column = self.schema.columns[position]
        if isinstance(array, DeviceColumn):
            stored = stored_type(array.type, column)
            if stored is not None:
                packed = array.packed()
                self.kept.append(packed)
                validity = packed.validity, packed.validity_bit
                self.there.append((position, stored, packed.rows, packed.pointer, *validity, False))
                return
        if self.stager is None:
            self.stager = Stager(self._counters(), self.held.enter_context(self.pool.pair()), self.pool.timing)
        stored, values = stored_values(host_array(array), column, nan_is_null=says_nan_is_null(one))
        self.stager.add(position, stored, values)
        special = self._special(position)
        for slot, rows in values.elsewhere:  # the kernel sees them as nulls
            found = int(np.count_nonzero(rows))
            special[SPECIAL_SLOTS.index(slot)] += found
            special[NULL] -= found
