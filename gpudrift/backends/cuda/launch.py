"""What the counting kernels are given: all of the CUDA engine that needs no device to be thought of.

A *device* is a protocol of a few calls. :mod:`gpudrift.backends.cuda.device` has the one made of CuPy; the tests have
one that runs the same kernels on the CPU, so that everything here is tested on machines without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpudrift.backends.cuda.layout import MAPPING, SharedMemory, layout_of, rows_of_a_block
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, Schema

__all__ = [
    "COLUMN",
    "GUIDE",
    "STORED",
    "VALUES",
    "Counters",
    "Device",
    "DeviceArray",
    "Slab",
    "device_values",
    "kernel_file",
    "kernel_source",
    "take_bits",
    "take_rows",
    "valid_texts",
]

COLUMN = np.dtype(
    [
        ("values", "u8"),
        ("validity", "u8"),
        ("validity_bit", "i8"),
        ("rows", "i8"),
        ("edges", "u8"),
        ("guide", "u8"),
        ("scales", "u8"),
        ("counts", "u8"),
        ("sums", "u8"),
        ("bounds", "u8"),
        ("mapping", MAPPING),
        ("bins", "i4"),
        ("nan_is_null", "i4"),
    ],
    align=True,
)
"""GdColumn of kernels/count.cu."""
GUIDE = np.dtype(
    [("edges", "u8"), ("guide", "u8"), ("scales", "u8"), ("mapping", MAPPING), ("bins", "i4"), ("rank", "i4")],
    align=True,
)
"""GdGuide of kernels/guide.cuh."""
VALUES = np.dtype(
    [
        ("position", "i8"),
        ("stored", "i8"),
        ("rows", "i8"),
        ("values", "u8"),
        ("validity", "u8"),
        ("validity_bit", "i8"),
        ("nan_is_null", "i4"),
    ],
    align=True,
)
"""Values of a column as a kernel reads them: column of the schema, place in STORED, rows, and addresses of row 0."""

STORED = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "decimal128"),
)
"""Types of stored values that there are kernels for; of 16 bytes or a power of two below."""

NARROW = np.array([stored in ("float16", "float32", "int8", "int16", "int32", "uint8", "uint16") for stored in STORED])
"""Whether values of a stored type are compared with limits of 32 bits."""
THREADS = 512
"""Of a block; two of them are on a multiprocessor at a time, by their registers."""
MOST_COLUMNS = MOST_GROUPS = 65_535
"""Of a launch: the second and third axis of a grid."""
USUAL_SHARED = 48 << 10
"""Bytes of shared memory that a block has without being asked for."""


class DeviceArray(Protocol):
    """Bytes in device memory, for as long as this lives."""

    @property
    def pointer(self) -> int: ...

    def read(self) -> npt.NDArray[np.uint8]:
        """What is in it, once all work that was begun is done."""


class Slab(Protocol):
    """Page-locked host memory and device memory of the same size."""

    host: npt.NDArray[np.uint8]

    @property
    def pointer(self) -> int: ...

    def send(self, size: int) -> None:
        """Begin to copy the first bytes to the device; kernels launched with this slab see them."""

    def wait(self) -> None:
        """Wait until the copy and the kernels that were launched on it are done: then it can be filled again."""


class Device(Protocol):
    """What counting asks of a GPU. Calls that need memory raise MemoryError where there is none."""

    multiprocessors: int
    shared_memory: SharedMemory
    """Its shared memory."""

    def array(self, contents: npt.NDArray[Any]) -> DeviceArray:
        """An array of these contents."""

    def zeros(self, size: int) -> DeviceArray:
        """So many bytes of 0."""

    def slab(self, size: int) -> Slab:
        """Two pieces of memory of so many bytes."""

    def fetch(self, pointer: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes at an address, once all work that was begun is done."""

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        arguments: Sequence[Any],
        slab: Slab | None = None,
    ) -> None:
        """Begin to run a kernel, behind what was begun before, and behind the copy of a slab.

        Arguments are device arrays and NumPy scalars; arrays live until the kernel is done.
        """

    def finish(self) -> None:
        """Wait for the kernels that were launched without a slab: what they read may be given back then."""


def device_values(rows: Iterable[tuple[int, str, int, int, int, int, bool]]) -> npt.NDArray[Any]:
    """Of (position, stored type, rows, address of the values, of the bitmap, its first bit, whether NaN is null)."""
    listed = [(position, STORED.index(stored), *rest) for position, stored, *rest in rows]
    return np.array(listed, VALUES)


def kernel_file(name: str) -> Traversable:
    """A file of kernels/: inside the package where that is installed, beside it in a checkout (an editable install)."""
    package = files("gpudrift")
    inside = package / "kernels" / name
    return inside if inside.is_file() else Path(str(package)).parent / "kernels" / name


def kernel_source(name: str) -> str:
    """A file of kernels/, what it includes put in its place once: so that it compiles as one string."""
    return "\n".join(_lines(name, set())) + "\n"


def _lines(name: str, before: set[str]) -> Iterator[str]:
    before.add(name)
    for number, line in enumerate(kernel_file(name).read_text("utf-8").splitlines(), 1):
        if line.startswith('#include "'):
            included = line.split('"')[1]
            if included not in before:
                yield f'#line 1 "{included}"'
                yield from _lines(included, before)
                yield f'#line {number + 1} "{name}"'
        elif line != "#pragma once":
            yield line


def take_rows(
    device: Device,
    pointer: int,
    size: int,
    stride: int,
    rows: int,
    chosen: npt.NDArray[np.int64] | DeviceArray | None = None,
) -> DeviceArray:
    """Rows of ``size`` bytes that lie ``stride`` bytes apart, the first or the chosen ones, one after the other."""
    target = device.zeros(rows * size)
    which = device.array(chosen) if isinstance(chosen, np.ndarray) else np.uint64(0) if chosen is None else chosen
    numbers = [np.int64(stride), np.int32(size), np.int64(rows)]
    if rows:
        blocks = min(-(-rows // THREADS), 1 << 16)
        device.launch("gd_take", (blocks, 1, 1), THREADS, 0, [np.uint64(pointer), which, *numbers, target])
    return target


def take_bits(device: Device, pointer: int, first: int, rows: int, chosen: DeviceArray) -> DeviceArray:
    """Chosen bits of a bitmap whose first one is ``first``, one after the other; ``chosen`` holds ``rows`` int64."""
    octets = -(-rows // 8)
    target = device.zeros(octets)
    if rows:
        blocks = min(-(-octets // THREADS), 1 << 16)
        arguments = [np.uint64(pointer), chosen, np.int64(first), np.int64(rows), target]
        device.launch("gd_take_bits", (blocks, 1, 1), THREADS, 0, arguments)
    return target


def valid_texts(device: Device, texts: int, starts: int, count: int, *, wide: bool) -> bool:
    """Whether texts are UTF-8.

    Parameters
    ----------
    device : Device
    texts : int
        Address of their bytes.
    starts : int
        Address of ``count + 1`` offsets, of 64 bits where ``wide``, else of 32.
    """
    bad = device.zeros(4)
    if count:
        blocks = min(-(-count // THREADS), 1 << 16)
        arguments = [np.uint64(texts), np.uint64(starts), np.int32(wide), np.int64(count), bad]
        device.launch("gd_check_texts", (blocks, 1, 1), THREADS, 0, arguments)
    return not bad.read().any()


class Counters:
    """The counters of a schema's numeric columns on a device, and what finds their bins.

    Parameters
    ----------
    device : Device
    schema : Schema
    groups : int
        Of rows (windows, segments), each with counters of its own.
    """

    def __init__(self, device: Device, schema: Schema, groups: int = 1) -> None:
        self.device, self.schema, self.groups = device, schema, groups
        numeric = [at for at, column in enumerate(schema.columns) if column.is_numeric]
        words = [edges.view(np.int64) for at in numeric if (edges := schema.columns[at].edges) is not None]
        starts = _starts([one.size for one in words])
        self.slots = max(schema.slots, 1)
        self.edges = device.array(np.concatenate([*words, np.zeros(1, np.int64)]))
        self.counts = device.zeros(8 * groups * self.slots)
        self.sums = device.zeros(8 * groups * self.slots)
        nothing = np.array([LARGEST_INTEGER, SMALLEST_INTEGER], np.int64)
        self.bounds = device.array(np.tile(nothing, groups * max(len(schema), 1)))

        self.columns = np.zeros((2, len(schema)), COLUMN)
        """As kernels get them, without values; first for values of 64 bits, then for those of 32 bits and fewer."""
        self.columns["edges"][:, numeric] = self.edges.pointer + 8 * starts[:-1]
        self.columns["counts"][:, numeric] = self.counts.pointer + 8 * schema.offsets[numeric].astype(np.uint64)
        self.columns["sums"][:, numeric] = self.sums.pointer + 8 * schema.offsets[numeric].astype(np.uint64)
        self.columns["bounds"][:, numeric] = self.bounds.pointer + 16 * np.array(numeric, np.uint64)
        self.columns["bins"][:, numeric] = np.diff(starts.astype(np.int64)) - 1
        self.ways: list[tuple[int, int]] = []
        """Copies of the sums, and blocks that a multiprocessor has at a time: of columns that share a launch."""
        self.shared: list[int] = []
        """Shared memory of each of these ways: what the largest column needs."""
        self.way = np.full((2, len(schema)), -1, np.int64)
        """Of each column, as `columns`; -1 where no values of it came yet."""
        self.guides: list[DeviceArray] = []
        """And scales."""

    def _prepare(self, narrow: int, positions: npt.NDArray[np.int64]) -> None:
        """Build what finds the bins of some columns, for values of 64 bits or for narrow ones."""
        columns, own = [self.schema.columns[at] for at in positions], self.columns[narrow]
        guides = np.zeros(positions.size, GUIDE)
        for at, column in enumerate(columns):
            assert column.edges is not None
            guides["mapping"][at], layout = layout_of(column.edges, self.device.shared_memory, narrow=bool(narrow))
            way = layout.copies, layout.blocks
            if way not in self.ways:
                self.ways.append(way)
                self.shared.append(0)
            number = self.way[narrow, positions[at]] = self.ways.index(way)
            self.shared[number] = max(self.shared[number], layout.shared)
        cells = _starts(2 * guides["mapping"]["half"] + 1)
        bins = _starts(own["bins"][positions])
        tables = [self.device.zeros(4 * int(cells[-1])), self.device.zeros(2 * int(bins[-1]))]
        self.guides += tables
        guides["guide"] = tables[0].pointer + 4 * cells[:-1]
        guides["scales"] = tables[1].pointer + 2 * bins[:-1]
        for name in ("edges", "bins"):
            guides[name] = own[name][positions]
        for name in ("guide", "scales", "mapping"):
            own[name][positions] = guides[name]
        guides["rank"] = [narrow + 2 * (column.family == "integer") for column in columns]
        self.device.launch("gd_build_guides", (positions.size, 1, 1), THREADS, 0, [self.device.array(guides)])

    def add(
        self,
        values: npt.NDArray[Any],
        slab: Slab | None = None,
        groups: npt.NDArray[np.int64] | None = None,
        first: int = 0,
    ) -> None:
        """Count columns that lie on the device, those of one type and size of counters in one launch.

        Parameters
        ----------
        values : ndarray of VALUES, shape (columns,)
            A column may occur more than once.
        slab : Slab, optional
            That they lie in.
        groups : ndarray of int64, shape (some groups + 1,), optional
            First row of each of consecutive groups, and the end of the last one; the same for all columns, at most
            their rows.
        first : int
            Which group is the first of them.
        """
        # 5,000 columns of a million rows take a GPU 5 ms: of records, take() is 10 times as fast as an index.
        if not values["rows"].all():
            values = values.take(np.flatnonzero(values["rows"]))
        narrow = NARROW[values["stored"]].astype(np.intp)
        for kind in (0, 1):
            new = values["position"][(narrow == kind) & (self.way[narrow, values["position"]] < 0)]
            if new.size:
                self._prepare(kind, np.unique(new))
        keys = values["stored"] * len(self.ways) + self.way[narrow, values["position"]]
        launches = np.flatnonzero(np.bincount(keys)).tolist()
        for key in launches:
            own = values.take(np.flatnonzero(keys == key)) if len(launches) > 1 else values
            stored, way = divmod(key, len(self.ways))
            for start in range(0, own.size, MOST_COLUMNS):
                self._launch(stored, way, own[start : start + MOST_COLUMNS], slab, groups, first)

    def _launch(
        self,
        stored: int,
        way: int,
        values: npt.NDArray[Any],
        slab: Slab | None,
        groups: npt.NDArray[np.int64] | None,
        begin: int,
    ) -> None:
        described = self.columns[int(NARROW[stored])].take(values["position"])
        for name in ("values", "validity", "validity_bit", "rows", "nan_is_null"):
            described[name] = values[name]
        columns = self.device.array(described)
        if groups is None:
            self._launch_groups(STORED[stored], way, (columns, values.size), int(values["rows"].max()), slab)
            return
        for first in range(0, groups.size - 1, MOST_GROUPS):
            some = np.ascontiguousarray(groups[first : first + MOST_GROUPS + 1])
            longest = int(np.diff(some).max())
            if longest:
                self._launch_groups(STORED[stored], way, (columns, values.size), longest, slab, begin + first, some)

    def _launch_groups(
        self,
        stored: str,
        way: int,
        columns: tuple[DeviceArray, int],
        longest: int,
        slab: Slab | None,
        first: int = 0,
        starts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        described, number = columns
        copies, blocks = self.ways[way]
        many = 1 if starts is None else starts.size - 1
        rows = rows_of_a_block(longest, number * many, blocks * self.device.multiprocessors)
        grid = (-(-longest // rows), number, many)
        ends = self.device.array(starts) if starts is not None else np.uint64(0)
        strides = [np.int64(self.slots), np.int64(2 * max(len(self.schema), 1)), np.int64(first)]
        arguments = [described, ends, *strides, np.int64(rows), np.int32(copies)]
        self.device.launch(f"gd_count_{stored}", grid, THREADS, self.shared[way], arguments, slab)

    def read(self, groups: int | None = None) -> tuple[npt.NDArray[np.int64], ...]:
        """Counts and sums, shape (groups, slots), low and high, shape (groups, columns), as profiles have them.

        Parameters
        ----------
        groups : int, optional
            Only so many, the first ones.
        """
        many = self.groups if groups is None else groups
        width = max(len(self.schema), 1)
        counts, sums, bounds = (
            self.device.fetch(one.pointer, 8 * many * size).view(np.int64).reshape(many, size)
            for one, size in ((self.counts, self.slots), (self.sums, self.slots), (self.bounds, 2 * width))
        )
        counts, sums = counts[:, : self.schema.slots], sums[:, : self.schema.slots]
        bounds = bounds.reshape(many, width, 2)[:, : len(self.schema)]
        return counts, sums, bounds[:, :, 0].copy(), bounds[:, :, 1].copy()


def _starts(sizes: Any) -> npt.NDArray[np.uint64]:
    """Where each of some pieces begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))]).astype(np.uint64)
